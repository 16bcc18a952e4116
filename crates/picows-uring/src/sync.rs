//! Types that the mailbox shares between threads, under names that `models/` gives to loom's.
//!
//! Not for what no model runs: that takes the types of the standard library.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fd::OwnedFd;
use std::sync::Arc;

/// Wakes a worker from its sleep: an eventfd, which its loop or its ring watches.
#[derive(Clone, Debug)]
pub(crate) struct Signal(pub(crate) Arc<OwnedFd>);

impl From<Arc<OwnedFd>> for Signal {
    fn from(event: Arc<OwnedFd>) -> Self {
        Self(event)
    }
}

impl Signal {
    /// Wakes the worker if it sleeps, or else from its next sleep.
    pub(crate) fn raise(&self) {
        // Fails only when the counter is at its maximum, and then the worker is awake.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
