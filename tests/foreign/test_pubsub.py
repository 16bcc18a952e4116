"""`picows pubsub` with subscribers and publishers of the Python package websockets, and subscribers of Node."""

import asyncio
import json
import signal
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import foreign_module, node
from echo_server import environment
from server import Server, binary

foreign_module("websockets")
from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402

LIMIT_S = 60
PROTOCOL = "picows.pubsub.1"
CLIENTS = Path(__file__).parent / "clients"


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT_S))


@pytest.fixture
def start():
    """Starts servers with flags of a test's own, and checks how they end."""
    servers = []

    def one(*flags):
        command = [binary(), "pubsub", "--listen", "127.0.0.1:0", "--workers", "2", *map(str, flags)]
        server = Server(command, name="picows pubsub", env=environment("warn"))
        servers.append(server)
        return server

    yield one
    for server in servers:
        if server.process.returncode is not None:
            continue
        server.check_running()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.stderr
        assert "panicked at" not in server.stderr


def client(server, target, **options):
    # Publishers get what they send, and some do not read it: without a bound, so that CLOSE is read.
    options = {"max_size": None, "max_queue": None, "proxy": None, "ping_interval": None} | options
    return connect(server.url.rstrip("/") + target, **options)


async def publish(publisher, *messages):
    """Publishes, and waits until the topic has all: a client that connects then is served after them."""
    for message in messages:
        await publisher.send(message)
    for message in messages:
        assert await publisher.recv() == message


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_all_subscribers_get_all_in_one_order(start, compression):
    server = start("--deflate") if compression else start()

    async def exchange():
        subscribers = [await client(server, "/topic/a.b", compression=compression) for _ in range(8)]
        publishers = [await client(server, "/topic/a.b", compression=compression) for _ in range(2)]
        for number in range(50):
            for name, publisher in enumerate(publishers):
                await publisher.send(f"{name} {number} grüße " + "x" * 500)
        orders = [[await ws.recv() for _ in range(100)] for ws in subscribers]
        assert all(order == orders[0] for order in orders)
        for name in range(2):
            own = [message.split()[1] for message in orders[0] if message.startswith(f"{name} ")]
            assert own == [str(number) for number in range(50)]
        await publishers[0].send([b"in ", b"fragments"])
        assert all([await ws.recv() == b"in fragments" for ws in subscribers])
        for ws in subscribers + publishers:
            await ws.close()

    run(exchange())


def test_positions_and_recovery(start):
    server = start("--history", 10)

    async def exchange():
        publisher = await client(server, "/topic/a")
        async with client(server, "/topic/a", subprotocols=[PROTOCOL]) as ws:
            assert ws.subprotocol == PROTOCOL
            assert json.loads(await ws.recv())["recovered"] == 0
            await publish(publisher, "first")
            position, text = (await ws.recv()).split(" ", 1)
            assert text == "first"
        epoch, offset = (int(part, 16) for part in position.split(":"))
        await publish(publisher, b"\x00second", "third")
        async with client(server, f"/topic/a?from={position}", subprotocols=[PROTOCOL]) as ws:
            assert json.loads(await ws.recv()) == {"recovered": 2, "position": f"{epoch:x}:{offset + 2:x}"}
            message = await ws.recv()
            assert struct.unpack(">QQ", message[:16]) == (epoch, offset + 1)
            assert message[16:] == b"\x00second"
            assert await ws.recv() == f"{epoch:x}:{offset + 2:x} third"
        await publish(publisher, *map(str, range(20)))
        async with client(server, f"/topic/a?from={position}", subprotocols=[PROTOCOL]) as ws:
            assert json.loads(await ws.recv())["lost"] is True
        await publisher.close()

    run(exchange())


def subscribe_with_node(package, url, texts, publish_all):
    """The first message of a subscriber, and the positions in front of those texts, which it gets once the
    first has come and they are published."""
    command, variables = node(package)
    words = [command, str(CLIENTS / "subscribe_node.js"), package, url, str(1 + len(texts))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=variables) as subscriber:
        limit = threading.Timer(LIMIT_S, subscriber.kill)
        limit.start()
        try:
            first = json.loads(subscriber.stdout.readline())
            publish_all()
            lines = [subscriber.stdout.readline().removesuffix("\n") for _ in texts]
            assert subscriber.wait() == 0
        finally:
            limit.cancel()
            subscriber.kill()
    positions, payloads = zip(*(line.split(" ", 1) for line in lines))
    assert list(payloads) == texts
    return first, positions


@pytest.mark.parametrize("flags", [(), ("--deflate",)], ids=["plain", "deflate"])
@pytest.mark.parametrize("package", ["ws", "undici"])
def test_subscribers_of_node(start, package, flags):
    server = start("--history", 10, *flags)
    target = "/topic/rooms.node"
    texts = [json.dumps([{"room": "node", "number": number}] * 20) for number in range(20)]

    async def publish_all():
        async with client(server, target) as publisher:
            await publish(publisher, *texts)

    url = server.url.rstrip("/") + target
    first, positions = subscribe_with_node(package, url, texts, lambda: run(publish_all()))
    epoch, offset = first["position"].split(":")
    assert first["recovered"] == 0
    assert positions == tuple(f"{epoch}:{int(offset, 16) + number:x}" for number in range(1, 21))
    # It comes back, and gets what it has missed.
    back = f"{url}?from={positions[9]}"
    first, again = subscribe_with_node(package, back, texts[10:], lambda: None)
    assert (first, again) == ({"recovered": 10, "position": positions[-1]}, positions[10:])


def test_publishing_without_the_right(start, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("sesame\n")
    server = start("--publish", "token", "--publish-token-file", tokens)

    async def exchange():
        async with client(server, "/topic/a") as ws:
            await ws.send("no")
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd.code == 1008
        headers = {"Authorization": "Bearer sesame"}
        async with client(server, "/topic/a", additional_headers=headers) as ws:
            await ws.send("yes")
            assert await ws.recv() == "yes"

    run(exchange())


def test_sigterm_says_going_away(start):
    server = start()

    async def exchange():
        async with client(server, "/topic/a") as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
            server.signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd.code == 1001

    run(exchange())
    assert server.wait() == 0
