//! Accepting: the listening sockets of a worker, and the admission of their connections.
//!
//! A worker of clients has none of it; the sockets that those connect are in `connects.rs`.

use super::Worker;
use super::refusals::Refusals;
use super::shutdown::HANDSHAKE_GRACE;
use super::timers::Timer;
use crate::admission::{Admission, AdmissionState, Refusal};
use crate::config::Config;
use crate::connection::Connection;
use crate::error::descriptor_cure;
use crate::foreign::Foreign;
use crate::foreign::log::{self, LogLine, log_limited};
use crate::ring::{Ring, Socket, Token};
use crate::upgrade::{Factory, SharedFactory};
use picows_uring_proto::Role;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a worker that accepts has.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(super) factory: SharedFactory,
    /// Counts the connections of all workers.
    pub(super) admission: Arc<Admission>,
    acceptors: Vec<Acceptor>,
    pub(super) refusals: Refusals,
    /// It waits for a timer, or for a connection to end.
    is_waiting: bool,
}

/// A listening socket of a worker.
#[derive(Debug)]
struct Acceptor {
    socket: Socket,
    state: AcceptState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptState {
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
    fn new(socket: Socket) -> Self {
        Self { socket, state: AcceptState::Paused }
    }

    fn is_closed(&self) -> bool {
        self.state == AcceptState::Closed
    }
}

impl Accept {
    /// Accepts on `listeners` connections that `factory` answers and `admission` counts.
    pub(crate) fn new(
        factory: Arc<Factory>,
        admission: Arc<Admission>,
        listeners: Vec<Socket>,
    ) -> Self {
        Self {
            factory: Rc::new(Foreign::new(factory)),
            admission,
            acceptors: listeners.into_iter().map(Acceptor::new).collect(),
            refusals: Refusals::default(),
            is_waiting: false,
        }
    }

    /// Whether all listening sockets are closed.
    pub(super) fn is_closed(&self) -> bool {
        self.acceptors.iter().all(Acceptor::is_closed)
    }

    /// The listening sockets that are not closed.
    pub(super) fn listeners(&self) -> impl Iterator<Item = Socket> {
        let is_open = |acceptor: &&Acceptor| !acceptor.is_closed();
        self.acceptors.iter().filter(is_open).map(|acceptor| acceptor.socket)
    }

    /// Accepts on every listening socket on which it is paused.
    fn resume(&mut self, ring: &mut impl Ring) {
        for (index, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.state == AcceptState::Paused {
                acceptor.state = AcceptState::Armed;
                ring.accept(acceptor.socket, token_of(index));
            }
        }
    }

    /// Accepts what waits in the backlog of a listening socket: the kernel does so when accepting
    /// begins, before it sees that that is cancelled. After the drain timeout, closes the socket.
    fn sweep(&mut self, ring: &mut impl Ring, index: usize, is_drain_over: bool) {
        if is_drain_over {
            return self.close(ring, index);
        }
        let acceptor = &mut self.acceptors[index];
        acceptor.state = AcceptState::Sweeping;
        ring.accept(acceptor.socket, token_of(index));
        ring.cancel(acceptor.socket);
    }

    fn close(&mut self, ring: &mut impl Ring, index: usize) {
        let acceptor = &mut self.acceptors[index];
        acceptor.state = AcceptState::Closed;
        ring.close(acceptor.socket);
    }

    /// A connection has gone: there is room for another.
    pub(super) fn release_admission(
        &self,
        config: &Config,
        admission: AdmissionState,
        peer: Option<SocketAddr>,
    ) {
        match admission {
            AdmissionState::Exempt | AdmissionState::Refused(_) => return,
            AdmissionState::Handshaking => self.admission.handshake_ended(),
            AdmissionState::Upgraded | AdmissionState::Open => {}
        }
        self.admission.leave(config, peer);
    }
}

/// A listening socket has its index in place of a slot.
fn token_of(index: usize) -> Token {
    Token { slot: index as u32, generation: 0 }
}

impl<R: Ring> Worker<R> {
    /// Accepts on every listening socket on which it is paused.
    pub(super) fn resume_accept(&mut self) {
        if !self.shutdown.is_stopping
            && let Some(accept) = &mut self.accept
        {
            accept.resume(&mut self.ring);
        }
    }

    /// The time is over for which accepting paused.
    pub(super) fn accept_again(&mut self) {
        if let Some(accept) = &mut self.accept {
            accept.is_waiting = false;
        }
        self.resume_accept();
    }

    pub(super) fn accepted(&mut self, token: Token, result: io::Result<Socket>, more: bool) {
        let (is_success, is_drain_over) = (result.is_ok(), self.deadlines.is_drain_over());
        match result {
            Ok(socket) if is_drain_over => self.ring.close(socket),
            Ok(socket) => self.adopt_accepted(socket),
            Err(error) if !self.shutdown.is_stopping => self.accept_failed(&error),
            Err(_) => {}
        }
        let Some(accept) = self.accept.as_mut().filter(|_| !more) else { return };
        let (ring, index) = (&mut self.ring, token.slot as usize);
        let acceptor = &mut accept.acceptors[index];
        if self.shutdown.is_stopping {
            // One that ended with a connection may have left others behind.
            let is_swept = acceptor.state == AcceptState::Sweeping && !is_success;
            return accept.sweep(ring, index, is_swept || is_drain_over);
        }
        acceptor.state = AcceptState::Paused;
        if !accept.is_waiting {
            accept.resume(ring);
        }
    }

    /// Accepts what has connected, and no more. Connections that the kernel has established for us
    /// would be reset with the listening socket, clients of theirs in the middle of a request.
    pub(super) fn stop_accepting(&mut self) {
        let Some(accept) = &mut self.accept else { return };
        for index in 0..accept.acceptors.len() {
            let acceptor = &accept.acceptors[index];
            match acceptor.state {
                // It is swept when that has ended.
                AcceptState::Armed => self.ring.cancel(acceptor.socket),
                AcceptState::Paused => {
                    accept.sweep(&mut self.ring, index, self.deadlines.is_drain_over());
                }
                AcceptState::Sweeping | AcceptState::Closed => {}
            }
        }
    }

    /// Makes a connection of an accepted socket, if only to refuse it.
    fn adopt_accepted(&mut self, socket: Socket) {
        let Some(accept) = &self.accept else { return self.ring.close(socket) };
        let config = Arc::clone(&self.local.config);
        let peer = self.ring.peer_addr(socket);
        let refusal = if self.memory.share.budget().is_full() {
            Some(Refusal::Memory)
        } else {
            accept.admission.admit(&config, peer).err()
        };
        self.local.counters.accepted.increment();
        let factory = Rc::clone(&accept.factory);
        let token = self.adopt(&config, Role::Server, socket, peer, |session| {
            Connection::accepted(session, factory)
        });
        if let Some(refusal) = refusal {
            self.refused(refusal, peer);
            self.hear_out(token, refusal);
        }
        let Some(connection) = self.slots.get_mut(token) else { return };
        if refusal.is_none() {
            connection.admission = AdmissionState::Handshaking;
        }
        if self.shutdown.is_stopping {
            let until = self.local.now.get() + HANDSHAKE_GRACE;
            connection.session().conversation.borrow_mut().expire(until);
        }
        connection.session().mark_dirty();
    }

    /// There is no room for a connection.
    fn refused(&mut self, refusal: Refusal, peer: Option<SocketAddr>) {
        let counters = &self.local.counters;
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
        log_limited!(warn, self.local, LogLine::Refused, ?peer, limit, refused);
    }

    /// A connection has gone.
    pub(super) fn release_admission(&self, admission: AdmissionState, peer: Option<SocketAddr>) {
        if let Some(accept) = &self.accept {
            accept.release_admission(&self.local.config, admission, peer);
        }
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
        let Some(accept) = self.accept.as_mut().filter(|accept| !accept.is_waiting) else { return };
        let local = &self.local;
        local.counters.accept_pauses.increment();
        let pauses = local.counters.accept_pauses.get();
        let cure = descriptor_cure(error).map(|it| format!("{it}, or set max_connections"));
        log_limited!(warn, local, LogLine::AcceptPaused, %error, ?wait, pauses, cure);
        accept.is_waiting = true;
        self.timers.insert(local.now.get() + wait, Timer::ResumeAccept);
    }
}

/// How long accepting pauses for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it pauses after an error whose cause is not known.
const ACCEPT_PAUSE_UNKNOWN: Duration = Duration::from_secs(1);
