//! Figures of a JSON report that can be compared.

use crate::fault::Fault;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// A figure of reports.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    /// Where it is in a report.
    path: &'static str,
    /// Its name in a part of the window.
    part: Option<&'static str>,
    pub(super) unit: Unit,
    pub(super) is_more_better: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Micros,
    PerSecond,
    Bytes,
}

/// One report.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) file: String,
    pub(super) mode: String,
    pub(super) json: Value,
}

pub(super) const ALL: &[Figure] = &[
    figure("rate", "/rate_per_s", Some("rate"), Unit::PerSecond, true),
    figure("latency p50", "/latency_us/p50", Some("p50"), Unit::Micros, false),
    figure("latency p99", "/latency_us/p99", Some("p99"), Unit::Micros, false),
    figure("deliveries", "/deliveries_per_s", None, Unit::PerSecond, true),
    figure("until all have it p50", "/latency_all_us/p50", None, Unit::Micros, false),
    figure("until all have it p99", "/latency_all_us/p99", None, Unit::Micros, false),
    figure("connecting p50", "/connect_us/p50", None, Unit::Micros, false),
    figure("server CPU a message", "/server_cpu_us_per_message", None, Unit::Micros, false),
    figure("server CPU a delivery", "/server_cpu_us_per_delivery", None, Unit::Micros, false),
    figure("memory a connection", "/server_memory/bytes_per_connection", None, Unit::Bytes, false),
];

const fn figure(
    name: &'static str,
    path: &'static str,
    part: Option<&'static str>,
    unit: Unit,
    is_more_better: bool,
) -> Figure {
    Figure { name, path, part, unit, is_more_better }
}

impl Run {
    /// Reads a report.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no report of a load.
    pub(super) fn read(file: &Path) -> Result<Self, Fault> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read {name}: {error}"))?;
        Self::parse(name, &text).map_err(Into::into)
    }

    pub(super) fn parse(file: String, text: &str) -> Result<Self, String> {
        let cure = "give files that picows load --json or picows rtt --json has written";
        let json: Value = serde_json::from_str(text)
            .map_err(|error| format!("{file} is no report ({error}): {cure}"))?;
        let command = json.get("command").and_then(Value::as_str).unwrap_or_default();
        let mode = match (command, json.get("mode").and_then(Value::as_str)) {
            ("load", Some(mode)) => mode.to_owned(),
            ("rtt", _) => "rtt".to_owned(),
            ("load", None) => {
                return Err(format!("{file} is of an older version: measure again"));
            }
            _ => return Err(format!("{file} is no report of a load: {cure}")),
        };
        Ok(Self { file, mode, json })
    }

    /// Returns a figure of the run; `None` if it has none, or nothing was measured.
    pub(super) fn value(&self, figure: &Figure) -> Option<f64> {
        let is_churn = self.mode == "churn";
        if figure.path.starts_with("/connect_us") && !is_churn && self.mode != "idle" {
            // Connects before a load of messages are no figure of it.
            return None;
        }
        if figure.path == "/server_memory/bytes_per_connection" && self.mode != "idle" {
            return None;
        }
        positive(self.json.pointer(figure.path))
    }

    /// Returns a figure of each round; `None` if one of them has none.
    pub(super) fn values_of_rounds(&self, figure: &Figure) -> Option<Vec<f64>> {
        let rounds = self.json.get("rounds")?.as_array()?;
        let values = rounds.iter().map(|round| positive(round.pointer(figure.path)));
        let values: Vec<f64> = values.collect::<Option<_>>()?;
        (!values.is_empty()).then_some(values)
    }

    /// Returns a figure of each part of the window that has samples.
    pub(super) fn values_within(&self, figure: &Figure) -> Option<Vec<f64>> {
        let name = figure.part?;
        let values: Vec<f64> = if name == "rate" {
            let rates = self.json.pointer("/throughput/rate_per_s")?.as_array()?;
            let each = rates.len().div_ceil(PARTS).max(1);
            // A last part that is shorter would weigh as much as the others.
            let mean = |rates: &[Value]| {
                rates.iter().filter_map(Value::as_f64).sum::<f64>() / rates.len() as f64
            };
            rates.chunks_exact(each).map(mean).filter(|rate| *rate > 0.0).collect()
        } else {
            let parts = self.json.pointer("/parts")?.as_array()?;
            parts.iter().filter_map(|part| positive(part.get(name))).collect()
        };
        (!values.is_empty()).then_some(values)
    }

    /// What makes the figures of the run worth less.
    pub(super) fn faults(&self) -> impl Iterator<Item = String> {
        let signal = self.json.get("interrupted").and_then(Value::as_str);
        let errors = self.json.get("errors").and_then(Value::as_u64).filter(|&count| count > 0);
        let signal = signal.map(|signal| format!("the run was interrupted by {signal}"));
        signal.into_iter().chain(errors.map(|count| format!("{count} errors in the run")))
    }
}

/// Returns a value that has a logarithm.
fn positive(value: Option<&Value>) -> Option<f64> {
    value.and_then(Value::as_f64).filter(|value| value.is_finite() && *value > 0.0)
}

/// Returns the names of settings that not all runs have in common.
pub(super) fn differing_settings<'a>(runs: impl Iterator<Item = &'a Run>) -> Vec<String> {
    let runs: Vec<_> = runs.filter_map(|run| run.json.get("settings")?.as_object()).collect();
    let names: BTreeSet<&String> = runs.iter().flat_map(|settings| settings.keys()).collect();
    let differs =
        |name: &&String| runs.windows(2).any(|pair| pair[0].get(*name) != pair[1].get(*name));
    names.into_iter().filter(differs).cloned().collect()
}

/// Parts of a window whose rates are compared.
const PARTS: usize = 20;
