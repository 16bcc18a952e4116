//! Deadlines, judged after the input that was there in time.
//!
//! After a stall of the process the kernel returns what has arrived a little at a time, so a turn
//! sees a few of many completions. Two rules keep a peer that met its deadline: deadlines are
//! judged by a clock that stands still until the ring has returned all that happened before
//! ([`Hindsight`]), and a connection whose deadline has passed has the bytes handled first that it
//! had then, and no others ([`Deadlines::owed`]). So a peer cannot put its deadline off by sending
//! more.

use super::lane::Lane;
use super::timers::Timer;
use super::{COMPLETIONS_PER_TURN, Worker, tick};
use crate::connection::Connection;
use crate::link::InputState;
use crate::ring::{Ring, Token};
use crate::session::Session;
use picows_uring_proto::{Phase, Tick};
use std::collections::HashMap;
use std::time::Duration;

/// The deadlines that have passed, as far as they are known.
#[derive(Debug)]
pub(super) struct Deadlines {
    hindsight: Hindsight,
    /// Connections whose deadline has passed, and what is to be handled before it counts.
    owed: HashMap<Token, Owed>,
    /// When the drain timeout of a worker that stops had passed, as of the turn that noticed.
    drained_at: Option<Tick>,
    /// Connections whose peers' time begins when the kernel has seen what it was given.
    leaving: Vec<Token>,
}

/// The input that a connection had in time.
#[derive(Clone, Copy, Debug)]
struct Owed {
    bytes: usize,
    /// How often it is looked at once more while nothing of it comes.
    looks_left: u16,
}

/// The time up to which the ring has returned everything.
#[derive(Debug)]
struct Hindsight {
    seen: Tick,
    /// What happened before is returned after this many more polls.
    mark: Tick,
    polls_left: usize,
}

impl Hindsight {
    /// The ring was polled, and it is `now`.
    ///
    /// A ring that has nothing more has returned all that happened up to now. One that never runs
    /// dry has done so for a moment in the past, some polls later.
    #[inline]
    fn polled(&mut self, now: Tick, ring: &mut impl Ring) {
        if ring.has_work() {
            return self.polled_in_part(now, ring);
        }
        (self.seen, self.polls_left) = (now, 0);
    }

    #[inline(never)]
    fn polled_in_part(&mut self, now: Tick, ring: &mut impl Ring) {
        if self.polls_left > 0 {
            self.polls_left -= 1;
            if self.polls_left > 0 {
                return;
            }
            self.seen = self.mark;
        }
        self.mark = now;
        self.polls_left = ring.polls_behind(COMPLETIONS_PER_TURN).max(1);
    }
}

impl Deadlines {
    pub(super) fn new(now: Tick) -> Self {
        let hindsight = Hindsight { seen: now, mark: now, polls_left: 0 };
        Self { hindsight, owed: HashMap::new(), drained_at: None, leaving: Vec::new() }
    }

    /// Deadlines at or before this have passed.
    pub(super) fn seen(&self) -> Tick {
        self.hindsight.seen
    }

    /// Whether the drain timeout of a worker that stops has passed.
    pub(super) fn is_drain_over(&self) -> bool {
        self.drained_at.is_some()
    }

    /// The drain timeout has passed, as of the turn at `now`.
    pub(super) fn end_drain(&mut self, now: Tick) {
        self.drained_at = Some(now);
    }

    /// So many bytes of a connection were handled.
    #[inline]
    pub(super) fn handled(&mut self, token: Token, count: usize) {
        if !self.owed.is_empty() {
            self.handled_of_owed(token, count);
        }
    }

    #[cold]
    #[inline(never)]
    fn handled_of_owed(&mut self, token: Token, count: usize) {
        let Some(owed) = self.owed.get_mut(&token) else { return };
        owed.bytes = owed.bytes.saturating_sub(count);
        if count > 0 && self.drained_at.is_none() {
            owed.looks_left = LOOKS_MAX;
        }
    }

    /// What a connection has queued was sent, or waits for its peer: the time of that begins, or with
    /// the next poll if only that hands it to the kernel.
    #[cold]
    pub(super) fn begin_wait(&mut self, session: &Session, ring: &impl Ring) {
        if session.is_tried() {
            let now = tick(ring.now());
            session.conversation.borrow_mut().left(&session.config.conversation, now);
        } else if self.leaving.last() != Some(&session.token) {
            self.leaving.push(session.token);
        }
    }

    /// What a connection does after the drain timeout has no later deadline.
    #[inline]
    pub(super) fn keep_drain_timeout(&self, connection: &Connection) {
        if self.drained_at.is_some() && connection.phase() != Phase::Ended {
            connection.session().conversation.borrow_mut().expire(self.seen());
        }
    }

    /// A connection has ended.
    pub(super) fn forget(&mut self, token: Token) {
        if !self.owed.is_empty() {
            self.owed.remove(&token);
        }
    }
}

impl<R: Ring> Worker<R> {
    /// The ring was polled at `now`.
    pub(super) fn polled(&mut self, now: Duration) {
        self.deadlines.hindsight.polled(tick(now), &mut self.ring);
    }

    /// The ring was polled, so the kernel has all that it was given.
    #[inline]
    pub(super) fn begin_waits(&mut self) {
        if !self.deadlines.leaving.is_empty() {
            self.begin_waits_of_leaving();
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_waits_of_leaving(&mut self) {
        let now = self.local.now.get();
        for token in self.deadlines.leaving.drain(..) {
            if let Some(connection) = self.slots.get_mut(token) {
                let session = connection.session();
                session.conversation.borrow_mut().left(&session.config.conversation, now);
            }
        }
        self.deadlines.leaving.shrink_to(LEAVING_KEPT);
    }

    /// The timer of a connection has fired, perhaps before its deadline.
    pub(super) fn timer_fired(&mut self, token: Token) {
        if let Some(mut lane) = self.lane(token) {
            lane.in_span(Lane::timer_fired);
        }
    }
}

impl<R: Ring> Lane<'_, R> {
    fn timer_fired(&mut self) {
        let seen = self.deadlines.seen();
        self.connection.timer = None;
        let session = self.connection.session();
        if session.conversation.borrow().is_leaving() {
            // Its time has not begun. It is armed again when this turn ends.
            return session.mark_dirty();
        }
        let due = session.deadline().filter(|deadline| *deadline <= seen);
        if let Some(due) = due
            && self.owes_input()
        {
            // Looks again a moment later.
            let timer = self.timers.insert(due, Timer::Connection(self.token));
            self.connection.timer = Some((timer, due));
            return;
        }
        self.deadlines.forget(self.token);
        if due.is_some() && self.refuse_late() {
            return;
        }
        let is_deferred = self.connection.link.input == InputState::Deferred;
        self.connection.handle_timeout(self.ring, seen, is_deferred);
    }

    /// Whether bytes of the connection are to be handled before a deadline of it counts that has
    /// passed: those that had been received when this was first asked, or waited in its socket. Not
    /// if it does not read.
    pub(super) fn owes_input(&mut self) -> bool {
        let connection = &*self.connection;
        // What waits for a decision does not bring it about.
        let is_read = connection.link.input == InputState::Deferred || connection.wants_receive();
        if !is_read || connection.is_deciding() {
            return false;
        }
        let socket = connection.session().socket.get();
        let unread = socket.map_or(0, |socket| self.ring.unread(socket));
        let waiting = unread + self.receive.deferred.bytes_of(self.token);
        let drained_at = self.deadlines.drained_at;
        let looks_max = if drained_at.is_some() { DRAIN_LOOKS_MAX } else { LOOKS_MAX };
        let now = self.local.now.get();
        let is_over = drained_at.is_some_and(|at| at + DRAIN_GRACE <= now);
        let first = Owed { bytes: waiting, looks_left: looks_max };
        let owed = self.deadlines.owed.entry(self.token).or_insert(first);
        // With nothing left, all was handled, whatever was counted.
        owed.bytes = owed.bytes.min(waiting);
        owed.looks_left = owed.looks_left.min(looks_max).saturating_sub(1);
        owed.bytes > 0 && owed.looks_left > 0 && !is_over
    }

    /// Sets the timer of the connection so that it fires at the next deadline, or before.
    ///
    /// One that fires too early is set again then, which is cheaper than moving it each time the
    /// deadline is put off.
    #[inline]
    pub(super) fn arm_timer(&mut self) {
        let wanted = self.connection.session().deadline();
        match (wanted, self.connection.timer) {
            (None, None) => {}
            (None, Some((timer, _))) => {
                self.timers.cancel(timer);
                self.connection.timer = None;
            }
            (Some(wanted), Some((_, armed))) if armed <= wanted => {}
            (Some(wanted), _) => self.set_timer(wanted),
        }
    }

    #[inline(never)]
    fn set_timer(&mut self, wanted: Tick) {
        if let Some((timer, _)) = self.connection.timer {
            self.timers.cancel(timer);
        }
        let timer = self.timers.insert(wanted, Timer::Connection(self.token));
        self.connection.timer = Some((timer, wanted));
    }
}

/// Connections that end in the same turn, for which a quiet worker keeps room.
const LEAVING_KEPT: usize = 64;
/// A connection of which nothing comes although bytes wait is looked at once a turn, and no more than
/// once in a granule of the wheel: a second of turns, which is longer than buffers are short.
const LOOKS_MAX: u16 = 1000;
/// A caller that stops a server waits for it: so many looks at each connection, and no more after
/// [`DRAIN_GRACE`], as looks are rare while the ring never runs dry.
const DRAIN_LOOKS_MAX: u16 = 64;
const DRAIN_GRACE: Duration = Duration::from_millis(50);
