"""The command line of `picows echo`, its signals and its exit codes."""

import json
import re
import signal
import socket
import time

import pytest
from echo_server import EchoServer, run_to_end
from server import Endpoint
from wire import BINARY, CLOSE, Frame, Peer, close_payload, encode, eventually


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--listen", "nonsense"),
        ("--listen", "127.0.0.1:70000"),
        ("--listen", "127.0.0.1"),
        ("--workers", "0"),
        ("--workers", "many"),
        ("--driver", "kqueue"),
        ("--max-frame-size", "bigger"),
        ("--max-frame-size", "12parsecs"),
        ("--max-queue", "short"),
        ("--queue-policy", "drop-all"),
        ("--max-connections", "lots"),
        ("--max-per-address", "0"),
        ("--max-handshakes", "few"),
        ("--memory-limit", "little"),
        ("--message-timeout", "late"),
        ("--write-stall-timeout", "later"),
        ("--drain-spread", "wide"),
        ("--slow-callback", "slow"),
        ("--handshake-timeout", "soon"),
        ("--busy-poll", "never"),
        ("--handshake-timeout", "5parsecs"),
        ("--drain-timeout", "later"),
        ("--stats", "often"),
        ("--no-such-flag", "x"),
    ],
)
def test_a_bad_value_is_named(flag, value):
    done = run_to_end("echo", flag, value)
    assert done.returncode == 2
    assert (value if flag != "--no-such-flag" else flag) in done.stderr
    assert done.stdout == ""


def test_help_names_every_flag():
    done = run_to_end("echo", "--help")
    assert done.returncode == 0
    for flag in (
        "--listen",
        "--workers",
        "--driver",
        "--pin",
        "--max-frame-size",
        "--max-connections",
        "--max-queue",
        "--queue-policy",
        "--max-per-address",
        "--max-handshakes",
        "--memory-limit",
        "--message-timeout",
        "--write-stall-timeout",
        "--drain-spread",
        "--slow-callback",
        "--stats-json",
        "--handshake-timeout",
        "--drain-timeout",
        "--busy-poll",
        "--dedicated",
        "--stats",
    ):
        assert flag in done.stdout
    assert "127.0.0.1:9001" in done.stdout, "the default address"


def test_version():
    done = run_to_end("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"picows \d+\.\d+\.\d+\S*\n", done.stdout)


def test_no_command_is_a_usage_error():
    assert run_to_end().returncode == 2


def test_a_port_in_use_is_an_error_with_a_cure():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:{}".format(taken.getsockname()[1])
        done = run_to_end("echo", "--listen", address)
    assert done.returncode == 1
    assert done.stdout == ""
    assert address in done.stderr
    assert re.search(r"in use", done.stderr, re.IGNORECASE)
    assert re.search(r"--listen|another|different|port 0|:0\b|stop", done.stderr, re.IGNORECASE), "no cure named"


def test_an_address_of_another_machine_is_an_error():
    done = run_to_end("echo", "--listen", "192.0.2.1:0")  # TEST-NET-1: nobody's.
    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr


def test_a_unix_path_that_cannot_be_made_is_an_error(tmp_path):
    path = tmp_path / "no" / "such" / "folder.sock"
    done = run_to_end("echo", "--listen", f"unix:{path}")
    assert done.returncode == 1
    assert str(path) in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("clients", [0, 5])
def test_a_signal_ends_it_with_close_1001_and_a_summary(start_server, number, clients):
    server = start_server()
    peers = [Peer(server.endpoint).upgrade() for _ in range(clients)]
    try:
        for peer in peers:
            peer.echo()
        said_before = len(server.stderr_lines)
        server.signal(number)
        for peer in peers:
            peer.expect_close(1001)
            peer.send_to_a_server_that_may_have_hung_up([encode(CLOSE, close_payload(1001))])
            peer.expect_end()
        assert server.wait() == 0, server.stderr
    finally:
        for peer in peers:
            peer.sock.close()
    summary = "\n".join(server.stderr_lines[said_before:])
    assert re.search(r"\d", summary) and "connections" in summary, f"no summary in {summary!r}"
    assert len(server.stdout_lines) == 1


def test_a_client_that_ignores_the_close_does_not_keep_it_from_ending(start_server):
    server = start_server()
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        peer.expect_close(1001)


def test_the_drain_timeout_bounds_the_wait_for_clients(start_server):
    """With a timeout longer than the test's patience it waits for the answer, and no longer."""
    server = start_server("--drain-timeout", "1h")
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        server.signal(signal.SIGTERM)
        peer.expect_close(1001)
        assert server.is_running(), "the client has not answered yet"
        peer.send_frame(CLOSE, close_payload(1001))
        peer.expect_end()
    assert server.wait() == 0


def test_the_drain_is_spread_and_whoever_waits_is_served(start_server):
    server = start_server("--drain-timeout", "1h", "--drain-spread", "1s", workers=1)
    peers = [Peer(server.endpoint).upgrade() for _ in range(10)]
    try:
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        peers[0].expect_close(1001)
        assert server.is_running()
        waits = []
        for peer in peers[1:]:
            peer.expect_close(1001)
            waits.append(time.monotonic() - start)
        assert waits == sorted(waits)
        assert waits[-1] >= 0.8, f"the last was told after {waits[-1]} s"
    finally:
        for peer in peers:
            peer.sock.close()
    assert server.wait() == 0


def test_a_second_signal_ends_it_at_once(start_server):
    server = start_server("--drain-timeout", "1h", "--drain-spread", "30m", workers=1)
    with Peer(server.endpoint) as peer, Peer(server.endpoint) as other:
        peer.upgrade()
        other.upgrade()
        server.signal(signal.SIGTERM)
        peer.expect_close(1001)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_spread_longer_than_the_drain_allows_is_an_error():
    done = run_to_end("echo", "--listen", "127.0.0.1:0", "--drain-spread", "5s")
    assert done.returncode == 2
    assert "--drain-spread: 5s is more than half of the drain timeout of 5s" in done.stderr


def test_an_unfinished_handshake_does_not_keep_it_from_ending(start_server):
    server = start_server()
    with Peer(server.endpoint) as peer, Peer(server.endpoint) as other:
        peer.send(b"GET / HTTP/1.1\r\n")
        other.upgrade().echo()
        server.signal(signal.SIGINT)
        assert server.wait() == 0


def test_ipv6(start_server):
    if not has_ipv6():
        pytest.skip("this machine has no [::1]")
    server = start_server(listen=["[::1]:0"])
    assert server.url.startswith("ws://[::1]:")
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()


def test_several_addresses(start_server, socket_path):
    server = start_server(listen=["127.0.0.1:0", f"unix:{socket_path}", "127.0.0.1:0"])
    families = [endpoint.family for endpoint in server.endpoints]
    assert families == [socket.AF_INET, socket.AF_UNIX, socket.AF_INET]
    assert server.endpoints[1] == Endpoint(socket.AF_UNIX, str(socket_path))
    assert len(set(server.endpoints)) == 3
    for endpoint in server.endpoints:
        with Peer(endpoint) as peer:
            peer.upgrade().echo(b"x" * 100_000, BINARY)


def test_a_unix_socket_left_behind_does_not_keep_it_from_starting(start_server, socket_path):
    first = EchoServer(listen=[f"unix:{socket_path}"])
    first.kill()
    with Peer(start_server(listen=[f"unix:{socket_path}"]).endpoint) as peer:
        peer.upgrade().echo()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers(start_server, workers):
    server = start_server("--pin", workers=workers)
    for _ in range(20):
        with Peer(server.endpoint) as peer:
            peer.upgrade().echo()


def test_stats_are_printed_on_standard_error(start_server):
    server = start_server("--stats", 1)
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        for number in range(10):
            peer.send_frame(BINARY, bytes([number]))
            assert peer.receive() == Frame(BINARY, bytes([number]))
        eventually(
            lambda: any("connections" in line and "frames" in line for line in server.stderr_lines),
            lambda: f"counters on standard error, not {server.stderr}",
        )


def test_stats_without_an_interval_are_printed_every_second(start_server):
    server = start_server("--stats")
    eventually(
        lambda: any("frames/s" in line for line in server.stderr_lines),
        lambda: f"counters on standard error, not {server.stderr}",
    )


def test_stats_as_json_have_every_counter_and_every_worker(start_server):
    server = start_server("--stats-json", "--stats", "100ms", "--max-per-address", 1, workers=2)
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()
        with Peer(server.endpoint) as refused:
            assert refused.receive_response().status == 503
        eventually(
            lambda: server.stdout_lines[1:] and json.loads(server.stdout_lines[-1])["refused_by_address"] == 1,
            lambda: f"the refusal is told, not {server.stdout_lines[-1]}",
        )
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    last = json.loads(server.stdout_lines[-1])
    assert (last["accepted"], last["refused"], last["connections"], last["frames_received"]) == (2, 1, 0, 1)
    assert [worker["state"] for worker in last["workers"]] == ["ended", "ended"]
    for name in ("accepted", "frames_sent", "bytes_received", "refused"):
        assert sum(worker[name] for worker in last["workers"]) == last[name]
    assert last["longest_turn_micros"] == max(worker["longest_turn_micros"] for worker in last["workers"])
    assert "refused by address 1" in server.stderr_lines[-1]


def test_logs_follow_rust_log(start_server):
    server = start_server(log="off")
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        peer.send_frame(3)
        peer.expect_close(1002)
        peer.expect_end()
    assert not [line for line in server.stderr_lines if "WARN" in line or "INFO" in line]


def test_a_protocol_error_is_logged_as_a_warning(start_server):
    server = start_server(log="warn")
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        peer.send_frame(3)
        peer.expect_close(1002)
        peer.expect_end()
    eventually(lambda: "WARN" in server.stderr, lambda: f"a warning on standard error, not {server.stderr!r}")
