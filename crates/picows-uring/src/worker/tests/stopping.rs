//! Handshakes at a stop: finished, or answered with 503, and never cut.

use super::*;

const GRACE: Duration = Duration::from_millis(250);
const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const STOPPING: &str = "server is shutting down";

fn stage() -> Stage {
    Stage::listening(Manner::default(), Config::default())
}

fn sent(stage: &mut Stage) -> String {
    String::from_utf8_lossy(&std::mem::take(&mut stage.worker.ring.sent)).into_owned()
}

#[test]
fn what_is_not_complete_when_its_time_is_over_gets_503() {
    for said in [&b""[..], b"GET / HTT", &UPGRADE[..60]] {
        let mut stage = stage();
        stage.worker.ring.connect(7);
        stage.turn();
        stage.worker.ring.deliver_to(7, said);
        stage.turn();
        stage.worker.stop(5 * SECOND);
        stage.go(GRACE - GRANULE);
        assert_eq!(sent(&mut stage), "");
        stage.go(GRACE + GRANULE);
        let text = sent(&mut stage);
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n") && text.contains(STOPPING), "{text}");
        // The rest is read, so that it cuts nothing.
        stage.worker.ring.deliver_to(7, UPGRADE);
        stage.turn();
        assert_eq!(sent(&mut stage), "");
        stage.worker.ring.end_of(Socket(7), Received::EndOfStream);
        stage.turn();
        assert_eq!(stage.stats().slots, 0);
    }
}

#[test]
fn what_is_complete_in_time_is_finished_and_closed_with_1001() {
    let mut stage = stage();
    stage.worker.ring.connect(7);
    stage.turn();
    stage.worker.ring.deliver_to(7, &UPGRADE[..60]);
    stage.turn();
    stage.worker.stop(5 * SECOND);
    stage.go(GRACE - GRANULE);
    stage.worker.ring.deliver_to(7, &UPGRADE[60..]);
    stage.turn();
    let text = sent(&mut stage);
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with(STOPPING), "{text}");
    stage.worker.ring.end_of(Socket(7), Received::EndOfStream);
    stage.turn();
    assert_eq!(seen(), ["disconnected Stopped"]);
}

#[test]
fn what_waits_in_the_backlog_is_accepted_before_the_socket_is_closed() {
    let mut stage = stage();
    stage.worker.ring.backlog.extend([Socket(7), Socket(8)]);
    stage.worker.stop(5 * SECOND);
    stage.turn();
    assert_eq!(stage.worker.ring.closed, [Socket(3)], "the listening one");
    assert_eq!(stage.stats().accepted, 2);
    stage.worker.ring.deliver_to(8, UPGRADE);
    stage.turn();
    assert!(sent(&mut stage).starts_with("HTTP/1.1 101 "));
    stage.go(GRACE + GRANULE);
    assert!(sent(&mut stage).starts_with("HTTP/1.1 503 "));
    stage.go(6 * SECOND);
    assert_eq!(stage.worker.turn().unwrap(), Turn::Done);
    assert!(stage.accept().gauge.is_empty());
}

#[test]
fn an_accept_that_ends_with_a_connection_leaves_none_behind() {
    let mut stage = stage();
    stage.worker.ring.accepts_one = true;
    stage.worker.ring.backlog.extend([Socket(7), Socket(8), Socket(9)]);
    stage.worker.stop(5 * SECOND);
    stage.turn();
    assert_eq!((stage.stats().accepted, &stage.worker.ring.closed[..]), (3, &[Socket(3)][..]));
}

#[test]
fn where_accepting_was_paused_it_is_accepted_as_well() {
    let mut stage = stage();
    stage.worker.ring.fail_accept(libc::EMFILE);
    stage.turn();
    stage.worker.ring.backlog.push_back(Socket(7));
    stage.worker.stop(5 * SECOND);
    stage.turn();
    assert_eq!((stage.stats().accepted, &stage.worker.ring.closed[..]), (1, &[Socket(3)][..]));
}

#[test]
fn without_time_nothing_is_waited_for() {
    let mut stage = stage();
    stage.worker.ring.connect(7);
    stage.worker.ring.backlog.push_back(Socket(8));
    stage.turn();
    stage.worker.stop(Duration::ZERO);
    stage.go(GRANULE);
    assert_eq!(stage.worker.turn().unwrap(), Turn::Done);
    assert_eq!(sent(&mut stage), "");
}

#[test]
fn whoever_was_refused_is_told_why_once_its_time_is_over() {
    let config = Config { connections_max: Some(1), ..Config::default() };
    let mut stage = Stage::listening(Manner::default(), config);
    stage.join(7);
    stage.worker.ring.connect(8);
    stage.turn();
    stage.worker.stop(5 * SECOND);
    stage.turn();
    assert!(sent(&mut stage).ends_with(STOPPING), "the CLOSE of the other");
    stage.go(GRACE + GRANULE);
    assert!(sent(&mut stage).ends_with("too many connections\n"));
}

#[test]
fn where_another_server_takes_over_it_accepts_what_had_begun() {
    let config = Config { leaves_port: true, ..Config::default() };
    let mut stage = Stage::listening(Manner::default(), config);
    stage.worker.stop(5 * SECOND);
    assert_eq!(stage.worker.ring.held_off, [Socket(3)]);
    stage.go(GRACE - GRANULE);
    stage.worker.ring.connect(7);
    stage.turn();
    assert!(stage.worker.ring.closed.is_empty(), "it still accepts");
    stage.worker.ring.backlog.push_back(Socket(8));
    stage.go(GRACE + GRANULE);
    assert_eq!((stage.stats().accepted, &stage.worker.ring.closed[..]), (2, &[Socket(3)][..]));
    for socket in [7, 8] {
        stage.worker.ring.deliver_to(socket, UPGRADE);
        stage.turn();
        assert!(sent(&mut stage).starts_with("HTTP/1.1 101 "), "{socket}");
    }
}

#[test]
fn with_little_time_it_accepts_for_half_of_it() {
    let config = Config { leaves_port: true, ..Config::default() };
    for (drain, until) in [(SECOND / 10, SECOND / 20), (Duration::ZERO, Duration::ZERO)] {
        let mut stage = Stage::listening(Manner::default(), config.clone());
        stage.worker.stop(drain);
        stage.go(until + GRANULE);
        assert_eq!(stage.worker.ring.closed, [Socket(3)], "{drain:?}");
    }
}

#[test]
fn what_is_not_complete_when_the_drain_timeout_has_passed_is_not_answered() {
    let mut stage = stage();
    stage.worker.ring.connect(7);
    stage.turn();
    stage.worker.ring.deliver_to(7, &UPGRADE[..60]);
    stage.turn();
    // There is more, which does not come in time.
    stage.worker.ring.unread = 10;
    stage.worker.stop(GRACE / 2);
    stage.turn();
    stage.go(2 * SECOND);
    assert_eq!(sent(&mut stage), "");
    assert_eq!(stage.stats().slots, 0);
}
