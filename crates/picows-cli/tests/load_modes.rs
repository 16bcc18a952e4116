//! `picows load` of connections that stay, come and go, or hardly read; sources, stages and limits.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Done, Echo, measure, odd_server, picows, run, unheard};
use picows_uring::{EchoListener, Server, Upgrade};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {json:#}"))
}

#[test]
fn idle_connections_are_held_and_their_memory_is_reported() {
    let echo = Echo::start();
    let line = format!(
        "load --mode idle -c 300 --threads 2 --source 127.0.0.1,127.0.0.2 --duration 200ms --warmup 0 \
         --server-pid {} --json -",
        echo.pid()
    );
    let done = run(&line, &echo.url);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json = done.json();
    assert_eq!(json["mode"], "idle");
    assert_eq!(number(&json, "/open_connections"), 300.0);
    assert_eq!(number(&json, "/connect_us/samples"), 300.0);
    assert_eq!(number(&json, "/messages"), 0.0);
    assert_eq!(number(&json, "/errors"), 0.0);
    let memory = |name: &str| number(&json, &format!("/server_memory/{name}"));
    let growth = memory("after_bytes") - memory("before_bytes");
    let each = memory("bytes_per_connection");
    assert!((each - growth.max(0.0) / 300.0).abs() < 1.0, "{json:#}");
    for row in ["connections open", "connecting p99", "memory a connection"] {
        assert!(done.stderr.contains(row), "{}", done.stderr);
    }
    assert_eq!(json["warnings"], Value::Array(Vec::new()));
}

#[test]
fn connections_come_from_all_sources_in_turn() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let peers = Arc::clone(&seen);
    let server = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = server
        .start(move |request| {
            peers.lock().unwrap().insert(request.peer_addr().unwrap().ip().to_string());
            Upgrade::accept(EchoListener)
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    for flags in ["--mode idle", "--mode echo", "--mode churn", "--mode slow --slow-connections 1"]
    {
        seen.lock().unwrap().clear();
        let line =
            format!("load {flags} -c 6 --source 127.0.0.0/29 --duration 200ms --warmup 0 --json -");
        let done = run(&line, &url);
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        let wanted: HashSet<_> = (1..=6).map(|host| format!("127.0.0.{host}")).collect();
        assert_eq!(*seen.lock().unwrap(), wanted, "{flags}");
    }
    server.stop().unwrap();
}

#[test]
fn a_churn_makes_connections_one_behind_the_other() {
    let echo = Echo::start();
    for flags in ["", "--threads 2 --messages 3 --text", "--messages 0", "--rate 200 --size 0"] {
        let line =
            format!("load --mode churn -c 4 --duration 500ms --warmup 50ms --json - {flags}");
        let (done, json) = measure(&line, &echo.url);
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        assert_eq!(json["mode"], "churn");
        assert!(number(&json, "/connect_us/samples") > 0.0, "{flags}: {json:#}");
        assert!(number(&json, "/latency_us/p50") >= number(&json, "/connect_us/min"), "{json:#}");
        if flags.contains("--rate") {
            // Whatever was due is counted, whether or not it found a place.
            let samples = number(&json, "/latency_us/samples");
            assert!((99.0..=101.0).contains(&samples), "{json:#}");
        }
    }
}

#[test]
fn a_churn_that_waits_for_a_place_shows_it_as_latency() {
    // The first message of each connection is not answered, so its visit takes the whole drain timeout.
    let (server, url) = odd_server();
    let line = "load --mode churn -c 1 --rate 100 --duration 300ms --warmup 0 --drain-timeout 10s --json -";
    let done = run(&line.replace("10s", "400ms"), &format!("{url}/drop"));
    assert_eq!(done.code, 1, "{}", done.stderr);
    let json = done.json();
    assert!(number(&json, "/unsent") >= 25.0, "{json:#}");
    assert!(number(&json, "/latency_us/max") > 250_000.0, "{json:#}");
    assert!(number(&json, "/errors_by_kind/missing") >= 1.0, "{json:#}");
    server.stop().unwrap();
}

#[test]
fn faults_of_a_churn_are_counted_by_kind() {
    let (server, url) = odd_server();
    for (way, kind) in
        [("corrupt", "wrong_content"), ("type", "wrong_type"), ("vanish", "lost_connections")]
    {
        let line = "load --mode churn -c 2 --duration 200ms --warmup 0 --json -";
        let done = run(line, &format!("{url}/{way}"));
        assert_eq!(done.code, 1, "{way}: {}", done.stderr);
        let json = done.json();
        assert!(number(&json, &format!("/errors_by_kind/{kind}")) >= 1.0, "{way}: {json:#}");
    }
    let done = run(
        "load --mode churn -c 2 --duration 200ms --warmup 0 --messages 2 --text",
        &format!("{url}/fragments"),
    );
    assert_eq!(done.code, 0, "{}", done.stderr);
    server.stop().unwrap();
    let (_socket, address) = unheard();
    let done = run("load --mode churn -c 2 --duration 200ms", &format!("ws://{address}/"));
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("nothing listens"), "{}", done.stderr);
}

#[test]
fn slow_connections_are_no_errors_and_the_others_are_measured() {
    // What waits for the slow ones exceeds the queue, so each of them is ended.
    let echo = Echo::with("--max-queue 1MiB");
    let line = format!(
        "load --mode slow -c 2 --slow-connections 3 --slow-read 1 --size 64KiB --pipeline 1 \
         --duration 2s --warmup 0 --server-pid {} --json -",
        echo.pid()
    );
    let (done, json) = measure(&line, &echo.url);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let slow = &json["slow"];
    assert_eq!(slow["connections"], 3, "{json:#}");
    let closed = slow["closed_by_code"].as_object().unwrap().values();
    let closed: u64 = closed.map(|count| count.as_u64().unwrap()).sum();
    let (open, cut) = (slow["open"].as_u64().unwrap(), slow["cut"].as_u64().unwrap());
    assert_eq!(open + closed + cut, 3, "each has one fate: {json:#}");
    assert!(slow["sent_messages"].as_u64() > Some(0), "{json:#}");
    assert!(number(&json, "/messages") > 0.0);
    assert!(done.stderr.contains("slow connections"), "{}", done.stderr);
}

#[test]
fn stages_have_figures_of_their_own() {
    let echo = Echo::start();
    let folder = common::folder("stages");
    let log = folder.join("a.hlog");
    let line = "load -c 2 --stages 200ms:1000,200ms:1000,200ms:0 --json - --hdr";
    let done = run(&format!("{line} {}", log.display()), &echo.url);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json = done.json();
    assert_eq!(json["stages"].as_array().unwrap().len(), 3);
    for (stage, wanted) in [100.0, 200.0, 100.0].into_iter().enumerate() {
        let samples = number(&json, &format!("/stages/{stage}/latency_us/samples"));
        assert!((wanted - 2.0..=wanted + 2.0).contains(&samples), "{stage}: {json:#}");
    }
    let total = number(&json, "/latency_us/samples");
    assert!((398.0..=402.0).contains(&total), "{json:#}");
    let parts = json["parts"].as_array().unwrap();
    let of_parts: u64 = parts.iter().map(|part| part["samples"].as_u64().unwrap()).sum();
    assert_eq!(of_parts as f64, total);
    // An interval for each part, behind comments and the heading of the columns.
    let log = std::fs::read_to_string(log).unwrap();
    let intervals = log.lines().filter(|line| line.starts_with(|it: char| it.is_ascii_digit()));
    assert_eq!(intervals.count(), parts.len(), "{log}");
    std::fs::remove_dir_all(folder).unwrap();
    assert!(done.stderr.contains("stage 2, to 1 000 /s, p99"), "{}", done.stderr);
}

#[test]
fn a_connect_rate_spreads_the_connects() {
    let echo = Echo::start();
    let line = "load --mode idle -c 11 --connect-rate 50 --duration 10ms --warmup 0 --json -";
    let started = std::time::Instant::now();
    let done = run(line, &echo.url);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(started.elapsed().as_millis() >= 200, "the last of 11 begins after 10/50 s");
}

/// Runs a load under a limit of open files.
fn with_descriptors(limit: u32, words: &str, url: &str) -> Done {
    let binary = picows([]).get_program().to_owned();
    let script = format!("ulimit -n {limit} && exec \"$0\" {words} {url}");
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(script).arg(binary);
    Done::from(command.output().unwrap())
}

#[test]
fn limits_of_this_machine_are_named_before_the_load_with_the_cure() {
    let (_socket, address) = unheard();
    let url = format!("ws://{address}/");
    for words in ["load -c 200", "load --mode idle -c 200", "load --mode fan-out --subscribers 200"]
    {
        let done = with_descriptors(128, words, &url);
        assert_eq!(done.code, 2, "{words}: {}", done.stderr);
        for part in ["descriptors, and this process may have 128", "ulimit -Hn", "at most"] {
            assert!(done.stderr.contains(part), "{words}: {}", done.stderr);
        }
    }
    let done = run("load --mode idle -c 1000000 --source 127.0.0.1", &url);
    assert_eq!(done.code, 2, "{}", done.stderr);
    for part in ["ephemeral ports", "at least", "--source"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    let done = run("load -c 2 --source 192.0.2.1", &url);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("ip address add 192.0.2.1/32"), "{}", done.stderr);
}

#[test]
fn thresholds_decide_on_the_exit_status() {
    let echo = Echo::start();
    let quick = "load -c 2 --duration 300ms --warmup 0 --json -";
    for (flags, code, word) in [
        ("--fail-if p99>60s --fail-if rate<1", 0, "met: p99>60s"),
        ("--fail-if p50>0.001us", 3, "error: --fail-if p50>0.001us: p50 is "),
        ("--fail-if errors>0", 0, "met: errors>0: errors is 0"),
    ] {
        let (done, json) = measure(&format!("{quick} {flags}"), &echo.url);
        assert_eq!(done.code, code, "{flags}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{flags}: {}", done.stderr);
        assert_eq!(json["thresholds"][0]["failed"], code == 3, "{flags}: {json:#}");
    }
    // With a threshold of errors, these alone do not fail the run; without one they do.
    let (server, url) = odd_server();
    let url = format!("{url}/corrupt");
    for (flags, code) in
        [("--fail-if errors>2", 0), ("--fail-if errors>1", 3), ("--fail-if p99>60s", 1)]
    {
        let done = run(&format!("{quick} {flags}"), &url);
        assert_eq!(done.code, code, "{flags}: {}", done.stderr);
    }
    server.stop().unwrap();
    // What was not measured fails.
    let (server, url) = odd_server();
    let line = "load -c 1 --duration 100ms --warmup 0 --drain-timeout 10ms --fail-if errors>5 --fail-if p99>5s";
    let done = run(line, &format!("{url}/drop"));
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("p99>5s: p99 was not measured"), "{}", done.stderr);
    server.stop().unwrap();
}

#[test]
fn two_reports_are_compared() {
    let echo = Echo::start();
    let folder = common::folder("compare");
    let file = |name: &str| folder.join(name).display().to_string();
    let load = |name: &str, flags: &str| {
        let line = format!("load -c 2 --duration 400ms --warmup 0 --json {} {flags}", file(name));
        assert_eq!(run(&line, &echo.url).code, 0);
    };
    load("a.json", "");
    load("b.json", "--size 1MiB");
    let done = run(&format!("compare {} --json -", file("a.json")), &file("b.json"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json = done.json();
    assert_eq!(json["figures"][0]["name"], "rate", "{json:#}");
    assert_eq!(json["figures"][0]["verdict"], "worse", "{json:#}");
    assert!(done.stderr.contains("different settings: size_bytes"), "{}", done.stderr);
    let done = run(&format!("compare --fail-if-worse {}", file("a.json")), &file("b.json"));
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("error: B is worse: rate"), "{}", done.stderr);
    let done = run(&format!("compare {}", file("a.json")), &file("a.json"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("no difference") && !done.stdout.contains("is worse"));
    for (line, code, word) in [
        ("compare", 2, "without --with"),
        ("compare /no/such/file", 1, "cannot read /no/such/file"),
    ] {
        let done = run(line, &file("a.json"));
        assert_eq!(done.code, code, "{}", done.stderr);
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_server_that_is_not_there_is_named_in_each_mode() {
    let (_socket, closed_port) = unheard();
    for mode in ["echo", "churn", "idle", "slow", "fan-out --subscribers 1"] {
        let done = run(&format!("load --mode {mode}"), &format!("ws://{closed_port}/"));
        assert_eq!(done.code, 1, "{mode}: {}", done.stderr);
        assert!(done.stderr.contains("nothing listens there"), "{mode}: {}", done.stderr);
    }
}
