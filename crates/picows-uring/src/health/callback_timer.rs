//! Timing of callbacks: the connection, and its callback, that took most of a turn.
//!
//! Only the coarse clock of the kernel is read, which costs a few nanoseconds and moves every few
//! milliseconds: once for each turn, and for each completion that brings bytes, not for each message.

use crate::ring::Token;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct CallbackTimer {
    /// Turns and callbacks are slow from here on; zero is never.
    limit: Duration,
    pub(crate) clock: Cell<fn() -> Duration>,
    begun: Cell<Duration>,
    last: Cell<Duration>,
    longest: Cell<Duration>,
    culprit: Cell<Option<(Token, &'static str)>>,
}

impl CallbackTimer {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            clock: Cell::new(coarse_clock),
            begun: Cell::default(),
            last: Cell::default(),
            longest: Cell::default(),
            culprit: Cell::default(),
        }
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        (!self.limit.is_zero()).then_some(self.limit)
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn begin(&self) {
        let now = (self.clock.get())();
        self.begun.set(now);
        self.last.set(now);
        self.longest.set(Duration::ZERO);
    }

    /// How long ago the turn began, as exactly as the coarse clock can; zero if that is no more
    /// than its step.
    pub(crate) fn late(&self) -> Duration {
        let late = (self.clock.get())().saturating_sub(self.begun.get());
        if late > COARSE_STEP_MAX { late } else { Duration::ZERO }
    }

    /// How long the turn had lasted at the last mark.
    pub(crate) fn turn_so_far(&self) -> Duration {
        self.last.get().saturating_sub(self.begun.get())
    }

    /// What has happened since the last mark was `callback` of a connection.
    #[inline]
    pub(crate) fn mark(&self, token: Token, callback: &'static str) {
        let now = (self.clock.get())();
        let took = now.saturating_sub(self.last.replace(now));
        if took > self.longest.get() {
            self.longest.set(took);
            self.culprit.set(Some((token, callback)));
        }
    }

    /// What took longest in this turn, and how long, as exactly as the coarse clock can.
    pub(crate) fn longest(&self) -> Option<(Token, &'static str, Duration)> {
        let took = self.longest.get();
        let (token, callback) = self.culprit.get().filter(|_| !took.is_zero())?;
        Some((token, callback, took))
    }
}

fn coarse_clock() -> Duration {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    // Neither is negative: the clock counts from the start of the machine.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The coarse clock moves every 1 to 10 ms, as the kernel was configured: what took as long as this
/// below the limit may have taken as long as the limit.
pub(crate) const COARSE_STEP_MAX: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_moves_in_small_steps() {
        let begin = coarse_clock();
        let mut next = begin;
        while next == begin {
            next = coarse_clock();
        }
        assert!(next > begin);
    }
}
