"""Servers and programs: bound to a core, and ended whatever happens."""

import contextlib
import os
import shlex
import signal
import subprocess

from server import Failure, Server

CORE_SERVER, CORE_LOAD = 0, 1
# Of a server with several workers, beside the load.
CORES_ALL = "0,1"
START_S, STOP_S = 15, 5


def check_machine():
    missing = {CORE_SERVER, CORE_LOAD} - os.sched_getaffinity(0)
    if missing:
        raise Failure(f"core {min(missing)} cannot be used: server and load need one each")


def pinned(core, argv):
    return ["taskset", "--cpu-list", str(core), *map(str, argv)]


def start(name, argv, cwd=None, cores=CORE_SERVER):
    """Starts a server on its core, or its cores, and waits until it listens."""
    # taskset replaces itself by the server, so the process id is the server's. A session of its
    # own keeps Ctrl-C from it: we end it.
    return Server(pinned(cores, argv), name=name, start_s=START_S, start_new_session=True, cwd=cwd)


def stop(server):
    server.stop(STOP_S)


class Fleet:
    """Servers by name, started when first asked for and kept until told otherwise."""

    def __init__(self):
        self.servers = {}

    def get(self, name, argv, cores=CORE_SERVER):
        key = (name, *map(str, argv))
        server = self.servers.get(key)
        if server and not server.is_running():
            del self.servers[key]
            server.check_running()
        if not server:
            server = self.servers[key] = start(name, argv, cores=cores)
        return server

    def discard(self, server):
        """Ends one that misbehaved: the next to ask gets a new one."""
        for key, known in list(self.servers.items()):
            if known is server:
                self.stop(key)

    def stop(self, key):
        stop(self.servers.pop(key))

    def stop_all(self):
        for server in self.servers.values():
            server.signal(signal.SIGTERM)
        for key in list(self.servers):
            self.stop(key)


def run_load(argv, timeout_s, is_ok=lambda status: status == 0):
    """Runs a program on the core of the load, and gives what it printed."""
    process = subprocess.Popen(
        pinned(CORE_LOAD, argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failure(f"no end after {timeout_s:.0f} s: {shlex.join(map(str, argv))}") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not is_ok(process.returncode):
        raise Failure(f"{os.path.basename(str(argv[0]))}: {errors.strip()[-400:] or process.returncode}")
    return out
