//! Receive budget of one connection in one turn.
//!
//! Frames, bytes and the time of callbacks are paid from one budget, so that neither many small
//! frames, nor a few large ones, nor a slow listener keep the other connections waiting. What is
//! left over is deferred (`worker/deferred.rs`).

use crate::local::BudgetRules;
use std::time::Duration;

/// The rest of a connection's budget in a turn.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// The turn for which it is; an old one with the same number costs a turn of waiting.
    turn: u16,
    left: u16,
}

impl Budget {
    /// Renews the share if `turn` is another one, and returns whether anything is left.
    #[inline]
    pub(crate) fn renew(&mut self, turn: u32, rules: &BudgetRules) -> bool {
        let turn = turn as u16;
        if self.turn != turn {
            *self = Self { turn, left: rules.units.get() };
        }
        self.left > 0
    }

    /// Whether anything is left, once it was renewed.
    #[cfg(feature = "_tls")]
    pub(crate) fn has_left(&self) -> bool {
        self.left > 0
    }

    /// Begins to count the frames of a piece.
    #[inline]
    pub(crate) fn begin(&self) -> Meter {
        let left = u32::from(self.left);
        Meter { left, next_look: left.min(FRAMES_PER_CLOCK), micros: 0, looked_at: None }
    }

    /// Pays for so many frames of so many bytes in all, that `meter` has measured.
    #[inline]
    pub(crate) fn spend(&mut self, frames: u32, bytes: usize, meter: &Meter) {
        self.pay(frames.max(meter.micros), bytes);
    }

    /// Pays for so many frames of so many bytes in all.
    #[inline]
    pub(crate) fn pay(&mut self, frames: u32, bytes: usize) {
        let units = frames as usize + bytes / BYTES_PER_UNIT;
        self.left = self.left.saturating_sub(u16::try_from(units).unwrap_or(u16::MAX));
    }

    /// What was paid in `turn`.
    pub(crate) fn spent(&self, turn: u32, rules: &BudgetRules) -> usize {
        let is_of_turn = self.turn == turn as u16;
        if is_of_turn { usize::from(rules.units.get().saturating_sub(self.left)) } else { 0 }
    }
}

/// Measures when the share of a connection is used up, in the middle of a piece.
#[derive(Debug)]
pub(crate) struct Meter {
    left: u32,
    /// The frame behind which the clock is looked at next.
    next_look: u32,
    /// Time that callbacks have taken, as far as it was measured.
    micros: u32,
    looked_at: Option<Duration>,
}

impl Meter {
    /// Whether the share is used up with the frame that is the `frames`th of its piece.
    #[inline]
    pub(crate) fn is_over(&mut self, frames: u32, rules: &BudgetRules) -> bool {
        frames == self.next_look && self.look(frames, rules)
    }

    /// Whether `units` beside the frames have used the share up.
    #[cfg(feature = "deflate")]
    pub(crate) fn is_spent(&self, frames: u32, units: u32) -> bool {
        frames.saturating_add(units) >= self.left
    }

    #[cold]
    #[inline(never)]
    fn look(&mut self, frames: u32, rules: &BudgetRules) -> bool {
        let now = (rules.clock.get())();
        if let Some(before) = self.looked_at.replace(now) {
            let took = now.saturating_sub(before).as_micros();
            self.micros = self.micros.saturating_add(u32::try_from(took).unwrap_or(u32::MAX));
        }
        self.next_look = self.left.min(frames + FRAMES_PER_CLOCK);
        frames.max(self.micros) >= self.left
    }
}

/// As many bytes cost as much as one more frame: 2 MiB in a turn, some 200 µs of unmasking. Less
/// would have the receive of a large frame stopped and begun again in the middle.
pub(crate) const BYTES_PER_UNIT: usize = 2048;
/// Frames for each look at the clock, which costs as much as half of one. A connection that has
/// fewer in a turn has none.
const FRAMES_PER_CLOCK: u32 = 16;
