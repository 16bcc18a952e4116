//! Handshakes at a stop: finished, or answered with 503, and never cut.

use super::*;
use crate::command::{HandOver, ListenName};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

const GRACE: Duration = Duration::from_millis(250);
const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const STOPPING: &str = "server is shutting down";

fn fixture() -> Fixture {
    Fixture::listening(Manner::default(), Config::default())
}

fn sent(fixture: &mut Fixture) -> String {
    String::from_utf8_lossy(&std::mem::take(&mut fixture.worker.ring.sent)).into_owned()
}

#[test]
fn what_is_not_complete_when_its_time_is_over_gets_503() {
    for said in [&b""[..], b"GET / HTT", &UPGRADE[..60]] {
        let mut fixture = fixture();
        fixture.worker.ring.connect(7);
        fixture.turn();
        fixture.worker.ring.deliver_to(7, said);
        fixture.turn();
        fixture.worker.stop(5 * SECOND);
        fixture.go(GRACE - GRANULE);
        assert_eq!(sent(&mut fixture), "");
        fixture.go(GRACE + GRANULE);
        let text = sent(&mut fixture);
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n") && text.contains(STOPPING), "{text}");
        // The rest is read, so that it cuts nothing.
        fixture.worker.ring.deliver_to(7, UPGRADE);
        fixture.turn();
        assert_eq!(sent(&mut fixture), "");
        fixture.worker.ring.end_of(Socket(7), ReceiveResult::EndOfStream);
        fixture.turn();
        assert_eq!(fixture.stats().slots, 0);
    }
}

#[test]
fn what_is_complete_in_time_is_finished_and_closed_with_1001() {
    let mut fixture = fixture();
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture.worker.ring.deliver_to(7, &UPGRADE[..60]);
    fixture.turn();
    fixture.worker.stop(5 * SECOND);
    fixture.go(GRACE - GRANULE);
    fixture.worker.ring.deliver_to(7, &UPGRADE[60..]);
    fixture.turn();
    let text = sent(&mut fixture);
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with(STOPPING), "{text}");
    fixture.worker.ring.end_of(Socket(7), ReceiveResult::EndOfStream);
    fixture.turn();
    assert_eq!(seen(), ["disconnected Stopped"]);
}

#[test]
fn what_waits_in_the_backlog_is_accepted_before_the_socket_is_closed() {
    let mut fixture = fixture();
    fixture.worker.ring.backlog.extend([Socket(7), Socket(8)]);
    fixture.worker.stop(5 * SECOND);
    fixture.turn();
    assert_eq!(fixture.worker.ring.closed, [Socket(3)], "the listening one");
    assert_eq!(fixture.stats().accepted, 2);
    fixture.worker.ring.deliver_to(8, UPGRADE);
    fixture.turn();
    assert!(sent(&mut fixture).starts_with("HTTP/1.1 101 "));
    fixture.go(GRACE + GRANULE);
    assert!(sent(&mut fixture).starts_with("HTTP/1.1 503 "));
    fixture.go(6 * SECOND);
    assert_eq!(fixture.worker.turn().unwrap(), Turn::Done);
    assert!(fixture.admission().is_empty());
}

#[test]
fn an_accept_that_ends_with_a_connection_leaves_none_behind() {
    let mut fixture = fixture();
    fixture.worker.ring.accepts_one = true;
    fixture.worker.ring.backlog.extend([Socket(7), Socket(8), Socket(9)]);
    fixture.worker.stop(5 * SECOND);
    fixture.turn();
    assert_eq!((fixture.stats().accepted, &fixture.worker.ring.closed[..]), (3, &[Socket(3)][..]));
}

#[test]
fn where_accepting_was_paused_it_is_accepted_as_well() {
    let mut fixture = fixture();
    fixture.worker.ring.fail_accept(libc::EMFILE);
    fixture.turn();
    fixture.worker.ring.backlog.push_back(Socket(7));
    fixture.worker.stop(5 * SECOND);
    fixture.turn();
    assert_eq!((fixture.stats().accepted, &fixture.worker.ring.closed[..]), (1, &[Socket(3)][..]));
}

#[test]
fn without_time_nothing_is_waited_for() {
    let mut fixture = fixture();
    fixture.worker.ring.connect(7);
    fixture.worker.ring.backlog.push_back(Socket(8));
    fixture.turn();
    fixture.worker.stop(Duration::ZERO);
    fixture.go(GRANULE);
    assert_eq!(fixture.worker.turn().unwrap(), Turn::Done);
    assert_eq!(sent(&mut fixture), "");
}

#[test]
fn a_refused_connection_gets_the_reason_once_its_time_is_over() {
    let config = Config { connections_max: Some(1), ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.join(7);
    fixture.worker.ring.connect(8);
    fixture.turn();
    fixture.worker.stop(5 * SECOND);
    fixture.turn();
    assert!(sent(&mut fixture).ends_with(STOPPING), "the CLOSE of the other");
    fixture.go(GRACE + GRANULE);
    assert!(sent(&mut fixture).ends_with("too many connections\n"));
}

#[test]
fn where_another_server_takes_over_it_accepts_what_had_begun() {
    let config = Config { leaves_port: true, ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.worker.stop(5 * SECOND);
    assert_eq!(fixture.worker.ring.held_off, [Socket(3)]);
    fixture.go(GRACE - GRANULE);
    fixture.worker.ring.connect(7);
    fixture.turn();
    assert!(fixture.worker.ring.closed.is_empty(), "it still accepts");
    fixture.worker.ring.backlog.push_back(Socket(8));
    fixture.go(GRACE + GRANULE);
    assert_eq!((fixture.stats().accepted, &fixture.worker.ring.closed[..]), (2, &[Socket(3)][..]));
    for socket in [7, 8] {
        fixture.worker.ring.deliver_to(socket, UPGRADE);
        fixture.turn();
        assert!(sent(&mut fixture).starts_with("HTTP/1.1 101 "), "{socket}");
    }
}

#[test]
fn with_little_time_it_accepts_for_half_of_it() {
    let config = Config { leaves_port: true, ..Config::default() };
    for (drain, until) in [(SECOND / 10, SECOND / 20), (Duration::ZERO, Duration::ZERO)] {
        let mut fixture = Fixture::listening(Manner::default(), config.clone());
        fixture.worker.stop(drain);
        fixture.go(until + GRANULE);
        assert_eq!(fixture.worker.ring.closed, [Socket(3)], "{drain:?}");
    }
}

#[test]
fn what_is_not_complete_when_the_drain_timeout_has_passed_is_not_answered() {
    let mut fixture = fixture();
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture.worker.ring.deliver_to(7, &UPGRADE[..60]);
    fixture.turn();
    // There is more, which does not come in time.
    fixture.worker.ring.unread = 10;
    fixture.worker.stop(GRACE / 2);
    fixture.turn();
    fixture.go(2 * SECOND);
    assert_eq!(sent(&mut fixture), "");
    assert_eq!(fixture.stats().slots, 0);
}

const NAME: ListenName = ListenName(5);

/// A fixture that listens on another socket, 4, as well, under a name; and its listening settings.
fn named(config: Config) -> Fixture {
    let mut fixture = Fixture::listening(Manner::default(), config);
    let factory: Arc<Factory> = Arc::new(|_: &_| Ok(Upgrade::accept(Actor(Manner::default()))));
    let listening = Listening::new(Arc::clone(&fixture.worker.local.config), factory);
    fixture.worker.listen_as(NAME, Socket(4), &listening);
    fixture
}

/// Leaves the named socket to another process; what is dropped when it is left.
fn hand_over(fixture: &mut Fixture, drain: Option<Duration>) -> Receiver<()> {
    let (released, receiver) = channel();
    fixture.worker.hand_over(HandOver { names: Arc::new([NAME]), drain, released });
    receiver
}

#[test]
fn what_waits_at_a_socket_that_was_handed_over_is_left_to_the_other_process() {
    for drain in [None, Some(5 * SECOND)] {
        let mut fixture = named(Config::default());
        fixture.worker.ring.connect_to(4, 7);
        fixture.turn();
        if drain.is_none() {
            fixture.worker.ring.backlog.push_back(Socket(8));
        }
        let released = hand_over(&mut fixture, drain);
        fixture.turn();
        assert_eq!(released.try_recv(), Err(TryRecvError::Disconnected));
        assert!(fixture.worker.ring.closed.contains(&Socket(4)));
        assert_eq!(fixture.worker.ring.closed.contains(&Socket(3)), drain.is_some());
        assert_eq!(fixture.stats().accepted, 1, "{drain:?}");
    }
}

#[test]
fn a_socket_on_which_accepting_is_paused_is_handed_over_at_once() {
    let mut fixture = named(Config::default());
    fixture.worker.ring.fail_accept(libc::EMFILE);
    fixture.turn();
    fixture.worker.ring.backlog.push_back(Socket(8));
    let released = hand_over(&mut fixture, None);
    fixture.turn();
    assert_eq!(released.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!((fixture.stats().accepted, &fixture.worker.ring.closed[..]), (0, &[Socket(4)][..]));
}

#[test]
fn a_filter_is_on_no_socket_that_another_process_has() {
    let mut fixture = named(Config { leaves_port: true, ..Config::default() });
    drop(hand_over(&mut fixture, Some(5 * SECOND)));
    assert_eq!(fixture.worker.ring.held_off, [Socket(3)]);
}

#[test]
fn handshakes_have_the_drain_timeout_where_another_process_has_taken_over() {
    let mut fixture = named(Config::default());
    for socket in [7, 8] {
        fixture.worker.ring.connect_to(4, socket);
        fixture.turn();
        fixture.worker.ring.deliver_to(socket, &UPGRADE[..60]);
    }
    drop(hand_over(&mut fixture, Some(5 * SECOND)));
    fixture.turn();
    fixture.go(5 * SECOND - GRACE - GRANULE);
    assert_eq!(sent(&mut fixture), "");
    fixture.worker.ring.deliver_to(7, &UPGRADE[60..]);
    fixture.turn();
    let text = sent(&mut fixture);
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with(STOPPING), "{text}");
    fixture.go(5 * SECOND - GRACE + GRANULE);
    let text = sent(&mut fixture);
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\r\nRetry-After: 1\r\n"), "{text}");
}
