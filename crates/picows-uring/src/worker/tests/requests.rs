//! Requests at the door, plain ones and upgrades, cut at every byte: what is answered, and what the
//! factory gets to see.

use super::*;
use bytes::Bytes;
use http::StatusCode;
use picows_uring_proto::{UpgradeRequest, UpgradeResponse};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server whose `/healthz` answers in plain HTTP and whose other paths accept; counts what it is
/// asked.
fn fixture(asked: &Arc<AtomicUsize>) -> Fixture {
    let asked = Arc::clone(asked);
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.answer_with(Arc::new(move |request: &UpgradeRequest| {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok(match request.path() {
            "/healthz" => Upgrade::respond(UpgradeResponse::ok().with_body("fine\n")),
            "/gone" => Upgrade::respond(UpgradeResponse::new(StatusCode::NO_CONTENT)),
            "/bad" => return Err("not today".into()),
            _ => Upgrade::accept(Actor(Manner::default())),
        })
    }));
    fixture
}

/// What is answered to `wire`, and how often the factory was asked; however it is cut in two.
#[track_caller]
fn answer(wire: &[u8]) -> (String, usize) {
    let asked = Arc::<AtomicUsize>::default();
    let mut answers: Vec<_> = (0..=wire.len())
        .map(|cut| {
            asked.store(0, Ordering::Relaxed);
            let mut fixture = fixture(&asked);
            fixture.worker.ring.connect(7);
            fixture.turn();
            for piece in [&wire[..cut], &wire[cut..]] {
                if !piece.is_empty() {
                    fixture.deliver(piece);
                }
            }
            let text = String::from_utf8_lossy(&std::mem::take(&mut fixture.worker.ring.sent))
                .into_owned();
            (without_date(&text), asked.load(Ordering::Relaxed))
        })
        .collect();
    let whole = answers.swap_remove(0);
    for (cut, pieces) in answers.iter().enumerate() {
        assert_eq!(*pieces, whole, "cut={cut}");
    }
    whole
}

/// An answer without the line that time changes: it is there, in every answer but 101.
fn without_date(text: &str) -> String {
    let lines: Vec<_> = text.split_inclusive("\r\n").collect();
    let dates = lines.iter().filter(|line| line.starts_with("Date: ")).count();
    let is_answer = text.starts_with("HTTP/1.1 ") && !text.starts_with("HTTP/1.1 1");
    assert!(dates == 1 || !is_answer, "{text}");
    lines.into_iter().filter(|line| !line.starts_with("Date: ")).collect()
}

#[test]
fn a_large_body_is_sent_from_where_it_lies() {
    let body = Bytes::from(vec![7; 100_000]);
    let given = body.clone();
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.answer_with(Arc::new(move |_: &UpgradeRequest| {
        Ok(Upgrade::respond(UpgradeResponse::ok().with_body(given.clone())))
    }));
    fixture.worker.ring.is_stuck = true;
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture.deliver(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    let sending = fixture.worker.ring.sending();
    let [head, sent] = sending[..] else { panic!("{} parts", sending.len()) };
    assert_eq!((sent.as_ptr(), sent.len()), (body.as_ptr(), body.len()));
    let head = String::from_utf8_lossy(head);
    assert!(head.contains("\r\nContent-Length: 100000\r\n"), "{head}");
    assert!(head.contains("\r\nDate: ") && head.ends_with(" GMT\r\n\r\n"), "{head}");
}

#[test]
fn a_date_of_the_factory_is_left_alone() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.answer_with(Arc::new(|_: &UpgradeRequest| {
        let response = UpgradeResponse::ok().with_header("Date", "mine").expect("a header");
        Ok(Upgrade::respond(response))
    }));
    fixture.worker.ring.connect(7);
    fixture.turn();
    fixture.deliver(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = String::from_utf8_lossy(&fixture.worker.ring.sent);
    assert_eq!(text.matches("Date: ").collect::<Vec<_>>().len(), 1, "{text}");
    assert!(text.contains("\r\nDate: mine\r\n"), "{text}");
}

const UPGRADE: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// The answer that has to be there once, with its status, a header and the body.
#[track_caller]
fn assert_answer(wire: &str, status: &str, header: &str, body: &str, asked: usize) {
    let (text, times) = answer(wire.as_bytes());
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{wire:?}: {text}");
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(header), "{wire:?}: {text}");
    assert!(head.contains("\r\nConnection: close"), "{wire:?}: {text}");
    assert_eq!((rest, times), (body, asked), "{wire:?}");
}

#[test]
fn health_checks_of_every_form() {
    for wire in [
        "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        "\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/healthz HTTP/1.1\r\nHost: b\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    ] {
        assert_answer(wire, "200", "\r\nContent-Length: 5\r\n", "fine\n", 1);
    }
    for wire in ["HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "\r\nHEAD /healthz HTTP/1.0\r\n\r\n"]
    {
        assert_answer(wire, "200", "\r\nContent-Length: 5\r\n", "", 1);
    }
    assert_answer("HEAD /gone HTTP/1.0\r\n\r\n", "204", "", "", 1);
}

#[test]
fn what_http_forbids_does_not_reach_the_factory() {
    for rest in ["", UPGRADE] {
        let host = if rest.is_empty() { "Host: a\r\n" } else { "" };
        for (line, status) in [
            ("Host: b", "400"), // The second.
            ("X : b", "400"),
            ("X: b\r\n c", "400"),
            ("X: b\rc", "400"),
            ("Content-Length: 5", "413"),
            ("Content-Length: 0, 0", "400"),
            ("Transfer-Encoding: chunked", "411"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0", "400"),
            ("Transfer-Encoding: gzip, chunked", "501"),
            ("Expect: a miracle", "417"),
        ] {
            let wire = format!("GET /healthz HTTP/1.1\r\n{host}{rest}{line}\r\n\r\n");
            let (text, asked) = answer(wire.as_bytes());
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{wire:?}: {text}");
            assert_eq!(asked, 0, "{wire:?}");
        }
    }
}

#[test]
fn another_method_is_answered_with_those_that_are_served() {
    for method in ["POST", "OPTIONS", "PUT", "TRACE"] {
        let wire = format!("{method} /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        let text = format!("unsupported HTTP method {method}: only GET and HEAD are served");
        assert_answer(&wire, "405", "\r\nAllow: GET, HEAD\r\n", &text, 0);
    }
    let wire = format!("HEAD / HTTP/1.1\r\n{UPGRADE}\r\n");
    assert_answer(&wire, "405", "\r\nAllow: GET\r\n", "", 1);
}

#[test]
fn every_refusal_of_a_head_is_without_body() {
    for (wire, status, asked) in [
        ("HEAD / HTTP/1.1\r\n\r\n", "400", 0),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "400", 1),
        ("HEAD /bad HTTP/1.1\r\nHost: a\r\n\r\n", "500", 1),
        ("HEAD / HTTP/3.0\r\nHost: a\r\n\r\n", "505", 0),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", "413", 0),
    ] {
        assert_answer(wire, status, "\r\nContent-Length: ", "", asked);
    }
}

#[test]
fn an_upgrade_that_expects_to_continue_gets_a_100_and_then_switches() {
    let wire = format!("GET / HTTP/1.1\r\n{UPGRADE}Expect: 100-continue\r\n\r\n");
    let (text, _) = answer(wire.as_bytes());
    let rest = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert!(rest.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{rest}");
    // One that is refused gets its status alone.
    let wire = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\r\n";
    assert_answer(wire, "400", "", "invalid upgrade header: expected websocket", 1);
}

#[test]
fn an_empty_line_in_front_moves_no_frame_behind() {
    let wire = format!("\r\nGET / HTTP/1.1\r\n{UPGRADE}\r\n");
    // A ping, which is answered.
    let wire = [wire.as_bytes(), b"\x89\x82\0\0\0\0hi"].concat();
    let (text, asked) = answer(&wire);
    assert!(text.starts_with("HTTP/1.1 101 ") && asked == 1, "{text}");
    assert!(text.ends_with("\u{2}hi"), "{text:?}");
}
