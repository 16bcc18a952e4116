//! Each client example against our own echo server.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring::{EchoListener, Server, Upgrade};
use std::process::Command;

/// Runs an example to its end and returns the lines it printed.
fn lines(example: &str, arguments: &[&str]) -> Vec<String> {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    let outcome = command(example).arg(url).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{example} ended with {}: {errors}", outcome.status);
    server.stop().unwrap();
    String::from_utf8(outcome.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Cargo builds it, if need be, and then becomes it.
fn command(example: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "examples", "--example", example]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--");
    command
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("message {number}")).collect()
}

#[test]
fn echo_client() {
    let lines = lines("echo_client", &["0", "70000"]);
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[4], "Text of 70000 bytes: as it was sent");
}

#[test]
fn echo_client_async_iteration() {
    assert_eq!(lines("echo_client_async_iteration", &["20"]), numbered(20));
}

#[test]
fn echo_client_tasks() {
    let mut numbers: Vec<usize> =
        lines("echo_client_tasks", &["20"]).iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[test]
fn echo_client_threaded() {
    assert_eq!(lines("echo_client_threaded", &["20"]), numbered(20));
}

#[test]
fn reconnecting_client() {
    let wanted: Vec<_> = (1..=3).map(|it| format!("subscribe, connection {it}")).collect();
    assert_eq!(lines("reconnecting_client", &["3"]), wanted);
}

#[test]
fn a_client_that_cannot_connect_says_why() {
    let free_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = command("echo_client").arg(format!("ws://{free_port}/")).output();
    let outcome = outcome.unwrap();
    assert!(!outcome.status.success());
    let errors = String::from_utf8_lossy(&outcome.stderr);
    assert!(errors.contains("nobody listens there"), "{errors}");
}
