"""Where requests come from: clients named by proxies, and sites that may not connect."""

import asyncio

import pytest

import picows_uring as picows

from .conftest import Collector, Echo, connected, served

TEXT = picows.WSMsgType.TEXT
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


async def peer_of(preamble, header, **settings):
    """The peer that the factory sees behind these bytes, with this header."""
    peers = []

    def factory(request):
        peers.append(request.peer)
        return Echo()

    async with served(factory, **settings) as url:
        reader, writer = await asyncio.open_connection(*url[5:-1].split(":"))
        name = writer.get_extra_info("sockname")
        writer.write(preamble + REQUEST + header + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
    own = f"{name[0]}:{name[1]}"
    return ["own" if peer == own else peer for peer in peers]


def test_the_client_is_the_peer(run):
    assert run(peer_of(b"", b"X-Forwarded-For: 192.0.2.8\r\n")) == ["own"]


@pytest.mark.parametrize("engine", ["native", "loop"])
def test_a_proxy_names_the_client(run, engine):
    header = b"X-Forwarded-For: 192.0.2.8\r\n"
    settings = {"trusted_proxies": "127.0.0.0/8", "engine": engine}
    assert run(peer_of(b"", header, **settings)) == ["192.0.2.8:0"]
    assert run(peer_of(b"", b"", **settings)) == ["own"]
    settings["trusted_proxies"] = "10.0.0.0/8"
    assert run(peer_of(b"", header, **settings)) == ["own"]


def test_a_proxy_names_the_client_before_the_request(run):
    proxied = b"PROXY TCP4 192.0.2.7 127.0.0.1 1111 80\r\n"
    assert run(peer_of(proxied, b"", proxy_protocol="10.0.0.0/8, 127.0.0.1")) == ["192.0.2.7:1111"]


@pytest.mark.parametrize("engine", ["native", "loop"])
def test_other_sites_are_refused(run, engine):
    async def main():
        asked = []
        factory = lambda request: asked.append(request) or Echo()
        settings = {"origins": "https://example.com, https://*.example.org", "engine": engine}
        async with served(factory, **settings) as url:
            for origin in ("https://example.com", "https://a.example.org"):
                async with connected(url, extra_headers={"Origin": origin}) as (transport, listener):
                    transport.send(TEXT, "x")
                    assert await listener.queue.get() == (TEXT, b"x")
            for origin in ("https://example.org", "https://evil.example", "null"):
                with pytest.raises(picows.WSInvalidStatusError) as raised:
                    await picows.ws_connect(Collector, url, extra_headers={"Origin": origin})
                assert raised.value.response.status == 403
            assert len(asked) == 2

    run(main())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"proxy_protocol": "10.0.0.0/33"}, 'proxy_protocol: "10.0.0.0/33"'),
        ({"trusted_proxies": "all"}, 'trusted_proxies: "all"'),
        ({"origins": "example.com"}, 'origins: "example.com"'),
        ({"origins": "https://\0"}, "characters"),
        ({"proxy_protocol": "127.0.0.1", "engine": "loop"}, "loop engine"),
    ],
    ids=lambda it: "",
)
def test_settings_that_make_no_sense_are_refused(run, settings, text):
    async def main():
        with pytest.raises(ValueError, match=text):
            await picows.ws_create_server(lambda request: Echo(), "127.0.0.1", 0, **settings)

    run(main())
