//! `picows load --mode fan-out` against servers that fan out rightly, and wrongly.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Done, run};
use picows_uring::{
    CloseCode, Frame, Listener, ListenerError, ListenerResult, MsgType, Server, ServerHandle,
    Transport, Upgrade, UpgradeRequest,
};
use std::cell::RefCell;

thread_local! {
    /// The connections of the one worker.
    static ALL: RefCell<Vec<Transport>> = const { RefCell::new(Vec::new()) };
}

/// Sends each message to all; the path chooses a fault.
struct FanOut {
    fault: String,
    is_publisher: bool,
    count: usize,
}

impl Listener for FanOut {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        if !self.is_publisher {
            ALL.with_borrow_mut(|all| all.push(transport.clone()));
        }
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if !matches!(frame.msg_type(), MsgType::Text | MsgType::Binary) {
            return Ok(());
        }
        self.count += 1;
        if self.fault == "close" {
            return Err(ListenerError::close(CloseCode::POLICY_VIOLATION, "no right"));
        }
        if self.fault == "never" {
            return Ok(());
        }
        let all = ALL.with_borrow(Clone::clone);
        for (index, transport) in all.iter().enumerate() {
            let is_tenth = self.count.is_multiple_of(10) && index == 0;
            if is_tenth && self.fault == "skip" {
                continue;
            }
            transport.send(frame.msg_type(), frame.payload());
            if is_tenth && self.fault == "twice" {
                transport.send(frame.msg_type(), frame.payload());
            }
        }
        Ok(())
    }

    fn on_disconnected(&mut self, _: &Transport) {
        ALL.with_borrow_mut(|all| all.retain(|it| !it.is_disconnected()));
    }
}

fn server() -> (ServerHandle, String) {
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .workers(1)
        .start(|request: &UpgradeRequest| {
            let fault = request.path()[1..].to_owned();
            let is_publisher = request.query() == Some("publish");
            Upgrade::accept(FanOut { fault, is_publisher, count: 0 })
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    (server, url)
}

const QUICK: &str = "load --mode fan-out --subscribers 20 --warmup 50ms --duration 300ms \
                     --drain-timeout 20s --json -";

fn load(flags: &str, path: &str) -> Done {
    let (server, url) = server();
    let url = format!("{url}/{path}");
    let done = run(&format!("{QUICK} {flags} --publish-url {url}?publish"), &url);
    server.stop().unwrap();
    done
}

#[test]
fn every_subscriber_gets_every_publication() {
    for flags in [
        "",
        "--pipeline 16 --threads 2",
        "--publishers 3 --pipeline 4 --text --size 100",
        "--rate 2000 --publishers 2",
        "--payload json --size 300",
    ] {
        let done = load(flags, "");
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        let json = done.json();
        let count = |path: &str| json.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
        assert_eq!((count("/errors"), count("/gaps")), (0, 0), "{json:#}");
        assert_eq!(count("/complete_subscribers"), 20, "{json:#}");
        assert!(count("/deliveries") > 0 && count("/latency_all_us/samples") > 0, "{json:#}");
        let (half, all) = (count("/latency_half_us/samples"), count("/latency_all_us/samples"));
        assert_eq!(half, all, "each publication reaches half, and then all: {json:#}");
        assert_eq!(json["mode"], "fan-out");
    }
}

#[test]
fn stages_of_publications_have_figures_of_their_own() {
    let (server, url) = server();
    let line = "load --mode fan-out --subscribers 5 --publishers 2 --drain-timeout 20s --json - \
                --stages 200ms:500,200ms:500,200ms:0 --fail-if unsent>400";
    let done = run(&format!("{line} --publish-url {url}/?publish"), &format!("{url}/"));
    server.stop().unwrap();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json = done.json();
    let number = |path: &str| json.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
    // 50 while it rises, 100 while it holds, 50 while it falls; what is late at the end is unsent.
    let all: u64 = (0..3).map(|at| number(&format!("/stages/{at}/latency_us/samples"))).sum();
    assert_eq!(all, number("/latency_all_us/samples"), "each belongs to one stage: {json:#}");
    assert!((190..=200).contains(&(all + number("/unsent"))), "{json:#}");
    assert!(number("/stages/1/latency_us/samples") > 0, "{json:#}");
    assert_eq!((number("/errors"), &json["settings"]["pipeline"]), (0, &serde_json::Value::Null));
    assert!(done.stderr.contains("3 stages") && done.stderr.contains("stage 2, to 500 /s, p99"));
}

#[test]
fn a_fan_out_has_sources_thresholds_and_a_page() {
    let folder = common::folder("fan-out");
    let file = folder.join("a.html");
    let page = file.display();
    let flags = format!("--source 127.0.0.0/29 --fail-if p99>60s --fail-if rate<1 --html {page}");
    let done = load(&flags, "");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("met: rate<1: rate is "), "{}", done.stderr);
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("20 subscribers") && page.contains("until all have it p99"), "{page}");
    let done = load("--fail-if p50>0.001us", "");
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert_eq!(done.json()["thresholds"][0]["failed"], true);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_a_subscriber_misses_is_counted_and_an_error() {
    let done = load("--pipeline 8", "skip");
    let json = done.json();
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(json["errors_by_kind"]["missing"].as_u64() > Some(0), "{json:#}");
    assert_eq!(json["complete_subscribers"], 19, "{json:#}");
    let error = json["first_error"].as_str().unwrap();
    assert!(error.contains("did not come"), "{error}");
    let done = load("--pipeline 8 --allow-gaps", "skip");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json = done.json();
    assert!(json["gaps"].as_u64() > Some(0) && json["errors"] == 0, "{json:#}");
    assert!(done.stderr.contains("--allow-gaps"), "{}", done.stderr);
}

#[test]
fn what_comes_twice_is_an_error() {
    let done = load("", "twice");
    let json = done.json();
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(json["errors_by_kind"]["repeated"].as_u64() > Some(0), "{json:#}");
}

#[test]
fn a_publisher_that_may_not_publish_is_named_with_the_cure() {
    let done = load("", "close");
    assert_eq!(done.code, 1, "{}", done.stdout);
    assert!(
        done.stderr.contains("1008") && done.stderr.contains("no right"),
        "the code and its reason: {}",
        done.stderr
    );
    assert!(done.stderr.contains("--publish all"), "{}", done.stderr);
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let (_socket, address) = common::unheard();
    let done = run(QUICK, &format!("ws://{address}/"));
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("refused"), "{}", done.stderr);
}
