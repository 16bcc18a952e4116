//! The report as a table of text.

use super::Report;
use std::fmt::Write;

/// Renders the table: a heading, and a line for each figure.
pub(super) fn render(report: &Report) -> String {
    let mut text = heading(report) + "\n\n";
    for (name, value) in rows(report) {
        let _ = writeln!(text, "  {name:<22}{value:>16}");
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
    let pace = settings.rate_per_s.map_or_else(
        || format!("{} in flight on each", settings.pipeline),
        |rate| format!("{rate} messages/s in total"),
    );
    format!(
        "picows {} {}: {}, {pace}, {} B {}, {}, {} s",
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
    if report.has_shares() {
        rows.push(("client CPU".to_owned(), format!("{:.2} cores", report.client_cpu_share)));
        let server = report.server_cpu_share.map(|share| format!("{share:.2} cores"));
        rows.extend(server.map(|value| ("server CPU".to_owned(), value)));
    }
    let each = report.server_cpu_us_per_message.map(|time| format!("{time:.3} µs"));
    rows.extend(each.map(|value| ("server CPU a message".to_owned(), value)));
    rows.push(("errors".to_owned(), grouped(report.errors)));
    rows
}

/// Formats a time with a suitable unit.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        ..1e3 => format!("{micros:.1} µs"),
        ..1e6 => format!("{:.2} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// Formats a number with separated thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::report_of;
    use super::*;
    use crate::measure::tests::plan;

    #[test]
    fn numbers_are_written_for_people() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567"), (10_000, "10 000")]
        {
            assert_eq!(grouped(number), text);
        }
        for (micros, text) in [(8.25, "8.2 µs"), (1234.0, "1.23 ms"), (2_500_000.0, "2.50 s")] {
            assert_eq!(time(micros), text);
        }
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
