//! The examples in C, `examples/c/*.c`: compiled as they are and run against each other.

mod common;

use common::{built, compile, crate_folder, is_there, made, made_for_test};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// An example, compiled as C99.
fn example(name: &str) -> PathBuf {
    let source = crate_folder().join("../../examples/c").join(format!("{name}.c"));
    let lines = std::fs::read_to_string(&source).expect("it is there").lines().count();
    assert!(lines < 100, "{name} has {lines} lines");
    let program = made_for_test(&format!("example-{name}"));
    compile("cc", &["-std=c99"], &source, &program);
    program
}

/// A server that has said where it listens; ended with the test.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn new(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(example(name));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let url = line.trim().strip_prefix("listening on ").expect("the URL").to_owned();
        Self { child, url }
    }

    /// Sends SIGTERM and waits.
    fn end(mut self) {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill is there").success());
        assert!(self.child.wait().expect("it ends").success(), "it ends well");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_echo_examples_talk_to_each_other() {
    if !is_there("cc", &[]) {
        return;
    }
    let server = Running::new("echo_server", &["0"]);
    let client = Command::new(example("echo_client")).args([&server.url, "5"]).output();
    let client = client.expect("it runs");
    assert!(client.status.success(), "{client:?}");
    let expected: String = (0..5).map(|number| format!("message {number}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&client.stdout), expected);

    let mut poll = Command::new(example("in_poll"));
    let poll = poll.arg(&server.url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut poll = poll.expect("it runs");
    let mut input = poll.stdin.take().expect("it is piped");
    let mut output = BufReader::new(poll.stdout.take().expect("it is piped"));
    for text in ["one\n", "two\n"] {
        input.write_all(text.as_bytes()).expect("it reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("it answers");
        assert_eq!(line, text);
    }
    drop(input);
    assert!(poll.wait().expect("it ends").success());

    server.end();
    let late = Command::new(example("echo_client")).arg("ws://127.0.0.1:1/").output();
    let late = late.expect("it runs");
    assert_eq!(late.status.code(), Some(1), "nothing listens there");
}

#[test]
fn the_example_of_market_data_sends_the_last_price_of_each_instrument() {
    if !is_there("cc", &[]) {
        return;
    }
    let mut server = Running::new("market_data", &["0", "20000"]);
    let mut client = Command::new(example("in_poll"));
    client.arg(&server.url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().expect("it runs");
    // The end of its input would close the connection.
    let input = client.stdin.take().expect("it is piped");
    let mut output = String::new();
    let mut stdout = client.stdout.take().expect("it is piped");
    stdout.read_to_string(&mut output).expect("it prints text");
    assert!(client.wait().expect("it ends").success());
    drop(input);
    for last in 20_000 - 64..20_000 {
        let expected = format!("{{\"id\":{},\"price\":{last}}}", last % 64);
        assert!(output.lines().any(|line| line == expected), "{expected} is missing");
    }
    assert!(server.child.wait().expect("it ends").success());
}

#[test]
fn what_is_installed_is_found_by_its_soname() {
    if !is_there("cc", &[]) {
        return;
    }
    let prefix = made("prefix");
    let root = crate_folder().join("../..");
    let mut install = Command::new(root.join("scripts/install-c"));
    let outcome = install.arg(&prefix).arg("--built").arg(built()).output().expect("bash is there");
    assert!(outcome.status.success(), "{outcome:?}");
    let described = std::fs::read_to_string(prefix.join("lib/pkgconfig/picows-uring.pc"));
    let described = described.expect("it is installed");
    let described = described.replace("${prefix}", &prefix.display().to_string());
    assert!(
        described.contains(&format!("includedir={}/include\n", prefix.display())),
        "{described}"
    );
    assert!(!described.contains('@'), "{described}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(described.contains(&format!("\nVersion: {version}\n")), "{described}");
    assert!(prefix.join(format!("lib/libpicows_uring_c.so.{version}")).is_file());
    let program = made("installed");
    let status = Command::new("cc")
        .arg(root.join("examples/c/echo_client.c"))
        .arg("-o")
        .arg(&program)
        .arg(format!("-I{}/include", prefix.display()))
        .arg(format!("-L{}/lib", prefix.display()))
        .arg("-lpicows_uring_c")
        .status();
    assert!(status.expect("the compiler runs").success());
    let late = Command::new(&program)
        .arg("http://127.0.0.1/")
        .env("LD_LIBRARY_PATH", prefix.join("lib"))
        .output()
        .expect("it runs");
    assert_eq!(late.status.code(), Some(1), "{late:?}");
    assert!(String::from_utf8_lossy(&late.stderr).contains("is no URL"), "{late:?}");
}
