//! Paces CLOSE 1001 during a graceful shutdown.
//!
//! Sends nothing itself: it names the next connection, and when it is due.

use crate::ring::Token;
use picows_uring_proto::Tick;
use std::time::Duration;

/// The connections that are still to be sent CLOSE 1001.
#[derive(Debug, Default)]
pub(super) struct ShutdownPacer {
    waiting: std::vec::IntoIter<Token>,
    begun: Tick,
    /// How many are due within `spread`, counted from `begun`.
    count: usize,
    spread: Duration,
}

impl ShutdownPacer {
    /// Spreads `connections` over the time `spread`, or at a fixed pace; over at most half of
    /// `drain`, so that the last have time to answer.
    pub(super) fn new(
        connections: Vec<Token>,
        now: Tick,
        spread: Option<Duration>,
        drain: Duration,
    ) -> Self {
        let count = connections.len();
        let waiting = connections.into_iter();
        let spread = spread_of(spread, count, drain);
        Self { waiting, begun: now, count, spread }
    }

    /// Moves the remaining connections forward, if a new `drain` leaves less time.
    pub(super) fn hurry(&mut self, now: Tick, spread: Option<Duration>, drain: Duration) {
        let count = self.waiting.len();
        let spread = spread_of(spread, count, drain);
        if now + spread < self.begun + self.spread {
            (self.begun, self.count, self.spread) = (now, count, spread);
        }
    }

    /// The next connection that is due at `now`.
    pub(super) fn next(&mut self, now: Tick) -> Option<Token> {
        if self.next_at()? <= now { self.waiting.next() } else { None }
    }

    /// When the next connection is due.
    pub(super) fn next_at(&self) -> Option<Tick> {
        let passed = self.count.saturating_sub(self.waiting.len());
        let part = passed as f64 / self.count as f64;
        (self.waiting.len() > 0).then(|| self.begun + self.spread.mul_f64(part))
    }
}

fn spread_of(spread: Option<Duration>, count: usize, drain: Duration) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    spread.unwrap_or_else(|| PACE.saturating_mul(count)).min(drain / 2)
}

/// Between two connections of a worker: 10,000 a second, about as many as a server can take in
/// again.
const PACE: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shutdown(count: u32, spread: Option<Duration>, drain: Duration) -> ShutdownPacer {
        let tokens = (0..count).map(|slot| Token { slot, generation: 0 }).collect();
        ShutdownPacer::new(tokens, Tick::ZERO, spread, drain)
    }

    /// Connections whose CLOSE is due by then.
    fn told_by(shutdown: &mut ShutdownPacer, at: Duration) -> usize {
        std::iter::from_fn(|| shutdown.next(Tick::ZERO + at)).count()
    }

    #[test]
    fn they_are_spread_evenly() {
        let mut shutdown = shutdown(100, Some(10 * SECOND), 60 * SECOND);
        assert_eq!(told_by(&mut shutdown, Duration::ZERO), 1);
        assert_eq!(shutdown.next_at(), Some(Tick::ZERO + SECOND / 10));
        assert_eq!(told_by(&mut shutdown, 5 * SECOND), 50);
        assert_eq!(told_by(&mut shutdown, 5 * SECOND), 0);
        assert_eq!(told_by(&mut shutdown, 10 * SECOND), 49);
        assert_eq!(shutdown.next_at(), None);
    }

    #[test]
    fn by_itself_it_takes_as_long_as_there_are_many() {
        for (count, drain, spread) in [
            (1, 5 * SECOND, Duration::from_micros(100)),
            (10_000, 5 * SECOND, SECOND),
            (1_000_000, 5 * SECOND, 5 * SECOND / 2),
            (1_000_000, Duration::ZERO, Duration::ZERO),
        ] {
            assert_eq!(shutdown(count, None, drain).spread, spread, "{count}");
        }
    }

    #[test]
    fn a_shorter_drain_timeout_brings_the_rest_forward() {
        let mut shutdown = shutdown(100, Some(10 * SECOND), 60 * SECOND);
        assert_eq!(told_by(&mut shutdown, 5 * SECOND), 51);
        shutdown.hurry(Tick::ZERO + 5 * SECOND, Some(10 * SECOND), 2 * SECOND);
        assert_eq!(told_by(&mut shutdown, 5 * SECOND + SECOND / 2), 25);
        assert_eq!(told_by(&mut shutdown, 6 * SECOND), 24);
        // More patience changes nothing.
        let mut shutdown = self::shutdown(100, Some(SECOND), 60 * SECOND);
        shutdown.hurry(Tick::ZERO, Some(SECOND), 60 * SECOND);
        assert_eq!(told_by(&mut shutdown, SECOND), 100);
        let mut empty = self::shutdown(0, None, SECOND);
        assert_eq!((empty.next(Tick::ZERO), empty.next_at()), (None, None));
    }
}
