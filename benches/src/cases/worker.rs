//! A worker with its sessions, on a ring that does next to nothing: from the completion of a receive
//! to the send of the answer.

use super::Case;
use picows_uring::testing::measured::MeasuredWorker;
use picows_uring::topics::{Hub, Post};
#[cfg(feature = "worker-deflate")]
use picows_uring::{Deflate, MsgType, Prepared};

/// Masked with zeros: what unmasking costs depends on lengths only.
const HEADER_256: [u8; 8] = [0x82, 0xFE, 0x01, 0x00, 0, 0, 0, 0];
const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";
#[cfg(feature = "worker-deflate")]
const OFFER: &[u8] = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
/// What a receive buffer of the kernel holds, about.
const PIECE_BYTES: usize = 16 * 1024;

pub(super) fn cases() -> Vec<Case> {
    vec![
        life(),
        echo("worker/echo/lone/256", 1, 1, true),
        echo("worker/echo/burst-16/256", 1, 16, true),
        echo("worker/echo/64-connections/256", 64, 1, false),
        echo("worker/echo/64-connections/burst-16/256", 64, 16, false),
        forward_whole(),
        echo_large(),
        echo_in_turn(),
        deliver("worker/topic/lone/256", 1),
        deliver("worker/topic/turn-of-16/256", 16),
        #[cfg(feature = "worker-deflate")]
        fan_out("worker/fan-out/plain/1024", false),
        #[cfg(feature = "worker-deflate")]
        fan_out("worker/fan-out/deflate/1024", true),
    ]
}

/// One message to 64 connections that have agreed on permessage-deflate: as it is, or compressed once.
#[cfg(feature = "worker-deflate")]
fn fan_out(name: &str, is_compressed: bool) -> Case {
    let settings = Deflate::new();
    let mut worker = match is_compressed {
        true => MeasuredWorker::compressing(settings),
        false => MeasuredWorker::new(),
    }
    .expect("a descriptor is left");
    let head = REQUEST.strip_suffix(b"\r\n").expect("it ends with an empty line");
    let request = [head, OFFER].concat();
    for socket in FIRST..FIRST + 64 {
        assert!(worker.open(socket, &request) > 0, "the request is in order");
    }
    let text = super::deflate::texts(1024).next().expect("there is no end of them");
    let mut message = Prepared::new(MsgType::Text, &text).expect("it is text");
    if is_compressed {
        message = message.deflate(12);
    }
    Case::new(name, move || {
        worker.send_to_all(&message);
        let sent = worker.turn();
        assert_eq!(sent < 64 * 1000, is_compressed, "{sent} bytes");
    })
    .of_items(64)
}

fn opened(sockets: i32) -> MeasuredWorker {
    let mut worker = MeasuredWorker::new().expect("a descriptor is left");
    for socket in FIRST..FIRST + sockets {
        assert!(worker.open(socket, REQUEST) > 0, "the request is in order");
    }
    worker
}

/// Accepted, upgraded, ended by the peer, and gone.
fn life() -> Case {
    let mut worker = opened(0);
    Case::new("worker/accept-upgrade-end", move || {
        assert!(worker.open(FIRST, REQUEST) > 0);
        worker.end(FIRST);
    })
}

/// One turn in which `frames` frames of 256 bytes have arrived on each connection.
fn echo(name: &str, connections: i32, frames: u32, is_alone: bool) -> Case {
    let mut worker = opened(connections);
    let frame = [&HEADER_256[..], &[0x5A; 256]].concat();
    let bytes = frame.repeat(frames as usize);
    let items = frames * connections.unsigned_abs();
    let answer = items as usize * (256 + 4);
    Case::new(name, move || {
        for socket in FIRST..FIRST + connections {
            worker.deliver(socket, &bytes);
        }
        if is_alone {
            worker.allow_send_now();
        }
        assert_eq!(worker.turn(), answer);
    })
    .of_items(items)
}

/// A frame that lies whole in its receive buffer, and leaves from there.
fn forward_whole() -> Case {
    let mut worker = opened(1);
    let bytes = [&[0x82, 0xFE, 0x20, 0x00, 0, 0, 0, 0][..], &[0x5A; 0x2000]].concat();
    Case::new("worker/forward/8192", move || {
        worker.deliver(FIRST, &bytes);
        worker.allow_send_now();
        assert_eq!(worker.turn(), 0x2000 + 4);
    })
}

/// A frame of many receive buffers, which is collected in memory of its connection and leaves from
/// there.
fn echo_large() -> Case {
    let mut worker = opened(1);
    let header = [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0x86, 0xA0, 0, 0, 0, 0];
    let bytes = [&header[..], &vec![0x5A; 100_000]].concat();
    Case::new("worker/echo/100000-in-pieces", move || {
        let mut sent = 0;
        for piece in bytes.chunks(PIECE_BYTES) {
            worker.deliver(FIRST, piece);
            worker.allow_send_now();
            sent += worker.turn();
        }
        assert_eq!(sent, 100_000 + 10);
    })
}

/// A large frame that came with one call, as those of a connection do that has many: its echo leaves before
/// anything else is handled.
fn echo_in_turn() -> Case {
    let mut worker = opened(1);
    let header = [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let bytes = [&header[..], &vec![0x5A; 0x10000]].concat();
    let mut echo = move || {
        worker.deliver(FIRST, &bytes);
        worker.allow_send_now();
        assert_eq!(worker.turn(), 0x10000 + 10);
    };
    // The first ones are received as others are.
    (0..20).for_each(|_| echo());
    Case::new("worker/echo/65536-in-turn", echo)
}

/// Publications of one turn, and their send for each of 64 subscribers.
fn deliver(name: &str, publications: usize) -> Case {
    let (mut worker, hub) = (opened(64), Hub::new());
    worker.subscribe_all(&hub, "quotes").expect("there are few topics");
    Case::new(name, move || {
        for _ in 0..publications {
            let post = Post::binary(&[0x5A; 256][..]);
            worker.publish(&hub, "quotes", post).expect("it is in order");
        }
        assert_eq!(worker.turn(), 64 * publications * (256 + 4));
    })
    .of_items(64)
}

const FIRST: i32 = 100;
