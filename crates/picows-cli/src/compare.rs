//! `picows compare`: two loads, or repeated ones, by their JSON reports.
//!
//! Of one report each, the rounds or else the parts of their windows are compared; of several, each run is one
//! value.

mod figures;
mod rank;

use crate::fault::{Fault, Missed, Usage};
use crate::report::{Outputs, median, write_report};
use crate::stdio::one_line;
use crate::units::time;
use figures::{Figure, Run, Unit};
use rank::{Interval, interval, values_needed};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Compare two loads by their JSON reports: ratios with intervals, or that there is no difference
///
/// Of A.json B.json, the rounds of each run are compared if both have enough of them (--rounds), or else the
/// twenty parts of each window: the interval holds what varies within a run.
/// Runs differ from one another as well, so repeat both, in turn, and give all reports: A1.json A2.json ...
/// --with B1.json B2.json ...; then each run is one value, and six of each are needed.
///
/// The intervals of all figures together hold the true ratios in 99 % of comparisons: of equal servers, one
/// comparison in a hundred shows a difference. They are computed by ranks, from the reports alone, so the same
/// reports have the same result.
///
/// Exit status: 0, or with --fail-if-worse 3 if a figure of B is worse; 1 if a report cannot be read, 2 if the
/// command line or the reports do not fit together.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Reports of A, as `picows load --json` and `picows rtt --json` write them; without --with one of A and
    /// one of B
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Reports of B
    #[arg(long, value_name = "FILE", num_args = 1..)]
    with: Vec<PathBuf>,

    /// End with status 3 if a figure of B is worse than that of A
    #[arg(long)]
    fail_if_worse: bool,

    /// Write the comparison to FILE as JSON; `-` is standard output, and the table is then written to standard
    /// error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The outcome.
#[derive(Debug, Serialize)]
struct Comparison {
    command: &'static str,
    version: &'static str,
    mode: String,
    runs_of_a: usize,
    runs_of_b: usize,
    /// `runs`, `rounds of a run` or `parts of a run`.
    values: &'static str,
    /// Of all intervals together.
    certainty: f64,
    figures: Vec<Compared>,
    warnings: Vec<String>,
}

/// One figure.
#[derive(Debug, Serialize)]
struct Compared {
    name: &'static str,
    a: f64,
    b: f64,
    ratio: f64,
    ratio_from: f64,
    ratio_to: f64,
    verdict: Verdict,
    #[serde(skip)]
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    NoDifference,
    Better,
    Worse,
}

/// Compares, and prints the table.
pub(crate) fn run(args: Args) -> Result<(), Fault> {
    let (a, b) = match (&args.files[..], &args.with[..]) {
        ([a, b], []) => (std::slice::from_ref(a), std::slice::from_ref(b)),
        (_, []) => {
            return Err(Usage(format!(
                "{} reports without --with: write A.json B.json, or A1.json A2.json ... --with B1.json ...",
                args.files.len()
            ))
            .into());
        }
        (a, b) => (a, b),
    };
    let outputs = Outputs { json: args.json, ..Outputs::default() };
    outputs.check()?;
    let read = |files: &[PathBuf]| files.iter().map(|file| Run::read(file)).collect();
    let (a, b): (Result<Vec<Run>, Fault>, Result<Vec<Run>, Fault>) = (read(a), read(b));
    let comparison = Comparison::new(&a?, &b?)?;
    let json = serde_json::to_string_pretty(&comparison)? + "\n";
    write_report(&outputs, &comparison.table(), &json)?;
    let worse = comparison.figures.iter().filter(|it| it.verdict == Verdict::Worse);
    let worse: Vec<_> = worse.map(|it| it.name).collect();
    if args.fail_if_worse && !worse.is_empty() {
        return Err(Missed(format!("B is worse: {}", worse.join(", "))).into());
    }
    Ok(())
}

impl Comparison {
    fn new(a: &[Run], b: &[Run]) -> Result<Self, Usage> {
        let mode = one_mode(a, b)?;
        let is_single = a.len() == 1 && b.len() == 1;
        if is_single && let Ok(comparison) = Self::of(a, b, &mode, Basis::Rounds) {
            return Ok(comparison);
        }
        Self::of(a, b, &mode, if is_single { Basis::Parts } else { Basis::Runs })
    }

    fn of(a: &[Run], b: &[Run], mode: &str, basis: Basis) -> Result<Self, Usage> {
        let is_single = basis != Basis::Runs;
        let values = |runs: &[Run], figure: &Figure| -> Option<Vec<f64>> {
            match (basis, runs) {
                (Basis::Rounds, [run, ..]) => run.values_of_rounds(figure),
                (Basis::Parts, [run, ..]) => run.values_within(figure),
                _ => runs.iter().map(|run| run.value(figure)).collect(),
            }
        };
        let found: Vec<_> = figures::ALL
            .iter()
            .filter_map(|figure| Some((figure, values(a, figure)?, values(b, figure)?)))
            .collect();
        if found.is_empty() {
            return Err(Usage(format!(
                "the reports of --mode {mode} have no figures to compare{}",
                if is_single { ": repeat the runs, and give all reports" } else { "" }
            )));
        }
        let what = if is_single { "parts with samples" } else { "runs" };
        let figures = judge(&found).map_err(|needed| {
            let (a, b) = found.first().map_or((0, 0), |(_, a, b)| (a.len(), b.len()));
            let cure =
                if is_single { "measure longer" } else { "repeat the runs, in turn" };
            Usage(format!(
                "{a} and {b} {what}: intervals of {} figures need at least {needed} of each: {cure}",
                found.len()
            ))
        })?;
        Ok(Self {
            command: "compare",
            version: env!("CARGO_PKG_VERSION"),
            mode: mode.to_owned(),
            runs_of_a: a.len(),
            runs_of_b: b.len(),
            values: basis.name(),
            certainty: CERTAINTY,
            figures,
            warnings: warnings(a, b, is_single),
        })
    }

    fn table(&self) -> String {
        let plural = |count: usize| if count == 1 { "run" } else { "runs" };
        let mut text = format!(
            "picows compare --mode {}: {} {} of A, {} {} of B, {} % intervals of B / A by {}\n\n",
            self.mode,
            self.runs_of_a,
            plural(self.runs_of_a),
            self.runs_of_b,
            plural(self.runs_of_b),
            self.certainty * 100.0,
            self.values,
        );
        let _ = writeln!(
            text,
            "  {:<22}{:>12}{:>12}{:>8}{:>8}{:>8}  result",
            "figure", "A", "B", "B / A", "from", "to"
        );
        for it in &self.figures {
            let verdict = match it.verdict {
                Verdict::NoDifference => "no difference",
                Verdict::Better => "B is better",
                Verdict::Worse => "B is worse",
            };
            let (a, b) = (it.unit.show(it.a), it.unit.show(it.b));
            let _ = writeln!(
                text,
                "  {:<22}{a:>12}{b:>12}{:>8.3}{:>8.3}{:>8.3}  {verdict}",
                it.name, it.ratio, it.ratio_from, it.ratio_to
            );
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "\nwarning: {}", one_line(warning));
        }
        text
    }
}

/// What is one value of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    Runs,
    Rounds,
    Parts,
}

impl Basis {
    fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Rounds => "rounds of a run",
            Self::Parts => "parts of a run",
        }
    }
}

/// A figure, and its values of A and of B.
type Values<'a> = (&'a Figure, Vec<f64>, Vec<f64>);

/// Compares all figures; the chance of a false alarm in any of them is that of the certainty.
///
/// # Errors
///
/// The number of values of each that an interval needs.
fn judge(found: &[Values<'_>]) -> Result<Vec<Compared>, usize> {
    // The chances of false alarms add up at most.
    let alpha = (1.0 - CERTAINTY) / found.len() as f64;
    let compare = |(figure, a, b): &Values<'_>| {
        let interval = interval(a, b, alpha).ok_or_else(|| values_needed(alpha))?;
        Ok(Compared::new(figure, a, b, interval))
    };
    found.iter().map(compare).collect()
}

impl Compared {
    fn new(figure: &Figure, a: &[f64], b: &[f64], interval: Interval) -> Self {
        let verdict = match interval.is_different() {
            false => Verdict::NoDifference,
            true if (interval.ratio > 1.0) == figure.is_more_better => Verdict::Better,
            true => Verdict::Worse,
        };
        Self {
            name: figure.name,
            a: median(a),
            b: median(b),
            ratio: interval.ratio,
            ratio_from: interval.low,
            ratio_to: interval.high,
            verdict,
            unit: figure.unit,
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Micros => time(value),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Bytes => format!("{value:.0} B"),
        }
    }
}

/// Returns the mode of all runs.
fn one_mode(a: &[Run], b: &[Run]) -> Result<String, Usage> {
    let mut runs = a.iter().chain(b);
    let first = runs.next().ok_or_else(|| Usage("no reports".to_owned()))?;
    match runs.find(|run| run.mode != first.mode) {
        None => Ok(first.mode.clone()),
        Some(other) => Err(Usage(format!(
            "{} is of --mode {}, and {} of --mode {}: compare loads of one mode",
            first.file, first.mode, other.file, other.mode
        ))),
    }
}

/// Circumstances that change the meaning of a comparison.
fn warnings(a: &[Run], b: &[Run], is_single: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let differing = figures::differing_settings(a.iter().chain(b));
    if !differing.is_empty() {
        let settings = differing.join(", ");
        warnings.push(format!("the loads had different settings: {settings}"));
    }
    for run in a.iter().chain(b) {
        warnings.extend(run.faults().map(|fault| format!("{}: {fault}", run.file)));
    }
    if is_single {
        warnings.push(
            "one run of each: what differs from run to run, such as the placement of threads and memory, \
             may look like a difference; repeat both, in turn, and give all reports"
                .to_owned(),
        );
    }
    warnings
}

/// Of all intervals together.
const CERTAINTY: f64 = 0.99;
const EXAMPLES: &str = "\
Examples:
  picows load ws://127.0.0.1:9001/ --json a.json
  picows load ws://127.0.0.1:9002/ --json b.json
  picows compare a.json b.json
      two servers, one run of each
  picows compare a1.json a2.json a3.json a4.json a5.json a6.json \\
      --with b1.json b2.json b3.json b4.json b5.json b6.json
      six runs of each, measured in turn
  picows load ws://127.0.0.1:9001/ --rounds 12 --duration 5s --json a.json
  picows load ws://127.0.0.1:9002/ --rounds 12 --duration 5s --json b.json
  picows compare a.json b.json
      twelve rounds of each, and the server's processor time as well where --server-pid was given
  picows compare a.json b.json --fail-if-worse --json comparison.json
      status 3 if a figure of b.json is worse";

#[cfg(test)]
mod tests;
