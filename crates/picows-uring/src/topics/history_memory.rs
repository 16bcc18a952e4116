//! Memory that the histories of a hub take, and its part in the memory budget of a server.
//!
//! Counts only. What gives way is decided in `hub/shrink.rs`.

use crate::memory::MemoryBudget;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The sum of the histories of a hub.
#[derive(Debug, Default)]
pub(super) struct HistoryMemory {
    held: AtomicUsize,
    /// What the budget contains of it.
    published: AtomicUsize,
    /// That of the server that the first subscriber was connected to.
    budget: OnceLock<Arc<MemoryBudget>>,
}

impl HistoryMemory {
    /// A history took `before` bytes, and takes `now`.
    pub(super) fn change(&self, before: usize, now: usize) {
        if before != now {
            self.held.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            self.publish();
        }
    }

    /// Has the budget contain what is held, unless the difference is small.
    fn publish(&self) {
        let Some(budget) = self.budget.get() else { return };
        let held = self.held();
        let is_much = held.abs_diff(self.published.load(Ordering::Relaxed)) >= budget.step();
        if is_much || held == 0 {
            // Each takes what the one before it has left there: the budget has their sum.
            let before = self.published.swap(held, Ordering::AcqRel);
            budget.change(before, held);
        }
    }

    /// Counts towards a budget from now on. Returns whether it did towards none before.
    pub(super) fn join(&self, budget: &Arc<MemoryBudget>) -> bool {
        let is_first = self.budget.get().is_none() && self.budget.set(Arc::clone(budget)).is_ok();
        if is_first {
            self.publish();
        }
        is_first
    }

    /// Bytes of all histories.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes beyond what the budget allows, where its sum is beyond the limit.
    pub(super) fn beyond_budget(&self) -> Option<usize> {
        let budget = self.budget.get().filter(|budget| budget.is_over())?;
        Some(budget.beyond_target())
    }
}

impl Drop for HistoryMemory {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.get() {
            budget.change(*self.published.get_mut(), 0);
        }
    }
}
