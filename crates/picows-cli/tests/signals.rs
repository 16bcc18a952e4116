//! Signals that end a program, with each command.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{RawPeer, Running, folder, picows};
use picows_uring::{
    CloseCode, Frame, Listener, ListenerResult, MsgType, Server, ServerHandle, Transport, Upgrade,
};
use rustix::process::Signal;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};

const SIGNALS: [(Signal, &str, i32); 4] = [
    (Signal::HUP, "SIGHUP", 129),
    (Signal::INT, "SIGINT", 130),
    (Signal::QUIT, "SIGQUIT", 131),
    (Signal::TERM, "SIGTERM", 143),
];

/// Reports the first message of each connection, echoes all, and reports the CLOSE received.
struct Witness {
    reports: Sender<Report>,
    is_silent: bool,
    has_reported: bool,
}

#[derive(Debug, PartialEq)]
enum Report {
    Message,
    Close(Option<CloseCode>),
}

impl Listener for Witness {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        match frame.msg_type() {
            MsgType::Close => self.reports.send(Report::Close(frame.close_code()))?,
            msg_type => {
                if !self.is_silent {
                    transport.send(msg_type, frame.payload());
                }
                if !std::mem::replace(&mut self.has_reported, true) {
                    self.reports.send(Report::Message)?;
                }
            }
        }
        Ok(())
    }
}

/// A server that echoes, or that answers nothing, not even CLOSE.
fn witness(is_silent: bool) -> (ServerHandle, String, Receiver<Report>) {
    let (reports, reported) = channel();
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(1)
        .auto_close(!is_silent)
        .start(move |_| {
            let reports = reports.clone();
            Upgrade::accept(Witness { reports, is_silent, has_reported: false })
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    (server, url, reported)
}

#[test]
fn echo_sends_going_away() {
    let path = folder("signals-echo").join("s");
    let listen = format!("unix:{}", path.display());
    for (signal, name, _) in SIGNALS {
        let mut command = picows(["echo", "--workers", "1", "--drain-timeout", "1h"]);
        command.args(["--listen", &listen]).stdout(Stdio::null()).stderr(Stdio::piped());
        let running = Running::start(&mut command);
        let mut peer = RawPeer::connect(&path);
        peer.echo();
        running.signal(signal);
        peer.expect_going_away();
        let done = running.end();
        assert_eq!(done.code, 0, "{name}: {}", done.stderr);
        assert!(done.stderr.contains("served 1 connections"), "{name}: {}", done.stderr);
    }
}

#[test]
fn a_second_signal_ends_echo_at_once() {
    let path = folder("signals-second").join("s");
    let listen = format!("unix:{}", path.display());
    let mut command = picows(["echo", "--workers", "1", "--drain-timeout", "1h", "--listen"]);
    let running = Running::start(command.arg(&listen).stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut peer = RawPeer::connect(&path);
    peer.echo();
    running.signal(Signal::HUP);
    assert_eq!(peer.frame().0, 8);
    running.signal(Signal::INT);
    let done = running.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!path.exists());
}

#[test]
fn an_ignored_hangup_stays_ignored() {
    let path = folder("signals-nohup").join("s");
    let program = picows([]).get_program().to_owned();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" echo --workers 1 --listen \"$1\""]);
    command.arg(program).arg(format!("unix:{}", path.display())).stdout(Stdio::null());
    let running = Running::start(command.stderr(Stdio::piped()));
    let mut peer = RawPeer::connect(&path);
    running.signal(Signal::HUP);
    peer.echo();
    running.signal(Signal::TERM);
    peer.expect_going_away();
    assert_eq!(running.end().code, 0);
}

#[test]
fn measurements_report_what_they_have() {
    let folder = folder("signals-load");
    let (json, html) = (folder.join("a.json"), folder.join("a.html"));
    let (server, url, reports) = witness(false);
    for (signal, name, status) in SIGNALS {
        for line in [
            "load -c 1 -w 0 -d 1h",
            "load -c 1 -w 0 -d 1h --rate 1000",
            "load -c 1 -w 0 -d 1h --dedicated",
            "rtt -w 0 -d 1h",
            "rtt -w 0 -d 1h --dedicated",
        ] {
            let mut command = picows(line.split_whitespace());
            command.arg("--json").arg(&json);
            if line.starts_with("load") {
                command.arg("--html").arg(&html);
            }
            command.arg(&url).stdout(Stdio::piped()).stderr(Stdio::piped());
            let running = Running::start(&mut command);
            while reports.recv().unwrap() != Report::Message {}
            running.signal(signal);
            let done = running.end();
            assert_eq!(done.code, status, "{line} {name}: {}", done.stderr);
            assert_eq!(done.stderr, format!("interrupted by {name}\n"), "{line}");
            let warning = format!("warning: interrupted by {name} after ");
            assert!(done.stdout.contains(&warning), "{line}: {}", done.stdout);
            let figures: Value =
                serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
            assert_eq!(figures["interrupted"], name, "{line}");
            assert!(figures["measured_s"].as_f64().unwrap() < 3600.0, "{line}");
            assert_eq!(figures["errors"], 0, "{line}: {figures:#}");
            if line.starts_with("load") {
                assert!(std::fs::read_to_string(&html).unwrap().contains(name), "{line}");
            }
        }
    }
    server.stop().unwrap();
}

#[test]
fn echoes_that_a_signal_left_no_time_for_are_not_missing() {
    let (server, url, reports) = witness(true);
    for line in ["load -c 1 -w 0 -d 1h --drain-timeout 1h", "rtt -w 0 -d 1h --dedicated"] {
        let mut command = picows(line.split_whitespace());
        command.arg(&url).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Running::start(&mut command);
        while reports.recv().unwrap() != Report::Message {}
        running.signal(Signal::INT);
        let done = running.end();
        assert_eq!((done.code, done.stderr.as_str()), (130, "interrupted by SIGINT\n"), "{line}");
    }
    server.stop_within(std::time::Duration::ZERO).unwrap();
}

#[test]
fn nothing_is_measured_before_the_load_begins() {
    // Accepts, by its backlog, and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", deaf.local_addr().unwrap());
    for line in ["load -c 1 -d 1h", "load -c 1 -d 1h --dedicated", "rtt -d 1h", "connect"] {
        let mut command = picows(line.split_whitespace());
        command.arg(&url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Running::start(&mut command);
        let (_client, _) = deaf.accept().unwrap();
        running.signal(Signal::TERM);
        let done = running.end();
        assert_eq!((done.code, done.stdout.as_str()), (143, ""), "{line}: {}", done.stderr);
    }
}

#[test]
fn connect_closes_with_a_handshake() {
    let (server, url, reports) = witness(false);
    for (signal, name, status) in SIGNALS {
        for line in ["connect", "connect --dedicated", "connect --no-close", "connect --linger 1h"]
        {
            let mut command = picows(line.split_whitespace());
            command.arg(&url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut running = Running::start(&mut command);
            let mut stdin = running.stdin();
            stdin.write_all(b"hello\n").unwrap();
            let is_ended = line.contains("--no-close") || line.contains("--linger");
            let _open = (!is_ended).then_some(stdin);
            assert_eq!(reports.recv().unwrap(), Report::Message);
            running.signal(signal);
            assert_eq!(reports.recv().unwrap(), Report::Close(Some(CloseCode::GOING_AWAY)));
            let done = running.end();
            assert_eq!(done.code, status, "{line} {name}: {}", done.stderr);
            assert_eq!(done.stderr, format!("interrupted by {name}\n"), "{line}");
        }
    }
    server.stop().unwrap();
}

#[test]
fn a_server_that_does_not_answer_cannot_keep_connect_running() {
    let (server, url, reports) = witness(true);
    for signals in [&[Signal::INT][..], &[Signal::INT, Signal::TERM]] {
        let mut command = picows(["connect", "--close-timeout", "1h", &url]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(command);
        let mut stdin = running.stdin();
        stdin.write_all(b"hello\n").unwrap();
        assert_eq!(reports.recv().unwrap(), Report::Message);
        for signal in signals {
            running.signal(*signal);
            if *signal == Signal::INT {
                let close = Report::Close(Some(CloseCode::GOING_AWAY));
                assert_eq!(reports.recv().unwrap(), close);
            }
        }
        assert_eq!(running.end().code, 130);
    }
    server.stop_within(std::time::Duration::ZERO).unwrap();
}
