//! Figures of one thread, and their sum over all threads.

use super::run::{LoadPlan, Window, nanos};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Figures that one thread, or all threads, measured.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Nanoseconds from the intended time of sending to the echo.
    pub(crate) latencies: Histogram<u64>,
    /// Nanoseconds from the intended time of sending to the actual one.
    pub(crate) send_delays: Histogram<u64>,
    /// Nanoseconds that it took to connect, from the first packet to the end of the handshake.
    pub(crate) connects: Histogram<u64>,
    /// The latencies of each part of the window, by the intended time of sending.
    pub(crate) parts: Vec<Part>,
    /// What became of slow connections.
    pub(crate) slow: SlowTally,
    /// Right echoes within the window.
    pub(crate) messages: u64,
    /// The same, by time of arrival.
    pub(crate) by_time: Vec<u64>,
    /// The same, by round.
    pub(crate) by_round: Vec<u64>,
    /// Messages of an open loop that were due and still unsent at the end.
    pub(crate) unsent: u64,
    /// Connections whose server declined the compression that was offered.
    pub(crate) uncompressed: u64,
    pub(crate) errors: Errors,
    pub(crate) first_error: Option<String>,
}

/// A part of the window.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its end, from the start of the window.
    pub(crate) end_ns: u64,
    /// The stage or the round that it belongs to, from 0.
    pub(crate) stage: usize,
    pub(crate) latencies: Histogram<u64>,
}

/// Fate of slow connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlowTally {
    pub(crate) connections: u64,
    /// Open at the end.
    pub(crate) open: u64,
    /// Ended by the server with CLOSE, by its code; 1005 for one without.
    pub(crate) closed: BTreeMap<u16, u64>,
    /// Ended without CLOSE.
    pub(crate) cut: u64,
    pub(crate) sent_messages: u64,
    pub(crate) read_bytes: u64,
}

impl SlowTally {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.open += other.open;
        for (code, count) in &other.closed {
            *self.closed.entry(*code).or_default() += count;
        }
        self.cut += other.cut;
        self.sent_messages += other.sent_messages;
        self.read_bytes += other.read_bytes;
    }
}

/// Counts of errors in the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Errors {
    /// Failed attempts to connect.
    pub(crate) failed_connections: u64,
    /// Connections that ended before we ended them.
    pub(crate) lost_connections: u64,
    /// Missing echoes.
    pub(crate) missing: u64,
    /// Messages that are no echo, or a second echo.
    pub(crate) unexpected: u64,
    /// Text for binary, or binary for text.
    pub(crate) wrong_type: u64,
    pub(crate) wrong_length: u64,
    pub(crate) wrong_content: u64,
}

impl Tally {
    pub(crate) fn new(plan: &LoadPlan) -> Self {
        Self {
            latencies: histogram(),
            send_delays: histogram(),
            connects: histogram(),
            parts: parts(plan),
            slow: SlowTally::default(),
            messages: 0,
            by_time: vec![0; plan.bins()],
            by_round: vec![0; plan.rounds as usize],
            unsent: 0,
            uncompressed: 0,
            errors: Errors::default(),
            first_error: None,
        }
    }

    /// Counts a right echo at `now_ns` of a message that was due at `intended_ns`.
    pub(super) fn count(&mut self, window: &Window, intended_ns: u64, now_ns: u64) {
        if window.contains(intended_ns) {
            self.record(window, intended_ns, now_ns.saturating_sub(intended_ns));
        }
        if window.contains(now_ns) {
            self.messages += 1;
            let bin = ((now_ns - window.measure_ns) / window.bin_ns) as usize;
            if let Some(count) = self.by_time.get_mut(bin) {
                *count += 1;
            }
            if let Some(count) = self.by_round.get_mut(window.round_at(now_ns)) {
                *count += 1;
            }
        }
    }

    /// Counts a message that was due at `due_ns` and was not sent within the window: its latency is at
    /// least that long. Leaving it out would hide the stall that caused it.
    pub(super) fn count_unsent(&mut self, window: &Window, due_ns: u64) {
        if window.contains(due_ns) {
            self.record(window, due_ns, window.stop_ns - due_ns);
        }
        self.unsent += 1;
    }

    fn record(&mut self, window: &Window, intended_ns: u64, latency_ns: u64) {
        self.latencies.saturating_record(latency_ns);
        let after_ns = intended_ns.saturating_sub(window.measure_ns);
        let at = self.parts.partition_point(|part| part.end_ns <= after_ns);
        if let Some(part) = self.parts.get_mut(at) {
            part.latencies.saturating_record(latency_ns);
        }
    }

    /// Records an error; the first one is kept.
    pub(crate) fn record_error(&mut self, error: impl FnOnce() -> String) {
        self.first_error.get_or_insert_with(error);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let ranges = "all histograms have the same range";
        self.latencies.add(&other.latencies).expect(ranges);
        self.send_delays.add(&other.send_delays).expect(ranges);
        self.connects.add(&other.connects).expect(ranges);
        for (sum, part) in self.parts.iter_mut().zip(&other.parts) {
            sum.latencies.add(&part.latencies).expect(ranges);
        }
        self.slow.add(&other.slow);
        self.messages += other.messages;
        for (sum, count) in self.by_time.iter_mut().zip(&other.by_time) {
            *sum += count;
        }
        for (sum, count) in self.by_round.iter_mut().zip(&other.by_round) {
            *sum += count;
        }
        self.unsent += other.unsent;
        self.uncompressed += other.uncompressed;
        self.errors.add(&other.errors);
        if let Some(error) = &other.first_error {
            self.record_error(|| error.clone());
        }
    }
}

impl Errors {
    fn named(&self) -> [(u64, &'static str); 7] {
        [
            (self.failed_connections, "connections failed"),
            (self.lost_connections, "connections lost"),
            (self.missing, "echoes missing"),
            (self.unexpected, "unexpected messages"),
            (self.wrong_type, "echoes of the wrong type"),
            (self.wrong_length, "echoes of the wrong length"),
            (self.wrong_content, "echoes of the wrong content"),
        ]
    }

    pub(crate) fn total(&self) -> u64 {
        self.named().iter().map(|(count, _)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        self.failed_connections += other.failed_connections;
        self.lost_connections += other.lost_connections;
        self.missing += other.missing;
        self.unexpected += other.unexpected;
        self.wrong_type += other.wrong_type;
        self.wrong_length += other.wrong_length;
        self.wrong_content += other.wrong_content;
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.named().into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts.map(|(count, what)| format!("{what}: {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// Divides the window, or each of its stages or rounds, into equal parts.
fn parts(plan: &LoadPlan) -> Vec<Part> {
    let stages: Vec<u64> = match &plan.shape.stages[..] {
        [] => vec![nanos(plan.duration / plan.rounds.max(1)); plan.rounds.max(1) as usize],
        stages => stages.iter().map(|stage| nanos(stage.duration)).collect(),
    };
    let each = PARTS.div_ceil(stages.len() as u64);
    let mut start_ns = 0;
    let mut parts = Vec::new();
    for (stage, length_ns) in stages.into_iter().enumerate() {
        parts.extend((1..=each).map(|part| {
            // In 128 bits, as a stage may be a year.
            let offset = u128::from(length_ns) * u128::from(part) / u128::from(each);
            Part { end_ns: start_ns + offset as u64, stage, latencies: histogram() }
        }));
        start_ns += length_ns;
    }
    parts
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("the range is valid")
}

/// An hour. Longer latencies are counted as one.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Parts of the window: samples for a comparison of two runs.
const PARTS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::super::run::tests::plan;
    use super::super::shape::{RateStage, Shape};
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_the_window_counts() {
        let plan = plan();
        let window = Window::new(&plan, 0);
        let (from, to) = (window.measure_ns, window.stop_ns);
        let mut tally = Tally::new(&plan);
        tally.count(&window, from - 1, from - 1); // In the warm-up.
        tally.count(&window, from - 1, from); // Sent in the warm-up: a message, no latency.
        tally.count(&window, from, to - 1);
        tally.count(&window, to - 1, to + 5); // Arrived late: a latency, no message.
        tally.count(&window, to, to + 1);
        assert_eq!((tally.messages, tally.latencies.len()), (2, 2));
        assert_eq!(tally.by_time.iter().sum::<u64>(), 2);
        assert_eq!((tally.by_time[0], tally.by_time.last()), (1, Some(&1)));
    }

    #[test]
    fn parts_of_the_window_have_each_latency_once() {
        let stage = |seconds| RateStage { duration: Duration::from_secs(seconds), rate_per_s: 1.0 };
        for (stages, duration, count) in [
            (vec![], 10, 20),
            (vec![stage(1), stage(8), stage(1)], 10, 21),
            (vec![stage(1); 30], 30, 30),
        ] {
            let shape = Shape { stages: stages.clone(), ..Shape::default() };
            let plan = LoadPlan { duration: Duration::from_secs(duration), shape, ..plan() };
            let window = Window::new(&plan, 0);
            let mut tally = Tally::new(&plan);
            assert_eq!(tally.parts.len(), count);
            let last = tally.parts.last().unwrap();
            assert_eq!(window.measure_ns + last.end_ns, window.stop_ns);
            assert_eq!(last.stage, stages.len().saturating_sub(1));
            let ends: Vec<_> = tally.parts.iter().map(|part| part.end_ns).collect();
            for begin in [0].iter().chain(&ends[..count - 1]) {
                let begin_ns = window.measure_ns + begin;
                tally.count(&window, begin_ns, begin_ns + 5);
                tally.count_unsent(&window, begin_ns);
            }
            assert!(tally.parts.iter().all(|part| part.latencies.len() == 2), "{stages:?}");
            assert_eq!(tally.latencies.len(), 2 * count as u64);
        }
    }

    #[test]
    fn rounds_have_each_message_and_each_latency_once() {
        let plan = LoadPlan { rounds: 7, duration: Duration::from_secs(7), ..plan() };
        let window = Window::new(&plan, 5);
        let mut tally = Tally::new(&plan);
        assert_eq!((tally.by_round.len(), tally.parts.len()), (7, 21));
        for round in 0..7 {
            let begin_ns = window.measure_ns + round * 1_000_000_000;
            // Sent at the end of a round, and echoed in the next one.
            for sent_ns in [begin_ns, begin_ns + 999_999_999] {
                tally.count(&window, sent_ns, sent_ns + 1);
            }
        }
        assert_eq!(tally.by_round, [1, 2, 2, 2, 2, 2, 2]);
        assert_eq!(tally.messages, 13, "the last echo is behind the window");
        let latencies = |round| {
            let parts = tally.parts.iter().filter(|part| part.stage == round);
            parts.map(|part| part.latencies.len()).sum::<u64>()
        };
        assert!((0..7).all(|round| latencies(round) == 2));
        let last = tally.parts.last().map(|part| part.end_ns);
        assert_eq!(last, Some(window.stop_ns - window.measure_ns));
        let mut sum = Tally::new(&plan);
        sum.add(&tally);
        sum.add(&tally);
        assert_eq!(sum.by_round, [2, 4, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn parts_add_up_and_the_first_error_stays() {
        let plan = plan();
        let window = Window::new(&plan, 0);
        let mut sum = Tally::new(&plan);
        for number in 1..=3 {
            let mut part = Tally::new(&plan);
            part.count(&window, window.measure_ns, window.measure_ns + number * 1000);
            part.errors.missing = number;
            part.record_error(|| format!("error {number}"));
            sum.add(&part);
        }
        assert_eq!((sum.messages, sum.latencies.len(), sum.errors.total()), (3, 3, 6));
        assert_eq!(sum.errors.to_string(), "echoes missing: 6");
        assert_eq!(sum.first_error.as_deref(), Some("error 1"));
    }

    #[test]
    fn percentiles_are_those_of_a_sorted_list() {
        let plan = plan();
        let mut tally = Tally::new(&plan);
        for value in 1..=1000 {
            tally.latencies.record(value * 1000).unwrap();
        }
        for (quantile, value) in [(0.5, 500_000), (0.9, 900_000), (0.99, 990_000)] {
            let found = tally.latencies.value_at_quantile(quantile);
            assert!(found.abs_diff(value) <= value / 1000, "{quantile}: {found}");
        }
    }
}
