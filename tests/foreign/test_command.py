"""`picows` at terminals, as process 1, and against servers that are written by hand."""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pty
import shutil
import signal
import socket
import struct
import subprocess
import termios
import threading

import pytest
from server import STOP_S, Endpoint, binary
from wire import BINARY, CLOSE, PONG, TEXT, Peer, close_payload, encode, eventually

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SIGNALS = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]
HOSTILE = "\x1b[2J\x1b]0;title\x07 \u009b31m \u202egpj\r\nforged\tline"
SHOWN = "\\x1b[2J\\x1b]0;title\\x07 \\u{9b}31m \\u{202e}gpj\\r\\nforged\\tline"


def plain(opcode, payload=b"", **how):
    """A frame of a server."""
    return encode(opcode, payload, key=None, **how)


class Accepted:
    """A client that has upgraded, from the server's side."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(STOP_S)
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += sock.recv(65536)
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        key = next(line.split(b":")[1].strip() for line in head.split(b"\r\n") if b"-websocket-key" in line.lower())
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def send(self, data):
        self.sock.sendall(data)

    def take(self, count):
        while len(self.buffer) < count:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self):
        """Opcode and payload of the next frame."""
        first, second = self.take(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.take(8))
        key = self.take(4)
        payload = self.take(length)
        return first & 15, bytes(byte ^ key[index & 3] for index, byte in enumerate(payload))

    def close(self, code=1000, reason=b""):
        """CLOSE, and everything up to the client's end."""
        self.send(plain(CLOSE, close_payload(code, reason)))
        self.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass


@contextlib.contextmanager
def scripted(script):
    """A server that does `script` with each client; its URL, and what the scripts returned."""
    outcomes = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock, contextlib.suppress(OSError, EOFError):
                    outcomes.append(script(Accepted(sock)))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "ws://127.0.0.1:{}/".format(listener.getsockname()[1]), outcomes
        # Wakes accept(2), unlike a close.
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(STOP_S)


def picows(*arguments, **how):
    return subprocess.Popen([binary(), *map(str, arguments)], env={**os.environ, "NO_COLOR": "1"}, **how)


def finish(process, given=None):
    try:
        out, error = process.communicate(given, timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out or b"", (error or b"").decode()


class Terminal:
    """A terminal: `child` is the end of the program."""

    def __init__(self):
        self.ours, self.child = pty.openpty()
        attributes = termios.tcgetattr(self.child)
        attributes[1] &= ~termios.OPOST  # A line break stays what it is.
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.child, termios.TCSANOW, attributes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hang_up()

    def hang_up(self):
        for end in ("ours", "child"):
            if getattr(self, end) is not None:
                os.close(getattr(self, end))
                setattr(self, end, None)

    def control(self):
        """For a child process that is to be controlled by this terminal."""
        os.setsid()
        fcntl.ioctl(self.child, termios.TIOCSCTTY, 0)

    def shown(self):
        """Everything that was written, once the program has ended."""
        os.close(self.child)
        self.child = None
        text = b""
        with contextlib.suppress(OSError):
            while piece := os.read(self.ours, 65536):
                text += piece
        return text.decode()


def says(*messages):
    def script(client):
        for opcode, payload in messages:
            client.send(plain(opcode, payload))
        client.close()

    return script


# At a terminal


def test_a_server_cannot_steer_a_terminal():
    with scripted(says((TEXT, HOSTILE.encode()), (TEXT, b"next"), (BINARY, b"\xff\x00\n"))) as (url, _), Terminal() as terminal:
        process = picows("connect", "-n", url, stdin=subprocess.DEVNULL, stdout=terminal.child)
        assert finish(process)[0] == 0
        assert terminal.shown() == f"{SHOWN}\nnext\n\\xff\\x00\\n\n"


def test_a_message_in_fragments_cannot_either():
    text = HOSTILE.encode()

    def script(client):
        for index, byte in enumerate(text):
            client.send(plain(0 if index else TEXT, bytes([byte]), fin=index == len(text) - 1))
        client.close()

    with scripted(script) as (url, _), Terminal() as terminal:
        process = picows("connect", "-n", url, stdin=subprocess.DEVNULL, stdout=terminal.child)
        assert finish(process)[0] == 0
        assert terminal.shown() == SHOWN + "\n"


def test_binary_messages_keep_their_lines_at_a_terminal_and_nothing_else():
    with scripted(says((BINARY, b"one\n\x1b[2J\ttwo"), (BINARY, b"\xff"))) as (url, _), Terminal() as terminal:
        process = picows("connect", "-n", "--binary", url, stdin=subprocess.DEVNULL, stdout=terminal.child)
        assert finish(process)[0] == 0
        assert terminal.shown() == "one\n\\x1b[2J\ttwo\\xff"


@pytest.mark.parametrize("to_terminal", [True, False])
def test_json_is_a_line_a_message_everywhere(to_terminal):
    with scripted(says((TEXT, HOSTILE.encode()), (BINARY, b"\xff\x00\n"))) as (url, _), Terminal() as terminal:
        out = terminal.child if to_terminal else subprocess.PIPE
        process = picows("connect", "-n", "--json", url, stdin=subprocess.DEVNULL, stdout=out)
        status, piped, _ = finish(process)
        text = terminal.shown() if to_terminal else piped.decode()
    assert status == 0
    first, second = (json.loads(line) for line in text.splitlines())
    assert first == {"type": "text", "text": HOSTILE}
    assert second == {"type": "binary", "base64": base64.b64encode(b"\xff\x00\n").decode()}
    assert not any(character in text for character in "\x1b\x07\u009b\u202e\r")


def test_to_a_pipe_messages_go_as_they_came():
    with scripted(says((TEXT, HOSTILE.encode()))) as (url, _):
        process = picows("connect", "-n", url, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert finish(process)[:2] == (0, HOSTILE.encode() + b"\n")


def test_errors_and_the_log_cannot_steer_a_terminal():
    def refuse(client):
        client.close(4000, HOSTILE.encode())

    with scripted(refuse) as (url, _), Terminal() as terminal:
        process = picows("connect", "-n", url, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal.child)
        assert finish(process)[0] == 1
        text = terminal.shown()
    assert text.count("\n") == 1 and "closed the connection with 4000" in text
    assert not any(character in text for character in "\x1b\x07\u009b\u202e\r"), text


def test_a_terminal_that_is_stopped_holds_nothing_up(server):
    """As with Ctrl-S: the progress bar and the notes wait, the measurement and its end do not."""
    with Terminal() as terminal:
        termios.tcflow(terminal.child, termios.TCOOFF)
        arguments = ("load", "-c", 1, "-w", 0, "-d", "500ms", "--json", "-", server.url)
        process = picows(*arguments, stdout=subprocess.PIPE, stderr=terminal.child)
        status, out, _ = finish(process)
        assert status == 0
        assert json.loads(out)["errors"] == 0
        termios.tcflow(terminal.child, termios.TCOON)


def test_the_progress_bar_is_gone_at_the_end(server):
    with Terminal() as terminal:
        arguments = ("rtt", "-w", 0, "-d", "500ms", "--json", "-", server.url)
        assert finish(picows(*arguments, stdout=subprocess.PIPE, stderr=terminal.child))[0] == 0
        text = terminal.shown()
    assert "connecting: 0 of 1" in text
    bar, _, table = text.rpartition("\r\x1b[2K")
    assert "%" in bar and table.startswith("picows rtt ") and "%" not in table


@pytest.mark.parametrize("key, status", [(b"\x03", 130), (b"\x1c", 131)], ids=["Ctrl-C", "Ctrl-backslash"])
def test_keys_of_a_terminal_end_connect_in_order(key, status):
    def script(client):
        assert client.receive() == (TEXT, b"hello")
        os.write(terminal.ours, key)
        seen = client.receive()
        client.close(1001)
        return seen

    with scripted(script) as (url, seen), Terminal() as terminal:
        how = {"stdin": terminal.child, "stdout": terminal.child, "stderr": subprocess.DEVNULL}
        process = picows("connect", url, preexec_fn=terminal.control, **how)
        os.write(terminal.ours, b"hello\n")
        assert finish(process)[0] == status
    assert seen == [(CLOSE, close_payload(1001))]


def test_a_terminal_that_hangs_up_ends_connect_in_order():
    greeted = threading.Event()

    def script(client):
        assert client.receive() == (TEXT, b"hello")
        greeted.set()
        seen = client.receive()
        client.close(1001)
        return seen

    with scripted(script) as (url, seen), Terminal() as terminal:
        how = {"stdin": terminal.child, "stdout": terminal.child, "stderr": subprocess.DEVNULL}
        process = picows("connect", url, preexec_fn=terminal.control, **how)
        os.write(terminal.ours, b"hello\n")
        assert greeted.wait(STOP_S)
        terminal.hang_up()
        # The end of its input and the signal come together, and either may be first.
        assert finish(process)[0] in (1, 129)
    assert seen[0][0] == CLOSE and seen[0][1] in (close_payload(1000), close_payload(1001))


# As process 1


def as_process_1(*arguments):
    command = ["unshare", "-pf", "--kill-child", binary(), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    found = []

    def has_child():
        with open(children) as listed:
            found[:] = map(int, listed.read().split())
        return bool(found) and binary() == os.readlink(f"/proc/{found[0]}/exe")

    eventually(has_child, "the command runs")
    return process, found[0]


needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="a process 1 needs root and unshare(1)"
)


@needs_namespaces
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("line", ["load -c 1 -w 0 -d 1h", "rtt -w 0 -d 1h", "connect"])
def test_a_client_that_is_process_1_obeys(line, number):
    greeted = threading.Event()

    def script(client):
        while True:
            opcode, payload = client.receive()
            if opcode == CLOSE:
                client.close(1000)
                return
            client.send(plain(opcode, payload))
            greeted.set()

    with scripted(script) as (url, _):
        process, child = as_process_1(*line.split(), url)
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert greeted.wait(STOP_S)
        os.kill(child, number)
        # Kept open until then: the end of the input is another end.
        process.wait(STOP_S)
        finish(process)
        assert process.returncode == 128 + number


@needs_namespaces
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_echo_server_that_is_process_1_obeys(number, socket_path):
    process, child = as_process_1("echo", "--workers", 1, "--listen", f"unix:{socket_path}")
    assert process.stdout.readline().startswith(b"listening on ")
    with Peer(Endpoint(socket.AF_UNIX, str(socket_path))) as peer:
        peer.upgrade().echo()
        os.kill(child, number)
        peer.expect_close(1001)
        peer.send_to_a_server_that_may_have_hung_up([encode(CLOSE, close_payload(1001))])
    assert finish(process)[0] == 0


@needs_namespaces
@pytest.mark.parametrize("line", ["load -d 1h", "rtt -d 1h", "connect"])
def test_process_1_obeys_while_it_connects(line):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = "ws://127.0.0.1:{}/".format(deaf.getsockname()[1])
        process, child = as_process_1(*line.split(), url)
        sock, _ = deaf.accept()
        with sock:
            os.kill(child, signal.SIGTERM)
            assert finish(process)[0] == 143


# Against servers that are written by hand


@pytest.mark.parametrize(
    "frames, code",
    [
        (encode(3, b"", key=None), 1002),
        (encode(TEXT, b"masked"), 1002),
        (plain(PONG, b"", fin=False), 1002),
        (plain(0, b"nothing to continue"), 1002),
        (plain(TEXT, b"\xff\xfe"), 1007),
        (plain(TEXT, b"\xe2\x82", fin=False) + plain(0, b"\xff"), 1007),
        (plain(TEXT, b"\xed\xa0\x80"), 1007),
        (plain(CLOSE, close_payload(1000, b"\xff")), 1007),
        (plain(CLOSE, b"\x03"), 1002),
        (plain(CLOSE, close_payload(1005)), 1002),
        (plain(BINARY, b"", claim=1 << 40, length_form=64), 1009),
    ],
    ids=["opcode", "mask", "control-fragment", "continuation", "text", "fragments", "surrogate"]
    + ["reason", "short-close", "reserved-code", "size"],
)
def test_what_is_no_websocket_is_status_1_and_is_answered(frames, code):
    def script(client):
        client.send(frames)
        seen = client.receive()
        client.close(code)
        return seen[0], seen[1][:2]

    with scripted(script) as (url, seen):
        for line in ("connect -n", "connect", "connect -n --dedicated"):
            process = picows(*line.split(), url, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            status, _, error = finish(process)
            assert status == 1 and "error: " in error, (line, error)
    # With the end of the input, CLOSE 1000 may have been first.
    assert seen[0] == seen[2] == (CLOSE, close_payload(code))


@pytest.mark.parametrize("code, status", [(None, 0), (1000, 0), (1001, 0), (1008, 1), (4401, 1)])
@pytest.mark.parametrize("flags", [[], ["--dedicated"], ["--binary"]], ids=["plain", "dedicated", "binary"])
def test_a_close_counts_though_the_connection_is_reset_behind_it(code, status, flags):
    """A server that does not read what it is sent resets the connection when it closes it."""

    def script(client):
        client.take(2)
        client.send(plain(CLOSE, b"" if code is None else close_payload(code, b"bad token")))

    with scripted(script) as (url, _):
        for _ in range(20):
            process = picows("connect", *flags, url, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            got, _, error = finish(process, b"token\n" * 50_000)
            assert got == status, error
            # On a busy machine, log lines may stand beside it.
            errors = [line for line in error.splitlines() if "error: " in line]
            assert len(errors) == status and all(str(code) in line for line in errors), error


def test_a_connection_that_is_reset_without_close_is_status_1():
    def script(client):
        client.take(2)

    with scripted(script) as (url, _):
        for _ in range(20):
            process = picows("connect", url, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            status, _, error = finish(process, b"token\n" * 50_000)
            assert status == 1 and "error: " in error
