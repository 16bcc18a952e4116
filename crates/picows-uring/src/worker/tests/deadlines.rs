//! Deadlines after input: what was there in time counts, however late the worker looks, and
//! nothing that came later does.

use super::*;

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// What a kernel returns at a time after a stall.
const A_FEW: usize = 20;
const FIRST: i32 = 100;
const CLOSE_1000: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE8];

impl Fixture {
    /// Connections that were accepted, and have said nothing.
    fn crowd(config: Config, count: i32) -> Self {
        let mut fixture = Self::listening(Manner::default(), config);
        for socket in FIRST..FIRST + count {
            fixture.worker.ring.connect(socket);
        }
        fixture.turn();
        fixture.worker.ring.per_poll = Some(A_FEW);
        fixture
    }

    /// Connections that are open, and were sent CLOSE.
    fn closing_crowd(config: Config, count: i32) -> Self {
        let mut fixture = Self::crowd(config, count);
        fixture.deliver_to_all(count, REQUEST);
        fixture.turn();
        for connection in fixture.worker.slots.iter_mut() {
            connection.transport.send_close(CloseCode::NORMAL, "");
        }
        fixture.turn();
        assert_eq!(fixture.stats().upgraded, count as u64);
        seen();
        fixture
    }

    fn deliver_to_all(&mut self, count: i32, bytes: &[u8]) {
        for socket in FIRST..FIRST + count {
            self.worker.ring.deliver_to(socket, bytes);
        }
    }
}

/// How often each thing was seen.
fn count(told: &[String], what: &str) -> usize {
    told.iter().filter(|it| it.starts_with(what)).count()
}

#[test]
fn requests_that_came_in_time_are_answered_after_a_stall() {
    let mut fixture = Fixture::crowd(Config::default(), 200);
    fixture.deliver_to_all(200, REQUEST);
    fixture.go(6 * SECOND);
    assert_eq!(fixture.stats().upgraded, 200, "the handshake timeout is 5 s");
}

#[test]
fn close_frames_that_came_in_time_count_after_a_stall() {
    let mut fixture = Fixture::closing_crowd(Config::default(), 200);
    fixture.deliver_to_all(200, &CLOSE_1000);
    fixture.go(6 * SECOND);
    fixture.go(20 * SECOND);
    let told = seen();
    assert_eq!((count(&told, "Close"), count(&told, "disconnected Closed")), (200, 200));
}

#[test]
fn close_frames_that_came_before_the_drain_timeout_are_handled() {
    let config = Config { drain_spread: None, ..Config::default() };
    let mut fixture = Fixture::closing_crowd(config, 100);
    fixture.worker.stop(3 * SECOND);
    fixture.turn();
    fixture.deliver_to_all(100, &CLOSE_1000);
    fixture.go(4 * SECOND);
    assert_eq!(count(&seen(), "Close"), 100);
    fixture.go(4 * SECOND + 4 * GRANULE);
    assert_eq!(fixture.stats().connections, 0, "and nothing has time beyond it");
}

#[test]
fn an_answer_that_waits_in_the_socket_when_the_drain_timeout_passes_counts() {
    let mut fixture = Fixture::closing_crowd(Config::default(), 1);
    fixture.worker.stop(3 * SECOND);
    fixture.turn();
    fixture.worker.ring.unread = CLOSE_1000.len();
    fixture.go(3 * SECOND + 32 * GRANULE);
    assert!(seen().is_empty(), "it is waited for");
    fixture.worker.ring.unread = 0;
    fixture.deliver_to_all(1, &CLOSE_1000);
    fixture.go(3 * SECOND + 36 * GRANULE);
    assert_eq!(seen(), ["Close \u{3}\u{fffd}", "disconnected Stopped"]);
    assert_eq!(fixture.stats().connections, 0, "and its close timeout is cut short");
}

#[test]
fn a_worker_that_stops_does_not_wait_long_for_what_never_comes() {
    let mut fixture = Fixture::closing_crowd(Config::default(), 1);
    fixture.worker.stop(3 * SECOND);
    fixture.turn();
    fixture.worker.ring.unread = 1000;
    fixture.go(3 * SECOND + 70 * GRANULE);
    assert_eq!(fixture.stats().connections, 0);
}

#[test]
fn a_peer_that_drips_does_not_put_its_deadline_off() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.worker.ring.connect(7);
    fixture.turn();
    // There is always more, of which the first ten bytes were there in time.
    fixture.worker.ring.unread = 10;
    fixture.go(5 * SECOND + GRANULE);
    for byte in 0..10 {
        assert!(!fixture.is_gone(), "byte {byte} is looked at first");
        fixture.deliver(&REQUEST[byte..=byte]);
        fixture.go(5 * SECOND + (byte as u32 + 2) * GRANULE);
    }
    assert!(fixture.is_gone(), "no other byte is");
}

#[test]
fn a_connection_that_does_not_read_is_not_waited_for() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    transport().send_close(CloseCode::NORMAL, "");
    transport().pause_reading();
    fixture.turn();
    fixture.worker.ring.unread = 1;
    fixture.go(5 * SECOND + 2 * GRANULE);
    assert!(fixture.is_gone());
}

#[test]
fn a_ring_that_never_runs_dry_keeps_no_deadline_from_passing() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    fixture.worker.ring.connect(8);
    fixture.turn();
    fixture.worker.ring.per_poll = Some(1);
    let mut turns = 0;
    while !fixture.worker.ring.closed.contains(&Socket(8)) {
        // A neighbour that keeps it busy.
        for _ in 0..3 {
            fixture.worker.ring.deliver_to(7, b"\x81\x80\0\0\0\0");
        }
        fixture.worker.turn().unwrap();
        fixture.worker.ring.now = 6 * SECOND;
        turns += 1;
        assert!(turns < 100, "still there");
    }
}

#[test]
fn input_that_the_ring_returns_late_is_handled_before_the_deadline_it_met() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.worker.ring.connect(7);
    fixture.worker.ring.connect(8);
    fixture.turn();
    // The neighbour has much, and what this one sends comes behind it.
    fixture.worker.ring.per_poll = Some(1);
    for byte in REQUEST.chunks(1).take(30) {
        fixture.worker.ring.deliver_to(8, byte);
    }
    fixture.worker.ring.deliver_to(7, REQUEST);
    fixture.go(6 * SECOND);
    assert_eq!(fixture.stats().upgraded, 1);
    assert_eq!(fixture.worker.ring.closed, [Socket(8)]);
}

#[test]
fn deadlines_that_begin_behind_a_slow_callback_are_as_long_as_any() {
    // A handshake,
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    fixture.worker.ring.deliver(b"\x81\x8A\0\0\0\0stall 6000");
    fixture.worker.ring.connect(8);
    fixture.turn();
    fixture.go(4 * SECOND);
    assert!(fixture.worker.ring.closed.is_empty(), "4 s after it began");
    fixture.go(5 * SECOND + 2 * GRANULE);
    assert_eq!(fixture.worker.ring.closed, [Socket(8)]);

    // and a CLOSE.
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    let frames = [&b"\x81\x8A\0\0\0\0stall 6000"[..], b"\x81\x85\0\0\0\0close"].concat();
    fixture.deliver(&frames);
    fixture.go(4 * SECOND);
    assert!(!fixture.is_gone(), "4 s after it was sent");
    fixture.deliver(&CLOSE_1000);
    fixture.go(20 * SECOND);
    assert_eq!(seen().last().unwrap(), "disconnected Closed");
}

/// For the close timeout since `begun`, and no longer, the connection is there.
fn assert_has_its_time(fixture: &mut Fixture, begun: Duration) {
    assert!(fixture.worker.ring.sent.ends_with(&CLOSE_OF_OURS), "{:?}", fixture.worker.ring.sent);
    fixture.go(begun + 5 * SECOND - GRANULE);
    assert!(seen().iter().all(|it| !it.starts_with("disconnected")), "its time is not over");
    fixture.go(begun + 5 * SECOND + 2 * GRANULE);
    assert_eq!(seen(), ["disconnected TimedOut"]);
}

const CLOSE_OF_OURS: [u8; 4] = [0x88, 2, 0x03, 0xE8];

#[test]
fn a_callback_that_takes_long_behind_a_close_takes_none_of_the_peers_time() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    let frames = [frame(TEXT, b"close"), frame(TEXT, b"stall 6000")].concat();
    fixture.deliver(&frames);
    // The time of callbacks comes on top of the timeout that the ring gets.
    assert_has_its_time(&mut fixture, Duration::ZERO);
}

#[test]
fn a_close_that_leaves_with_the_next_poll_begins_the_peers_time_then() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    fixture.worker.ring.deliver(&frame(TEXT, b"close"));
    fixture.worker.turn().unwrap();
    // The process is stopped before it enters the ring.
    fixture.worker.ring.now = 6 * SECOND;
    fixture.turn();
    assert_has_its_time(&mut fixture, 6 * SECOND);
}

#[test]
fn a_task_that_takes_long_behind_a_close_takes_none_of_the_peers_time() {
    let mut fixture = Fixture::new(Manner::default(), |config| {
        // Its timer fires in the turn in which the CLOSE leaves.
        config.liveness.auto_ping = Some(AutoPing::new(4 * SECOND, SECOND));
    });
    transport().send_close(CloseCode::NORMAL, "");
    fixture.worker.ring.now = 6 * SECOND;
    fixture.turn();
    assert_has_its_time(&mut fixture, 6 * SECOND);
}

#[test]
fn a_peer_that_takes_nothing_has_the_close_timeout_and_no_more() {
    let mut fixture = Fixture::new(Manner::default(), |config| config.liveness.auto_ping = None);
    fixture.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, [0; 1000]);
    fixture.turn();
    fixture.go(10 * SECOND);
    transport().send_close(CloseCode::NORMAL, "");
    fixture.turn();
    for second in 10..15 {
        fixture.go(second * SECOND + GRANULE);
        fixture.say(PING, b"");
        assert_eq!(seen(), [""; 0]);
    }
    fixture.go(15 * SECOND + 2 * GRANULE);
    assert_eq!(seen(), ["disconnected TimedOut"]);
}
