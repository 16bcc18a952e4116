//! What arrived for connections that have had their share of the turn.
//!
//! It waits in the order in which it came, and the connections that hold some have their turns one
//! after the other, so one that floods us is served in slices between which its neighbours are.
//! Whoever holds nothing is served first, and what all of these get in a turn has a bound. What a
//! share is, is decided in `link/budget.rs`.
//!
//! Where it waits: in the receive buffers in which it came, as long as these keep no more than half
//! of them, and else in memory of its connection. A connection that has fallen behind is not received
//! from by the ring: it takes a share's worth from its socket each time, until nothing is left there.

use super::Worker;
use crate::link::{InputState, Piece};
use crate::pool::Pool;
use crate::ring::{Ring, Room, Token, is_passing};
use picows_uring_proto::Phase;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// The connections that hold something, the one whose turn is next first.
    order: VecDeque<Token>,
    input: HashMap<Token, DeferredInput>,
    /// Those of them that got some in this turn, which may lie in too many buffers.
    fresh: Vec<Token>,
    /// Empty ones, kept for their memory.
    spare: Vec<DeferredInput>,
}

/// What one connection holds, oldest first.
#[derive(Debug, Default)]
struct DeferredInput {
    pending: VecDeque<Input>,
    /// Bytes that it had handled with its last share: so many are taken at a time.
    step: usize,
}

#[derive(Debug)]
pub(super) enum Input {
    Piece(Piece),
    /// The stream has ended, or it broke.
    End(Option<io::Error>),
}

/// What became of a connection's next piece.
enum Outcome {
    /// All of it was handled.
    Done,
    /// The share is used up.
    BudgetSpent,
    /// It holds nothing.
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

    /// Bytes that are held of a connection.
    pub(super) fn bytes_of(&self, token: Token) -> usize {
        self.input.get(&token).map_or(0, |input| input.pending.iter().map(Input::len).sum())
    }

    /// Bytes of memory that a connection takes for what is held of it, beside the receive buffers.
    pub(super) fn copied_of(&self, token: Token) -> usize {
        let Some(input) = self.input.get(&token) else { return 0 };
        let copied = input.pending.iter().map(|arrived| match arrived {
            Input::Piece(piece) => piece.memory(),
            Input::End(_) => 0,
        });
        copied.sum()
    }

    /// A connection has ended: gives back what it holds, and returns whether that was something.
    pub(super) fn drop_of(&mut self, token: Token, ring: &mut impl Ring, pool: &Pool) -> bool {
        let Some(input) = self.input.remove(&token) else { return false };
        self.order.retain(|it| *it != token);
        for arrived in input.pending {
            if let Input::Piece(piece) = arrived {
                piece.release(ring, pool);
            }
        }
        true
    }

    /// A connection holds nothing more.
    fn remove(&mut self, token: Token) {
        if let Some(mut input) = self.input.remove(&token)
            && self.spare.len() < SPARE_MAX
        {
            input.step = 0;
            self.spare.push(input);
        }
    }

    /// The next time, about as much is taken from the socket of a connection as it had handled.
    pub(super) fn step(&mut self, token: Token, handled: usize) {
        if let Some(input) = self.input.get_mut(&token) {
            input.step = handled.clamp(STEP_MIN, STEP_MAX);
        }
    }

    /// Holds something of a connection, behind what it holds.
    pub(super) fn push(&mut self, token: Token, new: Input) {
        let (order, spare) = (&mut self.order, &mut self.spare);
        let input = self.input.entry(token).or_insert_with(|| {
            order.push_back(token);
            spare.pop().unwrap_or_default()
        });
        input.pending.push_back(new);
        if self.fresh.last() != Some(&token) {
            self.fresh.push(token);
        }
    }
}

impl<R: Ring> Worker<R> {
    /// Serves the connections that hold something, one share each, as far as a turn goes.
    pub(super) fn serve_deferred(&mut self) {
        if self.deferred.is_empty() {
            return;
        }
        let clock = self.local.budget_rules.clock.get();
        let (begun, mut units) = (clock(), 0);
        // Each once: it has no second share.
        for _ in 0..self.deferred.order.len() {
            let Some(token) = self.deferred.order.pop_front() else { break };
            units += UNITS_OF_A_LOOK + self.serve(token);
            self.local.callback_timer.mark(token, "on_frame");
            let took = clock().saturating_sub(begun);
            if units >= UNITS_PER_TURN || took >= TIME_PER_TURN {
                break;
            }
        }
    }

    /// Lets a connection go on with what it holds and with what waits in its socket, until its share
    /// is used up or it has caught up. Tells what that cost.
    fn serve(&mut self, token: Token) -> usize {
        let clock = self.local.budget_rules.clock.get();
        let (begun, mut handled) = (clock(), 0);
        loop {
            match self.handle_next(token, &mut handled) {
                // Many pieces of a few frames each take time as well.
                Outcome::Done if clock().saturating_sub(begun) >= TIME_PER_BUDGET => {
                    self.deferred.order.push_back(token);
                    break;
                }
                Outcome::Done => {}
                Outcome::BudgetSpent => {
                    self.deferred.order.push_back(token);
                    self.deferred.step(token, handled);
                    break;
                }
                Outcome::Nothing if self.take_step(token) => {}
                Outcome::Nothing => {
                    self.caught_up(token);
                    break;
                }
            }
        }
        self.slots.get_mut(token).map_or(0, |connection| connection.spent(self.turn))
    }

    /// Handles the next piece that a connection holds.
    fn handle_next(&mut self, token: Token, handled: &mut usize) -> Outcome {
        let next = self.deferred.input.get_mut(&token).and_then(|input| input.pending.pop_front());
        let rest = match next {
            None => return Outcome::Nothing,
            Some(Input::End(error)) => {
                self.caught_up(token);
                if let Some(mut lane) = self.lane(token) {
                    lane.end_of_data(error);
                }
                return Outcome::Nothing;
            }
            Some(Input::Piece(piece)) => match self.lane(token) {
                Some(mut lane) => lane.handle_piece(piece),
                None => {
                    piece.release(&mut self.ring, &self.local.pool);
                    (0, None)
                }
            },
        };
        match rest {
            (count, None) => {
                *handled += count;
                Outcome::Done
            }
            (count, Some(rest)) => {
                *handled += count;
                if let Some(input) = self.deferred.input.get_mut(&token) {
                    input.pending.push_front(Input::Piece(rest));
                }
                Outcome::BudgetSpent
            }
        }
    }

    /// A connection holds nothing more: it receives as any other.
    fn caught_up(&mut self, token: Token) {
        self.deferred.remove(token);
        if let Some(connection) = self.slots.get_mut(token) {
            connection.link.input = InputState::Flowing;
            // Receiving was stopped, and may go on when the turn ends.
            connection.session().mark_dirty();
        }
    }

    /// Takes the next bytes from the socket of a connection that has fallen behind. `false` when there
    /// are none for now, or this is not how they are to come.
    fn take_step(&mut self, token: Token) -> bool {
        let Some(connection) = self.slots.get_mut(token) else { return false };
        connection.link.input = InputState::Flowing;
        // The bytes of a receive in flight come first, and those of a large frame go their own way.
        let is_wanted = connection.phase() <= Phase::Open
            && connection.wants_receive()
            && !connection.link.is_receiving()
            && !connection.is_worth_direct();
        let (true, Some(socket)) = (is_wanted, connection.session().socket.get()) else {
            return false;
        };
        let step =
            self.deferred.input.get(&token).map_or(STEP_MIN, |input| input.step.max(STEP_MIN));
        let mut memory = self.local.pool.stash();
        let Some(room) = Room::new(memory.bytes_mut(), 0, step, step) else {
            // Without memory for a step, it receives as any other.
            return false;
        };
        let input = match self.ring.receive_now(socket, room) {
            Err(error) if is_passing(&error) => {
                self.local.pool.put_stash(memory);
                return false;
            }
            Ok(count @ 1..) => {
                connection.link.on_received(connection.session(), count);
                Input::Piece(Piece::copied(memory, &self.local.pool))
            }
            end => {
                self.local.pool.put_stash(memory);
                Input::End(end.err())
            }
        };
        connection.link.input = InputState::Deferred;
        // Not fresh: it is in memory already.
        self.deferred.input.entry(token).or_default().pending.push_back(input);
        true
    }

    /// The turn is over: what is held stays in its buffers only as far as there are enough for the
    /// others.
    pub(super) fn keep_deferred(&mut self) {
        while let Some(token) = self.deferred.fresh.pop() {
            let Some(input) = self.deferred.input.get_mut(&token) else { continue };
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

    /// How many connections hold something, and the bytes of it that lie in their own memory.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn deferred_input(&self) -> (usize, usize) {
        let copied = self.deferred.input.keys().map(|token| self.deferred.copied_of(*token)).sum();
        (self.deferred.input.len(), copied)
    }

    /// Lets connections receive again that found no buffer, in their order, as far as buffers have
    /// come back. Without one, another try would end at once as the one before.
    pub(super) fn feed_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        let mut room = [false, true].map(|is_single| self.ring.room_to_receive(is_single));
        for _ in 0..self.starved.len() {
            let Some(token) = self.starved.pop_front() else { break };
            let Some(connection) = self.slots.get_mut(token) else { continue };
            if connection.link.input != InputState::Starved {
                continue;
            }
            let is_single = connection.link.is_bulk();
            let room = &mut room[usize::from(is_single)];
            if connection.wants_receive() && *room == 0 {
                self.starved.push_back(token);
                continue;
            }
            connection.link.input = InputState::Flowing;
            *room = room.saturating_sub(1);
            if let Some(mut lane) = self.lane(token) {
                lane.receive_as_wanted();
            }
        }
    }
}

/// Connections that hold something now and then, for which memory is kept.
const SPARE_MAX: usize = 64;
/// What is paid for looking at a connection, whatever is there: a system call.
const UNITS_OF_A_LOOK: usize = 16;
/// What those that hold something get in a turn, all together: sixteen shares, a millisecond of small
/// frames. It is what a neighbour waits for.
const UNITS_PER_TURN: usize = 16 * 1024;
/// What one of them gets.
const TIME_PER_BUDGET: Duration = Duration::from_millis(1);
/// The same in time, for listeners that are slow: two shares.
const TIME_PER_TURN: Duration = Duration::from_millis(2);
/// What is taken from a socket at a time: about what a share covers.
const STEP_MIN: usize = 4 * 1024;
const STEP_MAX: usize = 256 * 1024;
