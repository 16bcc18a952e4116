//! Receives in turn: the choice between them and the receive of the ring, by the size of frames.
//!
//! The bytes of large frames are taken from one socket after the other, and what answers them is sent
//! before the next is handled: so all of them lie in the same memory, in cache. Small ones come from the
//! ring, many with one call.

use super::Link;
use crate::ring::{Ring, Token};

impl Link {
    /// A piece of so many bytes and frames was handled, of at least [`LARGE_BYTES_MIN`].
    #[cold]
    #[inline(never)]
    pub(crate) fn note_large(&mut self, frames: u32, bytes: usize) {
        // Nor those with stamps, which other calls do not bring.
        let is_plain = self.kind == super::Kind::Plain && !self.is_stamped;
        if is_plain && bytes >= LARGE_BYTES_MIN.saturating_mul(frames.max(1) as usize) {
            self.large = (self.large + 2).min(LARGE_MAX);
        }
    }

    /// Whether a large frame came lately: then [`choose`](Self::choose) is to be called after each piece.
    #[inline]
    pub(crate) fn has_large(&self) -> bool {
        self.large > 0
    }

    /// Chooses how the next bytes are received, after a piece. Returns whether it is in turn.
    pub(crate) fn choose(&mut self, ring: &mut impl Ring, token: Token) -> bool {
        self.large = self.large.saturating_sub(1);
        let is_in_turn = match self.large {
            0 => false,
            LARGE_TO_BEGIN.. => true,
            _ => self.is_in_turn,
        };
        if is_in_turn != std::mem::replace(&mut self.is_in_turn, is_in_turn) && !self.is_bulk() {
            // It begins again the other way, behind what it still brings.
            self.cancel_receive(ring, token);
        }
        is_in_turn
    }
}

/// The average of a piece's frames that makes them large: those of 16 KiB are cheaper from the ring, with
/// a call less for each. The random runs of the simulation have shorter ones.
pub(crate) const LARGE_BYTES_MIN: usize = if cfg!(test) { 512 } else { 32 * 1024 };
/// Large pieces, more than others, with which receiving in turn begins; it ends when as many others came.
const LARGE_TO_BEGIN: u8 = 8;
const LARGE_MAX: u8 = 17;
