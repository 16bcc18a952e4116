//! Lines of the log that peers cause: a flood of peers is none of lines.

use super::log::warnings;
use super::*;
use crate::foreign::log::LogLine;

const CONNECTIONS: i32 = 50;

/// What is logged of `CONNECTIONS` connections, of which each does something at once.
fn flood(fixture: &mut Fixture, mut misbehave: impl FnMut(&mut Fixture, i32)) -> Vec<String> {
    warnings(|| {
        for socket in 10..10 + CONNECTIONS {
            misbehave(fixture, socket);
            fixture.turn();
            fixture.worker.ring.sent.clear();
        }
    })
}

/// One line, and after two seconds how many were left out.
fn assert_one_line_and_the_rest(fixture: &mut Fixture, lines: &[String], kind: LogLine) {
    assert!(lines.len() == 1 && lines[0].contains(kind.text()), "{kind:?}: {lines:?}");
    assert!(!lines[0].contains("left_out"), "{lines:?}");
    let now = fixture.worker.ring.now;
    let later = warnings(|| {
        fixture.go(now + 3 * SECOND);
    });
    let left_out = format!("left_out={}", CONNECTIONS - 1);
    let [line] = &later[..] else { panic!("{kind:?}: {later:?}") };
    assert!(line.contains(&left_out) && line.contains(kind.text()), "{kind:?}: {line}");
    let quiet = warnings(|| {
        fixture.go(now + 60 * SECOND);
    });
    assert!(quiet.is_empty(), "{quiet:?}");
}

#[test]
fn peers_that_misbehave() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    let lines = flood(&mut fixture, |fixture, socket| {
        fixture.join(socket);
        fixture.worker.ring.deliver_to(socket, b"\xff\xff");
    });
    assert_eq!(fixture.stats().protocol_errors, CONNECTIONS as u64);
    assert_one_line_and_the_rest(&mut fixture, &lines, LogLine::ProtocolError);
}

#[test]
fn frames_that_are_too_large() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    let lines = flood(&mut fixture, |fixture, socket| {
        fixture.join(socket);
        fixture.worker.ring.deliver_to(socket, b"\x82\xff\0\0\0\xff\0\0\0\0");
    });
    assert_one_line_and_the_rest(&mut fixture, &lines, LogLine::ProtocolError);
}

#[test]
fn frames_at_which_the_listener_fails() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    let lines = flood(&mut fixture, |fixture, socket| {
        fixture.join(socket);
        fixture.worker.ring.deliver_to(socket, b"\x81\x87\0\0\0\0stall x");
    });
    assert_eq!(fixture.stats().listener_errors, CONNECTIONS as u64);
    assert_one_line_and_the_rest(&mut fixture, &lines, LogLine::ListenerFailed);
}

#[test]
fn frames_at_which_the_listener_fails_without_an_end_to_the_connection() {
    let config = Config { disconnect_on_error: false, ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.join(7);
    let lines = flood(&mut fixture, |fixture, _| fixture.say(TEXT, b"stall x"));
    assert_one_line_and_the_rest(&mut fixture, &lines, LogLine::ListenerFailed);
}

#[test]
fn requests_at_which_the_factory_fails() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.answer_with(Arc::new(|_: &_| Err("not this one".into())));
    let lines = flood(&mut fixture, |fixture, socket| {
        fixture.worker.ring.connect(socket);
        fixture.turn();
        fixture.worker.ring.deliver_to(socket, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    });
    assert_one_line_and_the_rest(&mut fixture, &lines, LogLine::FactoryFailed);
}

#[test]
fn peers_that_do_not_read() {
    let config = Config { queue_bytes_max: 1000, ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    let lines = flood(&mut fixture, |fixture, socket| {
        fixture.join(socket);
        // It comes back, and does not fit.
        let mut frame = b"\x82\xfe\x04\x00\0\0\0\0".to_vec();
        frame.resize(frame.len() + 0x400, b'a');
        fixture.worker.ring.deliver_to(socket, &frame);
    });
    assert_one_line_and_the_rest(&mut fixture, &lines, LogLine::QueueFull);
}

#[test]
fn connections_beyond_a_limit() {
    let config = Config { connections_max: Some(1), ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.join(7);
    let lines = flood(&mut fixture, |fixture, socket| fixture.worker.ring.connect(socket));
    assert_one_line_and_the_rest(&mut fixture, &lines, LogLine::Refused);
}

#[test]
fn a_flood_that_lasts_is_a_line_a_second_with_what_was_left_out() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    let mut left_out = 0;
    let lines = flood(&mut fixture, |fixture, socket| {
        // Ten a second.
        fixture.go(fixture.worker.ring.now + SECOND / 10);
        fixture.join(socket);
        fixture.worker.ring.deliver_to(socket, b"\xff\xff");
    });
    assert!((5..=6).contains(&lines.len()), "{lines:?}");
    for line in &lines[1..] {
        let (_, count) = line.split_once("left_out=").unwrap();
        let count: i32 = count.split(' ').next().unwrap().parse().unwrap();
        assert!((9..=10).contains(&count), "{line}");
        left_out += count;
    }
    // What no line has said is said when the worker ends.
    let rest = warnings(|| drop(fixture));
    let said = CONNECTIONS - lines.len() as i32 - left_out;
    assert!(rest.len() == 1 && rest[0].contains(&format!("left_out={said}")), "{said}: {rest:?}");
}
