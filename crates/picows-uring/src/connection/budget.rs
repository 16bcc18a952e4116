//! How much of what arrived one connection may have handled in one turn.
//!
//! Frames and bytes are paid from one purse, so that neither many small frames nor a few large ones
//! keep the neighbours waiting. Who waits, and where, is the worker's affair.

/// What is left of a connection's share of a turn.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The turn for which it is; an old one with the same number costs a turn of waiting.
    turn: u16,
    left: u16,
}

impl Budget {
    /// Renews the share if `turn` is another one, and tells whether anything is left.
    #[inline]
    pub(super) fn renew(&mut self, turn: u32) -> bool {
        let turn = turn as u16;
        if self.turn != turn {
            *self = Self { turn, left: UNITS_PER_TURN };
        }
        self.left > 0
    }

    /// How many frames may be handled.
    #[inline]
    pub(super) fn frames(&self) -> u32 {
        u32::from(self.left)
    }

    /// Pays for so many frames of so many bytes in all.
    #[inline]
    pub(super) fn spend(&mut self, frames: u32, bytes: usize) {
        let units = frames as usize + bytes / BYTES_PER_UNIT;
        self.left = self.left.saturating_sub(u16::try_from(units).unwrap_or(u16::MAX));
    }
}

/// Frames that are handled in a turn if they are small: some 50 µs of parsing. Whatever listeners
/// do comes on top.
const UNITS_PER_TURN: u16 = 1024;
/// As many bytes cost as much as one more frame: 2 MiB in a turn, some 200 µs of unmasking. Less
/// would have the receive of a large frame stopped and begun again in the middle.
const BYTES_PER_UNIT: usize = 2048;
