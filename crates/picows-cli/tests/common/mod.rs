//! Runs the built command, and servers for it to talk to.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring::{
    CloseCode, EchoListener, Frame, FrameHead, Listener, ListenerError, ListenerResult, MsgType,
    Server, ServerHandle, Transport, Upgrade,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A wait that is longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// `picows` with these arguments.
pub fn picows<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picows"));
    // That a turn was long is the fault of a machine that is busy.
    let log = "warn,picows_uring::worker::watchdog=off";
    command.args(arguments).env("RUST_LOG", log).env("NO_COLOR", "1");
    command
}

/// What a command that ends by itself came to.
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

/// [`run`], again while it has measured nothing: on a busy machine, others may have had all of a
/// short time.
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

/// A port on which nobody listens, and nobody can as long as the socket is kept.
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

/// [`run_with_input`], for bytes that are no text.
pub fn raw_run_with_input(line: &str, url: &str, input: &[u8]) -> Output {
    output_of(&mut picows(line.split_whitespace().chain([url])), input)
}

/// What a command that ends by itself came to, given standard input.
pub fn output_of(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that ends before it has read all is judged by its status.
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

/// What `work` comes to on a thread of its own, unless that takes too long.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (told, outcome) = mpsc::channel();
    std::thread::spawn(move || drop(told.send(work())));
    outcome.recv_timeout(PATIENCE).ok()
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
        let said = in_time(move || {
            let mut said = String::new();
            BufReader::new(&mut stdout).read_line(&mut said).unwrap();
            (said, stdout)
        });
        let Some((said, stdout)) = said else {
            let _ = child.kill();
            panic!("`picows {line}` does not say where it listens");
        };
        child.stdout = Some(stdout);
        let url = said.trim().strip_prefix("listening on ").expect("it listens").to_owned();
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

/// A server that is not what it should be, in a way that the path chooses.
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

/// Treats the first message in its way, and echoes the others.
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
        match self.way.as_str() {
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
