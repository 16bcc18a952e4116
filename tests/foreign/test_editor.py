"""The line editor of `picows connect`: keys, history, and messages that come while a line is edited."""

import os
import select
import signal
import subprocess
import termios
import threading

import pytest
from server import STOP_S, binary
from test_command import Terminal, plain, scripted
from wire import CLOSE, TEXT

CLEAR = "\r\x1b[K"


class Editing:
    """`picows connect` at a terminal."""

    def __init__(self, terminal, url, term="xterm", before=(), **options):
        self.terminal, self.text = terminal, ""
        self.before = termios.tcgetattr(terminal.child)
        self.process = subprocess.Popen(
            [*before, binary(), "connect", url], stdin=terminal.child, stdout=terminal.child,
            env={**os.environ, "TERM": term}, **{"stderr": subprocess.DEVNULL, **options},
        )

    def keys(self, keys):
        os.write(self.terminal.ours, keys.encode())

    def wait_for(self, text):
        """Reads until the terminal was sent `text`, and forgets what is before its end."""
        while text not in self.text:
            assert select.select([self.terminal.ours], [], [], STOP_S)[0], (text, self.text)
            self.text += os.read(self.terminal.ours, 65536).decode()
        self.text = self.text.partition(text)[2]

    def end(self):
        """The exit status. The terminal is as it was."""
        status = self.process.wait(STOP_S)
        assert termios.tcgetattr(self.terminal.child) == self.before
        return status


def receives(client):
    """The messages of a client, until it closes."""
    seen = []
    while True:
        opcode, payload = client.receive()
        if opcode == CLOSE:
            client.send(plain(CLOSE, payload))
            return seen
        seen.append(payload.decode())


def test_lines_are_edited_and_repeated():
    with scripted(receives) as (url, seen), Terminal() as terminal:
        editing = Editing(terminal, url)
        editing.wait_for("> ")
        editing.keys("helo\x1b[Dl\n")
        editing.wait_for("> hello\n")
        editing.keys("\x1b[A!\n\x1b[A\x1b[A\x01\x0b\x1b[B\x17grüße 👋x\x7f\n")
        editing.wait_for("> grüße 👋\n")
        editing.keys("\x04")
        assert editing.end() == 0
    assert seen == [["hello", "hello!", "grüße 👋"]]


def test_a_message_appears_above_the_line():
    typed = threading.Event()

    def script(client):
        assert typed.wait(STOP_S)
        # A message that is cut: the line comes back behind its end.
        client.send(plain(TEXT, b"ne", fin=False))
        client.send(plain(0, b"ws\x1b[2J"))
        return receives(client)

    with scripted(script) as (url, seen), Terminal() as terminal:
        editing = Editing(terminal, url)
        editing.wait_for("> ")
        editing.keys("parl")
        editing.wait_for("> parl\r\x1b[6C")
        editing.keys("\x1b[D")
        editing.wait_for("> parl\r\x1b[5C")
        typed.set()
        editing.wait_for("ws\\x1b[2J\n" + CLEAR + "> parl\r\x1b[5C")
        editing.keys("tia\n")
        editing.wait_for("> partial\n")
        editing.keys("\x04")
        assert editing.end() == 0
    assert seen == [["partial"]]


def test_a_paste_of_several_lines_is_several_messages():
    lines = [f"line {number}" for number in range(300)]
    with scripted(receives) as (url, seen), Terminal() as terminal:
        editing = Editing(terminal, url)
        editing.wait_for("> ")
        for start in range(0, len(lines), 50):
            editing.keys("".join(line + "\n" for line in lines[start : start + 50]))
            editing.wait_for(f"> {lines[start + 49]}\n")
        editing.keys("\x04")
        assert editing.end() == 0
    assert seen == [lines]


def test_a_line_that_is_too_long_is_refused_and_not_cut():
    with scripted(receives) as (url, seen), Terminal() as terminal:
        editing = Editing(terminal, url, stderr=subprocess.PIPE)
        editing.wait_for("> ")
        keys = memoryview(b"x" * ((1 << 20) + 1) + b"\n\x04")
        os.set_blocking(terminal.ours, False)
        while keys:
            readable, writable, _ = select.select([terminal.ours], [terminal.ours], [], STOP_S)
            assert readable or writable
            if readable:
                os.read(terminal.ours, 65536)
            if writable:
                keys = keys[os.write(terminal.ours, keys[:1024]) :]
        os.set_blocking(terminal.ours, True)
        error = editing.process.communicate(timeout=STOP_S)[1].decode()
        assert editing.end() == 1
        assert "over 1048576 characters: send it through a pipe" in error
    assert seen == [[]]


@pytest.mark.parametrize("end", ["server", signal.SIGTERM])
def test_the_terminal_is_given_back_whatever_ends_the_command(end):
    typed = threading.Event()

    def script(client):
        assert typed.wait(STOP_S)
        if end == "server":
            return client.close(1000)
        assert client.receive()[0] == CLOSE
        return client.close(1001)

    with scripted(script) as (url, _), Terminal() as terminal:
        editing = Editing(terminal, url)
        editing.wait_for("> ")
        editing.keys("half a li")
        editing.wait_for("half a li")
        assert termios.tcgetattr(terminal.child) != editing.before
        typed.set()
        if end != "server":
            editing.process.send_signal(end)
        assert editing.end() == {"server": 0, signal.SIGTERM: 143}[end]
        assert terminal.shown().endswith(CLEAR), "the line is gone"


def test_a_shell_has_the_terminal_while_the_command_is_stopped():
    # The settings before, while it is stopped, and at the end. Not each shell sets them itself.
    shell = ["sh", "-m", "-c", 'stty -g >&2; "$@"; stty -g >&2; fg >&2; stty -g >&2', "sh"]
    with scripted(receives) as (url, seen), Terminal() as terminal:
        editing = Editing(terminal, url, before=shell, preexec_fn=terminal.control, stderr=subprocess.PIPE)
        editing.wait_for("> ")
        editing.keys("half a \x1a")
        editing.wait_for("half a ")
        editing.wait_for(CLEAR)
        editing.wait_for("> half a ")
        editing.keys("line\n")
        editing.wait_for("> half a line\n")
        editing.keys("\x04")
        settings = editing.process.communicate(timeout=STOP_S)[1].decode().splitlines()
        before, stopped, end = (line for line in settings if line.count(":") > 10)
        assert before == stopped == end
    assert seen == [["half a line"]]


@pytest.mark.parametrize("is_session", [False, True])
def test_a_command_that_no_shell_can_have_go_on_is_not_stopped(is_session):
    with scripted(receives) as (url, seen), Terminal() as terminal:
        options = {"preexec_fn": terminal.control} if is_session else {}
        editing = Editing(terminal, url, **options)
        editing.wait_for("> ")
        editing.keys("on\x1a and on\n")
        editing.wait_for("> on and on\n")
        editing.keys("\x04")
        assert editing.end() == 0
    assert seen == [["on and on"]]


def test_a_dumb_terminal_has_no_editor():
    def script(client):
        client.send(plain(TEXT, b"welcome"))
        return receives(client)

    with scripted(script) as (url, seen), Terminal() as terminal:
        editing = Editing(terminal, url, term="dumb")
        editing.wait_for("welcome\n")
        editing.keys("hello\n\x04")
        assert editing.end() == 0
        assert terminal.shown() == ""
    assert seen == [["hello"]]
