//! `picows rtt` against `picows echo`, and against faulty servers.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Echo, measure, odd_server, run};

#[test]
fn round_trips_are_counted_under_the_names_of_load() {
    let echo = Echo::start();
    for flags in
        ["", "--busy-poll 50us", "--size 64KiB", "--dedicated", "--dedicated --busy-poll always"]
    {
        let line = format!("rtt --duration 200ms --warmup 0 --json - {flags}");
        let (done, json) = measure(&line, &echo.url);
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        assert!(done.stderr.contains("round trips"), "{}", done.stderr);
        assert_eq!(json["command"], "rtt");
        assert_eq!(json["settings"]["connections"], 1);
        assert_eq!(json["settings"]["dedicated"], flags.contains("--dedicated"));
        assert_eq!(json["errors"], 0);
        assert!(json["rate_per_s"].as_f64().unwrap() > 0.0);
        for name in ["p50", "p90", "p99", "p99.9", "max"] {
            assert!(json["latency_us"][name].as_f64().unwrap() > 0.0, "{name}");
        }
    }
}

#[test]
fn a_wrong_echo_is_status_1() {
    let (server, url) = odd_server();
    for line in ["rtt", "rtt --dedicated"] {
        let line = format!("{line} --duration 200ms --warmup 0");
        let done = run(&line, &format!("{url}/corrupt"));
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(done.stderr.contains("echoes of the wrong content: 1;"), "{}", done.stderr);
    }
    server.stop().unwrap();
}
