//! Sending: submission and completion.
//!
//! The flush serves each dirty connection: it sends what is queued and takes the next step towards
//! the end. How a batch is sent, and what becomes of its rest, is decided in `link/send.rs`.

use super::Worker;
use super::lane::Lane;
use super::shutdown::send_going_away;
use crate::admission::AdmissionState;
use crate::link::offer_max;
use crate::ring::{Ring, SendBatch, Socket, Token};
use crate::session::Session;
use picows_uring_proto::{Phase, Step};
use std::io;
use std::rc::Rc;

/// The state of the flush of a worker.
#[derive(Debug, Default)]
pub(super) struct Flush {
    /// The dirty connections of the current round; between rounds, their memory.
    dirty: Vec<Token>,
    /// The longest batch that a connection of this round offers to its socket, before the ring has it.
    offer_max: usize,
    /// Connections with a send in flight that is longer than their high watermark, and that the
    /// kernel may not have seen.
    untried: Vec<Token>,
}

/// The rest of the work for a connection that was serviced.
enum Serviced {
    Done,
    /// A message or a send is under way, whose progress is to be checked from time to time.
    Watch,
    /// It has ended: its socket is to be closed.
    Close(Socket),
}

impl Flush {
    /// Keeps memory for so many dirty connections.
    pub(super) fn trim(&mut self, kept: usize) {
        self.dirty.shrink_to(kept);
    }
}

impl<R: Ring> Worker<R> {
    /// Services every dirty connection.
    pub(super) fn flush(&mut self) {
        // A callback may mark further connections dirty; those wait for the next round, and what is
        // left after the last for the next turn.
        for _ in 0..FLUSH_ROUNDS_MAX {
            std::mem::swap(&mut self.flush.dirty, &mut self.local.dirty.borrow_mut());
            if self.flush.dirty.is_empty() {
                return;
            }
            let mut dirty = std::mem::take(&mut self.flush.dirty);
            self.flush.offer_max = offer_max(&self.ring, dirty.len());
            for token in dirty.drain(..) {
                self.service(token);
                self.local.pool.drop_discarded();
            }
            self.flush.dirty = dirty;
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

    /// Judges the peers of long sends that the kernel has seen by what it has not taken of them.
    #[inline]
    pub(super) fn judge_sends(&mut self) {
        if !self.flush.untried.is_empty() {
            self.judge_tried();
        }
    }

    #[cold]
    #[inline(never)]
    fn judge_tried(&mut self) {
        let slots = &mut self.slots;
        self.flush.untried.retain(|token| {
            let Some(connection) = slots.get_mut(*token) else { return false };
            let session = connection.session();
            let is_tried = session.is_tried();
            if is_tried && session.is_sending() {
                session.judge_rest();
            }
            !is_tried
        });
    }

    /// Sends what dirty connections have queued, outside of a turn. They stay on the list, for the
    /// rest of their service.
    pub(crate) fn flush_dirty(&mut self) {
        let dirty = self.local.dirty.take();
        for token in &dirty {
            if let Some(connection) = self.slots.get_mut(*token) {
                Rc::clone(connection.session()).flush();
            }
        }
        // Behind it, what the end of payloads has queued meanwhile.
        let mut later = self.local.dirty.replace(dirty);
        self.local.dirty.borrow_mut().append(&mut later);
    }

    /// A send of the ring is over.
    pub(super) fn sent(&mut self, token: Token, result: io::Result<usize>, batch: Box<SendBatch>) {
        let Some(connection) = self.slots.get_mut(token) else {
            debug_assert!(false, "a completion without a connection: {token:?}");
            return self.local.pool.put_batch(batch);
        };
        let session = Rc::clone(connection.session());
        let is_ended = connection.phase() == Phase::Ended;
        if let Err(error) = connection.link.on_sent(&session, result, batch, is_ended)
            && !is_ended
        {
            connection.send_failed(&error);
        }
        session.wake_drain_waiters();
        let is_open = connection.phase() == Phase::Open;
        let has_more = session.queued() > 0 || session.holds_publications();
        if !is_open || has_more || session.is_paused.get() {
            session.mark_dirty();
        }
    }
}

impl<R: Ring> Lane<'_, R> {
    /// Sends what is queued, and takes the next step towards the end.
    #[inline]
    fn service(&mut self) -> Serviced {
        let session = Rc::clone(self.connection.session());
        session.clear_dirty();
        self.connection.check_watermarks();
        self.connection.measure_roundtrip(self.ring);
        self.connection.check_abandoned();
        let Some(socket) = session.socket.get() else { return Serviced::Done };
        self.leave_handshakes();
        if !session.is_sending() && self.connection.phase() != Phase::Ended {
            let held = session.holds_publications();
            if held {
                session.refill();
            }
            self.send(&session, socket);
            if held && session.may_refill() {
                // All of it has left: the next follow.
                session.mark_dirty();
            }
        }
        let mut is_flushed = self.connection.link.is_flushed(&session);
        if is_flushed && session.queue_close_notify() {
            self.send(&session, socket);
            is_flushed = self.connection.link.is_flushed(&session);
        }
        let (step, is_leaving) = {
            let conversation = session.conversation.borrow();
            (conversation.step(is_flushed), conversation.is_leaving())
        };
        if is_leaving {
            self.deadlines.begin_wait(&session, self.ring);
        }
        match step {
            Step::Continue | Step::Flush | Step::Linger => {}
            Step::ShutDown => {
                self.ring.shut_down(socket);
                session.conversation.borrow_mut().shut_down();
                self.connection.disconnected();
            }
            Step::Close => return Serviced::Close(socket),
        }
        let wants_watch = self.connection.wants_watch();
        self.connection.receive_as_wanted(self.ring);
        self.deadlines.keep_drain_timeout(self.connection);
        self.arm_timer();
        if wants_watch { Serviced::Watch } else { Serviced::Done }
    }

    /// A handshake that is over does not count as one.
    #[inline]
    fn leave_handshakes(&mut self) {
        if !matches!(self.connection.admission, AdmissionState::Open | AdmissionState::Exempt) {
            self.leave_handshakes_now();
        }
    }

    #[cold]
    #[inline(never)]
    fn leave_handshakes_now(&mut self) {
        if self.connection.phase() == Phase::Handshake {
            self.in_span(Lane::take_decision);
            if self.is_stopping {
                self.connection.end_between_requests();
            }
        }
        let connection = &mut *self.connection;
        if matches!(connection.admission, AdmissionState::Refused(_))
            || connection.phase() == Phase::Handshake
        {
            return;
        }
        connection.leave_handshakes();
        connection.admission = AdmissionState::Open;
        if self.is_stopping && connection.phase() == Phase::Open {
            // Its handshake was under way.
            send_going_away(connection);
        }
    }

    /// Answers a request whose answer was awaited, if it is there; what has come meanwhile is handled
    /// next.
    fn take_decision(&mut self) {
        if self.connection.take_decision() {
            self.receive.deferred.resume(self.token);
        }
    }

    /// Sends what there is to send; nothing is in flight.
    fn send(&mut self, session: &Rc<Session>, socket: Socket) {
        // What the last send has left over is in front: see `Link::keep_rest`.
        let Some(batch) = session.take_batch() else { return };
        let link = &mut self.connection.link;
        if let Err(error) = link.send(self.ring, session, socket, batch, self.flush.offer_max) {
            self.connection.send_failed(&error);
        } else if session.in_flight() > session.high_watermark() {
            self.flush.untried.push(self.token);
        }
    }
}

/// Rounds of a flush: callbacks of one connection mark others dirty.
const FLUSH_ROUNDS_MAX: usize = 4;
