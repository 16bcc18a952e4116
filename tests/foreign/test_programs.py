"""Programs of the examples, and their counterparts on axum and tokio-tungstenite: one test for both.

The counterparts are in benches/peers/programs; scripts/programs builds them, and names their folder in
PICOWS_COUNTERPARTS. Without it, the examples alone are tested.
"""

import asyncio
import contextlib
import http
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import foreign_module, missing
from server import REPOSITORY, Server

foreign_module("websockets")
from websockets.asyncio.client import connect  # noqa: E402
from websockets.asyncio.server import serve  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

LIMIT_S = 60
COUNTERPARTS = os.environ.get("PICOWS_COUNTERPARTS")
SIDES = ["ours", "theirs"] if COUNTERPARTS else ["ours"]


def program(side, name):
    """The path of a program."""
    if side == "theirs":
        return str(Path(COUNTERPARTS) / name)
    named = os.environ.get("PICOWS_EXAMPLES")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    folders = [Path(named)] if named else [target / "release/examples", target / "debug/examples"]
    for folder in folders:
        if (folder / name).is_file():
            return str(folder / name)
    missing(f"the example {name}", "run scripts/test, or `cargo build -p examples --examples`")
    return None


@pytest.fixture(params=SIDES)
def side(request):
    return request.param


@pytest.fixture
def start(side):
    """Starts a program that is a server, and ends it with the test."""
    with contextlib.ExitStack() as ending:

        def start_one(name, *arguments, **how):
            return ending.enter_context(Server([program(side, name), "127.0.0.1:0", *arguments], **how))

        yield start_one


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT_S))


def client(server, path="", **options):
    defaults = {"max_size": None, "proxy": None, "compression": None, "ping_interval": None}
    return connect(server.url + path, **defaults | options)


async def close_code(ws):
    """The code with which the server ends the connection, after whatever it still sends."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await ws.recv()
    return ws.close_code


async def refusal(server, path="", **options):
    """The status and the headers of the answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with client(server, path, **options):
            pass
    return refused.value.response.status_code, refused.value.response.headers


def test_chat(start):
    server = start("chat")

    async def talk():
        async with client(server, "lobby?name=ann") as ann:
            assert await ann.recv() == "ann joined"
            async with client(server, "lobby?name=b%C3%B6b") as bob, client(server, "other?name=eve") as eve:
                assert [await bob.recv(), await ann.recv()] == ["böb joined"] * 2
                assert await eve.recv() == "eve joined"
                await ann.send("hello")
                await ann.send(["in ", "three ", "parts"])
                for member in (ann, bob):
                    assert await member.recv() == "ann says hello"
                    assert await member.recv() == "ann says in three parts"
                await bob.send(b"\0")
                assert await close_code(bob) == 1003
                assert await ann.recv() == "böb left"
                await eve.send("alone")
                assert await eve.recv() == "eve says alone"
        assert (await refusal(server, "lobby"))[0] == 400

    run(talk())


def test_market_data(start):
    server = start("market_data", stdin=subprocess.PIPE)
    quotes = server.process.stdin
    long_price = "9" * 4000

    async def publish(*lines):
        await asyncio.to_thread(quotes.write, "".join(f"{line}\n" for line in lines))
        await asyncio.to_thread(quotes.flush)

    async def trade():
        async with client(server, "SAP") as sap, client(server, "SAP", max_queue=1) as slow:
            await publish("BAS 45", "SAP 180")
            assert [await sap.recv(), await slow.recv()] == ["180", "180"]
            async with client(server, "BAS") as late:
                assert await late.recv() == "45"
            # 80 MB, more than sockets and clients hold: most are replaced by the time they could be read.
            for begin in range(0, 20_000, 1000):
                await publish(*(f"SAP {number} {long_price}" for number in range(begin, begin + 1000)))
            await publish("SAP 181")
            for reader in (slow, sap):
                count, price = 0, ""
                while price != "181":
                    count, price = count + 1, await reader.recv()
                assert count < 20_000
            quotes.close()
            assert await close_code(sap) == 1001
            await slow.close()
        assert await asyncio.to_thread(server.wait) == 0

    run(trade())


def trades(*texts, code=1000):
    """A handler of an exchange that sends some messages after the subscription, and ends."""

    async def handle(ws):
        assert ws.request.headers["X-Api-Key"] == "k3y"
        assert await ws.recv() == '{"op":"subscribe","channel":"trades"}'
        for text in texts:
            await ws.send(text)
        if code is None:
            await ws.wait_closed()
        elif code == "reset":
            ws.transport.abort()
        else:
            await ws.close(code)

    return handle


@pytest.mark.parametrize("key", ["k3y", "wrong"])
def test_exchange_client(side, key):
    # The first attempt is refused for a while; then connections end in several ways.
    courses = [trades("1", "2", code=1012), trades("3", code="reset"), trades("4", "5", code=None)]
    attempts = []

    def check(_, request):
        attempts.append(request.path)
        if request.headers["X-Api-Key"] != "k3y":
            return http.HTTPStatus.UNAUTHORIZED
        return http.HTTPStatus.SERVICE_UNAVAILABLE if len(attempts) == 1 else None

    def answer(connection, request):
        status = check(connection, request)
        return status and connection.respond(status, "\n")

    async def trade():
        async with serve(lambda ws: courses.pop(0)(ws), "127.0.0.1", 0, process_request=answer) as exchange:
            port = exchange.sockets[0].getsockname()[1]
            process = await asyncio.create_subprocess_exec(
                program(side, "exchange_client"), f"ws://127.0.0.1:{port}/feed?level=1", key, "5",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            return *await process.communicate(), process.returncode

    out, err, status = run(trade())
    assert set(attempts) == {"/feed?level=1"}
    if key == "wrong":
        assert (out, status, len(attempts)) == (b"", 1, 1)
        assert b"401" in err
    else:
        assert (out, status, len(attempts)) == (b"1\n2\n3\n4\n5\n", 0, 4), err
        assert not courses


def test_relay_to_upstream(start):
    async def upstream(ws):
        await ws.send(ws.request.path)
        with contextlib.suppress(ConnectionClosed):
            async for message in ws:
                if message == "end":
                    await ws.close(4001, "as asked")
                elif message == "break":
                    ws.transport.abort()
                else:
                    await ws.send(message)
        ended.append(ws.close_code)

    ended = []

    async def relay():
        async with serve(upstream, "127.0.0.1", 0, max_size=None, compression=None) as behind:
            port = behind.sockets[0].getsockname()[1]
            server = start("relay_to_upstream", f"ws://127.0.0.1:{port}")
            async with client(server, "feed?level=1") as ws:
                assert await ws.recv() == "/feed?level=1"
                for message in ("hello", b"\0\1\2", "", "ü" * 1_000_000):
                    await ws.send(message)
                    assert await ws.recv() == message
                assert await (await ws.ping(b"near")) >= 0
                await ws.send("end")
                assert await close_code(ws) == 4001
                assert ws.close_reason == "as asked"
            async with client(server) as ws:
                await ws.close(4002)
            while ended[1:] != [4002]:
                await asyncio.sleep(0.01)
            async with client(server) as ws:
                await ws.send("break")
                assert await close_code(ws) == 1001
        async with client(server) as ws:
            assert await close_code(ws) == 1014

    run(relay())


def test_beside_tokio(start):
    server = start("beside_tokio")

    async def add():
        async with client(server) as one, client(server) as two:
            await one.send("20")
            assert await one.recv() == "20"
            await two.send("22")
            assert await two.recv() == "42"
            await two.send("x")
            assert "invalid digit" in await two.recv()
            server.signal(signal.SIGTERM)
            assert [await close_code(one), await close_code(two)] == [1001, 1001]
        assert await asyncio.to_thread(server.wait) == 0

    run(add())
    assert server.stdout_lines[-1] == "stopped"


def test_authenticated_upgrade(start):
    server = start("authenticated_upgrade")

    async def prove():
        for proof in ({"Authorization": "Bearer t0ken"}, {"Cookie": "theme=dark; session=t0ken"}):
            async with client(server, additional_headers=proof, origin="https://app.example.com") as ws:
                assert await ws.recv() == "hello, Ada"
                await ws.send("hello")
                assert await ws.recv() == "hello"
        for proof in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic dDp0"}, {"Cookie": "session=x"}):
            status, headers = await refusal(server, additional_headers=proof)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        evil = {"additional_headers": {"Cookie": "session=t0ken"}, "origin": "https://evil.example"}
        assert (await refusal(server, **evil))[0] == 403

    run(prove())


def test_same_port_as_axum(side):
    if not COUNTERPARTS:
        pytest.skip("axum is built by scripts/programs: PICOWS_COUNTERPARTS")
    # Both are built there, as axum is no dependency of the examples.
    name = "picows_uring_same_port_as_axum" if side == "ours" else "same_port_as_axum"
    with Server([str(Path(COUNTERPARTS) / name), "127.0.0.1:0"]) as server:

        def page():
            with urllib.request.urlopen(server.endpoint.http, timeout=LIMIT_S) as answer:
                return answer.read().decode()

        async def until(text):
            while await asyncio.to_thread(page) != f"<p>{text}</p>\n":
                await asyncio.sleep(0.01)

        async def exchange():
            await until("0 connections of 0")
            async with client(server, "ws") as one, client(server, "ws") as two:
                for ws, message in ((one, "hello"), (two, b"\0" * 100_000), (one, "")):
                    await ws.send(message)
                    assert await ws.recv() == message
                await until("2 connections of 2")
            await until("0 connections of 2")

        run(exchange())
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{server.endpoint.http}/ws", timeout=LIMIT_S)
        assert refused.value.code in (400, 426)
