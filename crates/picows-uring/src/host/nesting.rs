//! Loops inside of loops, which tokio answers with a panic, and second workers: found out before.

use crate::error::Error;
use crate::foreign;
use crate::local;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::task::coop;

/// Fails where tokio would panic: a loop cannot run, nor end, inside of another.
pub(crate) fn refuse_inside_runtime() -> Result<(), Error> {
    if is_inside_runtime() { Err(Error::InsideRuntime) } else { Ok(()) }
}

/// Fails where a worker runs on this thread already, in whatever way.
pub(crate) fn refuse_second_worker() -> Result<(), Error> {
    if local::has_worker() { Err(Error::SecondWorker) } else { Ok(()) }
}

/// Whether this thread polls a future of a tokio runtime, whose loop must not be blocked.
pub(super) fn is_inside_runtime() -> bool {
    let Ok(handle) = Handle::try_current() else { return false };
    // Also known in `spawn_blocking` and beside an `enter` guard, where blocking is allowed. Only what
    // is polled has a budget, unless that was switched off; then only an attempt shows it.
    is_budgeted() || foreign::call(|| handle.block_on(std::future::ready(()))).is_err()
}

/// Whether tokio bounds what is done here until the next `await`, by spending all of it.
fn is_budgeted() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    (0..BUDGET_MAX).any(|_| match coop::poll_proceed(&mut context) {
        Poll::Ready(unit) => {
            unit.made_progress();
            false
        }
        Poll::Pending => true,
    })
}

/// More than tokio lets a task do before it has to wait: 128, in 2026.
const BUDGET_MAX: usize = 1024;
