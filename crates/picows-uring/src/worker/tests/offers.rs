//! Offers of queued bytes to a socket where a limit is met, before its peer is judged.

use super::*;
use crate::status::SendStatus;
use bytes::Bytes;
use picows_uring_proto::FrameHead;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

const POLICIES: [QueuePolicy; 3] =
    [QueuePolicy::Close, QueuePolicy::DropNewest, QueuePolicy::DropOldest];
const LIMIT: usize = 100 * 1024;
pub(super) const FULL: io::Result<usize> = Ok(usize::MAX);

impl Fixture {
    /// A connection whose ring sends nothing: only what its socket is offered leaves.
    pub(super) fn offering(policy: QueuePolicy, high_watermark: usize) -> Self {
        let manner = Manner { tells_pauses: true, ..Manner::default() };
        let mut fixture = Self::new(manner, |config| {
            config.liveness.auto_ping = None;
            (config.queue_policy, config.queue_bytes_max) = (policy, LIMIT);
            (config.high_watermark, config.low_watermark) = (high_watermark, high_watermark / 4);
        });
        fixture.worker.ring.is_stuck = true;
        fixture.turn();
        fixture
    }

    /// Gives the socket room, call by call.
    pub(super) fn give(&self, room: impl IntoIterator<Item = io::Result<usize>>) {
        self.worker.ring.outlet.give(room);
    }

    pub(super) fn offers(&self) -> usize {
        self.worker.ring.outlet.asked()
    }

    /// The numbers of all messages that have left.
    pub(super) fn numbers(&mut self) -> Vec<u32> {
        self.worker.ring.unstick();
        self.turn();
        let sent = std::mem::take(&mut self.worker.ring.sent);
        assert_eq!(sent.len() % 1004, 0, "it ends inside a frame");
        let frames = sent.chunks(1004);
        frames.map(|frame| u32::from_be_bytes(frame[4..8].try_into().unwrap())).collect()
    }
}

pub(super) fn payload(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(1000, b'x');
    payload
}

pub(super) fn send(number: u32) -> SendStatus {
    transport().send(MsgType::Binary, payload(number))
}

#[test]
fn a_peer_that_takes_everything_gets_everything_however_much_a_callback_sends() {
    for policy in POLICIES {
        for high_watermark in [64 * 1024, usize::MAX] {
            let mut fixture = Fixture::offering(policy, high_watermark);
            fixture.give((0..100).map(|_| FULL));
            for number in 0..2000 {
                assert_eq!(send(number), SendStatus::Queued, "{policy:?}: message {number}");
                assert!(transport().buffered_amount() <= LIMIT);
            }
            assert!(fixture.offers() < 100, "a call for many frames");
            let stats = fixture.stats();
            assert_eq!((stats.frames_dropped, stats.frames_conflated), (0, 0));
            assert!(fixture.numbers().into_iter().eq(0..2000), "{policy:?}");
            assert_eq!(seen(), [""; 0], "nothing to pause for");
            assert!(!transport().is_close_frame_sent());
        }
    }
}

#[test]
fn a_peer_that_takes_everything_gets_each_pong() {
    // All of it, all but less than the high watermark, and less.
    for (room, answered) in [(usize::MAX, 3), (4000, 3), (2000, 1), (0, 1)] {
        let mut fixture = Fixture::offering(QueuePolicy::Close, 1000);
        fixture.give([Ok(room)]);
        transport().send(MsgType::Binary, vec![0; 4100]);
        let frames = [b"1", b"2", b"3"].map(|payload| frame(PING, payload));
        fixture.deliver(&frames.concat());
        let got = fixture.drain();
        let pongs = got.iter().filter(|(msg_type, ..)| *msg_type == MsgType::Pong);
        let pongs: Vec<_> = pongs.map(|(.., payload)| payload.clone()).collect();
        assert_eq!(pongs, [b"1", b"2", b"3"][3 - answered..], "with room for {room}");
    }
}

#[test]
fn what_a_socket_takes_of_it_counts_and_the_rest_is_judged() {
    let mut fixture = Fixture::offering(QueuePolicy::Close, usize::MAX);
    fixture.give([FULL, Ok(50_000)]);
    let queued = (0..1000).take_while(|number| send(*number).is_queued()).count();
    // A queue that was taken, half of another one, and one that is full.
    assert_eq!(queued, 2 * 101 + 50);
    assert_eq!(fixture.offers(), 3, "not once more after it has refused some");
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::QueueFull));
    fixture.turn();
    fixture.worker.ring.unstick();
    fixture.turn();
    let sent = &fixture.worker.ring.sent;
    assert_eq!(sent.len(), queued * 1004 + 4 + "send queue full".len(), "and CLOSE after all");
}

#[test]
fn a_peer_that_takes_nothing_is_asked_once_a_turn_and_judged_by_the_limit() {
    for policy in POLICIES {
        let mut fixture = Fixture::offering(policy, 64 * 1024);
        let statuses: Vec<_> = (0..300).map(send).collect();
        assert_eq!(fixture.offers(), 1, "{policy:?}");
        let expected = match policy {
            QueuePolicy::Close => SendStatus::Closed,
            QueuePolicy::DropNewest => SendStatus::Dropped,
            QueuePolicy::DropOldest => SendStatus::DroppedOldest,
        };
        assert_eq!(*statuses.last().unwrap(), expected);
        assert!(transport().buffered_amount() <= LIMIT + 125, "{policy:?}");
        fixture.turn();
        // What is in flight holds the others up, and nothing may overtake it.
        assert!(!send(300).is_queued() || policy == QueuePolicy::DropOldest);
        assert_eq!(fixture.offers(), 0);
    }
}

#[test]
fn a_send_that_the_kernel_has_not_seen_is_no_reason_to_judge() {
    let mut fixture = Fixture::offering(QueuePolicy::DropNewest, usize::MAX);
    let queued = (0..101).filter(|number| send(*number).is_queued()).count();
    // The turn ends here, and a task goes on before the next.
    fixture.worker.turn().unwrap();
    let more = (101..300).filter(|number| send(*number).is_queued()).count();
    assert_eq!((queued, more), (101, 102), "as much again, and no more");
    // Now it has: the peer takes nothing.
    fixture.turn();
    assert_eq!(send(300), SendStatus::Dropped);
    fixture.worker.ring.unstick();
    fixture.turn();
    assert_eq!(send(301), SendStatus::Queued);
}

#[test]
fn what_was_taken_in_time_is_known_before_more_is_queued() {
    let mut fixture = Fixture::offering(QueuePolicy::Close, usize::MAX);
    (0..101).for_each(|number| assert!(send(number).is_queued()));
    fixture.turn();
    // Frames of the peer and commands of another thread are in front of the completion.
    let remote = transport().remote();
    for number in 101..191 {
        remote.send(MsgType::Binary, payload(number)).unwrap();
    }
    fixture.worker.ring.deliver(&[0x82, 0x80, 0, 0, 0, 0]);
    fixture.worker.ring.unstick();
    fixture.turn();
    assert!(fixture.numbers().into_iter().eq(0..191));
    assert_eq!(transport().disconnect_cause(), None);
}

#[test]
fn a_socket_that_breaks_when_it_is_offered_something_ends_the_connection_as_broken() {
    let mut fixture = Fixture::offering(QueuePolicy::Close, usize::MAX);
    fixture.give([Err(io::ErrorKind::BrokenPipe.into())]);
    let last = (0..300).map(send).find(|status| !status.is_queued());
    assert_eq!(last, Some(SendStatus::Closed));
    fixture.turn();
    assert_eq!(seen(), ["disconnected Io(BrokenPipe)"]);
    assert!(fixture.is_gone());
}

#[test]
fn only_what_a_socket_has_refused_is_a_reason_to_pause() {
    // Many messages, two that are each more than the watermark, and two of which some stays.
    for (lengths, room, is_refused) in [
        (vec![1000; 20], usize::MAX, false),
        (vec![5000; 2], usize::MAX, false),
        (vec![5000; 2], 4000, true),
        (vec![1000; 20], 0, true),
    ] {
        let mut fixture = Fixture::offering(QueuePolicy::Close, 4000);
        fixture.give((0..if is_refused { 1 } else { 20 }).map(|_| Ok(room)));
        let send = |len: &usize| transport().send(MsgType::Binary, vec![0; *len]);
        let is_congested = lengths.iter().map(send).any(|it| it == SendStatus::Congested);
        fixture.turn();
        let expected = if is_refused { vec!["pause".to_owned()] } else { vec![] };
        assert_eq!((is_congested, seen()), (is_refused, expected), "{lengths:?} {room}");
    }
}

#[test]
fn a_long_frame_that_is_alone_leaves_with_the_turn_and_is_judged_by_what_stays_of_it() {
    const LEN: usize = 5000;
    for policy in POLICIES {
        for (left, expected) in [
            (0, ""),
            // As much as the high watermark, and more.
            (4000, ""),
            (4001, "pause"),
            (LEN + 4, "pause"),
        ] {
            let mut fixture = Fixture::offering(policy, 4000);
            assert_eq!(transport().send(MsgType::Binary, vec![0; LEN]), SendStatus::Queued);
            // It is on its way before the kernel has seen it.
            fixture.worker.turn().unwrap();
            assert_eq!(seen(), [""; 0], "{policy:?} {left}");
            if left <= LEN {
                fixture.worker.ring.take(LEN + 4 - left);
            }
            fixture.turn();
            assert_eq!(seen().concat(), expected, "{policy:?} {left}");
            assert_eq!(fixture.offers(), 0, "no call of its own");
            fixture.worker.ring.unstick();
            fixture.turn();
            fixture.worker.ring.unstick();
            fixture.turn();
            let resumed = if expected.is_empty() { "" } else { "resume" };
            assert_eq!(seen().concat(), resumed, "{policy:?} {left}");
            assert_eq!(fixture.worker.ring.sent.len(), LEN + 4);
        }
    }
}

#[test]
fn a_peer_that_takes_everything_gets_every_message_of_a_key() {
    for policy in POLICIES {
        let mut fixture = Fixture::offering(policy, 64 * 1024);
        fixture.give((0..200).map(|_| FULL));
        for number in 0..1000 {
            let status = transport().send_latest(1, MsgType::Binary, payload(number));
            assert_eq!(status, SendStatus::Queued, "{policy:?}: message {number}");
        }
        assert!(fixture.numbers().into_iter().eq(0..1000), "{policy:?}");
    }
}

/// A payload whose owner sends once more when it is dropped.
struct Answers(Vec<u8>);

impl AsRef<[u8]> for Answers {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        transport().send_text("dropped");
    }
}

#[test]
fn what_the_owner_of_a_payload_sends_when_it_is_dropped_comes_after_what_is_queued() {
    for room in [usize::MAX, 4 + 2000 + 10] {
        let mut fixture = Fixture::offering(QueuePolicy::Close, 4000);
        fixture.give([Ok(room), FULL, FULL]);
        for _ in 0..2 {
            let payload = Bytes::from_owner(Answers(vec![b'y'; 2000]));
            assert!(transport().send_bytes(FrameHead::new(MsgType::Text), &payload).is_queued());
        }
        fixture.turn();
        while !fixture.worker.ring.sending().is_empty() {
            fixture.worker.ring.unstick();
            fixture.turn();
        }
        let (long, short) =
            ([&b"\x81\x7E\x07\xD0"[..], &[b'y'; 2000]].concat(), b"\x81\x07dropped");
        let expected = [&long[..], &long, short, short].concat();
        assert!(fixture.worker.ring.sent == expected, "room for {room}");
    }
}

/// Counts how often it wakes.
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_task_that_waits_for_room_is_woken_when_a_socket_takes_what_it_is_offered() {
    let fixture = Fixture::offering(QueuePolicy::Close, 4000);
    (0..3).for_each(|number| assert!(send(number).is_queued()));
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    transport().session().wait_drained(&Arc::clone(&wakes).into());
    fixture.give([FULL]);
    assert_eq!((send(3), transport().buffered_amount()), (SendStatus::Queued, 0));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "no completion will do it");
}
