//! Memory budget of connections: one sum for all workers of a process, or of a server.
//!
//! Counts only. A worker publishes what its connections hold; when the sum passes the limit, the
//! largest holder is dropped (`worker/eviction.rs`).

mod limit;

pub use limit::MemoryBounds;

use crate::command::Command;
use crate::mailbox::Mailbox;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// The sum, its limit, and who adds to it.
#[derive(Debug)]
#[repr(align(128))] // Its writers do not slow others down.
pub(crate) struct MemoryBudget {
    /// `usize::MAX` for none.
    limit: usize,
    used: AtomicUsize,
    /// Locked when a worker begins or ends, when it is at the limit, and when a client connects
    /// close to it.
    members: Mutex<Vec<Arc<Member>>>,
    /// Locked when one begins, and at the limit.
    reserves: Mutex<Vec<Weak<dyn Reserve>>>,
}

/// Memory that is in the sum and belongs to no connection, of which less does as well: it is given up
/// before a connection is.
pub(crate) trait Reserve: fmt::Debug + Send + Sync {
    /// Gives up about so many bytes, as far as it has them.
    fn give_up(&self, bytes: usize);
}

/// A worker, as the others see it.
#[derive(Debug)]
struct Member {
    /// Bytes of its largest holder, as of its last look.
    largest: AtomicUsize,
    /// It was asked to look, and has not.
    is_asked: AtomicBool,
    mailbox: Arc<Mailbox>,
}

/// The part of one worker in a [`MemoryBudget`].
#[derive(Debug)]
pub(crate) struct MemoryShare {
    budget: Arc<MemoryBudget>,
    member: Arc<Member>,
    /// What the sum contains of ours.
    published: usize,
    /// What that was when the largest holder was last looked for.
    scanned: usize,
    is_over: bool,
}

/// The use of the memory budget, as a worker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// There is nothing to do.
    None,
    /// Much has changed since the largest holder was last looked for.
    Changed,
    /// The sum is beyond the limit.
    Over,
}

impl MemoryBudget {
    /// A budget of its own; `None` has no limit.
    pub(crate) fn new(limit: Option<usize>) -> Arc<Self> {
        let limit = limit.unwrap_or(usize::MAX);
        let (members, reserves) = (Mutex::default(), Mutex::default());
        Arc::new(Self { limit, used: AtomicUsize::new(0), members, reserves })
    }

    /// A budget of the same size for another server; that of the process, where it has none of its own.
    pub(crate) fn of_another(budget: &Arc<Self>) -> Arc<Self> {
        let process = Self::of_process();
        if Arc::ptr_eq(budget, &process) { process } else { Self::new(budget.limit()) }
    }

    /// The budget of all that have none of their own.
    pub(crate) fn of_process() -> Arc<Self> {
        static PROCESS: OnceLock<Arc<MemoryBudget>> = OnceLock::new();
        Arc::clone(PROCESS.get_or_init(|| Self::new(limit::of_process())))
    }

    /// The limit, if there is one.
    pub(crate) fn limit(&self) -> Option<usize> {
        (self.limit != usize::MAX).then_some(self.limit)
    }

    /// Whether newcomers are to be refused: little is left, and no connection holds so much that
    /// dropping it would be better.
    pub(crate) fn is_full(&self) -> bool {
        if self.used.load(Relaxed) >= self.target() {
            self.give_up_reserves();
        }
        self.used.load(Relaxed) >= self.target()
            && self.lock().iter().all(|it| it.largest.load(Relaxed) <= HOLDER_BYTES_MIN)
    }

    /// Adds something that is given up first.
    pub(crate) fn add_reserve(&self, reserve: Weak<dyn Reserve>) {
        let mut reserves = self.reserves.lock().unwrap_or_else(PoisonError::into_inner);
        reserves.retain(|it| it.strong_count() > 0);
        reserves.push(reserve);
    }

    /// Has reserves give up what is beyond the target.
    pub(crate) fn give_up_reserves(&self) {
        let reserves = self.reserves.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for reserve in reserves.iter().filter_map(Weak::upgrade) {
            match self.used.load(Relaxed).checked_sub(self.target()) {
                None => return,
                Some(bytes) => reserve.give_up(bytes.max(1)),
            }
        }
    }

    /// Takes note that a part of the sum was `before` and is `now`.
    pub(crate) fn change(&self, before: usize, now: usize) {
        self.used.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    /// Bytes of the sum beyond what is evicted down to.
    pub(crate) fn beyond_target(&self) -> usize {
        self.used.load(Relaxed).saturating_sub(self.target())
    }

    /// The sum.
    #[cfg(test)]
    pub(crate) fn sum(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether the sum is beyond the limit.
    pub(crate) fn is_over(&self) -> bool {
        self.used.load(Relaxed) > self.limit
    }

    /// Differences that are not worth a write to what all share.
    pub(crate) fn step(&self) -> usize {
        (self.limit / 1024).clamp(1, STEP_BYTES_MAX)
    }

    /// What is evicted down to.
    pub(crate) fn target(&self) -> usize {
        self.limit - self.limit / 10
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryShare {
    /// The part of the worker that reads `mailbox`.
    pub(crate) fn new(budget: &Arc<MemoryBudget>, mailbox: &Arc<Mailbox>) -> Self {
        let member = Arc::new(Member {
            largest: AtomicUsize::new(0),
            is_asked: AtomicBool::new(false),
            mailbox: Arc::clone(mailbox),
        });
        budget.lock().push(Arc::clone(&member));
        let budget = Arc::clone(budget);
        Self { budget, member, published: 0, scanned: 0, is_over: false }
    }

    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Whether the sum contains anything of ours.
    pub(crate) fn is_part(&self) -> bool {
        self.published > 0
    }

    /// What the sum contains of ours.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn published(&self) -> usize {
        self.published
    }

    /// Takes note that the connections of the worker hold `held` bytes now.
    #[inline]
    pub(crate) fn publish(&mut self, held: usize) -> Pressure {
        let is_settled = held > 0 || self.published == 0;
        if held.abs_diff(self.published) < self.budget.step() && is_settled && !self.is_over {
            return Pressure::None;
        }
        self.publish_now(held)
    }

    /// [`publish`](Self::publish), also where it is little.
    #[inline(never)]
    pub(crate) fn publish_now(&mut self, held: usize) -> Pressure {
        let difference = held.wrapping_sub(self.published);
        let sum = self.budget.used.fetch_add(difference, Relaxed).wrapping_add(difference);
        self.published = held;
        self.is_over = sum > self.budget.limit;
        if self.is_over {
            return Pressure::Over;
        }
        let has_changed = held.abs_diff(self.scanned) > self.budget.limit / LOOKS_PER_LIMIT;
        if has_changed { Pressure::Changed } else { Pressure::None }
    }

    /// The sum of all workers.
    pub(crate) fn sum(&self) -> usize {
        self.budget.used.load(Relaxed)
    }

    /// Another worker asks for a look: the sum may be beyond the limit.
    pub(crate) fn asked(&mut self) {
        self.member.is_asked.store(false, Relaxed);
        self.is_over = true;
    }

    /// The largest holder of this worker has so many bytes.
    pub(crate) fn looked(&mut self, largest: usize) {
        self.scanned = self.published;
        self.member.largest.store(largest, Relaxed);
    }

    /// Asks the worker whose largest holder has the most to look, if it has more than `bytes`.
    /// Returns whether there is such a worker.
    pub(crate) fn ask_larger(&self, bytes: usize) -> bool {
        let largest = |member: &Arc<Member>| member.largest.load(Relaxed);
        let members = self.budget.lock();
        let others = members.iter().filter(|it| !Arc::ptr_eq(it, &self.member));
        let Some(other) = others.max_by_key(|it| largest(it)).filter(|it| largest(it) > bytes)
        else {
            return false;
        };
        let other = Arc::clone(other);
        drop(members);
        if !other.is_asked.swap(true, Relaxed) {
            other.mailbox.post(Command::LookAtMemory);
        }
        true
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.published, Relaxed);
        self.budget.lock().retain(|it| !Arc::ptr_eq(it, &self.member));
    }
}

/// A connection that holds more is dropped before newcomers are refused.
const HOLDER_BYTES_MIN: usize = 1024 * 1024;
/// Four buffers of a queue.
const STEP_BYTES_MAX: usize = 64 * 1024;
/// The largest holder is looked for again when this part of the limit has come or gone.
const LOOKS_PER_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn share(budget: &Arc<MemoryBudget>) -> MemoryShare {
        let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        MemoryShare::new(budget, &Arc::new(Mailbox::new(Arc::new(event))))
    }

    #[test]
    fn the_sum_is_that_of_all_workers_and_loses_those_that_end() {
        let budget = MemoryBudget::new(Some(1_000_000));
        let (mut one, mut other) = (share(&budget), share(&budget));
        assert_eq!(one.publish(400_000), Pressure::Changed);
        assert_eq!(other.publish(600_000), Pressure::Changed, "the limit itself is not beyond it");
        assert_eq!(one.publish(401_000), Pressure::Over);
        assert_eq!(one.publish(401_000), Pressure::Over, "as long as it lasts");
        drop(other);
        assert_eq!((one.sum(), one.publish(401_000)), (401_000, Pressure::Changed));
        drop(one);
        assert_eq!(budget.used.load(Relaxed), 0);
    }

    #[test]
    fn small_differences_are_not_published_and_an_end_is() {
        let budget = MemoryBudget::new(Some(1024 * 1024 * 1024));
        let mut share = share(&budget);
        share.publish(60_000);
        assert_eq!(share.sum(), 0);
        share.publish(70_000);
        share.publish(20_000);
        assert_eq!(share.sum(), 70_000);
        share.publish(0);
        assert_eq!(share.sum(), 0);
    }

    #[test]
    fn newcomers_are_refused_only_while_all_hold_little() {
        let budget = MemoryBudget::new(Some(10_000_000));
        let (mut one, mut other) = (share(&budget), share(&budget));
        one.publish(8_000_000);
        assert!(!budget.is_full());
        other.publish(1_000_000);
        assert!(budget.is_full());
        one.looked(HOLDER_BYTES_MIN);
        assert!(budget.is_full());
        one.looked(HOLDER_BYTES_MIN + 1);
        assert!(!budget.is_full());
        assert!(!MemoryBudget::new(None).is_full());
    }

    #[test]
    fn the_worker_with_the_largest_holder_is_asked_once_until_it_looks() {
        let budget = MemoryBudget::new(Some(10_000_000));
        let (mut small, mut middle, mut large) = (share(&budget), share(&budget), share(&budget));
        small.looked(10);
        middle.looked(20);
        large.looked(30);
        assert!(!small.ask_larger(30) && !large.ask_larger(20));
        assert!(small.ask_larger(10) && middle.ask_larger(20));
        let commands = |share: &MemoryShare| share.member.mailbox.take().len();
        assert_eq!((commands(&small), commands(&middle), commands(&large)), (0, 0, 1));
        large.asked();
        assert!(small.ask_larger(10));
        assert_eq!(commands(&large), 1);
    }
}
