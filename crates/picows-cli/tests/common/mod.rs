//! Runners of the built command, and servers for its clients.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

pub mod topics;

use picows_uring::{
    CloseCode, EchoListener, Frame, FrameHead, Listener, ListenerError, ListenerResult, MsgType,
    Server, ServerHandle, Transport, Upgrade,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest wait; only a failure reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// `picows` with these arguments.
pub fn picows<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picows"));
    // Long turns are common on a busy machine.
    let log = "warn,picows_uring::worker::watchdog=off";
    command.args(arguments).env("RUST_LOG", log).env("NO_COLOR", "1");
    for name in PROXY_VARIABLES {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

/// Variables by which a client goes through a proxy, in lower case.
const PROXY_VARIABLES: [&str; 6] =
    ["ws_proxy", "wss_proxy", "http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// Exit status and output of a command that ends by itself.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

/// Runs `picows` with the words of `line`, and then `url`.
pub fn run(line: &str, url: &str) -> Done {
    run_with_input(line, url, b"")
}

/// [`run`], repeated until it has measured something: on a busy machine, a short window may pass
/// without processor time for it.
pub fn measure(line: &str, url: &str) -> (Done, Value) {
    measure_into(line, url, Done::json)
}

/// [`measure`], with the figures where `json` finds them.
pub fn measure_into(line: &str, url: &str, json: impl Fn(&Done) -> Value) -> (Done, Value) {
    let start = Instant::now();
    loop {
        let done = run(line, url);
        let figures = json(&done);
        let samples = figures.pointer("/latency_us/samples").and_then(Value::as_f64);
        if samples.is_some_and(|count| count > 0.0) {
            return (done, figures);
        }
        assert!(start.elapsed() < PATIENCE, "nothing is measured: {figures:#}\n{}", done.stderr);
    }
}

/// A port without a listener, which the returned socket keeps free.
pub fn unheard() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

/// [`run`], with standard input.
pub fn run_with_input(line: &str, url: &str, input: &[u8]) -> Done {
    Done::from(raw_run_with_input(line, url, input))
}

/// [`run_with_input`], for bytes that are not text.
pub fn raw_run_with_input(line: &str, url: &str, input: &[u8]) -> Output {
    output_of(&mut picows(line.split_whitespace().chain([url])), input)
}

/// Runs a command that ends by itself, with this standard input.
pub fn output_of(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command may end before it has read all: its status is what the tests check.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let pid = Pid::from_child(&child);
    let output = in_time(move || child.wait_with_output().unwrap());
    let output = output.unwrap_or_else(|| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("{command:?} does not end");
    });
    writer.join().unwrap();
    output
}

/// Runs `work` on a thread of its own; returns `None` if it takes too long.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, outcome) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(work())));
    outcome.recv_timeout(PATIENCE).ok()
}

/// A pipe that is full: its reader, and the end to be written to, which blocks.
pub fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

/// Waits until `check` yields something.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}");
        // Bounds the polling; no result depends on it.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A command that runs until it is stopped.
pub struct Running {
    pub child: Child,
    name: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self { name: format!("{command:?}"), child: command.spawn().unwrap() }
    }

    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it is piped")
    }

    /// The next line of its output, which has to be piped; [`end`](Self::end) returns what follows.
    pub fn line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        #[expect(clippy::unbuffered_bytes, reason = "nothing behind the line is taken")]
        let bytes = stdout.bytes().map(Result::unwrap).take_while(|byte| *byte != b'\n').collect();
        String::from_utf8(bytes).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end. Returns the status, and the output of streams that are piped.
    pub fn end(mut self) -> Done {
        // Read while the command runs, so that it does not block.
        let stdout = self.child.stdout.take().map(read_all);
        let stderr = self.child.stderr.take().map(read_all);
        if self.is_running() {
            let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
            let patience = PATIENCE.try_into().unwrap();
            let wait = || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience));
            // Readable once the command has ended. Repeated when a signal interrupts the wait.
            assert_eq!(retry_on_intr(wait), Ok(1), "{} does not end", self.name);
        }
        let status = self.child.wait().unwrap();
        let text = |bytes: Option<JoinHandle<Vec<u8>>>| {
            let bytes = bytes.map(|it| it.join().unwrap()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let code = status.code().unwrap_or_else(|| panic!("{}: {status}", self.name));
        Done { code, stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that another one has started: it ends with the test.
pub struct Follower(Option<OwnedFd>);

impl Follower {
    pub fn new(process: Pid) -> Self {
        // It may have ended already.
        Self(pidfd_open(process, PidfdFlags::empty()).ok())
    }

    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(self.0.as_ref().unwrap(), signal).unwrap();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A minimal WebSocket client of a Unix socket.
pub struct RawPeer(UnixStream);

impl RawPeer {
    /// Connects as soon as a server listens at `path`.
    pub fn connect(path: &Path) -> Self {
        let mut stream = eventually("the server listens", || UnixStream::connect(path).ok());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// Sends two bytes and expects their echo.
    pub fn echo(&mut self) {
        self.0.write_all(b"\x82\x82\0\0\0\0hi").unwrap();
        assert_eq!(self.frame(), (2, b"hi".to_vec()));
    }

    /// The opcode and payload of the next, short frame.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 15, payload)
    }

    /// Asserts that the server sends CLOSE 1001, and answers it.
    pub fn expect_going_away(&mut self) {
        let (opcode, payload) = self.frame();
        assert_eq!((opcode, &payload[..2]), (8, &b"\x03\xe9"[..]));
        // A server that ends at once may have closed the socket already.
        let _ = self.0.write_all(b"\x88\x82\0\0\0\0\x03\xe9");
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// A folder of its own for a test's files and sockets.
pub fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("picows-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A running `picows echo`, on a port of its own.
pub struct Echo {
    child: Child,
    pub url: String,
}

impl Echo {
    pub fn start() -> Self {
        Self::with("")
    }

    pub fn with(flags: &str) -> Self {
        let line = format!("echo --listen 127.0.0.1:0 --workers 1 {flags}");
        let mut child = picows(line.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let line = in_time(move || {
            let mut line = String::new();
            BufReader::new(&mut stdout).read_line(&mut line).unwrap();
            (line, stdout)
        });
        let Some((line, stdout)) = line else {
            let _ = child.kill();
            panic!("`picows` does not print its address");
        };
        child.stdout = Some(stdout);
        let url = line.trim().strip_prefix("listening on ").expect("it listens").to_owned();
        Self { child, url }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A faulty server; the path chooses the fault.
pub fn odd_server() -> (ServerHandle, String) {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).auto_pong(false);
    let server = builder
        .start(|request| match request.path().strip_prefix('/') {
            Some("refuse") | None => Upgrade::not_found(),
            Some("header") => {
                let value = request.header("x-color").map_or(&b"none"[..], |it| it).to_vec();
                Upgrade::accept(Odd { way: "header".into(), count: 0, value })
                    .with_subprotocol("color")
            }
            Some(way) => Upgrade::accept(Odd { way: way.to_owned(), count: 0, value: Vec::new() }),
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    (server, url)
}

/// Answers the first message with the fault, and echoes the others.
struct Odd {
    way: String,
    count: usize,
    value: Vec<u8>,
}

impl Listener for Odd {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        match self.way.as_str() {
            "greet" => drop(transport.send_text("welcome")),
            "header" => drop(transport.send(MsgType::Text, &self.value)),
            _ => {}
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Ping && self.way == "ping" {
            transport.send_text("pinged");
            transport.send_close(CloseCode::NORMAL, "");
            return Ok(());
        }
        if !matches!(frame.msg_type(), MsgType::Text | MsgType::Binary) {
            return Ok(());
        }
        self.count += 1;
        let (msg_type, payload) = (frame.msg_type(), frame.payload());
        if self.way == "fragments" {
            let (head, tail) = payload.split_at(payload.len() / 2);
            transport.send_frame(FrameHead::new(msg_type).with_fin(false), head);
            transport.send_ping("between");
            transport.send_frame(FrameHead::new(MsgType::Continuation), tail);
            return Ok(());
        }
        if self.count > 1 {
            return EchoListener.on_frame(transport, frame);
        }
        if let Some(code) = self.way.strip_prefix("close-") {
            transport.send_close(CloseCode::new(code.parse().unwrap()).unwrap(), "bad token");
            return Ok(());
        }
        match self.way.as_str() {
            "bytes" => drop(transport.send(MsgType::Text, b"\xff\xfe")),
            "halves" => {
                transport.send_frame(
                    FrameHead::new(MsgType::Text).with_fin(false),
                    "a\u{fc}".as_bytes(),
                );
                transport.send_frame(FrameHead::new(MsgType::Continuation), b"\xc3");
            }
            "large" => drop(transport.send(MsgType::Binary, vec![0; 2000])),
            "hang-up" => transport.disconnect(),
            "rude" => {
                let code = CloseCode::new(4000).unwrap();
                transport.send_close(code, "\x1b[2J\nforged\u{202e}");
            }
            "corrupt" => {
                let mut wrong = payload.to_vec();
                *wrong.last_mut().unwrap() ^= 1;
                transport.send(msg_type, wrong);
            }
            "drop" => {}
            "type" => drop(transport.send(MsgType::Text, payload)),
            "length" => drop(transport.send(msg_type, &payload[1..])),
            "twice" => {
                transport.send(msg_type, payload);
                transport.send(msg_type, payload);
            }
            "close" => drop(transport.send_close(CloseCode::NORMAL, "enough")),
            "fail" => return Err(ListenerError::close(CloseCode::INTERNAL_ERROR, "broken")),
            "vanish" => transport.abort(),
            _ => return EchoListener.on_frame(transport, frame),
        }
        Ok(())
    }
}
