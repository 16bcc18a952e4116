#!/usr/bin/env python3
"""Runs a command under a seccomp filter (seccomp(2)) that forbids calls, as container engines do.

Usage: scripts/lib/forbid.py CALL... -- COMMAND [ARGUMENT...]

The calls fail with EPERM. PICOWS_DRIVER is not passed on: the command is to find out by itself.
"""

import ctypes
import os
import platform
import resource
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
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


def main():
    separator = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    calls, command = sys.argv[1:separator], sys.argv[separator + 1 :]
    if not calls or not command or set(calls) - set(NUMBERS):
        sys.exit(f"forbid.py: CALL... -- COMMAND..., with calls of {', '.join(NUMBERS)}")
    os.environ.pop("PICOWS_DRIVER", None)
    install(calls, SECCOMP_RET_ERRNO | EPERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
