//! `picows connect` against `picows echo`, and against servers with a will of their own.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Echo, odd_server, raw_run_with_input, run, run_with_input};

#[test]
fn every_line_comes_back_before_the_end() {
    let echo = Echo::start();
    for flags in
        ["", "--busy-poll 50us", "--linger 10ms", "--dedicated", "--dedicated --busy-poll always"]
    {
        let mut lines: String = (0..5000).map(|number| format!("line {number}\n")).collect();
        lines += "\ngrüße 👋\n";
        lines += &("x".repeat(200_000) + "\n");
        let done = run_with_input(&format!("connect {flags}"), &echo.url, lines.as_bytes());
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stdout == lines, "{flags}: {} bytes of {}", done.stdout.len(), lines.len());
        assert_eq!(done.stderr, "");
    }
}

#[test]
fn bytes_come_back_as_they_were() {
    let echo = Echo::start();
    let bytes: Vec<u8> =
        (0..8_000_000_u32).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect();
    for line in ["connect --binary", "connect --binary --dedicated"] {
        let done = raw_run_with_input(line, &echo.url, &bytes);
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == bytes, "{line}: {} of {}", done.stdout.len(), bytes.len());
    }
}

#[test]
fn headers_and_subprotocols_are_offered() {
    let (server, url) = odd_server();
    let url = format!("{url}/header");
    let mut command =
        common::picows(["connect", "-H", "X-Color: dark red", "--subprotocol", "color"]);
    let done = command.arg(&url).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.stdout, b"dark red\n");
    server.stop().unwrap();
}

#[test]
fn the_end_of_the_connection_decides_the_status() {
    let (server, url) = odd_server();
    for (way, flags, code, word) in [
        ("close", "--no-close", 0, ""),
        ("fail", "--no-close", 1, "1011"),
        ("vanish", "--no-close", 1, "close handshake"),
        ("refuse", "", 1, "404"),
    ] {
        for waiting in ["", "--dedicated"] {
            let line = format!("connect {flags} {waiting}");
            let done = run_with_input(&line, &format!("{url}/{way}"), b"hello\n");
            assert_eq!(done.code, code, "{way} {waiting}: {}", done.stderr);
            assert!(done.stderr.contains(word), "{way} {waiting}: {}", done.stderr);
        }
    }
    server.stop().unwrap();
}

#[test]
fn pings_are_sent() {
    let (server, url) = odd_server();
    for line in ["connect", "connect --dedicated"] {
        let line = format!("{line} --no-close --ping-interval 10ms");
        let done = run(&line, &format!("{url}/ping"));
        assert_eq!((done.code, done.stdout.as_str()), (0, "pinged\n"), "{line}: {}", done.stderr);
    }
    server.stop().unwrap();
}

#[test]
fn fragments_are_one_line() {
    let (server, url) = odd_server();
    let done = run_with_input("connect", &format!("{url}/fragments"), b"hello there\nyou\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, "hello there\nyou\n"), "{}", done.stderr);
    server.stop().unwrap();
}

#[test]
fn input_that_is_no_text_is_status_1_and_closes() {
    let echo = Echo::start();
    for line in ["connect", "connect --no-close", "connect --dedicated"] {
        let done = run_with_input(line, &echo.url, b"one\n\xff\n");
        assert_eq!(done.code, 1, "{line}");
        assert!(done.stderr.contains("line 2 of the input is not UTF-8"), "{}", done.stderr);
        assert_eq!(done.stdout, "one\n", "{line}");
    }
}

#[test]
fn flags_that_make_no_sense_are_status_2() {
    for line in
        ["connect -H nonsense", "connect --no-close --linger 1s", "connect --ping-interval 0"]
    {
        assert_eq!(run(line, "ws://127.0.0.1:1/").code, 2, "{line}");
    }
}
