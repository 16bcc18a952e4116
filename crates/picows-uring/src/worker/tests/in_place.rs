//! Frames that are sent out of a buffer of the caller's, which has it back at once.

use super::offers::{FULL, payload, send};
use super::*;
use crate::ring::RESERVE_MAX;
use crate::status::SendStatus;
use picows_uring_proto::{FRAME_HEADER_BYTES_MAX, FrameHead};

const BINARY: FrameHead = FrameHead::new(MsgType::Binary);

/// Sends message `number`, and spoils the buffer afterwards.
fn send_in_place(number: u32) -> SendStatus {
    let mut buffer = vec![0xEE; FRAME_HEADER_BYTES_MAX];
    buffer.extend(payload(number));
    let status = transport().send_in_place(BINARY, &mut buffer, FRAME_HEADER_BYTES_MAX);
    buffer.fill(0xDD);
    status
}

fn fixture() -> Fixture {
    Fixture::offering(QueuePolicy::Close, 2000)
}

#[test]
fn the_socket_is_given_a_frame_where_it_lies() {
    let mut fixture = fixture();
    let before = fixture.stats().bytes_sent;
    fixture.give([FULL, FULL]);
    for number in 0..2 {
        assert_eq!(send_in_place(number), SendStatus::Queued);
        assert_eq!((fixture.offers(), transport().buffered_amount()), (1, 0));
    }
    assert_eq!(fixture.stats().frames_sent, 2);
    assert_eq!(fixture.stats().bytes_sent - before, 2 * 1004);
    assert_eq!(fixture.numbers(), [0, 1]);
}

#[test]
fn what_was_queued_before_leaves_before() {
    let mut fixture = fixture();
    fixture.give([FULL, FULL]);
    assert_eq!(send(0), SendStatus::Queued);
    assert_eq!(send_in_place(1), SendStatus::Queued);
    assert_eq!((fixture.offers(), transport().buffered_amount()), (2, 0));
    // The socket takes a part of it: what follows is copied behind it, and not offered.
    assert_eq!(send(2), SendStatus::Queued);
    fixture.give([Ok(100)]);
    assert_eq!(send_in_place(3), SendStatus::Queued);
    assert_eq!(send_in_place(4), SendStatus::Congested);
    assert_eq!((fixture.offers(), transport().buffered_amount()), (2, 3 * 1004 - 100));
    assert_eq!(fixture.numbers(), [0, 1, 2, 3, 4]);
}

#[test]
fn what_the_socket_does_not_take_is_copied() {
    for taken in [0, 1, 3, 4, 5, 999, 1003] {
        let mut fixture = fixture();
        fixture.give([Ok(taken)]);
        assert_eq!(send_in_place(0), SendStatus::Queued);
        assert_eq!(transport().buffered_amount(), 1004 - taken, "{taken} bytes");
        let asked = if taken == 0 { 1 } else { 2 };
        assert_eq!(fixture.offers(), asked, "until it takes nothing");
        let is_much = 2008 - taken > 2000;
        let expected = if is_much { SendStatus::Congested } else { SendStatus::Queued };
        assert_eq!(send_in_place(1), expected);
        assert_eq!(fixture.numbers(), [0, 1], "{taken} bytes");
    }
}

#[test]
fn a_short_payload_leaves_with_the_turn() {
    let fixture = fixture();
    fixture.give([FULL]);
    let mut buffer = [7; FRAME_HEADER_BYTES_MAX + 199];
    assert!(transport().send_in_place(BINARY, &mut buffer, FRAME_HEADER_BYTES_MAX).is_queued());
    assert_eq!(fixture.offers(), 0);
    assert_eq!(transport().buffered_amount(), 4 + 199);
}

#[test]
fn a_socket_that_fails_ends_the_connection() {
    let mut fixture = fixture();
    fixture.give([Ok(500), Err(io::ErrorKind::ConnectionReset.into())]);
    assert_eq!(send_in_place(0), SendStatus::Closed);
    let cause = DisconnectCause::Io(io::ErrorKind::ConnectionReset);
    assert_eq!(transport().disconnect_cause(), Some(cause));
    fixture.turn();
    assert!(transport().is_disconnected());
    assert_eq!(send_in_place(1), SendStatus::Closed);
}

#[test]
fn a_frame_that_has_begun_and_cannot_be_kept_ends_the_connection() {
    let mut fixture = fixture();
    fixture.give([Ok(1000)]);
    RESERVE_MAX.set(1000);
    let mut buffer = vec![0; 60_000];
    let status = transport().send_in_place(BINARY, &mut buffer, FRAME_HEADER_BYTES_MAX);
    RESERVE_MAX.set(usize::MAX);
    assert_eq!(status, SendStatus::Closed);
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::OutOfMemory));
    fixture.worker.ring.unstick();
    fixture.turn();
    assert_eq!(fixture.worker.ring.sent.len(), 1000, "nothing inside of a frame");
}

#[test]
fn misuse_sends_nothing() {
    let fixture = fixture();
    let send = |head, start| transport().send_in_place(head, &mut [0; 1000], start);
    for status in [send(BINARY, 13), send(BINARY, 1001), send(BINARY.with_rsv(8), 14)] {
        assert!(matches!(status, SendStatus::Refused(_)), "{status:?}");
    }
    assert!(matches!(send(FrameHead::new(MsgType::Close), 14), SendStatus::Refused(_)));
    assert!(matches!(send(FrameHead::new(MsgType::Ping), 14), SendStatus::Refused(_)));
    assert_eq!(transport().buffered_amount(), 0);
    assert_eq!(fixture.stats().frames_sent, 0);
}
