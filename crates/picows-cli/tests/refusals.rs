//! Reports of the clients on refusals and redirects.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Done, output_of, picows, run};
use std::io::{Read, Write};
use std::net::TcpListener;

/// A server that sends the same answer to each client, and then ends the connection.
fn answers(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

const CLIENTS: [&str; 3] = ["connect", "load -c 2 -d 200ms", "rtt -d 200ms"];

#[test]
fn each_client_shows_status_body_and_time_to_retry() {
    for version in ["1.1", "1.0"] {
        let url = answers(format!(
            "HTTP/{version} 429 Too Many Requests\r\nRetry-After: 4321\r\nContent-Length: 14\r\n\r\n\
             \x1b[2Jslow down.\n\r\n"
        ));
        for client in CLIENTS {
            let done = run(client, &url);
            assert_eq!(done.code, 1, "{client}: {}", done.stderr);
            let shown = "429 Too Many Requests instead of 101 (Retry-After: 4321)";
            assert!(done.stderr.contains(shown), "{client}: {}", done.stderr);
            assert!(done.stderr.contains(r#""\x1b[2Jslow down."#), "{client}: {}", done.stderr);
            assert!(!done.stderr.contains('\x1b'), "{client}: {}", done.stderr);
        }
    }
}

#[test]
fn a_redirect_to_another_origin_names_the_flag() {
    let there = answers("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned());
    let redirect = format!("HTTP/1.1 302 X\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n");
    let url = answers(redirect);
    let done = run("connect -H X-Key:secret", &url);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("with --redirect-keeps"), "{}", done.stderr);
    for keeps in ["nothing", "headers", "subprotocols", "all"] {
        let done = run(&format!("connect -H X-Key:secret --redirect-keeps {keeps}"), &url);
        assert!(done.stderr.contains("403 Forbidden"), "{keeps}: {}", done.stderr);
    }
}

#[test]
fn impossible_urls_are_status_2_with_the_cure() {
    for (url, cure) in [
        ("ws://[fe80::1%25lo]:1/", "zone"),
        ("unix:/run/x.sock", "ws+unix"),
        ("ws+unix://run/x.sock", "write ws+unix:/run/picows.sock"),
        ("ws://user:password@127.0.0.1/", "Authorization"),
        ("ws://127.0.0.1:1/a\r\nerror: forged", "\\r\\nerror: forged"),
    ] {
        for client in CLIENTS {
            let done = run(client, url);
            let wanted = if cure.contains("forged") { 1 } else { 2 };
            assert_eq!(done.code, wanted, "{client} {url}: {}", done.stderr);
            assert!(done.stderr.contains(cure), "{client}: {}", done.stderr);
            assert!(!done.stderr.lines().any(|line| line.starts_with("error: forged")));
        }
    }
}

#[test]
fn a_port_that_is_too_large_is_named_as_such() {
    let lines = ["99999", ":99999", "localhost:65536", "[::1]:65536", "0 --admin 99999"]
        .iter()
        .flat_map(|address| ["echo", "pubsub"].map(|command| format!("{command} {address}")))
        .chain(CLIENTS.map(|client| format!("{client} ws://127.0.0.1:99999/")))
        .chain(CLIENTS.map(|client| format!("{client} wss://[::1]:65536/a?b#c")))
        .chain(CLIENTS.map(|client| format!("{client} --proxy http://h:99999 ws://127.0.0.1:1/")));
    for line in lines {
        let done = Done::from(output_of(&mut picows(line.split_whitespace()), b""));
        assert_eq!(done.code, 2, "{line}: {}", done.stderr);
        let fault = "the port is too large, as it is from 0 to 65535";
        assert!(done.stderr.contains(fault), "{line}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{line}");
    }
}

#[test]
fn an_option_in_place_of_the_address_names_the_argument() {
    for (line, tip) in [
        ("echo --port 9001", "picows echo 9001"),
        ("pubsub --host 0.0.0.0", "picows pubsub 127.0.0.1:9001"),
        ("load --url ws://127.0.0.1:1/", "picows load ws://"),
    ] {
        let done = Done::from(output_of(&mut picows(line.split_whitespace()), b""));
        assert_eq!(done.code, 2, "{line}: {}", done.stderr);
        assert!(done.stderr.contains(tip), "{line}: {}", done.stderr);
        assert!(!done.stderr.contains("similar"), "{line}: {}", done.stderr);
    }
}
