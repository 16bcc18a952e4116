//! The log of the command as JSON, for pipelines.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Done, RawPeer, Running, eventually, folder, output_of, picows};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

#[test]
fn each_line_is_an_object_with_the_connection() {
    let folder = folder("logs");
    let path = folder.join("socket");
    let listen = format!("unix:{}", path.display());
    let words = ["--log-format", "json", "echo", "--listen", &listen, "--workers", "1"];
    let mut command = picows(words);
    command.env("RUST_LOG", "info").stdin(Stdio::null());
    let server = Running::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut peers: Vec<_> = (0..2).map(|_| RawPeer::connect(&path)).collect();
    peers.iter_mut().for_each(RawPeer::echo);
    drop(peers);
    server.signal(Signal::TERM);
    let done = server.end();
    let lines: Vec<Value> = done
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for name in ["timestamp", "level", "message", "target"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
    }
    let connected: Vec<_> = lines.iter().filter(|line| line["message"] == "connected").collect();
    assert_eq!(connected.len(), 2, "{}", done.stderr);
    let ids = [0, 1].map(|at: usize| connected[at]["span"]["id"].as_str().unwrap());
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        let ends = |line: &&Value| line["message"] == "disconnected" && line["span"]["id"] == id;
        assert_eq!(lines.iter().filter(ends).count(), 1, "{id}: {}", done.stderr);
    }
    // Notes of the command are lines of the log.
    let stops = |line: &&Value| line["message"].as_str().unwrap().starts_with("stopping: ");
    assert_eq!(lines.iter().find(stops).unwrap()["target"], "picows");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_fault_is_a_line_too() {
    let words = ["rtt", "ws://[::1", "--log-format", "json"];
    let done = Done::from(output_of(&mut picows(words), b""));
    let line: Value = serde_json::from_str(done.stderr.trim()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["message"].as_str().unwrap().starts_with("error: "), "{line}");
    assert_ne!(done.code, 0);
}

#[test]
fn the_filter_of_a_file_is_read_again_on_sighup() {
    let folder = folder("logs-filter");
    let (path, file) = (folder.join("socket"), folder.join("filter"));
    let listen = format!("unix:{}", path.display());
    for command in ["echo", "pubsub"] {
        std::fs::write(&file, "# quiet\nerror\n").unwrap();
        let mut it = picows([command, "--listen", &listen, "--workers", "1"]);
        // The file is what counts.
        it.arg("--log-filter-file").arg(&file).env("RUST_LOG", "trace");
        let mut server = Running::start(it.stdout(Stdio::null()).stderr(Stdio::piped()));
        let mut lines = BufReader::new(server.child.stderr.take().unwrap()).lines();
        let connect = || eventually("it listens", || UnixStream::connect(&path).ok());
        let ask = || {
            let mut stream = connect();
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        };
        ask();
        std::fs::write(&file, "error\npicows_uring=debug\n").unwrap();
        server.signal(Signal::HUP);
        // Nothing of the request is in front of it.
        assert_eq!(lines.next().unwrap().unwrap(), "log filter read again");
        ask();
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("DEBUG"), "{line}");
        std::fs::write(&file, "picows_uring=loud\n").unwrap();
        server.signal(Signal::HUP);
        let stays =
            lines.by_ref().map(Result::unwrap).find(|line| line.contains("the old one stays"));
        let stays = stays.unwrap();
        assert!(stays.contains("filter: line 1: "), "{stays}");
        ask();
        server.signal(Signal::TERM);
        let rest: Vec<_> = lines.map(Result::unwrap).collect();
        assert!(rest.iter().any(|line| line.contains("DEBUG")), "{rest:?}");
        assert_eq!(server.end().code, 0);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_without_a_filter_is_an_error_at_the_start() {
    let file = folder("logs-wrong").join("filter");
    for (text, part) in [(None, "No such file"), (Some("info\na=b=c\n"), "line 2: ")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        for command in ["echo", "doctor"] {
            let mut it = picows([command, "--log-filter-file"]);
            let done = Done::from(output_of(it.arg(&file), b""));
            assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{}", done.stderr);
            assert!(done.stderr.contains("--log-filter-file") && done.stderr.contains(part));
        }
        let _ = std::fs::remove_file(&file);
    }
}
