//! Why a driver cannot be set up, with the cure.

use std::io;
use thiserror::Error;

/// Why there is no ring, with the cure.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// ENOSYS, EPERM.
    #[error(
        "io_uring is disabled ({0}): set the sysctl kernel.io_uring_disabled=0, or allow io_uring \
         (io_uring_setup, io_uring_enter, io_uring_register) in the seccomp profile of the container \
         (Docker and Podman forbid it by default)"
    )]
    Forbidden(io::Error),
    /// EINVAL for the flags.
    #[error("io_uring of this kernel is too old ({0}): Linux 6.1 or later is needed")]
    TooOld(io::Error),
    /// The probe does not name an operation.
    #[error("io_uring of this kernel lacks {0}: Linux 6.1 or later is needed")]
    Lacks(&'static str),
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
    /// epoll, of which every kernel has enough.
    #[error("epoll cannot be set up: {}", shown(.0))]
    Epoll(io::Error),
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
        matches!(self, Self::Forbidden(_) | Self::TooOld(_) | Self::Lacks(_))
    }

    /// Whether there is too little memory that may be locked.
    pub(crate) fn is_no_memory(&self) -> bool {
        matches!(self, Self::NoMemory(_))
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => Self::Forbidden(error),
            Some(libc::EINVAL | libc::EOPNOTSUPP) => Self::TooOld(error),
            Some(libc::ENOMEM) => Self::NoMemory(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptors(error),
            _ => Self::Other(error),
        }
    }
}

fn shown(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => format!(
            "no descriptor left ({error}): raise the limit of open files (ulimit -n, LimitNOFILE= in \
             systemd)"
        ),
        _ => error.to_string(),
    }
}
