//! Setting the ring up, and saying what is wrong and what helps when it cannot be.

use super::{Buffers, KernelRing, Sends};
use io_uring::{IoUring, types};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;

/// Why there is no ring, with the cure.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// ENOSYS, EPERM.
    #[error(
        "io_uring is disabled ({0}): set the sysctl kernel.io_uring_disabled=0, or allow io_uring \
         in the seccomp profile of the container (Docker and Podman forbid it by default)"
    )]
    Forbidden(io::Error),
    /// EINVAL for the flags.
    #[error("io_uring of this kernel is too old ({0}): Linux 6.1 or later is needed")]
    TooOld(io::Error),
    /// ENOMEM.
    #[error(
        "no memory for io_uring ({0}): raise the limit of locked memory (ulimit -l, LimitMEMLOCK= \
         in systemd), or use fewer workers"
    )]
    NoMemory(io::Error),
    /// EMFILE, ENFILE.
    #[error(
        "no descriptor left for io_uring ({0}): raise the limit of open files (ulimit -n, \
         LimitNOFILE= in systemd)"
    )]
    NoDescriptors(io::Error),
    /// Anything else.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => Self::Forbidden(error),
            Some(libc::EINVAL) => Self::TooOld(error),
            Some(libc::ENOMEM) => Self::NoMemory(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors(error),
            _ => Self::Other(error),
        }
    }
}

/// How the owner of a ring learns of completions while it does not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A loop watches the eventfd, which the kernel signals.
    Hosted,
    /// The owner sleeps in the ring, and the ring watches the eventfd.
    Dedicated,
}

/// Sets up a ring whose only user is this thread.
pub(super) fn start(waiting: Waiting) -> Result<KernelRing, StartError> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)?;
    let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|errno| StartError::from(io::Error::from(errno)))?;
    if waiting == Waiting::Hosted {
        ring.submitter().register_eventfd(event.as_raw_fd())?;
    }
    let buffers = Buffers::register(&ring)?;
    Ok(KernelRing {
        ring,
        buffers,
        sends: Sends::default(),
        backlog: VecDeque::new(),
        event: Arc::new(event),
        timespec: Box::new(types::Timespec::new()),
        deadline: None,
        origin: Instant::now(),
        in_flight: 0,
        is_event_watched: false,
        enters: 0,
        abandoned: Vec::new(),
    })
}

/// Entries of the submission queue: as many operations leave with one call.
const SUBMISSIONS: u32 = 1024;
/// Entries of the completion queue: much larger, as one multishot operation makes many.
const COMPLETIONS: u32 = 8 * SUBMISSIONS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_names_its_cure() {
        let text = |errno| StartError::from(io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::EPERM).contains("kernel.io_uring_disabled=0"));
        assert!(text(libc::ENOSYS).contains("seccomp"));
        assert!(text(libc::EINVAL).contains("Linux 6.1"));
        assert!(text(libc::ENOMEM).contains("ulimit -l"));
        assert!(text(libc::EMFILE).contains("ulimit -n"));
        assert!(text(libc::EIO).contains("cannot be set up"));
    }
}
