//! A worker and how it waits between its turns.
//!
//! The sleep protocol is here, once; below are the ways to wait. Hosted: in a tokio loop, where
//! other tasks run beside the worker. Dedicated: in its own ring, with nothing else on the thread.
//! Both can spin for a while before they sleep. Embedded: in a loop of the application.

mod dedicated;
mod embedded;
mod event_loop;
mod hosted;
mod nesting;
mod spin;

pub(crate) use dedicated::run_dedicated;
pub(crate) use embedded::{EmbeddedHost, WorkHook, embed};
pub(crate) use event_loop::LoopKind;
pub use event_loop::{EventLoop, UnknownEventLoop};
pub(crate) use hosted::{Loop, drive, release};
pub(crate) use nesting::{refuse_inside_runtime, refuse_second_worker};
pub(crate) use spin::BusyPoll;

use crate::ring::{Ring, Wait, WaitMode};
use crate::worker::{Turn, Worker};
use spin::Spin;
use std::io;
use std::time::Instant;

/// A worker with its sleep protocol: [turn](Self::turn) until that is idle, then
/// [`before_sleep`](Self::before_sleep), the wait if that returns `true`, and
/// [`after_sleep`](Self::after_sleep).
struct Host<R: Ring> {
    worker: Worker<R>,
    mode: WaitMode,
    busy_poll: BusyPoll,
    /// The origin of the ring's clock.
    origin: Option<Instant>,
}

impl<R: Ring + Wait> Host<R> {
    /// `mode` is how the worker's ring is waited for from here on.
    fn new(worker: Worker<R>, mode: WaitMode, busy_poll: BusyPoll) -> Self {
        let origin = Instant::now().checked_sub(worker.ring.now());
        Self { worker, mode, busy_poll, origin }
    }

    /// Takes a turn, which does not block.
    ///
    /// # Errors
    ///
    /// When the ring is lost.
    fn turn(&mut self) -> io::Result<Turn> {
        let turn = self.worker.turn()?;
        self.worker.local.counters.ring_enters.set(self.worker.ring.enters());
        Ok(turn)
    }

    /// The worker waits from here on: the time of its connections goes on from the end of the last turn,
    /// which mostly is known already.
    fn begin_idle(&self) {
        let end = self.worker.turn_end().and_then(|end| self.origin?.checked_add(end));
        self.worker.local.idle_since.set(Some(end.unwrap_or_else(Instant::now)));
    }

    /// Whether the worker has something to do: from its ring, this thread, or another one.
    fn has_work(&mut self) -> bool {
        let worker = &mut self.worker;
        worker.has_work() || worker.local.mailbox.has_mail() || worker.local.is_released.get()
    }

    /// Spinning that begins now, behind a turn that was idle.
    fn spin(&self) -> Spin {
        Spin::begin(self.busy_poll, &self.worker.ring)
    }

    /// Makes sure that whatever comes from here on ends the sleep. `false` if there is work
    /// already: then the next turn is due, and no [`after_sleep`](Self::after_sleep).
    fn before_sleep(&mut self) -> bool {
        self.set_signals(true);
        // In this order: what came before the signals were on, then what other threads left.
        let may_sleep = !self.has_work() && self.worker.local.mailbox.before_sleep();
        if may_sleep {
            self.worker.local.counters.sleeps.increment();
        } else {
            self.set_signals(false);
        }
        may_sleep
    }

    /// The worker is awake: nothing needs to wake it.
    fn after_sleep(&mut self) {
        self.worker.local.mailbox.after_sleep();
        self.set_signals(false);
    }

    /// Signals go to a descriptor that is polled only; `wait` needs none.
    fn set_signals(&mut self, on: bool) {
        if self.mode == WaitMode::Hosted {
            self.worker.ring.set_signals(on);
        }
    }
}

/// The error of a worker that begins beside another: its caller should have found that out before.
fn has_other_worker() -> io::Error {
    io::Error::other("another worker runs on this thread")
}

#[cfg(test)]
mod tests;
