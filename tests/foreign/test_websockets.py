"""The Python package websockets."""

import asyncio
import os

import pytest
from conftest import foreign_module

foreign_module("websockets")
from websockets.asyncio.client import connect, unix_connect  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 8 << 20]
LIMIT_S = 60


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT_S))


def client(url, **options):
    options = {"max_size": None, "proxy": None, "compression": None, "ping_interval": None} | options
    return connect(url, **options)


@pytest.mark.parametrize("size", SIZES)
def test_binary(server, size):
    async def exchange():
        message = os.urandom(size)
        async with client(server.url) as ws:
            await ws.send(message)
            assert await ws.recv() == message

    run(exchange())


@pytest.mark.parametrize("size", SIZES)
def test_text(server, size):
    async def exchange():
        message = ("0123456789abcdef" * (size // 16 + 1))[:size]
        async with client(server.url) as ws:
            await ws.send(message)
            assert await ws.recv() == message

    run(exchange())


@pytest.mark.parametrize("message", ["grüße", "здравствуй, мир", "日本語", "👩‍👩‍👧‍👦 🏳️‍🌈", "\u0000\uffff\U0010ffff"])
def test_unicode(server, message):
    async def exchange():
        async with client(server.url) as ws:
            await ws.send(message)
            assert await ws.recv() == message

    run(exchange())


@pytest.mark.parametrize("parts", [["a", "b"], ["", ""], [b"\0" * 70000, b"\1", b""], ["x" * 200] * 50], ids=len)
def test_fragmented_message(server, parts):
    async def exchange():
        async with client(server.url) as ws:
            await ws.send(parts)
            assert await ws.recv() == parts[0][:0].join(parts)

    run(exchange())


@pytest.mark.parametrize("payload", [b"", b"p", b"nonce-42", b"\xff" * 125])
def test_ping_is_answered_with_its_payload(server, payload):
    async def exchange():
        async with client(server.url) as ws:
            answered = await ws.ping(payload)
            assert await answered >= 0

    run(exchange())


def test_pings_between_messages(server):
    async def exchange():
        async with client(server.url) as ws:
            answers = []
            for number in range(100):
                await ws.send(f"message {number}")
                answers.append(await ws.ping(f"ping {number}"))
            for number in range(100):
                assert await ws.recv() == f"message {number}"
            await asyncio.gather(*answers)

    run(exchange())


@pytest.mark.parametrize("code, reason", [(1000, ""), (1000, "done"), (3000, "ours"), (4999, "größe " * 15)])
def test_close_is_echoed(server, code, reason):
    async def exchange():
        async with client(server.url) as ws:
            await ws.send("before")
            assert await ws.recv() == "before"
            await ws.close(code, reason)
            assert (ws.close_code, ws.close_reason) == (code, reason)
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd_then_sent is False, "the client closed first"

    run(exchange())


def test_1000_pipelined_messages_in_order(server):
    async def exchange():
        async with client(server.url) as ws:

            async def send():
                for number in range(1000):
                    await ws.send(f"{number}" if number % 2 else f"{number}".encode())

            sending = asyncio.create_task(send())
            for number in range(1000):
                assert await ws.recv() == (f"{number}" if number % 2 else f"{number}".encode())
            await sending

    run(exchange())


def test_200_clients_at_once(start_server):
    # On a busy machine, this end may take a while to send all requests.
    server = start_server("--handshake-timeout", "60s")

    async def one(number, all_connected):
        async with client(server.url, open_timeout=LIMIT_S) as ws:
            await all_connected.wait()
            for turn in range(10):
                message = f"client {number}, turn {turn}"
                await ws.send(message)
                assert await ws.recv() == message

    async def exchange():
        all_connected = asyncio.Barrier(200)
        await asyncio.gather(*(one(number, all_connected) for number in range(200)))

    run(exchange())


def test_offers_of_compression_are_declined(server):
    """websockets offers permessage-deflate unless told not to."""

    async def exchange():
        async with client(server.url, compression="deflate") as ws:
            assert "Sec-WebSocket-Extensions" not in ws.response.headers
            await ws.send("a" * 1000)
            assert await ws.recv() == "a" * 1000

    run(exchange())


def test_any_path_and_query(server):
    async def exchange():
        async with client(server.url + "some/where?topic=%F0%9F%91%8B&n=1") as ws:
            await ws.send("here")
            assert await ws.recv() == "here"

    run(exchange())


def test_unix_socket(start_server, socket_path):
    start_server(listen=[f"unix:{socket_path}"])

    async def exchange():
        async with unix_connect(str(socket_path), "ws://localhost/", compression=None, max_size=None) as ws:
            message = os.urandom(1 << 20)
            await ws.send(message)
            assert await ws.recv() == message
            await ws.close(4000, "over")
            assert (ws.close_code, ws.close_reason) == (4000, "over")

    run(exchange())
