//! `Link`: the byte stream of a connection, between the ring and the protocol.
//!
//! It owns the operations in flight on the socket, decides how bytes are received and sent, and
//! limits how much is handled in one turn. Frames are not known here: the connection above hands it
//! what it has to send, and takes the bytes of the peer.

mod budget;
mod direct;
mod in_turn;
mod piece;
mod send;

use crate::ring::{ReceiveResult, Ring, Socket, Token};
use crate::session::Session;
#[cfg(feature = "deflate")]
pub(crate) use budget::BYTES_PER_UNIT;
pub(crate) use budget::Budget;
pub(crate) use direct::Direct;
pub(crate) use in_turn::LARGE_BYTES_MIN;
pub(crate) use piece::Piece;
pub(crate) use send::offer_max;

/// The worker's half of a byte stream; what handles read of it is in [`Session`].
#[derive(Debug, Default)]
pub(crate) struct Link {
    kind: Kind,
    receive: Receive,
    /// The operations in flight have been cancelled.
    is_cancelled: bool,
    /// So many receives more are each one by itself, as a large frame came lately.
    bulk: u8,
    /// How many pieces of large frames came lately, more than others.
    large: u8,
    /// Bytes are taken from the socket in their turn, as they are of large frames.
    is_in_turn: bool,
    /// Each piece that is received has the time at which the kernel received it.
    is_stamped: bool,
    /// What the next bytes of the peer wait for.
    pub(crate) input: InputState,
    pub(crate) budget: Budget,
}

/// What the bytes on the socket are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// The bytes of the protocol.
    #[default]
    Plain,
    /// Records of TLS.
    #[cfg(feature = "_tls")]
    Secure,
}

/// The receive of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Receive {
    #[default]
    None,
    InFlight,
    /// In flight, and cancelled.
    Cancelled,
}

/// The event that the next bytes of a peer wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum InputState {
    /// For the peer.
    #[default]
    Flowing,
    /// For its turn: some are held.
    Deferred,
    /// For a receive buffer: there was none.
    Starved,
}

impl Link {
    /// The link of `session`.
    pub(crate) fn new(session: &Session) -> Self {
        let kind = match session.is_sealed() {
            #[cfg(feature = "_tls")]
            true => Kind::Secure,
            _ => Kind::Plain,
        };
        Self { kind, ..Self::default() }
    }

    /// What follows is as `session` has it now: in records of TLS, or not.
    pub(crate) fn begin(&mut self, session: &Session) {
        self.kind = Self::new(session).kind;
    }

    /// Whether the bytes on the socket are records of TLS.
    #[cfg(feature = "_tls")]
    #[inline]
    pub(crate) fn is_secure(&self) -> bool {
        self.kind == Kind::Secure
    }

    /// Pieces have stamps from here on, or none.
    pub(crate) fn set_stamped(&mut self, is_stamped: bool) {
        self.is_stamped = is_stamped;
    }

    /// Whether pieces have stamps.
    #[inline]
    pub(crate) fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    /// Whether a receive is in flight.
    pub(crate) fn is_receiving(&self) -> bool {
        self.receive != Receive::None
    }

    /// Whether an operation is in flight.
    pub(crate) fn is_busy(&self, session: &Session) -> bool {
        self.is_receiving() || session.is_sending()
    }

    /// Begins to receive: once, while large frames come, else until it is cancelled.
    pub(crate) fn receive(&mut self, ring: &mut impl Ring, socket: Socket, token: Token) {
        self.receive = Receive::InFlight;
        if self.is_bulk() {
            ring.receive_once(socket, token);
        } else if self.is_stamped {
            ring.receive_stamped(socket, token);
        } else if self.is_in_turn {
            ring.receive_in_turn(socket, token);
        } else {
            ring.receive(socket, token);
        }
    }

    /// Ends the receive in flight, if there is one; it still has its last completion.
    pub(crate) fn cancel_receive(&mut self, ring: &mut impl Ring, token: Token) {
        if self.receive == Receive::InFlight {
            self.receive = Receive::Cancelled;
            ring.cancel_receive(token);
        }
    }

    /// A receive has a completion, behind which there are `more` or none.
    pub(crate) fn on_receive_completion(
        &mut self,
        session: &Session,
        result: &ReceiveResult,
        more: bool,
    ) {
        if !more {
            self.receive = Receive::None;
        }
        if let ReceiveResult::Data(buffer) = result {
            self.on_received(session, buffer.len());
        }
    }

    /// Whether frames may be forwarded from the memory in which the kernel put them.
    pub(crate) fn may_lend(&self) -> bool {
        match self.kind {
            Kind::Plain => true,
            // They are opened there, and gone with the next record.
            #[cfg(feature = "_tls")]
            Kind::Secure => false,
        }
    }

    /// Counts bytes of the peer, which is there.
    pub(crate) fn on_received(&self, session: &Session, count: usize) {
        session.local.counters.bytes_received.add(count as u64);
        if let Some(mut liveness) = session.liveness() {
            liveness.received(session.local.now.get());
        }
    }

    /// Ends the operations in flight, each of which still has its last completion.
    pub(crate) fn cancel(&mut self, ring: &mut impl Ring, socket: Socket) {
        if !self.is_cancelled {
            self.is_cancelled = true;
            ring.cancel(socket);
        }
    }

    /// A receive outlived its cancellation: it is cancelled again.
    pub(crate) fn on_cancel_survived(&mut self) {
        self.is_cancelled = false;
    }
}

#[cfg(any(test, feature = "_fuzzing"))]
impl Link {
    /// Whether the operations in flight, or the receive alone, have been cancelled.
    pub(crate) fn cancelled(&self) -> (bool, bool) {
        (self.is_cancelled, self.receive == Receive::Cancelled)
    }
}

#[cfg(test)]
mod tests;
