//! Report of a fan-out: figures with their units, as a table and as JSON.
//!
//! The names here are those of the JSON file, which other programs read: a change of one needs a
//! line in CHANGELOG.md.

use super::tally::{Errors, Tally};
use super::{FanOutPlan, Window};
use crate::fault::Fault;
use crate::report::html::Page;
use crate::report::{
    Outcome, Outputs, Spread, StageFigures, missed, publish, ratio, round, stage_rows, write,
};
use crate::signals::Signal;
use crate::threshold::Verdict;
use crate::units::{grouped, time};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    command: &'static str,
    mode: &'static str,
    version: &'static str,
    url: String,
    settings: Settings,
    /// Length of the window of the figures.
    measured_s: f64,
    /// The signal that ended it early, such as `SIGINT`; `null` if none did.
    interrupted: Option<&'static str>,
    publications: u64,
    publications_per_s: f64,
    /// Publications that subscribers got within the window.
    deliveries: u64,
    deliveries_per_s: f64,
    /// Payload delivered, in millions of bytes.
    mb_per_s: f64,
    /// From the time of publishing (with a rate: the intended time) until half of the subscribers had it.
    latency_half_us: Spread,
    /// The same, until all had it.
    latency_all_us: Spread,
    /// Stages of the rate, if it had any: until all had what was due in them.
    stages: Vec<StageFigures>,
    /// Publications that were due and still unsent at the end; with a rate only.
    unsent: Option<u64>,
    /// Holes in what subscribers got.
    gaps: u64,
    /// Messages that were no publication of this run.
    foreign: u64,
    /// Subscribers that got every publication, and in the same order.
    complete_subscribers: u64,
    /// Processor time of this process divided by time: 1 is a whole core.
    client_cpu_share: f64,
    server_cpu_share: Option<f64>,
    server_cpu_us_per_delivery: Option<f64>,
    /// Errors of all kinds, in the whole run.
    errors: u64,
    errors_by_kind: Errors,
    first_error: Option<String>,
    warnings: Vec<String>,
    /// Those of `--fail-if`.
    thresholds: Vec<Verdict>,
}

#[derive(Debug, Serialize)]
struct Settings {
    subscribers: usize,
    publishers: usize,
    threads: usize,
    size_bytes: usize,
    message_type: &'static str,
    pipeline: Option<usize>,
    rate_per_s: Option<f64>,
    warmup_s: f64,
    duration_s: f64,
}

impl Report {
    pub(super) fn new(
        plan: &FanOutPlan,
        window: &Window,
        tally: &Tally,
        interrupted: Option<&'static str>,
    ) -> Self {
        let seconds = window.duration.as_secs_f64();
        let rate = ratio(tally.deliveries as f64, seconds);
        let each = |time: Duration| {
            let is_any = tally.deliveries > 0;
            is_any.then(|| round(time.as_secs_f64() * 1e6 / tally.deliveries as f64))
        };
        let mut report = Self {
            command: "load",
            mode: "fan-out",
            version: env!("CARGO_PKG_VERSION"),
            url: plan.url.clone(),
            settings: Settings::new(plan),
            measured_s: round(seconds),
            interrupted,
            publications: tally.publications,
            publications_per_s: round(ratio(tally.publications as f64, seconds)),
            deliveries: tally.deliveries,
            deliveries_per_s: round(rate),
            mb_per_s: round(rate * plan.size_bytes as f64 / 1e6),
            latency_half_us: Spread::new(&tally.half),
            latency_all_us: Spread::new(&tally.all),
            stages: plan
                .stages
                .iter()
                .zip(&tally.stages)
                .map(|(stage, latencies)| StageFigures::new(stage, latencies))
                .collect(),
            unsent: plan.is_open_loop().then_some(tally.unsent),
            gaps: tally.gaps,
            foreign: tally.foreign,
            complete_subscribers: tally.orders.values().copied().max().unwrap_or(0),
            client_cpu_share: round(ratio(window.client_cpu.as_secs_f64(), seconds)),
            server_cpu_share: window.server_cpu.map(|it| round(ratio(it.as_secs_f64(), seconds))),
            server_cpu_us_per_delivery: window.server_cpu.and_then(each),
            errors: tally.errors.total(),
            errors_by_kind: tally.errors,
            first_error: tally.first_error.clone(),
            warnings: Vec::new(),
            thresholds: Vec::new(),
        };
        report.warn(plan);
        report
    }

    /// Adds warnings of circumstances that change the meaning of the figures.
    fn warn(&mut self, plan: &FanOutPlan) {
        if let Some(signal) = self.interrupted {
            let planned = plan.duration.as_secs_f64();
            let measured = self.measured_s;
            self.warnings
                .push(format!("interrupted by {signal} after {measured} s of {planned} s"));
        }
        if self.deliveries == 0 {
            self.warnings.push("no publication arrived within the window".to_owned());
        }
        if let Some(unsent @ 1..) = self.unsent {
            self.warnings.push(format!(
                "the rate was not reached: {unsent} publications were due and unsent"
            ));
        }
        if self.gaps > 0 && plan.are_gaps_allowed {
            self.warnings.push(format!("{} gaps, which --allow-gaps allows", self.gaps));
        }
        let threads = (plan.threads + 1) as f64;
        if plan.busy_poll.is_zero() && self.client_cpu_share >= BOTTLENECK_SHARE * threads {
            self.warnings.push(format!(
                "the client was the bottleneck: it used {:.2} cores, so the server may be faster than \
                 this; give it more --threads, or another machine",
                self.client_cpu_share
            ));
        }
    }

    /// Writes the table and the JSON; returns what went wrong in the run.
    pub(super) fn publish(
        mut self,
        outputs: &Outputs,
        interrupted: Option<Signal>,
    ) -> Result<(), Fault> {
        self.thresholds = outputs.check_thresholds(&serde_json::to_value(&self)?);
        let json = serde_json::to_string_pretty(&self)? + "\n";
        if let Some(path) = &outputs.html {
            write(path, &self.page())?;
        }
        let first = self.first_error.as_deref().unwrap_or("unknown");
        let errors = format!("{}; the first: {first}", self.errors_by_kind);
        let errors = (self.errors > 0 && outputs.do_errors_fail()).then_some(errors);
        let outcome = Outcome { interrupted, errors, missed: missed(&self.thresholds) };
        publish(outputs, &self.table(), &json, outcome)
    }

    fn page(&self) -> String {
        let page = Page {
            command: "load --mode fan-out",
            url: &self.url,
            heading: &self.heading(),
            thresholds: &self.thresholds,
            warnings: &self.warnings,
            first_error: self.first_error.as_deref(),
            rows: &self.rows(),
        };
        page.render("")
    }

    /// Formats the settings of the run as one line.
    fn heading(&self) -> String {
        let settings = &self.settings;
        let pace = match (settings.rate_per_s, settings.pipeline) {
            (Some(rate), _) => format!("{rate} publications/s in total"),
            (None, None) => plural(self.stages.len(), "stage"),
            (None, pipeline) => format!("{} in flight of each", pipeline.unwrap_or(1)),
        };
        format!(
            "picows load --mode fan-out {}: {} to {}, {pace}, {} B {}, {} s",
            self.url,
            plural(settings.publishers, "publisher"),
            plural(settings.subscribers, "subscriber"),
            settings.size_bytes,
            settings.message_type,
            self.measured_s,
        )
    }

    fn table(&self) -> String {
        let mut text = self.heading() + "\n\n";
        let rows = self.rows();
        let width = rows.iter().map(|(name, _)| name.chars().count() + 2).fold(24, usize::max);
        for (name, value) in rows {
            let _ = writeln!(text, "  {name:<width$}{value:>16}");
        }
        for verdict in &self.thresholds {
            let outcome = if verdict.failed { "missed" } else { "met" };
            let _ = writeln!(text, "\n{outcome}: {}", verdict.describe());
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "\nwarning: {warning}");
        }
        text
    }

    fn rows(&self) -> Vec<(String, String)> {
        let per_s = |rate: f64| format!("{} /s", grouped(rate.round() as u64));
        let mut rows = vec![
            ("publications".to_owned(), grouped(self.publications)),
            ("publications a second".to_owned(), per_s(self.publications_per_s)),
            ("deliveries".to_owned(), grouped(self.deliveries)),
            ("deliveries a second".to_owned(), per_s(self.deliveries_per_s)),
            ("throughput".to_owned(), format!("{:.1} MB/s", self.mb_per_s)),
        ];
        for (name, spread) in [("half", &self.latency_half_us), ("all", &self.latency_all_us)] {
            for (quantile, value) in [("p50", spread.p50), ("p99", spread.p99), ("max", spread.max)]
            {
                rows.push((format!("until {name} have it {quantile}"), time(value)));
            }
        }
        rows.push(("client CPU".to_owned(), format!("{:.2} cores", self.client_cpu_share)));
        let server = self.server_cpu_share.map(|share| format!("{share:.2} cores"));
        rows.extend(server.map(|value| ("server CPU".to_owned(), value)));
        let each = self.server_cpu_us_per_delivery.map(|time| format!("{time:.3} µs"));
        rows.extend(each.map(|value| ("server CPU a delivery".to_owned(), value)));
        rows.push(("gaps".to_owned(), grouped(self.gaps)));
        rows.push(("errors".to_owned(), grouped(self.errors)));
        rows.extend(stage_rows(&self.stages));
        rows
    }
}

impl Settings {
    fn new(plan: &FanOutPlan) -> Self {
        Self {
            subscribers: plan.subscribers,
            publishers: plan.publishers,
            threads: plan.threads,
            size_bytes: plan.size_bytes,
            message_type: if plan.is_text { "text" } else { "binary" },
            pipeline: (!plan.is_open_loop()).then_some(plan.pipeline),
            rate_per_s: plan.rate_per_s,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Share of the usable cores from which a client counts as busy: the rest is time to wake up.
const BOTTLENECK_SHARE: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn figures_carry_their_units_and_gaps_are_shown() {
        let mut tally = Tally::new(&plan());
        (tally.publications, tally.deliveries, tally.gaps) = (100, 1000, 3);
        tally.errors.missing = 7;
        let window = Window {
            duration: Duration::from_secs(2),
            client_cpu: Duration::from_secs(1),
            server_cpu: Some(Duration::from_millis(500)),
        };
        let report = Report::new(&plan(), &window, &tally, None);
        let json = serde_json::to_value(&report).unwrap();
        for (path, value) in [
            ("/deliveries_per_s", 500.0),
            ("/publications_per_s", 50.0),
            ("/mb_per_s", 0.032),
            ("/client_cpu_share", 0.5),
            ("/server_cpu_us_per_delivery", 500.0),
            ("/gaps", 3.0),
            ("/errors", 7.0),
            ("/errors_by_kind/missing", 7.0),
            ("/settings/subscribers", 10.0),
            ("/latency_all_us/p50", 0.0),
        ] {
            assert_eq!(
                json.pointer(path).and_then(serde_json::Value::as_f64),
                Some(value),
                "{path}"
            );
        }
        let table = report.table();
        for text in
            ["1 publisher to 10 subscribers", "until all have it p99", "server CPU a delivery"]
        {
            assert!(table.contains(text), "{text} in {table}");
        }
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        let plan = FanOutPlan { are_gaps_allowed: true, ..plan() };
        assert!(Report::new(&plan, &window, &tally, None).warnings[0].contains("3 gaps"));
    }
}
