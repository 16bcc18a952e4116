//! Sleep of a dedicated worker in its ring: gathering completions, and polling network devices.
//!
//! Settings of the kernel's wait alone; when to sleep is the host's.

use super::start::ENTER_GETEVENTS;
use super::{TASK_WORK_PER_ENTER, Uring, UringRing};
use crate::ring::{SleepOptions, Unsupported};
use io_uring::types;
use std::io;
use std::time::Duration;

/// The argument of a call that waits: `struct io_uring_getevents_arg` of linux/io_uring.h.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct WaitArgument {
    sigmask: u64,
    sigmask_bytes: u32,
    min_wait_micros: u32,
    /// A pointer to the timeout.
    timeout: u64,
}

impl WaitArgument {
    /// Gathers completions for `min_wait`; `None` for a wait that ends with the first.
    fn gathering(min_wait: Duration) -> Option<Box<Self>> {
        let min_wait_micros = micros(min_wait);
        let timeout = (&raw const TIMEOUT) as u64;
        let argument = Self { min_wait_micros, timeout, ..Self::default() };
        (min_wait_micros > 0).then(|| Box::new(argument))
    }
}

impl UringRing {
    /// Sets how the ring is waited for.
    pub(super) fn sleep_by(&mut self, options: SleepOptions) -> Result<(), Unsupported> {
        let SleepOptions { min_wait, napi_busy_poll } = options;
        self.gathering = WaitArgument::gathering(min_wait);
        if self.gathering.is_some() && !self.ring.params().is_feature_min_timeout() {
            let fault =
                "the kernel cannot gather completions, as Linux 6.12 and later can: leave it out";
            return Err(Unsupported { setting: "min_wait", fault: fault.to_owned() });
        }
        if !napi_busy_poll.is_zero() {
            poll_devices(&self.ring, napi_busy_poll).map_err(|error| Unsupported {
                setting: "napi_busy_poll",
                fault: format!(
                    "the kernel does not poll network devices for a ring, as Linux 6.9 and later can \
                     ({error}): leave it out"
                ),
            })?;
        }
        Ok(())
    }

    /// Hands over what is queued and sleeps: until there are completions enough for one call, or after the
    /// time for which they are gathered until there is one.
    pub(super) fn enter_gathering(&mut self) -> io::Result<()> {
        self.buffers.reclaim();
        self.push_backlog();
        let mut submission = self.ring.submission();
        let queued = submission.len();
        submission.sync();
        drop(submission);
        let flags = self.enter_flags | ENTER_EXT_ARG;
        self.enters += 1;
        // SAFETY: the argument is of the kernel's layout and outlives the call; it points to a static.
        #[expect(unsafe_code)]
        let entered = unsafe {
            let argument = self.gathering.as_deref();
            self.ring.submitter().enter(queued as u32, TASK_WORK_PER_ENTER as u32, flags, argument)
        };
        match entered {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            entered => Self::entered(entered),
        }
    }
}

/// Has the kernel poll the network devices of the ring's sockets before it sleeps.
pub(super) fn poll_devices(ring: &Uring, duration: Duration) -> io::Result<()> {
    let napi = types::Napi::new().set_busy_poll_timeout(micros(duration));
    ring.submitter().register_napi(&mut napi.set_prefer_busy_poll(true))
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// The end of a wait without completions. Without a timeout the kernel ends one at the end of the least
/// time, and an idle worker would wake up again and again.
static TIMEOUT: types::Timespec = types::Timespec::new().sec(3600);

/// `IORING_ENTER_EXT_ARG` of linux/io_uring.h (Linux 5.11).
const ENTER_EXT_ARG: u32 = 1 << 3;
const _: () = assert!(ENTER_EXT_ARG & ENTER_GETEVENTS == 0);
const _: () = assert!(size_of::<WaitArgument>() == 24);

#[cfg(test)]
mod tests;
