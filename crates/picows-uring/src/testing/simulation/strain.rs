//! Strain on the worker in some of the runs: small budgets, few receive buffers, polls that return
//! few of many completions, and a process that stands still while its peers go on.
//!
//! Drawn from numbers of its own, so that a run without it is what it was.

use crate::testing::ring::sim::{Faults, Random};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Strain {
    random: Random,
    /// Frames of a share, if that is not what it usually is.
    pub(super) units: Option<u16>,
    /// A stall begins in a step, per mille.
    stalls: u32,
    stalls_left: usize,
    /// The process stands still until then.
    stalled_until: Option<Duration>,
    /// How long it has stood still in all.
    pub(super) stalled: Duration,
    pub(super) stall_count: u64,
}

impl Strain {
    pub(super) fn draw(seed: u64, faults: &mut Faults) -> Self {
        let mut random = Random::new(seed ^ OTHER);
        let units = random.chance(300).then(|| random.pick(&[1, 3, 16, 64]));
        if units.is_some() {
            faults.buffers = random.pick(&[1, 2, 3, 8]);
        }
        if random.chance(300) {
            faults.poll_max = random.between(1, 20);
        }
        // Each cancellation may be outrun and outlived: the worker has to cancel again, or a peer that
        // sends nothing more keeps its connection.
        if Random::new(seed ^ CANCELS).chance(150) {
            (faults.race, faults.outlive) = (1000, 1000);
        }
        let stalls = if random.chance(300) { random.pick(&[2, 10]) } else { 0 };
        let stalls_left = random.between(1, 4);
        let (stalled_until, stalled, stall_count) = (None, Duration::ZERO, 0);
        Self { random, units, stalls, stalls_left, stalled_until, stalled, stall_count }
    }

    /// Whether the process stands still at `now`. It begins to when input waits for it.
    pub(super) fn is_stalled(&mut self, now: Duration, has_input: impl FnOnce() -> bool) -> bool {
        if let Some(until) = self.stalled_until {
            if now < until {
                return true;
            }
            self.stalled_until = None;
        }
        if self.stalls_left == 0 || !self.random.chance(self.stalls) || !has_input() {
            return false;
        }
        let span = Duration::from_millis(self.random.pick(&[20, 300, 1500, 6000]));
        self.stalled_until = Some(now + span);
        self.stalled += span;
        self.stalls_left -= 1;
        self.stall_count += 1;
        true
    }

    /// When it goes on.
    pub(super) fn ends_at(&self) -> Option<Duration> {
        self.stalled_until
    }
}

/// The numbers differ from those of the run.
const OTHER: u64 = 0x5EED_0F57_4A11_ED00;
/// The same, of what was added later: the other runs stay what they were.
const CANCELS: u64 = 0x5EED_0FCA_4CE1_ED00;
