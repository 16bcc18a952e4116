//! State that the threads of a fan-out share: which publication has reached how many subscribers.
//!
//! A delivery takes no lock: it counts in the slot of its publication. Publishing and the loss of a
//! subscriber do, so that both agree on how many subscribers a publication is for.

use super::FanOutPlan;
use crate::measure::Schedule;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, watch};

/// Stage of a fan-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Connecting,
    /// Publications without a number, until each subscriber has had one.
    Probing,
    Publishing,
    /// Nothing more is published: subscribers wait for what is on its way.
    Draining,
    Over,
}

/// Shared state of a run.
pub(super) struct Board {
    pub(super) plan: FanOutPlan,
    pub(super) run_id: u32,
    origin: Instant,
    pub(super) phase: watch::Sender<Phase>,
    /// Start of the schedule of an open loop.
    scheduled_ns: AtomicU64,
    /// Within the window of the figures.
    is_measuring: AtomicBool,
    subscribers: Mutex<u32>,
    /// Nothing more is published. Changes under the lock of the subscribers.
    is_closed: AtomicBool,
    /// Connections begun, which take their source addresses in turn.
    pub(super) begun: AtomicU64,
    /// Subscribers that a probe has reached.
    pub(super) probed: AtomicU32,
    /// A publisher's connection ended.
    pub(super) is_publisher_lost: AtomicBool,
    pub(super) publishers: Vec<Progress>,
}

/// Publications of one publisher.
pub(super) struct Progress {
    /// Number of the next publication.
    next: AtomicU64,
    /// Publications that are on their way to no subscriber any more.
    settled: AtomicU64,
    slots: Box<[Slot]>,
    /// Notified when a publication is settled.
    pub(super) changed: Notify,
}

/// One publication under way. A slot serves a later one again.
#[derive(Default)]
struct Slot {
    /// The low half of the publication's number, and how many subscribers lack it.
    state: AtomicU64,
    subscribers: AtomicU32,
    /// When it was due; 0 if it is not measured.
    due_ns: AtomicU64,
    /// A subscriber did not get it.
    is_missed: AtomicBool,
}

/// What a delivery completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// Time at which the publication was due, if now half of the subscribers have it.
    pub(super) half_of: Option<u64>,
    /// The same, if now all have it.
    pub(super) all_of: Option<u64>,
}

impl Board {
    pub(super) fn new(plan: FanOutPlan, run_id: u32) -> Self {
        let slots = (SLOTS / plan.publishers.max(1)).next_power_of_two().max(SLOTS_MIN);
        let publishers = (0..plan.publishers).map(|_| Progress::new(slots)).collect();
        Self {
            plan,
            run_id,
            origin: Instant::now(),
            phase: watch::Sender::new(Phase::Connecting),
            scheduled_ns: AtomicU64::new(0),
            is_measuring: AtomicBool::new(false),
            subscribers: Mutex::new(0),
            is_closed: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            probed: AtomicU32::new(0),
            is_publisher_lost: AtomicBool::new(false),
            publishers,
        }
    }

    /// Time of the run, never 0.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Starts the schedule of an open loop; `None` for a closed one.
    pub(super) fn start_schedule(&self) -> Option<Schedule> {
        let start_ns = self.now_ns();
        self.scheduled_ns.store(start_ns, Ordering::Relaxed);
        self.plan.schedule(start_ns)
    }

    /// The stage of a publication that was due at `due_ns`.
    pub(super) fn stage_of(&self, due_ns: u64) -> Option<usize> {
        // It was stored before the publication was sent.
        let start_ns = self.scheduled_ns.load(Ordering::Relaxed);
        self.plan.stage_at(due_ns.saturating_sub(start_ns))
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.is_measuring.load(Ordering::Relaxed)
    }

    pub(super) fn measure(&self, is_measuring: bool) {
        self.is_measuring.store(is_measuring, Ordering::Relaxed);
    }

    /// Open subscribers.
    pub(super) fn subscribers(&self) -> u32 {
        *self.lock()
    }

    pub(super) fn add_subscriber(&self) {
        *self.lock() += 1;
    }

    /// A subscriber was lost that expected these numbers next: what it lacks is settled without it.
    pub(super) fn remove_subscriber(&self, expected: &[u64]) {
        let mut subscribers = self.lock();
        *subscribers -= 1;
        for (publisher, &expected) in expected.iter().enumerate() {
            for number in expected..self.publishers[publisher].next() {
                self.settle(publisher, number, false);
            }
        }
    }

    /// Takes no more publications: from here on they can only settle.
    pub(super) fn close(&self) {
        let _subscribers = self.lock();
        self.is_closed.store(true, Ordering::Relaxed);
    }

    /// Takes the next number of a publisher, for a publication that was due at `due_ns`; `None` behind
    /// [`close`](Self::close).
    pub(super) fn publish(&self, publisher: usize, due_ns: u64) -> Option<u64> {
        let subscribers = self.lock();
        if self.is_closed.load(Ordering::Relaxed) {
            return None;
        }
        let progress = &self.publishers[publisher];
        let number = progress.next.load(Ordering::Relaxed);
        let slot = progress.slot(number);
        slot.subscribers.store(*subscribers, Ordering::Relaxed);
        slot.due_ns.store(if self.is_measuring() { due_ns } else { 0 }, Ordering::Relaxed);
        slot.is_missed.store(false, Ordering::Relaxed);
        slot.state.store(number << 32 | u64::from(*subscribers), Ordering::Release);
        if *subscribers == 0 {
            progress.settled.fetch_add(1, Ordering::AcqRel);
        }
        progress.next.store(number + 1, Ordering::Release);
        Some(number)
    }

    /// A subscriber has a publication, or will never have it.
    pub(super) fn settle(&self, publisher: usize, number: u64, is_delivered: bool) -> Reached {
        let progress = &self.publishers[publisher];
        let slot = progress.slot(number);
        let take = |state: u64| {
            let is_this = state >> 32 == number & u64::from(u32::MAX);
            (is_this && state as u32 > 0).then(|| state - 1)
        };
        if !is_delivered {
            slot.is_missed.store(true, Ordering::Relaxed);
        }
        let before = slot.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        let Ok(before) = before else { return Reached::default() };
        let lacking = before as u32 - 1;
        if lacking == 0 {
            progress.settled.fetch_add(1, Ordering::AcqRel);
            progress.changed.notify_one();
        }
        let due_ns = slot.due_ns.load(Ordering::Relaxed);
        if due_ns == 0 || slot.is_missed.load(Ordering::Relaxed) {
            return Reached::default();
        }
        let subscribers = slot.subscribers.load(Ordering::Relaxed);
        Reached {
            half_of: (lacking == subscribers / 2).then_some(due_ns),
            all_of: (lacking == 0).then_some(due_ns),
        }
    }

    /// Whether each publication has reached each subscriber, or been missed.
    pub(super) fn is_settled(&self) -> bool {
        self.publishers.iter().all(|progress| progress.in_flight() == 0)
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn new(slots: usize) -> Self {
        Self {
            next: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            changed: Notify::new(),
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Publications that some subscriber lacks.
    pub(super) fn in_flight(&self) -> u64 {
        self.next().saturating_sub(self.settled.load(Ordering::Acquire))
    }

    fn slot(&self, number: u64) -> &Slot {
        &self.slots[number as usize & (self.slots.len() - 1)]
    }
}

/// Publications under way that have a slot, of all publishers together, and of each at least.
const SLOTS: usize = 1 << 16;
const SLOTS_MIN: usize = 1 << 12;

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    fn board(subscribers: u32) -> Board {
        let board = Board::new(plan(), 1);
        (0..subscribers).for_each(|_| board.add_subscriber());
        board.measure(true);
        board
    }

    #[test]
    fn half_and_all_are_reached_once() {
        for (subscribers, half) in [(1, 1), (2, 1), (3, 2), (4, 2), (1000, 500)] {
            let board = board(subscribers);
            assert_eq!(board.publish(0, 77), Some(0));
            let reached: Vec<_> = (0..subscribers).map(|_| board.settle(0, 0, true)).collect();
            let halves = reached.iter().position(|it| it.half_of == Some(77)).unwrap();
            assert_eq!(halves + 1, half, "{subscribers}");
            assert_eq!(reached.iter().filter(|it| it.half_of.is_some()).count(), 1);
            assert_eq!(reached.iter().filter(|it| it.all_of.is_some()).count(), 1);
            assert_eq!(reached.last().unwrap().all_of, Some(77));
            assert!(board.is_settled());
            // A second copy changes nothing.
            assert_eq!(board.settle(0, 0, true), Reached::default());
            assert!(board.is_settled());
        }
    }

    #[test]
    fn what_a_subscriber_missed_is_settled_without_a_latency() {
        let board = board(2);
        board.publish(0, 5).unwrap();
        board.settle(0, 0, false);
        assert_eq!(board.settle(0, 0, true), Reached::default());
        assert!(board.is_settled());
    }

    #[test]
    fn what_is_settled_at_the_end_stays_so_whatever_a_publisher_does() {
        let board = board(1);
        board.publish(0, 5).unwrap();
        board.settle(0, 0, true);
        board.close();
        assert!(board.is_settled());
        assert_eq!(board.publish(0, 6), None);
        assert!(board.is_settled());
    }

    #[test]
    fn a_lost_subscriber_is_not_waited_for() {
        let board = board(3);
        let first = board.publish(0, 5).unwrap();
        board.settle(0, first, true);
        board.settle(0, first, true);
        board.publish(0, 6).unwrap();
        board.remove_subscriber(&[0]);
        assert_eq!((board.subscribers(), board.publishers[0].in_flight()), (2, 1));
        let third = board.publish(0, 7).unwrap();
        for number in [1, third] {
            board.settle(0, number, true);
            board.settle(0, number, true);
        }
        assert!(board.is_settled());
    }

    #[test]
    fn a_slot_that_serves_a_later_publication_ignores_the_earlier_one() {
        let board = board(1);
        let slots = board.publishers[0].slots.len() as u64;
        for _ in 0..=slots {
            board.publish(0, 5).unwrap();
        }
        assert_eq!(board.settle(0, 0, true), Reached::default());
        assert_eq!(board.settle(0, slots, true).all_of, Some(5));
    }
}
