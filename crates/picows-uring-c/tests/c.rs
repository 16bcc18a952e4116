//! The tests in C, `tests/c/*.c`: compiled as C99, with AddressSanitizer where there is one, and as
//! C++, and run against the shared library.
//!
//! Skipped, with a line that says so, where there is no compiler.

#[path = "../../picows-uring/tests/certificates/mod.rs"]
mod certificates;
mod common;

use common::{compile, crate_folder, is_there, made};
use std::process::Command;

const SANITIZER: &str = "-fsanitize=address";

/// Compiles one file of `tests/c` and runs it.
fn run(name: &str) {
    run_with(name, &[]);
}

fn run_with(name: &str, arguments: &[&str]) {
    let source = crate_folder().join("tests/c").join(format!("{name}.c"));
    for (compiler, language) in [("cc", ["-std=c99", "-xc"]), ("c++", ["-std=c++17", "-xc++"])] {
        if !is_there(compiler, &[]) {
            continue;
        }
        let mut flags = language.to_vec();
        if compiler == "cc" && is_there(compiler, &[SANITIZER]) {
            flags.push(SANITIZER);
        }
        let program = made(&format!("{name}-{compiler}"));
        compile(compiler, &flags, &source, &program);
        let outcome = Command::new(&program).args(arguments).output().expect("the program runs");
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert!(outcome.status.success(), "{name} with {compiler}: {}\n{said}", outcome.status);
    }
}

#[test]
fn a_client_and_a_server_echo() {
    run("echo");
}

#[test]
fn each_function_has_a_status_for_each_wrong_use() {
    run("statuses");
}

#[test]
fn failures_of_callbacks_and_attempts_free_each_user_once() {
    run("callbacks");
}

#[test]
fn each_way_to_send_arrives() {
    run("sending");
}

#[test]
fn cycles_of_connections_leave_nothing_behind() {
    run("leaks");
}

#[test]
fn tls_and_compression_are_options() {
    let certificates = certificates::Certificates::new();
    certificates.issue("server", &["localhost", "127.0.0.1"]);
    certificates.issue("client", &["client"]);
    certificates.issue("named", &["api.example"]);
    run_with("secure", &[&certificates.path("").to_string_lossy()]);
}

#[test]
fn a_program_carries_the_bytes_of_connections() {
    run("outside");
}

#[test]
fn where_requests_come_from_is_judged_by_options() {
    run("front_door");
}

#[test]
fn workers_run_stop_and_are_freed() {
    run("worker");
}
