//! Choice of the loop that hosts a worker: tokio-uring's or tokio's own.
//!
//! Decided for each worker once its ring is there. Makes no loop; `hosted.rs` does.

use crate::error::Error;
use crate::ring::Wait;
use std::fmt;
use std::str::FromStr;

/// The loop in which a hosted worker runs beside tasks.
///
/// Both are current-thread loops of tokio: tasks, timers, sockets and files of tokio run in either.
/// tokio-uring's has an io_uring ring of its own beside that, for the files and sockets of
/// tokio-uring. It enters that ring each time it sleeps, which is one system call of four for a lone
/// message; an application that uses nothing of tokio-uring can do without.
///
/// ```
/// use picows_uring::EventLoop;
///
/// assert_eq!("tokio".parse(), Ok(EventLoop::Tokio));
/// assert_eq!(EventLoop::TokioUring.to_string(), "tokio-uring");
/// assert!("libuv".parse::<EventLoop>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventLoop {
    /// tokio-uring's with [`Driver::IoUring`](crate::Driver::IoUring), tokio's own with
    /// [`Driver::Epoll`](crate::Driver::Epoll).
    #[default]
    Auto,
    /// tokio-uring's. With the driver epoll, which makes no call of io_uring, the start is an error.
    TokioUring,
    /// tokio's own, whatever the driver.
    Tokio,
}

/// The loop of a worker, as it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopKind {
    /// tokio-uring's: tokio's, with an io_uring ring of its own beside it.
    TokioUring,
    /// tokio's current-thread loop alone: no call of io_uring is made.
    Tokio,
}

impl LoopKind {
    /// The usual loop for a worker on `ring`.
    pub(crate) fn of(ring: &impl Wait) -> Self {
        if ring.is_io_uring() { Self::TokioUring } else { Self::Tokio }
    }
}

impl EventLoop {
    /// All of them, as they are written.
    const NAMES: [(Self, &str); 3] =
        [(Self::Auto, "auto"), (Self::TokioUring, "tokio-uring"), (Self::Tokio, "tokio")];

    /// The name, as [`FromStr`] takes it: `auto`, `tokio-uring` or `tokio`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::TokioUring => "tokio-uring",
            Self::Tokio => "tokio",
        }
    }

    /// The loop for a worker on `ring`.
    ///
    /// # Errors
    ///
    /// When it has a ring of io_uring, and the driver is another.
    pub(crate) fn kind_for(self, ring: &impl Wait) -> Result<LoopKind, Error> {
        match (self, LoopKind::of(ring)) {
            (Self::Auto, usual) => Ok(usual),
            (Self::Tokio, _) => Ok(LoopKind::Tokio),
            (Self::TokioUring, LoopKind::TokioUring) => Ok(LoopKind::TokioUring),
            (Self::TokioUring, LoopKind::Tokio) => Err(Error::Config {
                setting: "event_loop",
                fault:
                    "tokio-uring has a ring of io_uring, and the driver is epoll: use auto or tokio"
                        .to_owned(),
            }),
        }
    }
}

impl fmt::Display for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for EventLoop {
    type Err = UnknownEventLoop;

    fn from_str(text: &str) -> Result<Self, UnknownEventLoop> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(event_loop, _)| *event_loop).ok_or_else(|| UnknownEventLoop(text.to_owned()))
    }
}

/// A text that is the name of no [`EventLoop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEventLoop(String);

impl fmt::Display for UnknownEventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = crate::error::shown(&self.0);
        write!(f, "{} is no loop: use auto, tokio-uring or tokio", given.quoted())
    }
}

impl std::error::Error for UnknownEventLoop {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::WaitMode;
    use crate::ring::epoll::EpollRing;
    use crate::ring::uring::UringRing;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (event_loop, name) in EventLoop::NAMES {
            assert_eq!((event_loop.to_string().as_str(), name.parse()), (name, Ok(event_loop)));
        }
        for text in ["", "Tokio", "tokio_uring", " tokio", "\x1b[2Jx"] {
            let fault = text.parse::<EventLoop>().unwrap_err().to_string();
            assert!(fault.ends_with("is no loop: use auto, tokio-uring or tokio"), "{fault}");
            assert!(!fault.contains('\x1b'), "it is escaped");
        }
    }

    #[test]
    fn the_driver_decides_unless_the_setting_does() {
        let ring = UringRing::new(WaitMode::Hosted).unwrap();
        let kinds = EventLoop::NAMES.map(|(event_loop, _)| event_loop.kind_for(&ring).unwrap());
        assert_eq!(kinds, [LoopKind::TokioUring, LoopKind::TokioUring, LoopKind::Tokio]);
        let ring = EpollRing::new().unwrap();
        let kind = |event_loop: EventLoop| event_loop.kind_for(&ring);
        assert_eq!(kind(EventLoop::Auto).unwrap(), LoopKind::Tokio);
        assert_eq!(kind(EventLoop::Tokio).unwrap(), LoopKind::Tokio);
        let fault = kind(EventLoop::TokioUring).unwrap_err().to_string();
        assert!(fault.starts_with("event_loop: tokio-uring has a ring of io_uring"), "{fault}");
    }
}
