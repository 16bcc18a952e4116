//! Starting where there is too little of something: an error that names the cure, never a hang
//! and never half a server.
//!
//! Limits hold for a whole process, so each is tried in a process of its own: this binary, run
//! again.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{PATIENCE, workers};
use picows_uring::{EchoListener, Upgrade};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::Write;
use std::process::{Command, Stdio};

const LIMIT: &str = "PICOWS_TEST_DESCRIPTORS";

#[test]
fn too_few_descriptors_are_named_with_the_cure() {
    if let Ok(limit) = std::env::var(LIMIT) {
        return start_within(limit.parse().unwrap());
    }
    let mut outcomes = Vec::new();
    for limit in 4..=48 {
        outcomes.push(start_with(limit));
    }
    let starts = outcomes.iter().filter(|outcome| *outcome == "started").count();
    let failures: Vec<_> = outcomes.iter().filter(|outcome| *outcome != "started").collect();
    assert!(starts > 0 && failures.len() > 5, "{outcomes:#?}");
    for failure in &failures {
        assert!(failure.starts_with("start: "), "a server that has started serves: {failure}");
        assert!(failure.contains("ulimit -n"), "{failure}");
    }
}

/// Has this test start a server in a process that may have `limit` descriptors, and tells how that
/// went.
fn start_with(limit: u64) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "too_few_descriptors_are_named_with_the_cure", "--nocapture"])
        .env(LIMIT, limit.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let outcome = text.lines().find_map(|line| line.strip_prefix("outcome: "));
    outcome.unwrap_or_else(|| panic!("limit {limit}: {text} {:?}", output.stderr)).to_owned()
}

/// That process.
fn start_within(limit: u64) {
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        tell("it hangs");
        std::process::abort();
    });
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = Some(limit);
    setrlimit(Resource::Nofile, limits).unwrap();
    let outcome = match workers(2).start(|_| Upgrade::accept(EchoListener)) {
        Ok(server) => match server.stop() {
            Ok(_) => "started".to_owned(),
            Err(error) => format!("stop: {error}"),
        },
        Err(error) => format!("start: {error}"),
    };
    tell(&outcome);
}

/// On a line of its own, whatever the harness prints.
fn tell(outcome: &str) {
    let text = format!("\noutcome: {outcome}\n");
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}
