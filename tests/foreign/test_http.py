"""Plain HTTP as load balancers, old clients and attackers speak it, over a raw socket."""

import contextlib
import re

import pytest
from wire import Peer, pieces, upgrade_request

# The driver is that of the shared server.
HEALTHY = re.compile(r"ok\ndriver: (epoll|io-uring)\n")
PLAIN = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


def answers(peer):
    """The status lines and the rest, up to the end of the connection."""
    peer.finish_sending()
    text = peer.rest().decode("latin-1")
    head, _, body = text.partition("\r\n\r\n")
    return int(head.split()[1]), head.lower(), body


@pytest.mark.parametrize("delivery", ["whole", "by byte"])
@pytest.mark.parametrize(
    "request_bytes, has_body",
    [
        (PLAIN, True),
        (b"GET /healthz HTTP/1.0\r\n\r\n", True),
        (b"GET /healthz HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", True),
        (b"\r\n" + PLAIN, True),
        (b"GET http://a/healthz HTTP/1.1\r\nHost: b\r\n\r\n", True),
        (PLAIN.replace(b"GET", b"HEAD"), False),
        (b"HEAD /healthz HTTP/1.0\r\n\r\n", False),
        (PLAIN[:-2] + b"Expect: 100-continue\r\n\r\n", True),
        (PLAIN[:-2] + b"Content-Length: 0\r\n\r\n", True),
    ],
    ids=["1.1", "1.0", "1.0 with host", "empty line", "absolute", "HEAD", "HEAD 1.0", "expect", "no body"],
)
def test_health_checks(connect, request_bytes, has_body, delivery):
    peer = connect()
    peer.send_to_a_server_that_may_have_hung_up(pieces(request_bytes, delivery))
    status, head, answered = answers(peer)
    assert status == 200 and (HEALTHY.fullmatch(answered) if has_body else answered == ""), answered
    # A HEAD has the length of what a GET would have had.
    assert re.search(r"\r\ncontent-length: (17|20)\r\n", head), head
    assert f"\r\nconnection: {'close' if b'HTTP/1.0' in request_bytes else 'keep-alive'}" in head


def test_a_connection_serves_one_health_check_after_the_other(connect):
    peer = connect()
    for _ in range(3):
        peer.send(PLAIN)
        response = peer.receive_response()
        assert (response.status, response.headers["connection"]) == (200, "keep-alive")
    # Not those that are sent without waiting for the answer.
    peer.send(PLAIN + PLAIN)
    response = peer.receive_response()
    assert (response.status, response.headers["connection"]) == (200, "close")
    peer.expect_end()


REFUSED = {
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "two hosts": (PLAIN[:-2] + b"Host: b\r\n\r\n", 400),
    "invalid host": (PLAIN.replace(b"Host: a", b"Host: a/b"), 400),
    "space before colon": (PLAIN.replace(b"Host:", b"Host :"), 400),
    "folded": (PLAIN[:-2] + b"X: a\r\n b\r\n\r\n", 400),
    "bare CR": (PLAIN[:-2] + b"X: a\rb\r\n\r\n", 400),
    "control character": (PLAIN[:-2] + b"X: \x1b[2J\r\n\r\n", 400),
    "two lengths": (PLAIN[:-2] + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400),
    "both lengths": (PLAIN[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in 1.0": (b"GET /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked is not last": (PLAIN[:-2] + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "body": (PLAIN[:-2] + b"Content-Length: 5\r\n\r\nhello", 413),
    "chunked": (PLAIN[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    "asterisk": (PLAIN.replace(b"/healthz", b"*"), 400),
    "authority": (PLAIN.replace(b"/healthz", b"a:80"), 400),
    "OPTIONS": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "long method": (PLAIN.replace(b"GET", b"G" * 40), 501),
    "version": (PLAIN.replace(b"HTTP/1.1", b"HTTP/3.0"), 505),
    "expectation": (PLAIN[:-2] + b"Expect: 200-ok\r\n\r\n", 417),
    "HEAD without host": (b"HEAD /healthz HTTP/1.1\r\n\r\n", 400),
    "two empty lines": (b"\r\n\r\n" + PLAIN, 400),
}


@pytest.mark.parametrize("delivery", ["whole", "by byte"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(connect, name, delivery):
    request_bytes, expected = REFUSED[name]
    peer = connect()
    peer.send_to_a_server_that_may_have_hung_up(pieces(request_bytes, delivery))
    status, head, body = answers(peer)
    assert (status, "\r\nconnection: close" in head) == (expected, True)
    assert ("\r\nallow: get, head" in head) == (expected == 405)
    assert (body == "") == request_bytes.startswith(b"HEAD")


@pytest.mark.parametrize("delivery", ["whole", "by byte"])
def test_an_upgrade_that_expects_to_continue(connect, delivery):
    """RFC 9110 §7.8: 100 comes before 101."""
    peer = connect()
    for part in pieces(b"\r\n" + upgrade_request(headers=["Expect: 100-continue"]), delivery):
        peer.send(part)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    while len(peer.buffer) < len(interim):
        peer._more()
    assert peer._take(len(interim)) == interim
    peer.upgraded().echo()


def test_a_flood_of_bad_peers_is_none_of_lines(start_server):
    """However many there are: each worker logs one line of a kind in a second, with the count of the others."""
    server = start_server(workers=1)
    for _ in range(300):
        with Peer(server.endpoint) as peer:
            peer.upgrade(glued=b"\xff\xff")
            peer.expect_close(1002)
    server.stop()
    lines = [line for line in server.stderr_lines if " WARN " in line and "protocol error" in line]
    assert 1 <= len(lines) < 100, lines
    assert sum("left_out=" in line for line in lines) >= 1


def test_health_is_answered_by_a_server_that_is_full(start_server):
    server = start_server("--max-connections", 3, workers=1)
    with contextlib.ExitStack() as crowd:
        for _ in range(3):
            crowd.enter_context(Peer(server.endpoint))
        for _ in range(300):  # More than it lets wait for their request.
            crowd.enter_context(Peer(server.endpoint))
        with Peer(server.endpoint) as peer:
            peer.send(PLAIN)
            assert answers(peer)[0] == 200
        with Peer(server.endpoint) as peer:
            peer.send(upgrade_request())
            assert peer.receive_response().status == 503
            peer.expect_end()


@pytest.mark.parametrize("sent", [0, 60])
def test_a_handshake_in_progress_at_a_stop_is_answered(start_server, sent):
    server = start_server()
    with Peer(server.endpoint) as peer, Peer(server.endpoint) as other:
        peer.send(upgrade_request()[:sent])
        other.upgrade().echo()
        server.process.terminate()
        other.expect_close(1001)  # So it is stopping.
        peer.send(upgrade_request()[sent:])
        response = peer.receive_response()
        assert response.status in (101, 503)
        if response.status == 101:
            peer.expect_close(1001)
        else:
            assert response.headers["connection"].lower() == "close"
    assert server.wait() == 0
