//! What the worker holds, told to whoever asks; and what a burst has left behind, given up.

use super::{Timer, Worker};
use crate::foreign;
use crate::pool::release_free_pages;
use crate::ring::Ring;
use crate::session::Session;

impl<R: Ring> Worker<R> {
    /// Tells what is held, and has a look taken later at what nobody needs. There is no timer
    /// while there is nothing to give up.
    pub(super) fn account(&mut self) {
        let (counters, pool) = (&self.local.counters, &self.local.pool);
        let sessions = self.slots.len() * size_of::<Session>();
        counters.connection_bytes.set((self.slots.bytes() + sessions) as u64);
        counters.queue_bytes.set(pool.queued() as u64);
        counters.stash_bytes.set(pool.stashed() as u64);
        counters.pool_bytes.set(pool.bytes() as u64);
        counters.receive_buffers.set(self.ring.recv_buffers() as u64);
        counters.stray_panics.add(foreign::take_stray_panics());
        let in_use = self.in_use();
        pool.tide.note(in_use);
        let has_spare = pool.has_spare()
            || self.slots.has_spare()
            || self.ring.has_spare()
            || pool.tide.has_ebbed(in_use);
        if has_spare && !self.is_trim_due {
            self.is_trim_due = true;
            let at = self.local.now.get() + self.local.config.memory_release;
            self.wheel.insert(at, Timer::Trim.pack());
        }
    }

    /// Bytes of memory that the worker has of the allocator, what it keeps for use again included.
    fn in_use(&self) -> usize {
        let (counters, pool) = (&self.local.counters, &self.local.pool);
        let messages = usize::try_from(counters.message_bytes.get()).unwrap_or(usize::MAX);
        let connections = self.slots.bytes() + self.slots.len() * size_of::<Session>();
        let held = pool.queued() + pool.stashed() + pool.bytes();
        connections.saturating_add(held).saturating_add(messages)
    }

    /// Gives up what was not needed since the last time: to the allocator, and once that has much
    /// more than was needed, to the system.
    pub(super) fn trim(&mut self) {
        self.is_trim_due = false;
        self.local.pool.trim();
        self.slots.trim();
        self.ring.trim();
        self.wheel.trim();
        self.local.dirty.borrow_mut().shrink_to(DIRTY_KEPT);
        self.dirty.shrink_to(DIRTY_KEPT);
        let tide = &self.local.pool.tide;
        if tide.look(self.in_use()) && release_free_pages() {
            tide.trimmed();
        }
    }
}

/// Tokens for which a quiet worker keeps room.
const DIRTY_KEPT: usize = 256;
