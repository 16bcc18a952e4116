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
            // For all connections at once: pages that are not written to take no memory, while old copies of a
            // list that doubles stay with the allocator. By a share of its length at the least, as each
            // growth may copy all of it, and connections may come one by one.
            let rest = connections.saturating_sub(len);
            self.list.reserve_exact(rest.max(len / 4).max(LIST_KEPT));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the list is allocated anew for so many checks, each added when there are so many connections.
    fn growths(checks: u32, connections: impl Fn(usize) -> usize) -> (usize, usize) {
        let (mut list, mut growths) = (ProgressChecks::default(), 0);
        for slot in 0..checks {
            let before = list.list.capacity();
            let token = Token { slot, generation: 0 };
            list.push((token, Progress::default()), connections(slot as usize));
            growths += usize::from(list.list.capacity() != before);
        }
        (growths, list.list.capacity())
    }

    #[test]
    fn the_list_grows_once_for_the_connections_there_are_and_seldom_as_they_come() {
        let small = growths(LIST_KEPT as u32, |_| 10_000).0;
        assert_eq!(growths(10_000, |_| 10_000), (small + 1, 10_000));
        let (growths, room) = growths(100_000, |len| len + 1);
        assert!(growths < small + 50 && room <= 125_000, "{growths} times, to {room}");
    }
}
