//! Report of a measurement: figures with their units, and their output.
//!
//! The names here are those of the JSON file, which other programs read: a change of one needs a
//! line in CHANGELOG.md.

mod chart;
pub(crate) mod hdr;
pub(crate) mod html;
mod latency;
mod parts;
mod table;

use latency::curve;
pub(crate) use latency::{Point, Spread};
pub(crate) use parts::StageFigures;
use parts::{PartFigures, RoundFigures, ServerMemory, Slow};
pub(crate) use table::stage_rows;

use crate::fault::{Fault, Missed};
use crate::measure::{Errors, LoadPlan, Measurement, Mode};
use crate::signals::{Interrupted, Signal};
use crate::stdio::{self, note};
use crate::threshold::{Threshold, Verdict};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The command: `load` or `rtt`.
    pub(crate) command: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) version: &'static str,
    pub(crate) url: String,
    pub(crate) settings: Settings,
    /// Length of the window of the figures.
    pub(crate) measured_s: f64,
    /// The signal that ended it early, such as `SIGINT`; `null` if none did.
    pub(crate) interrupted: Option<&'static str>,
    /// Right echoes within it.
    pub(crate) messages: u64,
    pub(crate) rate_per_s: f64,
    /// Payload, one way, in millions of bytes.
    pub(crate) mb_per_s: f64,
    /// From the time of sending (with a rate: the intended time) to the echo.
    pub(crate) latency_us: Spread,
    /// From the intended time of sending to the actual time; with a rate only.
    pub(crate) send_delay_us: Option<Spread>,
    /// Messages of the schedule that were due and still unsent at the end of the window; with a
    /// rate only.
    pub(crate) unsent: Option<u64>,
    /// From the first packet of a connection to the end of its handshake.
    pub(crate) connect_us: Spread,
    /// Connections that were open at the end; those of `slow` are not in it.
    pub(crate) open_connections: u64,
    /// With the process of the server only.
    pub(crate) server_memory: Option<ServerMemory>,
    /// Slow connections; of a load with some only.
    pub(crate) slow: Option<Slow>,
    /// Stages of the rate, if it had any.
    pub(crate) stages: Vec<StageFigures>,
    /// Rounds of the window that are complete; empty for one.
    pub(crate) rounds: Vec<RoundFigures>,
    /// Latencies of the parts of the window, one behind the other.
    pub(crate) parts: Vec<PartFigures>,
    /// Processor time of this process divided by time: 1 is a whole core.
    pub(crate) client_cpu_share: f64,
    pub(crate) client_cpu_us_per_message: Option<f64>,
    pub(crate) server_cpu_share: Option<f64>,
    pub(crate) server_cpu_us_per_message: Option<f64>,
    /// Errors of all kinds, in the whole run.
    pub(crate) errors: u64,
    pub(crate) errors_by_kind: Errors,
    pub(crate) first_error: Option<String>,
    pub(crate) warnings: Vec<String>,
    /// Those of `--fail-if`.
    pub(crate) thresholds: Vec<Verdict>,
    pub(crate) throughput: Throughput,
    pub(crate) latency_by_percentile: Vec<Point>,
}

/// Settings of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) size_bytes: usize,
    pub(crate) message_type: &'static str,
    pub(crate) pipeline: usize,
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
    /// Equal parts of the duration.
    pub(crate) rounds: u32,
    /// `null` for `always`.
    pub(crate) busy_poll_us: Option<f64>,
    pub(crate) dedicated: bool,
}

/// Messages per second over the window.
#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) interval_s: f64,
    pub(crate) rate_per_s: Vec<f64>,
}

/// Files for the results besides the table.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
    /// An HdrHistogram log.
    pub(crate) hdr: Option<PathBuf>,
    pub(crate) fail_if: Vec<Threshold>,
}

impl Report {
    pub(crate) fn new(command: &'static str, plan: &LoadPlan, measured: &Measurement) -> Self {
        let tally = &measured.tally;
        let seconds = measured.duration.as_secs_f64();
        let per_message = |time: Duration| {
            (tally.messages > 0).then(|| round(time.as_secs_f64() * 1e6 / tally.messages as f64))
        };
        let rate = ratio(tally.messages as f64, seconds);
        let is_scheduled = plan.is_open_loop();
        let open = open_connections(plan, tally.errors);
        let bytes_each = bytes_each(plan);
        let mut report = Self {
            command,
            mode: plan.shape.mode.name(),
            version: env!("CARGO_PKG_VERSION"),
            url: plan.url.clone(),
            settings: Settings::new(plan),
            measured_s: round(seconds),
            interrupted: measured.interrupted.map(Signal::name),
            messages: tally.messages,
            rate_per_s: round(rate),
            mb_per_s: round(rate * bytes_each / 1e6),
            latency_us: Spread::new(&tally.latencies),
            send_delay_us: is_scheduled.then(|| Spread::new(&tally.send_delays)),
            unsent: is_scheduled.then_some(tally.unsent),
            connect_us: Spread::new(&tally.connects),
            open_connections: open,
            server_memory: parts::server_memory(measured, open),
            slow: plan.is(Mode::Slow).then(|| Slow::new(&tally.slow)),
            stages: parts::stages(plan, measured),
            rounds: parts::rounds(plan, measured),
            parts: parts::parts(measured),
            client_cpu_share: round(ratio(measured.client_cpu.as_secs_f64(), seconds)),
            client_cpu_us_per_message: per_message(measured.client_cpu),
            server_cpu_share: measured.server_cpu.map(|it| round(ratio(it.as_secs_f64(), seconds))),
            server_cpu_us_per_message: measured.server_cpu.and_then(per_message),
            errors: tally.errors.total(),
            errors_by_kind: tally.errors,
            first_error: tally.first_error.clone(),
            warnings: Vec::new(),
            thresholds: Vec::new(),
            throughput: Throughput::new(measured),
            latency_by_percentile: curve(&tally.latencies),
        };
        report.warn(plan);
        report.warn_of_uncompressed(tally.uncompressed);
        report
    }

    /// Whether the window was long enough for shares of its time to mean something: work at its
    /// ends counts, too, such as the end of the threads when all connections were lost.
    fn has_shares(&self) -> bool {
        self.measured_s >= SHARE_WINDOW_S_MIN
    }

    /// Adds warnings of circumstances that change the meaning of the figures.
    fn warn(&mut self, plan: &LoadPlan) {
        if let Some(signal) = self.interrupted {
            let planned = plan.duration.as_secs_f64();
            self.warnings.push(format!(
                "interrupted by {signal} after {} s of {planned} s",
                self.measured_s
            ));
        }
        let threads = plan.threads as f64;
        let is_busy = self.has_shares() && self.client_cpu_share >= BOTTLENECK_SHARE * threads;
        // With a rate, a busy client that sends in time delays no message.
        let is_short = |rate| self.rate_per_s < RATE_MET_SHARE * rate;
        let is_late = !plan.is_open_loop()
            || self.unsent.is_some_and(|count| count > 0)
            || plan.rate_per_s.is_some_and(is_short);
        // A client that spins is always busy.
        if plan.busy_poll.is_zero() && is_busy && is_late {
            let cure = if plan.threads < plan.connections {
                "give it more --threads, or another machine"
            } else {
                "give it a faster machine"
            };
            self.warnings.push(format!(
                "the client was the bottleneck: it used {:.2} of the {} cores that its threads can \
                 use, so the server may be faster than this; {cure}",
                self.client_cpu_share, plan.threads
            ));
        }
        if let Some(unsent @ 1..) = self.unsent {
            self.warnings.push(format!(
                "the rate was not reached: {unsent} messages were due and could not be sent; their \
                 latencies count as what they had waited at the end"
            ));
        }
        if self.messages == 0 && !plan.is(Mode::Idle) {
            let what = if plan.is(Mode::Churn) { "connection ended" } else { "echo arrived" };
            self.warnings.push(format!("no {what} within the window"));
        }
    }

    fn warn_of_uncompressed(&mut self, count: u64) {
        if count > 0 {
            self.warnings.push(format!(
                "{count} of {} connections are not compressed: the server declined \
                 permessage-deflate as --deflate offers it",
                self.settings.connections
            ));
        }
    }

    /// Writes the table to standard output, or to standard error if JSON is written there, and the
    /// files.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, there were errors in the run, or a signal ended it.
    pub(crate) fn publish(
        mut self,
        outputs: &Outputs,
        interrupted: Option<Signal>,
    ) -> Result<(), Fault> {
        self.thresholds = outputs.check_thresholds(&serde_json::to_value(&self)?);
        let json = serde_json::to_string_pretty(&self)? + "\n";
        if let Some(path) = &outputs.html {
            write(path, &html::render(&self))?;
        }
        let first = self.first_error.as_deref().unwrap_or("unknown");
        let errors = format!("{}; the first: {first}", self.errors_by_kind);
        let errors = (self.errors > 0 && outputs.do_errors_fail()).then_some(errors);
        let outcome = Outcome { interrupted, errors, missed: missed(&self.thresholds) };
        publish(outputs, &table::render(&self), &json, outcome)
    }
}

/// Payload of what a load counts, one way.
fn bytes_each(plan: &LoadPlan) -> f64 {
    let messages = if plan.is(Mode::Churn) { f64::from(plan.shape.messages) } else { 1.0 };
    plan.size_bytes as f64 * messages
}

/// Connections of a load that were open at its end.
fn open_connections(plan: &LoadPlan, errors: Errors) -> u64 {
    let planned = if plan.is(Mode::Churn) { 0 } else { plan.connections as u64 };
    planned.saturating_sub(errors.failed_connections + errors.lost_connections)
}

/// What a run ended with, besides its figures.
pub(crate) struct Outcome {
    pub(crate) interrupted: Option<Signal>,
    /// What went wrong in it.
    pub(crate) errors: Option<String>,
    /// Thresholds that were missed.
    pub(crate) missed: Option<String>,
}

/// Writes table and JSON, and returns what the run ended with.
///
/// # Errors
///
/// When the file cannot be written, there were errors in the run, or a signal ended it.
pub(crate) fn publish(
    outputs: &Outputs,
    table: &str,
    json: &str,
    outcome: Outcome,
) -> Result<(), Fault> {
    write_report(outputs, table, json)?;
    let Outcome { interrupted, errors, missed } = outcome;
    // The first of them decides on the exit status; all are reported.
    let mut faults: Vec<Fault> = Vec::new();
    faults.extend(interrupted.map(|signal| Interrupted(signal).into()));
    faults.extend(errors.map(Into::into));
    faults.extend(missed.map(|missed| Missed(missed).into()));
    let mut faults = faults.into_iter();
    let first = faults.next();
    for other in faults {
        note(format_args!("error: {other}"));
    }
    first.map_or(Ok(()), Err)
}

/// Returns the thresholds that were missed, as one line.
pub(crate) fn missed(verdicts: &[Verdict]) -> Option<String> {
    let missed: Vec<_> = verdicts.iter().filter(|it| it.failed).map(Verdict::describe).collect();
    (!missed.is_empty()).then(|| format!("--fail-if {}", missed.join("; ")))
}

/// Writes a table to standard output, or to standard error if JSON is written there, and the JSON file.
///
/// # Errors
///
/// When the file cannot be written.
pub(crate) fn write_report(outputs: &Outputs, table: &str, json: &str) -> Result<(), Fault> {
    let is_piped = outputs.json.as_deref() == Some(Path::new("-"));
    // Failed writes are reported at the end.
    let print = |text: &str| {
        let _ = stdio::out().write(|queue| queue.extend_from_slice(text.as_bytes()));
    };
    if is_piped {
        stdio::note_text(table);
    } else {
        print(table);
    }
    match &outputs.json {
        Some(_) if is_piped => print(json),
        Some(path) => write(path, json)?,
        None => {}
    }
    Ok(())
}

impl Outputs {
    /// Checks the thresholds against a report.
    pub(crate) fn check_thresholds(&self, report: &serde_json::Value) -> Vec<Verdict> {
        self.fail_if.iter().map(|threshold| threshold.check(report)).collect()
    }

    /// Whether errors fail a run by themselves: not where a threshold says how many do.
    pub(crate) fn do_errors_fail(&self) -> bool {
        !self.fail_if.iter().any(Threshold::is_of_errors)
    }

    /// Checks that the files can be written, before the measurement.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        for path in self.json.iter().chain(&self.html).chain(&self.hdr) {
            if path.as_os_str() != "-" {
                std::fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|error| cannot_write(path, &error))?;
            }
        }
        Ok(())
    }
}

impl Settings {
    fn new(plan: &LoadPlan) -> Self {
        let is_forever = plan.busy_poll == Duration::MAX;
        Self {
            connections: plan.connections,
            threads: plan.threads,
            size_bytes: plan.size_bytes,
            message_type: if plan.is_text { "text" } else { "binary" },
            pipeline: plan.pipeline,
            rate_per_s: plan.rate_per_s,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
            rounds: plan.rounds,
            busy_poll_us: (!is_forever).then_some(plan.busy_poll.as_secs_f64() * 1e6),
            dedicated: plan.is_dedicated,
        }
    }
}

impl Throughput {
    fn new(measured: &Measurement) -> Self {
        let (bin, total) = (measured.bin.as_secs_f64(), measured.duration.as_secs_f64());
        let counts = measured.tally.by_time.iter().enumerate();
        let rates = counts.map_while(|(index, count)| {
            // The last interval may be shorter.
            let length = (total - index as f64 * bin).min(bin);
            (length > bin / 2.0 || index == 0).then(|| round(ratio(*count as f64, length)))
        });
        Self { interval_s: bin, rate_per_s: rates.collect() }
    }
}

/// Rounds to thousandths: more digits are noise.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Returns the middle of the values; 0 without any.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) && middle > 0 {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values.get(middle).copied().unwrap_or(0.0)
    }
}

/// Divides, with a result that JSON can represent.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Fault> {
    std::fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Fault {
    format!("cannot write {}: {error}", path.display()).into()
}

/// Share of the usable cores from which a client counts as busy: the rest is time to wake up.
const BOTTLENECK_SHARE: f64 = 0.9;
/// Share of the requested rate below which the rate counts as missed.
const RATE_MET_SHARE: f64 = 0.99;
/// In a shorter window a share of processor time is chance.
const SHARE_WINDOW_S_MIN: f64 = 0.1;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measure::{Tally, tests::plan};
    use serde_json::Value;

    pub(crate) fn report_of(plan: &LoadPlan, messages: u64) -> Report {
        let mut tally = Tally::new(plan);
        tally.messages = messages;
        for number in 1..=messages {
            tally.latencies.record(number * 1000).unwrap();
        }
        tally.by_time.iter_mut().for_each(|count| *count = messages / 100);
        let measured = Measurement {
            duration: plan.duration,
            bin: plan.duration / 100,
            tally,
            rounds: Vec::new(),
            client_cpu: plan.duration / 2,
            server_cpu: Some(plan.duration / 4),
            server_memory: None,
            began: std::time::SystemTime::UNIX_EPOCH,
            interrupted: None,
        };
        Report::new("load", plan, &measured)
    }

    #[test]
    fn json_names_carry_their_units() {
        let report = report_of(&plan(), 1000);
        let json: Value = serde_json::to_value(&report).unwrap();
        for (path, value) in [
            ("/messages", 1000.0),
            ("/measured_s", 10.0),
            ("/rate_per_s", 100.0),
            ("/mb_per_s", 0.006),
            ("/client_cpu_share", 0.5),
            ("/client_cpu_us_per_message", 5000.0),
            ("/server_cpu_share", 0.25),
            ("/server_cpu_us_per_message", 2500.0),
            ("/errors", 0.0),
            ("/errors_by_kind/missing", 0.0),
            ("/settings/connections", 2.0),
            ("/settings/busy_poll_us", 0.0),
            ("/throughput/interval_s", 0.1),
            ("/latency_us/samples", 1000.0),
        ] {
            assert_eq!(json.pointer(path).and_then(Value::as_f64), Some(value), "{path}");
        }
        for (name, value) in [
            ("min", 1.0),
            ("p50", 500.0),
            ("p90", 900.0),
            ("p99", 990.0),
            ("p99.9", 999.0),
            ("max", 1000.0),
        ] {
            let found = json["latency_us"][name].as_f64().unwrap();
            assert!((found - value).abs() <= value / 1000.0 + 0.001, "{name}: {found}");
        }
        assert!(json["send_delay_us"].is_null() && json["unsent"].is_null());
    }

    #[test]
    fn a_run_without_messages_has_figures_too() {
        let report = report_of(&plan(), 0);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""rate_per_s":0.0"#) && json.contains(r#""p50":0.0"#), "{json}");
        assert!(report.client_cpu_us_per_message.is_none());
        assert_eq!(report.warnings, ["no echo arrived within the window"]);
        assert!(report.latency_by_percentile.is_empty());
    }

    #[test]
    fn a_busy_client_is_reported_unless_it_spins() {
        let busy = |plan: LoadPlan| {
            let mut report = report_of(&plan, 1000);
            report.client_cpu_share = 0.95;
            report.warnings.clear();
            report.warn(&plan);
            report.warnings
        };
        let warning = &busy(plan())[0];
        assert!(warning.contains("bottleneck") && warning.contains("more --threads"), "{warning}");
        assert!(busy(LoadPlan { busy_poll: Duration::MAX, ..plan() }).is_empty());
        // The settings of `rtt`.
        let warning = &busy(LoadPlan { connections: 1, ..plan() })[0];
        assert!(warning.contains("bottleneck") && !warning.contains("--threads"), "{warning}");
    }

    #[test]
    fn a_rate_that_was_met_warns_of_nothing() {
        let plan = LoadPlan { rate_per_s: Some(100.0), ..plan() };
        for (rate, unsent, warns_of_client) in [(100.0, 0, false), (99.1, 0, false)]
            .into_iter()
            .chain([(98.0, 0, true), (99.9, 1, true)])
        {
            let mut report = report_of(&plan, 1000);
            (report.rate_per_s, report.unsent) = (rate, Some(unsent));
            report.client_cpu_share = 0.99;
            report.warnings.clear();
            report.warn(&plan);
            let has = report.warnings.iter().any(|warning| warning.contains("bottleneck"));
            assert_eq!(has, warns_of_client, "{rate} {unsent}: {:?}", report.warnings);
            assert_eq!(report.warnings.is_empty(), !warns_of_client);
        }
    }

    #[test]
    fn an_interrupted_run_warns_of_that_first() {
        let mut report = report_of(&plan(), 1000);
        assert!(report.interrupted.is_none() && report.warnings.is_empty());
        (report.interrupted, report.measured_s) = (Some("SIGINT"), 2.5);
        report.warn(&plan());
        assert_eq!(report.warnings, ["interrupted by SIGINT after 2.5 s of 10 s"]);
        assert_eq!(serde_json::to_value(&report).unwrap()["interrupted"], "SIGINT");
    }

    #[test]
    fn a_tiny_window_has_no_shares_of_cores() {
        for (millis, has_shares) in [(20, false), (200, true)] {
            let plan = LoadPlan { duration: Duration::from_millis(millis), ..plan() };
            let mut report = report_of(&plan, 1000);
            report.client_cpu_share = 5.2;
            report.warnings.clear();
            report.warn(&plan);
            assert_eq!(!report.warnings.is_empty(), has_shares, "{:?}", report.warnings);
            let table = table::render(&report);
            assert_eq!(table.contains("cores"), has_shares, "{table}");
        }
    }
}
