//! Publications of topics, in a turn, and the timer of those that linger.
//!
//! Which publications linger, and for which connections they are, is decided in `topics/desk.rs`.

use super::Worker;
use super::timers::Timer;
use crate::local::Publications;
use crate::ring::Ring;
use picows_uring_proto::{Tick, TimerId};

/// The timer for the first publication that lingers.
#[derive(Debug, Default)]
pub(super) struct LingerTimer(Option<(TimerId, Tick)>);

impl<R: Ring> Worker<R> {
    /// Delivers publications.
    #[inline]
    pub(super) fn serve_topics(&mut self) {
        if self.local.publications.get() == Publications::Due {
            self.serve_publications();
        }
    }

    #[inline(never)]
    fn serve_publications(&mut self) {
        let due = self.local.topics().and_then(|topics| topics.serve(&self.local));
        let Some(due) = due else { return };
        match self.linger.0 {
            // Where that one left before, as its run was full, the next look sets the timer anew.
            Some((_, at)) if at <= due => return,
            Some((timer, _)) => self.timers.cancel(timer),
            None => {}
        }
        self.linger.0 = Some((self.timers.insert(due, Timer::Topics), due));
    }

    /// The first publication that lingers is due.
    pub(super) fn on_linger_timeout(&mut self) {
        self.linger.0 = None;
        self.local.note_publications();
    }
}
