//! Waiting on the scripted ring: the test says what ends a sleep.

use super::ByHand;
use crate::ring::Wait;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;
use std::cell::OnceCell;
use std::io;
use std::sync::Arc;

/// What the test scripts of waiting, and what the owner of the ring did.
#[derive(Debug, Default)]
pub(crate) struct SleepScript {
    event: OnceCell<Arc<OwnedFd>>,
    /// A peer connects just before signals are switched on: the last moment without a signal.
    pub(crate) connects_before_signals: Option<i32>,
    /// Signals are on.
    pub(crate) has_signals: bool,
    /// How often the owner waited in the ring.
    pub(crate) waits: usize,
    /// Waiting in the ring fails.
    pub(crate) is_lost: bool,
}

impl Wait for ByHand {
    fn descriptor(&self) -> Arc<OwnedFd> {
        self.signal()
    }

    fn signal(&self) -> Arc<OwnedFd> {
        let new = || eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        let new = || new().expect("a test has descriptors");
        Arc::clone(self.sleep.event.get_or_init(|| Arc::new(new())))
    }

    fn set_signals(&mut self, on: bool) {
        if on && let Some(socket) = self.sleep.connects_before_signals.take() {
            self.connect(socket);
        }
        self.sleep.has_signals = on;
    }

    /// Moves the clock to the deadline, if nothing else ends the sleep before.
    fn wait(&mut self) -> io::Result<()> {
        self.sleep.waits += 1;
        if self.sleep.is_lost {
            return Err(io::Error::from_raw_os_error(libc::EBADFD));
        }
        let signal = self.signal();
        let mut fds = [PollFd::new(&signal, PollFlags::IN)];
        let is_signalled = poll(&mut fds, Some(&rustix::time::Timespec::default()))? > 0;
        if is_signalled || !self.arrived.is_empty() {
            return Ok(());
        }
        match self.deadline {
            Some(deadline) => self.now = deadline.max(self.now),
            None => _ = poll(&mut fds, None)?,
        }
        Ok(())
    }

    fn dedicate(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn enters(&self) -> u64 {
        self.polls + self.sleep.waits as u64
    }

    fn is_io_uring(&self) -> bool {
        false
    }
}
