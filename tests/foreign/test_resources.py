"""Costs of a hostile crowd to the server: descriptors, memory, and the other clients' service."""

import select
import socket
import time
from pathlib import Path

import pytest
from crowd import Crowd
from wire import BINARY, PING, PONG, TEXT, TIMEOUT_S, Frame, Peer, encode, eventually, upgrade_request

MIB = 1 << 20


def settled_descriptors(server):
    """Open descriptors of a server that has served and is idle."""
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()
    seen = [server.descriptors()]

    def steady():
        seen.append(server.descriptors())
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    eventually(steady, "the number of open descriptors settles")
    return seen[-1]


def expect_descriptors(server, base):
    eventually(
        lambda: server.descriptors() <= base,
        lambda: f"open descriptors back to {base}, there are {server.descriptors()}",
    )


def test_2000_quick_connections_leave_no_descriptor(start_server):
    server = start_server(log="warn")
    base = settled_descriptors(server)
    for number in range(2000):
        with Peer(server.endpoint) as peer:
            way = number % 5
            if way == 1:
                peer.send(upgrade_request()[:50])
            elif way == 2:
                peer.upgrade()
            elif way == 3:
                peer.upgrade().echo()
            elif way == 4:
                peer.send(upgrade_request())
                peer.reset()
    expect_descriptors(server, base)
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()


def test_resets_in_the_middle_of_everything_leave_the_server_serving(start_server):
    server = start_server()
    base = settled_descriptors(server)
    with Peer(server.endpoint) as witness:
        witness.upgrade()
        stream = upgrade_request() + encode(BINARY, b"x" * 70000)
        request_bytes = len(upgrade_request())
        cuts = (1, 20, request_bytes, request_bytes + 1, request_bytes + 7, request_bytes + 40, len(stream) - 1)
        for cut in cuts * 8:
            peer = Peer(server.endpoint)
            peer.send_to_a_server_that_may_have_hung_up([stream[:cut]])
            peer.reset()
            witness.echo()
        for _ in range(8):
            peer = Peer(server.endpoint)
            peer.upgrade()
            peer.send(encode(BINARY, b"x" * 300_000)[:200_000])
            peer.reset()
            witness.echo()
    expect_descriptors(server, base)


def test_a_claim_of_2_to_the_62_bytes_costs_nothing(start_server):
    server = start_server()
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()
    before = server.resident_bytes()
    for _ in range(20):
        with Peer(server.endpoint) as peer:
            peer.upgrade()
            peer.send_frame(BINARY, b"", length_form=64, claim=1 << 62)
            peer.expect_close(1009)
            peer.expect_end()
    grown = server.resident_bytes() - before
    assert grown < 8 * MIB, f"grown by {grown} bytes"


def test_memory_grows_with_bytes_received_and_not_with_claims(start_server):
    """100 clients claim 10 MiB each, which is allowed, and send a few bytes of it."""
    server = start_server()
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo(b"x" * 100_000, BINARY)
    before, before_virtual = server.resident_bytes(), server.virtual_bytes()
    peers = [Peer(server.endpoint) for _ in range(100)]
    try:
        for peer in peers:
            peer.upgrade()
            # The echo says that the server has come as far as the claim that leaves with it.
            peer.send(encode(TEXT, b"here") + encode(BINARY, b"first bytes", claim=10 * MIB))
        for peer in peers:
            assert peer.receive() == Frame(TEXT, b"here")
        for peer in peers:
            peer.send(b"a few more")
        with Peer(server.endpoint) as witness:
            witness.upgrade().echo()
        grown = server.resident_bytes() - before
        grown_virtual = server.virtual_bytes() - before_virtual
        assert grown < 32 * MIB, f"resident memory grown by {grown} bytes"
        assert grown_virtual < 512 * MIB, f"address space grown by {grown_virtual} bytes for claims"
    finally:
        for peer in peers:
            peer.sock.close()


def test_memory_of_large_frames_is_given_back(start_server):
    """An idle connection owns no buffer: 20 of them that have echoed 8 MiB cost little."""
    server = start_server()
    before = server.resident_bytes()
    peers = [Peer(server.endpoint) for _ in range(20)]
    try:
        payload = b"x" * (8 * MIB)
        data = encode(BINARY, payload)
        for peer in peers:
            peer.upgrade()
            send_while_reading(peer, data, len(payload) + 10)
        eventually(
            lambda: server.resident_bytes() - before < 80 * MIB,
            lambda: f"memory goes back, it has grown by {(server.resident_bytes() - before) // MIB} MiB",
        )
    finally:
        for peer in peers:
            peer.sock.close()


def send_while_reading(peer, data, answer_bytes):
    """Sends `data` and takes `answer_bytes` off the socket, whichever is possible first."""
    view, received = memoryview(data), 0
    peer.sock.setblocking(False)
    deadline = time.monotonic() + 2 * TIMEOUT_S
    while received < answer_bytes:
        writers = [peer.sock] if view else []
        readable, writable, _ = select.select([peer.sock], writers, [], max(0, deadline - time.monotonic()))
        assert readable or writable, f"{received} of {answer_bytes} bytes came back"
        if readable:
            chunk = peer.sock.recv(MIB)
            assert chunk, f"ended after {received} of {answer_bytes} bytes"
            received += len(chunk)
        if writable:
            view = view[peer.sock.send(view[:MIB]) :]
    peer.sock.setblocking(True)
    assert received == answer_bytes


def test_a_client_that_never_reads_is_bounded(start_server):
    """It is paused or closed; what is queued for it stays under its limit (64 MiB by default)."""
    server = start_server(workers=1)
    with Peer(server.endpoint) as witness, Peer(server.endpoint) as loud:
        witness.upgrade().echo()
        before = server.resident_bytes()
        loud.upgrade()
        frame = encode(BINARY, b"x" * MIB)
        loud.sock.setblocking(False)
        sent, stalled = 0, False
        while sent < 300 * MIB and not stalled:
            _, writable, _ = select.select([], [loud.sock], [], 1.0)
            if not writable:
                stalled = True  # The server no longer reads.
                break
            try:
                sent += loud.sock.send(frame[sent % len(frame) :])
            except (BrokenPipeError, ConnectionResetError):
                stalled = True  # The server hung up.
        assert stalled, f"the server took {sent} bytes from a client that reads none"
        grown = server.resident_bytes() - before
        assert grown < 200 * MIB, f"grown by {grown // MIB} MiB"
        witness.echo()


def largest_send_buffer_bytes():
    """What a socket may hold at the most that its peer has no room for."""
    return int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest"])
def test_a_client_that_reads_too_late_meets_the_policy(start_server, policy):
    server = start_server("--max-queue", "300KiB", "--queue-policy", policy, workers=1)
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        # Sockets grow with what is sent, up to a limit of the system, unless a size was set: more than
        # both sides hold.
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        count = 200 + largest_send_buffer_bytes() // 100_000
        sent = [encode(BINARY, number.to_bytes(4, "big") + bytes(100_000)) for number in range(count)]
        for part in [*sent, encode(PING, b"the end")]:
            peer.send(part)
        numbers, others = [], []
        # Control frames are not dropped, and pass data that has to wait; nor is the newest under
        # drop-oldest.
        while not others or (policy == "drop-oldest" and numbers[-1:] != [count - 1]):
            frame = peer.receive()
            if frame.opcode == BINARY:
                assert len(frame.payload) == 100_004
                numbers.append(int.from_bytes(frame.payload[:4], "big"))
            else:
                others.append(frame)
    assert others == [Frame(PONG, b"the end")]
    # In order, none twice, and some missing: the queue holds less than the client sent.
    assert numbers == sorted(set(numbers)) and len(numbers) < count
    if policy == "drop-newest":
        # What was there first is kept. Under drop-oldest even the first may give way, if the
        # others arrive before any send has left.
        assert numbers[0] == 0


def test_one_loud_client_does_not_starve_another(start_server):
    server = start_server(workers=1)
    with Peer(server.endpoint) as quiet, Peer(server.endpoint) as loud:
        quiet.upgrade()
        loud.upgrade()
        burst = encode(BINARY, b"x" * 200) * 5000
        answer_bytes = 5000 * 204
        for _ in range(5):
            loud.sock.setblocking(True)
            send_while_reading(loud, burst, answer_bytes)
            quiet.echo()


def test_1000_clients_of_a_server_with_256_descriptors_are_all_served(start_server):
    """Accepting pauses when there is no descriptor, and goes on when somebody leaves."""
    server = start_server("--handshake-timeout", "60s", log="error", descriptors_max=256)
    crowd = Crowd(server, 1000)
    try:
        eventually(lambda: crowd.serve(0.2) or len(crowd.served) > 100, lambda: f"{len(crowd.served)} are served")
        assert len(crowd.served) < 256, "it opens more descriptors than it has"
        deadline = time.monotonic() + 4 * TIMEOUT_S
        while crowd.visitors:
            assert time.monotonic() < deadline, f"{len(crowd.visitors)} wait for ever"
            crowd.leave()
            crowd.serve(0.5)
    finally:
        crowd.close()


def test_pings_without_end_are_answered_in_order_and_others_are_served(start_server):
    server = start_server(workers=1)
    with Peer(server.endpoint) as witness, Peer(server.endpoint) as loud:
        witness.upgrade()
        loud.upgrade()
        for batch in range(50):
            texts = [f"{batch} {number}".encode() for number in range(200)]
            loud.send(b"".join(encode(PING, text) for text in texts))
            witness.echo()
            for text in texts:
                assert loud.receive() == Frame(PONG, text)


def test_pings_whose_pongs_are_not_read_cost_bounded_memory(start_server):
    server = start_server(workers=1)
    with Peer(server.endpoint) as witness, Peer(server.endpoint) as loud:
        witness.upgrade().echo()
        before = server.resident_bytes()
        loud.upgrade()
        batch = encode(PING, bytes(125)) * 5000
        # Of the pings whose answers have to wait, the last is answered (RFC 6455 §5.5.3).
        for _ in range(100 * MIB // len(batch)):
            loud.send(batch)
        grown = server.resident_bytes() - before
        assert grown < 16 * MIB, f"grown by {grown // MIB} MiB"
        witness.echo()


@pytest.mark.parametrize("held", [0, 30])
def test_many_idle_connections_beside_a_working_one(start_server, held):
    """A few hundred connections, some of them stuck in their handshake."""
    server = start_server()
    base = settled_descriptors(server)
    peers = []
    try:
        for _ in range(held):
            stuck = Peer(server.endpoint)
            stuck.send(b"GET / HTTP/1.1\r\n")
            peers.append(stuck)
        for _ in range(300):
            peers.append(Peer(server.endpoint).upgrade())
        for peer in peers[held:]:
            peer.echo()
    finally:
        for peer in peers:
            peer.sock.close()
    expect_descriptors(server, base)
