//! Waiting: what a host asks of a ring, beside [`Ring`](super::Ring), to sleep until it has work.
//!
//! Does not decide when to sleep; that is the host's. A driver is what implements both traits.

use rustix::fd::OwnedFd;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The way in which the owner of a ring waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// A loop watches [`Wait::descriptor`].
    Hosted,
    /// The owner sleeps in [`Wait::wait`].
    Dedicated,
}

/// What a dedicated worker's sleep does beside waiting for one completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SleepOptions {
    /// Gathers completions for so long, from the beginning of the sleep.
    pub(crate) min_wait: Duration,
    /// Polls the network devices of the ring's sockets for so long.
    pub(crate) napi_busy_poll: Duration,
}

/// A setting that a driver, or the kernel, has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    pub(crate) setting: &'static str,
    pub(crate) fault: String,
}

impl SleepOptions {
    /// The first setting that is not as usual, by the name of its builder method.
    pub(crate) fn first(self) -> Option<&'static str> {
        let settings = [("min_wait", self.min_wait), ("napi_busy_poll", self.napi_busy_poll)];
        settings.iter().find(|(_, duration)| !duration.is_zero()).map(|(name, _)| *name)
    }
}

/// Waits for what a ring completes, for its deadline, and for other threads.
///
/// The order that loses no wake-up: ask for [signals](Self::set_signals), look whether there is
/// work ([`Ring::has_work`](super::Ring::has_work), and what other threads left), sleep if there is
/// none. What came before the look is seen by it, and need not be signalled; what comes after it
/// ends the sleep. A sleep may end for nothing.
///
/// A ring that was set up for [`WaitMode::Hosted`] is waited for by its descriptor, one that was
/// set up for [`WaitMode::Dedicated`], or [dedicated](Self::dedicate) since, by `wait`; never both.
pub(crate) trait Wait {
    /// The descriptor that a hosting loop polls: it becomes readable when there may be completions,
    /// the deadline has passed, or [`signal`](Self::signal) was written to. Each time is an edge of its own, also if it was
    /// readable before, so it is watched by edge and not read. The same descriptor each time,
    /// open for as long as the caller holds it.
    fn descriptor(&self) -> Arc<OwnedFd>;

    /// The eventfd that another thread writes to, to end the sleep of the owner, or the next one if
    /// it is awake. The ring owns what is read from it. The same each time; it outlives the ring.
    fn signal(&self) -> Arc<OwnedFd>;

    /// Has the kernel signal completions through the descriptor, or not: while the owner is awake
    /// it looks by itself, and a signal would only wake its loop once more for nothing. A driver
    /// for which that saves nothing need not do anything. On at the beginning.
    ///
    /// After switching them on, the owner looks for work once more: what came before was not
    /// signalled. Signals of other threads come always.
    fn set_signals(&mut self, _on: bool) {}

    /// From here on a task of this thread's tokio loop owns the ring, and awaits
    /// [`poll_sockets`](Self::poll_sockets) beside the descriptor: the loop may watch some sockets
    /// itself.
    fn join_loop(&mut self) {}

    /// The loop watches no sockets from here on.
    fn leave_loop(&mut self) {}

    /// In a sleep: ready if there may be something in the descriptor (`is_signalled`), or the loop has
    /// found something for a socket that it watches itself. If not, the task of `context` is woken
    /// when it does.
    fn poll_sockets(&mut self, _: &mut Context<'_>, is_signalled: bool) -> Poll<()> {
        if is_signalled { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes note of all signals up to now, so that the descriptor is readable only after the next:
    /// for a loop that watches it by level. A driver whose poll does that need not do anything.
    fn clear_signals(&mut self) {}

    /// Has [`Ring::has_work`](super::Ring::has_work) know what has happened up to now, where finding
    /// that out takes a system call: for an owner that spins. Returns at once.
    fn look(&mut self) {}

    /// Hands what is queued to the kernel and sleeps until there is a completion, the deadline has
    /// passed, or `signal` was written to; at once if one of that is so already. Returns no
    /// completions: the next poll does. May return early, as with a signal of the process.
    ///
    /// # Errors
    ///
    /// When the ring itself is lost; the worker cannot go on.
    fn wait(&mut self) -> io::Result<()>;

    /// Sets what [`wait`](Self::wait) does beside waiting for one completion. Drivers other than
    /// io_uring have none of it.
    ///
    /// # Errors
    ///
    /// When the driver or the kernel has not what a setting asks for.
    fn set_sleep(&mut self, options: SleepOptions) -> Result<(), Unsupported> {
        match options.first() {
            None => Ok(()),
            Some(setting) => {
                let fault =
                    "only io_uring has it, and the driver is epoll: leave it out".to_owned();
                Err(Unsupported { setting, fault })
            }
        }
    }

    /// From here on the owner waits with [`wait`](Self::wait), in a ring that was set up to be
    /// hosted. The descriptor is not polled any more. Operations in flight go on.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; the ring is as it was.
    fn dedicate(&mut self) -> io::Result<()>;

    /// How many system calls were made to hand over what was queued, to take completions, and to
    /// wait; those on one socket alone (`receive_now`, `send_now`) are not counted.
    fn enters(&self) -> u64;

    /// Whether this driver is io_uring. Where it is not, nothing in the process may make a call of
    /// io_uring, as a filter may end the process for it: the hosting loop has no such ring either.
    fn is_io_uring(&self) -> bool;
}

/// The descriptor of a ring, watched by the tokio loop of this thread.
#[derive(Debug)]
pub(crate) struct RingEvent(AsyncFd<Arc<OwnedFd>>);

impl RingEvent {
    /// Watches the descriptor of `ring`, which is hosted.
    pub(crate) fn watch(ring: &impl Wait) -> io::Result<Self> {
        // SAFETY: the descriptor is owned, together with the ring, by an `Arc` that is handed over
        // here, always yields the same descriptor, and lives as long as the registration.
        #[expect(unsafe_code)]
        let registered =
            unsafe { AsyncFd::register_with_interest(ring.descriptor(), Interest::READABLE) }?;
        Ok(Self(registered))
    }

    /// Whether there was a signal that was not taken, as far as the loop knows. Nothing is woken by the
    /// next one: see [`poll_signal`](Self::poll_signal).
    pub(crate) fn take_signal(&self) -> bool {
        let mut is_signalled = false;
        // What "would block" clears the readiness.
        let nothing = self.0.try_io(Interest::READABLE, |_| -> io::Result<()> {
            is_signalled = true;
            Err(io::ErrorKind::WouldBlock.into())
        });
        debug_assert!(nothing.is_err(), "nothing is read");
        is_signalled
    }

    /// Ready once after each signal, or after several.
    ///
    /// Every signal is a new edge, so the descriptor is not read. Readiness is cleared before the
    /// caller looks at its ring: what comes after that is a new edge again.
    pub(crate) fn poll_signal(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(context).map_ok(|mut guard| guard.clear_ready())
    }
}
