"""Common part of scripts that put a running `picows echo` under stress, from Python.

The server and the client that can do everything wrong are those of tests/foreign.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/foreign"))

from echo_server import EchoServer  # noqa: E402
from server import binary  # noqa: E402
from wire import CLOSE, PING, PONG, Peer, encode  # noqa: E402

SUMMARY = re.compile(r"served (\d+) connections .* (\d+) protocol errors")


class WatchedServer(EchoServer):
    """A server whose counters and log are looked at."""

    def faults(self):
        """What the log must not say."""
        bad = ("panicked at", "ERROR", "worker failed")
        return [line for line in self.stderr_lines if any(word in line for word in bad)]

    def connections(self):
        """As the last line of --stats says."""
        for line in reversed(self.stderr_lines):
            if match := re.search(r"connections (\d+) \(accepted", line):
                return int(match[1])
        return None

    def served(self):
        """How many upgrades, and how many protocol errors, the last words count."""
        for line in reversed(self.stderr_lines):
            if match := SUMMARY.search(line):
                return int(match[1]), int(match[2])
        return None


class LivePeer(Peer):
    """A client that answers the server's pings as it goes."""

    def next(self):
        while True:
            frame = self.receive()
            if frame.opcode == PING:
                self.send(encode(PONG, frame.payload))
            elif frame.opcode != PONG:
                return frame

    def say_goodbye(self):
        """The whole closing handshake."""
        self.send(encode(CLOSE, b"\x03\xe8"))
        frame = self.next()
        assert (frame.opcode, frame.payload) == (CLOSE, b"\x03\xe8"), f"CLOSE 1000 was answered with {frame}"
        self.expect_end()


class Load:
    """`picows load` in the background: it checks every echo."""

    def __init__(self, server, *flags):
        self.file = tempfile.NamedTemporaryFile(suffix=".json")
        command = [binary(), "load", server.url, "--json", self.file.name, *map(str, flags)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def result(self):
        """The figures; the text of what went wrong instead, if anything did."""
        _, said = self.process.communicate()
        text = Path(self.file.name).read_text()
        self.file.close()
        if self.process.returncode != 0:
            first = json.loads(text).get("first_error") if text else None
            return None, first or said.strip()[-300:]
        return json.loads(text), None

    def stop(self):
        self.process.kill()
        self.process.communicate()
        self.file.close()
