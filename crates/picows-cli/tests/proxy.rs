//! The flag `--proxy` of the clients, and the variables of the environment.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;
#[path = "../../picows-uring/tests/gate/mod.rs"]
mod gate;

use common::{Done, output_of, picows};
use gate::{Gate, Rules};
use picows_uring::{EchoListener, Server, ServerHandle, Upgrade};

fn echo_server() -> (ServerHandle, String) {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    (server, url)
}

/// Runs a command with these variables, and sends it a line.
fn run(line: &str, url: &str, variables: &[(&str, &str)]) -> Done {
    let mut command = picows(line.split_whitespace().chain([url]));
    command.envs(variables.iter().copied()).env("RUST_LOG", "trace");
    let done = Done::from(output_of(&mut command, b"hi\n"));
    let text = format!("{}{}", done.stdout, done.stderr);
    for secret in ["SECRET", "USER", "VVNFU"] {
        assert!(!text.contains(secret), "{text}");
    }
    done
}

#[test]
fn connect_goes_where_the_environment_says_and_the_meters_do_not() {
    let (server, url) = echo_server();
    let gate = Gate::new(Rules { wants_password: true, closes: true });
    let proxy = gate.url("http", "USER:SECRET@");
    for (line, variables, requests) in [
        ("connect", &[("http_proxy", &*proxy)][..], 2),
        ("connect", &[("HTTP_PROXY", &proxy)], 2),
        ("connect", &[("HTTP_PROXY", &proxy), ("REQUEST_METHOD", "GET")], 0),
        ("connect", &[("ALL_PROXY", &proxy), ("no_proxy", "example.com, 127.0.0.0/8")], 0),
        ("connect", &[("all_proxy", &proxy), ("NO_PROXY", "127.0.0.1:1")], 2),
        ("connect", &[("https_proxy", &proxy)], 0),
        ("connect --dedicated", &[("ws_proxy", &proxy)], 2),
        ("connect --proxy none", &[("http_proxy", &proxy)], 0),
        ("connect --proxy env", &[("http_proxy", &proxy)], 2),
        ("rtt -d 50ms -w 0", &[("http_proxy", &proxy)], 0),
        ("load -c 1 -d 50ms -w 0", &[("http_proxy", &proxy)], 0),
        ("rtt -d 50ms -w 0 --proxy env", &[("http_proxy", &proxy)], 2),
        ("load -c 3 -d 50ms -w 0 --proxy env", &[("http_proxy", &proxy)], 6),
    ] {
        let done = run(line, &url, variables);
        assert_eq!(done.code, 0, "{line} {variables:?}: {}", done.stderr);
        assert!(!line.starts_with("connect") || done.stdout == "hi\n", "{}", done.stdout);
        assert_eq!(gate.all().len(), requests, "{line} {variables:?}");
    }
    server.stop().unwrap();
}

#[test]
fn a_proxy_can_be_given_by_its_url() {
    let (server, url) = echo_server();
    let gate = Gate::new(Rules { wants_password: true, closes: false });
    for scheme in ["http", "socks5", "socks5h"] {
        let proxy = gate.url(scheme, "USER:SECRET@");
        for line in ["connect", "rtt -d 50ms -w 0", "load -c 1 -d 50ms -w 0"] {
            let done = run(&format!("{line} --proxy {proxy}"), &url, &[("no_proxy", "*")]);
            assert_eq!(done.code, 0, "{line}: {}", done.stderr);
            assert!(!gate.all().is_empty(), "{line} {scheme}");
        }
    }
    server.stop().unwrap();
}

#[test]
fn a_proxy_that_cannot_be_used_is_reported_without_its_password() {
    for (line, variables, code, word) in [
        ("connect --proxy ftp://USER:SECRET@gate", &[][..], 2, "--proxy: the scheme is \"ftp\""),
        ("rtt --proxy socks://USER:SECRET@gate", &[], 2, "--proxy: the scheme is \"socks\""),
        ("load --proxy http://USER:SECRET@gate:x", &[], 2, "--proxy: its URL cannot be read"),
        (
            "connect",
            &[("http_proxy", "ftp://USER:SECRET@gate")],
            1,
            "the proxy of the variable http_proxy",
        ),
    ] {
        let done = run(line, "ws://127.0.0.1:9/", variables);
        assert_eq!(done.code, code, "{line}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{line}: {}", done.stderr);
    }
    let gate = Gate::new(Rules { wants_password: true, closes: false });
    let proxy = gate.url("http", "USER:SECRET2@");
    let done = run("connect", "ws://127.0.0.1:9/", &[("http_proxy", &proxy)]);
    assert_eq!(done.code, 1);
    let word = format!("the proxy http://{} of the variable http_proxy: ", gate.address);
    assert!(done.stderr.contains(&word), "{}", done.stderr);
    assert!(done.stderr.contains("it refused user and password"), "{}", done.stderr);
}
