//! Figures of one thread of a fan-out, and their sum.

use super::FanOutPlan;
use super::board::Reached;
use crate::measure::histogram;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;

/// Figures that one thread, or all threads, measured.
#[derive(Debug)]
pub(super) struct Tally {
    /// Nanoseconds from the intended time of publishing until half of the subscribers had it.
    pub(super) half: Histogram<u64>,
    /// The same, until all had it.
    pub(super) all: Histogram<u64>,
    /// Those until all had it, of each stage of the rate.
    pub(super) stages: Vec<Histogram<u64>>,
    /// Publications and deliveries within the window.
    pub(super) publications: u64,
    pub(super) deliveries: u64,
    /// Publications that were due and still unsent at the end.
    pub(super) unsent: u64,
    /// Holes in what subscribers got, and the publications in them.
    pub(super) gaps: u64,
    /// Messages without a stamp of this run, such as those of other publishers.
    pub(super) foreign: u64,
    /// Subscribers by the order in which they got all publications.
    pub(super) orders: HashMap<u64, u64>,
    pub(super) errors: Errors,
    pub(super) first_error: Option<String>,
}

/// Counts of errors in the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Errors {
    /// Failed attempts to connect.
    pub(super) failed_connections: u64,
    /// Connections that ended before we ended them.
    pub(super) lost_connections: u64,
    /// Publications that a subscriber did not get.
    pub(super) missing: u64,
    /// Publications that a subscriber got twice, or behind a later one of the same publisher.
    pub(super) repeated: u64,
    /// Subscribers that got the publications of several publishers in another order than most.
    pub(super) other_order: u64,
    /// Text for binary, or binary for text.
    pub(super) wrong_type: u64,
    pub(super) wrong_content: u64,
}

impl Tally {
    pub(super) fn new(plan: &FanOutPlan) -> Self {
        Self {
            half: histogram(),
            all: histogram(),
            stages: plan.stages.iter().map(|_| histogram()).collect(),
            publications: 0,
            deliveries: 0,
            unsent: 0,
            gaps: 0,
            foreign: 0,
            orders: HashMap::new(),
            errors: Errors::default(),
            first_error: None,
        }
    }

    /// Records the latencies of what a delivery completed at `now_ns`, and was due in `stage`.
    pub(super) fn reach(&mut self, reached: Reached, stage: Option<usize>, now_ns: u64) {
        if let (Some(due_ns), Some(stage)) = (reached.all_of, stage)
            && let Some(latencies) = self.stages.get_mut(stage)
        {
            latencies.saturating_record(now_ns.saturating_sub(due_ns));
        }
        for (due_ns, latencies) in
            [(reached.half_of, &mut self.half), (reached.all_of, &mut self.all)]
        {
            if let Some(due_ns) = due_ns {
                latencies.saturating_record(now_ns.saturating_sub(due_ns));
            }
        }
    }

    /// Records an error; the first one is kept.
    pub(super) fn record_error(&mut self, error: impl FnOnce() -> String) {
        self.first_error.get_or_insert_with(error);
    }

    pub(super) fn add(&mut self, other: &Self) {
        let ranges = "all histograms have the same range";
        self.half.add(&other.half).expect(ranges);
        self.all.add(&other.all).expect(ranges);
        for (sum, stage) in self.stages.iter_mut().zip(&other.stages) {
            sum.add(stage).expect(ranges);
        }
        self.publications += other.publications;
        self.deliveries += other.deliveries;
        self.unsent += other.unsent;
        self.gaps += other.gaps;
        self.foreign += other.foreign;
        for (order, count) in &other.orders {
            *self.orders.entry(*order).or_default() += count;
        }
        self.errors.add(&other.errors);
        if let Some(error) = &other.first_error {
            self.record_error(|| error.clone());
        }
    }

    /// Compares the orders of all subscribers.
    pub(super) fn compare_orders(&mut self) {
        let total: u64 = self.orders.values().sum();
        let most = self.orders.values().copied().max().unwrap_or(0);
        self.errors.other_order = total - most;
        if total > most {
            self.record_error(|| {
                format!("{} subscribers got the publications in another order", total - most)
            });
        }
    }
}

impl Errors {
    fn named(&self) -> [(u64, &'static str); 7] {
        [
            (self.failed_connections, "connections failed"),
            (self.lost_connections, "connections lost"),
            (self.missing, "deliveries missing"),
            (self.repeated, "deliveries repeated or out of order"),
            (self.other_order, "subscribers with another order"),
            (self.wrong_type, "deliveries of the wrong type"),
            (self.wrong_content, "deliveries of the wrong content"),
        ]
    }

    pub(super) fn total(&self) -> u64 {
        self.named().iter().map(|(count, _)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        self.failed_connections += other.failed_connections;
        self.lost_connections += other.lost_connections;
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.other_order += other.other_order;
        self.wrong_type += other.wrong_type;
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

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn parts_add_up_and_the_rarer_order_is_the_wrong_one() {
        let mut sum = Tally::new(&plan());
        for (order, missing) in [(11, 0), (11, 2), (12, 0)] {
            let mut part = Tally::new(&plan());
            part.reach(Reached { half_of: Some(5), all_of: None }, None, 1005);
            part.orders.insert(order, 1);
            part.errors.missing = missing;
            part.deliveries = 10;
            sum.add(&part);
        }
        sum.compare_orders();
        assert_eq!((sum.half.len(), sum.all.len(), sum.deliveries), (3, 0, 30));
        assert_eq!((sum.errors.missing, sum.errors.other_order, sum.errors.total()), (2, 1, 3));
        let text = "deliveries missing: 2, subscribers with another order: 1";
        assert_eq!(sum.errors.to_string(), text);
        assert!(sum.first_error.unwrap().contains("another order"));
    }
}
