//! Accepting: the listening sockets of a worker, and the admission of their connections.
//!
//! Each has settings, limits and a factory of its own, which go with its connections. A worker of
//! clients has none; the sockets that those connect are in `connects.rs`.

use super::Worker;
use super::deferred::Input;
use super::refusals::Refusals;
use super::timers::Timer;
use crate::admission::{AdmissionState, Refusal};
use crate::command::{Adopted, ListenName};
use crate::config::Config;
use crate::connection::Connection;
use crate::error::descriptor_cure;
use crate::foreign::log::{self, LogLine, log_limited, peer_field};
use crate::link::{InputState, Piece};
use crate::ring::{ListenerId, Ring, Socket, Token};
use crate::upgrade::{MakeFactory, SharedFactory, WorkerInfo, make_factory};
use picows_uring_proto::Role;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

/// The listening sockets of a worker, and what it refuses.
#[derive(Debug, Default)]
pub(crate) struct Accept {
    places: Vec<Place>,
    pub(super) refusals: Refusals,
    /// It waits for a timer, or for a connection to end.
    is_waiting: bool,
    /// What the server calls each of those that it may close.
    names: Vec<(ListenName, ListenerId)>,
    more: Option<MoreListeners>,
}

/// What a worker needs to listen on sockets that its server adds.
#[derive(Debug)]
pub(crate) struct MoreListeners {
    pub(crate) worker: WorkerInfo,
    /// The factory of those that have none of their own.
    pub(crate) factory: SharedFactory,
    pub(crate) sockets: Receiver<NewListener>,
}

/// A listening socket that is added to a worker.
pub(crate) struct NewListener {
    pub(crate) name: ListenName,
    pub(crate) socket: OwnedFd,
    pub(crate) config: Arc<Config>,
    /// Its own factory; `None` for that of the server.
    pub(crate) make: Option<Arc<MakeFactory>>,
}

/// The settings by which the connections of a listening socket are served.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// The settings of its connections, and the limits and counts that they are admitted by.
    config: Arc<Config>,
    factory: SharedFactory,
}

/// Room for one listening socket.
#[derive(Debug)]
struct Place {
    /// Of the socket that is in it, or comes next.
    id: ListenerId,
    acceptor: Option<Acceptor>,
}

/// A listening socket of a worker.
#[derive(Debug)]
struct Acceptor {
    socket: Socket,
    state: AcceptState,
    /// It is closed as soon as what waits in its backlog is accepted.
    is_leaving: bool,
    /// Another process accepts what waits there, as soon as this is dropped.
    handed: Option<Sender<()>>,
    listening: Listening,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptState {
    /// The kernel accepts for us.
    Armed,
    /// It is leaving: what waits in the backlog is accepted, and no more.
    Sweeping,
    /// It does not accept: it was not begun, or descriptors or memory are short.
    Paused,
}

impl Listening {
    /// Connections with the settings `config`, whose requests `factory` answers.
    pub(crate) fn of(config: Arc<Config>, factory: SharedFactory) -> Self {
        debug_assert!(config.admission.is_some(), "connections of a server are counted");
        Self { config, factory }
    }

    /// The same with a factory that other workers may have as well.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn new(config: Arc<Config>, factory: Arc<crate::upgrade::Factory>) -> Self {
        let factory: Box<crate::upgrade::LocalFactory> = Box::new(move |request| factory(request));
        Self::of(config, Rc::new(crate::foreign::Foreign::new(factory)))
    }
}

impl Accept {
    /// Whether all listening sockets are closed.
    pub(super) fn is_closed(&self) -> bool {
        self.places.iter().all(|place| place.acceptor.is_none())
    }

    /// The listening sockets that are not closed, and that no other process has.
    pub(super) fn own_sockets(&self) -> impl Iterator<Item = Socket> {
        let acceptors = self.places.iter().filter_map(|place| place.acceptor.as_ref());
        acceptors.filter(|acceptor| acceptor.handed.is_none()).map(|acceptor| acceptor.socket)
    }

    /// The listening sockets that are not closed.
    pub(super) fn sockets(&self) -> impl Iterator<Item = Socket> {
        self.places.iter().filter_map(|place| Some(place.acceptor.as_ref()?.socket))
    }

    /// Has `factory` answer the requests of connections that are accepted from here on.
    #[cfg(test)]
    pub(super) fn answer_with(&mut self, factory: &Arc<crate::upgrade::Factory>) {
        for acceptor in self.places.iter_mut().filter_map(|place| place.acceptor.as_mut()) {
            let config = Arc::clone(&acceptor.listening.config);
            acceptor.listening = Listening::new(config, Arc::clone(factory));
        }
    }

    /// Takes a listening socket, on which accepting is paused.
    fn add(&mut self, socket: Socket, listening: Listening) -> ListenerId {
        let state = AcceptState::Paused;
        let is_leaving = false;
        let acceptor = Some(Acceptor { socket, state, is_leaving, handed: None, listening });
        if let Some(place) = self.places.iter_mut().find(|place| place.acceptor.is_none()) {
            place.acceptor = acceptor;
            return place.id;
        }
        let id = ListenerId::first(self.places.len() as u32);
        self.places.push(Place { id, acceptor });
        id
    }

    /// The listening socket behind an id, unless it is closed.
    fn get_mut(&mut self, id: ListenerId) -> Option<&mut Acceptor> {
        let place = self.places.get_mut(id.index as usize).filter(|place| place.id == id)?;
        place.acceptor.as_mut()
    }

    /// Accepts on every listening socket on which it is paused.
    fn resume(&mut self, ring: &mut impl Ring) {
        for place in &mut self.places {
            if let Some(acceptor) = &mut place.acceptor
                && acceptor.state == AcceptState::Paused
            {
                acceptor.state = AcceptState::Armed;
                ring.accept(acceptor.socket, place.id);
            }
        }
    }

    /// Begins to close a listening socket: it accepts what has connected, and no more. Connections
    /// that the kernel has established for us would be reset with the socket, clients of theirs in
    /// the middle of a request.
    fn leave(&mut self, ring: &mut impl Ring, id: ListenerId, is_drain_over: bool) {
        let Some(acceptor) = self.get_mut(id) else { return };
        if std::mem::replace(&mut acceptor.is_leaving, true) {
            return;
        }
        match acceptor.state {
            // It is swept when that has ended.
            AcceptState::Armed => ring.cancel(acceptor.socket),
            AcceptState::Paused => self.sweep(ring, id, is_drain_over),
            AcceptState::Sweeping => {}
        }
    }

    /// Begins to close a listening socket that another process has as well: it accepts what waits there.
    /// `released` is dropped when nothing is accepted here any more.
    fn release(&mut self, ring: &mut impl Ring, id: ListenerId, released: &Sender<()>) {
        if let Some(acceptor) = self.get_mut(id) {
            acceptor.handed = Some(released.clone());
            self.leave(ring, id, true);
        }
    }

    /// Accepts what waits in the backlog of a listening socket: a ring does so when accepting
    /// begins, before it sees that that is cancelled. When that is over, closes the socket.
    fn sweep(&mut self, ring: &mut impl Ring, id: ListenerId, is_over: bool) {
        if is_over {
            return self.close(ring, id);
        }
        let Some(acceptor) = self.get_mut(id) else { return };
        acceptor.state = AcceptState::Sweeping;
        ring.accept(acceptor.socket, id);
        ring.cancel(acceptor.socket);
    }

    /// Closes a listening socket on which nothing is accepted. Its connections stay.
    fn close(&mut self, ring: &mut impl Ring, id: ListenerId) {
        let Some(place) = self.places.get_mut(id.index as usize) else { return };
        if let Some(acceptor) = place.acceptor.take() {
            place.id = id.next();
            ring.close(acceptor.socket);
        }
    }
}

impl<R: Ring> Worker<R> {
    /// Accepts connections on `socket`, which listens, and closes it in the end.
    pub(crate) fn listen(&mut self, socket: Socket, listening: &Listening) -> ListenerId {
        let accept = self.accept.get_or_insert_default();
        let id = accept.add(socket, listening.clone());
        if self.shutdown.is_stopping {
            accept.leave(&mut self.ring, id, self.deadlines.is_drain_over());
        } else if !accept.is_waiting {
            accept.resume(&mut self.ring);
        }
        id
    }

    /// [`listen`](Self::listen), for a socket that the server knows by a name.
    pub(crate) fn listen_as(&mut self, name: ListenName, socket: Socket, listening: &Listening) {
        let id = self.listen(socket, listening);
        self.accept.get_or_insert_default().names.push((name, id));
    }

    /// Has a worker listen on the sockets that come, from now on.
    pub(crate) fn take_more(&mut self, more: MoreListeners) {
        self.accept.get_or_insert_default().more = Some(more);
    }

    /// Listens on the sockets that the server has added.
    pub(super) fn listen_more(&mut self) {
        loop {
            let Some(more) = self.accept.as_ref().and_then(|accept| accept.more.as_ref()) else {
                return;
            };
            let Ok(NewListener { name, socket, config, make }) = more.sockets.try_recv() else {
                return;
            };
            let made = match make {
                Some(make) => make_factory(&*make, more.worker),
                None => Ok(Rc::clone(&more.factory)),
            };
            match made {
                Ok(factory) => {
                    let listening = Listening::of(config, factory);
                    self.listen_as(name, Socket(socket.into_raw_fd()), &listening);
                }
                Err(panicked) => {
                    log_limited!(error, self.local, LogLine::FactoryFailed, %panicked);
                    self.local.counters.listener_errors.increment();
                }
            }
        }
    }

    /// Closes the listening sockets that the server knows by `name`.
    pub(super) fn close_listeners(&mut self, name: ListenName) {
        let Some(accept) = &mut self.accept else { return };
        let closed: Vec<_> = accept.names.extract_if(.., |(it, _)| *it == name).collect();
        for (_, id) in closed {
            self.close_listener(id);
        }
    }

    /// Leaves the listening sockets that the server knows by `names` to another process.
    pub(super) fn release_listeners(&mut self, names: &[ListenName], released: &Sender<()>) {
        let Some(accept) = &mut self.accept else { return };
        let handed: Vec<_> = accept.names.extract_if(.., |(it, _)| names.contains(it)).collect();
        for (_, id) in handed {
            accept.release(&mut self.ring, id, released);
        }
    }

    /// Closes a listening socket, unless it is closed: accepts what has connected to it, and no more.
    /// Its connections stay, also those in their handshakes. The worker does not end with the last.
    pub(crate) fn close_listener(&mut self, id: ListenerId) {
        if let Some(accept) = &mut self.accept {
            accept.leave(&mut self.ring, id, self.deadlines.is_drain_over());
        }
    }

    /// Whether a listening socket is closed, and its accepting has ended.
    #[cfg(test)]
    pub(super) fn is_listener_closed(&mut self, id: ListenerId) -> bool {
        self.accept.as_mut().is_none_or(|accept| accept.get_mut(id).is_none())
    }

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
            self.local.counters.accept_paused.set(0);
        }
        self.resume_accept();
    }

    /// A connection was accepted, or accepting has failed or ended.
    #[inline(never)] // Most completions are of connections.
    pub(super) fn accepted(
        &mut self,
        listener: ListenerId,
        result: io::Result<Socket>,
        more: bool,
    ) {
        let (is_success, is_drain_over) = (result.is_ok(), self.deadlines.is_drain_over());
        let is_leaving = self.is_leaving(listener);
        match result {
            Ok(socket) if is_drain_over => self.ring.close(socket),
            Ok(socket) => self.adopt_accepted(listener, socket),
            Err(error) if !is_leaving => self.accept_failed(&error),
            Err(_) => {}
        }
        let Some(accept) = self.accept.as_mut().filter(|_| !more) else { return };
        let ring = &mut self.ring;
        let Some(acceptor) = accept.get_mut(listener) else { return };
        if is_leaving {
            // One that ended with a connection may have left others behind.
            let is_swept = acceptor.state == AcceptState::Sweeping && !is_success;
            let is_over = is_swept || acceptor.handed.is_some() || is_drain_over;
            return accept.sweep(ring, listener, is_over);
        }
        acceptor.state = AcceptState::Paused;
        if !accept.is_waiting {
            accept.resume(ring);
        }
    }

    /// Whether a listening socket is being closed.
    fn is_leaving(&mut self, id: ListenerId) -> bool {
        let acceptor = self.accept.as_mut().and_then(|accept| accept.get_mut(id));
        self.shutdown.is_stopping || acceptor.is_none_or(|acceptor| acceptor.is_leaving)
    }

    /// Begins to close every listening socket.
    pub(super) fn stop_accepting(&mut self) {
        let Some(accept) = &mut self.accept else { return };
        for index in 0..accept.places.len() {
            let id = accept.places[index].id;
            accept.leave(&mut self.ring, id, self.deadlines.is_drain_over());
        }
    }

    /// Makes a connection of an accepted socket, if only to refuse it.
    fn adopt_accepted(&mut self, listener: ListenerId, socket: Socket) {
        let acceptor = self.accept.as_mut().and_then(|accept| accept.get_mut(listener));
        let Some(acceptor) = acceptor else { return self.ring.close(socket) };
        let listening = acceptor.listening.clone();
        self.begin_connection(listening, socket);
    }

    /// Serves a connection that was accepted elsewhere, as those of the server are. What was read from
    /// it is deferred input, and handled in this turn.
    pub(super) fn adopt_from_elsewhere(&mut self, adopted: Adopted) {
        let more = self.accept.as_ref().and_then(|accept| accept.more.as_ref());
        let Some(more) = more.filter(|_| !self.shutdown.is_stopping) else { return };
        let factory = Rc::clone(&more.factory);
        let mut config = Arc::clone(&self.local.config);
        if adopted.upgraded.is_some() && (config.tls.is_some() || config.proxy_protocol.is_some()) {
            // Whatever came before the frames is over.
            config = Arc::new(Config { tls: None, proxy_protocol: None, ..Config::clone(&config) });
        }
        let socket = Socket(adopted.socket.into_raw_fd());
        let token = self.begin_connection(Listening::of(config, factory), socket);
        let Some(connection) = self.slots.get_mut(token) else { return };
        if let Some(request) = adopted.upgraded {
            connection.answer_upgraded(*request);
        }
        if adopted.received.is_empty() {
            return;
        }
        let mut memory = self.local.pool.stash();
        memory.bytes_mut().extend_from_slice(&adopted.received);
        connection.link.input = InputState::Deferred;
        let piece = Piece::copied(memory, &self.local.pool);
        self.receive.deferred.push(token, Input::Piece(piece));
    }

    /// Makes a connection of a socket, if only to refuse it.
    pub(crate) fn begin_connection(&mut self, listening: Listening, socket: Socket) -> Token {
        let Listening { config, factory } = listening;
        let peer = self.ring.peer_addr(socket);
        let refusal = if self.memory.share.budget().is_full() {
            Some(Refusal::Memory)
        } else {
            config.admit(peer).err()
        };
        self.local.counters.accepted.increment();
        let token = self.adopt(&config, Role::Server, socket, peer, |session| {
            Connection::accepted(session, factory)
        });
        if let Some(refusal) = refusal {
            self.refused(refusal, peer);
            self.hear_out(token, refusal);
        }
        let Some(connection) = self.slots.get_mut(token) else { return token };
        if refusal.is_none() {
            connection.admission = AdmissionState::Handshaking;
        }
        if self.shutdown.is_stopping {
            let until = self.shutdown.answers_until(self.local.now.get());
            connection.session().conversation.borrow_mut().expire(until);
        }
        connection.session().mark_dirty();
        token
    }

    /// A connection is refused: counts it, and logs some.
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
        log::debug!(peer = peer_field(peer), limit, "refusing a connection");
        let refused = counters.refused.get();
        log_limited!(warn, self.local, LogLine::Refused, peer = peer_field(peer), limit, refused);
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
            // something, of which there is no event. EAGAIN: another process that shares the socket
            // has marked it not to wait, and so it is asked now and then.
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
        local.counters.accept_paused.set(1);
        self.timers.insert(local.now.get() + wait, Timer::ResumeAccept);
    }
}

/// How long accepting pauses where descriptors or memory are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long it pauses after an error whose cause is not known.
const ACCEPT_PAUSE_UNKNOWN: Duration = Duration::from_secs(1);
