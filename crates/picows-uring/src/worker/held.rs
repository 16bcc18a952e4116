//! What arrived for connections that have had their share of the turn.
//!
//! It waits in the order in which it came, and each turn gives each of these connections a share
//! again, so one that floods us is served in slices between which its neighbours are. What a share
//! is, is decided in `connection/budget.rs`.

use super::Worker;
use crate::ring::{RecvBuffer, Ring, Token};
use std::collections::VecDeque;
use std::io;

/// What is held, oldest first.
#[derive(Debug, Default)]
pub(super) struct Held {
    arrived: VecDeque<(Token, Arrived)>,
}

#[derive(Debug)]
pub(super) enum Arrived {
    /// Bytes of the peer, of which the first `start` are done with.
    Data { buffer: RecvBuffer, start: usize },
    /// The stream has ended, or it broke.
    End(Option<io::Error>),
}

impl Held {
    pub(super) fn push(&mut self, token: Token, arrived: Arrived) {
        self.arrived.push_back((token, arrived));
    }

    /// Bytes that are held of a connection.
    pub(super) fn bytes_of(&self, token: Token) -> usize {
        let of_token = self.arrived.iter().filter(|(it, _)| *it == token);
        of_token.map(|(_, arrived)| arrived.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }
}

impl Arrived {
    fn len(&self) -> usize {
        match self {
            Self::Data { buffer, start } => buffer.len() - start,
            Self::End(_) => 0,
        }
    }
}

impl<R: Ring> Worker<R> {
    /// Goes on with what is held, as far as the shares of this turn reach.
    pub(super) fn resume_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        // Nothing of a connection may overtake what it still holds.
        for (token, _) in &self.held.arrived {
            if let Some(connection) = self.slots.get_mut(*token) {
                connection.is_held = false;
                // Receiving was stopped, and may go on when the turn ends.
                connection.session().touch();
            }
        }
        // What is held again goes behind these, for the next turn.
        for _ in 0..self.held.arrived.len() {
            let Some((token, arrived)) = self.held.arrived.pop_front() else { break };
            match arrived {
                Arrived::Data { buffer, start } => self.take_in_data(token, buffer, start),
                Arrived::End(error) => self.end_of_data(token, error),
            }
            self.shared.watch.mark(token, "on_frame");
        }
    }

    /// Hands bytes that arrived to a connection, and holds what it does not get to. One that holds
    /// something has nothing left of its share, so nothing overtakes that.
    pub(super) fn take_in_data(&mut self, token: Token, buffer: RecvBuffer, start: usize) {
        let Some(connection) = self.slots.get_mut(token) else {
            // It has ended, and held this.
            return self.ring.release(buffer);
        };
        let source = self.ring.lend(&buffer);
        let is_lent = source.is_some();
        if is_lent {
            self.shared.source.replace(source);
        }
        let bytes = &mut self.ring.bytes(&buffer)[start..];
        let len = bytes.len();
        let count = connection.receive(&**self.factory, self.turn, bytes);
        self.deadlines.handled(token, count.unwrap_or(len));
        if is_lent {
            self.shared.source.take();
        }
        let Some(count) = count else {
            return self.ring.release(buffer);
        };
        connection.is_held = true;
        self.held.push(token, Arrived::Data { buffer, start: start + count });
    }

    /// The stream of a connection has ended, or broke: after what it holds.
    pub(super) fn end_of_data(&mut self, token: Token, error: Option<io::Error>) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        if connection.is_held {
            return self.held.push(token, Arrived::End(error));
        }
        match error {
            Some(error) => connection.io_failed(&error),
            None => connection.end_of_stream(),
        }
    }
}
