//! How much memory a listener of ours holds for messages, told to its worker.

use crate::transport::Transport;

/// What the worker was told last.
#[derive(Debug, Default)]
pub(crate) struct MessageBytes(usize);

impl MessageBytes {
    /// Tells the worker that it is `bytes` now.
    #[inline]
    pub(crate) fn tell(&mut self, transport: &Transport, bytes: usize) {
        if self.0 != bytes {
            let total = &transport.session().shared.message_bytes;
            total.set((total.get() + bytes).saturating_sub(self.0));
            self.0 = bytes;
        }
    }
}
