//! Counters of a running load for the live view: latencies of the last moment, errors, connections.
//!
//! There only while the view is shown. Each thread writes its own; the coordinator reads all.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of all threads.
#[derive(Debug)]
pub(super) struct Live {
    threads: Vec<LiveThread>,
}

#[derive(Debug)]
struct LiveThread {
    /// Latencies, by size.
    buckets: Box<[AtomicU64]>,
    errors: AtomicU64,
    connected: AtomicU64,
}

/// The counters at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    buckets: Vec<u64>,
    pub(super) errors: u64,
    pub(super) connected: u64,
}

impl Live {
    pub(super) fn new(threads: usize) -> Self {
        let thread = |_| LiveThread {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            errors: AtomicU64::new(0),
            connected: AtomicU64::new(0),
        };
        Self { threads: (0..threads).map(thread).collect() }
    }

    pub(super) fn count_latency(&self, thread: usize, latency_ns: u64) {
        increment(&self.threads[thread].buckets[bucket(latency_ns)]);
    }

    pub(super) fn set_errors(&self, thread: usize, errors: u64) {
        self.threads[thread].errors.store(errors, Ordering::Relaxed);
    }

    pub(super) fn count_connected(&self, thread: usize) {
        increment(&self.threads[thread].connected);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot { buckets: vec![0; BUCKETS], ..Snapshot::default() };
        for thread in &self.threads {
            for (sum, count) in sum.buckets.iter_mut().zip(&thread.buckets) {
                *sum += count.load(Ordering::Relaxed);
            }
            sum.errors += thread.errors.load(Ordering::Relaxed);
            sum.connected += thread.connected.load(Ordering::Relaxed);
        }
        sum
    }
}

/// Only one thread writes the counter, so a load and a store suffice.
fn increment(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl Snapshot {
    /// Returns the latency in nanoseconds that this share of the messages since `before` did not exceed, to an
    /// eighth; `None` without messages.
    pub(super) fn quantile_since(&self, before: &Self, share: f64) -> Option<u64> {
        let counts = self.buckets.iter().enumerate().map(|(index, count)| {
            count.saturating_sub(before.buckets.get(index).copied().unwrap_or(0))
        });
        let total: u64 = counts.clone().sum();
        let wanted = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        counts
            .enumerate()
            .find_map(|(index, count)| {
                seen += count;
                (seen >= wanted).then(|| upper_end(index))
            })
            .filter(|_| total > 0)
    }
}

/// Eight buckets for each power of two.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let power = u64::from(value.ilog2());
    ((power - STEPS_LOG2 + 1) * STEPS + ((value >> (power - STEPS_LOG2)) & (STEPS - 1))) as usize
}

/// The largest value of a bucket.
fn upper_end(bucket: usize) -> u64 {
    let (power, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if power == 0 {
        return step;
    }
    let width = 1_u128 << (power - 1);
    u64::try_from(u128::from(STEPS + step + 1) * width - 1).unwrap_or(u64::MAX)
}

const STEPS_LOG2: u64 = 3;
const STEPS: u64 = 1 << STEPS_LOG2;
const BUCKETS: usize = ((64 - STEPS_LOG2 + 1) * STEPS) as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_an_eighth_wide() {
        let mut last = 0;
        for value in (0..4096).chain([1 << 40, u64::MAX / 3, u64::MAX]) {
            let at = bucket(value);
            assert!(at >= last && at < BUCKETS, "{value}");
            last = at;
            let end = upper_end(at);
            assert!(end >= value && end - value <= value / 8 + 1, "{value}: {end}");
        }
    }

    #[test]
    fn quantiles_are_of_what_came_since() {
        let live = Live::new(2);
        let none = live.snapshot();
        assert_eq!(none.quantile_since(&Snapshot::default(), 0.5), None);
        (0..99).for_each(|_| live.count_latency(0, 7));
        let before = live.snapshot();
        (0..98).for_each(|_| live.count_latency(1, 1000));
        (0..2).for_each(|_| live.count_latency(0, 1_000_000));
        let now = live.snapshot();
        let near = |share: f64, wanted: u64| {
            let found = now.quantile_since(&before, share).unwrap();
            assert!((wanted..=wanted + wanted / 8).contains(&found), "{share}: {found}");
        };
        near(0.5, 1000);
        near(0.98, 1000);
        near(0.99, 1_000_000);
        live.set_errors(1, 3);
        live.count_connected(0);
        let snapshot = live.snapshot();
        assert_eq!((snapshot.errors, snapshot.connected), (3, 1));
    }
}
