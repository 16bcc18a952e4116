//! Connections that outlive a plain request: what keeps them, what ends them, and that no request of one
//! is taken for a part of another.

use super::*;
use crate::config::Probe;
use picows_uring_proto::{UpgradeRequest, UpgradeResponse};

const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str = "GET /mine HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SOCKET: i32 = 7;

/// A server with a probe at `/healthz`, of 5 bytes, and one at `/large`; one connection is there. Its
/// factory answers `/plain` and accepts the rest.
fn fixture(change: impl FnOnce(&mut Config)) -> Fixture {
    let probe = Probe::new(|request| match request.path() {
        "/healthz" => Some(UpgradeResponse::ok().with_body("fine\n")),
        "/large" => Some(UpgradeResponse::ok().with_body(vec![b'x'; 20_000])),
        _ => None,
    });
    let mut config = Config { probe: Some(probe), ..Config::default() };
    change(&mut config);
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.answer_with(Arc::new(|request: &UpgradeRequest| {
        Ok(match request.path() {
            "/plain" => Upgrade::respond(UpgradeResponse::ok()),
            _ => Upgrade::accept(Actor(Manner::default())),
        })
    }));
    fixture.worker.ring.connect(SOCKET);
    fixture.turn();
    fixture
}

/// What was sent since the last call.
fn sent(fixture: &mut Fixture) -> String {
    String::from_utf8_lossy(&std::mem::take(&mut fixture.worker.ring.sent)).into_owned()
}

/// What is answered to `wire`.
fn ask(fixture: &mut Fixture, wire: &str) -> String {
    fixture.worker.ring.deliver_to(SOCKET, wire.as_bytes());
    fixture.turn();
    sent(fixture)
}

#[track_caller]
fn assert_kept(text: &str) {
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.contains("\r\nConnection: keep-alive\r\n"),
        "{text}"
    );
    assert_eq!(text.matches("HTTP/1.1 ").collect::<Vec<_>>().len(), 1, "{text}");
}

/// The answer ends the connection, and nothing that comes behind is answered.
#[track_caller]
fn assert_last(fixture: &mut Fixture, text: &str) {
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").collect::<Vec<_>>().len(), 1, "{text}");
    assert_eq!(ask(fixture, PROBE), "");
    assert!(fixture.worker.ring.shut_down_behind.is_some(), "its side is shut");
}

/// The ends that were counted: of each, its cause and code.
fn ends(fixture: &Fixture) -> Vec<(&'static str, &'static str)> {
    let read = fixture.worker.local.counters.endings.read();
    read.filter(|(.., count)| *count > 0).map(|(cause, code, _)| (cause, code)).collect()
}

#[test]
fn requests_follow_each_other_however_they_are_cut_and_an_upgrade_ends_them() {
    let wires = [PROBE, "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", PROBE, UPGRADE];
    for cut in 1..=UPGRADE.len() {
        let mut fixture = fixture(|_| {});
        for wire in wires {
            let cut = cut.min(wire.len());
            let mut text = ask(&mut fixture, &wire[..cut]);
            text += &ask(&mut fixture, &wire[cut..]);
            if wire == UPGRADE {
                assert!(text.starts_with("HTTP/1.1 101 "), "cut={cut}: {text}");
            } else {
                assert_kept(&text);
                assert_eq!(text.ends_with("fine\n"), wire == PROBE, "{text}");
            }
        }
        assert_eq!(fixture.admission().full(&fixture.worker.local.config.admission_limits()), None);
        seen();
        fixture.say(TEXT, b"frame");
        assert_eq!(seen().len(), 1, "the listener has the frame");
    }
}

#[test]
fn what_comes_behind_a_request_is_neither_answered_nor_a_frame() {
    for behind in [PROBE, UPGRADE, "\r\n", "G", "\0\0"] {
        for before in 0..2 {
            let mut fixture = fixture(|_| {});
            for _ in 0..before {
                assert_kept(&ask(&mut fixture, PROBE));
            }
            let text = ask(&mut fixture, &format!("{PROBE}{behind}"));
            assert_last(&mut fixture, &text);
        }
    }
}

#[test]
fn other_answers_end_the_connection() {
    for wire in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /plain HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        for before in 0..2 {
            let mut fixture = fixture(|_| {});
            for _ in 0..before {
                assert_kept(&ask(&mut fixture, PROBE));
            }
            let text = ask(&mut fixture, wire);
            assert_last(&mut fixture, &text);
        }
    }
}

#[test]
fn a_connection_has_a_hundred_requests() {
    let mut fixture = fixture(|_| {});
    for _ in 1..100 {
        assert_kept(&ask(&mut fixture, PROBE));
    }
    let text = ask(&mut fixture, PROBE);
    assert_last(&mut fixture, &text);
}

#[test]
fn a_connection_that_takes_the_last_place_is_not_kept() {
    for fill in [
        |config: &mut Config| config.connections_max = Some(1),
        |config: &mut Config| config.handshakes_max = Some(1),
    ] {
        let mut fixture = fixture(fill);
        let text = ask(&mut fixture, PROBE);
        assert_last(&mut fixture, &text);
    }
}

#[test]
fn the_time_for_the_next_request_is_that_of_a_handshake() {
    let mut fixture = fixture(|_| {});
    for second in [4, 8, 12] {
        fixture.go(second * SECOND);
        assert_kept(&ask(&mut fixture, PROBE));
    }
    // It does not begin anew with a part of a request.
    fixture.go(16 * SECOND);
    assert_eq!(ask(&mut fixture, "GET /hea"), "");
    fixture.go(17 * SECOND - GRANULE);
    assert!(!fixture.is_gone());
    fixture.go(17 * SECOND + GRANULE);
    assert!(fixture.is_gone() && sent(&mut fixture).is_empty());
    assert_eq!(ends(&fixture), [("timed_out", "none")]);
    assert!(fixture.admission().is_empty());
}

#[test]
fn an_idle_connection_ends_as_answered() {
    let mut fixture = fixture(|_| {});
    assert_kept(&ask(&mut fixture, PROBE));
    fixture.go(5 * SECOND + GRANULE);
    assert!(fixture.is_gone() && sent(&mut fixture).is_empty());
    assert_eq!(ends(&fixture), [("http", "none")]);
    assert!(fixture.admission().is_empty());
}

#[test]
fn an_answer_leaves_though_its_client_has_ended_its_side() {
    for wires in [&[PROBE][..], &[PROBE, "GET /hea"]] {
        let mut fixture = fixture(|_| {});
        for wire in wires {
            fixture.worker.ring.deliver_to(SOCKET, wire.as_bytes());
        }
        fixture.worker.ring.end_of(Socket(SOCKET), ReceiveResult::EndOfStream);
        fixture.turn();
        assert_kept(&sent(&mut fixture));
        assert!(fixture.is_gone());
        assert_eq!(ends(&fixture), [("http", "none")]);
    }
}

#[test]
fn a_client_that_does_not_read_its_answers_gets_no_more() {
    let large = PROBE.replace("/healthz", "/large");
    let mut fixture = fixture(|_| {});
    fixture.worker.ring.is_stuck = true;
    for _ in 0..5 {
        fixture.worker.ring.deliver_to(SOCKET, large.as_bytes());
        fixture.turn();
    }
    fixture.worker.ring.is_stuck = false;
    fixture.worker.ring.take(usize::MAX);
    fixture.turn();
    let text = sent(&mut fixture);
    let connections: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("Connection: ")).collect();
    assert_eq!(connections, ["keep-alive", "close"]);
}

#[test]
fn a_stop_ends_connections_between_requests_at_once() {
    let mut fixture = fixture(|_| {});
    assert_kept(&ask(&mut fixture, PROBE));
    fixture.worker.stop(60 * SECOND);
    fixture.turn();
    // Without an answer, which could be taken for that of the next request.
    assert_eq!(sent(&mut fixture), "");
    assert!(fixture.worker.ring.shut_down_behind.is_some());
    fixture.worker.ring.end_of(Socket(SOCKET), ReceiveResult::EndOfStream);
    fixture.turn();
    assert_eq!(fixture.worker.turn().unwrap(), Turn::Done);
}

#[test]
fn a_request_at_a_stop_is_answered_and_the_last() {
    for (begun, status) in [(&PROBE[..10], "503"), (PROBE, "200")] {
        let mut fixture = fixture(|_| {});
        assert_kept(&ask(&mut fixture, PROBE));
        assert_eq!(ask(&mut fixture, &PROBE[..5]), "");
        fixture.worker.stop(60 * SECOND);
        fixture.turn();
        let mut text = ask(&mut fixture, &begun[5..]);
        fixture.go(SECOND);
        text += &sent(&mut fixture);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(fixture.worker.ring.shut_down_behind.is_some());
    }
}
