//! Ownership of objects by threads and processes.

use crate::status::{Failure, pwu_status};
use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

thread_local! {
    /// The number of this thread; 0 before it has one. No other thread ever gets it.
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// Number of forks that led to this process, since a worker was first made.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The thread and process that made an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    thread: u64,
    forks: u32,
}

impl Owner {
    /// The current thread and process.
    pub(crate) fn current() -> Self {
        static WATCH: Once = Once::new();
        WATCH.call_once(|| {
            // SAFETY: the function does nothing but an atomic addition, and libc forgets it when the
            // library is unloaded. It fails only without memory; then children are not detected.
            unsafe { libc::pthread_atfork(None, None, Some(on_fork)) };
        });
        Self { thread: number(), forks: FORKS.load(Ordering::Relaxed) }
    }

    /// Checks that this is the same process.
    #[inline]
    pub(crate) fn check_process(self) -> Result<(), Failure> {
        if self.forks == FORKS.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Failure::fixed(pwu_status::PWU_FORKED))
    }

    /// Checks that this is the same thread of the same process.
    #[inline]
    pub(crate) fn check(self) -> Result<(), Failure> {
        self.check_process()?;
        if self.thread == NUMBER.get() {
            return Ok(());
        }
        Err(Failure::fixed(pwu_status::PWU_WRONG_THREAD))
    }
}

extern "C" fn on_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if NUMBER.get() == 0 {
        NUMBER.set(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    NUMBER.get()
}
