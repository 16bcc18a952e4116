//! Runs each example as its reader would, and talks to it.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A wait that is longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for Cargo, which may have to build, and to wait until others have.
const BUILD_PATIENCE: Duration = Duration::from_secs(300);
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// An example that runs. Dropped, it is killed.
struct Example {
    process: Child,
    lines: Receiver<String>,
    address: String,
}

impl Example {
    fn start(name: &str) -> Self {
        // Cargo builds it, if need be, and then becomes it.
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--package", "examples", "--example", name]);
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        command.args(["--", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("cargo is there");
        let output = BufReader::new(process.stdout.take().expect("it is a pipe"));
        let (told, lines) = channel();
        std::thread::spawn(move || {
            // To the end, whether anybody listens or not.
            output.lines().for_each(|line| drop(told.send(line.expect("it speaks UTF-8"))));
        });
        let mut example = Self { process, lines, address: String::new() };
        let line = example.line();
        let address = line.strip_prefix("listening on ws://");
        example.address = address.unwrap_or_else(|| panic!("{name} said {line:?}")).to_owned();
        assert!(!example.address.ends_with(":0"), "the line names the port that was found");
        example
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(BUILD_PATIENCE).expect("another line, in time")
    }

    /// The answer to a request: its head, and the connection.
    fn ask(&self, path: &str, lines: &str) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(&self.address).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a whole head");
            head.push(byte[0]);
        }
        (String::from_utf8(head).expect("a text"), stream)
    }

    fn upgrade(&self, path: &str, lines: &str) -> TcpStream {
        let (head, stream) = self.ask(path, &format!("{UPGRADE}{lines}"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sends a short frame, masked with zeros.
fn send(stream: &mut TcpStream, kind: u8, payload: &[u8]) {
    let header = [kind, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    stream.write_all(&[&header, payload].concat()).expect("it reads");
}

/// The payload of a short frame of this kind, which has to come next.
fn receive(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a frame");
    let mut payload = vec![0; usize::from(header[1])];
    stream.read_exact(&mut payload).expect("a whole frame");
    assert_eq!(header[0], kind, "{}", payload.escape_ascii());
    payload
}

#[test]
fn echo_server() {
    let example = Example::start("echo_server");
    let mut stream = example.upgrade("/", "");
    for text in ["hello", "", "world"] {
        send(&mut stream, TEXT, text.as_bytes());
        assert_eq!(receive(&mut stream, TEXT), text.as_bytes());
    }
    send(&mut stream, CLOSE, b"\x03\xe8bye");
    assert_eq!(receive(&mut stream, CLOSE), b"\x03\xe8bye");
}

#[test]
fn routing_and_health_check() {
    let example = Example::start("routing_and_health_check");
    for (path, status, body) in [
        ("/healthz", "200 OK", "ok\n"),
        ("/greet", "400 Bad Request", "name missing\n"),
        ("/nowhere", "404 Not Found", "not found\n"),
    ] {
        let (head, mut stream) = example.ask(path, "");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, body);
    }
    let mut stream = example.upgrade("/echo", "");
    send(&mut stream, TEXT, b"hello");
    assert_eq!(receive(&mut stream, TEXT), b"hello");
    let mut stream = example.upgrade("/greet?name=Ada", "");
    assert_eq!(receive(&mut stream, TEXT), b"hello, Ada");
}

#[test]
fn subprotocol_negotiation() {
    let example = Example::start("subprotocol_negotiation");
    for (offer, answer) in [("v2.shout", "LOUD"), ("v0.none, v1.echo", "loud")] {
        let mut stream = example.upgrade("/", &format!("Sec-WebSocket-Protocol: {offer}\r\n"));
        send(&mut stream, TEXT, b"loud");
        assert_eq!(receive(&mut stream, TEXT), answer.as_bytes());
    }
    let (head, _) = example.ask("/", &format!("{UPGRADE}Sec-WebSocket-Protocol: v0.none\r\n"));
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[test]
fn origin_check() {
    let example = Example::start("origin_check");
    for allowed in ["", "Origin: https://app.example.com\r\n", "Origin: http://localhost:8080\r\n"]
    {
        let mut stream = example.upgrade("/", allowed);
        send(&mut stream, TEXT, b"hello");
        assert_eq!(receive(&mut stream, TEXT), b"hello");
    }
    for other in ["https://evil.example", "null", "https://app.example.com.evil.example", ""] {
        let (head, _) = example.ask("/", &format!("{UPGRADE}Origin: {other}\r\n"));
        assert!(head.starts_with("HTTP/1.1 403 "), "{other}: {head}");
    }
    let twice = "Origin: https://app.example.com\r\nOrigin: https://evil.example\r\n";
    assert!(example.ask("/", &format!("{UPGRADE}{twice}")).0.starts_with("HTTP/1.1 403 "));
}

#[test]
fn same_port_as_hyper() {
    let example = Example::start("same_port_as_hyper");
    let (head, _) = example.ask("/", "");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for _ in 0..3 {
        let mut stream = example.upgrade("/", "");
        send(&mut stream, TEXT, b"hello");
        assert_eq!(receive(&mut stream, TEXT), b"hello");
    }
    let (head, _) = example.ask("/", "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[test]
fn authenticated_upgrade() {
    let example = Example::start("authenticated_upgrade");
    for proof in ["Authorization: Bearer t0ken\r\n", "Cookie: theme=dark; session=t0ken\r\n"] {
        let mut stream = example.upgrade("/", proof);
        assert_eq!(receive(&mut stream, TEXT), b"hello, Ada");
        send(&mut stream, TEXT, b"hello");
        assert_eq!(receive(&mut stream, TEXT), b"hello");
    }
    for proof in ["", "Authorization: Bearer other\r\n", "Authorization: Basic dDp0\r\n"] {
        let (head, _) = example.ask("/", &format!("{UPGRADE}{proof}"));
        assert!(head.starts_with("HTTP/1.1 401 "), "{proof}: {head}");
        assert!(head.to_ascii_lowercase().contains("\r\nwww-authenticate: bearer\r\n"), "{head}");
    }
    let evil = "Cookie: session=t0ken\r\nOrigin: https://evil.example\r\n";
    assert!(example.ask("/", &format!("{UPGRADE}{evil}")).0.starts_with("HTTP/1.1 403 "));
}

#[test]
fn graceful_shutdown() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut example = Example::start("graceful_shutdown");
        let mut stream = example.upgrade("/", "");
        send(&mut stream, TEXT, b"hello");
        assert_eq!(receive(&mut stream, TEXT), b"hello");
        kill_process(Pid::from_child(&example.process), signal).unwrap();
        assert_eq!(receive(&mut stream, CLOSE)[..2], 1001_u16.to_be_bytes());
        send(&mut stream, CLOSE, &1001_u16.to_be_bytes());
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        drop(stream);
        assert_eq!(example.line(), "closing 1 connections");
        assert_eq!(example.line(), "served 1 connections, 2 frames");
        assert!(example.process.wait().unwrap().success());
    }
}

/// The payloads of all frames to come, until one is `last`, which is looked at no further.
fn receive_until(stream: &mut TcpStream, is_last: impl Fn(&str) -> bool) -> Vec<String> {
    let mut payloads = Vec::new();
    loop {
        let mut header = [0; 4];
        stream.read_exact(&mut header).expect("a frame");
        assert_eq!(header[..2], [TEXT, 126]);
        let mut payload = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
        stream.read_exact(&mut payload).expect("a whole frame");
        payloads.push(String::from_utf8(payload).expect("a text"));
        if payloads.last().is_some_and(|payload| is_last(payload)) {
            return payloads;
        }
    }
}

#[test]
fn slow_client_backpressure() {
    let example = Example::start("slow_client_backpressure");
    // All that was to be said has been, and only then does the client read.
    let mut stream = example.upgrade("/quotes", "");
    let said = example.line();
    let replaced = said.strip_prefix("50000 quotes, ").and_then(|it| it.strip_suffix(" replaced"));
    let replaced: usize = replaced.and_then(|it| it.parse().ok()).expect(&said);
    let quotes =
        receive_until(&mut stream, |quote| quote.starts_with("19: ") && quote.ends_with(" 2499"));
    assert_eq!(quotes.len() + replaced, 50_000);
    assert!(replaced > 10_000, "{said}");
    let newest = &quotes[quotes.len() - 20..];
    assert!(newest.iter().all(|quote| quote.ends_with(" 2499")), "{newest:?}");

    let mut stream = example.upgrade("/log", "");
    let said = example.line();
    let lines = receive_until(&mut stream, |line| line.ends_with(" 49999"));
    let numbers: Vec<usize> = lines.iter().map(|line| line.trim().parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers[0] == 0 && lines.len() < 50_000, "{said}");

    let mut stream = example.upgrade("/export", "");
    let lines = receive_until(&mut stream, |line| line.ends_with(" 49999"));
    assert_eq!(lines.len(), 50_000);
    assert_eq!(receive(&mut stream, CLOSE)[..2], 1000_u16.to_be_bytes());

    let mut stream = example.upgrade("/import", "");
    for text in ["one", "two", "three"] {
        send(&mut stream, TEXT, text.as_bytes());
    }
    for text in ["one", "two", "three"] {
        assert_eq!(receive(&mut stream, TEXT), format!("stored {text}").as_bytes());
    }
}

#[test]
fn server_stats() {
    let example = Example::start("server_stats");
    let mut stream = example.upgrade("/", "");
    send(&mut stream, TEXT, b"hello");
    assert_eq!(receive(&mut stream, TEXT), b"hello");
    let (head, mut answer) = example.ask("/metrics", "");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let mut metrics = String::new();
    answer.read_to_string(&mut metrics).unwrap();
    let sum = |name: &str| -> u64 {
        let counts = metrics.lines().filter(|line| line.starts_with(&format!("picows_{name}{{")));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    assert_eq!((sum("upgraded"), sum("frames_received")), (1, 1), "{metrics}");
    assert!(sum("up") > 0);
    let (head, mut answer) = example.ask("/healthz", "");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let mut health = String::new();
    answer.read_to_string(&mut health).unwrap();
    let driver =
        health.trim_end().strip_prefix("ok\ndriver: ").unwrap_or_else(|| panic!("{health}"));
    assert!(["io-uring", "epoll"].contains(&driver), "{health}");
    let info = format!("picows_worker_info{{worker=\"0\",driver=\"{driver}\"}} 1\n");
    assert!(metrics.contains(&info), "{metrics}");
}

#[test]
fn the_readme_shows_the_echo_server() {
    let code: String = include_str!("../examples/echo_server.rs")
        .lines()
        .skip_while(|line| !line.starts_with("use "))
        .flat_map(|line| [line, "\n"])
        .collect();
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&format!("```rust\n{code}```\n")), "the two differ");
}

#[test]
fn topic_chat_room() {
    let example = Example::start("topic_chat_room");
    let text = |stream: &mut TcpStream| String::from_utf8(receive(stream, TEXT)).expect("text");
    let (mut one, mut two) =
        (example.upgrade("/room/lobby", ""), example.upgrade("/room/lobby", ""));
    for stream in [&mut one, &mut two] {
        assert_eq!(text(stream), "0 messages so far");
    }
    send(&mut one, TEXT, b"hello");
    let first = text(&mut one);
    assert_eq!(text(&mut two), first, "the same for all");
    let (position, said) = first.split_once(' ').expect("a position");
    assert_eq!(said, "hello");
    send(&mut one, TEXT, b"again");
    let second = text(&mut one);
    let mut back = example.upgrade(&format!("/room/lobby?from={position}"), "");
    assert_eq!(text(&mut back), "1 messages so far");
    assert_eq!(text(&mut back), second);
    assert!(example.ask("/elsewhere", UPGRADE).0.starts_with("HTTP/1.1 404 "));
}

#[test]
fn topic_market_data() {
    let example = Example::start("topic_market_data");
    let mut stream = example.upgrade("/quotes.*.*?above=150", "");
    let quotes: Vec<_> =
        (0..10).map(|_| String::from_utf8(receive(&mut stream, TEXT)).expect("text")).collect();
    assert!(quotes.iter().any(|it| it.contains("XETRA.SAP")), "{quotes:?}");
    assert!(quotes.iter().any(|it| it.contains("NASDAQ.MSFT")), "{quotes:?}");
    assert!(!quotes.iter().any(|it| it.contains("XETRA.BAS")), "{quotes:?}");
    assert!(example.ask("/quotes..", UPGRADE).0.starts_with("HTTP/1.1 400 "));
}
