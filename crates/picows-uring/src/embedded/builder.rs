//! Settings of an embedded worker.

use super::Embedded;
use crate::client::Intake;
use crate::config::Config;
use crate::driver::{AnyRing, Driver};
use crate::error::Error;
use crate::foreign::StateCell;
use crate::health::Counters;
use crate::host::{self, EmbeddedHost, WorkHook};
use crate::local::{HostKind, Hosting, Local};
use crate::mailbox::Mailbox;
use crate::memory::MemoryBudget;
use crate::ring::{Outside, Ring, StartError, Wait, WaitMode};
use crate::worker::Worker;
use rustix::fd::OwnedFd;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Settings of an [`Embedded`] worker.
///
/// ```
/// use picows_uring::{Driver, Embedded, Turned};
/// use std::time::Duration;
///
/// let builder = Embedded::builder().driver(Driver::Epoll).turns_max(4);
/// let worker = builder.drain_timeout(Duration::from_secs(3)).build()?;
/// assert_eq!((worker.driver(), worker.turn()?), (Driver::Epoll, Turned::Idle));
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "there is no worker before `build`"]
pub struct EmbeddedBuilder {
    turns_max: u32,
    driver: Option<Driver>,
    drain_timeout: Duration,
    drain_spread: Duration,
    slow_callback: Duration,
    memory_release: Duration,
    /// `None` for the one of the process.
    memory_limit: Option<Option<usize>>,
}

impl Default for EmbeddedBuilder {
    fn default() -> Self {
        let Config { slow_callback, memory_release, .. } = Config::default();
        Self {
            turns_max: TURNS_MAX,
            driver: None,
            drain_timeout: DRAIN_TIMEOUT,
            drain_spread: Duration::ZERO,
            slow_callback,
            memory_release,
            memory_limit: None,
        }
    }
}

impl EmbeddedBuilder {
    /// How many turns of the worker one call of [`Embedded::turn`] takes while there is more to do: 1 or
    /// more. The fewer, the sooner the loop gets back to its other business. Default: 16.
    pub fn turns_max(mut self, turns: u32) -> Self {
        self.turns_max = turns;
        self
    }

    /// What the worker talks to the kernel with; see
    /// [`ServerBuilder::driver`](crate::ServerBuilder::driver).
    pub fn driver(mut self, driver: Driver) -> Self {
        self.driver = Some(driver);
        self
    }

    /// How long connections have for their close handshake once the worker is
    /// [stopped](Embedded::stopper). Default: 1 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Over which part of the drain timeout the CLOSE 1001 of a stop is spread, at most half of it; see
    /// [`ServerBuilder::drain_spread`](crate::ServerBuilder::drain_spread). Default: zero, all at once.
    pub fn drain_spread(mut self, spread: Duration) -> Self {
        self.drain_spread = spread;
        self
    }

    /// How long a callback may block the thread before the log names it; see
    /// [`ServerBuilder::slow_callback`](crate::ServerBuilder::slow_callback). Default: 100 ms.
    pub fn slow_callback(mut self, limit: Duration) -> Self {
        self.slow_callback = limit;
        self
    }

    /// How long the worker keeps memory that is not needed; see
    /// [`ServerBuilder::release_memory_after`](crate::ServerBuilder::release_memory_after). Default:
    /// 10 s.
    pub fn release_memory_after(mut self, duration: Duration) -> Self {
        self.memory_release = duration;
        self
    }

    /// Bytes of memory that the connections of this worker may hold together; see
    /// [`ServerBuilder::memory_limit`](crate::ServerBuilder::memory_limit).
    pub fn memory_limit(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.memory_limit = Some(bytes.into());
        self
    }

    /// Makes the worker, on this thread.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, the driver cannot be set up, or a worker runs on this thread
    /// already ([`Error::SecondWorker`]). The text names the cause and the cure.
    pub fn build(self) -> Result<Embedded, Error> {
        host::refuse_second_worker()?;
        let config = Arc::new(self.config()?);
        let driver = self.driver.map_or_else(Driver::from_environment, Ok)?;
        let failed = |it: StartError| Error::from(it);
        let ring = AnyRing::open(driver, WaitMode::Hosted).map_err(failed)?;
        let counters = Arc::<Counters>::default();
        counters.set_driver(ring.driver(), ring.is_restricted());
        let parts = match ring {
            AnyRing::IoUring(ring) => Parts::of(ring, config, counters),
            AnyRing::Epoll(ring) => Parts::of(ring, config, counters),
        };
        let Parts { host, local, intake, hook, descriptor } =
            parts.map_err(|error| failed(StartError::Epoll(error)))?;
        let hosting = Hosting::begin(&local, HostKind::Embedded).ok_or(Error::SecondWorker)?;
        Ok(Embedded {
            host: StateCell::new(Some(host)),
            failure: StateCell::default(),
            local,
            intake,
            hook,
            descriptor,
            turns_max: self.turns_max,
            drain_timeout: self.drain_timeout,
            _hosting: hosting,
        })
    }

    /// What the worker is to know; its connections have settings of their own.
    fn config(&self) -> Result<Config, Error> {
        let wrong = |setting, fault: String| Err(Error::Config { setting, fault });
        if self.turns_max == 0 {
            return wrong("turns_max", "0 turns serve no connection: use 1 or more".into());
        }
        if self.drain_spread > self.drain_timeout / 2 {
            let (spread, drain) = (self.drain_spread, self.drain_timeout);
            let fault = format!(
                "{spread:?} is more than half of the drain timeout of {drain:?}: use {:?} or less",
                drain / 2
            );
            return wrong("drain_spread", fault);
        }
        let mut config = Config {
            drain_spread: Some(self.drain_spread),
            slow_callback: self.slow_callback,
            memory_release: self.memory_release,
            ..Config::default()
        };
        if let Some(limit) = self.memory_limit {
            config.memory = MemoryBudget::new(limit);
        }
        config.check()?;
        Ok(config)
    }
}

/// A worker, taken apart by who uses what of it.
struct Parts {
    host: Box<dyn EmbeddedHost>,
    local: Rc<Local>,
    intake: Rc<Intake>,
    hook: Rc<WorkHook>,
    descriptor: Arc<OwnedFd>,
}

impl Parts {
    fn of<R: Ring + Wait + 'static>(
        ring: R,
        config: Arc<Config>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new(ring.signal()));
        let hook = WorkHook::new(Arc::clone(&mailbox));
        let local = Local::new(config, counters, mailbox);
        let ring = Outside::new(ring);
        let _ = local.streams.set(Rc::clone(ring.streams()));
        let descriptor = ring.descriptor();
        let worker = Worker::new(ring, Rc::clone(&local));
        let intake = Rc::clone(worker.intake());
        let host = host::embed(worker, Rc::clone(&hook));
        Ok(Self { host, local, intake, hook, descriptor })
    }
}

/// A millisecond or two of turns that are full.
const TURNS_MAX: u32 = 16;
/// As that of a loop for clients.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
