//! Graceful shutdown: accepts no more, paces CLOSE 1001, and bounds the time for all of it.

mod pacer;

use super::Worker;
use super::accept::Accept;
use super::timers::Timer;
use crate::command::HandOver;
use crate::connection::Connection;
use crate::ring::Ring;
use crate::status::DisconnectCause;
use pacer::ShutdownPacer;
use picows_uring_proto::{CloseCode, Phase, Tick, TimerId};
use std::rc::Rc;
use std::time::Duration;

/// The progress of a worker's end.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    /// It was stopped.
    pub(super) is_stopping: bool,
    /// It is done as soon as it has no connection.
    is_ending: bool,
    pacer: ShutdownPacer,
    /// Fires when the pacer's next connection is due.
    next: Option<TimerId>,
    /// The timer of the drain timeout, and when it fires.
    drain: Option<(TimerId, Tick)>,
    /// Until when requests are waited for, where another process has taken over.
    answers: Option<Tick>,
}

impl Shutdown {
    /// Whether the worker is done as soon as it has nothing left.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_stopping || self.is_ending
    }

    /// Until when requests are waited for that are not complete `now`.
    pub(super) fn answers_until(&self, now: Tick) -> Tick {
        self.answers.unwrap_or(now + HANDSHAKE_GRACE)
    }

    /// Whether connections are still to be sent CLOSE 1001.
    #[cfg(test)]
    pub(super) fn is_pacing(&self) -> bool {
        self.next.is_some()
    }
}

impl<R: Ring> Worker<R> {
    /// Has the worker end with its last connection.
    pub(crate) fn end_when_empty(&mut self) {
        self.shutdown.is_ending = true;
    }

    /// Leaves listening sockets to another process. If the worker stops as well, the handshakes that it
    /// has accepted have the drain timeout, less the time for an answer: the client cannot know that the
    /// other process would have been there for it.
    pub(crate) fn hand_over(&mut self, handed: HandOver) {
        self.release_listeners(&handed.names, &handed.released);
        if let Some(drain) = handed.drain {
            let until = drain.saturating_sub(HANDSHAKE_GRACE.min(drain / 2));
            self.shutdown.answers = Some(self.local.now.get() + until);
            self.stop(drain);
        }
    }

    /// Accepts no more, ends every connection with CLOSE 1001, one after the other, and without it
    /// after `drain`.
    pub(crate) fn stop(&mut self, drain: Duration) {
        let now = self.local.now.get();
        self.drain_at(now + drain);
        if self.shutdown.is_stopping {
            self.shutdown.pacer.hurry(now, self.local.config.drain_spread, drain);
            return self.close_due();
        }
        self.shutdown.is_stopping = true;
        self.leave_port(now, drain);
        let until = self.shutdown.answers_until(now);
        let mut open = Vec::new();
        for connection in self.slots.iter_mut() {
            let session = connection.session();
            match connection.phase() {
                Phase::Handshake if session.is_client => {
                    session.set_cause(DisconnectCause::Stopped);
                    session.conversation.borrow_mut().end();
                }
                // Answered when it is complete, or else with 503 when that is over.
                Phase::Handshake => {
                    session.conversation.borrow_mut().expire(until);
                }
                Phase::Open => open.push(session.token),
                Phase::Finishing | Phase::Lingering | Phase::Ended => {}
            }
            connection.session().mark_dirty();
        }
        self.shutdown.pacer = ShutdownPacer::new(open, now, self.local.config.drain_spread, drain);
        self.close_due();
    }

    /// Ends every connection with CLOSE 1001 as far as its socket takes that now: the worker is
    /// dropped next.
    pub(crate) fn leave(&mut self) {
        for connection in self.slots.iter_mut() {
            if connection.phase() == Phase::Open {
                send_going_away(connection);
            }
            let session = Rc::clone(connection.session());
            session.set_cause(DisconnectCause::Stopped);
            session.flush();
        }
    }

    /// All descriptors of the worker: of its connections, its listening sockets and its ring.
    pub(crate) fn descriptors(&mut self) -> Vec<i32> {
        let mut descriptors = self.ring.descriptors();
        descriptors.extend(self.accept.iter().flat_map(Accept::sockets).map(|socket| socket.0));
        let sockets = self.slots.iter_mut().filter_map(|it| it.session().socket.get());
        descriptors.extend(sockets.map(|socket| socket.0));
        descriptors
    }

    /// Stops accepting: at once, or, where another server takes over the port, when the connections
    /// that have begun are there, which the kernel would reset with the socket.
    fn leave_port(&mut self, now: Tick, drain: Duration) {
        if !self.local.config.leaves_port || drain.is_zero() {
            return self.stop_accepting();
        }
        for listener in self.accept.iter().flat_map(Accept::own_sockets) {
            self.ring.drop_new_connections(listener);
        }
        let at = now + HANDSHAKE_GRACE.min(drain / 2);
        self.timers.insert(at, Timer::StopAccepting);
    }

    /// Sets the drain timeout, unless an earlier one is set. One timer does, however often the
    /// worker is stopped.
    fn drain_at(&mut self, time: Tick) {
        match self.shutdown.drain {
            Some((_, armed)) if armed <= time => return,
            Some((timer, _)) => self.timers.cancel(timer),
            None => {}
        }
        self.shutdown.drain = Some((self.timers.insert(time, Timer::Drain), time));
    }

    /// Sends CLOSE 1001 to the connections that are due.
    pub(super) fn close_due(&mut self) {
        let now = self.local.now.get();
        while let Some(token) = self.shutdown.pacer.next(now) {
            // It may have ended meanwhile.
            let Some(connection) = self.slots.get_mut(token) else { continue };
            if connection.phase() == Phase::Open {
                send_going_away(connection);
            }
        }
        if let Some(timer) = self.shutdown.next.take() {
            self.timers.cancel(timer);
        }
        if let Some(next) = self.shutdown.pacer.next_at() {
            self.shutdown.next = Some(self.timers.insert(next, Timer::Shutdown));
        }
    }

    /// Drain timeout: ends the remaining connections, each after the input that it had by then.
    pub(super) fn on_drain_timeout(&mut self) {
        self.shutdown.drain = None;
        self.deadlines.end_drain(self.local.now.get());
        let seen = self.deadlines.seen();
        let tokens: Vec<_> = self.slots.iter_mut().map(|it| it.session().token).collect();
        for token in tokens {
            let Some(mut lane) = self.lane(token) else { continue };
            let owes_input = lane.owes_input();
            lane.connection.stop(owes_input.then_some(seen));
        }
    }
}

/// Sends CLOSE 1001 to a connection.
pub(super) fn send_going_away(connection: &Connection) {
    connection.session().set_cause(DisconnectCause::Stopped);
    connection.transport.send_close(CloseCode::GOING_AWAY, "server is shutting down");
    connection.session().mark_dirty();
}

/// How long a server that stops waits for the rest of a request: a few round trips.
pub(super) const HANDSHAKE_GRACE: Duration = Duration::from_millis(250);
