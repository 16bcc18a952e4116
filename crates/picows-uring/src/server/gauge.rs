//! How many connections are open, in all workers together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A count with a limit that is never passed.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    /// Counts one more, unless that would pass `limit`.
    pub(crate) fn acquire(&self, limit: Option<usize>) -> bool {
        let limit = limit.unwrap_or(usize::MAX);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < limit).then_some(count + 1)
            })
            .is_ok()
    }

    /// Counts one less.
    pub(crate) fn release(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections that a worker has at the most, those that are being refused included.
    pub(crate) fn limit_with_refused(limit: Option<usize>) -> usize {
        limit.map_or(usize::MAX, |limit| limit.saturating_add(REFUSED_MAX))
    }
}

/// Connections of a worker that are told at the same time that there is no room. Each is a
/// descriptor, which a flood must not be able to use up.
const REFUSED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact() {
        let gauge = Gauge::default();
        assert!(gauge.acquire(Some(2)) && gauge.acquire(Some(2)));
        assert!(!gauge.acquire(Some(2)));
        gauge.release();
        assert!(gauge.acquire(Some(2)) && !gauge.acquire(Some(2)));
        assert!(gauge.acquire(None));
    }
}
