//! Histogram of durations, written by one thread without a lock and read by any.
//!
//! Buckets are powers of two of microseconds: a value costs a few instructions, and those of several
//! workers can be added. A histogram of more precision would need a lock, or a copy for each reader.

use super::counters::Counter;
use std::ops::AddAssign;
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Bucket `n` has the values below 2^n µs that no bucket before it has; the last one all others.
    buckets: [Counter; BUCKETS],
    /// The sum of all values, in microseconds.
    micros: Counter,
}

/// The state of a histogram at one moment, or the sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramReading {
    buckets: [u64; BUCKETS],
    micros: u64,
}

impl Histogram {
    /// Counts a duration. Only the owner may.
    #[inline]
    pub(crate) fn record(&self, duration: Duration) {
        self.record_micros(duration.as_micros() as u64);
    }

    /// [`record`](Self::record), of a number of microseconds.
    #[inline]
    pub(crate) fn record_micros(&self, micros: u64) {
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].increment();
        self.micros.add(micros);
    }

    pub(crate) fn read(&self) -> HistogramReading {
        let mut reading = HistogramReading { micros: self.micros.get(), ..Default::default() };
        for (read, bucket) in reading.buckets.iter_mut().zip(&self.buckets) {
            *read = bucket.get();
        }
        reading
    }
}

impl HistogramReading {
    /// Upper bounds in seconds, each with the number of values up to it; infinity comes last.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = (0..BUCKETS as i32 - 1).map(|bucket| 2_f64.powi(bucket) / 1e6);
        let mut count = 0;
        bounds.chain([f64::INFINITY]).zip(self.buckets).map(move |(bound, in_bucket)| {
            count += in_bucket;
            (bound, count)
        })
    }

    /// The sum of all values.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_micros(self.micros)
    }
}

impl AddAssign for HistogramReading {
    fn add_assign(&mut self, other: Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
        self.micros += other.micros;
    }
}

/// Bounds of 1 µs to 2^24 µs, which is 16.8 s, and infinity.
const BUCKETS: usize = 26;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_below_the_next_power_of_two() {
        for (micros, bound) in [(0, 1e-6), (1, 2e-6), (2, 4e-6), (3, 4e-6), (4, 8e-6)] {
            let histogram = Histogram::default();
            histogram.record_micros(micros);
            let first = histogram.read().cumulative().find(|(_, count)| *count == 1);
            assert_eq!(first.map(|(bound, _)| bound), Some(bound), "{micros} µs");
        }
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(1 << 24));
        histogram.record(Duration::from_secs(1 << 40));
        let counts: Vec<_> = histogram.read().cumulative().filter(|it| it.1 > 0).collect();
        assert_eq!(counts, [(f64::INFINITY, 2)]);
    }

    #[test]
    fn readings_of_workers_are_added() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.record(Duration::from_millis(1));
        other.record(Duration::from_millis(3));
        let mut sum = one.read();
        sum += other.read();
        assert_eq!(sum.sum(), Duration::from_millis(4));
        assert_eq!(sum.cumulative().last(), Some((f64::INFINITY, 2)));
        assert_eq!(sum.cumulative().filter(|it| it.1 == 1).count(), 2, "1024 µs, 2048 µs");
    }
}
