//! Memory limit: drops the connections that hold the most, until enough is free.
//!
//! Runs at the end of a turn. What is counted, and where, is in `memory.rs`.

use super::Worker;
use crate::connection::Connection;
use crate::foreign::log::{LogLine, log_limited, peer_field};
use crate::link::InputState;
use crate::memory::Pressure;
use crate::pool::release_free_pages;
use crate::ring::{Ring, Token};
use std::cmp::Reverse;
use std::time::Duration;

impl<R: Ring> Worker<R> {
    /// Bytes of memory that connections hold towards the memory limit.
    pub(crate) fn held_bytes(&self) -> usize {
        let messages = self.local.counters.message_bytes.get();
        let posted = self.local.mailbox.posted().saturating_sub(self.memory.posted_to_evicted);
        let held = self.local.pool.held().saturating_add(posted);
        held.saturating_add(usize::try_from(messages).unwrap_or(usize::MAX))
    }

    /// Publishes what is held, and does what the budget asks for.
    ///
    /// Nothing that runs code of applications follows in the turn: what it sends is held as well. So
    /// payloads are dropped here, before.
    #[inline]
    pub(super) fn keep_to_budget(&mut self) {
        self.local.pool.drop_discarded();
        match self.memory.share.publish(self.held_bytes()) {
            Pressure::None => self.memory.turns_over = 0,
            Pressure::Changed => self.look_for_largest(),
            Pressure::Over => self.relieve(),
        }
        self.local.is_in_budget.set(self.memory.share.is_part());
    }

    #[cold]
    fn look_for_largest(&mut self) {
        self.memory.turns_over = 0;
        let deferred = &self.receive.deferred;
        let bytes = |it: &mut Connection| it.held_bytes() + deferred.copied_of(it.session().token);
        let largest = self.slots.iter_mut().map(bytes).max();
        self.memory.share.looked(largest.unwrap_or(0));
    }

    /// Has frames be expanded to a small part of the limit before the next look: what is received is
    /// bounded by its buffers, and what it is expanded to is not. To nothing while connections are to be
    /// evicted, and it is waited for which.
    #[cfg(feature = "deflate")]
    pub(super) fn allow_expansion(&self) {
        let part =
            |limit: usize| (limit / EXPANDED_PART).clamp(EXPANDED_BYTES_MIN, EXPANDED_BYTES_MAX);
        let is_waiting = (1..UNDECIDED_TURNS_MAX).contains(&self.memory.turns_over);
        let limit = self.memory.share.budget().limit();
        let bytes = if is_waiting { 0 } else { limit.map_or(EXPANDED_BYTES_MAX, part) };
        self.local.expansion_left.set(bytes);
    }

    /// The sum is beyond the limit.
    #[cold]
    fn relieve(&mut self) {
        let budget = self.memory.share.budget();
        budget.give_up_reserves();
        if !budget.is_over() {
            self.memory.turns_over = 0;
            return;
        }
        // What this turn queued was not offered to the sockets yet, and what other threads have posted
        // not even queued. That is not the peers' fault: it is judged in the next turn, which follows
        // at once, when all has been told of it.
        let is_undecided = self.ring.has_work() || self.local.mailbox.has_mail();
        if is_undecided && self.memory.turns_over < UNDECIDED_TURNS_MAX {
            self.memory.turns_over += 1;
            return;
        }
        let mut holders = self.holders();
        holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let (limit, target) =
            (self.memory.share.budget().limit(), self.memory.share.budget().target());
        let limit = limit.unwrap_or(usize::MAX);
        let mut holders = holders.into_iter();
        let before = self.local.counters.memory_evictions.get();
        loop {
            let next = holders.next();
            let bytes = next.map_or(0, |(bytes, _)| bytes);
            self.memory.share.looked(bytes);
            let sum = self.memory.share.sum();
            // A worker that does not look, as a callback blocks it, is not waited for for ever.
            let can_wait = sum < limit.saturating_add(limit / 8);
            if sum < target || (self.memory.share.ask_larger(bytes) && can_wait) {
                break;
            }
            let Some((_, token)) = next else { break };
            self.evict(token, bytes, limit);
            // Their owners may send to others, which counts.
            self.local.pool.drop_discarded();
            self.memory.share.publish_now(self.held_bytes());
        }
        if self.local.counters.memory_evictions.get() > before {
            self.release_at_once();
        }
    }

    /// Connections were evicted: what they held is to be free for everything, and not for this worker
    /// alone.
    fn release_at_once(&mut self) {
        self.local.pool.give_up();
        self.local.trim_codecs(true);
        let now = self.local.now.get();
        if self.memory.release_at <= now && release_free_pages() {
            self.memory.release_at = now + BETWEEN_RELEASES;
        }
    }

    fn evict(&mut self, token: Token, bytes: usize, limit: usize) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        self.local.counters.memory_evictions.increment();
        let peer = connection.session().peer.get();
        log_limited!(warn, self.local, LogLine::MemoryLimit, peer = peer_field(peer), bytes, limit);
        self.memory.posted_to_evicted += connection.session().posted_bytes();
        connection.evict();
        if self.receive.deferred.drop_of(token, &mut self.ring, &self.local.pool) {
            connection.link.input = InputState::Flowing;
        }
    }

    /// What each connection holds that holds anything; as many as there is memory for the list.
    fn holders(&mut self) -> Vec<(usize, Token)> {
        let mut holders = Vec::new();
        for connection in self.slots.iter_mut() {
            let token = connection.session().token;
            let held = connection.held_bytes() + self.receive.deferred.copied_of(token);
            if held > 0 && holders.try_reserve(1).is_ok() {
                holders.push((held, token));
            }
        }
        holders
    }
}

/// Clients that fill memory again and again do not keep the allocator busy.
const BETWEEN_RELEASES: Duration = Duration::from_secs(1);
/// Turns for which the outcome of sends is waited for.
const UNDECIDED_TURNS_MAX: u32 = 8;
/// One in so many bytes of the limit is what frames may be expanded to between two looks.
#[cfg(feature = "deflate")]
const EXPANDED_PART: usize = 32;
/// Of a small limit: some messages.
#[cfg(feature = "deflate")]
const EXPANDED_BYTES_MIN: usize = 256 * 1024;
/// Of a large one, or none: more than a turn expands of messages that are not bombs.
#[cfg(feature = "deflate")]
const EXPANDED_BYTES_MAX: usize = 16 << 20;
