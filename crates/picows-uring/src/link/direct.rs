//! Direct receives: the rest of a large frame, from the socket into the memory that collects it.
//!
//! Through the shared buffers it would be copied once more, and as the kernel fills those of many
//! connections before the first is handled, they are not in cache any more when they are read.
//! Here one connection is read and unmasked at a time, in pieces that stay in cache.

use super::{Kind, Link};
use crate::local::BudgetRules;
use crate::ring::{Ring, Room, Token, is_passing};
use crate::session::Session;
use std::io;

/// Outcome of a direct receive.
#[derive(Debug)]
pub(crate) enum Direct {
    /// Bytes are in the memory. More may wait in the socket only if it `is_full`.
    Bytes { count: usize, is_full: bool },
    /// No byte waits in the socket.
    Empty,
    /// The stream has ended.
    EndOfStream,
}

impl Link {
    /// Whether `room` bytes are enough to be received directly. Stamped ones never are: the call would
    /// bring no stamp.
    pub(crate) fn is_worth_direct(&self, room: usize) -> bool {
        match self.kind {
            Kind::Plain => room >= DIRECT_BYTES_MIN && !self.is_stamped,
            #[cfg(feature = "_tls")]
            Kind::Secure => false,
        }
    }

    /// Whether large frames came lately, so that each receive is to be one by itself.
    pub(crate) fn is_bulk(&self) -> bool {
        self.bulk > 0
    }

    /// Whether each receive takes a buffer of its own, where others share them.
    pub(crate) fn takes_whole_buffers(&self) -> bool {
        self.is_bulk() || self.is_stamped
    }

    /// Decides, after a completion of a receive, whether bytes are received directly now. `is_wanted`
    /// says that the frame under way is worth it.
    ///
    /// The multishot receive ends first: its bytes come before. From then on each receive is one by
    /// itself, as long as large frames come.
    pub(crate) fn begins_direct(
        &mut self,
        ring: &mut impl Ring,
        token: Token,
        is_wanted: bool,
    ) -> bool {
        if !is_wanted {
            if self.bulk > 0 {
                self.bulk -= 1;
            }
            return false;
        }
        if self.is_stamped {
            return false;
        }
        self.bulk = BULK_RECEIVES;
        self.cancel_receive(ring, token);
        !self.is_receiving()
    }

    /// Bytes that the next direct receive may take, of a frame that has `room` and a worker that has
    /// `left` for all connections. `None` when the turn has no more for this one.
    pub(crate) fn direct_max(
        &mut self,
        turn: u32,
        rules: &BudgetRules,
        room: usize,
        left: usize,
    ) -> Option<usize> {
        let max = room.min(PIECE_BYTES_MAX).min(left);
        (max > 0 && self.budget.renew(turn, rules)).then_some(max)
    }

    /// Takes the bytes that wait in the socket, up to those that `room` has, which are `max`.
    pub(crate) fn receive_now(
        &mut self,
        ring: &mut impl Ring,
        session: &Session,
        room: Room<'_>,
        max: usize,
    ) -> io::Result<Direct> {
        let Some(socket) = session.socket.get() else { return Ok(Direct::Empty) };
        match ring.receive_now(socket, room) {
            Ok(0) => Ok(Direct::EndOfStream),
            Ok(count) => {
                self.on_received(session, count);
                Ok(Direct::Bytes { count, is_full: count >= max })
            }
            Err(error) if is_passing(&error) => Ok(Direct::Empty),
            Err(error) => Err(error),
        }
    }

    /// Bytes to leave free in front of what a direct receive brings.
    pub(crate) fn direct_gap(session: &Session) -> usize {
        if session.is_client { GAP_OF_CLIENT } else { GAP_OF_SERVER }
    }
}

/// Less is copied sooner than asked for: 64 KiB made an echo of 100 kB a fifth slower. The random runs
/// of the simulation have no frames so large, so there it is less.
const DIRECT_BYTES_MIN: usize = if cfg!(test) { 64 * 1024 } else { 128 * 1024 };
/// What is taken from the socket before it is unmasked: half of what the second-level cache of a
/// core holds, or less.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// Receives after a large frame that are each one by itself.
const BULK_RECEIVES: u8 = 16;
/// As long as the header of a large frame, so that the payload has the alignment that it had in
/// front of the sender's kernel, counted in 16 bytes. Some processors copy ten times slower
/// (`rep movsb`, AMD Zen 4) where the target lies 1 to 15 bytes behind the source, counted in pages.
const GAP_OF_SERVER: usize = 14;
const GAP_OF_CLIENT: usize = 10;
