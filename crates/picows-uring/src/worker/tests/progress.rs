//! Peers that do not get on: a message that drips, a queue that nothing is taken of.

use super::*;
use crate::ring::SendState;

fn quiet() -> Fixture {
    Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None)
}

/// The header of a frame of 9 MiB, and how it begins.
const LARGE: &[u8] = b"\x82\xff\0\0\0\0\0\x90\0\0\0\0\0\0and so on";

impl Fixture {
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
    let mut fixture = quiet();
    fixture.deliver(LARGE);
    assert!(fixture.drip(b".", 0, 60));
    assert!(!fixture.drip(b".", 60, 76), "within a quarter of the time");
    fixture.assert_too_slow();
}

#[test]
fn a_frame_that_brings_enough_may_take_its_time() {
    let mut fixture = quiet();
    // Nothing is queued, so that nothing of it is taken says nothing.
    fixture.worker.ring.send_state = Some(SendState { taken: 100, has_more: false });
    fixture.deliver(LARGE);
    assert!(fixture.drip(&[0; 1100], 0, 600));
    assert!(!fixture.drip(b"", 600, 740), "and no more when it stops");
    fixture.assert_too_slow();
}

#[test]
fn a_header_that_is_cut_is_under_way() {
    let mut fixture = quiet();
    fixture.deliver(b"\x82");
    assert!(fixture.drip(b"", 0, 60) && !fixture.drip(b"", 60, 76));
    fixture.assert_too_slow();
}

#[test]
fn pings_and_empty_fragments_do_not_put_it_off() {
    let mut fixture = quiet();
    fixture.deliver(b"\x01\x82\0\0\0\0ab");
    let between = b"\x89\xfd\0\0\0\0".iter().copied().chain([b'p'; 125]).collect::<Vec<_>>();
    assert!(fixture.drip(
        &[&between.repeat(20)[..], b"\0\x80\0\0\0\0\0\x81\0\0\0\0c"].concat(),
        0,
        60
    ));
    assert!(!fixture.drip(&between, 60, 76));
    fixture.assert_too_slow();
}

#[test]
fn each_message_has_its_time_for_itself() {
    let mut fixture = quiet();
    fixture.deliver(LARGE);
    fixture.go(40 * SECOND);
    fixture.deliver(&vec![0; 0x90_0000 - 9]);
    fixture.deliver(b"\x82\x85\0\0\0\0cut");
    fixture.go(90 * SECOND);
    assert!(!fixture.is_gone() && !transport().is_close_frame_sent());
    fixture.deliver(b"me");
    fixture.go(10_000 * SECOND);
    assert!(!fixture.is_gone() && !transport().is_close_frame_sent());
}

#[test]
fn what_we_do_not_read_is_not_too_slow() {
    let mut fixture = quiet();
    fixture.deliver(LARGE);
    transport().pause_reading();
    assert!(fixture.drip(b"", 0, 1000));
    transport().resume_reading();
    fixture.deliver(b".");
    assert!(fixture.drip(b".", 1000, 1060), "it has its time from then on");
    assert!(!fixture.drip(b".", 1060, 1080));
    fixture.assert_too_slow();
}

#[test]
fn the_time_of_a_message_begins_with_it() {
    let mut fixture = quiet();
    fixture.go(100 * SECOND);
    fixture.deliver(LARGE);
    assert!(fixture.drip(b"", 100, 160));
    assert!(!fixture.drip(b"", 160, 162));
    fixture.assert_too_slow();
}

#[test]
fn the_memory_of_a_message_that_is_too_slow_is_free_at_once() {
    let mut fixture = quiet();
    fixture.deliver(LARGE);
    fixture.worker.ring.is_stuck = true;
    assert!(!fixture.drip(b"", 0, 70));
    let stats = fixture.stats();
    assert_eq!((stats.message_timeouts, stats.stash_bytes), (1, 0), "its CLOSE has not left yet");
    assert!(!fixture.is_gone() && fixture.worker.ring.sent.is_empty());
}

#[test]
fn what_has_arrived_and_was_not_handled_counts_once() {
    let last_second = |unread| {
        let mut fixture = quiet();
        fixture.deliver(LARGE);
        fixture.worker.ring.unread = unread;
        let end = (1..200).find(|second| !fixture.drip(b"", *second, second + 1));
        fixture.assert_too_slow();
        end.unwrap()
    };
    let (none, some) = (last_second(0), last_second(10));
    // Looks are an eighth of a minute apart.
    assert!((7..=8).contains(&(some - none)), "{none} s and {some} s");
}

#[test]
fn what_is_held_for_the_next_turn_counts() {
    let mut fixture = quiet();
    fixture.join(8);
    fixture.go(100 * SECOND);
    fixture.worker.ring.deliver_to(7, LARGE);
    fixture.turn();
    fixture.go(160 * SECOND - GRANULE);
    assert!(!fixture.is_gone() && fixture.stats().message_timeouts == 0);
    // In the turn of the look, another connection takes so long that this has to wait.
    fixture.worker.ring.now = fixture.worker.ring.deadline.unwrap() + GRANULE;
    fixture.worker.ring.deliver_to(8, &frame(TEXT, b"stall 30"));
    fixture.worker.ring.deliver_to(8, &frame(TEXT, b"stall 5"));
    fixture.worker.ring.deliver_to(7, &[0; 70_000]);
    fixture.turn();
    fixture.go(165 * SECOND);
    assert_eq!(fixture.stats().message_timeouts, 0);
    fixture.go(300 * SECOND);
    assert_eq!(fixture.stats().message_timeouts, 1);
}

#[test]
fn time_in_which_the_process_did_not_run_does_not_count() {
    let mut fixture = quiet();
    fixture.deliver(LARGE);
    fixture.go(30 * SECOND);
    fixture.worker.ring.now = 600 * SECOND;
    fixture.turn();
    assert!(fixture.drip(b".", 600, 630));
    assert!(!fixture.drip(b".", 630, 650));
    fixture.assert_too_slow();
}

#[test]
fn a_queue_of_which_nothing_is_taken_is_dropped() {
    let mut fixture = quiet();
    fixture.worker.ring.is_stuck = true;
    fixture.worker.ring.send_state = Some(SendState { taken: 100, has_more: true });
    transport().send(MsgType::Binary, [0; 1000]);
    fixture.turn();
    // What the peer sends does not put it off.
    assert!(fixture.drip(b"\x8a\x80\0\0\0\0", 0, 59));
    let mut fixture_of_reader = fixture;
    fixture_of_reader.worker.ring.send_state = Some(SendState { taken: 101, has_more: true });
    assert!(fixture_of_reader.drip(b"\x8a\x80\0\0\0\0", 60, 110), "a byte is something");
    assert!(!fixture_of_reader.drip(b"\x8a\x80\0\0\0\0", 110, 140));
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::WriteStalled));
    assert_eq!(fixture_of_reader.stats().write_stalls, 1);
    assert!(fixture_of_reader.worker.ring.sent.is_empty() && fixture_of_reader.is_gone());
}

/// A connection on a Unix socket whose peer has 100 bytes to read and takes nothing.
fn stuck_on_unix() -> Fixture {
    let mut fixture = quiet();
    fixture.worker.ring.is_stuck = true;
    fixture.worker.ring.untaken = Some(100);
    transport().send(MsgType::Binary, [0; 1000]);
    fixture.turn();
    fixture
}

#[test]
fn on_a_unix_socket_nothing_is_taken_when_as_much_waits_of_the_same_send() {
    let mut fixture = stuck_on_unix();
    for second in 0..59 {
        transport().send(MsgType::Binary, [0; 10]);
        assert!(fixture.drip(b"\x8a\x80\0\0\0\0", second, second + 1));
    }
    assert!(!fixture.drip(b"", 59, 76));
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::WriteStalled));
    assert!(fixture.stats().write_stalls == 1 && fixture.is_gone());
}

#[test]
fn on_a_unix_socket_less_to_read_is_something_taken_and_so_is_another_send() {
    let mut fixture = stuck_on_unix();
    assert!(fixture.drip(b"", 0, 50));
    fixture.worker.ring.untaken = Some(99);
    assert!(fixture.drip(b"", 50, 100));
    // The kernel takes as much of the next as the peer has read.
    for minute in 2..5 {
        fixture.worker.ring.take(500);
        fixture.turn();
        transport().send(MsgType::Binary, [0; 496]);
        assert!(fixture.drip(b"", 60 * minute - 20, 60 * minute + 30), "{minute}");
    }
    assert_eq!(fixture.stats().write_stalls, 0);
    assert!(!fixture.drip(b"", 270, 360));
}

#[test]
fn without_limits_nothing_is_looked_at() {
    let mut fixture = Fixture::new(Manner::default(), |config| {
        config.liveness.auto_ping = None;
        without_looks(config);
    });
    fixture.go(20 * SECOND);
    fixture.worker.ring.is_stuck = true;
    fixture.worker.ring.send_state = Some(SendState { taken: 100, has_more: true });
    transport().send(MsgType::Binary, [0; 1000]);
    fixture.deliver(LARGE);
    assert_eq!(fixture.go(10_000 * SECOND), 0);
    assert!(!fixture.is_gone());
}

#[test]
fn messages_set_no_timers_and_an_idle_connection_is_let_be() {
    let mut fixture = quiet();
    fixture.go(20 * SECOND);
    fixture.worker.ring.is_stuck = true;
    for _ in 0..100 {
        fixture.deliver(b"\x82\x85\0\0\0\0cut");
        transport().send(MsgType::Binary, [0; 100]);
        fixture.turn();
        fixture.worker.ring.unstick();
        fixture.worker.ring.is_stuck = true;
        fixture.deliver(b"me");
    }
    assert_eq!(fixture.worker.timers.len(), 1, "one for all of them");
    fixture.worker.ring.unstick();
    fixture.turn();
    fixture.go(40 * SECOND);
    assert_eq!((fixture.worker.timers.len(), fixture.go(10_000 * SECOND)), (0, 0));
}
