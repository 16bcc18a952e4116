//! A point in time, as an argument.
//!
//! Nothing here reads a clock: the runtime does, once a turn, and passes the result in.

use std::ops::Add;
use std::time::Duration;

/// A point in time, in nanoseconds since an origin that the caller chose.
///
/// Only differences mean anything. The runtime counts from the start of its worker with
/// `CLOCK_MONOTONIC`; a test counts from zero and moves the hand itself. 64 bits of nanoseconds
/// last 584 years, so arithmetic saturates and never wraps.
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::Tick;
///
/// let start = Tick::ZERO;
/// let later = start + Duration::from_millis(5);
/// assert_eq!(later.duration_since(start), Duration::from_millis(5));
/// assert_eq!(start.duration_since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// The point `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this point, or zero when `earlier` is later.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    /// The point `duration` later; the last representable point when there is none.
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Tick::from_nanos(u64::MAX) + Duration::from_secs(1), Tick::from_nanos(u64::MAX));
        assert_eq!(Tick::ZERO + Duration::MAX, Tick::from_nanos(u64::MAX));
        assert_eq!(Tick::ZERO.duration_since(Tick::from_nanos(7)), Duration::ZERO);
    }
}
