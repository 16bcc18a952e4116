//! `picows load` against `picows echo`, and against faulty servers.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Echo, measure, measure_into, odd_server, run, unheard};
use picows_uring::{EchoListener, Server, Upgrade};
use serde_json::Value;

/// Numbers that other programs read.
const NUMBERS: &[&str] = &[
    "/measured_s",
    "/messages",
    "/rate_per_s",
    "/mb_per_s",
    "/latency_us/samples",
    "/latency_us/min",
    "/latency_us/mean",
    "/latency_us/p50",
    "/latency_us/p90",
    "/latency_us/p99",
    "/latency_us/p99.9",
    "/latency_us/max",
    "/client_cpu_share",
    "/client_cpu_us_per_message",
    "/errors",
    "/errors_by_kind/failed_connections",
    "/errors_by_kind/lost_connections",
    "/errors_by_kind/missing",
    "/errors_by_kind/unexpected",
    "/errors_by_kind/wrong_type",
    "/errors_by_kind/wrong_length",
    "/errors_by_kind/wrong_content",
    "/throughput/interval_s",
    "/throughput/rate_per_s/0",
    "/latency_by_percentile/0/latency_us",
];

fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {json:#}"))
}

#[test]
fn a_good_server_gets_figures_and_status_0() {
    let echo = Echo::start();
    let line = format!(
        "load --connections 6 --threads 2 --pipeline 3 --size 1KiB --duration 500ms --warmup 50ms \
         --auto-ping 2s,2s --auto-ping-strategy periodic --server-pid {} --json -",
        echo.pid()
    );
    let (done, json) = measure(&line, &echo.url);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("p99.9"), "the table goes to standard error: {}", done.stderr);
    for path in NUMBERS {
        number(&json, path);
    }
    assert!(number(&json, "/messages") > 0.0);
    assert!(number(&json, "/server_cpu_us_per_message") > 0.0);
    assert_eq!(number(&json, "/measured_s"), 0.5);
    assert_eq!(number(&json, "/settings/size_bytes"), 1024.0);
    assert_eq!(number(&json, "/errors"), 0.0);
    assert!(json["send_delay_us"].is_null());
}

#[test]
fn every_size_and_type_is_checked_and_right() {
    let echo = Echo::start();
    for flags in ["--size 0", "--size 1", "--size 7 --text", "--size 8", "--size 125 --text"]
        .into_iter()
        .chain(["--size 126", "--size 64KiB --text --pipeline 4", "--size 3MiB"])
        .chain(["--dedicated", "--dedicated --threads 2", "--dedicated --size 3MiB --pipeline 3"])
    {
        let line = format!("load -c 2 --duration 200ms --warmup 0 --json - {flags}");
        let (done, json) = measure(&line, &echo.url);
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        assert_eq!(number(&json, "/errors"), 0.0, "{flags}");
    }
}

#[test]
fn a_rate_is_kept_and_send_delays_are_reported() {
    let echo = Echo::start();
    for flags in ["", "--busy-poll 50us", "--threads 2 --pipeline 1 --text"] {
        let line = format!("load -c 3 --rate 1000 --duration 500ms --warmup 0 --json - {flags}");
        let done = run(&line, &echo.url);
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        let json = done.json();
        // Every message that was due counts, whether it was late or not.
        let samples = number(&json, "/latency_us/samples");
        assert!((499.0..=501.0).contains(&samples), "{flags}: {json:#}");
        assert!(number(&json, "/send_delay_us/p50") >= 0.0);
        assert!(number(&json, "/unsent") >= 0.0);
        assert_eq!(number(&json, "/settings/rate_per_s"), 1000.0);
    }
}

#[test]
fn rounds_have_figures_of_their_own() {
    let echo = Echo::start();
    for flags in ["", "--rate 500", "--dedicated", "--mode churn"] {
        let line = format!(
            "load -c 2 --rounds 3 --duration 400ms --warmup 50ms --server-pid {} --json - {flags}",
            echo.pid()
        );
        let (done, json) = measure(&line, &echo.url);
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        assert_eq!(number(&json, "/settings/rounds"), 3.0);
        assert_eq!(number(&json, "/measured_s"), 1.2);
        assert_eq!(json["rounds"].as_array().unwrap().len(), 3, "{flags}: {json:#}");
        let sum = |path: &str| -> f64 {
            (0..3).map(|round| number(&json, &format!("/rounds/{round}{path}"))).sum()
        };
        assert_eq!(sum("/messages"), number(&json, "/messages"), "{flags}: {json:#}");
        assert_eq!(sum("/latency_us/samples"), number(&json, "/latency_us/samples"), "{flags}");
        assert!((sum("/measured_s") - 1.2).abs() < 1e-9, "{flags}: {json:#}");
        if flags == "--rate 500" {
            assert!((599.0..=601.0).contains(&sum("/latency_us/samples")), "{json:#}");
        }
        for row in ["rate, lowest of 3 rounds", "latency p99, median"] {
            assert!(done.stderr.contains(row), "{row}: {}", done.stderr);
        }
    }
}

#[test]
fn a_rate_beyond_the_server_is_a_warning_and_no_error() {
    // The first message is not answered, so with a pipeline of one no other is sent.
    let (server, url) = odd_server();
    let line = "load -c 1 --rate 1000 --pipeline 1 --duration 300ms --warmup 0 \
                --drain-timeout 50ms --json -";
    let done = run(line, &format!("{url}/drop"));
    assert_eq!(done.code, 1, "{}", done.stderr);
    let json = done.json();
    assert_eq!(number(&json, "/unsent"), 299.0);
    assert_eq!(number(&json, "/errors"), 1.0, "{json:#}");
    assert!(json["warnings"][0].as_str().unwrap().contains("the rate was not reached"));
    // The stall is visible: a message that waited 300 ms has that latency.
    assert!(number(&json, "/latency_us/max") > 290_000.0);
    server.stop().unwrap();
}

#[test]
fn the_page_and_the_file_are_written() {
    let echo = Echo::start();
    let folder = std::env::temp_dir().join(format!("picows-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, html) = (folder.join("a.json"), folder.join("a.html"));
    let line = format!(
        "load -c 2 --duration 200ms --warmup 0 --json {} --html {}",
        file.display(),
        html.display()
    );
    let (done, json) = measure_into(&line, &echo.url, |_| {
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap()
    });
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("latency p99.9"), "{}", done.stdout);
    assert!(number(&json, "/messages") > 0.0);
    let page = std::fs::read_to_string(html).unwrap();
    assert_eq!(page.matches("</svg>").count(), 2);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn each_kind_of_wrong_echo_is_counted_and_status_1() {
    let (server, url) = odd_server();
    for (way, kind) in [
        ("corrupt", "wrong_content"),
        ("type", "wrong_type"),
        ("length", "wrong_length"),
        ("twice", "unexpected"),
        ("drop", "missing"),
        ("vanish", "lost_connections"),
        ("close", "lost_connections"),
    ] {
        for flags in ["--pipeline 1", "--pipeline 4", "--pipeline 4 --dedicated"] {
            // Only an echo that does not come is not waited for.
            let drain = if way == "drop" { "100ms" } else { "60s" };
            let line = format!(
                "load -c 2 {flags} --duration 500ms --warmup 0 --drain-timeout {drain} --json -"
            );
            let done = run(&line, &format!("{url}/{way}"));
            assert_eq!(done.code, 1, "{way}: {}", done.stderr);
            assert!(done.stderr.contains("error: "), "{way}: {}", done.stderr);
            let json = done.json();
            assert_eq!(number(&json, &format!("/errors_by_kind/{kind}")), 2.0, "{way}: {json:#}");
            if kind != "lost_connections" {
                assert_eq!(number(&json, "/errors"), 2.0, "{way}: {json:#}");
            }
            assert!(json["first_error"].as_str().unwrap().starts_with("connection "), "{way}");
        }
    }
    server.stop().unwrap();
}

#[test]
fn messages_that_the_server_refuses_are_reported_with_the_cure() {
    let echo = Echo::with("--max-frame-size 1000");
    for line in ["load -c 1", "rtt", "rtt --dedicated"] {
        let done = run(&format!("{line} --size 2000 --duration 10s --warmup 0"), &echo.url);
        assert_eq!(done.code, 1, "{line}: {}", done.stderr);
        for part in ["(1009): ", "a smaller --size", "--max-frame-size"] {
            assert!(done.stderr.contains(part), "{line}: {}", done.stderr);
        }
    }
}

#[test]
fn fragments_and_greetings_are_no_errors() {
    let (server, url) = odd_server();
    for way in ["fragments", "greet"] {
        let line = "load -c 2 --duration 200ms --warmup 0 --pipeline 2 --text --json -";
        let (done, _) = measure(line, &format!("{url}/{way}"));
        assert_eq!(done.code, 0, "{way}: {}", done.stderr);
    }
    server.stop().unwrap();
}

#[test]
fn without_a_connection_the_cause_is_reported() {
    let (server, url) = odd_server();
    for line in ["load", "load --dedicated --threads 2"] {
        let done = run(&format!("{line} --duration 200ms -c 3"), &format!("{url}/refuse"));
        assert_eq!(done.code, 1);
        assert!(
            done.stderr.contains("404") && done.stderr.contains("cannot connect"),
            "{line}: {}",
            done.stderr
        );
    }
    server.stop().unwrap();
    let (_unheard, address) = unheard();
    let done = run("load --duration 200ms -c 3", &format!("ws://{address}/"));
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("nothing listens"), "{}", done.stderr);
}

#[test]
fn a_connection_that_is_refused_is_counted_and_the_others_measured() {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).max_connections(1);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    for flags in ["", "--dedicated", "--dedicated --threads 2"] {
        let line = format!("load -c 2 --duration 200ms --warmup 0 --json - {flags}");
        let (done, json) = measure(&line, &url);
        assert_eq!(done.code, 1, "{flags}");
        assert_eq!(number(&json, "/errors_by_kind/failed_connections"), 1.0, "{flags}: {json:#}");
        assert_eq!(number(&json, "/errors"), 1.0, "{flags}: {json:#}");
    }
    server.stop().unwrap();
}

#[test]
fn a_wrong_command_line_is_status_2() {
    for (line, word) in [
        ("load --dedicated --rate 10", "--rate with --dedicated"),
        ("load --threads 2 --connections 1", "--threads"),
        ("load --size much", "much"),
        ("load --server-pid 4294967295", "--server-pid"),
        ("load --rate -5", "-5"),
    ] {
        let done = run(line, "ws://127.0.0.1:1/");
        assert_eq!(done.code, 2, "{line}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{line}: {}", done.stderr);
    }
    for command in ["load", "rtt", "connect"] {
        let without_tls = (!cfg!(feature = "tls")).then_some("wss://127.0.0.1:1/");
        for url in ["http://127.0.0.1:1/"].into_iter().chain(without_tls) {
            assert_eq!(run(command, url).code, 2, "{command} {url}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_is_reported_before_the_measurement() {
    let done = run("load --json /no/such/folder/a.json --duration 1h", "ws://127.0.0.1:1/");
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("/no/such/folder/a.json"), "{}", done.stderr);
}

#[test]
fn spinning_and_dedicated_servers_echo() {
    for flags in ["--busy-poll 100us", "--dedicated", "--dedicated --busy-poll always"] {
        let echo = Echo::with(flags);
        let done = run("load -c 4 --duration 200ms --warmup 0 --busy-poll 100us", &echo.url);
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
    }
}
