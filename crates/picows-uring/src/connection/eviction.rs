//! Memory of one connection, counted, and given up at once where there is too little for all.

use super::Connection;
use crate::status::DisconnectCause;
use http::StatusCode;
use picows_uring_proto::{CloseCode, Phase, UpgradeResponse};
use std::rc::Rc;
use std::time::Duration;

impl Connection {
    /// Bytes of memory that it holds towards the memory limit.
    pub(crate) fn held_bytes(&self) -> usize {
        let session = self.session();
        self.stash_capacity() + session.record_capacity() + session.held_bytes()
    }

    /// Gives up its memory and ends, with CLOSE 1013 if nothing else is half sent and the socket
    /// takes it within a moment. The listener is notified at once.
    ///
    /// What the kernel is sending stays until the last completion.
    pub(crate) fn evict(&mut self) {
        let session = Rc::clone(self.session());
        session.set_cause(DisconnectCause::MemoryLimit);
        let is_between_frames = !session.is_sending() && session.is_between_frames();
        session.drop_queue();
        session.local.pool.leave(session.leave());
        match self.phase() {
            Phase::Open if is_between_frames => {
                let (rules, now) = (&session.config.conversation, session.local.now());
                let close = session.conversation.borrow_mut().fail_within(
                    rules,
                    now,
                    CloseCode::TRY_AGAIN_LATER,
                    REASON,
                    EVICTED_LINGER,
                );
                session.queue_close(close);
            }
            Phase::Handshake if is_between_frames && !session.is_client => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                self.respond(&UpgradeResponse::text(status, "too little memory\n"));
            }
            _ => session.conversation.borrow_mut().end(),
        }
        self.disconnected();
        session.mark_dirty();
    }
}

const REASON: &str = "memory limit reached: try again later";
/// How long the peer has to take the CLOSE: long enough for one that reads at all.
const EVICTED_LINGER: Duration = Duration::from_secs(1);
