//! `picows connect` against `picows echo`, and against servers that behave in other ways.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Echo, odd_server, raw_run_with_input, run, run_with_input};
use picows_uring::{EchoListener, Server, Upgrade};

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

/// Each way in which a connection can end has one exit status, whichever side closes first.
#[test]
fn every_ending_has_its_status_each_time() {
    const EACH: usize = 8;
    let (server, url) = odd_server();
    let (_socket, closed_port) = common::unheard();
    // Does not answer CLOSE.
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).auto_close(false);
    let deaf = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let deaf_url = deaf.addresses()[0].to_string();
    let at = |way: &str| format!("{url}/{way}");
    // Without TLS it is an argument that cannot be honoured.
    let refused_wss = if cfg!(feature = "tls") { 1 } else { 2 };
    for (target, flags, status, word) in [
        (at("echo"), "", 0, ""),
        (at("close"), "", 0, ""),
        (at("close-1000"), "", 0, ""),
        (at("close-1001"), "", 0, ""),
        (at("close-1008"), "", 1, "the server closed the connection with 1008 \"bad token\""),
        (at("close-1008"), "--no-close", 1, "1008 \"bad token\""),
        (at("close-1008"), "--dedicated", 1, "1008 \"bad token\""),
        (at("close-1009"), "", 1, "1009"),
        (at("close-1011"), "", 1, "1011"),
        (at("close-3000"), "", 1, "3000"),
        (at("close-4401"), "", 1, "4401"),
        (at("close-4401"), "--binary", 1, "4401"),
        (at("fail"), "", 1, "1011"),
        (at("bytes"), "", 1, "not valid UTF-8"),
        (at("bytes"), "--no-close", 1, "not valid UTF-8"),
        (at("bytes"), "--json", 1, "not valid UTF-8"),
        (at("bytes"), "--binary", 0, ""),
        (at("halves"), "", 1, "not valid UTF-8"),
        (at("large"), "--max-frame-size 1000", 1, "size"),
        (at("vanish"), "--no-close", 1, "close handshake"),
        (at("hang-up"), "--no-close", 1, "close handshake"),
        (deaf_url, "--close-timeout 10ms", 1, "did not answer CLOSE within 10ms"),
        (at("mute"), "--no-close --auto-ping 10ms,10ms", 1, "did not answer a ping"),
        (at("refuse"), "", 1, "404"),
        (format!("ws://{closed_port}/"), "", 1, "refused"),
        ("nonsense".to_owned(), "", 2, ""),
        (format!("wss://{closed_port}/"), "", refused_wss, ""),
    ] {
        for _ in 0..EACH {
            let done = run_with_input(&format!("connect {flags}"), &target, b"hello\n");
            assert_eq!(done.code, status, "{target} {flags}: {}", done.stderr);
            assert!(done.stderr.contains(word), "{target} {flags}: {}", done.stderr);
            assert_eq!(done.stderr.is_empty(), status == 0, "{target} {flags}: {}", done.stderr);
        }
    }
    server.stop().unwrap();
    deaf.stop_within(std::time::Duration::ZERO).unwrap();
}

#[test]
fn so_many_messages_are_written_and_then_the_connection_is_closed() {
    let echo = Echo::start();
    let (server, url) = odd_server();
    let fragments = format!("{url}/fragments");
    for (target, flags, input, output) in [
        (&echo.url, "--max-messages 2", "1\n2\n3\n4\n", "1\n2\n"),
        (&echo.url, "--max-messages 2 --no-close", "1\n2\n", "1\n2\n"),
        (&echo.url, "--max-messages 5", "1\n2\n", "1\n2\n"),
        (&echo.url, "--max-messages 1 --binary", "1\n2\n", "1\n2\n"),
        (&echo.url, "--one-message", "1\n2\n3\n", "1\n"),
        (&echo.url, "-1 --json", "1\n2\n", "{\"type\":\"text\",\"text\":\"1\"}\n"),
        (&echo.url, "--one-message --dedicated", "1\n2\n3\n", "1\n"),
        // Fragments are one message.
        (&fragments, "--max-messages 1 --no-close", "hello\nyou\n", "hello\n"),
        // Without input, the first message of the server.
        (&format!("{url}/greet"), "--one-message", "", "welcome\n"),
    ] {
        let done = run_with_input(&format!("connect {flags}"), target, input.as_bytes());
        assert_eq!((done.code, &*done.stdout), (0, output), "{flags}: {}", done.stderr);
        assert_eq!(done.stderr, "", "{flags}");
    }
    server.stop().unwrap();
}

#[test]
fn a_close_code_may_have_its_own_status() {
    let (server, url) = odd_server();
    for (way, flags, status, word) in [
        ("close-4401", "--exit-on-close-code 4401=10", 10, "4401 \"bad token\""),
        ("close-4401", "--exit-on-close-code 4401", 0, ""),
        ("close-4401", "--exit-on-close-code 4400=10", 1, "4401"),
        ("close-1000", "--exit-on-close-code 4000 --exit-on-close-code 1000=7", 7, "1000"),
    ] {
        let done = run_with_input(&format!("connect {flags}"), &format!("{url}/{way}"), b"hello\n");
        assert_eq!(done.code, status, "{way} {flags}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{way} {flags}: {}", done.stderr);
        assert_eq!(done.stderr.is_empty(), status == 0, "{way} {flags}: {}", done.stderr);
    }
    server.stop().unwrap();
}

#[test]
fn text_that_is_not_utf_8_is_not_written() {
    let (server, url) = odd_server();
    let bytes = |flags: &str, way: &str| {
        let line = format!("connect {flags}");
        raw_run_with_input(&line, &format!("{url}/{way}"), b"hello\n").stdout
    };
    assert_eq!(bytes("", "bytes"), b"");
    assert_eq!(bytes("--json", "bytes"), b"");
    assert_eq!(bytes("--binary", "bytes"), b"\xff\xfe");
    server.stop().unwrap();
}

#[test]
fn a_line_of_json_is_a_message_whatever_it_holds() {
    let echo = Echo::start();
    let done = run_with_input("connect --json", &echo.url, b"one\r\n{\"a\": 1}\n");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let lines = "{\"type\":\"text\",\"text\":\"one\\r\"}\n\
                 {\"type\":\"text\",\"text\":\"{\\\"a\\\": 1}\"}\n";
    assert_eq!(done.stdout, lines);
}

#[test]
fn a_reason_cannot_control_a_terminal() {
    let (server, url) = odd_server();
    let done = run_with_input("connect", &format!("{url}/rude"), b"hello\n");
    assert_eq!(done.code, 1);
    let line =
        "error: the server closed the connection with 4000 \"\\u{1b}[2J\\nforged\\u{202e}\"\n";
    assert_eq!(done.stderr, line);
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
fn wrong_flags_are_status_2() {
    for line in
        ["connect -H nonsense", "connect --no-close --linger 1s", "connect --ping-interval 0"]
            .into_iter()
            .chain(["connect --json --binary", "connect --max-messages 0"])
            .chain(["connect -1 --max-messages 2", "connect --exit-on-close-code 40"])
    {
        assert_eq!(run(line, "ws://127.0.0.1:1/").code, 2, "{line}");
    }
}
