//! Memory that a listener of ours holds for messages, as reported to its worker.

use crate::transport::Transport;

/// The count that was reported to the worker last.
#[derive(Debug, Default)]
pub(crate) struct MessageBytes(usize);

impl MessageBytes {
    /// Reports to the worker that it is `bytes` now.
    #[inline]
    pub(crate) fn tell(&mut self, transport: &Transport, bytes: usize) {
        if self.0 != bytes {
            // At once, and not at the end of a turn: a task takes messages while the worker waits.
            let session = transport.session();
            session.count_message_bytes(self.0, bytes);
            let total = &session.local.counters.message_bytes;
            total.set((total.get() + bytes as u64).saturating_sub(self.0 as u64));
            if bytes < self.0 && session.local.is_in_budget.get() {
                // The other workers are to know that it is free, and the next turn may be far.
                session.mark_dirty();
            }
            self.0 = bytes;
        }
    }
}
