//! The ring's eventfd, as a tokio loop waits for it.

use super::UringRing;
use rustix::fd::OwnedFd;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells a task when its ring may have completions, or somebody else has work for it.
#[derive(Debug)]
pub(crate) struct RingEvent(AsyncFd<Arc<OwnedFd>>);

impl RingEvent {
    /// Watches the eventfd of `ring` in the tokio loop of this thread.
    pub(crate) fn watch(ring: &UringRing) -> io::Result<Self> {
        // SAFETY: the descriptor is owned, together with the ring, by an `Arc` that is handed over
        // here, always yields the same descriptor, and lives as long as the registration.
        #[expect(unsafe_code)]
        let registered =
            unsafe { AsyncFd::register_with_interest(ring.event(), Interest::READABLE) }?;
        Ok(Self(registered))
    }

    /// Ready once after each signal, or after several.
    ///
    /// Every signal is a new edge, so the eventfd is not read. Readiness is cleared before the
    /// caller looks at its ring: what comes after that is a new edge again.
    pub(crate) fn poll_signal(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(context).map_ok(|mut guard| guard.clear_ready())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use crate::ring::uring::Waiting;

    /// Whether the eventfd was signalled after a deadline had passed.
    fn is_signalled_by(ring: &mut UringRing) -> bool {
        ring.set_deadline(ring.now());
        ring.wait().unwrap();
        ring.poll(1, &mut Vec::new()).unwrap();
        rustix::io::read(ring.event(), &mut [0; 8]).is_ok()
    }

    #[test]
    fn a_ring_that_is_hosted_no_longer_signals_to_itself() {
        let mut ring = UringRing::new(Waiting::Hosted).unwrap();
        assert!(is_signalled_by(&mut ring));
        ring.dedicate().unwrap();
        assert!(!is_signalled_by(&mut ring));
    }
}
