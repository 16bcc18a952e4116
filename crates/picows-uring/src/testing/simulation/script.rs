//! Bytes that clients send: messages, violations of the protocol, and HTTP of all sorts.

use super::journal::Seen;
use crate::testing::ring::sim::Random;
use picows_uring_proto::{FrameHead, MsgType};
use std::collections::VecDeque;

/// Has a message of several frames appended, with pings in between, and appends what an echo sends
/// back.
pub(super) fn message(
    random: &mut Random,
    append: &mut dyn FnMut(&mut Random, FrameHead, &[u8]),
    expected: &mut VecDeque<Seen>,
) {
    let len = match random.below(20) {
        0 => 0,
        1 => random.pick(&[125, 126, 127, 65_535, 65_536]),
        2 => random.between(0, 200 * 1024),
        3..=6 => random.between(0, 5000),
        _ => random.between(0, 200),
    };
    let is_text = random.chance(500);
    let mut payload: Vec<u8> = if is_text {
        "я".bytes().cycle().take(len & !1).collect()
    } else {
        (0..len).map(|index| index as u8).collect()
    };
    if !is_text && let Some(first) = payload.first_mut() {
        *first = random.next() as u8;
    }
    let frames = if random.chance(300) { random.between(2, 5) } else { 1 };
    let mut start = 0;
    for number in 1..=frames {
        let is_last = number == frames;
        let end = if is_last { payload.len() } else { random.between(start, payload.len()) };
        let msg_type = match (number, is_text) {
            (1, true) => MsgType::Text,
            (1, false) => MsgType::Binary,
            _ => MsgType::Continuation,
        };
        append(random, FrameHead::new(msg_type).with_fin(is_last), &payload[start..end]);
        expected.push_back(Seen::new(msg_type, is_last, &payload[start..end]));
        start = end;
        if random.chance(100) {
            ping(random, append, expected);
        }
        if random.chance(50) {
            append(random, FrameHead::new(MsgType::Pong), b"unasked pong");
        }
    }
}

/// What a server's pings carry.
pub(super) const SERVER_PING: &[u8] = b"and you?";

/// Appends a ping behind some of the frames that a server sends back.
pub(super) fn ping_behind(random: &mut Random, out: &mut Vec<u8>) {
    if random.chance(100) {
        FrameHead::new(MsgType::Ping).append(out, SERVER_PING, None);
    }
}

fn ping(
    random: &mut Random,
    append: &mut dyn FnMut(&mut Random, FrameHead, &[u8]),
    expected: &mut VecDeque<Seen>,
) {
    let len = random.between(0, 125);
    let payload = vec![b'p'; len];
    append(random, FrameHead::new(MsgType::Ping), &payload);
    expected.push_back(Seen::new(MsgType::Pong, true, &payload));
}

/// Appends a frame as a client sends it.
pub(super) fn frame(random: &mut Random, out: &mut Vec<u8>, head: FrameHead, payload: &[u8]) {
    head.append(out, payload, Some(key(random)));
}

/// The key of the next frame of a client.
pub(super) fn key(random: &mut Random) -> [u8; 4] {
    (random.next() as u32).to_be_bytes()
}

/// Bytes that break RFC 6455 after any whole message, and the close code that is owed for them.
pub(super) const VIOLATIONS: [(&[u8], u16); 17] = [
    (b"\x81\x05Hello", 1002),    // Unmasked, §5.1.
    (b"\x83\x80\0\0\0\0", 1002), // Reserved opcodes, §5.2.
    (b"\x8B\x80\0\0\0\0", 1002),
    (b"\xC1\x80\0\0\0\0", 1002), // RSV bits, §5.2.
    (b"\xA2\x80\0\0\0\0", 1002),
    (b"\x09\x80\0\0\0\0", 1002),       // A fragmented ping, §5.5.
    (b"\x89\xFE\0\x7E\0\0\0\0", 1002), // A long ping, §5.5.
    (b"\x82\xFE\0\x7D\0\0\0\0", 1002), // Not the shortest length, §5.2.
    (b"\x82\xFF\0\0\0\0\0\0\xFF\xFF\0\0\0\0", 1002),
    (b"\x82\xFF\x80\0\0\0\0\0\0\0\0\0\0\0", 1002), // A negative length, §5.2.
    (b"\x80\x80\0\0\0\0", 1002),                   // Nothing to continue, §5.4.
    (b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002),   // A message in a message, §5.4.
    (b"\x88\x81\0\0\0\0\x03", 1002),               // Half a close code, §5.5.1.
    (b"\x88\x82\0\0\0\0\x03\xED", 1002),           // 1005 on the wire, §7.4.1.
    (b"\x88\x83\0\0\0\0\x03\xE8\xFF", 1007),       // A reason that is no text, §5.5.1.
    (b"\x82\xFF\0\0\0\0\x7F\xFF\xFF\xFF\0\0\0\0", 1009), // Too large.
    (b"\x81\x82\0\0\0\0\xC3\x28", 1007),           // Text that is no UTF-8, §8.1.
];

/// The path of a request that is no upgrade, or the whole of one that is no HTTP, and what the
/// status may be.
pub(super) const REQUESTS: [(&[u8], &[u16]); 11] = [
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", &[200]),
    (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", &[404]),
    (b"GET /error HTTP/1.1\r\nHost: x\r\n\r\n", &[500]),
    (b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n", &[500]),
    (b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 426]),
    (b"GET /echo?at=drop HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 426]),
    (b"GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", &[400]),
    (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", &[400, 405, 426]),
    (b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03 no HTTP at all\r\n\r\n", &[400]),
    (b"GET / HTTP/1.1\r\nBroken header\r\n\r\n", &[400]),
    (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", &[400, 505]),
];
