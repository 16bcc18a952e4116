"""permessage-deflate with foreign clients and servers, each with the offers it makes by default."""

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import foreign_module, node
from server import Server, binary

websockets = foreign_module("websockets")
aiohttp = foreign_module("aiohttp")
picows_websockets = foreign_module("picows.websockets")
from websockets.asyncio.client import connect  # noqa: E402
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory  # noqa: E402

LIMIT_S = 60
CLIENTS = Path(__file__).parent / "clients"
SERVERS = Path(__file__).parent / "servers"
FLAGS = {
    "default": ("--deflate",),
    "small": ("--deflate", "--deflate-window", "9", "--deflate-level", "1"),
    "large": ("--deflate", "--deflate-window", "15", "--deflate-level", "9"),
    "no-context": ("--deflate", "--deflate-no-context"),
    "messages": ("--deflate", "--messages"),
}


def messages():
    """Text that compresses, empty and large messages, and bytes that do not compress."""
    seed = random.Random(17)
    for number in range(120):
        quote = {"channel": "book", "bid": seed.randrange(10**6), "sequence": number}
        yield json.dumps([quote] * (number % 5))
    yield ""
    yield b""
    yield seed.randbytes(100_000)
    yield json.dumps(list(range(60_000)))
    yield b"x" * 1_000_000


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT_S))


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_websockets_with_its_default_offer(start_server, flags):
    server = start_server(*flags)

    async def exchange():
        async with connect(server.url, max_size=None, proxy=None) as ws:
            assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
            for message in messages():
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["frag" * 100, "ment" * 100, ""])
            assert await ws.recv() == "frag" * 100 + "ment" * 100

    run(exchange())


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_picows_websockets_with_its_default_offer(start_server, flags):
    server = start_server(*flags)

    async def exchange():
        async with picows_websockets.connect(server.url, max_size=None, proxy=None) as ws:
            assert ws.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
            for message in messages():
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["frag" * 100, "ment" * 100, ""])
            assert await ws.recv() == "frag" * 100 + "ment" * 100

    run(exchange())


@pytest.mark.parametrize("server_bits", [None, 9, 12, 15])
@pytest.mark.parametrize("client_bits", [True, 9, 15])
def test_every_window(start_server, server_bits, client_bits):
    server = start_server("--deflate")
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=server_bits, client_max_window_bits=client_bits)

    async def exchange():
        async with connect(server.url, max_size=None, proxy=None, compression=None, extensions=[factory]) as ws:
            assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
            for message in messages():
                await ws.send(message)
                assert await ws.recv() == message

    run(exchange())


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_aiohttp(start_server, flags):
    server = start_server(*flags)

    async def exchange():
        async with aiohttp.ClientSession() as session:
            url = server.url.replace("ws:", "http:")
            async with session.ws_connect(url, compress=15, max_msg_size=0) as ws:
                assert ws.compress
                for message in messages():
                    if isinstance(message, str):
                        await ws.send_str(message)
                    else:
                        await ws.send_bytes(message)
                    assert (await ws.receive()).data == message

    run(exchange())


def test_without_the_flag_nothing_is_agreed_on(start_server):
    server = start_server()

    async def exchange():
        async with connect(server.url, proxy=None) as ws:
            assert "Sec-WebSocket-Extensions" not in ws.response.headers
            await ws.send("plain")
            assert await ws.recv() == "plain"

    run(exchange())


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("package", ["ws", "undici"])
def test_clients_of_node(start_server, package, flags):
    command, environment = node(package)
    server = start_server(*flags)
    words = [command, str(CLIENTS / "exchange_node.js"), package, server.url]
    outcome = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
    assert outcome.returncode == 0, outcome.stderr
    assert "permessage-deflate" in outcome.stdout


def plain(report):
    """The warnings of a load that messages were not compressed."""
    return [warning for warning in report["warnings"] if "not compressed" in warning]


def test_a_load_warns_of_a_server_that_does_not_compress(start_server):
    server = start_server()
    words = [binary(), "load", server.url, "--deflate", "--payload", "json", "--json", "-"]
    words += ["-c", "3", "-s", "100", "-d", "100ms", "-w", "0s"]
    outcome = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
    assert outcome.returncode == 0, outcome.stderr
    [warning] = plain(json.loads(outcome.stdout))
    assert warning.startswith("3 of 3 connections are not compressed: the server declined permessage-deflate")
    assert warning in outcome.stderr


@pytest.mark.parametrize("flags", [(), ("--deflate-window", "9"), ("--deflate-no-context",)], ids=str)
@pytest.mark.parametrize("name", ["ws", "websockets", "picows_websockets"])
def test_our_client_with_servers_that_compress(name, flags):
    if name == "ws":
        command, environment = node("ws")
        command = [command, str(SERVERS / "echo_ws.js")]
    else:
        command, environment = [sys.executable, str(SERVERS / f"echo_{name}.py")], dict(os.environ)
    environment["ECHO_DEFLATE"] = "1"
    server = Server(command, name=f"the server on {name}", env=environment)
    try:
        for size in (100, 1024, 100_000):
            words = [binary(), "load", server.url, "--deflate", *flags, "--payload", "json", "--json", "-"]
            words += ["-c", "3", "-p", "4", "-s", str(size), "-d", "300ms", "-w", "0s"]
            outcome = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
            assert outcome.returncode == 0, outcome.stderr
            assert not plain(json.loads(outcome.stdout)), "it compresses, and every echo was checked"
        server.check_running()
    finally:
        server.kill()
