//! Peers that do not get on: a message that drips, a queue that nothing is taken of.

use super::*;
use crate::ring::Outbox;

fn quiet() -> Stage {
    Stage::new(Manner::default(), |config| config.liveness.auto_ping = None)
}

/// The header of a frame of 9 MiB, and how it begins.
const LARGE: &[u8] = b"\x82\xff\0\0\0\0\0\x90\0\0\0\0\0\0and so on";

impl Stage {
    /// Delivers `bytes` each second, up to a time; returns whether the connection is still there then.
    fn drip(&mut self, bytes: &[u8], from: u32, to: u32) -> bool {
        for second in from..to {
            self.go(SECOND * second);
            self.deliver(bytes);
        }
        !self.is_gone() && !transport().is_close_frame_sent()
    }

    fn assert_too_slow(&mut self) {
        let close = self.heard().pop();
        assert_eq!(close, Some((CLOSE, b"\x03\xf0message too slow".to_vec())));
        let cause = transport().disconnect_cause();
        assert_eq!(cause, Some(DisconnectCause::MessageTooSlow));
        assert_eq!((self.stats().message_timeouts, self.stats().stash_bytes), (1, 0));
    }
}

#[test]
fn a_frame_that_drips_gets_1008() {
    let mut stage = quiet();
    stage.deliver(LARGE);
    assert!(stage.drip(b".", 0, 60));
    assert!(!stage.drip(b".", 60, 76), "within a quarter of the time");
    stage.assert_too_slow();
}

#[test]
fn a_frame_that_brings_enough_may_take_its_time() {
    let mut stage = quiet();
    // Nothing is queued, so that nothing of it is taken says nothing.
    stage.worker.ring.outbox = Some(Outbox { taken: 100, has_more: false });
    stage.deliver(LARGE);
    assert!(stage.drip(&[0; 1100], 0, 600));
    assert!(!stage.drip(b"", 600, 740), "and no more when it stops");
    stage.assert_too_slow();
}

#[test]
fn a_header_that_is_cut_is_under_way() {
    let mut stage = quiet();
    stage.deliver(b"\x82");
    assert!(stage.drip(b"", 0, 60) && !stage.drip(b"", 60, 76));
    stage.assert_too_slow();
}

#[test]
fn pings_and_empty_fragments_do_not_put_it_off() {
    let mut stage = quiet();
    stage.deliver(b"\x01\x82\0\0\0\0ab");
    let between = b"\x89\xfd\0\0\0\0".iter().copied().chain([b'p'; 125]).collect::<Vec<_>>();
    assert!(stage.drip(
        &[&between.repeat(20)[..], b"\0\x80\0\0\0\0\0\x81\0\0\0\0c"].concat(),
        0,
        60
    ));
    assert!(!stage.drip(&between, 60, 76));
    stage.assert_too_slow();
}

#[test]
fn each_message_has_its_time_for_itself() {
    let mut stage = quiet();
    stage.deliver(LARGE);
    stage.go(40 * SECOND);
    stage.deliver(&vec![0; 0x90_0000 - 9]);
    stage.deliver(b"\x82\x85\0\0\0\0cut");
    stage.go(90 * SECOND);
    assert!(!stage.is_gone() && !transport().is_close_frame_sent());
    stage.deliver(b"me");
    stage.go(10_000 * SECOND);
    assert!(!stage.is_gone() && !transport().is_close_frame_sent());
}

#[test]
fn what_we_do_not_read_is_not_too_slow() {
    let mut stage = quiet();
    stage.deliver(LARGE);
    transport().pause_reading();
    assert!(stage.drip(b"", 0, 1000));
    transport().resume_reading();
    stage.deliver(b".");
    assert!(stage.drip(b".", 1000, 1060), "it has its time from then on");
    assert!(!stage.drip(b".", 1060, 1080));
    stage.assert_too_slow();
}

#[test]
fn the_time_of_a_message_begins_with_it() {
    let mut stage = quiet();
    stage.go(100 * SECOND);
    stage.deliver(LARGE);
    assert!(stage.drip(b"", 100, 160));
    assert!(!stage.drip(b"", 160, 162));
    stage.assert_too_slow();
}

#[test]
fn the_memory_of_a_message_that_is_too_slow_is_free_at_once() {
    let mut stage = quiet();
    stage.deliver(LARGE);
    stage.worker.ring.is_stuck = true;
    assert!(!stage.drip(b"", 0, 70));
    let stats = stage.stats();
    assert_eq!((stats.message_timeouts, stats.stash_bytes), (1, 0), "its CLOSE has not left yet");
    assert!(!stage.is_gone() && stage.worker.ring.sent.is_empty());
}

#[test]
fn what_has_arrived_and_was_not_handled_counts_once() {
    let last_second = |unread| {
        let mut stage = quiet();
        stage.deliver(LARGE);
        stage.worker.ring.unread = unread;
        let end = (1..200).find(|second| !stage.drip(b"", *second, second + 1));
        stage.assert_too_slow();
        end.unwrap()
    };
    let (none, some) = (last_second(0), last_second(10));
    // Looks are an eighth of a minute apart.
    assert!((7..=8).contains(&(some - none)), "{none} s and {some} s");
}

#[test]
fn what_is_held_for_the_next_turn_counts() {
    let mut stage = quiet();
    stage.join(8);
    stage.go(100 * SECOND);
    stage.worker.ring.deliver_to(7, LARGE);
    stage.turn();
    stage.go(160 * SECOND - GRANULE);
    assert!(!stage.is_gone() && stage.stats().message_timeouts == 0);
    // In the turn of the look, another connection takes so long that this has to wait.
    stage.worker.ring.now = stage.worker.ring.deadline.unwrap() + GRANULE;
    stage.worker.ring.deliver_to(8, &frame(TEXT, b"stall 30"));
    stage.worker.ring.deliver_to(8, &frame(TEXT, b"stall 5"));
    stage.worker.ring.deliver_to(7, &[0; 70_000]);
    stage.turn();
    stage.go(165 * SECOND);
    assert_eq!(stage.stats().message_timeouts, 0);
    stage.go(300 * SECOND);
    assert_eq!(stage.stats().message_timeouts, 1);
}

#[test]
fn time_in_which_the_process_did_not_run_does_not_count() {
    let mut stage = quiet();
    stage.deliver(LARGE);
    stage.go(30 * SECOND);
    stage.worker.ring.now = 600 * SECOND;
    stage.turn();
    assert!(stage.drip(b".", 600, 630));
    assert!(!stage.drip(b".", 630, 650));
    stage.assert_too_slow();
}

#[test]
fn a_queue_of_which_nothing_is_taken_is_dropped() {
    let mut stage = quiet();
    stage.worker.ring.is_stuck = true;
    stage.worker.ring.outbox = Some(Outbox { taken: 100, has_more: true });
    transport().send(MsgType::Binary, [0; 1000]);
    stage.turn();
    // What the peer sends does not put it off.
    assert!(stage.drip(b"\x8a\x80\0\0\0\0", 0, 59));
    let mut stage_of_reader = stage;
    stage_of_reader.worker.ring.outbox = Some(Outbox { taken: 101, has_more: true });
    assert!(stage_of_reader.drip(b"\x8a\x80\0\0\0\0", 60, 110), "a byte is something");
    assert!(!stage_of_reader.drip(b"\x8a\x80\0\0\0\0", 110, 140));
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::WriteStalled));
    assert_eq!(stage_of_reader.stats().write_stalls, 1);
    assert!(stage_of_reader.worker.ring.sent.is_empty() && stage_of_reader.is_gone());
}

/// A connection on a Unix socket whose peer has 100 bytes to read and takes nothing.
fn stuck_on_unix() -> Stage {
    let mut stage = quiet();
    stage.worker.ring.is_stuck = true;
    stage.worker.ring.untaken = Some(100);
    transport().send(MsgType::Binary, [0; 1000]);
    stage.turn();
    stage
}

#[test]
fn on_a_unix_socket_nothing_is_taken_when_as_much_waits_of_the_same_send() {
    let mut stage = stuck_on_unix();
    for second in 0..59 {
        transport().send(MsgType::Binary, [0; 10]);
        assert!(stage.drip(b"\x8a\x80\0\0\0\0", second, second + 1));
    }
    assert!(!stage.drip(b"", 59, 76));
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::WriteStalled));
    assert!(stage.stats().write_stalls == 1 && stage.is_gone());
}

#[test]
fn on_a_unix_socket_less_to_read_is_something_taken_and_so_is_another_send() {
    let mut stage = stuck_on_unix();
    assert!(stage.drip(b"", 0, 50));
    stage.worker.ring.untaken = Some(99);
    assert!(stage.drip(b"", 50, 100));
    // The kernel takes as much of the next as the peer has read.
    for minute in 2..5 {
        stage.worker.ring.take(500);
        stage.turn();
        transport().send(MsgType::Binary, [0; 496]);
        assert!(stage.drip(b"", 60 * minute - 20, 60 * minute + 30), "{minute}");
    }
    assert_eq!(stage.stats().write_stalls, 0);
    assert!(!stage.drip(b"", 270, 360));
}

#[test]
fn without_limits_nothing_is_looked_at() {
    let mut stage = Stage::new(Manner::default(), |config| {
        config.liveness.auto_ping = None;
        without_looks(config);
    });
    stage.go(20 * SECOND);
    stage.worker.ring.is_stuck = true;
    stage.worker.ring.outbox = Some(Outbox { taken: 100, has_more: true });
    transport().send(MsgType::Binary, [0; 1000]);
    stage.deliver(LARGE);
    assert_eq!(stage.go(10_000 * SECOND), 0);
    assert!(!stage.is_gone());
}

#[test]
fn messages_set_no_timers_and_an_idle_connection_is_let_be() {
    let mut stage = quiet();
    stage.go(20 * SECOND);
    stage.worker.ring.is_stuck = true;
    for _ in 0..100 {
        stage.deliver(b"\x82\x85\0\0\0\0cut");
        transport().send(MsgType::Binary, [0; 100]);
        stage.turn();
        stage.worker.ring.unstick();
        stage.worker.ring.is_stuck = true;
        stage.deliver(b"me");
    }
    assert_eq!(stage.worker.wheel.len(), 1, "one for all of them");
    stage.worker.ring.unstick();
    stage.turn();
    stage.go(40 * SECOND);
    assert_eq!((stage.worker.wheel.len(), stage.go(10_000 * SECOND)), (0, 0));
}
