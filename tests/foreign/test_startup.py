"""Starting where io_uring is forbidden: an error that names the cure, or service on epoll.

Under seccomp filters that let calls of io_uring fail, as Docker's default profile does, and one that
ends the process for them (`seccomp.py`).
"""

import contextlib
import http.client
import json
import subprocess

import pytest
from forbid import EOPNOTSUPP, IO_URING_CALLS, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS
from seccomp import locking_at_most, under
from server import START_S, Server, binary
from wire import BINARY, TEXT, Peer

pytestmark = pytest.mark.driver_named

WARNING = "io_uring cannot be used"

each_call_and_all = pytest.mark.parametrize(
    "calls", [*([name] for name in IO_URING_CALLS), list(IO_URING_CALLS)], ids="+".join
)
hosted_and_dedicated = pytest.mark.parametrize("flags", [[], ["--dedicated"]], ids=["hosted", "dedicated"])


def run(*arguments, **how):
    return subprocess.run(
        [binary(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_S, **how
    )


@contextlib.contextmanager
def echo(*flags, workers=2, **how):
    """A running server of this many workers, which ends well."""
    command = [binary(), "echo", "--listen", "127.0.0.1:0", "--workers", str(workers), *flags]
    server = Server(command, name="picows echo", **how)
    try:
        yield server
        server.check_running()
        server.process.terminate()
        assert server.wait() == 0, server.stderr
    finally:
        server.kill()


def talk(server, connections=8):
    """Echoes on several connections, so that each worker is likely to serve one."""
    with contextlib.ExitStack() as ending:
        peers = [ending.enter_context(Peer(server.endpoint)).upgrade() for _ in range(connections)]
        for peer in peers:
            peer.echo(b"text", TEXT)
            peer.echo(bytes(100_000), BINARY)


def health(server):
    # Whatever proxies the environment names.
    with contextlib.closing(http.client.HTTPConnection(server.endpoint.authority, timeout=START_S)) as asking:
        asking.request("GET", "/healthz")
        return asking.getresponse().read().decode()


@pytest.mark.parametrize("driver", ["io-uring", "epoll"])
@hosted_and_dedicated
def test_health_names_the_driver(driver, flags):
    with echo("--driver", driver, *flags) as server:
        assert health(server) == f"ok\ndriver: {driver}\n"


def warnings_of(text):
    return [line for line in text.splitlines() if WARNING in line]


@each_call_and_all
@hosted_and_dedicated
def test_a_server_that_insists_on_io_uring_says_why_not_and_does_not_listen(calls, flags):
    ended = run("echo", "--listen", "127.0.0.1:0", "--workers", "1", "--driver", "io-uring", *flags, **under(calls))
    assert ended.returncode == 1 and ended.stdout == "", ended
    assert "io_uring is disabled" in ended.stderr and "seccomp filter forbids it" in ended.stderr, ended.stderr
    assert not warnings_of(ended.stderr), ended.stderr


@pytest.mark.parametrize("call", IO_URING_CALLS)
@pytest.mark.parametrize("command", ["connect", "load", "rtt"])
def test_a_client_that_insists_on_io_uring_says_why_not(server, command, call):
    ended = run(command, "--driver", "io-uring", server.url, **under([call]))
    assert ended.returncode == 1, ended
    assert "io_uring is disabled" in ended.stderr and "seccomp" in ended.stderr, ended.stderr


@each_call_and_all
@hosted_and_dedicated
def test_a_server_without_io_uring_serves_on_epoll_with_one_warning(calls, flags):
    with echo(*flags, "--stats-json", "--stats", "50ms", **under(calls)) as server:
        talk(server)
        assert health(server) == "ok\ndriver: epoll\n"
    assert len(warnings_of(server.stderr)) == 1, server.stderr
    assert "seccomp" in server.stderr and "--driver epoll" in server.stderr, "cause and cure"
    last = json.loads(server.stdout_lines[-1])
    assert [last["driver"], *(worker["driver"] for worker in last["workers"])] == ["epoll"] * 3


@pytest.mark.parametrize("command", [["rtt", "-d", "200ms"], ["load", "-c", "4", "--threads", "2", "-d", "200ms"]])
@each_call_and_all
def test_a_client_without_io_uring_uses_epoll_with_one_warning(server, command, calls):
    ended = run(*command, "--warmup", "0", server.url, **under(calls))
    assert ended.returncode == 0, ended
    assert len(warnings_of(ended.stderr)) == 1, ended.stderr


@hosted_and_dedicated
def test_on_epoll_no_call_of_io_uring_is_made(flags):
    """The filter ends a process that makes one, be it for the loop that hosts a worker."""
    deadly = under(IO_URING_CALLS, SECCOMP_RET_KILL_PROCESS)
    with echo("--driver", "epoll", *flags, **deadly) as server:
        talk(server)
        for command in (["connect"], ["rtt", "-d", "200ms"], ["load", "-c", "4", "--threads", "2", "-d", "200ms"]):
            ended = run(*command, *flags, "--driver", "epoll", server.url, **deadly)
            assert ended.returncode == 0, ended
            assert not warnings_of(ended.stderr), ended.stderr
    assert not warnings_of(server.stderr), server.stderr


def test_the_variable_asks_for_epoll_as_the_flag_does():
    deadly = under(IO_URING_CALLS, SECCOMP_RET_KILL_PROCESS)
    deadly["env"]["PICOWS_DRIVER"] = "epoll"
    with echo(**deadly) as server:
        talk(server)
        assert run("connect", server.url, **deadly).returncode == 0


def test_the_filter_that_ends_processes_does():
    ended = run("echo", "--listen", "127.0.0.1:0", "--driver", "io-uring", **under(IO_URING_CALLS, SECCOMP_RET_KILL_PROCESS))
    assert ended.returncode < 0 and ended.stdout == "", ended


def test_a_filter_that_calls_io_uring_unsupported_leads_to_epoll_as_well():
    unsupported = under(["io_uring_setup"], SECCOMP_RET_ERRNO | EOPNOTSUPP)
    with echo(**unsupported) as server:
        talk(server, connections=1)
    assert len(warnings_of(server.stderr)) == 1, server.stderr
    ended = run("echo", "--listen", "127.0.0.1:0", "--driver", "io-uring", **unsupported)
    assert ended.returncode == 1 and ended.stdout == "", ended
    assert "seccomp filter forbids it" in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    "kib, cause",
    [(64, "the limit of this user is 64 KiB"), (1024, "there was enough for")],
    ids=["none fits", "some fit"],
)
def test_too_little_locked_memory_is_found_before_anything_listens(kib, cause):
    ended = run("echo", "--listen", "127.0.0.1:0", "--workers", "64", **locking_at_most(kib * 1024))
    assert ended.returncode == 1 and ended.stdout == "", ended
    assert cause in ended.stderr and "about 220 KiB" in ended.stderr, ended.stderr
    assert f"{kib} KiB" in ended.stderr and "ulimit -l" in ended.stderr, ended.stderr
    # It is no reason for another driver, let alone for a mixture of them.
    assert not warnings_of(ended.stderr), ended.stderr


def test_with_epoll_no_memory_is_locked():
    with echo("--driver", "epoll", **locking_at_most(0)) as server:
        talk(server, connections=1)


def test_a_version_of_the_kernel_denies_nothing_that_works():
    """What uname(2) returns is not looked at: distributions backport."""
    ended = subprocess.run(
        ["setarch", "--uname-2.6", binary(), "doctor", "--json", "--driver", "io-uring"],
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert ended.returncode == 0, ended
