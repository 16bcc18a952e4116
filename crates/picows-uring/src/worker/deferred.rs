//! Received data past the budget of its connection: kept, and handled in later turns.
//!
//! It is handled in the order in which it came. Connections with deferred input have their turns one
//! after the other, so one that floods us is served in slices between which its neighbours are. Those
//! without are served first, and what all of the others get in a turn has a bound. What the budget of
//! a connection is, is decided in `link/budget.rs`.
//!
//! Deferred input stays in its receive buffers, as long as all of it takes no more than half of them,
//! and else in memory of its connection. The ring does not receive for a connection that has fallen
//! behind: with each budget that takes about as much from its socket, until nothing is left there.

use super::Worker;
use super::lane::Lane;
use crate::link::{InputState, Piece};
use crate::pool::Pool;
use crate::ring::{Ring, Room, Token, is_passing};
use picows_uring_proto::Phase;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

/// The deferred input of a worker.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// The connections that have some, the one whose turn is next first.
    order: VecDeque<Token>,
    /// Those that got none in this turn, as others have expanded as much as a turn may.
    postponed: Vec<Token>,
    input: HashMap<Token, DeferredInput>,
    /// Those of them that got some in this turn, which may lie in too many buffers.
    fresh: Vec<Token>,
    /// Empty ones, kept for their memory.
    spare: Vec<DeferredInput>,
}

/// The deferred input of one connection, oldest first.
#[derive(Debug, Default)]
struct DeferredInput {
    pending: VecDeque<Input>,
    /// Bytes that were handled with its last budget, or came as one before it had any: so many are taken
    /// from the socket at a time.
    step: usize,
}

/// The result of a receive, deferred.
#[derive(Debug)]
pub(super) enum Input {
    Piece(Piece),
    /// The stream has ended, or it broke.
    End(Option<io::Error>),
}

/// The outcome of a connection's next piece.
enum Outcome {
    /// All of it was handled.
    Done,
    /// The budget is used up.
    BudgetSpent,
    /// There was none.
    Nothing,
}

impl Input {
    fn len(&self) -> usize {
        match self {
            Self::Piece(piece) => piece.len(),
            Self::End(_) => 0,
        }
    }
}

impl Deferred {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes of a connection that are deferred.
    pub(super) fn bytes_of(&self, token: Token) -> usize {
        self.input.get(&token).map_or(0, |input| input.pending.iter().map(Input::len).sum())
    }

    /// Bytes of memory that the deferred input of a connection takes, beside the receive buffers.
    pub(super) fn copied_of(&self, token: Token) -> usize {
        let Some(input) = self.input.get(&token) else { return 0 };
        let copied = input.pending.iter().map(|input| match input {
            Input::Piece(piece) => piece.memory(),
            Input::End(_) => 0,
        });
        copied.sum()
    }

    /// A connection has ended: releases its deferred input, and returns whether there was any.
    pub(super) fn drop_of(&mut self, token: Token, ring: &mut impl Ring, pool: &Pool) -> bool {
        let Some(input) = self.input.remove(&token) else { return false };
        self.order.retain(|it| *it != token);
        for input in input.pending {
            if let Input::Piece(piece) = input {
                piece.release(ring, pool);
            }
        }
        true
    }

    /// A connection whose input waited for a decision has its turns again.
    pub(super) fn resume(&mut self, token: Token) {
        if self.input.contains_key(&token) && !self.order.contains(&token) {
            self.order.push_back(token);
        }
    }

    /// A connection has no deferred input left.
    fn remove(&mut self, token: Token) {
        if let Some(input) = self.input.remove(&token)
            && self.spare.len() < SPARE_MAX
        {
            self.spare.push(input);
        }
    }

    /// With its next budget, about as much is taken from the socket of a connection as was handled
    /// with this one.
    pub(super) fn step(&mut self, token: Token, handled: usize) {
        if let Some(input) = self.input.get_mut(&token) {
            input.step = handled.clamp(STEP_MIN, STEP_MAX);
        }
    }

    /// Defers input of a connection, behind what is deferred of it.
    pub(super) fn push(&mut self, token: Token, new: Input) {
        let (order, spare) = (&mut self.order, &mut self.spare);
        let input = self.input.entry(token).or_insert_with(|| {
            order.push_back(token);
            // As much as the ring brought at once: where the turn has lasted long, nothing says that this is
            // more than a budget covers.
            let step = new.len().clamp(STEP_MIN, STEP_MAX);
            DeferredInput { step, ..spare.pop().unwrap_or_default() }
        });
        input.pending.push_back(new);
        if self.fresh.last() != Some(&token) {
            self.fresh.push(token);
        }
    }
}

impl<R: Ring> Worker<R> {
    /// Serves the connections with deferred input, one budget each, as far as a turn goes.
    #[inline]
    pub(super) fn serve_deferred(&mut self) {
        if !self.receive.deferred.is_empty() {
            self.serve_in_order();
        }
    }

    #[inline(never)]
    fn serve_in_order(&mut self) {
        // As much again, so that those that are deferred get ahead.
        #[cfg(feature = "deflate")]
        self.allow_expansion();
        #[cfg(feature = "_tls")]
        self.local.tls_steps.begin_deferred(self.local.config.tls_handshakes_per_turn);
        let clock = self.local.budget_rules.clock.get();
        let (begun, mut units) = (clock(), 0);
        // Each once: it has no second budget.
        for _ in 0..self.receive.deferred.order.len() {
            let Some(token) = self.receive.deferred.order.pop_front() else { break };
            units += UNITS_OF_A_LOOK;
            if let Some(mut lane) = self.lane(token) {
                if lane.connection.is_expanding() && lane.local.is_expansion_spent() {
                    self.receive.deferred.postponed.push(token);
                    continue;
                }
                units += lane.in_span(|lane| lane.serve_deferred(clock));
            } else {
                // What was deferred goes with its connection, so this cannot be.
                debug_assert!(false, "deferred without a connection: {token:?}");
                self.receive.deferred.drop_of(token, &mut self.ring, &self.local.pool);
            }
            self.local.callback_timer.mark(token, "on_frame");
            let took = clock().saturating_sub(begun);
            if units >= UNITS_PER_TURN || took >= TIME_PER_TURN {
                break;
            }
        }
        // Before those that got some, which would be first again and leave nothing.
        let Deferred { order, postponed, .. } = &mut self.receive.deferred;
        while let Some(token) = postponed.pop() {
            order.push_front(token);
        }
    }

    /// The turn is over: deferred input stays in its buffers only as far as there are enough for the
    /// others.
    #[inline]
    pub(super) fn keep_deferred(&mut self) {
        if !self.receive.deferred.fresh.is_empty() {
            self.keep_fresh();
        }
    }

    #[inline(never)]
    fn keep_fresh(&mut self) {
        let deferred = &mut self.receive.deferred;
        while let Some(token) = deferred.fresh.pop() {
            let Some(input) = deferred.input.get_mut(&token) else { continue };
            let pieces = input.pending.len();
            for _ in 0..pieces {
                let Some(next) = input.pending.pop_front() else { break };
                input.pending.push_back(match next {
                    Input::Piece(it) => Input::Piece(it.keep(&mut self.ring, &self.local.pool)),
                    end @ Input::End(_) => end,
                });
            }
        }
    }

    /// How many connections have deferred input, and the bytes of it that lie in their own memory.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn deferred_input(&self) -> (usize, usize) {
        let deferred = &self.receive.deferred;
        let copied = deferred.input.keys().map(|token| deferred.copied_of(*token)).sum();
        (deferred.input.len(), copied)
    }
}

impl<R: Ring> Lane<'_, R> {
    /// Handles the deferred input of the connection and what waits in its socket, until the budget
    /// is used up or it has caught up. Returns what that cost.
    fn serve_deferred(&mut self, clock: fn() -> Duration) -> usize {
        if self.connection.is_deciding() {
            // It has its turn when that is over.
            return 0;
        }
        let (begun, mut handled) = (clock(), 0);
        loop {
            match self.handle_next(&mut handled) {
                // Many pieces of a few frames each take time as well.
                Outcome::Done if clock().saturating_sub(begun) >= TIME_PER_BUDGET => {
                    self.receive.deferred.order.push_back(self.token);
                    break;
                }
                Outcome::Done => {}
                Outcome::BudgetSpent => {
                    self.receive.deferred.order.push_back(self.token);
                    self.receive.deferred.step(self.token, handled);
                    break;
                }
                Outcome::Nothing if self.take_step() => {}
                Outcome::Nothing => {
                    self.caught_up();
                    break;
                }
            }
        }
        self.connection.spent(self.receive.turn)
    }

    /// Handles the next deferred piece.
    fn handle_next(&mut self, handled: &mut usize) -> Outcome {
        let input = self.receive.deferred.input.get_mut(&self.token);
        let piece = match input.and_then(|input| input.pending.pop_front()) {
            None => return Outcome::Nothing,
            Some(Input::End(error)) => {
                self.caught_up();
                self.end_of_data(error);
                return Outcome::Nothing;
            }
            Some(Input::Piece(piece)) => piece,
        };
        let (count, rest) = self.handle_piece(piece);
        *handled += count;
        let Some(rest) = rest else { return Outcome::Done };
        if let Some(input) = self.receive.deferred.input.get_mut(&self.token) {
            input.pending.push_front(Input::Piece(rest));
        }
        Outcome::BudgetSpent
    }

    /// The connection has no deferred input left: it receives as any other.
    fn caught_up(&mut self) {
        self.receive.deferred.remove(self.token);
        self.connection.link.input = InputState::Flowing;
        // Receiving was stopped, and may go on when the turn ends.
        self.connection.session().mark_dirty();
    }

    /// Takes the next bytes from the socket of a connection that has fallen behind. `false` when there
    /// are none for now, or this is not how they are to come.
    fn take_step(&mut self) -> bool {
        let connection = &mut *self.connection;
        connection.link.input = InputState::Flowing;
        // The bytes of a receive in flight come first, and those of a large frame and stamped ones go
        // their own way.
        let is_wanted = connection.phase() <= Phase::Open
            && connection.wants_receive()
            && !connection.link.is_receiving()
            && !connection.is_worth_direct()
            && !connection.link.is_stamped();
        let (true, Some(socket)) = (is_wanted, connection.session().socket.get()) else {
            return false;
        };
        let (input, pool) = (&mut self.receive.deferred.input, &self.local.pool);
        let step = input.get(&self.token).map_or(STEP_MIN, |input| input.step.max(STEP_MIN));
        let mut memory = pool.stash();
        let Some(room) = Room::new(memory.bytes_mut(), 0, step, step) else {
            // Without memory for a step, it receives as any other.
            return false;
        };
        let next = match self.ring.receive_now(socket, room) {
            Err(error) if is_passing(&error) => {
                pool.put_stash(memory);
                return false;
            }
            Ok(count @ 1..) => {
                connection.link.on_received(connection.session(), count);
                Input::Piece(Piece::copied(memory, pool))
            }
            end => {
                pool.put_stash(memory);
                Input::End(end.err())
            }
        };
        connection.link.input = InputState::Deferred;
        // Not fresh: it is in memory already.
        input.entry(self.token).or_default().pending.push_back(next);
        true
    }
}

/// Connections with deferred input now and then, for which memory is kept.
const SPARE_MAX: usize = 64;
/// Units for looking at a connection, whatever is there: a system call.
const UNITS_OF_A_LOOK: usize = 16;
/// Units of all connections with deferred input together in a turn: sixteen budgets, a millisecond of
/// small frames. It is what a neighbour waits for.
const UNITS_PER_TURN: usize = 16 * 1024;
/// Time of one of them.
const TIME_PER_BUDGET: Duration = Duration::from_millis(1);
/// Time of all, for listeners that are slow: two budgets.
const TIME_PER_TURN: Duration = Duration::from_millis(2);
/// Bytes that are taken from a socket at a time: about what a budget covers.
const STEP_MIN: usize = 4 * 1024;
const STEP_MAX: usize = 256 * 1024;
