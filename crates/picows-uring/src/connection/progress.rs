//! Progress of the peer with a message or send: what the verdicts of the protocol crate lead to.

use super::{Connection, Stage};
use crate::foreign::log::{LogLine, log_limited, peer_field};
use crate::link::InputState;
use crate::ring::Ring;
use crate::session::Session;
use crate::status::DisconnectCause;
use picows_uring_proto::{CloseCode, Phase, Progress, Tick, UnderWay};
use std::rc::Rc;

impl Connection {
    /// Whether anything is under way with which the peer has to get on, and it is not looked at yet.
    #[inline]
    pub(crate) fn wants_watch(&self) -> bool {
        let session = self.session();
        !session.is_watched.get()
            && (session.is_sending() || self.is_frame_under_way() || session.is_record_under_way())
    }

    /// What is under way begins at `now`, as far as it arrives.
    pub(crate) fn begin_progress(&mut self, now: Tick) -> Progress {
        let session = self.transport.session();
        session.is_watched.set(true);
        let mut progress = Progress::default();
        let under_way = under_way(&mut self.stage, session);
        progress.is_message_too_slow(&session.config.progress, now, under_way, || true);
        progress
    }

    /// Ends the connection if the peer does not get on. Returns whether it is to be looked at again.
    pub(crate) fn check_progress(
        &mut self,
        ring: &impl Ring,
        now: Tick,
        progress: &mut Progress,
    ) -> bool {
        let session = Rc::clone(self.session());
        let is_kept = self.phase() == Phase::Open
            && !self.is_message_too_slow(&session, ring, now, progress)
            && !is_write_stalled(&session, ring, now, progress)
            && !progress.is_idle();
        session.is_watched.set(is_kept);
        is_kept
    }

    fn is_message_too_slow(
        &mut self,
        session: &Session,
        ring: &impl Ring,
        now: Tick,
        progress: &mut Progress,
    ) -> bool {
        // While we do not read, the peer cannot get on.
        let is_paused = session.is_reading_paused.get();
        let under_way = under_way(&mut self.stage, session).filter(|_| !is_paused);
        let has_unread = |socket| ring.unread(socket) > 0;
        let has_more = || {
            self.link.input == InputState::Deferred || session.socket.get().is_some_and(has_unread)
        };
        let rules = &session.config.progress;
        if !progress.is_message_too_slow(rules, now, under_way, has_more) {
            return false;
        }
        session.local.counters.message_timeouts.increment();
        let bytes = under_way.map_or(0, |it| it.bytes);
        let peer = session.peer.get();
        log_limited!(warn, session.local, LogLine::MessageTooSlow, peer = peer_field(peer), bytes);
        session.fail(DisconnectCause::MessageTooSlow, CloseCode::POLICY_VIOLATION, REASON);
        self.release_memory();
        true
    }
}

/// What the peer has begun and not ended: a frame or message, or else a record.
fn under_way(stage: &mut Stage, session: &Session) -> Option<UnderWay> {
    match stage {
        Stage::Frames(receiver) => receiver.under_way().or_else(|| session.record_under_way()),
        #[cfg(feature = "deflate")]
        Stage::Expanding(expanding) => {
            expanding.receiver.under_way().or_else(|| session.record_under_way())
        }
        Stage::Pieces(in_pieces) => in_pieces.under_way().or_else(|| session.record_under_way()),
        _ => None,
    }
}

fn is_write_stalled(
    session: &Session,
    ring: &impl Ring,
    now: Tick,
    progress: &mut Progress,
) -> bool {
    let queued = session.buffered();
    let socket = session.socket.get().filter(|_| queued > 0);
    let taken = socket.and_then(|socket| match ring.send_state(socket) {
        Some(send_state) => Some(send_state.taken),
        None => session.send_mark(ring.untaken(socket)?),
    });
    if !progress.is_write_stalled(&session.config.progress, now, taken) {
        return false;
    }
    session.local.counters.write_stalls.increment();
    let peer = session.peer.get();
    log_limited!(warn, session.local, LogLine::WriteStalled, peer = peer_field(peer), queued);
    session.set_cause(DisconnectCause::WriteStalled);
    session.conversation.borrow_mut().end();
    session.mark_dirty();
    true
}

const REASON: &str = "message too slow";
