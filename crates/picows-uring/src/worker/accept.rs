//! Taking new connections in, and what happens when there is no room for one.

use super::{Alarm, Worker};
use crate::connection::Connection;
use crate::ring::{Ring, Socket, Token};
use crate::server::Gauge;
use crate::session::Session;
use http::StatusCode;
use picows_uring_proto::UpgradeResponse;
use std::io;
use std::time::Duration;

/// A listening socket of a worker.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) socket: Socket,
    pub(super) state: AcceptState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcceptState {
    /// The kernel accepts for us.
    Armed,
    /// It does not, for want of something or because nobody asked it to.
    Paused,
    /// The socket is closed.
    Closed,
}

impl Acceptor {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, state: AcceptState::Paused }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == AcceptState::Closed
    }
}

impl<R: Ring> Worker<R> {
    /// Accepts on every listening socket on which it is paused.
    pub(super) fn resume_accept(&mut self) {
        if self.is_stopping {
            return;
        }
        for (index, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.state == AcceptState::Paused {
                acceptor.state = AcceptState::Armed;
                let token = Token { slot: index as u32, generation: 0 };
                self.ring.accept(acceptor.socket, token);
            }
        }
    }

    pub(super) fn accepted(&mut self, token: Token, result: io::Result<Socket>, more: bool) {
        match result {
            Ok(socket) if self.is_stopping => self.ring.close(socket),
            Ok(socket) => self.connected(socket),
            Err(error) if !self.is_stopping => self.accept_failed(&error),
            Err(_) => {}
        }
        if more {
            return;
        }
        let acceptor = &mut self.acceptors[token.slot as usize];
        acceptor.state = AcceptState::Paused;
        if self.is_stopping {
            acceptor.state = AcceptState::Closed;
            self.ring.close(acceptor.socket);
        } else if !self.is_accept_waiting {
            self.resume_accept();
        }
    }

    fn connected(&mut self, socket: Socket) {
        let shared = &self.shared;
        shared.counters.accepted.increment();
        let is_admitted = self.gauge.acquire(shared.config.connections_max);
        if !is_admitted {
            shared.counters.refused.increment();
            if self.slots.len() >= Gauge::limit_with_refused(shared.config.connections_max) {
                // So many are being told that there is no room that not even that can be said.
                return self.ring.close(socket);
            }
        }
        let peer = self.ring.peer_addr(socket);
        let token =
            self.slots.insert(|token| Connection::new(Session::new(shared, token, socket, peer)));
        shared.counters.connections.increment();
        shared.counters.slots.set(self.slots.len() as u64);
        self.ring.receive(socket, token);
        let Some(connection) = self.slots.get_mut(token) else { return };
        connection.is_receiving = true;
        connection.is_counted = is_admitted;
        if !is_admitted {
            tracing::warn!(?peer, "too many connections: refusing one");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            connection.respond(&UpgradeResponse::text(status, "too many connections\n"));
        }
        connection.session().touch();
    }

    /// Accepting failed: waits a moment if that may help.
    fn accept_failed(&mut self, error: &io::Error) {
        let wait = match error.raw_os_error() {
            // The peer has gone before it was accepted, or a signal came.
            Some(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN) => return,
            // It helps when a connection ends, which resumes at once, or another process gives up
            // something, which nobody tells us.
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => ACCEPT_PAUSE,
            _ => ACCEPT_PAUSE_UNKNOWN,
        };
        if !self.is_accept_waiting {
            tracing::warn!(%error, ?wait, "cannot accept connections: pausing");
            self.shared.counters.accept_pauses.increment();
            self.is_accept_waiting = true;
            self.wheel.insert(self.shared.now.get() + wait, Alarm::ResumeAccept.pack());
        }
    }
}

/// How long accepting pauses for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it pauses after an error whose cause is not known.
const ACCEPT_PAUSE_UNKNOWN: Duration = Duration::from_secs(1);
