//! Peers that do not get on with a message or with their queue.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, address, eventually, masked, workers};
use picows_uring::{CloseCode, EchoListener, FrameHead, MsgType, Upgrade};
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
        deaf.write(&frame);
    }
    eventually(&server, "it is dropped", |stats| stats.write_stalls == 1);
    eventually(&server, "it holds nothing", |stats| stats.queue_bytes == 0);
    Client::upgrade(address(&server)).echo(b"others are served");
    server.stop().unwrap();
}
