"""Starting where something is forbidden: an error that names the cure, and no claim to serve."""

import ctypes
import struct
import subprocess

import pytest
from server import START_S, binary

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x0005_0000, 0x7FFF_0000
# The same on all architectures.
IO_URING_CALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
EPERM = 1


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


def forbid(*numbers):
    """Installs a filter, in a process that is about to start, under which these calls fail (seccomp(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = [(0x20, 0, 0, 0)]  # Loads the number of the call.
    for number in numbers:
        steps += [(0x15, 0, 1, number), (0x06, 0, 0, SECCOMP_RET_ERRNO | EPERM)]
    steps.append((0x06, 0, 0, SECCOMP_RET_ALLOW))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(len(steps), ctypes.addressof(program))), 0, 0)


def run_under_filter(numbers, *arguments):
    return subprocess.run(
        [binary(), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=START_S, preexec_fn=lambda: forbid(*numbers),
    )


@pytest.mark.parametrize("calls", [*([name] for name in IO_URING_CALLS), list(IO_URING_CALLS)], ids="+".join)
@pytest.mark.parametrize("flags", [[], ["--dedicated"]], ids=["hosted", "dedicated"])
def test_a_server_whose_filter_forbids_io_uring_says_so_and_does_not_listen(calls, flags):
    numbers = [IO_URING_CALLS[name] for name in calls]
    ended = run_under_filter(numbers, "echo", "--listen", "127.0.0.1:0", "--workers", "1", *flags)
    assert ended.returncode == 1 and ended.stdout == "", ended
    assert "io_uring is disabled" in ended.stderr and "seccomp" in ended.stderr, ended.stderr


@pytest.mark.parametrize("call", IO_URING_CALLS)
def test_a_client_whose_filter_forbids_io_uring_says_so(server, call):
    ended = run_under_filter([IO_URING_CALLS[call]], "connect", server.url)
    assert ended.returncode == 1, ended
    assert "io_uring is disabled" in ended.stderr and "seccomp" in ended.stderr, ended.stderr
