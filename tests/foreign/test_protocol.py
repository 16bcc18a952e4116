"""RFC 6455, broken on purpose: every fault gets its close code from the real server."""

import struct
import threading

import pytest
from wire import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    close_payload,
    encode,
    pieces,
    upgrade_request,
)

MIB = 1 << 20
FRAME_BYTES_MAX = 10 * MIB  # The server's default.

PROTOCOL_ERROR, INVALID_PAYLOAD, TOO_BIG = 1002, 1007, 1009

OPEN_FRAGMENTED = encode(TEXT, b"start", fin=False)

# What is broken, the bytes, the close code owed for them.
VIOLATIONS = [
    ("unmasked text", encode(TEXT, b"hello", key=None), PROTOCOL_ERROR),
    ("unmasked and empty", encode(BINARY, b"", key=None), PROTOCOL_ERROR),
    ("unmasked ping", encode(PING, b"", key=None), PROTOCOL_ERROR),
    ("unmasked close", encode(CLOSE, close_payload(1000), key=None), PROTOCOL_ERROR),
    *((f"opcode {code:#x}", encode(code, b"x"), PROTOCOL_ERROR) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *((f"rsv {bits:03b}", encode(TEXT, b"x", rsv=bits), PROTOCOL_ERROR) for bits in range(1, 8)),
    ("rsv on a ping", encode(PING, b"", rsv=4), PROTOCOL_ERROR),
    ("fragmented ping", encode(PING, b"p", fin=False), PROTOCOL_ERROR),
    ("fragmented pong", encode(PONG, b"p", fin=False), PROTOCOL_ERROR),
    ("fragmented close", encode(CLOSE, close_payload(1000), fin=False), PROTOCOL_ERROR),
    ("ping of 126 bytes", encode(PING, b"p" * 126), PROTOCOL_ERROR),
    ("pong of 126 bytes", encode(PONG, b"p" * 126), PROTOCOL_ERROR),
    ("close of 126 bytes", encode(CLOSE, close_payload(1000, b"r" * 124)), PROTOCOL_ERROR),
    ("ping with a 64-bit length", encode(PING, b"", length_form=64, claim=70000), PROTOCOL_ERROR),
    ("0 bytes in 16 bits", encode(BINARY, b"", length_form=16), PROTOCOL_ERROR),
    ("125 bytes in 16 bits", encode(BINARY, b"b" * 125, length_form=16), PROTOCOL_ERROR),
    ("5 bytes in 64 bits", encode(BINARY, b"hello", length_form=64), PROTOCOL_ERROR),
    ("65535 bytes in 64 bits", encode(BINARY, b"", length_form=64, claim=65535), PROTOCOL_ERROR),
    ("2^63 bytes", encode(BINARY, b"", length_form=64, claim=1 << 63), PROTOCOL_ERROR),
    ("2^64 - 1 bytes", encode(BINARY, b"", length_form=64, claim=(1 << 64) - 1), PROTOCOL_ERROR),
    ("2^62 bytes", encode(BINARY, b"", length_form=64, claim=1 << 62), TOO_BIG),
    ("2^63 - 1 bytes", encode(TEXT, b"", length_form=64, claim=(1 << 63) - 1), TOO_BIG),
    ("a byte over the limit", encode(BINARY, b"", length_form=64, claim=FRAME_BYTES_MAX + 1), TOO_BIG),
    ("continuation of nothing", encode(CONT, b"x"), PROTOCOL_ERROR),
    ("continuation of nothing, open", encode(CONT, b"x", fin=False), PROTOCOL_ERROR),
    ("close of 1 byte", encode(CLOSE, b"\x03"), PROTOCOL_ERROR),
    *(
        (f"close code {code}", encode(CLOSE, close_payload(code)), PROTOCOL_ERROR)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ),
    ("close reason not UTF-8", encode(CLOSE, close_payload(1000, b"\xff\xfe")), INVALID_PAYLOAD),
    ("close reason cut inside a character", encode(CLOSE, close_payload(1000, "é".encode()[:1])), INVALID_PAYLOAD),
    ("close reason with a surrogate", encode(CLOSE, close_payload(1000, b"\xed\xa0\x80")), INVALID_PAYLOAD),
]

violations = pytest.mark.parametrize(
    "broken, code", [pytest.param(broken, code, id=name) for name, broken, code in VIOLATIONS]
)
deliveries = pytest.mark.parametrize("delivery", ["whole", "by byte"])


@deliveries
@violations
def test_a_violation_gets_its_close_code(peer, broken, code, delivery):
    peer.send_to_a_server_that_may_have_hung_up(pieces(broken, delivery))
    peer.expect_close(code)
    peer.expect_end()


@deliveries
@violations
def test_the_frame_before_a_broken_one_is_echoed(peer, broken, code, delivery):
    stream = encode(TEXT, b"whole") + broken
    peer.send_to_a_server_that_may_have_hung_up(pieces(stream, delivery))
    assert peer.receive() == Frame(TEXT, b"whole")
    peer.expect_close(code)
    peer.expect_end()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
@deliveries
def test_a_new_message_inside_a_fragmented_one(peer, opcode, fin, delivery):
    stream = OPEN_FRAGMENTED + encode(opcode, b"another", fin=fin)
    peer.send_to_a_server_that_may_have_hung_up(pieces(stream, delivery))
    assert peer.receive() == Frame(TEXT, b"start", fin=False)
    peer.expect_close(PROTOCOL_ERROR)
    peer.expect_end()


def test_nothing_after_a_broken_frame_is_handled(peer):
    peer.send_to_a_server_that_may_have_hung_up([encode(3, b"") + encode(TEXT, b"too late") + encode(PING, b"")])
    peer.expect_close(PROTOCOL_ERROR)
    peer.expect_end()


def test_a_client_that_never_answers_is_dropped_after_a_violation(peer):
    peer.send_frame(3)
    peer.expect_close(PROTOCOL_ERROR)
    peer.expect_end_unaided()


def test_a_client_that_never_hangs_up_is_dropped_after_the_close_handshake(peer):
    peer.send_frame(CLOSE, close_payload(1000))
    peer.expect_close(1000)
    peer.expect_end_unaided()


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
@deliveries
def test_a_valid_close_is_echoed(peer, code, delivery):
    for part in pieces(encode(CLOSE, close_payload(code, b"because")), delivery):
        peer.send(part)
    peer.expect_close(code, "because")
    peer.expect_end()


@deliveries
def test_an_empty_close_is_echoed_empty(peer, delivery):
    for part in pieces(encode(CLOSE), delivery):
        peer.send(part)
    peer.expect_close(None)
    peer.expect_end()


def test_a_close_with_the_longest_reason(peer):
    reason = "é" * 61 + "!"
    peer.send_frame(CLOSE, close_payload(1000, reason.encode()))
    peer.expect_close(1000, reason)
    peer.expect_end()


def test_frames_after_a_close_are_ignored(peer):
    peer.send_to_a_server_that_may_have_hung_up([encode(CLOSE, close_payload(1000)) + encode(TEXT, b"late")])
    peer.expect_close(1000)
    peer.expect_end()


def test_frames_before_a_close_are_echoed_before_it(peer):
    peer.send(encode(TEXT, b"one") + encode(PING, b"two") + encode(CLOSE, close_payload(3000, b"three")))
    assert peer.receive() == Frame(TEXT, b"one")
    assert peer.receive() == Frame(PONG, b"two")
    peer.expect_close(3000, "three")
    peer.expect_end()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4095, 4096, 16384, 65535, 65536, MIB, 8 * MIB, FRAME_BYTES_MAX])
def test_sizes(peer, size):
    payload = (bytes(range(251)) * (size // 251 + 1))[:size]
    exchange_in_both_directions(peer, encode(BINARY, payload), [Frame(BINARY, payload)])


def exchange_in_both_directions(peer, data, expected):
    """Sends from a thread of its own, so that a server which wants to be read first can be."""
    sender = threading.Thread(target=peer.send, args=(data,), daemon=True)
    sender.start()
    for frame in expected:
        received = peer.receive()
        assert received == frame, f"received {received.opcode} of {len(received.payload)} bytes"
    sender.join()


@deliveries
def test_fragments_come_back_as_fragments_with_the_pong_between_them(peer, delivery):
    """RFC 6455 §5.4: control frames may stand between fragments."""
    stream = (
        encode(TEXT, b"Hel", fin=False)
        + encode(PING, b"between")
        + encode(CONT, b"", fin=False)
        + encode(CONT, b"lo", fin=True)
        + encode(BINARY, b"\x00")
    )
    for part in pieces(stream, delivery):
        peer.send(part)
    assert [peer.receive() for _ in range(5)] == [
        Frame(TEXT, b"Hel", fin=False),
        Frame(PONG, b"between"),
        Frame(CONT, b"", fin=False),
        Frame(CONT, b"lo"),
        Frame(BINARY, b"\x00"),
    ]


@pytest.mark.parametrize("payload", [b"", b"p", b"\xff" * 125])
@deliveries
def test_ping_is_answered_with_its_payload(peer, payload, delivery):
    for part in pieces(encode(PING, payload), delivery):
        peer.send(part)
    assert peer.receive() == Frame(PONG, payload)


def test_an_unsolicited_pong_is_harmless(peer):
    """RFC 6455 §5.5.3. Whether an echo server echoes it, is left open."""
    peer.send(encode(PONG, b"unasked") + encode(TEXT, b"next"))
    frame = peer.receive()
    if frame == Frame(PONG, b"unasked"):
        frame = peer.receive()
    assert frame == Frame(TEXT, b"next")


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04", b"\0\0\0\x80"], ids=bytes.hex)
def test_masks(peer, key):
    for size in (*range(70), 127, 1000, 65537):
        payload = bytes(index * 7 & 0xFF for index in range(size))
        peer.send_frame(BINARY, payload, key=key)
        assert peer.receive() == Frame(BINARY, payload), f"size={size}"


def test_10_000_small_frames_in_few_segments(peer):
    frames = [Frame(BINARY, struct.pack("!I", number)) for number in range(10_000)]
    stream = b"".join(encode(frame.opcode, frame.payload) for frame in frames)
    exchange_in_both_directions(peer, stream, frames)


CONVERSATION = encode(TEXT, b"Hel", fin=False) + encode(PING, b"?") + encode(CONT, b"lo") + encode(BINARY, b"x" * 126)
ANSWERS = [Frame(TEXT, b"Hel", fin=False), Frame(PONG, b"?"), Frame(CONT, b"lo"), Frame(BINARY, b"x" * 126)]


def converse(server, parts):
    with Peer(server.endpoint) as peer:
        for part in parts:
            peer.send(part)
        peer.upgraded()
        assert [peer.receive() for _ in ANSWERS] == ANSWERS
        peer.expect_close(4000, "end")
        peer.expect_end()


def test_frames_glued_to_the_request_are_answered(server):
    converse(server, [upgrade_request() + CONVERSATION + encode(CLOSE, close_payload(4000, b"end"))])


def test_a_conversation_cut_at_every_byte(server):
    stream = upgrade_request() + CONVERSATION + encode(CLOSE, close_payload(4000, b"end"))
    for cut in range(1, len(stream)):
        converse(server, [stream[:cut], stream[cut:]])


def test_a_conversation_byte_by_byte(server):
    converse(server, pieces(upgrade_request() + CONVERSATION + encode(CLOSE, close_payload(4000, b"end")), "by byte"))


@pytest.mark.parametrize("flag, limit", [("64KiB", 65536), ("1000B", 1000), ("1MiB", MIB)])
def test_max_frame_size(start_server, flag, limit):
    server = start_server("--max-frame-size", flag)
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        peer.echo(b"x" * limit, BINARY)
        peer.send_frame(BINARY, b"", claim=limit + 1)  # Its header alone is enough.
        peer.expect_close(TOO_BIG)
        peer.expect_end()
