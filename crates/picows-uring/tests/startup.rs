//! Starting where there is too little of something: an error that names the cure, never a hang
//! and never half a server.
//!
//! Limits hold for a whole process, so each is tried in a process of its own: this binary, run
//! again.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{PATIENCE, workers};
use picows_uring::{Driver, EchoListener, Server, ServerBuilder, Upgrade};
use rustix::process::{Resource, geteuid, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::io::Write;
use std::process::{Command, Stdio};

/// What a child is run with: the limit of what.
const DESCRIPTORS: &str = "PICOWS_TEST_DESCRIPTORS";
const LOCKED: &str = "PICOWS_TEST_LOCKED_MEMORY";

#[test]
fn too_few_descriptors_are_named_with_the_cure() {
    let this_test = "too_few_descriptors_are_named_with_the_cure";
    if let Some(limit) = limit_of_child(DESCRIPTORS) {
        return start_within(Resource::Nofile, limit, workers(2));
    }
    let mut outcomes = Vec::new();
    for limit in 4..=48 {
        outcomes.push(start_with(this_test, DESCRIPTORS, limit));
    }
    let starts = outcomes.iter().filter(|outcome| outcome.starts_with("started ")).count();
    let failures: Vec<_> =
        outcomes.iter().filter(|outcome| !outcome.starts_with("started ")).collect();
    assert!(starts > 0 && failures.len() > 5, "{outcomes:#?}");
    for failure in &failures {
        assert!(failure.starts_with("start: "), "a server that has started serves: {failure}");
        assert!(failure.contains("ulimit -n"), "{failure}");
    }
}

/// Rings count as locked memory of their user.
#[test]
fn where_memory_for_rings_is_short_there_are_fewer_workers_by_default() {
    let this_test = "where_memory_for_rings_is_short_there_are_fewer_workers_by_default";
    if let Some(limit) = limit_of_child(LOCKED) {
        let builder = Server::builder().listen("127.0.0.1:0").driver(Driver::IoUring);
        return start_within(Resource::Memlock, limit, builder);
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    // Of other users, who have rings beside this test, nothing more can be said than this.
    let is_alone = geteuid().is_root();
    let (mut is_enough, mut limit) = (false, 0);
    while !is_enough {
        assert!(limit < 64 << 20, "never enough for one");
        limit += 128 << 10;
        let outcome = start_with(this_test, LOCKED, limit);
        is_enough = outcome.starts_with("started ");
        if is_enough && is_alone && cores > 1 {
            assert_eq!(outcome, "started 1", "with {limit} bytes");
        } else if !is_enough {
            assert!(outcome.contains("ulimit -l"), "{outcome}");
        }
    }
    let outcome = start_with(this_test, LOCKED, 1 << 40);
    assert_eq!(outcome, format!("started {cores}"));
}

#[test]
fn a_number_of_workers_for_which_memory_is_short_is_an_error() {
    let this_test = "a_number_of_workers_for_which_memory_is_short_is_an_error";
    if let Some(limit) = limit_of_child(LOCKED) {
        return start_within(Resource::Memlock, limit, workers(16).driver(Driver::IoUring));
    }
    // Less than the entries of the queues of so many take.
    let outcome = start_with(this_test, LOCKED, 2 << 20);
    assert!(outcome.starts_with("start: ") && outcome.contains("ulimit -l"), "{outcome}");
    assert!(outcome.contains("of 16 workers"), "{outcome}");
}

/// No memory has to be locked for epoll.
#[test]
fn on_epoll_there_are_as_many_workers_as_are_wanted() {
    let this_test = "on_epoll_there_are_as_many_workers_as_are_wanted";
    if let Some(limit) = limit_of_child(LOCKED) {
        return start_within(Resource::Memlock, limit, workers(16).driver(Driver::Epoll));
    }
    assert_eq!(start_with(this_test, LOCKED, 0), "started 16");
}

/// The limit with which this process was run by [`start_with`].
fn limit_of_child(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|limit| limit.parse().unwrap())
}

/// Has `test` start a server in a process that has a limit, and returns how that went.
fn start_with(test: &str, variable: &str, limit: u64) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, limit.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let outcome = text.lines().find_map(|line| line.strip_prefix("outcome: "));
    outcome.unwrap_or_else(|| panic!("limit {limit}: {text} {:?}", output.stderr)).to_owned()
}

/// That process.
fn start_within(resource: Resource, limit: u64, builder: ServerBuilder) {
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        tell("it hangs");
        std::process::abort();
    });
    let mut limits = getrlimit(resource);
    limits.current = limits.maximum.map_or(Some(limit), |maximum| Some(maximum.min(limit)));
    setrlimit(resource, limits).unwrap();
    // With this, memory is locked without a limit.
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::IPC_LOCK);
    set_capabilities(None, sets).unwrap();
    let outcome = match builder.start(|_| Upgrade::accept(EchoListener)) {
        Ok(server) => {
            let count = server.worker_stats().len();
            match server.stop() {
                Ok(_) => format!("started {count}"),
                Err(error) => format!("stop: {error}"),
            }
        }
        Err(error) => format!("start: {error}"),
    };
    tell(&outcome);
}

/// On a line of its own, whatever the harness prints.
fn tell(outcome: &str) {
    let text = format!("\noutcome: {outcome}\n");
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}
