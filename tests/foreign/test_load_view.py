"""The live view of `picows load`: at terminals of several widths, in tmux, and where there is none."""

import fcntl
import os
import re
import shutil
import struct
import subprocess
import termios
import time

import pytest
from server import STOP_S, binary
from test_command import Terminal, picows, plain, scripted
from wire import CLOSE, eventually

LIMIT_S = 60
CLEAR = "\r\x1b[2K"
ESCAPE = re.compile("\x1b\\[[0-9;?]*[a-zA-Z]")


def view(url, columns, *flags, **variables):
    """The lines that a load draws on a terminal of so many columns, and its exit status."""
    with Terminal() as terminal:
        fcntl.ioctl(terminal.child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        words = [binary(), "load", "--warmup", "0", "--duration", "1500ms", *(flags or ("-c", "2")), url]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal.child,
            env={**environment, "TERM": "xterm", "RUST_LOG": "error", **variables},
        )
        status = process.wait(STOP_S)
        return terminal.shown().split(CLEAR), status


def view_with(wanted, *arguments, **variables):
    """The lines of a view, repeated until one of them is as wanted: a busy machine may draw none in time."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        lines, status = view(*arguments, **variables)
        if any(wanted(line) for line in lines):
            return lines, status
        assert time.monotonic() < deadline, lines


@pytest.mark.parametrize("columns", [200, 80, 40, 20, 1])
def test_the_line_is_narrower_than_the_terminal(server, columns):
    def wanted(line):
        words = ("measuring", "p50", "p99", "█") if columns >= 80 else ("measuring",) if columns >= 20 else ("",)
        return all(word in line for word in words)

    lines, status = view_with(wanted, server.url, columns)
    assert status == 0, lines
    assert all(len(ESCAPE.sub("", line)) < max(columns, 1) for line in lines), lines
    assert "\n" not in "".join(lines)


def wrong_echoes(client):
    """Answers each message with another one."""
    while True:
        opcode, payload = client.receive()
        if opcode == CLOSE:
            return client.send(plain(CLOSE, payload))
        client.send(plain(opcode, b"x" * len(payload)))


def test_errors_are_red_unless_colours_are_refused():
    for variables, is_red in (({}, True), ({"NO_COLOR": "1"}, False)):
        with scripted(wrong_echoes) as (url, _):
            # The server of the test serves one client at a time.
            lines, status = view_with(lambda line: " errors" in line, url, 80, "-c", "1", **variables)
        assert status == 1
        assert any("\x1b[31m" in line for line in lines) is is_red, lines


def test_idle_connections_are_counted(server):
    flags = ("-c", "2", "--mode", "idle", "--connect-rate", "1")
    for word in ("connecting: 1 of 2", "holding 2 connections"):
        _, status = view_with(lambda line, word=word: word in line, server.url, 80, *flags)
        assert status == 0


def test_there_is_no_line_without_a_terminal(server):
    process = picows(
        "load", "-c", "2", "--warmup", "0", "--duration", "300ms", server.url,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    out, errors = process.communicate(timeout=STOP_S)
    assert process.returncode == 0
    assert b"\x1b" not in out + errors and b"\r" not in out + errors
    assert b"latency p99" in out
    lines, status = view(server.url, 80, TERM="dumb")
    assert (lines, status) == ([""], 0)


def test_tmux_shows_one_line(server, tmp_path):
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("tmux is missing: install the package tmux")
    command = [tmux, "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def run(*words):
        return subprocess.run([*command, *words], capture_output=True, text=True, timeout=STOP_S, check=True).stdout

    load = f"RUST_LOG=error {binary()} load -c 2 --warmup 0 --duration 60s {server.url}"
    run("new-session", "-d", "-s", "load", "-x", "80", "-y", "24", load)
    try:
        def shown():
            return [line for line in run("capture-pane", "-p", "-t", "load").splitlines() if line.strip()]

        def is_one_line():
            lines = shown()
            return len(lines) == 1 and len(lines[0]) < 80 and "measuring" in lines[0] and "p99" in lines[0]

        eventually(is_one_line, shown)
    finally:
        subprocess.run([*command, "kill-server"], capture_output=True, timeout=STOP_S, check=False)
