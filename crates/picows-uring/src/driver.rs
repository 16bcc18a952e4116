//! Choice of the driver: io_uring where the kernel allows it, else epoll.
//!
//! Decided once for all workers of a process, by building a whole ring. What is only short, such as
//! memory or descriptors, is an error and no reason for another driver.

use crate::error::Error;
use crate::foreign::log;
use crate::patience::patiently;
use crate::ring::epoll::EpollRing;
use crate::ring::uring::UringRing;
use crate::ring::{StartError, WaitMode};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// The interface by which workers talk to the kernel.
///
/// [`Auto`](Self::Auto) takes io_uring (Linux 6.1 or later) where it can be had. Where it is absent,
/// too old, or forbidden, as by the seccomp profiles of Docker and Kubernetes or by the sysctl
/// `kernel.io_uring_disabled`, it takes epoll (epoll(7)) and logs one warning that names the cause
/// and the cure. The choice is made once for all servers and runtimes of a process that say
/// [`Auto`](Self::Auto). A lack of memory or descriptors is an error with either.
///
/// ```
/// use picows_uring::Driver;
///
/// assert_eq!("io-uring".parse(), Ok(Driver::IoUring));
/// assert_eq!(Driver::Epoll.to_string(), "epoll");
/// assert!("iocp".parse::<Driver>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Driver {
    /// io_uring, or else epoll.
    #[default]
    Auto,
    /// io_uring; where it cannot be had, the start is an error.
    IoUring,
    /// epoll. No call of io_uring is made at all.
    Epoll,
}

impl Driver {
    /// All of them, as they are written.
    const NAMES: [(Self, &str); 3] =
        [(Self::Auto, "auto"), (Self::IoUring, "io-uring"), (Self::Epoll, "epoll")];

    /// The name, as [`FromStr`] takes it: `auto`, `io-uring` or `epoll`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io-uring",
            Self::Epoll => "epoll",
        }
    }

    /// The driver that the environment variable [`DRIVER_VARIABLE`] names; `Auto` without it.
    pub(crate) fn from_environment() -> Result<Self, Error> {
        let Some(value) = std::env::var_os(DRIVER_VARIABLE) else { return Ok(Self::Auto) };
        let text = value.to_string_lossy();
        text.parse().map_err(|fault: UnknownDriver| Error::Config {
            setting: "driver",
            fault: format!("{DRIVER_VARIABLE}={fault}"),
        })
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(driver, _)| *driver).ok_or_else(|| UnknownDriver(text.to_owned()))
    }
}

/// A text that is the name of no [`Driver`].
///
/// ```
/// let error = "kqueue".parse::<picows_uring::Driver>().unwrap_err();
/// assert_eq!(error.to_string(), "\"kqueue\" is no driver: use auto, io-uring or epoll");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDriver(String);

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = crate::error::shown(&self.0);
        write!(f, "{} is no driver: use auto, io-uring or epoll", given.quoted())
    }
}

impl std::error::Error for UnknownDriver {}

/// A ring of either driver.
#[expect(clippy::large_enum_variant, reason = "taken apart where it is made")]
pub(crate) enum AnyRing {
    IoUring(Driven<UringRing>),
    Epoll(Driven<EpollRing>),
}

/// The ring of a worker; in unit tests, with the contract around it.
#[cfg(not(test))]
pub(crate) type Driven<R> = R;
#[cfg(test)]
pub(crate) type Driven<R> = crate::testing::ring::checked::Checked<R>;

#[cfg(not(test))]
fn driven<R>(ring: R) -> R {
    ring
}

#[cfg(test)]
fn driven<R: crate::ring::Ring>(ring: R) -> Driven<R> {
    let mut ring = Driven::new(ring);
    ring.allow_adopting();
    ring
}

impl AnyRing {
    /// Sets up a ring for this thread with the driver that is wanted.
    pub(crate) fn open(wanted: Driver, mode: WaitMode) -> Result<Self, StartError> {
        match wanted {
            Driver::IoUring => uring(mode),
            Driver::Epoll => epoll(),
            Driver::Auto => Self::choose(mode),
        }
    }

    /// The first call decides for all others of the process.
    fn choose(mode: WaitMode) -> Result<Self, StartError> {
        static CHOSEN: Mutex<Option<Driver>> = Mutex::new(None);
        let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
        match *chosen {
            Some(Driver::Epoll) => return epoll(),
            Some(_) => {
                // The others need not wait for this one.
                drop(chosen);
                return uring(mode);
            }
            None => {}
        }
        match uring(mode) {
            Ok(ring) => {
                *chosen = Some(Driver::IoUring);
                Ok(ring)
            }
            Err(error) if error.is_unavailable() => {
                let ring = epoll()?;
                *chosen = Some(Driver::Epoll);
                drop(chosen);
                log::warn!(
                    %error,
                    "io_uring cannot be used, and epoll is instead: round trips of lone messages cost \
                     more system calls; --driver epoll, PICOWS_DRIVER=epoll or Driver::Epoll ask for it \
                     without this warning"
                );
                Ok(ring)
            }
            Err(error) => Err(error),
        }
    }

    /// Which one it is.
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Self::IoUring(_) => Driver::IoUring,
            Self::Epoll(_) => Driver::Epoll,
        }
    }

    /// Whether it is one of io_uring that can do only what the data path does.
    pub(crate) fn is_restricted(&self) -> bool {
        matches!(self, Self::IoUring(ring) if ring.is_restricted())
    }
}

fn uring(mode: WaitMode) -> Result<AnyRing, StartError> {
    patiently(StartError::may_pass, || UringRing::new(mode)).map(driven).map(AnyRing::IoUring)
}

fn epoll() -> Result<AnyRing, StartError> {
    EpollRing::new().map(driven).map(AnyRing::Epoll)
}

/// Names the driver of servers and runtimes that do not name one themselves.
pub const DRIVER_VARIABLE: &str = "PICOWS_DRIVER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (driver, name) in Driver::NAMES {
            assert_eq!((driver.to_string().as_str(), name.parse()), (name, Ok(driver)));
        }
        for text in ["", "Epoll", "io_uring", "iouring", " epoll", "\x1b[2Jx"] {
            let fault = text.parse::<Driver>().unwrap_err().to_string();
            assert!(fault.ends_with("is no driver: use auto, io-uring or epoll"), "{fault}");
            assert!(!fault.contains('\x1b'), "it is escaped");
        }
    }

    #[test]
    fn a_driver_that_is_asked_for_is_the_one_that_is_opened() {
        for driver in [Driver::IoUring, Driver::Epoll] {
            let ring = AnyRing::open(driver, WaitMode::Hosted).unwrap_or_else(|it| panic!("{it}"));
            assert_eq!(ring.driver(), driver);
        }
    }
}
