//! The log of the command as JSON, for pipelines.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Done, RawPeer, Running, folder, output_of, picows};
use rustix::process::Signal;
use serde_json::Value;
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
