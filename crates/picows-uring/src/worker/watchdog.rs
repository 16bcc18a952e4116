//! Watchdog: turns that take too long, and the callback behind it.

use super::Worker;
use crate::error::shown;
use crate::foreign::log::{LogLine, log_limited, peer_field};
use crate::health::COARSE_STEP_MAX;
use crate::ring::Ring;
use picows_uring_proto::UpgradeRequest;
use std::time::Duration;

impl<R: Ring> Worker<R> {
    /// A turn is over that began at `begun`: looks at the clock, once.
    pub(super) fn end_turn(&mut self, begun: Duration) {
        let counters = &self.local.counters;
        counters.pulse.turn_ends();
        let Some(limit) = self.local.callback_timer.limit() else { return };
        let end = self.ring.now();
        self.turn_end = Some(end);
        let turn = end.saturating_sub(begun);
        let micros = turn.as_micros() as u64;
        counters.turn_times.record_micros(micros);
        if micros > counters.longest_turn_micros.get() {
            counters.longest_turn_micros.set(micros);
        }
        if turn >= limit {
            self.turn_was_slow(turn, limit);
        }
    }

    #[cold]
    fn turn_was_slow(&mut self, turn: Duration, limit: Duration) {
        let local = &self.local;
        local.counters.slow_turns.increment();
        let longest = local.callback_timer.longest();
        let is_callback = longest.is_some_and(|(_, _, took)| took + COARSE_STEP_MAX >= limit);
        if is_callback {
            local.counters.slow_callbacks.increment();
        }
        match longest {
            Some((token, callback, took)) if is_callback => {
                // It may have ended, and its slot be free.
                let session = self.slots.get_mut(token).map(|it| it.session().clone());
                let (peer, path) = session.as_ref().map_or((None, None), |session| {
                    (session.peer.get(), session.request().map(UpgradeRequest::path))
                });
                let path = path.map(|path| tracing::field::debug(shown(path)));
                let line = LogLine::CallbackBlocks;
                log_limited!(
                    warn,
                    local,
                    line,
                    peer = peer_field(peer),
                    path,
                    callback,
                    ?took,
                    ?turn
                );
            }
            _ => {
                let longest = longest.map(|(_, callback, took)| (callback, took));
                log_limited!(warn, local, LogLine::LongTurn, ?turn, ?longest);
            }
        }
    }
}
