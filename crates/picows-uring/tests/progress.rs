//! Peers that do not get on with a message or with their queue.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, address, eventually, masked, workers};
use picows_uring::{CloseCode, EchoListener, FrameHead, MsgType, Server, Upgrade};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_frame_that_does_not_come_gets_1008_and_others_are_served() {
    let builder = workers(1).message_timeout(SHORT).write_stall_timeout(None);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let mut slow = Client::upgrade(address(&server));
    let frame = masked(FrameHead::new(MsgType::Binary), &[1; 100_000]);
    slow.write(&frame[..100]);
    slow.expect_close(CloseCode::POLICY_VIOLATION, "message too slow");
    eventually(&server, "it holds nothing", |stats| stats.stash_bytes == 0);
    // One that is idle has begun nothing.
    let mut idle = Client::upgrade(address(&server));
    let mut other = Client::upgrade(address(&server));
    other.write(&frame[..100]);
    other.expect_close(CloseCode::POLICY_VIOLATION, "message too slow");
    idle.echo(b"still there?");
    drop((slow, other, idle));
    assert_eq!(server.stop().unwrap().message_timeouts, 2);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_whatever_it_sends() {
    let builder = workers(1).write_stall_timeout(SHORT);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let mut deaf = Client::upgrade(address(&server));
    let frame = masked(FrameHead::new(MsgType::Binary), &[1; 1 << 20]);
    for _ in 0..40 {
        // On a busy machine, it may be dropped before all was written.
        let _ = deaf.try_write(&frame);
    }
    eventually(&server, "it is dropped", |stats| stats.write_stalls == 1);
    eventually(&server, "it holds nothing", |stats| stats.queue_bytes == 0);
    Client::upgrade(address(&server)).echo(b"others are served");
    server.stop().unwrap();
}

#[test]
fn a_peer_on_a_unix_socket_that_takes_nothing_is_dropped() {
    let path = std::env::temp_dir().join(format!("picows-progress-{}", std::process::id()));
    let builder = Server::builder().workers(1).listen(format!("unix:{}", path.display()));
    let builder = builder.write_stall_timeout(SHORT);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let mut deaf = UnixStream::connect(&path).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    deaf.write_all(request.as_bytes()).unwrap();
    // More than its socket has room for.
    let frame = masked(FrameHead::new(MsgType::Binary), &[1; 1 << 20]);
    for _ in 0..4 {
        // It may be dropped before all was written.
        let _ = deaf.write_all(&frame);
    }
    eventually(&server, "it is dropped", |stats| stats.write_stalls == 1);
    eventually(&server, "it holds nothing", |stats| stats.queue_bytes == 0);
    // What had left is there, and then the end.
    let _ = deaf.read_to_end(&mut Vec::new());
    server.stop().unwrap();
}
