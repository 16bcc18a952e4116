"""Starts `picows echo`, reads where it listens, and ends it.

Builds nothing: PICOWS_BIN names the binary, or a build in the target folder is taken.
"""

import os
import queue
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 30.0
# Longer than the close timeout (5 s) that open connections are granted.
STOP_S = 20.0

LISTENING = re.compile(r"listening on (?:ws://(?P<host>\[[^\]]+\]|[^:/]+):(?P<port>\d+)|ws\+unix:(?P<path>.+))")


class Endpoint(NamedTuple):
    family: int
    address: object

    @property
    def url(self):
        host, port = self.address[:2]
        return f"ws://[{host}]:{port}/" if self.family == socket.AF_INET6 else f"ws://{host}:{port}/"

    @property
    def http(self):
        return "http" + self.url.removeprefix("ws").removesuffix("/")


def binary():
    named = os.environ.get("PICOWS_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    candidates = [Path(named)] if named else [target / "release/picows", target / "debug/picows"]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    raise FileNotFoundError(
        f"no picows binary at {' or '.join(map(str, candidates))}: "
        "run scripts/test, or `cargo build --release -p picows-cli`"
    )


def parse_endpoint(line):
    match = LISTENING.fullmatch(line)
    assert match, f"standard output is for `listening on …` lines, not {line!r}"
    if match["path"]:
        return Endpoint(socket.AF_UNIX, match["path"])
    host, port = match["host"], int(match["port"])
    assert port != 0, "the line names the port that the kernel chose"
    if host.startswith("["):
        return Endpoint(socket.AF_INET6, (host[1:-1], port))
    return Endpoint(socket.AF_INET, (host, port))


def limit_descriptors(count):
    """For a process that is about to start: the kernel asks once when accepting begins."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


class Server:
    """A running `picows echo`."""

    def __init__(self, *flags, listen=("127.0.0.1:0",), workers=2, log="info", descriptors_max=None):
        command = [binary(), "echo"]
        for address in listen:
            command += ["--listen", address]
        command += ["--workers", str(workers), *map(str, flags)]
        self.command = command
        self.stopped = False
        self.stderr_lines = []
        self.stdout_lines = []
        self._stdout = queue.Queue()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "RUST_LOG": log, "NO_COLOR": "1"},
            preexec_fn=descriptors_max and (lambda: limit_descriptors(descriptors_max)),
        )
        self._readers = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self.endpoints = self._wait_until_listening(len(listen))
        except BaseException:
            self.kill()
            raise
        self.endpoint = self.endpoints[0]
        self.url = self.endpoint.url if self.endpoint.family != socket.AF_UNIX else None

    def _read_stdout(self):
        for line in self.process.stdout:
            self.stdout_lines.append(line.rstrip("\n"))
            self._stdout.put(line.rstrip("\n"))
        self._stdout.put(None)

    def _read_stderr(self):
        for line in self.process.stderr:
            self.stderr_lines.append(line.rstrip("\n"))

    def _wait_until_listening(self, count):
        deadline = time.monotonic() + START_S
        endpoints = []
        while len(endpoints) < count:
            try:
                line = self._stdout.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self.command} did not say where it listens in {START_S} s") from None
            if line is None:
                code = self.process.wait(STOP_S)
                self._join_readers()
                raise AssertionError(f"{self.command} ended with {code} at start:\n{self.stderr}")
            endpoints.append(parse_endpoint(line))
        return endpoints

    def _join_readers(self):
        for reader in self._readers:
            reader.join(STOP_S)
        self.process.stdout.close()
        self.process.stderr.close()

    @property
    def stderr(self):
        return "\n".join(self.stderr_lines)

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process.poll() is None

    # What the kernel says about the process

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _status_bytes(self, field):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"/proc/{self.pid}/status has no {field}")

    def resident_bytes(self):
        return self._status_bytes("VmRSS")

    def virtual_bytes(self):
        return self._status_bytes("VmSize")

    # Ending

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=STOP_S):
        """The exit code, once the process has ended by itself."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.command} still runs {seconds} s after it was told to stop") from None
        self._join_readers()
        self.stopped = True
        return code

    def stop(self):
        """Ends it with SIGTERM and checks that it went well, all its life."""
        if self.stopped:
            return
        assert self.is_running(), f"{self.command} died with {self.wait()}:\n{self.stderr}"
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"{self.command} ended with {code} after SIGTERM:\n{self.stderr}"
        assert len(self.stdout_lines) == len(self.endpoints), (
            f"one line per address on standard output, not {self.stdout_lines}"
        )
        panics = [line for line in self.stderr_lines if "panicked at" in line]
        assert not panics, panics

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.stopped = True
        self._join_readers()


def run_to_end(*arguments, timeout=30.0):
    """Runs `picows` with arguments that make it end by itself."""
    return subprocess.run(
        [binary(), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "RUST_LOG": "info", "NO_COLOR": "1"},
    )
