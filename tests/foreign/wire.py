"""A WebSocket client that can do everything wrong: frames are written by hand.

Knows RFC 6455 only as far as a test needs to break it; it never hides what the server did.
"""

import base64
import os
import re
import socket
import struct
import time
from typing import NamedTuple

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# An upper bound on one wait, never a pause: a test that waits this long has failed.
TIMEOUT_S = 30.0

MASK_KEY = b"\x37\xfa\x21\x3d"


class Frame(NamedTuple):
    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0


class Response(NamedTuple):
    status: int
    headers: dict
    body: bytes


class Gone(Exception):
    """The server ended the connection; `rest` is what had arrived of an unfinished frame."""

    def __init__(self, rest=b""):
        super().__init__(f"connection ended by the server, {len(rest)} bytes of a frame received")
        self.rest = rest


def apply_mask(payload, key):
    count = len(payload)
    if count == 0:
        return b""
    keys = (key * (count // 4 + 1))[:count]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
    return mixed.to_bytes(count, "big")


def encode(opcode, payload=b"", *, fin=True, rsv=0, key=MASK_KEY, length_form=None, claim=None):
    """One frame. `key=None` leaves it unmasked, `length_form` is 7, 16 or 64 bits,
    `claim` is the length that the header states whatever the payload is."""
    length = len(payload) if claim is None else claim
    if length_form is None:
        length_form = 7 if length < 126 else 16 if length < 65536 else 64
    masked = 0x80 if key is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if length_form == 7:
        head += bytes([masked | length])
    elif length_form == 16:
        head += struct.pack("!BH", masked | 126, length)
    else:
        head += struct.pack("!BQ", masked | 127, length)
    if key is None:
        return head + payload
    return head + key + apply_mask(payload, key)


def close_payload(code, reason=b""):
    return struct.pack("!H", code) + reason


def upgrade_request(host="127.0.0.1", *, path="/", connection="Upgrade", headers=(), without=(), **replace):
    """A valid upgrade request; `without` drops headers, keywords replace their values."""
    fields = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": connection,
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    fields.update({name.replace("_", "-"): value for name, value in replace.items()})
    lines = [f"GET {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items() if name not in without]
    lines += list(headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def pieces(data, delivery):
    """Cuts `data` as `delivery` says: in one piece, or a byte at a time."""
    if delivery == "whole":
        return [data]
    return [data[i : i + 1] for i in range(len(data))]


class Peer:
    """One connection. Reads and writes are bounded by TIMEOUT_S."""

    def __init__(self, endpoint, *, timeout=TIMEOUT_S):
        self.sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        if endpoint.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        try:
            self.sock.connect(endpoint.address)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    # Sending

    def send(self, data):
        self.sock.sendall(data)

    def send_to_a_server_that_may_have_hung_up(self, parts):
        """The server owes us nothing after it has failed the connection, not even reading on."""
        try:
            for part in parts:
                self.sock.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send_frame(self, opcode, payload=b"", **how):
        self.send(encode(opcode, payload, **how))

    def finish_sending(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The server was first.

    def reset(self):
        """Ends the connection with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Receiving

    def _more(self):
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Gone(self.buffer)
        self.buffer += data

    def _take(self, count):
        if len(self.buffer) < count:
            parts = [self.buffer]
            have = len(self.buffer)
            while have < count:
                try:
                    data = self.sock.recv(min(1 << 20, max(count - have, 1 << 16)))
                except ConnectionResetError:
                    data = b""
                if not data:
                    raise Gone(b"".join(parts))
                parts.append(data)
                have += len(data)
            self.buffer = b"".join(parts)
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self):
        """The next frame, checked for what a server's frame has to be."""
        first, second = self._take(2)
        assert not second & 0x80, "a server's frame is not masked (RFC 6455 §5.1)"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
            assert length > 125, "the length is in its shortest form (RFC 6455 §5.2)"
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
            assert length > 65535, "the length is in its shortest form (RFC 6455 §5.2)"
        opcode = first & 0x0F
        fin = bool(first & 0x80)
        if opcode & 0x8:
            assert fin and length <= 125, "a control frame is whole and short (RFC 6455 §5.5)"
        return Frame(opcode, self._take(length), fin, first >> 4 & 0x7)

    def receive_response(self):
        """The answer to a request: status, headers with lower-case names, and the body."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) ?.*", status_line)
        assert match, f"not a status line: {status_line!r}"
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(match[1])
        body = b""
        if status != 101:
            if "content-length" in headers:
                body = self._take(int(headers["content-length"]))
            else:
                body = self.rest()
        return Response(status, headers, body)

    def rest(self):
        """Everything up to the end of the connection."""
        while True:
            try:
                self._more()
            except Gone:
                rest, self.buffer = self.buffer, b""
                return rest

    # Whole exchanges

    def upgrade(self, request=None, *, glued=b""):
        self.send((request or upgrade_request()) + glued)
        return self.upgraded()

    def upgraded(self):
        response = self.receive_response()
        assert response.status == 101, response
        return self

    def echo(self, payload=b"still there?", opcode=TEXT):
        self.send_frame(opcode, payload)
        assert self.receive() == Frame(opcode, payload)

    def expect_close(self, code, reason=None):
        """The next frame is CLOSE with this code (`None`: without one)."""
        frame = self.receive()
        assert frame.opcode == CLOSE, f"expected CLOSE {code}, received {frame}"
        if code is None:
            assert frame.payload == b""
            return
        assert len(frame.payload) >= 2, f"expected CLOSE {code}, received CLOSE without a code"
        (received,) = struct.unpack("!H", frame.payload[:2])
        text = frame.payload[2:].decode("utf-8")
        assert received == code, f"expected CLOSE {code}, received {received} {text!r}"
        if reason is not None:
            assert text == reason

    def expect_end(self):
        """No further byte, then the end of the connection."""
        self.finish_sending()
        rest = self.rest()
        assert rest == b"", f"nothing may follow, received {rest[:100]!r}"

    def expect_end_unaided(self):
        """Like `expect_end`, with our side left open: the server has to end it alone."""
        rest = self.rest()
        assert rest == b"", f"nothing may follow, received {rest[:100]!r}"


def eventually(holds, what, seconds=TIMEOUT_S):
    """Waits until `holds()`; the pause bounds the polling, no result depends on it."""
    deadline = time.monotonic() + seconds
    while True:
        if holds():
            return
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.01)
