//! Send in flight: its bytes, how long the kernel has had it, and what was taken of it.
//!
//! A socket that is offered something outside of a turn (`outlet.rs`) takes bytes the same way.

use super::Session;
use crate::ring::SendBatch;

impl Session {
    /// Bytes of the send in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Whether a send is in flight.
    #[inline]
    pub(crate) fn is_sending(&self) -> bool {
        self.in_flight.get() > 0
    }

    /// The ring is given a send of `batch`.
    pub(crate) fn send_begins(&self, batch: &SendBatch) {
        self.in_flight.set(batch.len());
        self.in_flight_memory.set(u32::try_from(batch.memory()).unwrap_or(u32::MAX));
        self.sent_at.set(self.local.polls.get());
    }

    /// A number that stays the same as long as the peer takes nothing of the send in flight, of
    /// which it has `untaken` bytes before it. Another send, begun by another poll or of another
    /// size, has another one, or by a rare chance the same: not look after look.
    pub(crate) fn send_mark(&self, untaken: usize) -> Option<u64> {
        let (in_flight, sent_at) = (self.in_flight.get() as u64, u64::from(self.sent_at.get()));
        (in_flight > 0).then_some(in_flight.rotate_left(32) ^ untaken as u64 ^ sent_at << 24)
    }

    /// The send in flight is over.
    pub(crate) fn send_is_over(&self) {
        self.in_flight.set(0);
        self.in_flight_memory.set(0);
        self.local.pool.left(self.left());
        self.may_offer();
    }

    /// The kernel has left much of a send: the listener is to pause.
    pub(crate) fn judge_rest(&self) {
        if self.buffered() > self.high_watermark() && !self.is_paused.get() {
            self.owes_pause.set(true);
            self.mark_dirty();
        }
    }

    /// Whether the kernel has seen the send that it was given last.
    pub(crate) fn is_tried(&self) -> bool {
        self.in_flight.get() == 0 || self.sent_at.get() != self.local.polls.get()
    }

    /// The kernel took `count` bytes of `batch`.
    pub(crate) fn took(&self, batch: &mut SendBatch, count: usize) {
        self.note_sent(count);
        self.local.pool.advance(batch, count);
    }

    /// The kernel took `count` bytes.
    #[inline]
    pub(super) fn note_sent(&self, count: usize) {
        self.local.counters.bytes_sent.add(count as u64);
        if let Some(mut liveness) = self.liveness() {
            liveness.sent(self.local.now(), count);
        }
    }
}
