//! A server that is full: plain requests are answered, upgrades refused, and no peer can fill that.

use super::*;
use crate::status::SendStatus;
use picows_uring_proto::{UpgradeRequest, UpgradeResponse};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// As many as a worker keeps.
const REFUSED_MAX: i32 = 256;

/// A full server whose `/healthz` is plain.
fn fixture(change: impl FnOnce(&mut Config)) -> Fixture {
    let mut config = Config { connections_max: Some(1), ..Config::default() };
    change(&mut config);
    let mut fixture = Fixture::listening(Manner::default(), config);
    fixture.answer_with(Arc::new(|request: &UpgradeRequest| {
        Ok(match request.path() {
            "/healthz" => Upgrade::respond(UpgradeResponse::ok().with_body("fine")),
            _ => Upgrade::accept(Actor(Manner::default())),
        })
    }));
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture
}

/// What is answered to `wire` on a new connection.
fn ask(fixture: &mut Fixture, socket: i32, wire: &[u8]) -> String {
    fixture.worker.ring.connect(socket);
    fixture.turn();
    fixture.worker.ring.sent.clear();
    fixture.worker.ring.deliver_to(socket, wire);
    fixture.turn();
    String::from_utf8(std::mem::take(&mut fixture.worker.ring.sent)).unwrap()
}

#[test]
fn plain_requests_are_answered_and_upgrades_refused_whatever_is_full() {
    for fill in [
        |config: &mut Config| config.connections_max = Some(1),
        |config: &mut Config| (config.connections_max, config.handshakes_max) = (None, Some(1)),
    ] {
        let mut fixture = fixture(fill);
        for (socket, wire, status) in [
            (8, HEALTH, "200"),
            (9, UPGRADE, "503"),
            (10, &b"HEAD /healthz HTTP/1.0\r\n\r\n"[..], "200"),
            (11, b"nonsense\r\n\r\n", "400"),
            (12, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
            // What the factory would accept is no plain answer.
            (13, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "503"),
        ] {
            let text = ask(&mut fixture, socket, wire);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{socket}: {text}");
            assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        }
        assert_eq!(fixture.stats().refused, 6);
        assert_eq!(seen(), [""; 0], "no listener was called");
    }
}

/// Fills its queue when it is connected, and then sees whether another handshake may begin.
struct Talker(Arc<Config>);

impl Listener for Talker {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        while transport.send(MsgType::Binary, [0; 1000]) == SendStatus::Queued
            && transport.buffered_amount() > 0
        {}
        see(format!("buffered: {}", transport.buffered_amount()));
        see(format!("admitted: {:?}", self.0.admit(None)));
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

#[test]
fn an_answer_that_leaves_with_what_on_connected_sends_makes_room_first() {
    let config = Config { handshakes_max: Some(1), ..Config::default() };
    let mut fixture = Fixture::listening(Manner::default(), config);
    let config = Arc::clone(&fixture.worker.local.config);
    fixture.answer_with(Arc::new(move |_: &_| Ok(Upgrade::accept(Talker(Arc::clone(&config))))));
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture.worker.ring.outlet.give([Ok(usize::MAX)]);
    fixture.worker.ring.deliver_to(7, UPGRADE);
    fixture.turn();
    assert_eq!(seen(), ["buffered: 0", "admitted: Ok(())"], "it has left");
    assert!(fixture.worker.ring.sent.starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn silence_is_refused_after_a_moment() {
    let mut fixture = fixture(|_| {});
    fixture.worker.ring.connect(8);
    fixture.turn();
    fixture.go(SECOND - GRANULE);
    assert!(fixture.worker.ring.sent.is_empty());
    fixture.go(SECOND + GRANULE);
    let text = String::from_utf8(std::mem::take(&mut fixture.worker.ring.sent)).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.ends_with("too many connections\n"),
        "{text}"
    );
    // As long as the close timeout, and no longer.
    fixture.go(5 * SECOND - GRANULE);
    assert!(!fixture.worker.ring.closed.contains(&Socket(8)));
    fixture.go(7 * SECOND);
    assert!(fixture.worker.ring.closed.contains(&Socket(8)));
}

#[test]
fn a_short_handshake_timeout_stays_the_shorter() {
    let mut fixture = fixture(|config| config.conversation.handshake_timeout = Some(SECOND / 10));
    fixture.worker.ring.connect(8);
    fixture.turn();
    fixture.go(SECOND / 10 + GRANULE);
    assert!(fixture.worker.ring.sent.starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn a_flood_that_says_nothing_does_not_keep_a_health_check_out() {
    let mut fixture = fixture(|_| {});
    for socket in 100..100 + 10 * REFUSED_MAX {
        fixture.worker.ring.connect(socket);
        fixture.turn();
        if socket % 97 == 0 {
            // Some say a little, and some are answered and stay.
            fixture.worker.ring.deliver_to(socket, b"GET /he");
            fixture.turn();
        }
    }
    assert!(ask(&mut fixture, 8, HEALTH).starts_with("HTTP/1.1 200 "));
    assert!(ask(&mut fixture, 9, UPGRADE).starts_with("HTTP/1.1 503 "));
    let slots = fixture.stats().slots;
    assert!(slots <= 1 + REFUSED_MAX as u64, "{slots} connections");
    let told = fixture.stats().disconnected;
    assert!(told > 0, "the oldest made room");
}

#[test]
fn a_flood_of_requests_whose_answers_are_not_read_does_not_either() {
    let mut fixture = fixture(|_| {});
    for socket in 100..100 + 3 * REFUSED_MAX {
        let text = ask(&mut fixture, socket, HEALTH);
        assert!(text.starts_with("HTTP/1.1 200 "), "{socket}: {text}");
    }
    assert!(fixture.stats().slots <= 1 + REFUSED_MAX as u64);
    // They all go in the end, and nothing is counted any longer.
    fixture.go(60 * SECOND);
    assert_eq!(fixture.stats().slots, 0);
    assert!(fixture.admission().is_empty());
    assert!(ask(&mut fixture, 8, UPGRADE).starts_with("HTTP/1.1 101 "));
}

#[test]
fn the_factory_is_not_asked_for_an_upgrade_that_is_refused() {
    let mut fixture = fixture(|_| {});
    fixture.answer_with(Arc::new(|request: &UpgradeRequest| {
        see(request.path());
        Ok(Upgrade::respond(UpgradeResponse::ok()))
    }));
    assert!(ask(&mut fixture, 8, UPGRADE).starts_with("HTTP/1.1 503 "));
    assert!(ask(&mut fixture, 9, HEALTH).starts_with("HTTP/1.1 200 "));
    assert_eq!(seen(), ["/healthz"]);
}

#[test]
fn the_oldest_of_too_many_that_say_nothing_is_answered_at_once() {
    let mut fixture = fixture(|_| {});
    for socket in 100..100 + SILENT_MAX {
        fixture.worker.ring.connect(socket);
        fixture.turn();
    }
    assert!(fixture.worker.ring.sent.is_empty());
    fixture.worker.ring.connect(8);
    fixture.turn();
    let text = String::from_utf8_lossy(&fixture.worker.ring.sent).into_owned();
    assert_eq!(text.matches("HTTP/1.1 503 ").count(), 1, "{text}");
}

/// As many as a worker waits for.
const SILENT_MAX: i32 = 128;

#[test]
fn those_that_were_answered_or_have_gone_shorten_no_timeout() {
    for is_gone in [false, true] {
        let mut fixture = fixture(|_| {});
        fixture.worker.ring.connect(8);
        fixture.turn();
        let others = if is_gone { 2 * REFUSED_MAX } else { REFUSED_MAX - 2 };
        for socket in 100..100 + others {
            assert!(ask(&mut fixture, socket, HEALTH).starts_with("HTTP/1.1 200 "));
            if is_gone {
                fixture.worker.ring.end_of(Socket(socket), ReceiveResult::EndOfStream);
                fixture.turn();
            }
        }
        fixture.worker.ring.sent.clear();
        fixture.worker.ring.deliver_to(8, HEALTH);
        fixture.turn();
        assert!(fixture.worker.ring.sent.starts_with(b"HTTP/1.1 200 "), "gone: {is_gone}");
    }
}
