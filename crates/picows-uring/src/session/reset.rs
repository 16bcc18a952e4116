//! A connection whose peer does not take what we send any more, but said something before.
//!
//! A server that refuses a client closes its socket behind the CLOSE, or behind its answer to the
//! upgrade, with unread bytes of the client: that is a reset, and a send may see it first. What was
//! received before the reset is still there to be read.

use super::Session;
use picows_uring_proto::Phase;
use std::io::{self, ErrorKind};

impl Session {
    /// A send failed. Returns whether the connection goes on until it has read what came before: as
    /// a client does after a reset. The end of the stream follows by itself, or the close timeout.
    pub(crate) fn reads_on_after(&self, error: &io::Error) -> bool {
        let is_reset = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        let is_read = self.conversation.borrow().phase() <= Phase::Open
            && !self.conversation.borrow().is_peer_gone()
            && !self.is_reading_paused.get();
        if !self.is_client || !is_reset || !is_read {
            return false;
        }
        self.drop_queue();
        if self.send_error().is_none() {
            self.rare_state().send_error.set(Some(error.kind()));
            let end = self.local.now() + self.config.conversation.close_timeout;
            self.conversation.borrow_mut().expire(end);
            self.mark_dirty();
        }
        true
    }

    /// Why nothing can be sent any more, while what was received before is read.
    pub(crate) fn send_error(&self) -> Option<ErrorKind> {
        self.rare_state.get()?.send_error.get()
    }
}
