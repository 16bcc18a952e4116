//! Trial of what a server needs of this machine: for `picows doctor`.
//!
//! Starts no worker and listens nowhere. Hidden: names and fields change without notice.

use crate::driver::{AnyRing, Driver};
use crate::error::Error;
use crate::host::{Loop, LoopKind};
use crate::patience::patiently;
use crate::ring::uring::Features;
use crate::ring::{StartError, WaitMode};

pub use crate::driver::DRIVER_VARIABLE;
pub use crate::memory::MemoryBounds;
pub use crate::server::BACKLOG;

/// Locked memory of a hosted worker on io_uring, in KiB.
pub const LOCKED_KIB_PER_WORKER: u64 = crate::ring::LOCKED_KIB_PER_WORKER;
/// Descriptors of a hosted worker: its ring or set, its eventfd, and those of its loop.
pub const DESCRIPTORS_PER_WORKER: u64 = 6;

/// The outcome of setting up drivers as workers do.
#[derive(Debug)]
pub struct Preflight {
    /// The driver that was asked for.
    pub asked: Driver,
    /// The driver of the workers, or why there would be none.
    pub driver: Result<Driver, Refusal>,
    /// Why io_uring cannot be used, where it was tried and `driver` is epoll.
    pub fallback: Option<Refusal>,
    /// Whether the rings can do only what the data path does; `None` where there is none.
    pub is_restricted: Option<bool>,
    /// Optional features of io_uring, by name; none where there is no ring. `None` is unknown.
    pub features: Vec<(&'static str, Option<bool>)>,
    /// So many workers would start: fewer than were tried where memory for rings is short.
    pub workers: usize,
}

/// The reason why a driver cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What refuses: `switch`, `filter`, `module`, `absent`, `too-old`, `memory`, `descriptors` or
    /// `other`.
    pub cause: &'static str,
    /// The cause and its cure, as a start of a server reports them.
    pub text: String,
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        Self { cause: error.cause(), text: error.to_string() }
    }
}

/// Sets up what a worker needs on `driver`, and takes it down again: for a program that wants to know
/// before it starts, in the place it runs in. Returns the driver that a worker would have, which is
/// [`Driver::Epoll`] for [`Driver::Auto`] where io_uring cannot be used. Nothing is decided by it for the
/// process.
///
/// ```
/// use picows_uring::{Driver, Error, RingFault, probe};
///
/// match probe(Driver::IoUring) {
///     Ok(_) => println!("io_uring it is"),
///     Err(Error::Ring(error)) if error.fault() == RingFault::Forbidden => println!("{error}"),
///     Err(error) => println!("no io_uring: {error}"),
/// }
/// ```
///
/// # Errors
///
/// [`Error::Ring`], which says why it cannot be set up.
pub fn probe(driver: Driver) -> Result<Driver, Error> {
    let wanted = if driver == Driver::Epoll { Driver::Epoll } else { Driver::IoUring };
    match set_up_one(wanted) {
        Ok(_) => Ok(wanted),
        Err(error) if driver == Driver::Auto && error.is_unavailable() => {
            set_up_one(Driver::Epoll)?;
            Ok(Driver::Epoll)
        }
        Err(error) => Err(error.into()),
    }
}

/// The driver that is asked for: `given`, or else that of the environment, or else `Auto`.
///
/// # Errors
///
/// When the environment names none.
pub fn asked(given: Option<Driver>) -> Result<Driver, Error> {
    given.map_or_else(Driver::from_environment, Ok)
}

/// Sets up the rings and loops of `workers` hosted workers, all at once, and takes them down again.
///
/// The choice of [`Driver::Auto`] is made as for a server, without deciding for this process. With
/// [`Driver::Epoll`] no call of io_uring is made.
pub fn try_out(asked: Driver, workers: usize) -> Preflight {
    let wanted = if asked == Driver::Epoll { Driver::Epoll } else { Driver::IoUring };
    let (mut driver, mut ready) = (wanted, set_up(wanted, workers));
    let mut fallback = None;
    if let Err(error) = &ready
        && asked == Driver::Auto
        && error.is_unavailable()
    {
        fallback = ready.err().map(Refusal::from);
        (driver, ready) = (Driver::Epoll, set_up(Driver::Epoll, workers));
    }
    let is_restricted = match &ready {
        Ok(ready) if driver == Driver::IoUring => Some(ready[0].0.is_restricted()),
        _ => None,
    };
    let (driver, features, workers) = match ready {
        Ok(ready) => {
            let fit = ready.len();
            let count = if fit < workers { crate::server::left_of(fit) } else { fit };
            (Ok(driver), features_of(&ready[0].0), count)
        }
        Err(error) => (Err(Refusal::from(error)), Vec::new(), 0),
    };
    Preflight { asked, driver, fallback, is_restricted, features, workers }
}

/// What so many workers need, or as many of them as there is memory for: one or more.
fn set_up(driver: Driver, workers: usize) -> Result<Vec<(AnyRing, Loop)>, StartError> {
    let mut ready = vec![set_up_one(driver)?];
    while ready.len() < workers {
        match set_up_one(driver) {
            Ok(one) => ready.push(one),
            Err(error) if error.is_no_memory() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(ready)
}

fn set_up_one(driver: Driver) -> Result<(AnyRing, Loop), StartError> {
    let ring = AnyRing::open(driver, WaitMode::Hosted)?;
    let kind = match &ring {
        AnyRing::IoUring(ring) => LoopKind::of(ring),
        AnyRing::Epoll(ring) => LoopKind::of(ring),
    };
    let event_loop = patiently(StartError::may_pass, || Loop::new(kind))?;
    Ok((ring, event_loop))
}

fn features_of(ring: &AnyRing) -> Vec<(&'static str, Option<bool>)> {
    let AnyRing::IoUring(ring) = ring else { return Vec::new() };
    let Features { incremental_buffers, napi, min_wait, no_iowait, restrictions } = ring.features();
    vec![
        ("incremental_buffers", incremental_buffers),
        ("min_wait", min_wait),
        ("napi", napi),
        ("no_iowait", no_iowait),
        ("restrictions", restrictions),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_is_what_is_asked_for() {
        for driver in [Driver::IoUring, Driver::Epoll] {
            let tried = try_out(driver, 2);
            assert_eq!((tried.asked, tried.driver, tried.workers), (driver, Ok(driver), 2));
            assert_eq!(tried.fallback, None);
            assert_eq!(tried.features.is_empty(), driver == Driver::Epoll);
            assert_eq!(tried.is_restricted, (driver == Driver::IoUring).then_some(true));
        }
        let tried = try_out(Driver::Auto, 1);
        assert_eq!((tried.driver, tried.fallback), (Ok(Driver::IoUring), None));
    }

    #[test]
    fn a_refusal_has_the_text_of_a_start() {
        let error = || StartError::from(std::io::Error::from_raw_os_error(libc::EINVAL));
        let refusal = Refusal::from(error());
        assert_eq!((refusal.cause, refusal.text), ("too-old", error().to_string()));
    }
}
