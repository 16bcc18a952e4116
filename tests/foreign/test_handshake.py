"""Upgrade requests as browsers, proxies and attackers send them."""

import base64
import hashlib
import select
import time

import pytest
from wire import MASK_KEY, TEXT, TIMEOUT_S, Frame, Gone, Peer, encode, pieces, upgrade_request

HEAD_BYTES_MAX = 16 * 1024
HEADERS_MAX = 128

FIREFOX = (
    "GET /chat HTTP/1.1\r\n"
    "Host: 127.0.0.1:9001\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    "Accept: */*\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Origin: http://127.0.0.1:9001\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "DNT: 1\r\n"
    "Connection: keep-alive, Upgrade\r\n"
    "Sec-Fetch-Dest: empty\r\n"
    "Sec-Fetch-Mode: websocket\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Pragma: no-cache\r\n"
    "Cache-Control: no-cache\r\n"
    "Upgrade: websocket\r\n"
    "\r\n"
).encode()


def test_the_example_of_the_rfc(connect):
    """RFC 6455 §1.3: the accept value of the sample key."""
    peer = connect()
    peer.send(upgrade_request(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ=="))
    response = peer.receive_response()
    assert response.status == 101
    assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert response.headers["upgrade"].lower() == "websocket"
    assert response.headers["connection"].lower() == "upgrade"
    peer.echo()


def test_the_accept_value_of_another_key(connect):
    peer = connect()
    key = base64.b64encode(MASK_KEY * 4).decode()
    peer.send(upgrade_request(Sec_WebSocket_Key=key))
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    assert peer.receive_response().headers["sec-websocket-accept"] == base64.b64encode(digest).decode()


def test_firefox(connect):
    """It sends `Connection: keep-alive, Upgrade`, and an extension that we decline."""
    peer = connect()
    peer.send(FIREFOX)
    response = peer.receive_response()
    assert response.status == 101
    assert "sec-websocket-extensions" not in response.headers
    peer.echo()


@pytest.mark.parametrize(
    "request_bytes",
    [
        upgrade_request(connection="upgrade"),
        upgrade_request(connection="UPGRADE"),
        upgrade_request(connection="close ,\tUpgrade,x"),
        upgrade_request(Upgrade="WebSocket"),
        upgrade_request(headers=["Connection: keep-alive"]),
        upgrade_request(path="/a/b?c=d&e=%20"),
        upgrade_request(headers=["X-Empty:", "X-Spaces:   \t value \t "]),
        upgrade_request().replace(b"Host:", b"hOST:").replace(b"Sec-WebSocket-Key:", b"SEC-WEBSOCKET-KEY:"),
    ],
    ids=["lower", "upper", "list", "Upgrade value", "two Connection headers", "query", "odd values", "name case"],
)
def test_ways_to_say_upgrade(connect, request_bytes):
    connect().upgrade(request_bytes).echo()


def test_byte_by_byte(connect):
    peer = connect()
    for part in pieces(upgrade_request(), "by byte"):
        peer.send(part)
    peer.upgraded().echo()


REFUSED = {
    "no upgrade": (upgrade_request(without=["Upgrade"]), {400, 404, 426}),
    "no connection": (upgrade_request(without=["Connection"]), {400}),
    "no key": (upgrade_request(without=["Sec-WebSocket-Key"]), {400}),
    "no version": (upgrade_request(without=["Sec-WebSocket-Version"]), {400, 426}),
    "version 8": (upgrade_request(Sec_WebSocket_Version="8"), {426}),
    "key of 15 bytes": (upgrade_request(Sec_WebSocket_Key=base64.b64encode(b"k" * 15).decode()), {400}),
    "key of 17 bytes": (upgrade_request(Sec_WebSocket_Key=base64.b64encode(b"k" * 17).decode()), {400}),
    "connection upgraded": (upgrade_request(connection="Upgraded"), {400}),
    "a body": (upgrade_request(headers=["Content-Length: 4"]) + b"body", {413}),
    "chunked": (upgrade_request(headers=["Transfer-Encoding: chunked"]) + b"0\r\n\r\n", {411}),
    "folded header": (upgrade_request(headers=["X-Folded: a", " b"]), {400}),
    "space before colon": (upgrade_request(headers=["X-Name : a"]), {400}),
    "header without colon": (upgrade_request(headers=["nonsense"]), {400}),
    "control byte in a value": (upgrade_request(headers=["X-Bad: a\x00b"]), {400}),
    "HTTP/1.0": (upgrade_request().replace(b"HTTP/1.1", b"HTTP/1.0"), {400}),
    "HTTP/2.0": (upgrade_request().replace(b"HTTP/1.1", b"HTTP/2.0"), {505}),
    "POST": (upgrade_request().replace(b"GET", b"POST"), {405}),
    "no host": (upgrade_request(without=["Host"]), {400}),
    "two hosts": (upgrade_request(headers=["Host: other"]), {400}),
    "both lengths": (upgrade_request(headers=["Content-Length: 0", "Transfer-Encoding: chunked"]), {400}),
    "unknown expectation": (upgrade_request(headers=["Expect: 200-ok"]), {417}),
    "zzzz": (b"zzzz\r\n\r\n", {400}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {405, 505}),
}


@pytest.mark.parametrize("delivery", ["whole", "by byte"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(connect, name, delivery):
    request, allowed = REFUSED[name]
    peer = connect()
    peer.send_to_a_server_that_may_have_hung_up(pieces(request, delivery))
    response = peer.receive_response()
    assert response.status in allowed
    assert response.headers["connection"].lower() == "close"
    assert "sec-websocket-accept" not in response.headers
    if response.status == 426:
        assert response.headers["sec-websocket-version"] == "13"
    peer.expect_end()


def test_binary_garbage_ends_the_connection(connect):
    peer = connect()
    peer.send_to_a_server_that_may_have_hung_up([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)])
    peer.finish_sending()
    assert b" 101 " not in peer.rest()


def padded(total):
    """A valid request of `total` bytes."""
    bare = len(upgrade_request(headers=["X-Padding: "]))
    request = upgrade_request(headers=["X-Padding: " + "p" * (total - bare)])
    assert len(request) == total
    return request


def with_headers(count):
    bare = upgrade_request().count(b"\r\n") - 2
    return upgrade_request(headers=[f"X-{number}: v" for number in range(count - bare)])


def test_a_head_within_its_limits_is_accepted(connect):
    connect().upgrade(padded(HEAD_BYTES_MAX - 1)).echo()
    connect().upgrade(with_headers(HEADERS_MAX)).echo()


@pytest.mark.parametrize(
    "request_bytes",
    [
        padded(HEAD_BYTES_MAX + 1),
        padded(HEAD_BYTES_MAX * 16),
        b"GET / HTTP/1.1\r\nX-Endless: " + b"p" * (HEAD_BYTES_MAX + 1),
        b"GET /" + b"p" * (HEAD_BYTES_MAX + 1),
        with_headers(HEADERS_MAX + 1),
        with_headers(HEADERS_MAX + 300),
    ],
    ids=["a byte too long", "16 times too long", "endless header", "endless target", "129 headers", "428 headers"],
)
def test_a_flood_of_headers_gets_431(connect, request_bytes):
    peer = connect()
    peer.send_to_a_server_that_may_have_hung_up([request_bytes])
    assert peer.receive_response().status == 431
    peer.expect_end()


def drops_within_its_timeout(peer, started, timeout_s):
    """What the server says before it hangs up is its own affair; an upgrade it is not."""
    assert b" 101 " not in peer.rest()
    assert time.monotonic() - started >= timeout_s * 0.9, "dropped before the timeout was over"


def test_a_client_that_says_nothing_is_dropped(start_server):
    server = start_server("--handshake-timeout", "500ms")
    started = time.monotonic()
    with Peer(server.endpoint) as peer:
        drops_within_its_timeout(peer, started, 0.5)


@pytest.mark.parametrize("share", [1, 40, -1])
def test_part_of_a_request_and_then_silence_is_dropped(start_server, share):
    server = start_server("--handshake-timeout", "500ms")
    started = time.monotonic()
    with Peer(server.endpoint) as peer:
        peer.send_to_a_server_that_may_have_hung_up([upgrade_request()[:share]])
        drops_within_its_timeout(peer, started, 0.5)


def test_a_slow_drip_is_cut(start_server):
    """Every byte is traffic, none of it counts: the clock runs from accept to upgraded."""
    server = start_server("--handshake-timeout", "500ms")
    started = time.monotonic()
    with Peer(server.endpoint) as peer:
        drip = iter(b"GET / HTTP/1.1\r\n" + b"X-Drip: 1\r\n" * 1000)
        ended = False
        while not ended:
            assert time.monotonic() - started < TIMEOUT_S, "the drip is not cut"
            try:
                peer.sock.sendall(bytes([next(drip)]))
                readable, _, _ = select.select([peer.sock], [], [], 0.02)  # The pace of the drip.
                ended = bool(readable) and not peer.sock.recv(4096)
            except (BrokenPipeError, ConnectionResetError):
                ended = True
        assert time.monotonic() - started >= 0.45


def test_the_handshake_timeout_ends_with_the_handshake(start_server):
    server = start_server("--handshake-timeout", "500ms")
    with upgraded_in_time(server) as upgraded:
        started = time.monotonic()
        with Peer(server.endpoint) as silent:
            drops_within_its_timeout(silent, started, 0.5)
        upgraded.echo()


def upgraded_in_time(server):
    """A connection to a server with a short handshake timeout, for which a busy machine may be late."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        peer = Peer(server.endpoint)
        try:
            return peer.upgrade()
        except (Gone, BrokenPipeError, ConnectionResetError):
            peer.sock.close()
            assert time.monotonic() < deadline, "no handshake in time"


def test_a_client_that_half_closes_its_request_is_dropped(connect):
    peer = connect()
    peer.send(upgrade_request()[:40])
    peer.finish_sending()
    assert b" 101 " not in peer.rest()


def test_max_connections(start_server):
    server = start_server("--max-connections", 2, workers=1)
    with Peer(server.endpoint) as first:
        first.upgrade()
        with Peer(server.endpoint) as second:
            second.upgrade()
            with Peer(server.endpoint) as third:
                third.send_to_a_server_that_may_have_hung_up([upgrade_request()])
                assert third.receive_response().status == 503
                third.expect_end()
            first.echo()
            second.echo()
        upgrade_eventually(server)
        first.echo()


def test_max_per_address(start_server):
    server = start_server("--max-per-address", 1, listen=["127.0.0.1:0", "127.0.0.1:0"])
    with Peer(server.endpoints[0]) as first:
        first.upgrade()
        with Peer(server.endpoints[1]) as second:
            second.send(upgrade_request())
            response = second.receive_response()
            assert (response.status, response.body) == (503, b"too many connections from your address\n")
            second.expect_end()
        first.echo()
    upgrade_eventually(server)


def test_max_handshakes(start_server):
    server = start_server("--max-handshakes", 2, "--handshake-timeout", "1h", workers=1)
    with Peer(server.endpoint) as first, Peer(server.endpoint) as second:
        first.send(b"GET / HTTP/1.1\r\n")
        with Peer(server.endpoint) as third:
            third.send(upgrade_request())
            response = third.receive_response()
            assert (response.status, response.body) == (503, b"too many handshakes in progress\n")
            third.expect_end()
        second.upgrade().echo()
        with Peer(server.endpoint) as fourth:
            fourth.upgrade().echo()


def upgrade_eventually(server):
    """Room is there again, as soon as the server has seen the other one leave."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        with Peer(server.endpoint) as peer:
            try:
                peer.send(upgrade_request())
                response = peer.receive_response()
            except (Gone, BrokenPipeError, ConnectionResetError):
                response = None
            if response is not None and response.status == 101:
                peer.echo()
                return
        assert time.monotonic() < deadline, f"no room again: {response}"


def test_frames_glued_to_a_refused_request_are_not_answered(connect):
    peer = connect()
    request = upgrade_request(without=["Sec-WebSocket-Key"])
    peer.send_to_a_server_that_may_have_hung_up([request + encode(TEXT, b"in anyway")])
    assert peer.receive_response().status == 400
    peer.expect_end()


def test_frames_glued_to_the_request_are_echoed(connect):
    peer = connect().upgrade(glued=encode(TEXT, b"eager"))
    assert peer.receive() == Frame(TEXT, b"eager")
