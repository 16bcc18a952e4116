//! Posts of other threads while a worker is busy: how much of them waits, and what comes of it.

use super::*;
use crate::remote::{RemoteError, RemoteTransport};
use picows_uring_proto::FrameHead;

const MIB: usize = 1 << 20;

impl Fixture {
    fn posting(policy: QueuePolicy, queue_bytes_max: usize) -> (Self, RemoteTransport) {
        let fixture = Self::new(Manner::default(), |config| {
            config.liveness.auto_ping = None;
            without_looks(config);
            (config.queue_policy, config.queue_bytes_max) = (policy, queue_bytes_max);
            (config.high_watermark, config.low_watermark) = (queue_bytes_max / 2, 0);
        });
        (fixture, transport().remote())
    }

    /// Letters that wait for the worker.
    fn commands(&self) -> usize {
        self.worker.local.mailbox.len()
    }
}

/// Posts payloads of 1 MiB until one is not taken, and returns how many were, and why no more.
fn fill(remote: &RemoteTransport) -> (usize, RemoteError) {
    let mut posted = 0;
    loop {
        match remote.send(MsgType::Binary, vec![1; MIB]) {
            Ok(()) => posted += 1,
            Err(error) => return (posted, error),
        }
    }
}

#[test]
fn no_more_waits_for_a_worker_than_may() {
    for (queue_bytes_max, posted) in [(10 * MIB, 15), (40 * MIB, 39)] {
        let (mut fixture, remote) = Fixture::posting(QueuePolicy::DropNewest, queue_bytes_max);
        for _ in 0..3 {
            assert_eq!(fill(&remote), (posted, RemoteError::Congested), "commands count as well");
            assert_eq!(remote.send(MsgType::Text, "more"), Ok(()));
            let latest = remote.send_latest(1, MsgType::Text, vec![1; MIB]);
            assert_eq!(latest, Err(RemoteError::Congested));
            fixture.turn();
        }
        // What does not fit by itself is for the policy of the queue.
        assert_eq!(remote.send(MsgType::Binary, vec![1; queue_bytes_max + 1]), Ok(()));
        fixture.turn();
        assert_eq!(transport().disconnect_cause(), None);
        assert!(fixture.stats().frames_dropped > 0);
    }
}

#[test]
fn a_gap_ends_the_connection_where_the_policy_is_to_close() {
    let (mut fixture, remote) = Fixture::posting(QueuePolicy::Close, 40 * MIB);
    assert_eq!(fill(&remote), (39, RemoteError::QueueFull));
    // The worker has not seen that yet, and would have room for this.
    for _ in 0..1000 {
        assert_eq!(remote.send(MsgType::Text, "after the gap"), Err(RemoteError::QueueFull));
    }
    assert_eq!(fixture.commands(), 39 + 1);
    fixture.turn();
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::QueueFull));
    let close = b"\x88\x11\x03\xF0send queue full";
    let sent = &fixture.worker.ring.sent;
    assert_eq!(sent.len(), 39 * (10 + MIB) + close.len(), "all that was posted before");
    assert!(sent.ends_with(close));
    fixture.say(CLOSE, &[3, 0xE8]);
    fixture.worker.ring.end(ReceiveResult::EndOfStream);
    fixture.turn();
    assert!(fixture.is_gone());
    assert_eq!(remote.send(MsgType::Text, "too late"), Err(RemoteError::Disconnected));
}

#[test]
fn neither_a_ping_nor_what_breaks_the_protocol_leaves_a_gap() {
    let (mut fixture, remote) = Fixture::posting(QueuePolicy::Close, 40 * MIB);
    remote.send(MsgType::Binary, vec![1; 40 * MIB - 1000]).unwrap();
    while remote.send(MsgType::Ping, vec![1; 125]).is_ok() {}
    assert_eq!(remote.send(MsgType::Ping, vec![1; 125]), Err(RemoteError::Congested));
    let misuse = remote.send_frame(FrameHead::new(MsgType::Ping).with_fin(false), "");
    assert!(matches!(misuse, Err(RemoteError::Misuse(_))));
    fixture.turn();
    assert_eq!(transport().disconnect_cause(), None);
    assert!(!transport().is_close_frame_sent());
}

#[test]
fn a_message_between_the_fragments_of_another_is_refused_and_leaves_no_gap() {
    let (mut fixture, remote) = Fixture::posting(QueuePolicy::Close, 10_000);
    transport().send_frame(FrameHead::new(MsgType::Text).with_fin(false), b"begun");
    assert_eq!(remote.send(MsgType::Text, "in the middle"), Ok(()));
    fixture.turn();
    assert_eq!(fixture.worker.ring.sent, b"\x01\x05begun");
    assert_eq!(transport().disconnect_cause(), None);
}

#[test]
fn a_worker_that_is_late_costs_a_peer_that_reads_nothing() {
    for policy in [QueuePolicy::Close, QueuePolicy::DropNewest, QueuePolicy::DropOldest] {
        let (mut fixture, remote) = Fixture::posting(policy, 100_000);
        fixture.worker.ring.outlet.give((0..200).map(|_| Ok(usize::MAX)));
        for number in 0..2000_u32 {
            let payload = [&number.to_be_bytes()[..], &[b'x'; 996]].concat();
            assert_eq!(remote.send(MsgType::Binary, payload), Ok(()), "{policy:?}: {number}");
        }
        fixture.turn();
        let sent = std::mem::take(&mut fixture.worker.ring.sent);
        let numbers = sent.chunks(1004).map(|it| u32::from_be_bytes(it[4..8].try_into().unwrap()));
        assert!(numbers.eq(0..2000), "{policy:?}");
        assert_eq!(fixture.stats().frames_dropped, 0);
    }
}

#[test]
fn of_each_end_one_command_waits_however_often_it_is_posted() {
    let (mut fixture, remote) = Fixture::posting(QueuePolicy::Close, 10_000);
    let remotes = [remote.clone(), transport().remote()];
    for remote in remotes.iter().cycle().take(10_000) {
        assert_eq!(remote.send_close(CloseCode::NORMAL, "x".repeat(120)), Ok(()));
        assert_eq!(remote.disconnect(), Ok(()));
    }
    assert_eq!(fixture.commands(), 2);
    // An abort may still follow, as it does more than they do.
    (0..10_000).for_each(|_| remote.abort().unwrap());
    assert_eq!(fixture.commands(), 3);
    fixture.turn();
    assert!(fixture.is_gone());
}

#[test]
fn each_end_takes_effect_after_what_was_posted_before() {
    type Post = fn(&RemoteTransport) -> Result<(), RemoteError>;
    let ends: [(Post, &[u8]); 3] = [
        (|remote| remote.send_close(CloseCode::NORMAL, ""), b"\x81\x05first\x88\x02\x03\xE8"),
        (RemoteTransport::disconnect, b"\x81\x05first"),
        (RemoteTransport::abort, b""),
    ];
    for (end, sent) in ends {
        let (mut fixture, remote) = Fixture::posting(QueuePolicy::Close, 10_000);
        remote.send(MsgType::Text, "first").unwrap();
        end(&remote).unwrap();
        end(&remote).unwrap();
        fixture.turn();
        assert!(fixture.worker.ring.sent == sent, "{}", fixture.worker.ring.sent.escape_ascii());
        fixture.go(20 * SECOND);
        assert!(fixture.is_gone());
    }
}

#[test]
fn a_worker_that_is_stopped_again_and_again_has_one_timer_for_it() {
    let (mut fixture, _) = Fixture::posting(QueuePolicy::Close, 10_000);
    let before = fixture.worker.timers.len();
    fixture.worker.stop(3 * SECOND);
    for _ in 0..1000 {
        fixture.worker.stop(5 * SECOND);
    }
    let timers = fixture.worker.timers.len() - before;
    assert_eq!(timers, 1 + usize::from(fixture.worker.shutdown.is_pacing()));
    fixture.go(3 * SECOND - GRANULE);
    assert!(!fixture.is_gone());
    fixture.go(3 * SECOND + GRANULE);
    assert!(fixture.is_gone());
}

#[test]
fn reading_is_resumed_as_often_as_it_was_paused_and_one_command_waits() {
    let (mut fixture, remote) = Fixture::posting(QueuePolicy::Close, 10_000);
    for _ in 0..3 {
        transport().pause_reading();
        fixture.turn();
        for _ in 0..10_000 {
            remote.resume_reading().unwrap();
        }
        assert_eq!(fixture.commands(), 1);
        fixture.turn();
        assert!(!transport().is_reading_paused());
    }
}
