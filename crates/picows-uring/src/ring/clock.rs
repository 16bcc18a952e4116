//! Clock of a ring: the time since the ring was set up.
//!
//! Read twice in a turn, by the shortest way: `Instant` goes through more code, which a lone message finds
//! out of cache.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Counts from its origin.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Duration,
}

impl Clock {
    /// A clock whose origin is now.
    pub(super) fn new() -> Self {
        Self { origin: monotonic_clock() }
    }

    /// The time since the origin.
    #[inline]
    pub(super) fn now(&self) -> Duration {
        monotonic_clock().saturating_sub(self.origin)
    }
}

/// The monotonic clock of the kernel.
pub(crate) fn monotonic_clock() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is negative: the clock counts from the start of the machine.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn it_goes_as_the_clock_of_the_library_does() {
        let (before, clock) = (Instant::now(), Clock::new());
        let inside = Instant::now();
        let mut last = Duration::ZERO;
        while inside.elapsed() < Duration::from_millis(2) {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        let (now, outside) = (clock.now(), before.elapsed());
        assert!(now >= Duration::from_millis(2) && now <= outside, "{now:?} of {outside:?}");
    }
}
