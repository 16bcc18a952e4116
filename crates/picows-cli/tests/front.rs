//! `picows echo` behind a proxy, and with subprotocols.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Done, Echo, Running, output_of, picows};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// Sends `bytes` to a server, and returns the head of its answer with the open connection.
fn ask(echo: &Echo, bytes: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(echo.url.strip_prefix("ws://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (String::from_utf8(head).unwrap(), stream)
}

#[test]
fn a_port_is_enough_of_an_address() {
    for (words, start) in [
        (&["echo", "0"][..], "listening on ws://127.0.0.1:"),
        (&["echo", "--listen", "0"], "listening on ws://127.0.0.1:"),
        (&["echo", "--listen", ":0"], "listening on ws://0.0.0.0:"),
        (&["echo", ":0"], "listening on ws://0.0.0.0:"),
        (&["pubsub", "127.0.0.1:0"], "listening on ws://127.0.0.1:"),
    ] {
        let mut command = picows(words.iter().copied());
        let mut running = Running::start(command.args(["--workers", "1"]).stdout(Stdio::piped()));
        let line = running.line();
        assert!(line.starts_with(start), "{words:?}: {line}");
    }
}

#[test]
fn a_subprotocol_is_agreed_on_by_the_order_of_the_flags() {
    let echo = Echo::with("--subprotocol v2 --subprotocol v1");
    for (offer, chosen) in [("v1, v2", Some("v2")), ("v1", Some("v1")), ("v3", None)] {
        let (head, _) = ask(&echo, &format!("{REQUEST}Sec-WebSocket-Protocol: {offer}\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let line = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        assert_eq!(line, chosen, "{offer}");
    }
}

#[test]
fn limits_count_the_clients_that_a_proxy_names() {
    let echo = Echo::with("--proxy-protocol 127.0.0.0/8,::1 --max-per-address 1");
    let named = |client: &str| format!("PROXY TCP4 {client} 192.0.2.1 1 2\r\n{REQUEST}\r\n");
    let (first, _open) = ask(&echo, &named("192.0.2.7"));
    let (second, _) = ask(&echo, &named("192.0.2.7"));
    let (third, _) = ask(&echo, &named("192.0.2.8"));
    for (head, status) in [(first, "101"), (second, "503"), (third, "101")] {
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    let echo = Echo::with("--trusted-proxies 127.0.0.1 --max-per-address 1");
    let named = |client: &str| format!("{REQUEST}X-Forwarded-For: {client}\r\n\r\n");
    let (first, _open) = ask(&echo, &named("192.0.2.7"));
    let (second, _) = ask(&echo, &named("192.0.2.7"));
    assert!(first.starts_with("HTTP/1.1 101 ") && second.starts_with("HTTP/1.1 503 "), "{second}");
}

#[test]
fn what_is_no_network_is_named() {
    let words = ["echo", "--listen", "127.0.0.1:0", "--proxy-protocol", "10.0.0.0/33"];
    let done = Done::from(output_of(&mut picows(words), b""));
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("\"10.0.0.0/33\" is no network"), "{}", done.stderr);
}
