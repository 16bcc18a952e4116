//! Errors of setting up a driver, with the cure.

use super::refusal::Refuser;
use rustix::process::{Resource, getrlimit};
use std::io;
use thiserror::Error;

/// The reason why there is no ring, with the cure.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// ENOSYS, EPERM, EACCES, EOPNOTSUPP.
    #[error("io_uring is disabled ({0}): {1}")]
    Forbidden(io::Error, Refuser),
    /// EINVAL for the flags.
    #[error("io_uring of this kernel is too old ({0}): Linux 6.1 or later is needed")]
    TooOld(io::Error),
    /// The probe does not name an operation.
    #[error("io_uring of this kernel lacks {0}: Linux 6.1 or later is needed")]
    Lacks(&'static str),
    /// ENOMEM.
    #[error(
        "no memory for io_uring ({0}): each worker locks about {LOCKED_KIB_PER_WORKER} KiB, and the \
         limit of this user is {limit}: raise the limit of locked memory (ulimit -l, LimitMEMLOCK= \
         in systemd), use fewer workers, or epoll, which locks none",
        limit = locked_limit()
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
    /// epoll, of which every kernel has enough.
    #[error("epoll cannot be set up: {}", shown(.0))]
    Epoll(io::Error),
}

/// The side on which setting up a driver fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedBy {
    Kernel,
    Policy,
    Version,
    Memory,
    Descriptors,
    Other,
}

impl StartError {
    /// Whether it may be otherwise soon: the locked memory of a process that was killed counts until
    /// the kernel has taken its rings down.
    pub(crate) fn may_pass(&self) -> bool {
        self.is_no_memory()
    }

    /// Whether the kernel has no io_uring for us, whatever there is of memory and descriptors: it is
    /// absent, forbidden, or too old.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Forbidden(..) | Self::TooOld(_) | Self::Lacks(_))
    }

    /// The side on which it fails.
    pub(crate) fn refused_by(&self) -> RefusedBy {
        match self {
            Self::Forbidden(_, Refuser::Absent) => RefusedBy::Kernel,
            Self::Forbidden(..) => RefusedBy::Policy,
            Self::TooOld(_) | Self::Lacks(_) => RefusedBy::Version,
            Self::NoMemory(_) => RefusedBy::Memory,
            Self::NoDescriptors(_) => RefusedBy::Descriptors,
            Self::Epoll(error)
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) =>
            {
                RefusedBy::Descriptors
            }
            Self::Other(_) | Self::Epoll(_) => RefusedBy::Other,
        }
    }

    /// The name of what refuses io_uring, in the JSON of `picows doctor`.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Forbidden(_, refuser) => refuser.name(),
            Self::TooOld(_) | Self::Lacks(_) => "too-old",
            Self::NoMemory(_) => "memory",
            Self::NoDescriptors(_) => "descriptors",
            Self::Other(_) | Self::Epoll(_) => "other",
        }
    }

    /// Whether there is too little memory that may be locked.
    pub(crate) fn is_no_memory(&self) -> bool {
        matches!(self, Self::NoMemory(_))
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno @ (libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EOPNOTSUPP)) => {
                Self::Forbidden(error, Refuser::of_this_process(errno))
            }
            Some(libc::EINVAL) => Self::TooOld(error),
            Some(libc::ENOMEM) => Self::NoMemory(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors(error),
            _ => Self::Other(error),
        }
    }
}

/// The soft limit of locked memory.
fn locked_limit() -> String {
    match getrlimit(Resource::Memlock).current {
        Some(bytes) => format!("{} KiB", bytes / 1024),
        None => "none, so the memory of the machine or of its control group is short".to_owned(),
    }
}

/// Locked memory of a hosted worker: both queues of its ring, its descriptions of buffers, and the
/// small ring of its loop.
pub(crate) const LOCKED_KIB_PER_WORKER: u64 = 220;

fn shown(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => format!(
            "no descriptor left ({error}): raise the limit of open files (ulimit -n, LimitNOFILE= in \
             systemd)"
        ),
        _ => error.to_string(),
    }
}
