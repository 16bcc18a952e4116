//! Sends of one connection alone: they leave within the turn, and what does not fit follows.

use super::*;
use crate::status::SendStatus;

impl Fixture {
    /// A ring that sends nothing by itself: only what sockets take at once leaves.
    fn immediate(room: impl IntoIterator<Item = io::Result<usize>>) -> Self {
        Self::immediate_up_to(1000, room)
    }

    /// The same with a high watermark.
    fn immediate_up_to(
        high_watermark: usize,
        room: impl IntoIterator<Item = io::Result<usize>>,
    ) -> Self {
        let manner = Manner { tells_pauses: true, ..Manner::default() };
        let mut fixture = Self::new(manner, |config| {
            config.liveness.auto_ping = None;
            (config.queue_policy, config.queue_bytes_max) = (QueuePolicy::DropOldest, 120_000);
            (config.high_watermark, config.low_watermark) = (high_watermark, 100);
        });
        fixture.worker.ring.is_stuck = true;
        fixture.worker.ring.room.extend(room);
        fixture
    }

    /// What the ring was left with, to be sent when there is room.
    fn left(&self) -> usize {
        self.worker.ring.sending().iter().map(|part| part.len()).sum()
    }
}

#[test]
fn what_is_sent_alone_has_left_when_the_turn_ends() {
    let mut fixture = Fixture::immediate([Ok(usize::MAX), Ok(usize::MAX)]);
    let before = fixture.stats().bytes_sent;
    for text in ["alone", "again"] {
        transport().send_text(text);
        assert_eq!(fixture.worker.turn().unwrap(), Turn::Idle);
        assert_eq!(fixture.heard(), [(TEXT, text.into())]);
        assert_eq!((fixture.left(), transport().buffered_amount()), (0, 0));
    }
    assert_eq!(fixture.stats().bytes_sent - before, 2 * 7);
    assert!(fixture.worker.ring.room.is_empty());
}

#[test]
fn what_does_not_fit_at_once_follows_in_order() {
    let full = Err(io::ErrorKind::WouldBlock.into());
    let interrupted = Err(io::ErrorKind::Interrupted.into());
    for (room, taken) in [(full, 0), (interrupted, 0), (Ok(1), 1), (Ok(6), 6)] {
        let mut fixture = Fixture::immediate([room]);
        transport().send_text("alone");
        fixture.turn();
        assert_eq!((fixture.worker.ring.sent.len(), fixture.left()), (taken, 7 - taken));
        assert_eq!(transport().buffered_amount(), 7 - taken);
        // Behind the rest, whatever there is room for now.
        fixture.worker.ring.room.push_back(Ok(usize::MAX));
        transport().send_text("later");
        fixture.turn();
        fixture.worker.ring.unstick();
        fixture.turn();
        assert_eq!(fixture.heard(), [(TEXT, b"alone".into()), (TEXT, b"later".into())]);
        assert_eq!(transport().buffered_amount(), 0);
    }
}

#[test]
fn a_socket_that_takes_nothing_ever_ends_the_connection() {
    let mut fixture = Fixture::immediate([Err(io::ErrorKind::BrokenPipe.into())]);
    transport().send_text("anybody there?");
    fixture.turn();
    assert_eq!(seen(), ["disconnected Io(BrokenPipe)"]);
    assert!(fixture.is_gone());
}

#[test]
fn what_several_send_leaves_together() {
    let mut fixture = Fixture::immediate([Ok(usize::MAX), Ok(usize::MAX)]);
    let first = transport();
    fixture.worker.ring.is_stuck = false;
    fixture.join(8);
    let rooms = fixture.worker.ring.room.len();
    first.send_text("one");
    transport().send_text("two");
    fixture.turn();
    assert_eq!(fixture.heard(), [(TEXT, b"one".into()), (TEXT, b"two".into())]);
    assert_eq!(fixture.worker.ring.room.len(), rooms, "by the ring");
}

#[test]
fn what_is_large_is_left_to_the_ring() {
    for (len, left) in [(64 * 1024 - 4, 0), (64 * 1024, 64 * 1024 + 10)] {
        let mut fixture = Fixture::immediate([Ok(usize::MAX)]);
        transport().send(MsgType::Binary, vec![0; len]);
        fixture.turn();
        assert_eq!(fixture.left(), left);
    }
}

#[test]
fn a_pause_ends_as_soon_as_enough_has_left() {
    for room in [usize::MAX, 1950] {
        let mut fixture = Fixture::immediate([Ok(room)]);
        // The socket takes nothing when it is offered the first with the second.
        for expected in [SendStatus::Queued, SendStatus::Congested] {
            assert_eq!(transport().send(MsgType::Binary, vec![0; 1000]), expected);
        }
        fixture.turn();
        assert_eq!(seen(), ["pause", "resume"]);
    }
    let mut fixture = Fixture::immediate([Ok(1950)]);
    transport().send(MsgType::Binary, vec![0; 2000]);
    fixture.turn();
    assert_eq!(seen(), [""; 0], "nothing to pause for");
    let mut fixture = Fixture::immediate([Ok(1000)]);
    transport().send(MsgType::Binary, vec![0; 2000]);
    fixture.turn();
    assert_eq!(seen(), ["pause"]);
}

#[test]
fn what_waits_apart_follows_without_a_completion() {
    let mut fixture = Fixture::immediate_up_to(usize::MAX, [(); 8].map(|()| Ok(usize::MAX)));
    for _ in 0..100 {
        transport().send(MsgType::Binary, vec![0; 1000]);
    }
    fixture.turn();
    assert_eq!(fixture.worker.ring.sent.len(), 100 * 1004);
    assert_eq!(transport().buffered_amount(), 0);
    assert!(fixture.worker.ring.room.len() < 7, "a part at a time");
}

#[test]
fn what_waits_apart_leaves_before_the_end() {
    type End = fn(&mut Fixture);
    let ends: [(&str, End); 3] = [
        ("disconnect", |_| transport().disconnect()),
        ("close", |_| assert!(transport().send_close(CloseCode::NORMAL, "").is_queued())),
        ("end of stream", |fixture| fixture.worker.ring.end(ReceiveResult::EndOfStream)),
    ];
    for (what, end) in ends {
        let mut fixture = Fixture::immediate_up_to(usize::MAX, [(); 8].map(|()| Ok(usize::MAX)));
        for _ in 0..100 {
            transport().send(MsgType::Binary, vec![0; 1000]);
        }
        end(&mut fixture);
        fixture.turn();
        fixture.worker.ring.unstick();
        fixture.turn();
        let before = fixture.worker.ring.shut_down_behind.unwrap_or(fixture.worker.ring.sent.len());
        assert!(before >= 100 * 1004, "{what}: {before} bytes");
        fixture.go(10 * SECOND);
        assert!(fixture.is_gone(), "{what}");
    }
}
