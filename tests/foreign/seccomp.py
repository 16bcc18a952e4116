"""Processes under a seccomp filter (seccomp(2)), or with less locked memory.

Both are set in the process that is about to become `picows`.
"""

import ctypes
import platform
import resource
import struct

from echo_server import environment

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
PR_CAPBSET_DROP, CAP_IPC_LOCK = 24, 14
SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD = 0x8000_0000, 0
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x0005_0000, 0x7FFF_0000
# The same on all architectures.
IO_URING_CALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
EPERM, EOPNOTSUPP = 1, 95
SOCKET_CALLS = {"bind": 49, "listen": 50} if platform.machine() == "x86_64" else {"bind": 200, "listen": 201}
NUMBERS = {**IO_URING_CALLS, **SOCKET_CALLS}


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]


def install(calls, action):
    """Installs a filter with this action for these calls (`NUMBERS`), in a process that is about to start."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = [(0x20, 0, 0, 0)]  # Loads the number of the call.
    for name in calls:
        steps += [(0x15, 0, 1, NUMBERS[name]), (0x06, 0, 0, action)]
    steps.append((0x06, 0, 0, SECCOMP_RET_ALLOW))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    # Without a core dump of a process that the filter ends.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    filter_program = Program(len(steps), ctypes.addressof(program))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the filter cannot be installed")


def under(calls, action=SECCOMP_RET_ERRNO | EPERM):
    """Arguments of Popen for a process under a filter, whatever driver this test run is for."""
    own = environment("warn,picows_uring::worker::watchdog=off")
    own.pop("PICOWS_DRIVER", None)
    return {"preexec_fn": lambda: install(calls, action), "env": own}


def locking_at_most(bytes_max):
    """Arguments of Popen for a process that may lock so much memory, as one of a user without rights."""

    def limit():
        libc = ctypes.CDLL(None, use_errno=True)
        # What the bounding set lacks, a program of root does not get.
        if libc.prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0):
            error = ctypes.get_errno()
            if error != EPERM:
                raise OSError(error, "the capability cannot be dropped")
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (bytes_max, bytes_max))

    own = environment("warn,picows_uring::worker::watchdog=off")
    own.pop("PICOWS_DRIVER", None)
    return {"preexec_fn": limit, "env": own}
