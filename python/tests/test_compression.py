"""permessage-deflate, on both engines."""

import asyncio
import json

import pytest

import picows_uring as picows

from .conftest import Collector, connected, served

TEXT, BINARY = picows.WSMsgType.TEXT, picows.WSMsgType.BINARY
MESSAGES = [
    (TEXT, json.dumps([{"bid": number, "ask": number + 1}] * 50).encode()) for number in range(100)
]
MESSAGES += [(BINARY, b""), (BINARY, b"x" * 1_000_000), (TEXT, b"small")]


def extensions(transport):
    return transport.response.headers.get("Sec-WebSocket-Extensions", "")


@pytest.mark.parametrize("engine", ["native", "loop"])
def test_messages_are_compressed_on_the_way(run, engine):
    async def main():
        async with served(compression="deflate") as url:
            settings = {"compression": "deflate", "engine": engine}
            async with connected(url, **settings) as (transport, listener):
                assert transport.engine == engine
                assert extensions(transport).startswith("permessage-deflate")
                for msg_type, payload in MESSAGES:
                    transport.send(msg_type, payload)
                    assert await listener.queue.get() == (msg_type, payload)
                # Fragments of one message, and a ping between them.
                transport.send(TEXT, b"a" * 200, False)
                transport.send_ping(b"between")
                transport.send(picows.WSMsgType.CONTINUATION, b"b" * 200)
                received = [await listener.queue.get() for _ in range(3)]
                assert (picows.WSMsgType.PONG, b"between") in received
                parts = [payload for kind, payload in received if kind != picows.WSMsgType.PONG]
                assert b"".join(parts) == b"a" * 200 + b"b" * 200

    run(main())


@pytest.mark.parametrize("server, client", [("deflate", None), (None, "deflate")])
def test_both_ends_have_to_want_it(run, server, client):
    async def main():
        async with served(compression=server) as url:
            async with connected(url, compression=client) as (transport, listener):
                assert extensions(transport) == ""
                transport.send(TEXT, b"plain")
                assert await listener.queue.get() == (TEXT, b"plain")

    run(main())


def test_another_one_is_refused(run):
    async def main():
        with pytest.raises(ValueError, match="compression is 'gzip'"):
            await picows.ws_connect(Collector, "ws://127.0.0.1:1/", compression="gzip")
        with pytest.raises(ValueError, match="use 'deflate' or None"):
            await picows.ws_create_server(Collector, "127.0.0.1", 0, compression=True)

    run(main())
