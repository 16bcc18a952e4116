//! Memory accounting, and trimming after a burst.
//!
//! What happens beyond the memory limit is in `eviction.rs`.

use super::Worker;
use super::timers::Timer;
use crate::foreign;
use crate::local::Local;
use crate::memory::MemoryShare;
use crate::pool::{map_large_blocks, release_free_pages};
use crate::ring::Ring;
use crate::session::Session;
use picows_uring_proto::Tick;

/// The memory of a worker, as far as it is counted.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What its connections hold, in the budget of all workers.
    pub(super) share: MemoryShare,
    /// Turns for which the sum has been beyond the limit.
    pub(super) turns_over: u32,
    /// Bytes of commands to connections that were evicted, until the mailbox is read.
    pub(super) posted_to_evicted: usize,
    /// When free pages may be released again because of evictions.
    pub(super) release_at: Tick,
    /// A timer is set for giving up memory.
    is_trim_due: bool,
}

impl Memory {
    pub(super) fn new(local: &Local, now: Tick) -> Self {
        let share = MemoryShare::new(&local.config.memory, &local.mailbox);
        if share.budget().limit().is_some() {
            map_large_blocks();
        }
        Self { share, turns_over: 0, posted_to_evicted: 0, release_at: now, is_trim_due: false }
    }

    /// The commands of other threads were taken from the mailbox.
    pub(super) fn on_mailbox_read(&mut self) {
        self.posted_to_evicted = 0;
    }

    /// Another worker asks for a look at what is held.
    pub(super) fn on_asked(&mut self) {
        self.share.asked();
    }

    /// Bytes that the budget of all workers contains for this one.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn published(&self) -> usize {
        self.share.published()
    }
}

impl<R: Ring> Worker<R> {
    /// Publishes what is held in the counters, and sets the timer for trimming if memory is not
    /// needed.
    pub(super) fn account(&mut self) {
        let (counters, pool) = (&self.local.counters, &self.local.pool);
        let kept = pool.bytes() + self.local.codec_bytes();
        let connections = self.connection_bytes();
        counters.connection_bytes.set(connections as u64);
        counters.queue_bytes.set(pool.queued() as u64);
        counters.stash_bytes.set(pool.stashed() as u64);
        counters.history_bytes.set(pool.histories() as u64);
        counters.pool_bytes.set(kept as u64);
        counters.receive_buffers.set(self.ring.recv_buffers() as u64);
        counters.stray_panics.add(foreign::take_stray_panics());
        let in_use = self.in_use_beside(connections, kept);
        pool.tide.note(in_use);
        let has_spare = pool.has_spare()
            || self.local.codec_bytes() > 0
            || self.slots.has_spare()
            || self.ring.has_spare()
            || pool.tide.has_ebbed(in_use);
        if has_spare && !self.memory.is_trim_due {
            self.trim_later();
        }
    }

    #[cold]
    fn trim_later(&mut self) {
        self.memory.is_trim_due = true;
        let at = self.local.now.get() + self.local.config.memory_release;
        self.timers.insert(at, Timer::Trim);
    }

    /// Bytes of memory of the connections themselves.
    fn connection_bytes(&self) -> usize {
        self.slots.bytes() + self.slots.len() * size_of::<Session>()
    }

    /// Bytes of memory that the worker has of the allocator, what it keeps for use again included.
    fn in_use(&self) -> usize {
        let kept = self.local.pool.bytes() + self.local.codec_bytes();
        self.in_use_beside(self.connection_bytes(), kept)
    }

    /// The same, where the bytes of the connections and those that are kept are known.
    fn in_use_beside(&self, connections: usize, kept: usize) -> usize {
        let messages = self.local.counters.message_bytes.get();
        let messages = usize::try_from(messages).unwrap_or(usize::MAX);
        connections.saturating_add(self.local.pool.held() + kept).saturating_add(messages)
    }

    /// Gives up what was not needed since the last time: to the allocator, and once that has much
    /// more than was needed, to the system.
    pub(super) fn trim(&mut self) {
        self.memory.is_trim_due = false;
        self.local.pool.trim();
        self.local.trim_codecs(false);
        self.slots.trim();
        self.ring.trim();
        self.timers.trim();
        self.local.dirty.borrow_mut().shrink_to(DIRTY_KEPT);
        self.flush.trim(DIRTY_KEPT);
        let tide = &self.local.pool.tide;
        if tide.look(self.in_use()) && release_free_pages() {
            tide.trimmed();
        }
    }
}

/// Tokens for which a quiet worker keeps room.
const DIRTY_KEPT: usize = 256;
