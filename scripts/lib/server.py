#!/usr/bin/env python3
"""Servers under test: start, addresses, output, memory, processor time, end.

A server prints `listening on ws://HOST:PORT`, `wss://HOST:PORT` or `ws+unix:PATH` for each of its addresses.
The core it runs on, its load, and what counts as a good end are left to the caller.

Shell scripts run this file in the background, by way of scripts/lib/foreign.sh: it prints the URL of
the server, ends it on SIGTERM or at the end of standard input, and returns its status.
"""

import argparse
import contextlib
import os
import queue
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 30.0
# Longer than the close timeout (5 s) that open connections are granted.
STOP_S = 20.0
# Of its output, in an error.
LAST_LINES = 30

LISTENING = re.compile(
    r"\blistening on (?:(?P<scheme>wss?)://(?P<host>\[[^\]]+\]|[^:/]+):(?P<port>\d+)/?|ws\+unix:(?P<path>.+))$"
)


class Failure(Exception):
    """A cause and, where there is one, its cure."""


def binary(profiles=("release", "debug")):
    """The path of `picows`: PICOWS_BIN, or what was built last of the first profile that was built."""
    named = os.environ.get("PICOWS_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    candidates = [Path(named)] if named else [target / profile / "picows" for profile in profiles]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    raise Failure(
        f"no picows at {' or '.join(map(str, candidates))}: "
        "run `cargo build --release -p picows-cli`, or set PICOWS_BIN"
    )


class Endpoint(NamedTuple):
    """One address that a server listens on."""

    family: int
    address: object
    # `ws`, or `wss` over TLS.
    scheme: str = "ws"

    @property
    def authority(self):
        """`HOST:PORT`, as in a URL."""
        host, port = self.address[:2]
        return f"[{host}]:{port}" if self.family == socket.AF_INET6 else f"{host}:{port}"

    @property
    def url(self):
        return f"ws+unix:{self.address}" if self.family == socket.AF_UNIX else f"{self.scheme}://{self.authority}/"

    @property
    def http(self):
        return f"{self.scheme.replace('ws', 'http')}://{self.authority}"


def parse_endpoint(line):
    """The address in a line of output, or None."""
    match = LISTENING.search(line)
    if not match:
        return None
    if match["path"]:
        return Endpoint(socket.AF_UNIX, match["path"])
    host, port = match["host"], int(match["port"])
    if port == 0:
        raise Failure(f"{line!r} names no port: the line has to name the one that the kernel chose")
    if host.startswith("["):
        return Endpoint(socket.AF_INET6, (host[1:-1], port), match["scheme"])
    return Endpoint(socket.AF_INET, (host, port), match["scheme"])


# What the kernel counts


def thread_cpu_ns(pid):
    """Processor time of each thread that runs now, by its id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end between the two calls.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[int(task.name)] = int((task / "schedstat").read_text(encoding="ascii").split()[0])
    return found


def cpu_ns(pid):
    """Processor time of all threads of a process that run now."""
    return sum(thread_cpu_ns(pid).values())


def resident_bytes(pid):
    """From smaps_rollup: VmRSS of `status` may be hundreds of kilobytes off."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return int(re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


def virtual_bytes(pid):
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    return int(re.search(r"^VmSize:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# A running server


class Output:
    """The lines of one stream of a server, read in a thread so that the server never waits for a reader."""

    def __init__(self, stream, log=None):
        self.stream = stream
        self.log = log
        self.lines = []
        # time.monotonic() at each line.
        self.times = []
        # The lines again, for one reader that waits for them; None is the end.
        self.queue = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.stream:
            line = line.rstrip("\n")
            self.times.append(time.monotonic())
            self.lines.append(line)
            self.queue.put(line)
            if self.log:
                print(line, file=self.log, flush=True)
        self.queue.put(None)

    def close(self):
        """Reads the rest, unless a child of the server holds the stream open."""
        self.thread.join(STOP_S)
        if not self.thread.is_alive():
            self.stream.close()


class Server:
    """A server that listens on all of its addresses.

    `name` stands for it in errors; `addresses` are to be read from `address_on`; `log` is an open text
    file that gets its output as well; `stdin` is where its input comes from (default: it has none); further
    arguments are those of subprocess.Popen.
    """

    def __init__(
        self, command, *, name=None, addresses=1, address_on="stdout", start_s=START_S, log=None,
        stdin=subprocess.DEVNULL, **how,
    ):
        self.command = [str(word) for word in command]
        self.name = name or os.path.basename(self.command[0])
        try:
            self.process = subprocess.Popen(
                self.command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, errors="replace", **how,
            )
        except OSError as error:
            raise Failure(f"{self.name} cannot be started: {error}: build it, or name another program") from None
        self._outputs = {
            "stdout": Output(self.process.stdout, log),
            "stderr": Output(self.process.stderr, log),
        }
        try:
            self.endpoints = self._wait_until_listening(addresses, self._outputs[address_on].queue, start_s)
        except BaseException:
            self.kill()
            raise

    def _wait_until_listening(self, count, lines, start_s):
        deadline = time.monotonic() + start_s
        endpoints = []
        while len(endpoints) < count:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failure(
                    f"{self.name} does not say where it listens (`listening on ws://HOST:PORT`) in {start_s:g} s: "
                    f"{self.last_words()}"
                ) from None
            if line is None:
                self._end()
                raise Failure(f"{self.name} does not start: it ended with {self.process.returncode}: {self.last_words()}")
            if endpoint := parse_endpoint(line):
                endpoints.append(endpoint)
        return endpoints

    @property
    def endpoint(self):
        return self.endpoints[0]

    @property
    def authority(self):
        return self.endpoint.authority

    @property
    def url(self):
        return self.endpoint.url

    @property
    def pid(self):
        return self.process.pid

    @property
    def stdout_lines(self):
        return self._outputs["stdout"].lines

    @property
    def stderr_lines(self):
        return self._outputs["stderr"].lines

    @property
    def stderr_times(self):
        """time.monotonic() at each of `stderr_lines`."""
        return self._outputs["stderr"].times

    @property
    def stderr(self):
        return "\n".join(self.stderr_lines)

    def last_words(self):
        """The end of its output, and its command: for errors."""
        lines = (self.stderr_lines or self.stdout_lines)[-LAST_LINES:]
        return ("\n".join(lines) or "it printed nothing") + f"\n(command: {shlex.join(self.command)})"

    def is_running(self):
        return self.process.poll() is None

    def check_running(self):
        if not self.is_running():
            self._close()
            raise Failure(f"{self.name} ended by itself with {self.process.returncode}: {self.last_words()}")

    # What the kernel counts

    def descriptors(self):
        return descriptors(self.pid)

    def resident_bytes(self):
        return resident_bytes(self.pid)

    def virtual_bytes(self):
        return virtual_bytes(self.pid)

    def cpu_s(self):
        return cpu_ns(self.pid) / 1e9

    # Ending

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=STOP_S):
        """The exit status, once the process has ended by itself."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} still runs after {seconds:g} s: {self.last_words()}") from None
        self._close()
        return self.process.returncode

    def stop(self, seconds=STOP_S):
        """Ends it with SIGTERM, and with SIGKILL if it takes longer. Harmless when it has ended."""
        self.signal(signal.SIGTERM)
        self._end(seconds)
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self._end()

    def _end(self, seconds=STOP_S):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._close()

    def _close(self):
        for output in self._outputs.values():
            output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# For shell scripts

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/lib/server.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=argparse.FileType("w"), metavar="FILE", help="write what it prints to FILE")
    parser.add_argument("--address-on", choices=("stdout", "stderr"), default="stdout", help="(default: stdout)")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the server, after --")
    return parser.parse_args()


def main():
    options = arguments()
    for number in ENDING:
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        server = Server(options.command, address_on=options.address_on, log=options.log)
    except Failure as failure:
        sys.exit(str(failure))
    try:
        print(server.endpoint.url, flush=True)
        select.select([sys.stdin, os.pidfd_open(server.pid)], [], [])
    except SystemExit:
        pass  # The signal is for the server.
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        status = server.stop()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
