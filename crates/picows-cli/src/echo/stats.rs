//! Counters of the echo server, as text and as JSON.

use super::Service;
use crate::stdio;
use picows_uring::{Driver, Monitor, Stats, WorkerState};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The name of the driver, which is the same for all workers.
pub(super) fn driver(monitor: &Monitor) -> &'static str {
    monitor.workers().next().map_or(Driver::Auto, |worker| worker.driver).name()
}

/// Formats the rates between two readings as one line.
pub(super) fn progress(before: &Stats, now: &Stats, every: Duration) -> String {
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / every.as_secs_f64();
    let mut line = format!(
        "connections {} (accepted {}, refused {}), frames/s in {:.0} out {:.0}, MB/s in {:.1} out \
         {:.1}, turns/s {:.0}, sleeps/s {:.0}, ring enters/s {:.0}, buffer shortages {}, \
         protocol errors {}",
        now.connections,
        now.accepted,
        now.refused,
        rate(before.frames_received, now.frames_received),
        rate(before.frames_sent, now.frames_sent),
        rate(before.bytes_received, now.bytes_received) / 1e6,
        rate(before.bytes_sent, now.bytes_sent) / 1e6,
        rate(before.turns, now.turns),
        rate(before.sleeps, now.sleeps),
        rate(before.ring_enters, now.ring_enters),
        now.buffer_shortages,
        now.protocol_errors,
    );
    line += &rare_counters(now);
    line
}

/// Formats the totals as one line.
pub(super) fn summary(stats: &Stats, time: Duration) -> String {
    let mut line = format!(
        "served {} connections in {}: {} frames and {:.1} MB received, {} frames and {:.1} MB \
         sent, {} refused, {} protocol errors",
        stats.upgraded,
        humantime::format_duration(Duration::from_millis(time.as_millis() as u64)),
        stats.frames_received,
        stats.bytes_received as f64 / 1e6,
        stats.frames_sent,
        stats.bytes_sent as f64 / 1e6,
        stats.refused,
        stats.protocol_errors,
    );
    line += &rare_counters(stats);
    line
}

/// Formats the rare counters, those that are not 0.
fn rare_counters(stats: &Stats) -> String {
    let mut text = String::new();
    for (count, what) in [
        (stats.refused_by_address, "refused by address"),
        (stats.refused_by_handshakes, "refused by handshakes"),
        (stats.refused_by_memory, "refused by memory"),
        (stats.memory_evictions, "ended for their memory"),
        (stats.allocation_failures, "allocation failures"),
        (stats.message_timeouts, "messages too slow"),
        (stats.write_stalls, "write stalls"),
        (stats.accept_pauses, "accept pauses"),
        (stats.listener_errors, "listener errors"),
        (stats.task_panics, "task panics"),
        (stats.stray_panics, "stray panics"),
        (stats.frames_dropped, "frames dropped"),
        (stats.slow_turns, "slow turns"),
    ] {
        if count > 0 {
            text += &format!(", {what} {count}");
        }
    }
    if stats.slow_turns > 0 {
        text += &format!(" (longest {:.1?})", Duration::from_micros(stats.longest_turn_micros));
    }
    text
}

/// Prints all counters, of the server and of each worker, as one line on standard output.
pub(super) fn print_json(monitor: &Monitor, time: Duration, service: &impl Service) {
    let mut json = to_json(monitor, time);
    service.add_counters(&mut json);
    json["lines_dropped"] = json!(stdio::out().dropped_lines());
    stdio::out().line(&json.to_string());
}

fn to_json(monitor: &Monitor, time: Duration) -> Value {
    let mut total = counters(&monitor.stats());
    total.insert("driver".into(), json!(driver(monitor)));
    total.insert("seconds".into(), json!(time.as_secs_f64()));
    let workers = monitor.workers().map(|worker| {
        let (state, fault) = match worker.state {
            WorkerState::Running => ("running", None),
            WorkerState::Failed(fault) => ("failed", Some(fault)),
            _ => ("ended", None),
        };
        let mut counters = counters(&worker.stats);
        counters.insert("worker".into(), json!(worker.number));
        counters.insert("driver".into(), json!(worker.driver.name()));
        counters.insert("restricted".into(), json!(worker.is_restricted));
        counters.insert("state".into(), json!(state));
        if let Some(fault) = fault {
            counters.insert("fault".into(), json!(fault));
        }
        let turn_micros = worker.turn_time.map_or(0, |time| time.as_micros() as u64);
        counters.insert("turn_micros".into(), json!(turn_micros));
        Value::Object(counters)
    });
    total.insert("workers".into(), workers.collect());
    Value::Object(total)
}

fn counters(stats: &Stats) -> Map<String, Value> {
    stats.iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use picows_uring::{EchoListener, Server, Upgrade};

    #[test]
    fn rates_are_those_of_the_interval() {
        let mut now = Stats::default();
        now.frames_received = 3000;
        now.bytes_sent = 5_000_000;
        now.connections = 7;
        let line = progress(&Stats::default(), &now, Duration::from_millis(500));
        assert!(line.starts_with("connections 7 (accepted 0, refused 0), frames/s in 6000 out 0"));
        assert!(
            line.contains("MB/s in 0.0 out 10.0") && line.ends_with("protocol errors 0"),
            "{line}"
        );
        now.slow_turns = 2;
        now.longest_turn_micros = 1_250_000;
        now.refused_by_address = 4;
        let line = summary(&now, Duration::from_secs(90));
        assert!(line.starts_with("served 0 connections in 1m 30s: 3000 frames"), "{line}");
        let troubles = "refused by address 4, slow turns 2 (longest 1.2s)";
        assert!(line.ends_with(troubles) || line.ends_with("(longest 1.3s)"), "{line}");
    }

    #[test]
    fn json_has_every_counter_of_the_server_and_of_each_worker() {
        let builder = Server::builder().listen("127.0.0.1:0").workers(2).driver(Driver::Epoll);
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let monitor = server.monitor();
        server.stop().unwrap();
        let json = to_json(&monitor, Duration::from_secs(2));
        assert_eq!(json["seconds"], 2.0);
        let workers = json["workers"].as_array().unwrap();
        assert_eq!((workers.len(), &json["driver"]), (2, &json!("epoll")));
        assert!(workers.iter().all(|worker| worker["driver"] == "epoll"), "{json}");
        assert!(workers.iter().all(|worker| worker["restricted"] == false), "{json}");
        for (name, count) in monitor.stats().iter() {
            assert_eq!(json[name], count, "{name}");
            assert!(workers.iter().all(|worker| worker[name].is_u64()), "{name}");
        }
        assert_eq!((&workers[1]["worker"], &workers[1]["state"]), (&json!(1), &json!("ended")));
    }
}
