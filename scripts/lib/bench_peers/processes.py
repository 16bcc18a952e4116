"""Servers and programs: bound to a core, and ended whatever happens."""

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time
from typing import NamedTuple

CORE_SERVER, CORE_LOAD = 0, 1
START_S, STOP_S = 15, 5


class Failure(Exception):
    """What went wrong, for whoever called."""


def check_machine():
    missing = {CORE_SERVER, CORE_LOAD} - os.sched_getaffinity(0)
    if missing:
        raise Failure(f"core {min(missing)} cannot be used: server and load need one each")


def pinned(core, argv):
    return ["taskset", "--cpu-list", str(core), *map(str, argv)]


class Server(NamedTuple):
    process: subprocess.Popen
    address: str
    errors: object

    @property
    def pid(self):
        return self.process.pid


def start(name, argv, cwd=None):
    """Starts a server on its core, and waits until it says where it listens."""
    errors = tempfile.TemporaryFile()
    # taskset replaces itself by the server, so the process id is the server's. A session of its
    # own keeps Ctrl-C from it: we end it.
    process = subprocess.Popen(
        pinned(CORE_SERVER, argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        start_new_session=True, cwd=cwd,
    )
    try:
        return Server(process, read_address(name, process, errors), errors)
    except BaseException:
        stop(Server(process, "", errors))
        raise


def read_address(name, process, errors):
    deadline = time.monotonic() + START_S
    text = b""
    while b"\n" not in text:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        part = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not part:
            raise Failure(f"{name} does not start: {shlex.join(process.args)}: {last_words(errors)}")
        text += part
    match = re.search(rb"listening on ws://([0-9.]+:[0-9]+)", text)
    if not match:
        raise Failure(f"{name} does not say where it listens: {text!r}")
    return match[1].decode()


def last_words(errors):
    errors.seek(0)
    return errors.read().decode(errors="replace").strip()[-300:] or "no word on standard error"


def stop(server):
    process = server.process
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    server.errors.close()


class Fleet:
    """Servers by name, started when first asked for and kept until told otherwise."""

    def __init__(self):
        self.servers = {}

    def get(self, name, argv):
        key = (name, *map(str, argv))
        server = self.servers.get(key)
        if server and server.process.poll() is not None:
            words = last_words(server.errors)
            self.stop(key)
            raise Failure(f"{name} ended by itself with {server.process.returncode}: {words}")
        if not server:
            server = self.servers[key] = start(name, argv)
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
            with contextlib.suppress(ProcessLookupError):
                server.process.terminate()
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
