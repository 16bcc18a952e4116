//! `wss://` of the commands: certificates, what is trusted, and the reload on SIGHUP.

#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

#[path = "../../picows-uring/tests/certificates/mod.rs"]
mod certificates;
mod common;

use certificates::Certificates;
use common::{Done, Echo, Running, eventually, measure, output_of, picows, run, run_with_input};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// The flags of a server with a certificate for the loopback.
fn flags(certificates: &Certificates) -> String {
    drop(certificates.issue("server", &["localhost", "127.0.0.1"]));
    let path = |name| certificates.path(name).display().to_string();
    format!("--tls-cert {} --tls-key {}", path("server.crt"), path("server.key"))
}

#[test]
fn clients_trust_what_they_are_given() {
    let certificates = Certificates::new();
    let echo = Echo::with(&flags(&certificates));
    assert!(echo.url.starts_with("wss://127.0.0.1:"), "{}", echo.url);
    let ca = format!("--tls-ca {}", certificates.ca().display());
    let done = run_with_input(&format!("connect {ca}"), &echo.url, b"over TLS\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, "over TLS\n"), "{}", done.stderr);
    assert_eq!(done.stderr, "");
    let done = run_with_input("connect --tls-insecure", &echo.url, b"anyway\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, "anyway\n"), "{}", done.stderr);
    assert!(done.stderr.contains("warning: --tls-insecure"), "{}", done.stderr);
    // By the roots of the system, of which there is one: to read all of a machine takes long.
    let stranger = Certificates::new();
    let mut command = picows(["connect", &echo.url]);
    let done = Done::from(output_of(command.env("SSL_CERT_FILE", stranger.ca()), b""));
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("TLS"), "{}", done.stderr);
    for command in [
        "load --connections 3 --threads 1 --duration 200ms --warmup 0s",
        "rtt --duration 200ms --warmup 0s",
    ] {
        let (done, figures) = measure(&format!("{command} --json - {ca}"), &echo.url);
        assert_eq!(done.code, 0, "{figures:#} {}", done.stderr);
    }
}

#[test]
fn a_server_may_require_certificates_of_clients() {
    let certificates = Certificates::new();
    let ca = certificates.ca().display().to_string();
    let echo = Echo::with(&format!("{} --tls-client-ca {ca}", flags(&certificates)));
    let done = run_with_input(&format!("connect --tls-ca {ca}"), &echo.url, b"without\n");
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert!(done.stderr.contains("certificate_required"), "{}", done.stderr);
    drop(certificates.issue("client", &["client.example"]));
    let path = |name| certificates.path(name).display().to_string();
    let pair = format!("--tls-cert {} --tls-key {}", path("client.crt"), path("client.key"));
    let done = run_with_input(&format!("connect --tls-ca {ca} {pair}"), &echo.url, b"with\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, "with\n"), "{}", done.stderr);
}

#[test]
fn a_machine_without_roots_is_named_with_its_cure() {
    let certificates = Certificates::new();
    let empty = certificates.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut command = picows(["connect", "wss://127.0.0.1:1/"]);
    // A file that is empty, and a folder.
    std::fs::write(empty.with_extension("pem"), "").unwrap();
    command.env("SSL_CERT_FILE", empty.with_extension("pem")).env("SSL_CERT_DIR", &empty);
    let done = Done::from(output_of(&mut command, b""));
    assert_eq!(done.code, 1, "{}", done.stdout);
    for word in ["ca-certificates", "SSL_CERT_FILE"] {
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
}

#[test]
fn a_proxy_in_tls_is_trusted_by_a_flag_of_its_own() {
    let certificates = Certificates::new();
    // A server is no proxy, and says so in TLS.
    let echo = Echo::with(&flags(&certificates));
    let proxy =
        echo.url.replace("wss://", "https://USER:SECRET@").replace("127.0.0.1", "localhost");
    let proxy = proxy.trim_end_matches('/');
    let (ca, others) = (certificates.ca().display().to_string(), Certificates::new());
    for command in ["connect", "rtt -d 50ms -w 0", "load -c 1 -d 50ms -w 0"] {
        for (flags, code, word) in [
            (String::new(), 1, "--proxy-ca"),
            // That of the server is for the server.
            (format!("--tls-ca {ca}"), 1, "--proxy-ca"),
            (format!("--proxy-ca {ca}"), 1, "the proxy https://localhost:"),
            (format!("--proxy-ca {ca}.none"), 2, "--proxy-ca: "),
        ] {
            let line = format!("{command} --proxy {proxy} {flags} ws://127.0.0.1:9/");
            let mut command = picows(line.split_whitespace());
            // The roots of the system take a second to be read.
            command.env("SSL_CERT_FILE", others.ca()).env_remove("SSL_CERT_DIR");
            let done = Done::from(output_of(&mut command, b""));
            assert_eq!(done.code, code, "{line}: {}", done.stderr);
            assert!(done.stderr.contains(word), "{line}: {}", done.stderr);
            assert!(!done.stderr.contains("SECRET"), "{line}: {}", done.stderr);
            let is_answered = done.stderr.contains("it answered 4");
            assert_eq!(is_answered, flags == format!("--proxy-ca {ca}"), "{}", done.stderr);
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let certificates = Certificates::new();
    let flags = flags(&certificates).replace("server.key", "none.key");
    let done = run(&format!("echo --listen 127.0.0.1:0 {flags} --listen"), "127.0.0.1:0");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("none.key"), "{}", done.stderr);
    let done = run("connect --tls-ca /nowhere.pem", "wss://127.0.0.1:1/");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("/nowhere.pem"), "{}", done.stderr);
    let done = run("echo --tls-cert a.pem --listen", "127.0.0.1:0");
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("--tls-key"), "{}", done.stderr);
}

#[test]
fn sighup_reads_the_certificates_again_and_cuts_no_connection() {
    let (first, second) = (Certificates::new(), Certificates::new());
    let line = format!("echo --listen 127.0.0.1:0 --workers 1 {}", flags(&first));
    let mut command = picows(line.split_whitespace());
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let server = rustix::process::Pid::from_child(&child);
    let address = stdout.next().unwrap().unwrap();
    let url = address.strip_prefix("listening on ").unwrap().to_owned();
    let ca = format!("--tls-ca {}", first.ca().display());
    // A client that stays.
    let line = format!("connect {ca} {url}");
    let mut open = Running::start(
        picows(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut input = open.stdin();
    std::io::Write::write_all(&mut input, b"before\n").unwrap();
    // It is connected before any certificate changes.
    assert_eq!(open.line(), "before");
    rustix::process::kill_process(server, Signal::HUP).unwrap();
    assert!(stderr.next().unwrap().unwrap().contains("certificates read again"));
    // Half of a pair stays out, and the outcome is printed.
    drop(second.issue("server", &["127.0.0.1"]));
    let copy = |name| std::fs::copy(second.path(name), first.path(name)).unwrap();
    copy("server.crt");
    rustix::process::kill_process(server, Signal::HUP).unwrap();
    let line = stderr.next().unwrap().unwrap();
    assert!(line.contains("the old ones stay") && line.contains("server.key"), "{line}");
    let done = run_with_input(&format!("connect {ca}"), &url, b"old\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, "old\n"), "{}", done.stderr);
    copy("server.key");
    rustix::process::kill_process(server, Signal::HUP).unwrap();
    assert!(stderr.next().unwrap().unwrap().contains("certificates read again"));
    let ca = format!("--tls-ca {}", second.ca().display());
    let done = run_with_input(&format!("connect {ca}"), &url, b"new\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, "new\n"), "{}", done.stderr);
    std::io::Write::write_all(&mut input, b"after\n").unwrap();
    drop(input);
    let done = open.end();
    assert_eq!(done.stdout, "after\n", "{}", done.stderr);
    rustix::process::kill_process(server, Signal::TERM).unwrap();
    eventually("the server ends", || child.try_wait().unwrap());
}

#[test]
fn sighup_reads_the_issuers_of_clients_again() {
    let (first, second) = (Certificates::new(), Certificates::new());
    let clients = first.path("clients.pem");
    std::fs::copy(first.ca(), &clients).unwrap();
    let flags = format!("{} --tls-client-ca {}", flags(&first), clients.display());
    let line = format!("echo --listen 127.0.0.1:0 --workers 1 {flags}");
    let mut command = picows(line.split_whitespace());
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Running::start(command);
    let url = server.line().strip_prefix("listening on ").unwrap().to_owned();
    let mut lines = BufReader::new(server.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut hang_up = |outcome: &str| {
        server.signal(Signal::HUP);
        lines.find(|line| line.contains(outcome)).unwrap()
    };
    let ca = first.ca().display().to_string();
    let connect = |issuer: &Certificates| {
        drop(issuer.issue("client", &["client.example"]));
        let path = |name| issuer.path(name).display().to_string();
        let pair = format!("--tls-cert {} --tls-key {}", path("client.crt"), path("client.key"));
        run_with_input(&format!("connect --tls-ca {ca} {pair}"), &url, b"hello\n")
    };
    let expect = |issuer: &Certificates, is_let_in: bool| {
        let done = connect(issuer);
        assert_eq!(done.code == 0, is_let_in, "{} {}", done.stdout, done.stderr);
    };
    expect(&first, true);
    expect(&second, false);
    std::fs::copy(second.ca(), &clients).unwrap();
    hang_up("certificates read again");
    expect(&first, false);
    expect(&second, true);
    // One that cannot be read leaves what there was.
    std::fs::write(&clients, "").unwrap();
    let line = hang_up("the old ones stay");
    assert!(line.contains("clients.pem"), "{line}");
    expect(&second, true);
}
