//! Progress checks of connections with a message or a send under way.
//!
//! A connection is on the list from the turn that leaves something under way to the first check that
//! finds nothing, so no message costs a timer. What is too slow is decided in the protocol crate.

use super::Worker;
use super::timers::Timer;
use crate::ring::{Ring, Token};
use picows_uring_proto::{Phase, Progress, Tick, TimerId};
use std::time::Duration;

/// The connections to check, and when.
#[derive(Debug, Default)]
pub(super) struct ProgressChecks {
    list: Vec<(Token, Progress)>,
    next: Option<(TimerId, Tick)>,
}

const _: () = assert!(size_of::<(Token, Progress)>() <= 32);

impl ProgressChecks {
    /// Adds a connection, one of so many.
    fn push(&mut self, check: (Token, Progress), connections: usize) {
        let len = self.list.len();
        if len == self.list.capacity() && len >= LIST_KEPT {
            // Once for all: pages that are not written to take no memory, while old copies of a list that
            // doubles stay with the allocator.
            self.list.reserve_exact(connections.saturating_sub(len).max(LIST_KEPT));
        }
        self.list.push(check);
    }
}

impl<R: Ring> Worker<R> {
    /// Puts a connection on the list, if its settings bound its progress.
    #[cold]
    pub(super) fn watch_progress(&mut self, token: Token) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        let Some(every) = connection.session().config.progress.look_every() else { return };
        // Before and after, there are deadlines.
        if connection.phase() == Phase::Open {
            let now = self.local.now.get();
            let progress = connection.begin_progress(now);
            self.progress.push((token, progress), self.slots.len());
            self.check_by(now + every);
        }
    }

    /// Sets the timer for the next check at `wanted` or before.
    fn check_by(&mut self, wanted: Tick) {
        match self.progress.next {
            Some((_, at)) if at <= wanted => return,
            Some((timer, _)) => self.timers.cancel(timer),
            None => {}
        }
        let timer = self.timers.insert(wanted, Timer::Progress);
        self.progress.next = Some((timer, wanted));
    }

    /// Ends the connections whose peers do not get on.
    pub(super) fn check_progress(&mut self) {
        let Some((_, planned)) = self.progress.next.take() else { return };
        let (now, seen) = (self.local.now.get(), self.deadlines.seen());
        // While the process was held up, no peer could get on.
        let late = Some(now.duration_since(planned)).filter(|late| *late >= HELD_UP_MIN);
        let mut every: Option<Duration> = None;
        let (slots, ring) = (&mut self.slots, &self.ring);
        self.progress.list.retain_mut(|(token, progress)| {
            let Some(connection) = slots.get_mut(*token) else { return false };
            if let Some(late) = late {
                progress.held_up(late);
            }
            let is_kept = connection.check_progress(ring, seen, progress);
            let wanted = connection.session().config.progress.look_every().filter(|_| is_kept);
            every = every.into_iter().chain(wanted).min();
            is_kept
        });
        self.progress.list.shrink_to(LIST_KEPT);
        if let Some(every) = every {
            self.check_by(now + every);
        }
    }
}

/// A timer that is later than this says that the process did not run, or a callback took long.
const HELD_UP_MIN: Duration = Duration::from_millis(50);
/// Connections for which a quiet worker keeps room.
const LIST_KEPT: usize = 64;
