//! Memory limit: who is dropped, and who is not.

use super::*;
use crate::memory::MemoryBudget;
use crate::messages::MessageBytes;
use crate::pool::releases;
use crate::status::DisconnectCause;
use picows_uring_proto::Stash;

/// A server whose connections may hold 100,000 bytes, with these.
fn limited(sockets: &[i32]) -> Fixture {
    let config = Config { memory: MemoryBudget::new(Some(100_000)), ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    sockets.iter().for_each(|socket| fixture.join(*socket));
    fixture
}

impl Fixture {
    /// A client sends so much of a larger frame.
    fn cut(&mut self, socket: i32, bytes: usize) {
        let mut frame = b"\x82\xff\0\0\0\0\0\x09\0\0\0\0\0\0".to_vec();
        frame.resize(frame.len() + bytes, 0);
        self.worker.ring.deliver_to(socket, &frame);
        self.turn();
    }

    fn assert_held(&mut self, range: std::ops::Range<usize>) {
        let held = self.worker.held_bytes();
        assert!(range.contains(&held), "{held} bytes are held");
        let each: usize = self.worker.connections().map(|it| it.held_bytes()).sum();
        assert_eq!(held, each);
        assert!(held.abs_diff(self.worker.memory.share.sum()) < 1024);
    }
}

const CLOSE_1013: &[u8] = b"\x88\x27\x03\xf5memory limit reached: try again later";

#[test]
fn the_largest_holder_gets_1013_and_its_memory_is_free_at_once() {
    let mut fixture = limited(&[7, 8, 9]);
    fixture.cut(7, 20_000);
    fixture.cut(8, 50_000);
    fixture.assert_held(70_000..75_000);
    fixture.cut(9, 40_000);
    fixture.assert_held(60_000..65_000);
    assert_eq!(fixture.worker.ring.sent, CLOSE_1013);
    assert_eq!(seen(), ["disconnected MemoryLimit"]);
    let stats = fixture.stats();
    assert_eq!((stats.memory_evictions, stats.connections), (1, 3), "it may read its CLOSE");
    fixture.go(2 * SECOND);
    assert_eq!(fixture.worker.ring.closed, [Socket(8)]);
    // The others go on.
    fixture.worker.ring.sent.clear();
    fixture.worker.ring.deliver_to(7, &[0; 50_000]);
    fixture.turn();
    assert_eq!(fixture.stats().memory_evictions, 2, "now that one is the largest");
}

#[test]
fn holders_go_one_after_the_other_until_a_tenth_is_free() {
    let mut fixture = limited(&[7, 8, 9, 10]);
    for (socket, bytes) in [(7, 5000), (8, 12_000), (9, 60_000), (10, 22_000)] {
        fixture.cut(socket, bytes);
    }
    assert_eq!(fixture.stats().memory_evictions, 0);
    // The frame of 9 grows to the limit at once.
    fixture.worker.ring.deliver_to(9, &[0; 40_000]);
    fixture.turn();
    assert_eq!(fixture.stats().memory_evictions, 1);
    fixture.assert_held(39_000..42_000);
}

#[test]
fn many_small_holders_go_until_a_tenth_is_free() {
    let sockets: Vec<_> = (7..16).collect();
    let mut fixture = limited(&sockets);
    for socket in sockets {
        fixture.cut(socket, 11_500);
    }
    assert_eq!(fixture.stats().memory_evictions, 2, "103,500 bytes; 92,000 are still too many");
    fixture.assert_held(80_000..82_000);
}

#[test]
fn a_ring_that_never_runs_dry_does_not_put_the_decision_off() {
    let mut fixture = limited(&[7, 8]);
    fixture.cut(7, 60_000);
    fixture.worker.ring.per_poll = Some(1);
    fixture.worker.ring.deliver_to(7, &[0; 50_000]);
    for _ in 0..20 {
        fixture.worker.ring.deliver_to(8, &frame(PING, b""));
    }
    for turn in 0..9 {
        assert_eq!(fixture.stats().memory_evictions, 0, "in turn {turn} it may still change");
        fixture.worker.turn().unwrap();
    }
    assert!(fixture.worker.has_work());
    assert_eq!(fixture.stats().memory_evictions, 1);
}

#[test]
fn the_listener_of_an_evicted_connection_does_not_wait_for_its_peer() {
    let mut fixture = limited(&[7]);
    fixture.worker.ring.is_stuck = true;
    fixture.cut(7, 110_000);
    assert!(fixture.worker.ring.sent.is_empty() && !fixture.is_gone());
    assert_eq!(seen(), ["disconnected MemoryLimit"]);
}

/// A flood of which all but one share is copied to memory of its connection.
fn held_flood() -> Vec<u8> {
    frame(2, b"").repeat(12_000)
}

#[test]
fn input_that_is_copied_counts_and_goes_with_its_connection() {
    let mut fixture = limited(&[7, 8]);
    fixture.cut(8, 40_000);
    fixture.worker.ring.keeps = Some(0);
    fixture.worker.ring.deliver_to(7, &held_flood());
    for _ in 0..2 {
        fixture.worker.turn().unwrap();
    }
    assert_eq!(fixture.stats().memory_evictions, 1, "and not the other as well");
    fixture.assert_held(40_000..42_000);
    assert_eq!(fixture.worker.ring.lent(), 0);
    fixture.turn();
    fixture.go(2 * SECOND);
    assert_eq!(fixture.worker.ring.closed, [Socket(7)]);
}

#[test]
fn a_worker_whose_largest_holder_has_copies_is_asked() {
    let mut one = limited(&[7]);
    let config = Config::clone(&one.worker.local.config);
    one.worker.ring.keeps = Some(0);
    one.worker.ring.deliver_to(7, &held_flood());
    one.worker.turn().unwrap();
    let mut other = Fixture::listening(Manner::default(), config);
    other.join(8);
    other.cut(8, 45_000);
    assert_eq!(other.stats().memory_evictions, 0, "the larger one is elsewhere");
    assert!(one.worker.local.mailbox.has_mail());
}

#[test]
fn what_other_threads_have_posted_counts_until_it_is_read() {
    let mut fixture = limited(&[7]);
    let remote = transport().remote();
    for _ in 0..5 {
        remote.send(MsgType::Binary, vec![0; 10_000]).unwrap();
    }
    // As at the end of a turn in which it came.
    fixture.worker.keep_to_budget();
    fixture.assert_held(50_000..51_000);
    fixture.turn();
    assert_eq!(fixture.worker.ring.sent.len(), 5 * 10_004);
    fixture.assert_held(0..1);
}

#[test]
fn what_was_posted_beyond_the_limit_is_offered_before_it_is_judged() {
    let mut fixture = limited(&[7]);
    transport().remote().send(MsgType::Binary, vec![0; 150_000]).unwrap();
    fixture.worker.keep_to_budget();
    assert_eq!(fixture.stats().memory_evictions, 0);
    fixture.turn();
    assert_eq!((fixture.worker.ring.sent.len(), fixture.stats().memory_evictions), (150_010, 0));
}

#[test]
fn what_was_posted_goes_with_its_connection_and_no_other_one() {
    let mut fixture = limited(&[8, 7]);
    fixture.cut(8, 40_000);
    transport().remote().send(MsgType::Binary, vec![0; 80_000]).unwrap();
    // Turns in which the mail is not read are not waited for either.
    for _ in 0..10 {
        fixture.worker.keep_to_budget();
    }
    assert_eq!(fixture.stats().memory_evictions, 1);
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::MemoryLimit));
    fixture.turn();
    assert_eq!(fixture.worker.ring.sent, CLOSE_1013);
    fixture.assert_held(40_000..42_000);
}

#[test]
fn what_the_kernel_is_sending_counts_as_gone() {
    let mut fixture = limited(&[8, 7]);
    fixture.cut(8, 30_000);
    fixture.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, [1; 50_000]);
    fixture.turn();
    transport().send(MsgType::Binary, [1; 50_000]);
    fixture.turn();
    assert_eq!(fixture.stats().memory_evictions, 1, "and no other one for it");
    assert_eq!(transport().disconnect_cause(), Some(DisconnectCause::MemoryLimit));
    assert!(fixture.worker.ring.closed.contains(&Socket(7)), "nothing can follow half a frame");
    assert!(fixture.worker.ring.sent.is_empty());
    fixture.assert_held(30_000..31_000);
}

#[test]
fn what_a_task_takes_between_turns_leaves_the_sum() {
    let mut fixture = limited(&[7]);
    let mut messages = MessageBytes::default();
    for (bytes, is_published) in [(50_000, true), (50, false)] {
        messages.tell(&transport(), bytes);
        fixture.worker.keep_to_budget();
        assert_eq!(fixture.worker.memory.share.sum(), if is_published { bytes } else { 0 });
        messages.tell(&transport(), 0);
        assert_eq!(fixture.worker.has_local_work(), is_published, "a turn for what others see");
        fixture.turn();
        fixture.assert_held(0..1);
        assert_eq!(fixture.worker.memory.share.sum(), 0);
    }
}

#[test]
fn what_sockets_take_at_once_is_not_judged() {
    let mut fixture = limited(&[7]);
    for _ in 0..50 {
        transport().send(MsgType::Binary, [1; 10_000]);
    }
    fixture.turn();
    assert_eq!(fixture.worker.ring.sent.len(), 50 * 10_004);
    assert_eq!(fixture.stats().memory_evictions, 0);
    fixture.assert_held(0..1);
}

#[test]
fn a_request_that_holds_the_most_is_answered_with_503() {
    let mut config = Config { memory: MemoryBudget::new(Some(4000)), ..Config::default() };
    config.liveness.auto_ping = None;
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture.deliver(b"GET / HTTP/1.1\r\nX: ");
    fixture.deliver(&[b'a'; 5000]);
    assert!(fixture.worker.ring.sent.starts_with(b"HTTP/1.1 503 "));
    assert_eq!(fixture.stats().memory_evictions, 1);
    fixture.assert_held(0..1);
}

#[test]
fn newcomers_are_refused_while_no_connection_holds_much() {
    let mut fixture = limited(&[7, 8]);
    fixture.cut(7, 47_000);
    fixture.cut(8, 47_000);
    fixture.worker.ring.connect(9);
    fixture.turn();
    fixture.go(SECOND + GRANULE); // It says nothing.
    assert!(fixture.worker.ring.sent.starts_with(b"HTTP/1.1 503 "));
    let stats = fixture.stats();
    assert_eq!((stats.refused, stats.refused_by_memory, stats.memory_evictions), (1, 1, 0));
    fixture.worker.ring.end_of(Socket(8), ReceiveResult::EndOfStream);
    fixture.go(2 * SECOND);
    fixture.worker.ring.sent.clear();
    fixture.join(10);
}

#[test]
fn a_worker_with_a_larger_holder_is_asked_to_drop_it() {
    let mut one = limited(&[7]);
    let config = Config::clone(&one.worker.local.config);
    one.cut(7, 60_000);
    let mut other = Fixture::listening(Manner::default(), config);
    other.join(8);
    other.cut(8, 45_000);
    assert_eq!(other.stats().memory_evictions, 0, "the larger one is elsewhere");
    assert!(one.worker.local.mailbox.has_mail());
    one.turn();
    assert_eq!((one.stats().memory_evictions, other.stats().memory_evictions), (1, 0));
    other.cut(8, 0);
    assert_eq!(other.stats().memory_evictions, 0);
}

#[test]
fn a_worker_that_does_not_answer_is_not_waited_for() {
    let mut blocked = limited(&[7]);
    let config = Config::clone(&blocked.worker.local.config);
    blocked.cut(7, 60_000);
    let mut other = Fixture::listening(Manner::default(), config);
    other.join(8);
    other.cut(8, 55_000);
    assert_eq!(other.stats().memory_evictions, 1, "far beyond the limit");
}

#[test]
fn what_was_evicted_is_not_kept_for_others_of_the_worker() {
    let mut fixture = limited(&[7, 8]);
    for _ in 0..3 {
        fixture
            .worker
            .local
            .pool
            .put_stash(Stash::with_memory(Rc::new(Vec::with_capacity(50_000))));
    }
    let before = releases();
    fixture.cut(7, 60_000);
    fixture.cut(8, 50_000);
    assert_eq!((fixture.stats().memory_evictions, releases() - before), (1, 1));
    assert!(fixture.worker.local.pool.bytes() < 40_000, "{:?}", fixture.stats());
    fixture.worker.ring.sent.clear();
    fixture.join(9);
    fixture.cut(9, 60_000);
    assert_eq!((fixture.stats().memory_evictions, releases() - before), (2, 1), "once a second");
}
