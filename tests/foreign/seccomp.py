"""Processes under a seccomp filter (seccomp(2)), or with less locked memory.

Both are set in the process that is about to become `picows`.
"""

import ctypes
import resource

from echo_server import environment
from forbid import EPERM, SECCOMP_RET_ERRNO, install

PR_CAPBSET_DROP, CAP_IPC_LOCK = 24, 14


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
