//! Deadlines, handed back as tokens once they have passed: one wheel for a worker's every timer.
//!
//! Knows neither what a timer is for nor what time it is: both are arguments.
//!
//! A hierarchical wheel whose dials stand still: a slot covers the same span of time for ever, so
//! time passing costs nothing, and a jump of a year is a jump like any other. `wheel/dials.rs`
//! arranges the timers, `wheel/timers.rs` stores them.

mod dials;
mod timers;

use std::fmt;
use std::time::Duration;

use self::dials::Dials;
use self::timers::Timers;
use crate::tick::Tick;

pub use self::timers::TimerId;

/// A set of timers, each a deadline and a token that mean something to the caller only.
///
/// # Guarantees
///
/// - A timer never fires before its deadline. It fires in the first call of [`expire`] whose `now`
///   has reached the deadline, rounded up to [`GRANULARITY`].
/// - Timers fire in the order of their rounded deadlines, and those that share one in the order
///   in which they were inserted.
/// - A deadline that an earlier call of [`expire`] has passed already counts as the first granule
///   after that call's `now`. So a caller who arms a timer without delay while draining ends the
///   drain all the same, and gets that timer within a granule.
/// - [`next_deadline`] names the instant at which something fires: a caller who sleeps until then
///   is never woken for nothing, whatever was cancelled in between.
/// - [`insert`], [`cancel`] and [`expire`] take constant time, whatever the number of timers: none
///   moves more than a few dozen of them. Nothing takes time in proportion to the time that passed.
/// - Memory grows with the most timers ever armed at once (32 bytes each, and some 10 for the
///   dials when there are many), is reused, and goes back with [`trim`] or when the wheel is dropped.
///
/// [`GRANULARITY`]: Wheel::GRANULARITY
/// [`insert`]: Wheel::insert
/// [`cancel`]: Wheel::cancel
/// [`expire`]: Wheel::expire
/// [`trim`]: Wheel::trim
/// [`next_deadline`]: Wheel::next_deadline
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::{Tick, Wheel};
///
/// let start = Tick::ZERO;
/// let mut wheel = Wheel::new(start);
/// wheel.insert(start + Duration::from_secs(30), 1);
/// let close = wheel.insert(start + Duration::from_secs(5), 2);
/// wheel.insert(start + Duration::from_secs(10), 3);
/// assert!(wheel.cancel(close));
///
/// let wake = wheel.next_deadline().expect("two timers are armed");
/// assert!(wake.duration_since(start) >= Duration::from_secs(10));
/// assert_eq!(wheel.expire(start), None);
/// assert_eq!(wheel.expire(wake), Some(3));
/// assert_eq!(wheel.expire(wake), None);
/// assert_eq!(wheel.len(), 1);
/// ```
pub struct Wheel {
    timers: Timers,
    dials: Dials,
    /// The timer that fires next. `None` when that has to be found out, or nothing is armed.
    first: Option<u32>,
    /// The first granule that a new timer may have.
    granule_min: u64,
}

impl Wheel {
    /// What deadlines are rounded up to: 2^20 ns, a little over a millisecond.
    pub const GRANULARITY: Duration = Duration::from_nanos(GRANULE_NANOS);

    /// A wheel without timers. It accepts deadlines before `now`, and fires them at once.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self {
            timers: Timers::new(),
            dials: Dials::new(),
            first: None,
            granule_min: granule_reached(now),
        }
    }

    /// Arms a timer, for `expire` to return `token` once `deadline` has passed.
    ///
    /// # Panics
    ///
    /// With 2^32 - 1 timers armed: 128 GiB of them.
    pub fn insert(&mut self, deadline: Tick, token: u64) -> TimerId {
        let granule = granule_of(deadline).max(self.granule_min);
        let was_empty = self.is_empty();
        let timer = self.timers.allocate(granule, token);
        self.dials.insert(&mut self.timers, timer);
        // Among equals the older timer stays first.
        let is_first = match self.first {
            Some(first) => granule < self.timers[first].granule,
            None => was_empty,
        };
        if is_first {
            self.first = Some(timer);
        }
        self.timers.id(timer)
    }

    /// Disarms a timer. False when it has fired or was cancelled already: a stale id does nothing,
    /// for as long as the wheel lives.
    ///
    /// ```
    /// use picows_uring_proto::{Tick, Wheel};
    ///
    /// let mut wheel = Wheel::new(Tick::ZERO);
    /// let id = wheel.insert(Tick::from_nanos(1), 7);
    /// assert!(wheel.cancel(id));
    /// assert!(!wheel.cancel(id));
    /// ```
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let Some(timer) = self.timers.find(id) else {
            return false;
        };
        self.remove(timer);
        true
    }

    /// Disarms one timer that is due at `now` and returns its token; `None` when no more are due.
    ///
    /// To be called in a loop. Harmless when called early, twice, or with an earlier `now` than
    /// before.
    ///
    /// ```
    /// use picows_uring_proto::{Tick, Wheel};
    ///
    /// let mut wheel = Wheel::new(Tick::ZERO);
    /// for token in 0..3 {
    ///     wheel.insert(Tick::from_nanos(1_000), token);
    /// }
    /// let now = Tick::from_nanos(5_000_000);
    /// let mut fired = Vec::new();
    /// while let Some(token) = wheel.expire(now) {
    ///     wheel.insert(now, token); // Not due again before the next granule.
    ///     fired.push(token);
    /// }
    /// assert_eq!(fired, [0, 1, 2]);
    /// assert_eq!(wheel.len(), 3);
    /// ```
    pub fn expire(&mut self, now: Tick) -> Option<u64> {
        let granule_now = granule_reached(now);
        // At the end of time there is no next granule, and nothing left to protect.
        self.granule_min = self.granule_min.max((granule_now + 1).min(GRANULE_LAST));
        let timer = self.first()?;
        if granule_now < self.timers[timer].granule {
            return None;
        }
        let token = self.timers[timer].token;
        self.remove(timer);
        Some(token)
    }

    /// The earliest `now` at which [`expire`](Self::expire) returns a token; `None` when nothing is
    /// armed. In the past when something is overdue.
    ///
    /// Remembered between changes, so asking once a turn is free.
    ///
    /// ```
    /// use picows_uring_proto::{Tick, Wheel};
    ///
    /// let mut wheel = Wheel::new(Tick::ZERO);
    /// assert_eq!(wheel.next_deadline(), None);
    /// wheel.insert(Tick::from_nanos(1), 7);
    /// assert_eq!(wheel.next_deadline(), Some(Tick::ZERO + Wheel::GRANULARITY));
    /// ```
    #[must_use]
    pub fn next_deadline(&mut self) -> Option<Tick> {
        let timer = self.first()?;
        Some(instant_of(self.timers[timer].granule))
    }

    /// Gives up memory that no timer uses: as much as lies behind what the others use. Ids that are
    /// stale stay so.
    ///
    /// Takes time in proportion to the most timers ever armed at once: something for a quiet moment.
    ///
    /// ```
    /// use picows_uring_proto::{Tick, Wheel};
    ///
    /// let mut wheel = Wheel::new(Tick::ZERO);
    /// let stale = wheel.insert(Tick::ZERO, 1);
    /// wheel.cancel(stale);
    /// wheel.trim();
    /// wheel.insert(Tick::ZERO, 2);
    /// assert!(!wheel.cancel(stale));
    /// ```
    pub fn trim(&mut self) {
        self.timers.trim();
        self.dials.trim();
    }

    /// Timers armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timers.len()
    }

    /// Whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timers.len() == 0
    }

    /// The timer that fires next, searched for only when it is not known.
    fn first(&mut self) -> Option<u32> {
        if self.first.is_none() {
            self.first = self.dials.first(&mut self.timers);
        }
        self.first
    }

    fn remove(&mut self, timer: u32) {
        if self.first == Some(timer) {
            self.first = self.timers.next_of_same_granule(timer);
        }
        self.dials.remove(&mut self.timers, timer);
        self.timers.free(timer);
    }
}

impl fmt::Debug for Wheel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Wheel").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The granule that `deadline` is rounded up to.
fn granule_of(deadline: Tick) -> u64 {
    deadline.as_nanos().div_ceil(GRANULE_NANOS)
}

/// The last granule whose instant is not after `now`.
fn granule_reached(now: Tick) -> u64 {
    match now.as_nanos() {
        // The instant of the last granule is one past what 64 bits hold, and saturates to this.
        u64::MAX => GRANULE_LAST,
        nanos => nanos / GRANULE_NANOS,
    }
}

/// The instant at which the timers of `granule` fire.
fn instant_of(granule: u64) -> Tick {
    Tick::from_nanos(granule.saturating_mul(GRANULE_NANOS))
}

/// A power of two, so that rounding is a shift. A millisecond is what a kernel timer of an idle
/// machine is worth, and a thousandth of the shortest deadline that a protocol of seconds has.
const GRANULE_NANOS: u64 = 1 << 20;

/// The granule of deadlines in the last millisecond of the 584 years that a `Tick` counts.
const GRANULE_LAST: u64 = u64::MAX.div_ceil(GRANULE_NANOS);

const _: () = assert!(GRANULE_LAST < dials::GRANULE_END);

#[cfg(test)]
mod tests;
