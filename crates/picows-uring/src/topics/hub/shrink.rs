//! Histories that give way: to the bound of the hub, and to the memory limit of its server.

use super::HubCore;
use crate::memory::{MemoryBudget, Reserve};
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering;

impl HubCore {
    /// Counts the histories towards the budget of a server, unless they count towards one already.
    pub(in crate::topics) fn join_budget(self: &Arc<Self>, budget: &Arc<MemoryBudget>) {
        if self.settings.memory.join(budget) {
            let hub: Weak<Self> = Arc::downgrade(self);
            budget.add_reserve(hub);
        }
    }

    /// Has the histories give way, if they take more than they may. No lock of a topic is held.
    pub(super) fn shrink_if_over(&self) {
        let memory = &self.settings.memory;
        let held = memory.held();
        if held > self.history_bytes_max {
            // Some more, so that not each publication does that.
            self.shrink(held - self.history_bytes_max + self.history_bytes_max / 10);
        } else if held >= SHRINK_MIN
            && let Some(bytes) = memory.beyond_budget()
        {
            self.shrink(bytes);
        }
    }

    /// Has each history give up its part of so many bytes. Looks at each topic.
    fn shrink(&self, bytes: usize) {
        if self.is_shrinking.swap(true, Ordering::AcqRel) {
            return;
        }
        let topics: Vec<_> = self.read().topics().cloned().collect();
        let held = self.settings.memory.held();
        let left = held.saturating_sub(bytes) as u128;
        for topic in topics {
            let mut state = topic.lock();
            let own = state.log.bytes();
            // No more than it has now, as `left` is no more than `held`.
            let kept = own as u128 * left / held.max(1) as u128;
            state.log.shrink_to(usize::try_from(kept).unwrap_or(own));
        }
        self.is_shrinking.store(false, Ordering::Release);
    }
}

impl Reserve for HubCore {
    fn give_up(&self, bytes: usize) {
        self.shrink(bytes);
    }
}

/// Bytes that histories may take together by default.
pub(super) fn default_max() -> usize {
    MemoryBudget::of_process().limit().map_or(HISTORY_BYTES, |limit| limit / 4)
}

/// Where there is no memory limit.
const HISTORY_BYTES: usize = 1 << 30;
/// Histories that take less do not help, and looking at all topics again and again would cost.
const SHRINK_MIN: usize = 1024 * 1024;
