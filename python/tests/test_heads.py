"""Heads and URLs: what is described in Python, against what the library decides."""

import asyncio

import pytest

import picows_uring as picows
from picows_uring.picows import _parse_http_request, _parse_upgrade_response, _validate_upgrade_request
from picows_uring.url import host_header, parse_url

from .conftest import Collector, Echo, served

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD = {
    b"Host": b"a",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": KEY,
    b"Sec-WebSocket-Version": b"13",
}
# A header that is changed; None leaves it out.
REQUESTS = [
    {},
    {b"Upgrade": None},
    {b"Upgrade": b"h2c"},
    {b"Upgrade": b"WebSocket"},
    {b"Connection": None},
    {b"Connection": b"close"},
    {b"Connection": b"keep-alive, Upgrade"},
    {b"Sec-WebSocket-Version": None},
    {b"Sec-WebSocket-Version": b"8"},
    {b"Sec-WebSocket-Key": None},
    {b"Sec-WebSocket-Key": b"c2hvcnQ="},
    {b"Sec-WebSocket-Key": KEY + b"!!!"},
    {b"Transfer-Encoding": b"chunked"},
    {b"Content-Length": b"1"},
    {b"Content-Length": b"0"},
    {b"X(": b"1"},
    {b"X": b"a\x08"},
]


def head_of(changes):
    headers = {**GOOD, **changes}
    lines = [name + b": " + value for name, value in headers.items() if value is not None]
    return b"\r\n".join([b"GET / HTTP/1.1", *lines])


def accepts_in_python(head):
    try:
        _validate_upgrade_request(_parse_http_request(head))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("changes", REQUESTS, ids=repr)
def test_requests_are_judged_alike(changes):
    async def main():
        async with served() as url:
            reader, writer = await asyncio.open_connection(*url[5:-1].split(":"))
            writer.write(head_of(changes) + b"\r\n\r\n")
            line = await reader.readline()
            writer.close()
            return line.startswith(b"HTTP/1.1 101 ")

    assert asyncio.run(main()) == accepts_in_python(head_of(changes))


RESPONSES = [
    (b"HTTP/1.1 101 Switching", {}, None),
    (b"HTTP/1.1 200 OK", {}, picows.WSInvalidStatusError),
    (b"HTTP/1.1 101 Switching", {b"Upgrade": None}, picows.WSInvalidUpgradeError),
    (b"HTTP/1.1 101 Switching", {b"Upgrade": b"h2c"}, picows.WSInvalidUpgradeError),
    (b"HTTP/1.1 101 Switching", {b"Connection": b"close"}, picows.WSInvalidUpgradeError),
    (b"HTTP/1.1 101 Switching", {b"Sec-WebSocket-Accept": b"no"}, picows.WSInvalidHeaderError),
    (b"HTTP/1.1 101 Switching", {b"Sec-WebSocket-Accept": None}, picows.WSInvalidHeaderError),
    (b"HTTP/1.1 101 Switching", {b"X(": b"1"}, picows.WSInvalidMessageError),
    (b"NOT-HTTP", {}, picows.WSInvalidMessageError),
]


@pytest.mark.parametrize(("line", "changes", "expected"), RESPONSES, ids=repr)
def test_responses_are_refused_with_the_same_exceptions(line, changes, expected):
    def respond(accept):
        headers = {
            b"Upgrade": b"websocket",
            b"Connection": b"Upgrade",
            b"Sec-WebSocket-Accept": accept,
            b"Content-Length": b"0",
        }
        headers.update(changes)
        lines = [name + b": " + value for name, value in headers.items() if value is not None]
        return b"\r\n".join([line, *lines, b"", b""])

    async def main():
        from picows_uring._http import accept_value

        async def handle(reader, writer):
            request = await reader.readuntil(b"\r\n\r\n")
            key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
            writer.write(respond(accept_value(key)))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            transport, _ = await picows.ws_connect(Collector, f"ws://127.0.0.1:{port}/")
            transport.disconnect(False)
            await transport.wait_disconnected()
        finally:
            server.close()

    data = respond(ACCEPT)
    if expected is None:
        asyncio.run(main())
        assert _parse_upgrade_response(data, KEY).status == 101
        return
    with pytest.raises(expected) as described:
        _parse_upgrade_response(data, KEY)
    with pytest.raises(expected) as raised:
        asyncio.run(main())
    assert type(raised.value) is type(described.value)
    assert raised.value.raw_header.startswith(line)


def test_urls_are_taken_apart():
    parsed = parse_url("wss://[::1]:8443/a b?q=ü")
    assert (parsed.host, parsed.port, parsed.is_secure) == ("::1", 8443, True)
    assert parsed.resource_name == "/a%20b?q=%C3%BC"
    assert host_header(parsed) == "[::1]:8443"
    assert host_header(parse_url("ws://example.com")) == "example.com"
    assert host_header(parse_url("wss://example.com:443/")) == "example.com"
    assert parse_url("http://user:p%40ss@proxy:3128", False).user_info == ("user", "p%40ss")


@pytest.mark.parametrize("url", ["ws://", "ws://a b/", "ws://a:99999/", "http://a/", "ws://a/#f", "ws://a\r\nX: y/"])
def test_urls_that_cannot_be_used(url):
    with pytest.raises(picows.WSInvalidURL):
        parse_url(url)


def test_passwords_stay_out_of_texts():
    with pytest.raises(picows.WSInvalidURL) as raised:
        asyncio.run(picows.ws_connect(Echo, "ws://a/", proxy="ftp://user:secret@proxy/"))
    assert "secret" not in str(raised.value)
