//! What other threads ask for; above all the end: saying goodbye to everybody, and waiting for
//! them, but not for ever.

use super::accept::AcceptState;
use super::{Alarm, Worker};
use crate::mailbox::Letter;
use crate::remote::RemoteAction;
use crate::ring::{Ring, Token};
use crate::transport::DisconnectCause;
use picows_uring_proto::{CloseCode, Phase};
use std::time::Duration;

impl<R: Ring> Worker<R> {
    pub(super) fn read_mail(&mut self) {
        for letter in self.shared.mailbox.take() {
            match letter {
                Letter::Stop { drain } => self.stop(drain),
                Letter::Remote(token, action) => self.act(token, action),
            }
        }
    }

    /// Does what a handle in another thread asked for.
    fn act(&mut self, token: Token, action: RemoteAction) {
        // A connection that has ended since is not found: its token is of the past.
        let Some(connection) = self.slots.get_mut(token) else { return };
        let transport = &connection.transport;
        match action {
            RemoteAction::Send(head, payload) => {
                transport.send_bytes(head, &payload);
            }
            RemoteAction::Close(frame) => {
                transport.send_close_frame(frame);
            }
            RemoteAction::Disconnect => transport.disconnect(),
            RemoteAction::Abort => transport.abort(),
        }
    }

    /// Is done as soon as no connection is left.
    pub(crate) fn end_when_empty(&mut self) {
        self.is_ending = true;
    }

    /// Accepts no more, ends every connection with CLOSE 1001, and without it after `drain`.
    pub(crate) fn stop(&mut self, drain: Duration) {
        self.wheel.insert(self.shared.now.get() + drain, Alarm::Drain.pack());
        if self.is_stopping {
            return;
        }
        self.is_stopping = true;
        for acceptor in &mut self.acceptors {
            match acceptor.state {
                AcceptState::Armed => self.ring.cancel(acceptor.socket),
                AcceptState::Paused => {
                    acceptor.state = AcceptState::Closed;
                    self.ring.close(acceptor.socket);
                }
                AcceptState::Closed => {}
            }
        }
        for connection in self.slots.iter_mut() {
            let session = connection.session();
            session.set_cause(DisconnectCause::Stopped);
            match connection.phase() {
                Phase::Handshake => session.conversation.borrow_mut().end(),
                Phase::Open => {
                    let reason = "server is shutting down";
                    connection.transport.send_close(CloseCode::GOING_AWAY, reason);
                }
                Phase::Finishing | Phase::Lingering | Phase::Ended => {}
            }
            connection.session().touch();
        }
    }

    /// Whoever is still there has had its time.
    pub(super) fn drained(&mut self) {
        for connection in self.slots.iter_mut() {
            connection.session().conversation.borrow_mut().end();
            connection.session().touch();
        }
    }
}
