//! Standard streams that are not read, closed, full, or non-blocking, and that must block no
//! command.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Echo, RawPeer, Running, eventually, folder, full_pipe, picows};
use picows_uring::{
    CloseCode, Frame, Listener, ListenerResult, MsgType, Server, ServerHandle, Transport, Upgrade,
};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};

/// `picows echo` at `path`, which writes to its streams all the time.
fn busy_echo(path: &Path) -> Command {
    let mut command = picows(["echo", "--workers", "1", "--stats-json", "--stats", "1ms"]);
    command.args(["--listen", &format!("unix:{}", path.display())]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Each frame is a line of the log.
    command.env("RUST_LOG", "trace");
    command
}

#[test]
fn a_pipe_that_is_not_read_stops_neither_echo_nor_signals() {
    let path = folder("streams-full").join("s");
    let (_out_reader, out) = full_pipe();
    let (_err_reader, err) = full_pipe();
    for (has_out, has_err) in [(true, false), (false, true), (true, true)] {
        let mut command = busy_echo(&path);
        command.args(["--drain-timeout", "1h"]);
        if has_out {
            command.stdout(out.try_clone().unwrap());
        }
        if has_err {
            command.stderr(err.try_clone().unwrap());
        }
        let running = Running::start(&mut command);
        let mut peer = RawPeer::connect(&path);
        // More lines of the log than are queued.
        for _ in 0..5000 {
            peer.echo();
        }
        running.signal(Signal::TERM);
        peer.expect_going_away();
        assert_eq!(running.end().code, 0, "stdout {has_out}, stderr {has_err}");
    }
}

#[test]
fn a_second_signal_ends_an_echo_that_is_not_read() {
    let path = folder("streams-second").join("s");
    let (_reader, full) = full_pipe();
    let mut command = busy_echo(&path);
    command.args(["--drain-timeout", "1h"]).stdout(full.try_clone().unwrap()).stderr(full);
    let running = Running::start(&mut command);
    let mut peer = RawPeer::connect(&path);
    running.signal(Signal::TERM);
    assert_eq!(peer.frame().0, 8, "and no answer to it");
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, 0);
}

#[test]
fn lines_that_were_dropped_are_counted_where_they_would_have_been() {
    let path = folder("streams-dropped").join("s");
    let (mut reader, err) = full_pipe();
    let mut command = busy_echo(&path);
    let running = Running::start(command.stderr(err));
    drop(command);
    let mut peer = RawPeer::connect(&path);
    for _ in 0..5000 {
        peer.echo();
    }
    // Once lines have come through again, the last one does, too.
    let (noticed, notices) = channel();
    let text = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut chunk = [0; 1 << 16];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            text.extend_from_slice(&chunk[..count]);
            if String::from_utf8_lossy(&text).contains("lines for standard error were dropped") {
                // It is enough once.
                let _ = noticed.send(());
            }
        }
        String::from_utf8(text).unwrap()
    });
    while notices.try_recv().is_err() {
        peer.echo();
    }
    running.signal(Signal::TERM);
    peer.expect_going_away();
    assert_eq!(running.end().code, 0);
    let text = text.join().unwrap();
    let notice = text.lines().find(|line| line.contains("lines for standard error were dropped"));
    let count = notice.and_then(|line| line.split(' ').next()?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count > 1000), "{notice:?}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("served 1 connections"), "{last:?}");
}

#[test]
fn echo_serves_on_when_its_output_is_lost() {
    let path = folder("streams-lost").join("s");
    let closed = || Stdio::from(pipe().unwrap().1);
    let full_disk = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for (out, word) in [(closed(), "Broken pipe"), (full_disk(), "No space left")] {
        let mut command = busy_echo(&path);
        command.env("RUST_LOG", "warn").stdout(out).stderr(Stdio::piped());
        let running = Running::start(&mut command);
        // The reader of the pipe has ended with its command, too.
        drop(command);
        let mut peer = RawPeer::connect(&path);
        peer.echo();
        running.signal(Signal::TERM);
        peer.expect_going_away();
        let done = running.end();
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert!(done.stderr.contains("served 1 connections"), "{}", done.stderr);
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
    for err in [closed(), full_disk()] {
        let running = Running::start(busy_echo(&path).stderr(err));
        let mut peer = RawPeer::connect(&path);
        peer.echo();
        running.signal(Signal::TERM);
        peer.expect_going_away();
        assert_eq!(running.end().code, 0);
    }
}

#[test]
fn the_limit_of_a_files_size_ends_nothing() {
    let folder = folder("streams-limit");
    let (path, log) = (folder.join("s"), folder.join("log"));
    let program = busy_echo(&path).get_program().to_owned();
    let mut command = Command::new("sh");
    let script =
        "ulimit -f 8; exec \"$0\" echo --workers 1 --stats-json --stats 1ms --listen \"$1\"";
    command.args(["-c", script]).arg(program).arg(format!("unix:{}", path.display()));
    command.stdout(File::create(&log).unwrap()).stderr(Stdio::piped());
    let running = Running::start(&mut command);
    let mut peer = RawPeer::connect(&path);
    let size = || std::fs::metadata(&log).unwrap().len();
    eventually("the file is as large as it may be", || (size() >= 8 * 512).then_some(()));
    peer.echo();
    running.signal(Signal::TERM);
    peer.expect_going_away();
    let done = running.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("File too large"), "{}", done.stderr);
}

#[test]
fn a_report_that_is_not_read_waits_for_its_reader_and_handles_signals() {
    let echo = Echo::start();
    let json = folder("streams-report").join("a.json");
    for line in ["load -c 1 -w 0 -d 50ms", "rtt -w 0 -d 50ms"] {
        for is_read in [true, false] {
            let _ = std::fs::remove_file(&json);
            let (mut reader, out) = full_pipe();
            let mut command = picows(line.split_whitespace());
            command.arg("--json").arg(&json).arg(&echo.url).stdout(out).stderr(Stdio::null());
            let mut running = Running::start(&mut command);
            drop(command);
            let written =
                || std::fs::metadata(&json).is_ok_and(|file| file.len() > 0).then_some(());
            eventually("the figures are in their file", written);
            assert!(running.is_running());
            if is_read {
                let mut text = String::new();
                reader.read_to_string(&mut text).unwrap();
                assert!(text.contains("latency p99.9"), "{line}");
                assert_eq!(running.end().code, 0);
            } else {
                running.signal(Signal::TERM);
                assert_eq!(running.end().code, 143, "{line}");
            }
        }
    }
}

#[test]
fn output_that_is_lost_is_status_1() {
    let echo = Echo::start();
    for line in
        ["load -c 1 -w 0 -d 50ms", "rtt -w 0 -d 50ms --json -", "connect", "connect --binary"]
    {
        for (is_full, word) in [(false, "Broken pipe"), (true, "No space left")] {
            let out = if is_full {
                Stdio::from(File::options().write(true).open("/dev/full").unwrap())
            } else {
                Stdio::from(pipe().unwrap().1)
            };
            let mut command = picows(line.split_whitespace());
            command.arg(&echo.url).stdin(Stdio::piped()).stdout(out).stderr(Stdio::piped());
            let mut running = Running::start(&mut command);
            running.stdin().write_all(b"hello\n").unwrap();
            let done = running.end();
            assert_eq!(done.code, 1, "{line} {word}: {}", done.stderr);
            let text = format!("error: standard output cannot be written: {word}");
            assert!(done.stderr.contains(&text), "{line}: {}", done.stderr);
        }
    }
}

/// Sends messages until it has to pause, reports that, and then goes on to the last.
struct Flood {
    reports: Sender<Option<CloseCode>>,
    /// It waits for a line of the client.
    is_asked_first: bool,
    count: usize,
    is_paused: bool,
}

/// More than the sockets hold: they grow with what is sent, up to limits of the system (tcp(7)).
static MESSAGES: LazyLock<usize> = LazyLock::new(|| {
    let largest = |name: &str| {
        let sizes = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        sizes.split_whitespace().next_back().unwrap().parse::<usize>().unwrap()
    };
    200 + (largest("tcp_rmem") + largest("tcp_wmem")) / MESSAGE_BYTES
});
const MESSAGE_BYTES: usize = 100_000;

impl Flood {
    fn pump(&mut self, transport: &Transport) {
        while !self.is_paused && self.count < *MESSAGES {
            let message = vec![b'a' + (self.count % 26) as u8; MESSAGE_BYTES];
            self.count += 1;
            // `pause_writing` follows later.
            self.is_paused =
                transport.send(MsgType::Text, &message) == picows_uring::SendStatus::Congested;
        }
        if self.count == *MESSAGES {
            transport.send_close(CloseCode::NORMAL, "");
        }
    }
}

impl Listener for Flood {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        if !self.is_asked_first {
            self.pump(transport);
        }
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        match frame.msg_type() {
            MsgType::Close => self.reports.send(frame.close_code())?,
            MsgType::Text => self.pump(transport),
            _ => {}
        }
        Ok(())
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.is_paused = false;
        self.pump(transport);
    }
}

fn flood() -> (ServerHandle, String, Receiver<Option<CloseCode>>) {
    flood_of(false)
}

/// [`flood`], at once or when the client has sent a line.
fn flood_of(is_asked_first: bool) -> (ServerHandle, String, Receiver<Option<CloseCode>>) {
    let (reports, reported) = channel();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(1)
        .start(move |_| {
            let reports = reports.clone();
            Upgrade::accept(Flood { reports, is_asked_first, count: 0, is_paused: false })
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    (server, url, reported)
}

fn expected() -> Vec<u8> {
    let line = |count: usize| {
        let mut line = vec![b'a' + (count % 26) as u8; MESSAGE_BYTES];
        line.push(b'\n');
        line
    };
    (0..*MESSAGES).flat_map(line).collect()
}

/// Waits until `connect` has stopped reading: the window that it offers to the server is closed.
fn wait_until_stalled(server: &ServerHandle) {
    eventually("the server is held back", || {
        let port = server.local_addr()?.port();
        is_window_closed(port).then_some(())
    });
    assert!(server.stats().bytes_sent < (*MESSAGES * MESSAGE_BYTES) as u64, "it was held back");
}

/// Whether the kernel has data of a connection of the local `port` that waits for its peer's
/// window: it then has a timer to probe that (proc(5), `/proc/net/tcp`; 4 in `tr`).
fn is_window_closed(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}")) && fields[5].starts_with("04:")
    })
}

#[test]
fn connect_loses_nothing_to_a_slow_reader() {
    for line in ["connect --no-close", "connect --no-close --dedicated"] {
        let (server, url, _reports) = flood();
        let (mut reader, out) = full_pipe();
        let mut command = picows(line.split_whitespace());
        command.arg(&url).stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
        let running = Running::start(&mut command);
        drop(command);
        wait_until_stalled(&server);
        let text = read_behind_dots(&mut reader);
        assert!(text == expected(), "{line}: {} bytes", text.len());
        let done = running.end();
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
        server.stop().unwrap();
    }
}

/// Returns the bytes behind the dots with which the pipe was filled.
fn read_behind_dots(reader: &mut PipeReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes.split_off(bytes.iter().take_while(|byte| **byte == b'.').count())
}

#[test]
fn a_reader_that_comes_after_the_end_gets_all() {
    for line in ["connect", "connect --dedicated"] {
        let builder = Server::builder().listen("127.0.0.1:0").workers(1);
        let server = builder.start(|_| Upgrade::accept(picows_uring::EchoListener)).unwrap();
        let (mut reader, out) = full_pipe();
        let mut command = picows(line.split_whitespace());
        command.arg(server.addresses()[0].to_string());
        command.stdin(Stdio::piped()).stdout(out).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        drop(command);
        let input = [b"x".repeat(700_000), b"\n".repeat(1000)].concat();
        running.stdin().write_all(&input).unwrap();
        let ended =
            || (server.stats().connections == 0 && server.stats().upgraded == 1).then_some(());
        eventually("the connection has ended", ended);
        assert!(running.is_running());
        assert!(read_behind_dots(&mut reader) == input, "{line}");
        let done = running.end();
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{line}");
        server.stop().unwrap();
    }
}

#[test]
fn once_close_is_sent_reading_is_not_paused() {
    let (server, url, _reports) = flood();
    let (mut reader, out) = full_pipe();
    // Its input has ended, so it closes at once.
    let mut command = picows(["connect", &url]);
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
    let running = Running::start(&mut command);
    drop(command);
    let ended = || (server.stats().connections == 0 && server.stats().upgraded == 1).then_some(());
    eventually("the connection has ended", ended);
    let text = read_behind_dots(&mut reader);
    assert!(expected().starts_with(&text), "{} bytes", text.len());
    let done = running.end();
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    server.stop().unwrap();
}

#[test]
fn connect_handles_signals_while_its_output_is_not_read() {
    for line in ["connect --no-close", "connect --no-close --dedicated"] {
        for is_hasty in [false, true] {
            // The line is sent when signals are handled.
            let (server, url, reports) = flood_of(true);
            let (stdin, mut input) = pipe().unwrap();
            input.write_all(b"go\n").unwrap();
            let (_reader, out) = full_pipe();
            let mut command = picows(line.split_whitespace());
            command.arg(&url).stdin(stdin).stdout(out).stderr(Stdio::null());
            let running = Running::start(&mut command);
            wait_until_stalled(&server);
            running.signal(Signal::TERM);
            assert_eq!(reports.recv().unwrap(), Some(CloseCode::GOING_AWAY), "{line}");
            if is_hasty {
                running.signal(Signal::INT);
            }
            assert_eq!(running.end().code, 143, "{line}");
            server.stop().unwrap();
        }
    }
}

/// A pipe of which neither end blocks.
fn pipe_that_does_not_block() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    (reader, writer)
}

#[test]
fn streams_that_do_not_block_are_waited_for_and_stay_so() {
    let echo = Echo::start();
    for line in ["connect", "connect --binary", "connect --dedicated"] {
        let (stdin, mut input) = pipe_that_does_not_block();
        let (output, stdout) = pipe_that_does_not_block();
        let (errors, stderr) = pipe_that_does_not_block();
        let kept = (stdin.try_clone().unwrap(), stdout.try_clone().unwrap());
        let mut command = picows(line.split_whitespace());
        command.arg(&echo.url).stdin(stdin).stdout(stdout).stderr(stderr);
        let running = Running::start(&mut command);
        drop(command);
        // The test's own ends must block.
        for end in [&input as &dyn std::os::fd::AsFd, &output, &errors] {
            fcntl_setfl(end, OFlags::empty()).unwrap();
        }
        let sent = [&b"x".repeat(1_000_000)[..], b"\n"].concat();
        let reader = std::thread::spawn(move || {
            let (mut bytes, mut output) = (vec![0; 1_000_001], output);
            output.read_exact(&mut bytes).unwrap();
            bytes
        });
        // In two parts, so that there is a time without bytes to read.
        input.write_all(&sent[..10]).unwrap();
        input.write_all(&sent[10..]).unwrap();
        drop(input);
        assert!(reader.join().unwrap() == sent, "{line}");
        let flags = (fcntl_getfl(&kept.0).unwrap(), fcntl_getfl(&kept.1).unwrap());
        assert!(flags.0.contains(OFlags::NONBLOCK) && flags.1.contains(OFlags::NONBLOCK));
        assert_eq!(running.end().code, 0, "{line}");
    }
}
