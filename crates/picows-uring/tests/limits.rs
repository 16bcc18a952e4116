//! Limits on a peer: connections, time, bytes.

mod common;

use common::{Client, Got, PATIENCE, address, eventually, masked, noise, patiently, workers};
use picows_uring::{
    CloseCode, EchoListener, FrameHead, MsgType, ServerBuilder, ServerHandle, Upgrade,
};
use std::time::{Duration, Instant};

fn echo(builder: ServerBuilder) -> ServerHandle {
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

#[test]
fn connections_beyond_the_limit_are_told_503() {
    const LIMIT: usize = 5;
    let server = echo(workers(2).max_connections(LIMIT));
    let mut inside: Vec<_> = (0..LIMIT).map(|_| Client::upgrade(address(&server))).collect();
    for refused in 1..=20 {
        let mut client = Client::connect(address(&server));
        let response = client.ask("/", "");
        assert_eq!((response.status, &*response.body), (503, "too many connections\n"));
        assert_eq!(response.header("Connection"), Some("close"));
        client.expect_eof();
        assert_eq!(server.stats().refused, refused);
    }
    eventually(&server, "the refused have gone", |stats| stats.slots == LIMIT as u64);
    inside.iter_mut().for_each(|client| client.echo(b"still served"));
    // A client that goes makes room, again and again.
    for _ in 0..3 * LIMIT {
        drop(inside.pop());
        // A slot is free when the connection is no longer counted anywhere, which `connections`
        // may be a moment before.
        eventually(&server, "there is room", |stats| stats.slots < LIMIT as u64);
        let mut client = Client::upgrade(address(&server));
        client.echo(b"next");
        inside.insert(0, client);
    }
    assert_eq!(server.stats().refused, 20);
}

#[test]
fn one_that_was_refused_takes_nobodys_place() {
    let server = echo(workers(1).max_connections(1));
    let first = Client::upgrade(address(&server));
    for _ in 0..10 {
        let mut refused = Client::connect(address(&server));
        assert_eq!(refused.ask("/", "").status, 503);
    }
    eventually(&server, "the refused are gone", |stats| stats.slots == 1);
    drop(first);
    eventually(&server, "the first is gone", |stats| stats.slots == 0);
    let mut second = Client::upgrade(address(&server));
    assert_eq!(Client::connect(address(&server)).ask("/", "").status, 503);
    second.echo(b"the only one");
}

#[test]
fn a_handshake_has_its_time() {
    let timeout = Duration::from_millis(200);
    let server = echo(workers(1).handshake_timeout(timeout));
    for sent in ["", "GET / HTTP/1.1\r\nHost: slow\r\n"] {
        let start = Instant::now();
        let mut client = Client::connect(address(&server));
        // If we are late ourselves, it is never read.
        let _ = client.try_write(sent.as_bytes());
        client.expect_gone();
        let waited = start.elapsed();
        assert!(waited >= timeout && waited < PATIENCE / 2, "{sent:?}: {waited:?}");
    }
    // One that drips makes no difference: it is counted from the connection.
    let start = Instant::now();
    let mut client = Client::connect(address(&server));
    let request = common::upgrade_request("/", &"A: b\r\n".repeat(100));
    let sent = client.drip(request.as_bytes(), Duration::from_millis(5));
    assert!(sent < request.len(), "it was cut off, after {sent} bytes");
    assert!(start.elapsed() < PATIENCE / 2);
    // And none to one that is done.
    let mut client = patiently("a handshake in time", || Client::try_upgrade(address(&server)));
    let mut other = Client::connect(address(&server));
    other.expect_gone();
    client.echo(b"longer than that");
}

#[test]
fn without_a_limit_a_handshake_may_take_any_time() {
    let server = echo(workers(1).handshake_timeout(None));
    let mut client = Client::connect(address(&server));
    for byte in common::upgrade_request("/", "").bytes() {
        client.write(&[byte]);
    }
    assert_eq!(client.response().status, 101);
    client.echo(b"byte by byte");
}

#[test]
fn a_head_that_is_too_large_is_told_431() {
    let server = echo(workers(1).max_header_size(1024).max_headers(10));
    let many = "X: y\r\n".repeat(10);
    let long = format!("Cookie: {}\r\n", "x".repeat(1024));
    for lines in [&many, &long] {
        let mut client = Client::connect(address(&server));
        let response = client.ask("/", lines);
        assert_eq!(response.status, 431, "{response:?}");
        client.expect_eof();
    }
    // Not even a head that never ends is read on.
    let mut client = Client::connect(address(&server));
    client.write(b"GET / HTTP/1.1\r\n");
    for _ in 0..300 {
        if client.try_write(b"A: 1\r\n").is_err() {
            break;
        }
    }
    assert_eq!(client.response().status, 431);
    let few = "X: y\r\n".repeat(5);
    let mut client = Client::connect(address(&server));
    assert_eq!(client.ask("/", &few).status, 101);
}

#[test]
fn a_frame_that_is_too_large_is_told_1009_by_its_header() {
    const LIMIT: usize = 70_000;
    let server = echo(workers(1).max_frame_size(LIMIT as u64));
    let mut client = Client::upgrade(address(&server));
    let fits = masked(FrameHead::new(MsgType::Binary), &noise(1, LIMIT));
    assert!(client.exchange(&fits, 1) == [Got::new(MsgType::Binary, noise(1, LIMIT))]);
    let mut claim = masked(FrameHead::new(MsgType::Binary), &noise(1, LIMIT + 1));
    claim.truncate(14);
    client.write(&claim);
    let reason = "Received frame with payload size exceeding max allowed size";
    client.expect_close(CloseCode::MESSAGE_TOO_BIG, reason);
    client.expect_eof();
    assert_eq!(server.stats().protocol_errors, 1);
}

#[test]
fn text_is_checked_across_fragments_if_wanted() {
    let server = echo(workers(1).validate_text(true));
    let text = FrameHead::new(MsgType::Text).with_fin(false);
    let rest = FrameHead::new(MsgType::Continuation);
    let mut client = Client::upgrade(address(&server));
    let (start, end) = "я".as_bytes().split_at(1);
    client.write(&[masked(text, start), masked(rest, end)].concat());
    assert_eq!(
        (client.receive().payload, client.receive().payload),
        (start.to_vec(), end.to_vec())
    );
    client.write(&[masked(text, start), masked(rest, b"x")].concat());
    assert_eq!(client.receive().payload, start);
    client.expect_close(CloseCode::INVALID_PAYLOAD, "Received text that is not valid UTF-8");
}
