//! One connection, and what serving it takes, borrowed together: it is looked up once.
//!
//! Received data on its way in, what is queued on its way out, and the steps towards the end.

use super::deadlines::Deadlines;
use super::deferred::{Deferred, Input};
use super::{Timer, Worker, commands};
use crate::admission::AdmissionState;
use crate::connection::Connection;
use crate::link::{InputState, Piece};
use crate::local::Local;
use crate::ring::{ReceiveResult, Ring, Socket, Token};
use crate::session::Session;
use picows_uring_proto::{Phase, Step, Wheel};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// A connection of a worker, with those parts of the worker that it needs.
pub(super) struct Lane<'a, R: Ring> {
    token: Token,
    connection: &'a mut Connection,
    ring: &'a mut R,
    local: &'a Local,
    wheel: &'a mut Wheel,
    deadlines: &'a mut Deadlines,
    deferred: &'a mut Deferred,
    starved: &'a mut VecDeque<Token>,
    untried: &'a mut Vec<Token>,
    direct_left: &'a mut usize,
    turn: u32,
    is_turn_spent: bool,
    is_alone: bool,
    is_stopping: bool,
}

/// What is left to do for a connection that was serviced.
pub(super) enum Serviced {
    Done,
    /// Something is under way that is to be looked at from time to time.
    Watch,
    /// It has ended: its socket is to be closed.
    Close(Socket),
}

impl<R: Ring> Worker<R> {
    /// The connection behind a token, unless it has ended.
    #[inline]
    pub(super) fn lane(&mut self, token: Token) -> Option<Lane<'_, R>> {
        Some(Lane {
            token,
            connection: self.slots.get_mut(token)?,
            ring: &mut self.ring,
            local: &self.local,
            wheel: &mut self.wheel,
            deadlines: &mut self.deadlines,
            deferred: &mut self.deferred,
            starved: &mut self.starved,
            untried: &mut self.untried,
            direct_left: &mut self.direct_left,
            turn: self.turn,
            is_turn_spent: self.is_turn_spent,
            is_alone: self.is_alone,
            is_stopping: self.is_stopping,
        })
    }
}

impl<R: Ring> Lane<'_, R> {
    /// A receive has brought something, or has ended.
    #[inline]
    pub(super) fn received(&mut self, result: ReceiveResult, more: bool) {
        self.connection.link.on_receive_completion(more);
        match result {
            ReceiveResult::Data(buffer) => {
                let len = self.ring.bytes(&buffer).len();
                let connection = &mut *self.connection;
                connection.link.on_received(connection.session(), len);
                self.take_in_data(Piece::new(buffer));
            }
            ReceiveResult::EndOfStream => self.end_of_data(None),
            ReceiveResult::NoBuffer => self.starve(),
            ReceiveResult::Cancelled => {}
            ReceiveResult::Failed(error) => self.end_of_data(Some(error)),
        }
        self.receive_directly();
        if self.connection.phase() == Phase::Ended {
            if more {
                self.connection.link.on_cancel_survived();
            }
            self.connection.session().mark_dirty();
        } else {
            self.receive_as_wanted();
        }
    }

    /// Hands received bytes to the connection, and defers what it does not get to, or all of it
    /// behind what is deferred already.
    fn take_in_data(&mut self, piece: Piece) {
        if self.connection.link.input == InputState::Deferred || self.is_turn_spent {
            self.connection.link.input = InputState::Deferred;
            return self.deferred.push(self.token, Input::Piece(piece));
        }
        let (handled, rest) = self.handle_piece(piece);
        if let Some(rest) = rest {
            self.deferred.push(self.token, Input::Piece(rest));
            self.deferred.step(self.token, handled);
            self.connection.link.input = InputState::Deferred;
        }
    }

    /// Handles a piece. Returns how many bytes of it were handled, and the rest.
    pub(super) fn handle_piece(&mut self, piece: Piece) -> (usize, Option<Piece>) {
        let (turn, connection) = (self.turn, &mut *self.connection);
        let is_lent = connection.link.may_lend();
        let handle = |bytes: &mut [u8]| connection.receive(turn, bytes);
        let (count, rest) = piece.hand_over(self.ring, self.local, is_lent, handle);
        self.deadlines.handled(self.token, count);
        (count, rest)
    }

    /// The stream has ended, or broke: after what is deferred.
    pub(super) fn end_of_data(&mut self, error: Option<io::Error>) {
        if self.connection.link.input == InputState::Deferred {
            return self.deferred.push(self.token, Input::End(error));
        }
        match error {
            Some(error) => self.connection.io_failed(&error),
            None => self.connection.end_of_stream(),
        }
    }

    /// A receive found no buffer.
    fn starve(&mut self) {
        self.local.counters.buffer_shortages.increment();
        // One that has deferred input receives when it has caught up.
        if self.connection.link.input == InputState::Flowing {
            self.connection.link.input = InputState::Starved;
            self.starved.push_back(self.token);
        }
    }

    /// Takes the rest of a large frame from the socket into its memory, as far as it is there.
    fn receive_directly(&mut self) {
        let before = *self.direct_left;
        let received = self.connection.receive_directly(self.ring, self.turn, self.direct_left);
        self.deadlines.handled(self.token, before - *self.direct_left);
        match received {
            Ok(false) => {}
            Ok(true) => self.end_of_data(None),
            Err(error) => self.end_of_data(Some(error)),
        }
    }

    /// Receives from the connection, or has it stopped, as it wants.
    pub(super) fn receive_as_wanted(&mut self) {
        let Some(socket) = self.connection.session().socket.get() else { return };
        let is_wanted = self.connection.wants_receive();
        self.connection.link.receive_as_wanted(self.ring, socket, self.token, is_wanted);
    }

    /// Sends what is queued, and takes the next step towards the end.
    #[inline]
    pub(super) fn service(&mut self) -> Serviced {
        let session = Rc::clone(self.connection.session());
        session.clear_dirty();
        self.connection.check_watermarks();
        self.connection.measure_roundtrip(self.ring);
        self.connection.check_abandoned();
        let Some(socket) = session.socket.get() else { return Serviced::Done };
        self.leave_handshakes();
        if !session.is_sending() && self.connection.phase() != Phase::Ended {
            self.send(&session, socket);
        }
        let is_flushed = self.connection.link.is_flushed(&session);
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
                self.connection.link.shut_down(self.ring, socket);
                session.conversation.borrow_mut().shut_down();
                self.connection.disconnected();
            }
            Step::Close => return Serviced::Close(socket),
        }
        let wants_watch = self.connection.wants_watch();
        self.receive_as_wanted();
        self.deadlines.keep_drain_timeout(self.connection);
        self.arm_timer();
        if wants_watch { Serviced::Watch } else { Serviced::Done }
    }

    /// A handshake that is over does not count as one.
    fn leave_handshakes(&mut self) {
        let connection = &mut *self.connection;
        if !matches!(connection.admission, AdmissionState::Handshaking | AdmissionState::Upgraded)
            || connection.phase() == Phase::Handshake
        {
            return;
        }
        connection.leave_handshakes();
        connection.admission = AdmissionState::Open;
        if self.is_stopping && connection.phase() == Phase::Open {
            // Its handshake was under way.
            commands::send_going_away(connection);
        }
    }

    /// Sends what there is to send; nothing is in flight.
    fn send(&mut self, session: &Rc<Session>, socket: Socket) {
        let link = &mut self.connection.link;
        let Some(batch) = link.next_batch(session) else { return };
        if let Err(error) = link.send(self.ring, session, socket, batch, self.is_alone) {
            self.connection.send_failed(&error);
        } else if session.in_flight() > session.config.high_watermark {
            self.untried.push(self.token);
        }
    }

    /// Makes sure that a timer fires at the next deadline, or before.
    ///
    /// One that fires too early is armed again then, which is cheaper than moving it each time the
    /// deadline is put off.
    fn arm_timer(&mut self) {
        let wanted = self.connection.session().deadline();
        match (wanted, self.connection.timer) {
            (None, None) => {}
            (None, Some((timer, _))) => {
                self.wheel.cancel(timer);
                self.connection.timer = None;
            }
            (Some(wanted), Some((_, armed))) if armed <= wanted => {}
            (Some(wanted), armed) => {
                if let Some((timer, _)) = armed {
                    self.wheel.cancel(timer);
                }
                let timer = self.wheel.insert(wanted, Timer::Connection(self.token).pack());
                self.connection.timer = Some((timer, wanted));
            }
        }
    }
}
