"""The WebSocket client of aiohttp."""

import asyncio
import os

import pytest
from conftest import foreign_module

aiohttp = foreign_module("aiohttp")

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 8 << 20]
LIMIT_S = 60


def with_client(server, exchange, **options):
    """Runs `exchange(ws)` on a connection."""

    async def session():
        async with aiohttp.ClientSession() as http:
            async with http.ws_connect(server.url, max_msg_size=0, **options) as ws:
                return await exchange(ws)

    return asyncio.run(asyncio.wait_for(session(), LIMIT_S))


@pytest.mark.parametrize("size", SIZES)
def test_binary(server, size):
    async def exchange(ws):
        message = os.urandom(size)
        await ws.send_bytes(message)
        assert await ws.receive_bytes() == message

    with_client(server, exchange)


@pytest.mark.parametrize("size", SIZES)
def test_text(server, size):
    async def exchange(ws):
        message = ("0123456789abcdef" * (size // 16 + 1))[:size]
        await ws.send_str(message)
        assert await ws.receive_str() == message

    with_client(server, exchange)


def test_unicode(server):
    async def exchange(ws):
        message = "grüße 日本語 👩‍👩‍👧‍👦"
        await ws.send_str(message)
        assert await ws.receive_str() == message

    with_client(server, exchange)


@pytest.mark.parametrize("payload", [b"", b"nonce-42", b"\xff" * 125])
def test_ping_is_answered_with_its_payload(server, payload):
    async def exchange(ws):
        await ws.ping(payload)
        answer = await ws.receive()
        assert answer.type == aiohttp.WSMsgType.PONG
        assert answer.data == payload

    with_client(server, exchange, autoping=False)


@pytest.mark.parametrize("code, reason", [(1000, b""), (1000, b"done"), (3000, b"ours"), (4999, b"theirs")])
def test_close_code_is_echoed(server, code, reason):
    async def exchange(ws):
        await ws.send_str("before")
        assert await ws.receive_str() == "before"
        assert await ws.close(code=code, message=reason)
        assert ws.close_code == code

    with_client(server, exchange)


def test_1000_pipelined_messages_in_order(server):
    async def exchange(ws):
        async def send():
            for number in range(1000):
                await ws.send_str(f"message {number}")

        sending = asyncio.create_task(send())
        for number in range(1000):
            assert await ws.receive_str() == f"message {number}"
        await sending

    with_client(server, exchange)


def test_a_plain_http_client_reads_the_health_page(server):
    async def get():
        async with aiohttp.ClientSession() as http:
            async with http.get(server.endpoint.http + "/healthz") as response:
                assert response.status == 200
                await response.read()

    asyncio.run(asyncio.wait_for(get(), LIMIT_S))


def test_unix_socket(start_server, socket_path):
    start_server(listen=[f"unix:{socket_path}"])

    async def session():
        connector = aiohttp.UnixConnector(path=str(socket_path))
        async with aiohttp.ClientSession(connector=connector) as http:
            async with http.ws_connect("ws://localhost/") as ws:
                await ws.send_str("over a unix socket")
                assert await ws.receive_str() == "over a unix socket"

    asyncio.run(asyncio.wait_for(session(), LIMIT_S))
