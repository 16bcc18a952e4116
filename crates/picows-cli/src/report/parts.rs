//! Figures of a report beside rate and latency: stages, parts of the window, memory, slow connections.

use super::{Spread, bytes_each, ratio, round};
use crate::measure::{LoadPlan, Measurement, RateStage, RoundCpu, SlowTally, histogram};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies of one part of the window: samples for a comparison.
#[derive(Debug, Serialize)]
pub(crate) struct PartFigures {
    /// Its end, from the start of the window.
    pub(crate) end_s: f64,
    #[serde(flatten)]
    pub(crate) latency_us: Spread,
}

/// One stage of an open loop.
#[derive(Debug, Serialize)]
pub(crate) struct StageFigures {
    pub(crate) duration_s: f64,
    /// The rate at its end that was asked for.
    pub(crate) rate_per_s: f64,
    pub(crate) latency_us: Spread,
}

/// One round of the window. Its names are those of the whole report.
#[derive(Debug, Serialize)]
pub(crate) struct RoundFigures {
    pub(crate) measured_s: f64,
    pub(crate) messages: u64,
    pub(crate) rate_per_s: f64,
    pub(crate) mb_per_s: f64,
    pub(crate) latency_us: Spread,
    pub(crate) client_cpu_share: f64,
    pub(crate) server_cpu_share: Option<f64>,
    pub(crate) server_cpu_us_per_message: Option<f64>,
}

/// Resident memory of the server's process.
#[derive(Debug, Serialize)]
pub(crate) struct ServerMemory {
    /// Before the first connection.
    pub(crate) before_bytes: u64,
    /// At the end of the window.
    pub(crate) after_bytes: u64,
    /// The growth, divided by the open connections.
    pub(crate) bytes_per_connection: Option<f64>,
}

/// Fate of slow connections.
#[derive(Debug, Serialize)]
pub(crate) struct Slow {
    pub(crate) connections: u64,
    /// Open at the end.
    pub(crate) open: u64,
    /// Ended by the server with CLOSE, by its code.
    pub(crate) closed_by_code: BTreeMap<u16, u64>,
    /// Ended without CLOSE.
    pub(crate) cut: u64,
    pub(crate) sent_messages: u64,
    pub(crate) read_bytes: u64,
}

pub(super) fn parts(measured: &Measurement) -> Vec<PartFigures> {
    let part = |part: &crate::measure::Part| PartFigures {
        end_s: round(part.end_ns as f64 / 1e9),
        latency_us: Spread::new(&part.latencies),
    };
    measured.tally.parts.iter().map(part).collect()
}

pub(super) fn stages(plan: &LoadPlan, measured: &Measurement) -> Vec<StageFigures> {
    let figures = |(index, stage): (usize, &RateStage)| {
        StageFigures::new(stage, &latencies_of(measured, index))
    };
    plan.shape.stages.iter().enumerate().map(figures).collect()
}

/// Returns the rounds that are complete; none if there is one only.
pub(super) fn rounds(plan: &LoadPlan, measured: &Measurement) -> Vec<RoundFigures> {
    if plan.rounds == 1 {
        return Vec::new();
    }
    let seconds = (plan.duration / plan.rounds).as_secs_f64();
    let share = |time: Duration| round(ratio(time.as_secs_f64(), seconds));
    let counts = measured.rounds.iter().zip(&measured.tally.by_round);
    let figures = |(index, (cpu, &messages)): (usize, (&RoundCpu, &u64))| {
        let rate = ratio(messages as f64, seconds);
        let each = |time: Duration| round(time.as_secs_f64() * 1e6 / messages as f64);
        RoundFigures {
            measured_s: round(seconds),
            messages,
            rate_per_s: round(rate),
            mb_per_s: round(rate * bytes_each(plan) / 1e6),
            latency_us: Spread::new(&latencies_of(measured, index)),
            client_cpu_share: share(cpu.client),
            server_cpu_share: cpu.server.map(share),
            server_cpu_us_per_message: cpu.server.filter(|_| messages > 0).map(each),
        }
    };
    counts.enumerate().map(figures).collect()
}

/// The latencies of one stage or one round.
fn latencies_of(measured: &Measurement, index: usize) -> Histogram<u64> {
    let mut latencies = histogram();
    for part in measured.tally.parts.iter().filter(|part| part.stage == index) {
        latencies.add(&part.latencies).expect("all histograms have the same range");
    }
    latencies
}

pub(super) fn server_memory(measured: &Measurement, open: u64) -> Option<ServerMemory> {
    measured.server_memory.map(|memory| {
        let growth = memory.after_bytes.saturating_sub(memory.before_bytes);
        ServerMemory {
            before_bytes: memory.before_bytes,
            after_bytes: memory.after_bytes,
            bytes_per_connection: (open > 0).then(|| round(ratio(growth as f64, open as f64))),
        }
    })
}

impl StageFigures {
    pub(crate) fn new(stage: &RateStage, latencies_ns: &Histogram<u64>) -> Self {
        Self {
            duration_s: stage.duration.as_secs_f64(),
            rate_per_s: stage.rate_per_s,
            latency_us: Spread::new(latencies_ns),
        }
    }
}

impl Slow {
    pub(super) fn new(tally: &SlowTally) -> Self {
        Self {
            connections: tally.connections,
            open: tally.open,
            closed_by_code: tally.closed.clone(),
            cut: tally.cut,
            sent_messages: tally.sent_messages,
            read_bytes: tally.read_bytes,
        }
    }

    /// Returns the fate of the connections as one line.
    pub(super) fn describe(&self) -> String {
        let mut parts = vec![format!("{} open", self.open)];
        let closed = self.closed_by_code.iter();
        parts.extend(closed.map(|(code, count)| format!("{count} closed with {code}")));
        parts.extend((self.cut > 0).then(|| format!("{} cut", self.cut)));
        parts.join(", ")
    }
}
