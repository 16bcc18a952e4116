//! Figures of a report beside rate and latency: stages, parts of the window, memory, slow connections.

use super::{Spread, ratio, round};
use crate::measure::{LoadPlan, Measurement, RateStage, SlowTally, histogram};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

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
        let mut latencies = histogram();
        for part in measured.tally.parts.iter().filter(|part| part.stage == index) {
            latencies.add(&part.latencies).expect("all histograms have the same range");
        }
        StageFigures::new(stage, &latencies)
    };
    plan.shape.stages.iter().enumerate().map(figures).collect()
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
