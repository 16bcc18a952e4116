//! The report as a table of text.

use super::parts::RoundFigures;
use super::{Report, StageFigures, median};
use crate::units::{grouped, time};
use std::fmt::Write;

/// Renders the table: a heading, and a line for each figure.
pub(super) fn render(report: &Report) -> String {
    let mut text = heading(report) + "\n\n";
    let rows = rows(report);
    let width = rows.iter().map(|(name, _)| name.chars().count() + 2).fold(22, usize::max);
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<width$}{value:>16}");
    }
    for verdict in &report.thresholds {
        let outcome = if verdict.failed { "missed" } else { "met" };
        let _ = writeln!(text, "\n{outcome}: {}", verdict.describe());
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    text
}

/// Formats the settings of the run as one line.
pub(super) fn heading(report: &Report) -> String {
    let settings = &report.settings;
    let plural = |count: usize, noun: &str| {
        let ending = if count == 1 { "" } else { "s" };
        format!("{count} {noun}{ending}")
    };
    let noun = if report.mode == "churn" { "connections" } else { "messages" };
    let pace = match settings.rate_per_s {
        Some(rate) => format!("{rate} {noun}/s in total"),
        None if !report.stages.is_empty() => plural(report.stages.len(), "stage"),
        None if report.mode == "churn" => "one behind the other on each".to_owned(),
        None => format!("{} in flight on each", settings.pipeline),
    };
    let mode =
        if report.mode == "echo" { String::new() } else { format!(" --mode {}", report.mode) };
    if report.mode == "idle" {
        let connections = plural(settings.connections, "connection");
        let threads = plural(settings.threads, "thread");
        return format!(
            "picows load{mode} {}: {connections}, {threads}, {} s",
            report.url, report.measured_s
        );
    }
    format!(
        "picows {}{mode} {}: {}, {pace}, {} B {}, {}, {} s",
        report.command,
        report.url,
        plural(settings.connections, "connection"),
        settings.size_bytes,
        settings.message_type,
        plural(settings.threads, "thread"),
        report.measured_s,
    )
}

/// Returns the figures, each with its name.
pub(super) fn rows(report: &Report) -> Vec<(String, String)> {
    let latency = &report.latency_us;
    let noun = if report.command == "rtt" { "round trips" } else { "messages" };
    if report.mode == "idle" {
        return rows_of_idle(report);
    }
    let noun = if report.mode == "churn" { "connections" } else { noun };
    let mut rows = vec![
        (noun.to_owned(), grouped(report.messages)),
        ("rate".to_owned(), format!("{} /s", grouped(report.rate_per_s.round() as u64))),
        ("throughput".to_owned(), format!("{:.1} MB/s", report.mb_per_s)),
    ];
    for (name, value) in [
        ("p50", latency.p50),
        ("p90", latency.p90),
        ("p99", latency.p99),
        ("p99.9", latency.p99_9),
        ("max", latency.max),
    ] {
        rows.push((format!("latency {name}"), time(value)));
    }
    if let Some(delay) = &report.send_delay_us {
        rows.push(("send delay p50".to_owned(), time(delay.p50)));
        rows.push(("send delay p99".to_owned(), time(delay.p99)));
    }
    if report.mode == "churn" {
        rows.extend(connect_rows(report));
    }
    if let Some(slow) = &report.slow {
        rows.push(("slow connections".to_owned(), slow.describe()));
        rows.extend(memory_rows(report));
    }
    rows.extend(shares(report));
    let each = report.server_cpu_us_per_message.map(|time| format!("{time:.3} µs"));
    let what = if report.mode == "churn" { "connection" } else { "message" };
    rows.extend(each.map(|value| (format!("server CPU a {what}"), value)));
    rows.push(("errors".to_owned(), grouped(report.errors)));
    rows.extend(stage_rows(&report.stages));
    rows.extend(round_rows(&report.rounds, what));
    rows
}

/// A figure of a round, and how it is shown.
type OfRound = (fn(&RoundFigures) -> Option<f64>, fn(f64) -> String);

/// Returns the lowest and the median of the main figures of all rounds.
fn round_rows(rounds: &[RoundFigures], what: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let cpu = format!("server CPU a {what}");
    let figures: [(&str, OfRound); 4] = [
        ("rate", (|it| Some(it.rate_per_s), |rate| format!("{} /s", grouped(rate.round() as u64)))),
        ("latency p50", (|it| Some(it.latency_us.p50), time)),
        ("latency p99", (|it| Some(it.latency_us.p99), time)),
        (&cpu, (|it| it.server_cpu_us_per_message, |time| format!("{time:.3} µs"))),
    ];
    for (name, (value, show)) in figures {
        let values: Vec<f64> = rounds.iter().filter_map(value).collect();
        let Some(lowest) = values.iter().copied().reduce(f64::min) else { continue };
        rows.push((format!("{name}, lowest of {} rounds", values.len()), show(lowest)));
        rows.push((format!("{name}, median"), show(median(&values))));
    }
    rows
}

/// Returns the latencies of each stage of a rate.
pub(crate) fn stage_rows(stages: &[StageFigures]) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (number, stage) in stages.iter().enumerate() {
        let latency = &stage.latency_us;
        let target = grouped(stage.rate_per_s.round() as u64);
        let name = format!("stage {}, to {target} /s", number + 1);
        rows.push((format!("{name}, p50"), time(latency.p50)));
        rows.push((format!("{name}, p99"), time(latency.p99)));
    }
    rows
}

/// Returns the figures of connections that stay open.
fn rows_of_idle(report: &Report) -> Vec<(String, String)> {
    let mut rows = vec![("connections open".to_owned(), grouped(report.open_connections))];
    rows.extend(connect_rows(report));
    rows.extend(memory_rows(report));
    rows.extend(shares(report));
    rows.push(("errors".to_owned(), grouped(report.errors)));
    rows
}

fn connect_rows(report: &Report) -> Vec<(String, String)> {
    let connect = &report.connect_us;
    [("p50", connect.p50), ("p99", connect.p99), ("max", connect.max)]
        .map(|(name, value)| (format!("connecting {name}"), time(value)))
        .to_vec()
}

fn memory_rows(report: &Report) -> Vec<(String, String)> {
    let Some(memory) = &report.server_memory else { return Vec::new() };
    let mut rows = vec![
        ("server memory before".to_owned(), format!("{} B", grouped(memory.before_bytes))),
        ("server memory after".to_owned(), format!("{} B", grouped(memory.after_bytes))),
    ];
    let each =
        memory.bytes_per_connection.map(|bytes| format!("{} B", grouped(bytes.round() as u64)));
    rows.extend(each.map(|value| ("memory a connection".to_owned(), value)));
    rows
}

fn shares(report: &Report) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    if report.has_shares() {
        rows.push(("client CPU".to_owned(), format!("{:.2} cores", report.client_cpu_share)));
        let server = report.server_cpu_share.map(|share| format!("{share:.2} cores"));
        rows.extend(server.map(|value| ("server CPU".to_owned(), value)));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::tests::report_of;
    use super::*;
    use crate::measure::tests::plan;
    use crate::measure::{LoadPlan, Mode, Shape, histogram};
    use crate::report::Spread;

    #[test]
    fn each_mode_has_figures_of_its_own() {
        let of = |mode| {
            let plan = LoadPlan { shape: Shape { mode, ..Shape::default() }, ..plan() };
            render(&report_of(&plan, 1000))
        };
        for (mode, has, has_not) in [
            (Mode::Churn, "server CPU a connection", "server CPU a message"),
            (Mode::Churn, "one behind the other on each", "in flight"),
            (Mode::Idle, "connections open", "latency p50"),
            (Mode::Slow, "slow connections", "connections open"),
            (Mode::Echo, "server CPU a message", "connecting p50"),
        ] {
            let text = of(mode);
            assert!(text.contains(has) && !text.contains(has_not), "{mode}: {has}: {text}");
        }
    }

    #[test]
    fn rounds_have_the_lowest_and_the_median() {
        let round = |rate: f64| RoundFigures {
            measured_s: 1.0,
            messages: 5,
            rate_per_s: rate,
            mb_per_s: 0.0,
            latency_us: Spread { p50: rate / 10.0, ..Spread::new(&histogram()) },
            client_cpu_share: 0.5,
            server_cpu_share: None,
            server_cpu_us_per_message: None,
        };
        let mut report = report_of(&plan(), 1000);
        report.rounds = [30_000.0, 10_000.0, 20_000.0, 50_000.0].map(round).into();
        let text = render(&report);
        let has = |name: &str, value: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name));
            line.is_some_and(|line| line.ends_with(value))
        };
        assert!(has("rate, lowest of 4 rounds", &format!(" {} /s", grouped(10_000))), "{text}");
        assert!(has("rate, median", &format!(" {} /s", grouped(25_000))), "{text}");
        assert!(has("latency p50, lowest of 4 rounds", " 1.00 ms"), "{text}");
        assert!(!text.contains("server CPU a message, "), "it was not measured: {text}");
        let widths = text.lines().skip(1).map(|line| line.chars().count());
        assert!(widths.max() <= Some(80), "{text}");
    }

    #[test]
    fn the_table_shows_the_main_figures() {
        let text = render(&report_of(&plan(), 1000));
        for word in ["rate", "100 /s", "p99.9", "server CPU a message", "errors", "client CPU"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(text.starts_with("picows load ws://127.0.0.1:9001/: 2 connections, "), "{text}");
    }
}
