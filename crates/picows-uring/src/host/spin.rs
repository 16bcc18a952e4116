//! Spinning: looking for work again and again instead of sleeping.
//!
//! The kernel raises a flag in the memory of an io_uring ring when it has something, so looking
//! costs no system call there.

use super::Host;
use crate::ring::{Ring, Wait};
use std::time::Duration;

/// The time that a worker spins after the last activity before it sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusyPoll(pub(crate) Duration);

/// The spinning behind one turn.
pub(super) struct Spin {
    /// When the worker last had something to do.
    start: Duration,
    limit: Duration,
}

impl Spin {
    pub(super) fn begin(busy_poll: BusyPoll, ring: &impl Ring) -> Self {
        let start = if busy_poll.0.is_zero() { Duration::ZERO } else { ring.now() };
        Self { start, limit: busy_poll.0 }
    }

    /// Spins for a moment. `false` when there is work, or the time is over.
    pub(super) fn lasts<R: Ring + Wait>(&mut self, host: &mut Host<R>) -> bool {
        if self.limit.is_zero() {
            return false;
        }
        let begin = host.worker.ring.now();
        loop {
            host.worker.ring.look();
            for _ in 0..SPINS_PER_CLOCK {
                if host.has_work() {
                    return false;
                }
                std::hint::spin_loop();
            }
            host.worker.local.counters.spins.add(u64::from(SPINS_PER_CLOCK));
            let now = host.worker.ring.now();
            if now.saturating_sub(self.start) >= self.limit {
                return false;
            }
            if now.saturating_sub(begin) >= SPIN_MOMENT {
                return true;
            }
        }
    }
}

/// Ring checks per clock read; the clock costs more.
const SPINS_PER_CLOCK: u32 = 32;
/// How long a worker spins before it lets the other tasks of its loop run, which costs two system
/// calls.
const SPIN_MOMENT: Duration = Duration::from_micros(50);
