//! Failure to set up a driver: what it was, for programs, and its text with the cure.

use crate::ring::{RefusedBy, StartError};
use std::fmt;

/// The reason why io_uring, or epoll, could not be set up. Its text names the cause and the cure.
///
/// ```
/// use picows_uring::{Driver, EchoListener, Error, RingFault, Server, Upgrade};
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1).driver(Driver::IoUring);
/// match builder.start(|_| Upgrade::accept(EchoListener)) {
///     Ok(server) => drop(server.stop()?),
///     Err(Error::Ring(error)) if error.fault() == RingFault::Forbidden => println!("a sandbox: {error}"),
///     Err(error) => println!("{error}"),
/// }
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RingError {
    fault: RingFault,
    text: String,
}

/// The kind of a [`RingError`], which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RingFault {
    /// The kernel, or a sandbox in its place, has no io_uring.
    Absent,
    /// A sysctl, a seccomp filter or a security module forbids io_uring.
    Forbidden,
    /// The io_uring of this kernel lacks something: Linux 6.1 or later is needed.
    TooOld,
    /// The user may not lock enough memory.
    NoMemory,
    /// There is no descriptor left.
    NoDescriptors,
    /// Anything else.
    Other,
}

impl RingError {
    /// What it was.
    #[must_use]
    pub fn fault(&self) -> RingFault {
        self.fault
    }

    /// The same with a remark behind its text.
    pub(crate) fn with_remark(mut self, remark: fmt::Arguments<'_>) -> Self {
        self.text = format!("{}; {remark}", self.text);
        self
    }
}

impl From<&StartError> for RingError {
    fn from(error: &StartError) -> Self {
        let fault = match error.refused_by() {
            RefusedBy::Kernel => RingFault::Absent,
            RefusedBy::Policy => RingFault::Forbidden,
            RefusedBy::Version => RingFault::TooOld,
            RefusedBy::Memory => RingFault::NoMemory,
            RefusedBy::Descriptors => RingFault::NoDescriptors,
            RefusedBy::Other => RingFault::Other,
        };
        Self { fault, text: error.to_string() }
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.fault)
    }
}

impl std::error::Error for RingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_has_its_fault() {
        for (errno, fault) in [
            (libc::EINVAL, RingFault::TooOld),
            (libc::ENOMEM, RingFault::NoMemory),
            (libc::EMFILE, RingFault::NoDescriptors),
            (libc::ENFILE, RingFault::NoDescriptors),
            (libc::EIO, RingFault::Other),
        ] {
            let error =
                RingError::from(&StartError::from(std::io::Error::from_raw_os_error(errno)));
            assert_eq!(error.fault(), fault, "{error}");
        }
        // Whichever of the two it is here, depends on the filters of this process.
        for errno in [libc::EPERM, libc::ENOSYS] {
            let error =
                RingError::from(&StartError::from(std::io::Error::from_raw_os_error(errno)));
            assert!(matches!(error.fault(), RingFault::Absent | RingFault::Forbidden), "{error:?}");
        }
        let lacks = RingError::from(&StartError::Lacks("RECV_ZC"));
        assert_eq!(lacks.fault(), RingFault::TooOld);
        let with = lacks.clone().with_remark(format_args!("and {}", 1));
        assert_eq!(with.to_string(), format!("{lacks}; and 1"));
    }
}
