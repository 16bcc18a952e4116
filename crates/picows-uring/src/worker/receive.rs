//! Received data: dispatch to connections, in the order in which it came.
//!
//! What a connection has no budget for, or a turn no time, is deferred (`deferred.rs`).

use super::Worker;
use super::deferred::{Deferred, Input};
use super::lane::Lane;
use crate::connection::Connection;
use crate::link::{InputState, Piece};
use crate::ring::{Completion, ReceiveResult, Ring, Token};
use picows_uring_proto::Phase;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// The state of receiving of a worker.
#[derive(Debug, Default)]
pub(super) struct Receive {
    /// Turn counter; wraps.
    pub(super) turn: u32,
    /// Completions of the current turn; between turns, their memory.
    pub(super) completions: Vec<Completion>,
    /// Data past the budget of its connection.
    pub(super) deferred: Deferred,
    /// Connections whose receives found no buffer, in their order.
    starved: VecDeque<Token>,
    /// This turn has lasted so long that further data is deferred.
    is_turn_spent: bool,
    /// Bytes that all connections together may still receive directly in this turn.
    direct_left: usize,
}

impl Receive {
    /// Begins a turn, with a budget of its own.
    pub(super) fn begin_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.direct_left = DIRECT_BYTES_PER_TURN;
        self.is_turn_spent = false;
    }

    /// Connections that wait for a buffer.
    #[cfg(test)]
    pub(super) fn starved(&self) -> usize {
        self.starved.len()
    }
}

impl<R: Ring> Worker<R> {
    /// A receive has returned something, or has ended.
    pub(super) fn received(&mut self, token: Token, result: ReceiveResult, more: bool) {
        if let Some(mut lane) = self.lane(token) {
            let _span = lane.connection.session().enter_span();
            lane.received(result, more);
        } else {
            self.received_for_none(token, result);
        }
        self.local.callback_timer.mark(token, "on_frame");
        let took = self.local.callback_timer.turn_so_far();
        self.receive.is_turn_spent = took >= FRESH_TIME_PER_TURN;
    }

    /// A slot is freed when nothing of it is in flight, so this cannot be.
    #[cold]
    #[inline(never)]
    fn received_for_none(&mut self, token: Token, result: ReceiveResult) {
        debug_assert!(false, "a completion without a connection: {token:?}");
        if let ReceiveResult::Data(buffer) = result {
            self.ring.release(buffer);
        }
    }

    /// Begins receives again that found no buffer, in their order, as far as there are buffers.
    /// Without one, another try would end at once as the one before.
    #[inline]
    pub(super) fn feed_starved(&mut self) {
        if !self.receive.starved.is_empty() {
            self.feed_in_order();
        }
    }

    #[cold]
    #[inline(never)]
    fn feed_in_order(&mut self) {
        let mut room = [false, true].map(|is_single| self.ring.room_to_receive(is_single));
        for _ in 0..self.receive.starved.len() {
            let Some(token) = self.receive.starved.pop_front() else { break };
            let Some(lane) = self.lane(token) else { continue };
            let connection = &mut *lane.connection;
            if connection.link.input != InputState::Starved {
                continue;
            }
            let is_single = connection.link.takes_whole_buffers();
            let room = &mut room[usize::from(is_single)];
            if connection.wants_receive() && *room == 0 {
                lane.receive.starved.push_back(token);
                continue;
            }
            connection.link.input = InputState::Flowing;
            *room = room.saturating_sub(1);
            lane.connection.receive_as_wanted(lane.ring);
        }
    }
}

impl<R: Ring> Lane<'_, R> {
    /// A receive has returned something, or has ended.
    #[inline]
    fn received(&mut self, result: ReceiveResult, more: bool) {
        let Connection { link, transport, .. } = &mut *self.connection;
        link.on_receive_completion(transport.session(), &result, more);
        match result {
            ReceiveResult::Data(buffer) => {
                self.take_in_data(Piece::new(buffer));
                if self.connection.link.has_large() {
                    self.after_large();
                }
            }
            ReceiveResult::EndOfStream => self.end_of_data(None),
            ReceiveResult::NoBuffer => self.starve(),
            ReceiveResult::Cancelled => {}
            ReceiveResult::Failed(error) => self.end_of_data(Some(error)),
        }
        if self.connection.may_receive_directly() {
            self.receive_directly();
        }
        if self.connection.phase() == Phase::Ended {
            self.received_behind_end(more);
        } else {
            self.connection.receive_as_wanted(self.ring);
        }
    }

    /// The conversation has ended: the socket is to be closed.
    #[cold]
    #[inline(never)]
    fn received_behind_end(&mut self, more: bool) {
        if more {
            self.connection.link.on_cancel_survived();
        }
        self.connection.session().mark_dirty();
    }

    /// Behind a piece of a connection that has large frames: chooses how the next is received, and sends
    /// what answers this one while it is in cache, so that its memory is free for the next.
    #[inline(never)]
    fn after_large(&mut self) {
        let is_in_turn = self.connection.link.choose(self.ring, self.token);
        let session = self.connection.session();
        if is_in_turn && session.queued() >= AT_ONCE_BYTES_MIN {
            session.flush();
        }
    }

    /// Hands received bytes to the connection, and defers what it has no budget for, or all of it
    /// behind what is deferred already.
    fn take_in_data(&mut self, piece: Piece) {
        if self.connection.link.input == InputState::Deferred || self.receive.is_turn_spent {
            return self.defer(piece);
        }
        let (handled, rest) = self.handle_piece(piece);
        if let Some(rest) = rest {
            self.defer(rest);
            self.receive.deferred.step(self.token, handled);
        }
    }

    /// Defers a piece, or the rest of one, behind what is deferred.
    #[cold]
    #[inline(never)]
    fn defer(&mut self, piece: Piece) {
        self.connection.link.input = InputState::Deferred;
        self.receive.deferred.push(self.token, Input::Piece(piece));
    }

    /// Handles a piece, as far as the budget goes. Returns how many bytes of it were handled, and the
    /// rest.
    pub(super) fn handle_piece(&mut self, piece: Piece) -> (usize, Option<Piece>) {
        let (turn, connection) = (self.receive.turn, &mut *self.connection);
        if !connection.link.budget.renew(turn, &self.local.budget_rules) {
            return (0, Some(piece));
        }
        if connection.link.is_stamped() {
            self.note_stamp(&piece);
        }
        let connection = &mut *self.connection;
        let is_lent = connection.link.may_lend();
        let handle = |bytes: &mut [u8]| connection.receive(bytes);
        let (count, rest) = piece.hand_over(self.ring, self.local, is_lent, handle);
        self.deadlines.handled(self.token, count);
        (count, rest)
    }

    /// Has callbacks of the connection find when the kernel received a piece.
    #[inline(never)]
    fn note_stamp(&mut self, piece: &Piece) {
        let stamp = piece.stamp(self.ring);
        self.local.stamp.set(stamp.map(|stamp| (self.token, stamp)));
    }

    /// The stream has ended, or broke: the connection learns so after what is deferred.
    #[cold]
    pub(super) fn end_of_data(&mut self, error: Option<io::Error>) {
        // Behind a request that is being decided on, nothing else is worth waiting for.
        if self.connection.link.input == InputState::Deferred && !self.connection.is_deciding() {
            self.receive.deferred.push(self.token, Input::End(error));
            return self.receive.deferred.resume(self.token);
        }
        match error {
            Some(error) => self.connection.io_failed(&error),
            None => self.connection.end_of_stream(),
        }
    }

    /// A receive found no buffer.
    #[cold]
    fn starve(&mut self) {
        self.local.counters.buffer_shortages.increment();
        // One that has deferred input receives when it has caught up.
        if self.connection.link.input == InputState::Flowing {
            self.connection.link.input = InputState::Starved;
            self.receive.starved.push_back(self.token);
        }
    }

    /// Receives the rest of a large frame directly into its memory, as far as it is there.
    #[inline(never)]
    fn receive_directly(&mut self) {
        let Receive { turn, direct_left, .. } = &mut *self.receive;
        let before = *direct_left;
        let received = self.connection.receive_directly(self.ring, *turn, direct_left);
        let count = before - *direct_left;
        if count > 0 {
            self.deadlines.handled(self.token, count);
        }
        match received {
            Ok(false) => {}
            Ok(true) => self.end_of_data(None),
            Err(error) => self.end_of_data(Some(error)),
        }
    }
}

/// Shorter answers leave when the turn ends, together: a call for each costs more than it saves. The
/// random runs of the simulation have shorter ones.
const AT_ONCE_BYTES_MIN: usize = if cfg!(test) { 256 } else { 64 * 1024 };
/// As much as receive buffers can hold: with it, a turn of many connections that send large frames
/// takes no longer than without.
const DIRECT_BYTES_PER_TURN: usize = 16 * 1024 * 1024;
/// How long a turn handles received data: the rest is deferred to the next, behind what is deferred
/// already. By the coarse clock, which moves every few milliseconds.
const FRESH_TIME_PER_TURN: Duration = Duration::from_millis(20);
