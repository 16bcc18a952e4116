//! Pulse of a worker, for other threads: its state and the start of its current turn.
//!
//! Its worker writes it without a lock, at the beginning and the end of each turn.

use crate::foreign::{self, Foreign};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// The state of a worker: does it run?
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade, WorkerState};
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// for worker in server.monitor().workers() {
///     match worker.state {
///         WorkerState::Failed(reason) => println!("worker {} has failed: {reason}", worker.number),
///         _ => println!("worker {}: {} connections", worker.number, worker.stats.connections),
///     }
/// }
/// # server.stop()?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It serves its connections.
    #[default]
    Running,
    /// It was stopped.
    Ended,
    /// It could not go on, for this reason. Its connections are gone, and its listening sockets
    /// are closed, so that new ones go to the other workers.
    Failed(String),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pulse {
    created: Instant,
    /// What the clock of the ring said when this was made, in nanoseconds; it wraps.
    ring_at_creation: AtomicU64,
    /// When the turn began, by the clock of the ring, in nanoseconds and odd; 0 between turns.
    turn_since: AtomicU64,
    /// When a sign of life was asked for that was not given since, in nanoseconds after `created` and
    /// odd; 0 if there is none.
    asked_at: AtomicU64,
    ending: OnceLock<WorkerState>,
    /// Tasks that wait for the end.
    waiters: Mutex<Vec<Foreign<Waker>>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            ring_at_creation: AtomicU64::new(0),
            turn_since: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
            ending: OnceLock::new(),
            waiters: Mutex::default(),
        }
    }
}

impl Pulse {
    /// Stores what the clock of the ring says now.
    pub(crate) fn set_clock(&self, now: Duration) {
        let at_creation = nanos(now).wrapping_sub(nanos(self.created.elapsed()));
        self.ring_at_creation.store(at_creation, Ordering::Relaxed);
    }

    /// A turn begins.
    pub(crate) fn turn_begins(&self, now: Duration) {
        self.turn_since.store(nanos(now) | 1, Ordering::Relaxed);
    }

    /// A turn is over.
    pub(crate) fn turn_ends(&self) {
        self.turn_since.store(0, Ordering::Relaxed);
    }

    /// Asks for a sign of life. Returns how long an earlier question has waited for its answer; `None`
    /// if there is none, and the worker is to be woken for this one.
    pub(crate) fn ask(&self) -> Option<Duration> {
        let now = nanos(self.created.elapsed()) | 1;
        let (free, order) = (0, Ordering::Relaxed);
        let waiting = self.asked_at.compare_exchange(free, now, order, order).err()?;
        Some(Duration::from_nanos(now.saturating_sub(waiting)))
    }

    /// The worker gives a sign of life.
    pub(crate) fn answer(&self) {
        self.asked_at.store(0, Ordering::Relaxed);
    }

    /// How long the turn has lasted, if one is under way.
    pub(crate) fn turn_time(&self) -> Option<Duration> {
        let since = self.turn_since.load(Ordering::Relaxed);
        if since == 0 || self.ending.get().is_some() {
            return None;
        }
        let now = nanos(self.created.elapsed())
            .wrapping_add(self.ring_at_creation.load(Ordering::Relaxed));
        // The turn may have begun since `now` was read.
        let passed = now.wrapping_sub(since).cast_signed().max(0);
        Some(Duration::from_nanos(passed.cast_unsigned()))
    }

    /// The worker has ended; only the first word counts.
    pub(crate) fn end(&self, state: WorkerState) {
        let _ = self.ending.set(state);
        let waiters =
            std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        foreign::wake(waiters);
    }

    /// Whether the worker has ended; else `waker` is woken when it does.
    pub(crate) fn wait(&self, waker: &Waker) -> bool {
        // Cloned before anything is locked, and dropped after that where it waits already.
        let waker = Foreign::new(waker.clone());
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: one that ends from here on takes what is in it.
        let has_ended = self.ending.get().is_some();
        if !has_ended && !waiters.iter().any(|waiting| waiting.will_wake(&waker)) {
            waiters.push(waker);
        }
        has_ended
    }

    pub(crate) fn state(&self) -> WorkerState {
        self.ending.get().cloned().unwrap_or_default()
    }
}

/// Five hundred years fit.
fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_waits_until_it_is_answered() {
        let pulse = Pulse::default();
        assert_eq!(pulse.ask(), None, "the first one waits for nothing");
        let waited = pulse.ask().unwrap();
        assert!(pulse.ask().unwrap() >= waited);
        pulse.answer();
        assert_eq!(pulse.ask(), None);
    }

    #[test]
    fn a_turn_is_timed_by_the_clock_of_the_ring() {
        let pulse = Pulse::default();
        assert_eq!(pulse.turn_time(), None);
        for origin in [0, 1, 1_000_000] {
            let ring = Duration::from_secs(origin);
            pulse.set_clock(ring + Duration::from_secs(5));
            pulse.turn_begins(ring);
            let passed = pulse.turn_time().unwrap();
            assert!(passed >= Duration::from_secs(5) && passed < Duration::from_secs(60));
            pulse.turn_begins(ring + Duration::from_secs(3600));
            assert_eq!(pulse.turn_time(), Some(Duration::ZERO), "it has just begun");
            pulse.turn_ends();
            assert_eq!(pulse.turn_time(), None);
        }
        pulse.turn_begins(Duration::ZERO);
        pulse.end(WorkerState::Failed("lost".into()));
        pulse.end(WorkerState::Ended);
        assert_eq!((pulse.turn_time(), pulse.state()), (None, WorkerState::Failed("lost".into())));
    }
}
