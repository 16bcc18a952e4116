"""Bytes on the wire of compressed echoes: a client that sends plain messages and counts what comes back."""

import json
import random
import socket

from server import Failure

MESSAGES = 300
# Of those, the first fill the window.
WARM_UP = 50
MESSAGE_BYTES = 1024
PATIENCE_S = 10
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {0}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits{1}\r\n\r\n"
)


def quotes(seed):
    """A message like those of a market feed, of 1 KiB."""
    numbers = random.Random(seed)
    text = ""
    while len(text) < MESSAGE_BYTES:
        symbol = numbers.choice(("BTC-USD", "ETH-USD", "SOL-USD", "XRP-EUR"))
        quote = {"channel": "book", "symbol": symbol, "bid": numbers.randrange(10**7) / 100, "sequence": seed}
        text += json.dumps(quote, separators=(",", ":"))
    return text[:MESSAGE_BYTES].encode()


def wire_bytes(authority, takeover):
    """The mean length of a frame that the server at `authority` sends for a message of 1 KiB."""
    host, port = authority.rsplit(":", 1)
    parameters = "" if takeover else "; server_no_context_takeover; client_no_context_takeover"
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        stream = connection.makefile("rb")
        connection.sendall(UPGRADE.format(authority, parameters).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                raise Failure("the handshake failed")
            head += line
        if b"permessage-deflate" not in head or (b"server_no_context_takeover" in head) == takeover:
            raise Failure(f"another compression than was asked for: {head!r}")
        total = 0
        for number in range(MESSAGES):
            payload = quotes(number)
            # A key of 0 leaves the payload as it is.
            connection.sendall(b"\x81\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload)
            length = frame_length(stream)
            total += length if number >= WARM_UP else 0
        return total / (MESSAGES - WARM_UP)


def frame_length(stream):
    """Reads a frame, and returns how long it is."""
    head = stream.read(2)
    if len(head) != 2:
        raise Failure("the server has hung up")
    size, more = head[1], 0
    if size == 126:
        more, size = 2, int.from_bytes(stream.read(2), "big")
    stream.read(size)
    return len(head) + more + size
