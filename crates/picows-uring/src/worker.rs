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
mod refusals;
mod shutdown;
mod slots;
mod watchdog;

use crate::client::Intake;
use crate::config::Config;
use crate::connection::Connection;
use crate::foreign;
use crate::link::InputState;
use crate::local::Local;
use crate::memory::MemoryShare;
use crate::pool::map_large_blocks;
use crate::ring::{Completion, ReceiveResult, Ring, Socket, Token};
use crate::session::Session;
use crate::status::DisconnectCause;
pub(crate) use accept::Accept;
use deadlines::Deadlines;
use deferred::Deferred;
use lane::Serviced;
use picows_uring_proto::{Role, Tick, TimerId, Wheel};
use progress::Looks;
use shutdown::ShutdownPacer;
use slots::Slots;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The sessions of one thread.
pub(crate) struct Worker<R: Ring> {
    pub(crate) ring: R,
    pub(crate) local: Rc<Local>,
    /// A worker of clients has none.
    accept: Option<Accept>,
    /// Sockets that tasks of its thread have connected.
    intake: Rc<Intake>,
    slots: Slots,
    wheel: Wheel,
    is_stopping: bool,
    /// Ends with its last connection, without being told to.
    is_ending: bool,
    shutdown: ShutdownPacer,
    /// The timer that ends a drain, and when it fires.
    drain: Option<(TimerId, Tick)>,
    /// A timer is set for reporting the lines that the log left out.
    is_log_report_set: bool,
    /// What its connections hold, in the budget of all workers.
    pub(crate) memory: MemoryShare,
    /// Turns for which the sum has been beyond the limit.
    turns_over: u32,
    /// Bytes of commands to connections that were evicted: they go when the mail is read.
    posted_to_evicted: usize,
    /// When free pages may be released again because of evictions.
    release_at: Tick,
    /// A timer is set for giving up memory.
    is_trim_due: bool,
    deadlines: Deadlines,
    looks: Looks,
    /// What arrived for connections that had had their share of the turn.
    deferred: Deferred,
    /// Connections whose receives found no buffer, in their order.
    starved: VecDeque<Token>,
    /// Connections with a send in flight that is longer than their high watermark, and that the kernel
    /// may not have seen.
    untried: Vec<Token>,
    /// This turn has lasted so long that what arrived is left for the next.
    is_turn_spent: bool,
    /// Bytes that all connections together may still take straight from their sockets in this turn.
    direct_left: usize,
    /// The connection that is being looked at is the only one on the list.
    is_alone: bool,
    /// Counted around, to tell turns apart.
    turn: u32,
    /// Kept between turns for its memory.
    completions: Vec<Completion>,
    dirty: Vec<Token>,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There may be more to do at once.
    Busy,
    /// Nothing happens until the kernel or somebody else has news.
    Idle,
    /// Stopped: no connection and no operation is left.
    Done,
}

/// What a timer of the wheel is for, in the upper bits of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Connection(Token),
    ResumeAccept,
    Shutdown,
    Drain,
    Trim,
    LogReport,
    Progress,
    /// Connections that had begun at a stop are accepted.
    StopAccepting,
}

impl<R: Ring> Worker<R> {
    /// A worker that `accept`s connections, if it does, and closes the listening sockets in the end.
    pub(crate) fn new(ring: R, local: Rc<Local>, accept: Option<Accept>) -> Self {
        let now = tick(ring.now());
        let _ = local.outlet.set(ring.outlet());
        if let Some(accept) = &accept {
            let _ = local.admission.set(Arc::clone(&accept.admission));
        }
        local.counters.pulse.set_clock(ring.now());
        let memory = MemoryShare::new(&local.config.memory, &local.mailbox);
        if memory.budget().limit().is_some() {
            map_large_blocks();
        }
        let mut worker = Self {
            ring,
            local,
            accept,
            intake: Rc::default(),
            slots: Slots::default(),
            wheel: Wheel::new(now),
            is_stopping: false,
            is_ending: false,
            shutdown: ShutdownPacer::default(),
            drain: None,
            is_log_report_set: false,
            memory,
            turns_over: 0,
            posted_to_evicted: 0,
            release_at: now,
            is_trim_due: false,
            deadlines: Deadlines::new(now),
            looks: Looks::default(),
            deferred: Deferred::default(),
            starved: VecDeque::new(),
            untried: Vec::new(),
            is_turn_spent: false,
            direct_left: 0,
            is_alone: false,
            turn: 0,
            completions: Vec::new(),
            dirty: Vec::new(),
        };
        worker.resume_accept();
        worker
    }

    /// Does what there is to do, up to a bound.
    ///
    /// # Errors
    ///
    /// When the ring is lost.
    pub(crate) fn turn(&mut self) -> io::Result<Turn> {
        self.local.counters.turns.increment();
        self.ring.poll(COMPLETIONS_PER_TURN, &mut self.completions)?;
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
        self.turn = self.turn.wrapping_add(1);
        self.direct_left = DIRECT_BYTES_PER_TURN;
        self.is_turn_spent = false;
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.handle(completion);
        }
        self.completions = completions;
        self.serve_deferred();
        self.expire();
        self.judge_sends();
        self.flush();
        self.keep_deferred();
        self.keep_to_budget();
        self.feed_starved();
        self.account();
        self.set_log_report();
        if let Some(deadline) = self.wheel.next_deadline() {
            self.ring.set_deadline(deadline.duration_since(Tick::ZERO));
        }
        self.end_turn(now);
        if (self.is_stopping || self.is_ending) && self.is_empty() {
            Ok(Turn::Done)
        } else if self.has_work() {
            Ok(Turn::Busy)
        } else {
            Ok(Turn::Idle)
        }
    }

    /// Takes note of sends that have gone well, before anything more is queued: who has taken what it
    /// was sent is not to be judged by it. Those that failed are seen in their order, as bytes of the
    /// peer may have come before.
    fn note_sent(&mut self) {
        // Fewer than there may be: the poll brought all that there was.
        if self.completions.len() < COMPLETIONS_PER_TURN {
            self.local.polls.set(self.local.polls.get().wrapping_add(1));
        }
        let has_left = |it: &Completion| matches!(it, Completion::Sent { result: Ok(1..), .. });
        if !self.completions.iter().any(has_left) {
            return;
        }
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.extract_if(.., |it| has_left(it)) {
            if let Completion::Sent { token, result, batch } = completion {
                self.sent(token, result, batch);
                self.local.pool.drop_discarded();
            }
        }
        self.completions = completions;
    }

    fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token, result, more } => {
                self.received(token, result, more);
                self.local.callback_timer.mark(token, "on_frame");
                self.is_turn_spent = self.local.callback_timer.turn_so_far() >= FRESH_TIME_PER_TURN;
            }
            Completion::Sent { token, result, batch } => self.sent(token, result, batch),
            Completion::Accepted { token, result, more } => self.accepted(token, result, more),
        }
        self.local.pool.drop_discarded();
    }

    fn received(&mut self, token: Token, result: ReceiveResult, more: bool) {
        if let Some(mut lane) = self.lane(token) {
            return lane.received(result, more);
        }
        // A slot is freed when nothing of it is in flight, so this cannot be.
        debug_assert!(false, "a completion without a connection: {token:?}");
        if let ReceiveResult::Data(buffer) = result {
            self.ring.release(buffer);
        }
    }

    /// Looks at every connection that wants to be looked at.
    fn flush(&mut self) {
        // A callback may put further connections on the list; those wait for the next round, and
        // what is left after the last for the next turn.
        for _ in 0..FLUSH_ROUNDS_MAX {
            std::mem::swap(&mut self.dirty, &mut self.local.dirty.borrow_mut());
            if self.dirty.is_empty() {
                return;
            }
            let mut dirty = std::mem::take(&mut self.dirty);
            self.is_alone = dirty.len() == 1;
            for token in dirty.drain(..) {
                self.service(token);
                self.local.pool.drop_discarded();
            }
            self.dirty = dirty;
        }
    }

    /// Sends what a connection has queued, and takes the next step towards its end.
    fn service(&mut self, token: Token) {
        let Some(mut lane) = self.lane(token) else { return };
        match lane.service() {
            Serviced::Done => {}
            Serviced::Watch => self.watch_progress(token),
            Serviced::Close(socket) => self.close(token, socket),
        }
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
            connection.link.receive(ring, socket, token);
            connection
        });
        local.counters.connections.increment();
        local.counters.slots.set(self.slots.len() as u64);
        token
    }

    /// Lets go of a connection, as soon as nothing of it is in flight.
    fn close(&mut self, token: Token, socket: Socket) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        connection.session().conversation.borrow_mut().end();
        connection.disconnected();
        connection.session().drop_queue();
        if let Some((timer, _)) = connection.timer.take() {
            self.wheel.cancel(timer);
        }
        if self.deferred.drop_of(token, &mut self.ring, &self.local.pool) {
            connection.link.input = InputState::Flowing;
        }
        if connection.link.is_busy(connection.session()) {
            return connection.link.cancel(&mut self.ring, socket);
        }
        connection.session().socket.take();
        self.ring.close(socket);
        self.deadlines.forget(token);
        let (admission, peer) = (connection.admission, connection.session().peer.get());
        self.release_admission(admission, peer);
        if let Some(accept) = &mut self.accept {
            accept.refusals.forget(admission, token);
        }
        self.slots.free(token);
        self.local.counters.slots.set(self.slots.len() as u64);
        // Last: who sees it gone may count on its place.
        self.local.counters.connections.decrement();
        self.local.counters.disconnected.increment();
        // There is a descriptor again.
        self.resume_accept();
    }

    fn expire(&mut self) {
        let seen = self.deadlines.seen();
        while let Some(timer) = self.wheel.expire(seen) {
            match Timer::unpack(timer) {
                Timer::Connection(token) => self.timer_fired(token),
                Timer::ResumeAccept => self.accept_again(),
                Timer::Shutdown => self.close_due(),
                Timer::Drain => self.on_drain_timeout(),
                Timer::Trim => self.trim(),
                Timer::Progress => self.look_at_progress(),
                Timer::LogReport => self.report_log(),
                Timer::StopAccepting => self.stop_accepting(),
            }
        }
    }

    /// Every connection, for whoever compares them with what the kernel knows.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn connections(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut()
    }

    /// The number of the turn.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn turn_number(&self) -> u32 {
        self.turn
    }

    /// Bytes of buffers that connections hold on to.
    #[cfg(test)]
    pub(crate) fn owned_bytes(&mut self) -> usize {
        self.slots.iter_mut().map(|connection| connection.owned_bytes()).sum()
    }

    /// Whether there may be something to do.
    pub(crate) fn has_work(&mut self) -> bool {
        !self.deferred.is_empty() || self.ring.has_work() || self.has_local_work()
    }

    /// Whether this thread has left something for it.
    pub(crate) fn has_local_work(&self) -> bool {
        self.local.has_work() || !self.intake.is_empty()
    }

    /// Whether no connection and no operation is left.
    fn is_empty(&self) -> bool {
        self.slots.len() == 0
            && self.deferred.is_empty()
            && self.accept.as_ref().is_none_or(Accept::is_closed)
    }
}

impl Timer {
    fn pack(self) -> u64 {
        match self {
            Self::Connection(token) => token.pack(),
            Self::ResumeAccept => 1 << TIMER_SHIFT,
            Self::Drain => 2 << TIMER_SHIFT,
            Self::Shutdown => 3 << TIMER_SHIFT,
            Self::LogReport => 4 << TIMER_SHIFT,
            Self::Progress => 5 << TIMER_SHIFT,
            Self::Trim => 7 << TIMER_SHIFT,
            Self::StopAccepting => 8 << TIMER_SHIFT,
        }
    }

    fn unpack(bits: u64) -> Self {
        match bits >> TIMER_SHIFT {
            1 => Self::ResumeAccept,
            2 => Self::Drain,
            3 => Self::Shutdown,
            4 => Self::LogReport,
            5 => Self::Progress,
            7 => Self::Trim,
            8 => Self::StopAccepting,
            _ => Self::Connection(Token::unpack(bits)),
        }
    }
}

/// Above the 60 bits of a token.
const TIMER_SHIFT: u32 = 60;

/// The time of a ring, as the protocol crate counts it.
fn tick(since_origin: Duration) -> Tick {
    Tick::ZERO + since_origin
}

/// Completions that are handled before what came of them is sent: enough to send for many at
/// once, and few enough that nobody waits long for an answer.
const COMPLETIONS_PER_TURN: usize = 512;
/// As much as receive buffers can hold: with it, a turn of many connections that send large frames
/// takes no longer than without.
const DIRECT_BYTES_PER_TURN: usize = 16 * 1024 * 1024;
/// How long a turn takes in what arrived: what is left over waits for the next, behind what is held. By
/// the coarse clock, which moves every few milliseconds.
const FRESH_TIME_PER_TURN: Duration = Duration::from_millis(20);
/// How often a turn looks again for connections that callbacks of others have touched.
const FLUSH_ROUNDS_MAX: usize = 4;

impl<R: Ring> Drop for Worker<R> {
    /// If the worker ends before its time: tells the listeners and whoever waits, and closes the
    /// sockets, so that nobody connects to a server that does not answer.
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
                admissions.push((connection.admission, session.peer.get()));
            }
        }
        for (admission, peer) in admissions {
            self.release_admission(admission, peer);
            self.local.counters.connections.decrement();
            self.local.counters.disconnected.increment();
        }
        self.local.counters.slots.set(0);
        for listener in self.accept.iter().flat_map(Accept::listeners) {
            self.ring.close_on_failure(listener);
        }
        self.refuse_connected();
        self.local.pool.drop_discarded();
        self.local.counters.stray_panics.add(foreign::take_stray_panics());
    }
}

#[cfg(test)]
mod tests;
