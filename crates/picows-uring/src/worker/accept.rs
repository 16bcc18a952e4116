//! Taking new connections in, and what happens when there is no room for one.

use super::{Alarm, Worker};
use crate::client::{ConnectFault, Recruit};
use crate::config::Config;
use crate::connection::Connection;
use crate::ring::{Ring, Socket, Token};
use crate::server::Gauge;
use crate::session::Session;
use http::StatusCode;
use picows_uring_proto::{Role, UpgradeResponse};
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
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
        let is_admitted = self.gauge.acquire(shared.config.connections_max);
        if !is_admitted {
            shared.counters.refused.increment();
            if self.slots.len() >= Gauge::limit_with_refused(shared.config.connections_max) {
                // So many are being told that there is no room that not even that can be said.
                return self.ring.close(socket);
            }
        }
        shared.counters.accepted.increment();
        let peer = self.ring.peer_addr(socket);
        let config = Arc::clone(&shared.config);
        let token = self.take_in(&config, Role::Server, socket, peer);
        let Some(connection) = self.slots.get_mut(token) else { return };
        connection.is_counted = is_admitted;
        if !is_admitted {
            tracing::warn!(?peer, "too many connections: refusing one");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            connection.respond(&UpgradeResponse::text(status, "too many connections\n"));
        }
        connection.session().touch();
    }

    /// Takes in the connections that tasks of this thread have made.
    pub(super) fn enlist(&mut self) {
        if self.shared.recruits.borrow().is_empty() {
            return;
        }
        for recruit in self.shared.recruits.take() {
            let Recruit { socket, peer, config, opening } = recruit;
            if opening.outcome.is_abandoned() || self.is_stopping {
                opening.outcome.set(Err(ConnectFault::Disconnected(None)));
                continue;
            }
            let socket = Socket(socket.into_raw_fd());
            let token = self.take_in(&config, Role::Client, socket, peer);
            if let Some(connection) = self.slots.get_mut(token) {
                connection.open(opening);
            }
        }
    }

    /// Makes a connection of a socket, and receives from it.
    fn take_in(
        &mut self,
        config: &Arc<Config>,
        role: Role,
        socket: Socket,
        peer: Option<SocketAddr>,
    ) -> Token {
        let shared = &self.shared;
        let token = self.slots.insert(|token| {
            let mut connection =
                Connection::new(Session::new(shared, config, role, token, socket, peer));
            connection.is_receiving = true;
            connection
        });
        self.ring.receive(socket, token);
        shared.counters.connections.increment();
        shared.counters.slots.set(self.slots.len() as u64);
        token
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
