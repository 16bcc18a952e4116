//! Fall of the memory in use below its peak: what the allocator holds for nothing.

use std::cell::Cell;

/// Peaks of the bytes in use: since the allocator was last trimmed, and since the last look.
///
/// Invariant: `high >= recent`.
#[derive(Debug, Default)]
pub(crate) struct Tide {
    high: Cell<usize>,
    recent: Cell<usize>,
}

impl Tide {
    /// Takes note of the bytes in use.
    #[inline]
    pub(crate) fn note(&self, bytes: usize) {
        if bytes > self.recent.get() {
            self.recent.set(bytes);
            self.high.set(self.high.get().max(bytes));
        }
    }

    /// Whether so much less is in use now than at the peak that a look is due later.
    #[inline]
    pub(crate) fn has_ebbed(&self, bytes: usize) -> bool {
        self.high.get() - bytes.min(self.high.get()) >= EBB_BYTES_MIN
    }

    /// Returns whether trimming the allocator is worth it: whether everything in use since the last
    /// look stayed so far below the peak. `bytes` are in use now.
    pub(crate) fn look(&self, bytes: usize) -> bool {
        let is_low = self.has_ebbed(self.recent.get());
        self.recent.set(bytes);
        is_low
    }

    /// The allocator was trimmed: what is in use now is the new peak.
    pub(crate) fn trimmed(&self) {
        self.high.set(self.recent.get());
    }
}

/// Less is not worth looking through all that is free: a worker may hold so much for nothing.
const EBB_BYTES_MIN: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_peak_is_trimmed_after_a_whole_period_below_it() {
        let tide = Tide::default();
        tide.note(100 * MIB);
        assert!(!tide.has_ebbed(97 * MIB) && tide.has_ebbed(90 * MIB));
        assert!(!tide.look(90 * MIB), "the peak was in this period");
        tide.note(MIB);
        assert!(tide.look(MIB), "and in this one there was less");
        tide.trimmed();
        assert!(!tide.has_ebbed(0) && !tide.look(0));
    }

    #[test]
    fn a_second_burst_within_the_period_keeps_what_it_needed() {
        let tide = Tide::default();
        tide.note(100 * MIB);
        tide.look(MIB);
        tide.note(98 * MIB);
        assert!(!tide.look(MIB));
        tide.note(50 * MIB);
        assert!(tide.look(MIB), "half of it was not needed");
    }
}
