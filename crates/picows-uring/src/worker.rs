//! A worker: the sessions of one thread, and the turn that serves them.
//!
//! A turn takes what has happened (drain), lets it take effect (handle), and sends what came of it
//! (flush). Handlers queue work and never call into the ring, so nothing happens twice or in the
//! middle of something else; the one thing that they may do at once is to offer a socket what is
//! queued for it (`session/outlet.rs`). How the thread waits between turns is not known here.

mod accept;
mod commands;
mod connects;
mod deadlines;
mod deferred;
mod eviction;
mod flush;
mod lane;
mod log_report;
mod memory;
mod progress;
mod receive;
mod refusals;
mod shutdown;
mod slots;
mod timers;
mod topics;
mod watchdog;

use crate::client::Intake;
use crate::config::Config;
use crate::connection::Connection;
use crate::foreign;
use crate::link::InputState;
use crate::local::Local;
use crate::ring::{Completion, Ring, Socket, Token};
use crate::session::Session;
use crate::status::DisconnectCause;
use accept::Accept;
pub(crate) use accept::{Listening, MoreListeners, NewListener};
use deadlines::Deadlines;
use flush::Flush;
use memory::Memory;
use picows_uring_proto::{Role, Tick};
use progress::ProgressChecks;
use receive::Receive;
use shutdown::Shutdown;
use slots::Slots;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use timers::{Timer, Timers};
use topics::LingerTimer;

/// The sessions of one thread, and the services that they share.
///
/// Each service owns its state, and is in a file of its own. Its methods are the worker's, as they
/// need the ring and the connections; those for one connection are in `Lane`.
pub(crate) struct Worker<R: Ring> {
    pub(crate) ring: R,
    pub(crate) local: Rc<Local>,
    slots: Slots,
    timers: Timers,
    /// A worker that has never listened has none.
    accept: Option<Accept>,
    /// Sockets that tasks of its thread have connected.
    intake: Rc<Intake>,
    receive: Receive,
    flush: Flush,
    deadlines: Deadlines,
    progress: ProgressChecks,
    shutdown: Shutdown,
    linger: LingerTimer,
    pub(crate) memory: Memory,
    /// When the last turn was over, where turns are timed.
    turn_end: Option<Duration>,
}

/// The outcome of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There may be more to do at once.
    Busy,
    /// Nothing happens before the next event of the kernel or command of another thread.
    Idle,
    /// Stopped: no connection and no operation is left.
    Done,
}

impl<R: Ring> Worker<R> {
    /// A worker without connections and listening sockets.
    pub(crate) fn new(ring: R, local: Rc<Local>) -> Self {
        let now = tick(ring.now());
        let _ = local.outlet.set(ring.outlet());
        local.counters.pulse.set_clock(ring.now());
        let memory = Memory::new(&local, now);
        Self {
            ring,
            local,
            slots: Slots::default(),
            timers: Timers::new(now),
            accept: None,
            intake: Rc::default(),
            receive: Receive::default(),
            flush: Flush::default(),
            deadlines: Deadlines::new(now),
            progress: ProgressChecks::default(),
            shutdown: Shutdown::default(),
            linger: LingerTimer::default(),
            memory,
            turn_end: None,
        }
    }

    /// Does what there is to do, up to a bound.
    ///
    /// # Errors
    ///
    /// When the ring is lost.
    pub(crate) fn turn(&mut self) -> io::Result<Turn> {
        self.local.counters.turns.increment();
        self.ring.poll(COMPLETIONS_PER_TURN, &mut self.receive.completions)?;
        let now = self.ring.now();
        // Behind the clock: what is not here yet may have happened before.
        self.polled(now);
        self.local.counters.pulse.turn_begins(now);
        self.local.callback_timer.begin();
        self.local.now.set(tick(now));
        self.local.idle_since.set(None);
        self.begin_waits();
        self.note_sent();
        // Behind the clock: what they set in motion has deadlines, and the turn before may be long
        // ago.
        self.handle_commands();
        self.adopt_connected();
        self.receive.begin_turn();
        #[cfg(feature = "deflate")]
        self.allow_expansion();
        #[cfg(feature = "_tls")]
        self.local.tls_steps.begin_turn(self.local.config.tls_handshakes_per_turn);
        let mut completions = std::mem::take(&mut self.receive.completions);
        for completion in completions.drain(..) {
            self.handle(completion);
        }
        self.receive.completions = completions;
        self.serve_deferred();
        self.local.stamp.set(None);
        self.expire();
        self.judge_sends();
        self.serve_topics();
        self.flush();
        self.keep_deferred();
        self.keep_to_budget();
        self.feed_starved();
        self.account();
        self.set_log_report();
        if let Some(deadline) = self.timers.next_deadline() {
            self.ring.set_deadline(deadline.duration_since(Tick::ZERO));
        }
        self.end_turn(now);
        if self.shutdown.is_wanted() && self.is_empty() {
            Ok(Turn::Done)
        } else if self.has_work() {
            Ok(Turn::Busy)
        } else {
            Ok(Turn::Idle)
        }
    }

    /// Completes sends that have gone well, before anything more is queued: a peer is not to be judged
    /// by bytes that it has taken. Those that failed are handled in their order, as bytes of the peer
    /// may have come before.
    fn note_sent(&mut self) {
        // Fewer than there may be: the poll brought all that there was.
        if self.receive.completions.len() < COMPLETIONS_PER_TURN {
            self.local.polls.set(self.local.polls.get().wrapping_add(1));
        }
        if self.receive.completions.iter().any(has_left) {
            self.complete_sent();
        }
    }

    #[inline(never)]
    fn complete_sent(&mut self) {
        let mut completions = std::mem::take(&mut self.receive.completions);
        for completion in completions.extract_if(.., |it| has_left(it)) {
            if let Completion::Sent { token, result, batch } = completion {
                self.sent(token, result, batch);
                self.local.pool.drop_discarded();
            }
        }
        self.receive.completions = completions;
    }

    fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, result, more } => {
                self.received(token, result, more);
            }
            Completion::Sent { token, result, batch } => self.sent(token, result, batch),
            Completion::Accepted { listener, result, more } => {
                self.accepted(listener, result, more);
            }
        }
        self.local.pool.drop_discarded();
    }

    /// Makes a connection of a new socket, and receives from it.
    pub(super) fn adopt(
        &mut self,
        config: &Arc<Config>,
        role: Role,
        socket: Socket,
        peer: Option<SocketAddr>,
        make: impl FnOnce(Rc<Session>) -> Connection,
    ) -> Token {
        let (local, ring) = (&self.local, &mut self.ring);
        let token = self.slots.insert(|token| {
            let mut connection = make(Session::new(local, config, role, token, socket, peer));
            if config.receive_timestamps {
                connection.link.set_stamped(ring.request_stamps(socket));
            }
            connection.link.receive(ring, socket, token);
            connection
        });
        local.counters.connections.increment();
        local.counters.slots.set(self.slots.len() as u64);
        token
    }

    /// Frees a connection, as soon as nothing of it is in flight.
    #[cold]
    #[inline(never)]
    fn close(&mut self, token: Token, socket: Socket) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        connection.session().conversation.borrow_mut().end();
        connection.disconnected();
        connection.session().drop_queue();
        if let Some((timer, _)) = connection.timer.take() {
            self.timers.cancel(timer);
        }
        if self.receive.deferred.drop_of(token, &mut self.ring, &self.local.pool) {
            connection.link.input = InputState::Flowing;
        }
        if connection.link.is_busy(connection.session()) {
            return connection.link.cancel(&mut self.ring, socket);
        }
        connection.session().socket.take();
        self.ring.close(socket);
        self.deadlines.forget(token);
        let (end_cause, close_code) = connection.end();
        let (admission, session) = (connection.admission, connection.session());
        session.config.release_admission(admission, session.counted_addr());
        if let Some(accept) = &mut self.accept {
            accept.refusals.forget(admission, token);
        }
        self.slots.free(token);
        self.local.counters.slots.set(self.slots.len() as u64);
        self.local.counters.endings.record(end_cause, close_code);
        // Last: a caller that sees it gone may count on its slot and its admission.
        self.local.counters.connections.decrement();
        self.local.counters.disconnected.increment();
        // There is a descriptor again.
        self.resume_accept();
    }

    fn expire(&mut self) {
        let seen = self.deadlines.seen();
        while let Some(timer) = self.timers.expire(seen) {
            self.fired(timer);
        }
    }

    #[inline(never)] // Few turns have one, and the others would have it in the middle of their way.
    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Connection(token) => self.timer_fired(token),
            Timer::ResumeAccept => self.accept_again(),
            Timer::Shutdown => self.close_due(),
            Timer::Drain => self.on_drain_timeout(),
            Timer::Trim => self.trim(),
            Timer::Progress => self.check_progress(),
            Timer::LogReport => self.report_log(),
            Timer::StopAccepting => self.stop_accepting(),
            Timer::Topics => self.on_linger_timeout(),
        }
    }

    /// Every connection, for comparison with what the kernel knows.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn connections(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut()
    }

    /// The number of the turn.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn turn_number(&self) -> u32 {
        self.receive.turn
    }

    /// Bytes of buffers that connections hold on to.
    #[cfg(test)]
    pub(crate) fn owned_bytes(&mut self) -> usize {
        self.slots.iter_mut().map(|connection| connection.owned_bytes()).sum()
    }

    /// When the last turn was over, by the clock of the ring; `None` where turns are not timed.
    pub(crate) fn turn_end(&self) -> Option<Duration> {
        self.turn_end
    }

    /// Whether there may be work.
    pub(crate) fn has_work(&mut self) -> bool {
        !self.receive.deferred.is_empty() || self.ring.has_work() || self.has_local_work()
    }

    /// Whether callbacks or tasks of this thread have left work for it.
    pub(crate) fn has_local_work(&self) -> bool {
        self.local.has_work() || !self.intake.is_empty()
    }

    /// Whether no connection and no operation is left.
    fn is_empty(&self) -> bool {
        self.slots.len() == 0
            && self.receive.deferred.is_empty()
            && self.accept.as_ref().is_none_or(Accept::is_closed)
    }
}

/// Whether bytes have left.
fn has_left(completion: &Completion) -> bool {
    matches!(completion, Completion::Sent { result: Ok(1..), .. })
}

/// The time of a ring, as the protocol crate counts it.
fn tick(since_origin: Duration) -> Tick {
    Tick::ZERO + since_origin
}

/// Completions that are handled before what came of them is sent: enough to send for many at
/// once, and few enough that no peer waits long for an answer.
const COMPLETIONS_PER_TURN: usize = 512;
impl<R: Ring> Drop for Worker<R> {
    /// If the worker fails: notifies the listeners and the waiting tasks, and closes the sockets, so
    /// that no client connects to a server that does not answer.
    fn drop(&mut self) {
        self.local.counters.pulse.turn_ends();
        self.local.log_limits.report_all(self.local.now.get());
        let mut admissions = Vec::new();
        for connection in self.slots.iter_mut() {
            let session = Rc::clone(connection.session());
            session.set_cause(DisconnectCause::WorkerFailed);
            session.conversation.borrow_mut().end();
            connection.disconnected();
            // A handle that outlives the worker, perhaps the thread, keeps no payload.
            session.drop_queue();
            if let Some(socket) = session.socket.take() {
                self.ring.close_on_failure(socket);
                let (end_cause, close_code) = connection.end();
                self.local.counters.endings.record(end_cause, close_code);
                admissions.push((connection.admission, session));
            }
        }
        for (admission, session) in admissions {
            session.config.release_admission(admission, session.counted_addr());
            self.local.counters.connections.decrement();
            self.local.counters.disconnected.increment();
        }
        self.local.counters.slots.set(0);
        for socket in self.accept.iter().flat_map(Accept::sockets) {
            self.ring.close_on_failure(socket);
        }
        self.refuse_connected();
        if let Some(topics) = self.local.topics() {
            topics.close();
        }
        self.local.pool.drop_discarded();
        self.local.counters.stray_panics.add(foreign::take_stray_panics());
    }
}

#[cfg(test)]
mod tests;
