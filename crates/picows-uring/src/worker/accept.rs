//! Taking new connections in, and what happens when there is no room for one.

use super::mail::HANDSHAKE_GRACE;
use super::{Alarm, Worker};
use crate::admission::{Place, Refusal};
use crate::client::{ConnectFault, Opening, Recruit};
use crate::config::Config;
use crate::connection::Connection;
use crate::error::descriptor_cure;
use crate::foreign::log::{self, LogLine, log_limited};
use crate::ring::{Ring, Socket, Token};
use crate::session::Session;
use picows_uring_proto::Role;
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
    /// The server stops: what waits in the backlog is accepted, and no more.
    Sweeping,
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
        let is_success = result.is_ok();
        match result {
            Ok(socket) if self.deadlines.is_drain_over() => self.ring.close(socket),
            Ok(socket) => self.connected(socket),
            Err(error) if !self.is_stopping => self.accept_failed(&error),
            Err(_) => {}
        }
        if more {
            return;
        }
        let acceptor = &mut self.acceptors[token.slot as usize];
        if self.is_stopping {
            // One that ended with a connection may have left others behind.
            let is_swept = acceptor.state == AcceptState::Sweeping && !is_success;
            return if is_swept { self.close_listener(token) } else { self.sweep(token) };
        }
        acceptor.state = AcceptState::Paused;
        if !self.is_accept_waiting {
            self.resume_accept();
        }
    }

    /// Accepts what has connected, and no more. Connections that the kernel has established for us
    /// would be reset with the listening socket, clients of theirs in the middle of a request.
    pub(super) fn stop_accepting(&mut self) {
        for index in 0..self.acceptors.len() {
            let acceptor = &self.acceptors[index];
            let token = Token { slot: index as u32, generation: 0 };
            match acceptor.state {
                // It is swept when that has ended.
                AcceptState::Armed => self.ring.cancel(acceptor.socket),
                AcceptState::Paused => self.sweep(token),
                AcceptState::Sweeping | AcceptState::Closed => {}
            }
        }
    }

    /// Accepts what waits in the backlog of a listening socket: the kernel does so when accepting
    /// begins, before it sees that that is cancelled.
    fn sweep(&mut self, token: Token) {
        if self.deadlines.is_drain_over() {
            return self.close_listener(token);
        }
        let acceptor = &mut self.acceptors[token.slot as usize];
        acceptor.state = AcceptState::Sweeping;
        self.ring.accept(acceptor.socket, token);
        self.ring.cancel(acceptor.socket);
    }

    fn close_listener(&mut self, token: Token) {
        let acceptor = &mut self.acceptors[token.slot as usize];
        acceptor.state = AcceptState::Closed;
        self.ring.close(acceptor.socket);
    }

    fn connected(&mut self, socket: Socket) {
        let config = Arc::clone(&self.shared.config);
        let peer = self.ring.peer_addr(socket);
        let refusal = if self.memory.budget().is_full() {
            Some(Refusal::Memory)
        } else {
            self.gauge.admit(&config, peer).err()
        };
        self.shared.counters.accepted.increment();
        let token = self.take_in(&config, Role::Server, socket, peer);
        if let Some(refusal) = refusal {
            self.refused(refusal, peer);
            self.hear_out(token, refusal);
        }
        let Some(connection) = self.slots.get_mut(token) else { return };
        if refusal.is_none() {
            connection.place = Place::Handshaking;
        }
        if self.is_stopping {
            let until = self.shared.now.get() + HANDSHAKE_GRACE;
            connection.session().conversation.borrow_mut().expire(until);
        }
        connection.session().touch();
    }

    /// There is no room for a connection.
    fn refused(&mut self, refusal: Refusal, peer: Option<SocketAddr>) {
        let counters = &self.shared.counters;
        counters.refused.increment();
        match refusal {
            Refusal::Connections => counters.refused_by_connections.increment(),
            Refusal::Address => counters.refused_by_address.increment(),
            Refusal::Handshakes => counters.refused_by_handshakes.increment(),
            Refusal::Memory => counters.refused_by_memory.increment(),
        }
        let limit = refusal.setting();
        log::debug!(?peer, limit, "refusing a connection");
        let refused = counters.refused.get();
        log_limited!(warn, self.shared, LogLine::Refused, ?peer, limit, refused);
    }

    /// A connection has gone: there is room for another.
    pub(super) fn left(&mut self, place: Place, peer: Option<SocketAddr>) {
        match place {
            Place::Uncounted | Place::Refused(_) => return,
            Place::Handshaking => self.gauge.handshake_ended(),
            Place::Upgraded | Place::Inside => {}
        }
        self.gauge.leave(&self.shared.config, peer);
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
            self.open(Socket(socket.into_raw_fd()), peer, &config, opening);
        }
    }

    /// Makes a client's connection of a socket, and begins its handshake.
    pub(crate) fn open(
        &mut self,
        socket: Socket,
        peer: Option<SocketAddr>,
        config: &Arc<Config>,
        opening: Opening,
    ) {
        let token = self.take_in(config, Role::Client, socket, peer);
        if let Some(connection) = self.slots.get_mut(token) {
            connection.open(opening);
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
        let (shared, ring) = (&self.shared, &mut self.ring);
        let token = self.slots.insert(|token| {
            let mut connection =
                Connection::new(Session::new(shared, config, role, token, socket, peer));
            connection.link.receive(ring, socket, token);
            connection
        });
        shared.counters.connections.increment();
        shared.counters.slots.set(self.slots.len() as u64);
        token
    }

    /// Accepting failed: waits a moment if that may help.
    fn accept_failed(&mut self, error: &io::Error) {
        let wait = match error.raw_os_error() {
            // A signal came, or something happened to a connection that was not accepted yet: it
            // is off the queue (accept(2), "Error handling").
            Some(
                libc::EINTR
                | libc::ECONNABORTED
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP,
            ) => return,
            // It helps when a connection ends, which resumes at once, or another process gives up
            // something, which nobody tells us. EAGAIN: whoever shares the socket has marked it
            // not to wait, and so it is asked now and then.
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => {
                ACCEPT_PAUSE
            }
            _ => ACCEPT_PAUSE_UNKNOWN,
        };
        if self.is_accept_waiting {
            return;
        }
        let shared = &self.shared;
        shared.counters.accept_pauses.increment();
        let pauses = shared.counters.accept_pauses.get();
        let cure = descriptor_cure(error).map(|it| format!("{it}, or set max_connections"));
        log_limited!(warn, shared, LogLine::AcceptPaused, %error, ?wait, pauses, cure);
        self.is_accept_waiting = true;
        self.wheel.insert(shared.now.get() + wait, Alarm::ResumeAccept.pack());
    }
}

/// How long accepting pauses for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it pauses after an error whose cause is not known.
const ACCEPT_PAUSE_UNKNOWN: Duration = Duration::from_secs(1);
