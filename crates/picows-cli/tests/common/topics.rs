//! A running `picows pubsub`, and minimal clients of it.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use super::{Done, Running, eventually, picows};
use rustix::process::Signal;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Longest wait; only a failure reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Headers of an upgrade.
pub const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// A running `picows pubsub` on a port of its own, with counters each 20 ms.
pub struct PubSub {
    running: Running,
    stdout: RefCell<BufReader<ChildStdout>>,
    pub url: String,
    /// Host and port of the admin address, with `--admin`.
    pub admin: Option<String>,
    /// The line that says who may publish.
    pub rule: String,
}

impl PubSub {
    pub fn start(flags: &str) -> Self {
        let line = format!("pubsub --listen 127.0.0.1:0 --stats 20ms --stats-json {flags}");
        let mut words: Vec<_> = line.split_whitespace().collect();
        if !flags.contains("--workers") {
            words.extend(["--workers", "1"]);
        }
        let mut command = picows(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut stdout = BufReader::new(running.child.stdout.take().unwrap());
        let mut next = |what: &str| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert!(!line.is_empty(), "{what}");
            line.trim().to_owned()
        };
        let url = next("it listens").strip_prefix("listening on ").unwrap().to_owned();
        let admin = flags.contains("--admin").then(|| {
            let line = next("it has an admin address");
            line.strip_prefix("admin on http://").unwrap().to_owned()
        });
        let rule = next("it says who may publish");
        Self { running, stdout: RefCell::new(stdout), url, admin, rule }
    }

    pub fn authority(&self) -> &str {
        self.url.strip_prefix("ws://").unwrap()
    }

    pub fn connect(&self, target: &str) -> Client {
        self.connect_with(target, "")
    }

    /// A client with further headers.
    pub fn connect_with(&self, target: &str, headers: &str) -> Client {
        let (stream, head) = request(self.authority(), target, &format!("{UPGRADE}{headers}"));
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let wanted = headers.contains("picows.pubsub.1");
        assert_eq!(head.to_lowercase().contains("sec-websocket-protocol: picows.pubsub.1"), wanted);
        Client(stream)
    }

    /// The next line of counters.
    fn counters(&self) -> serde_json::Value {
        let mut line = String::new();
        self.stdout.borrow_mut().read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn connections(&self) -> u64 {
        self.counters()["connections"].as_u64().unwrap()
    }

    pub fn topic_counter(&self, name: &str) -> u64 {
        self.counters()["topics"][name].as_u64().unwrap()
    }

    /// Sends a signal; the end is to be waited for.
    /// Has it read its files again.
    pub fn hang_up(&self) {
        self.running.signal(Signal::HUP);
    }

    pub fn signal(mut self, signal: Signal) -> Ending {
        self.running.signal(signal);
        let stdout = self.stdout.into_inner();
        self.running.child.stdout = None;
        Ending { running: self.running, stdout }
    }
}

/// A server that ends.
pub struct Ending {
    running: Running,
    stdout: BufReader<ChildStdout>,
}

impl Ending {
    /// Waits for the end; returns the status and all output.
    pub fn end(self) -> Done {
        let mut stdout = self.stdout;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let done = self.running.end();
        Done { stdout: reader.join().unwrap(), ..done }
    }
}

/// What a client gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
    Close(u16, String),
}

/// A minimal WebSocket client.
pub struct Client(TcpStream);

impl Client {
    pub fn send_text(&mut self, text: &str) {
        self.send(0x81, text.as_bytes());
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send(0x82, bytes);
    }

    /// Masked with zeros.
    fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.0.write_all(&frame).unwrap();
    }

    /// The next message, if one comes within some milliseconds.
    pub fn try_next(&mut self) -> Option<Message> {
        self.0.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut byte = [0];
        self.0.peek(&mut byte).ok()?;
        Some(self.next())
    }

    pub fn next(&mut self) -> Message {
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).unwrap();
                usize::from(u16::from_be_bytes(long))
            }
            127 => {
                let mut long = [0; 8];
                self.0.read_exact(&mut long).unwrap();
                u64::from_be_bytes(long) as usize
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        match head[0] {
            0x81 => Message::Text(String::from_utf8(payload).unwrap()),
            0x82 => Message::Binary(payload),
            0x88 => {
                let code = u16::from_be_bytes(payload[..2].try_into().unwrap());
                Message::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            other => panic!("frame {other:x}"),
        }
    }
}

/// Sends a request; returns the stream and the head of the response.
fn request(authority: &str, target: &str, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

/// Status and body of the answer to a request.
pub fn http_status(server: &PubSub, target: &str, headers: &str) -> (u16, String) {
    http_status_at(server.authority(), target, headers)
}

/// The same, of the server at `authority`.
pub fn http_status_at(authority: &str, target: &str, headers: &str) -> (u16, String) {
    let (mut stream, head) = request(authority, target, headers);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lower = head.to_lowercase();
    let (_, rest) = lower.split_once("content-length: ").expect("it has a body");
    let length: usize = rest.split('\r').next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

/// A `nats-server` on a port that it finds itself.
pub struct Nats {
    child: Option<Child>,
    folder: PathBuf,
    pub url: String,
}

impl Nats {
    /// Returns `None` where there is none; that fails where CI=true.
    pub fn start() -> Option<Self> {
        let found = Command::new("nats-server").arg("-v").stdout(Stdio::null()).status().is_ok();
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(found || !is_ci, "nats-server cannot be had: install the package nats-server");
        if !found {
            eprintln!("nats-server cannot be had: skipped");
            return None;
        }
        let folder = super::folder("pubsub-nats");
        let mut nats = Self { child: None, folder, url: String::new() };
        nats.run();
        Some(nats)
    }

    /// Starts it, on the port that it had before, if any.
    pub fn run(&mut self) {
        let port = self.url.rsplit_once(':').map_or("-1", |(_, port)| port);
        let path = self.folder.to_str().unwrap();
        let child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", port, "--ports_file_dir", path])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = self.folder.join(format!("nats-server_{}.ports", child.id()));
        self.child = Some(child);
        self.url = eventually("the server writes its ports", || {
            let text = std::fs::read_to_string(&file).ok()?;
            let (_, rest) = text.split_once("\"nats://")?;
            Some(format!("nats://{}", rest.split_once('"')?.0))
        });
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
