//! A loop for clients: tasks, and a worker for their connections, on the calling thread.
//!
//! Servers make loops of their own; a client program calls [`run`], or
//! [`Runtime::run_dedicated`] to leave the loop once it has connected.

use crate::command::Command;
use crate::config::Config;
use crate::driver::{AnyRing, Driven, Driver};
use crate::error::Error;
use crate::health::{Counters, Stats};
use crate::host::{self, BusyPoll, EventLoop, Loop};
use crate::local::Local;
use crate::mailbox::Mailbox;
use crate::memory::MemoryBudget;
use crate::patience::patiently;
use crate::ring::epoll::EpollRing;
use crate::ring::uring::UringRing;
use crate::ring::{Ring, StartError, Wait, WaitMode};
use crate::stopper::Stopper;
use crate::worker::Worker;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Runs `future` on a loop of this thread, in which connections can be made; any number of them.
/// When it ends, connections that are still open are closed with 1001.
///
/// # Errors
///
/// When io_uring is not there or forbidden, or a runtime runs on this thread already
/// ([`Error::InsideRuntime`]). The text names the cause and the cure.
///
/// ```no_run
/// use picows_uring::{Connect, EchoListener};
///
/// picows_uring::run(async {
///     let transport = Connect::new("ws://127.0.0.1:9001/").connect(EchoListener).await?;
///     transport.wait_disconnected().await?;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?
/// # ; Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run<F: Future>(future: F) -> Result<F::Output, Error> {
    Runtime::builder().build()?.block_on(future)
}

/// A loop on this thread, with a worker for client connections. It stays on the thread that built it.
///
/// [`run`] is the short way; this one has settings, and can leave the loop
/// ([`run_dedicated`](Self::run_dedicated)).
///
/// ```
/// use picows_uring::Runtime;
/// use std::time::Duration;
///
/// let runtime = Runtime::builder().busy_poll(Duration::from_micros(50)).build()?;
/// let answer = runtime.block_on(async { 6 * 7 })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), picows_uring::Error>(())
/// ```
pub struct Runtime {
    event_loop: Loop,
    worker: AnyWorker,
    local: Rc<Local>,
    busy_poll: BusyPoll,
    drain_timeout: Duration,
}

/// A worker on a ring of either driver.
#[expect(clippy::large_enum_variant, reason = "one for each runtime")]
enum AnyWorker {
    IoUring(Worker<Driven<UringRing>>),
    Epoll(Worker<Driven<EpollRing>>),
}

/// Settings of a [`Runtime`].
#[derive(Clone, Debug)]
#[must_use = "there is no loop before `build`"]
pub struct RuntimeBuilder {
    driver: Option<Driver>,
    event_loop: EventLoop,
    busy_poll: Duration,
    drain_timeout: Duration,
    /// `None` for the one of the process.
    memory_limit: Option<Option<usize>>,
}

impl Runtime {
    /// Begins to describe a loop.
    ///
    /// ```
    /// use std::time::Duration;
    /// use picows_uring::Runtime;
    ///
    /// let runtime = Runtime::builder().busy_poll(Duration::from_micros(50)).build()?;
    /// assert_eq!(runtime.block_on(async { 6 * 7 })?, 42);
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            driver: None,
            event_loop: EventLoop::Auto,
            busy_poll: Duration::ZERO,
            drain_timeout: DRAIN_TIMEOUT,
            memory_limit: None,
        }
    }

    /// Runs `future` to its end, then closes the connections that are left with 1001, and returns
    /// what it came to.
    ///
    /// # Errors
    ///
    /// When the ring was lost meanwhile, or a runtime runs on this thread already
    /// ([`Error::InsideRuntime`]), or an [`Embedded`](crate::Embedded) worker
    /// ([`Error::SecondWorker`]).
    pub fn block_on<F: Future>(self, future: F) -> Result<F::Output, Error> {
        host::refuse_inside_runtime()?;
        host::refuse_second_worker()?;
        let Self { event_loop, worker, busy_poll, drain_timeout, .. } = self;
        let stop = |local: &Local| local.mailbox.post(Command::Stop { drain: drain_timeout });
        match worker {
            AnyWorker::IoUring(worker) => {
                Ok(host_worker(&event_loop, worker, busy_poll, future, stop)?.0)
            }
            AnyWorker::Epoll(worker) => {
                Ok(host_worker(&event_loop, worker, busy_poll, future, stop)?.0)
            }
        }
    }

    /// Makes connections with `setup`, and then serves them with nothing else on this thread, which
    /// sleeps in its data ring: a *dedicated* client. Returns when the last connection has ended,
    /// or when a [`stopper`](Self::stopper) says so, with what `setup` came to. If that is an
    /// error, the connections that it made are closed with 1001 at once.
    ///
    /// `setup` runs in the loop, as with [`block_on`](Self::block_on). When it is done, the loop
    /// ends: tasks that are still pending are dropped, and a connection that one of them was
    /// making is given up. From then on there are the callbacks of the listeners, automatic pings,
    /// timeouts, and what [`RemoteTransport`](crate::RemoteTransport)s of other threads send;
    /// [`spawn`](crate::spawn) and [`Connect`](crate::Connect) fail in callbacks, as nothing is
    /// there to run a task. Nothing waits for an end either: look at the
    /// [`Transport`](crate::Transport) after this has returned.
    ///
    /// # Errors
    ///
    /// When the ring was lost meanwhile, or a runtime runs on this thread already
    /// ([`Error::InsideRuntime`]).
    ///
    /// ```
    /// use picows_uring::{Connect, Frame, Listener, ListenerResult, Runtime, Transport};
    /// # use picows_uring::{EchoListener, Server, Upgrade};
    ///
    /// struct Greeter;
    ///
    /// impl Listener for Greeter {
    ///     fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
    ///         transport.send_text("hello");
    ///         Ok(())
    ///     }
    ///
    ///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
    ///         transport.disconnect();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    /// # let server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// # let url = server.addresses()[0].to_string();
    /// let runtime = Runtime::builder().build()?;
    /// let transport = runtime.run_dedicated(Connect::new(url).connect(Greeter))??;
    /// assert!(transport.is_disconnected());
    /// # Ok(())
    /// # }
    /// ```
    pub fn run_dedicated<T, E>(
        self,
        setup: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, Error> {
        host::refuse_inside_runtime()?;
        host::refuse_second_worker()?;
        let Self { event_loop, worker, busy_poll, drain_timeout, .. } = self;
        match worker {
            AnyWorker::IoUring(it) => leave_loop(event_loop, it, busy_poll, setup, drain_timeout),
            AnyWorker::Epoll(it) => leave_loop(event_loop, it, busy_poll, setup, drain_timeout),
        }
    }

    /// Something that can end the connections of this loop from another thread, with CLOSE 1001,
    /// and with them [`run_dedicated`](Self::run_dedicated). Further ones cannot be made after
    /// that; a future that runs in the loop goes on.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper::new(vec![Arc::clone(&self.local.mailbox)], self.drain_timeout)
    }

    /// What the connections of this loop have done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.local.counters.read()
    }

    /// What the loop's worker runs on: [`Driver::IoUring`] or [`Driver::Epoll`].
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.local.counters.driver()
    }
}

/// [`Runtime::run_dedicated`], with a worker of either driver.
fn leave_loop<R: Ring + Wait + 'static, T, E>(
    event_loop: Loop,
    worker: Worker<R>,
    busy_poll: BusyPoll,
    setup: impl Future<Output = Result<T, E>>,
    drain_timeout: Duration,
) -> Result<Result<T, E>, Error> {
    let (outcome, mut worker) = host_worker(&event_loop, worker, busy_poll, setup, host::release)?;
    // Before the worker goes on, which then keeps no connections without a waiting future.
    drop(event_loop);
    worker.ring.dedicate().map_err(|error| failed(&error))?;
    worker.end_when_empty();
    if outcome.is_err() {
        worker.local.mailbox.post(Command::Stop { drain: drain_timeout });
    }
    host::run_dedicated(worker, busy_poll).map_err(|error| failed(&error))?;
    Ok(outcome)
}

/// Runs `future` with the worker beside it, then does `finish`, and waits for the worker to be given
/// back.
fn host_worker<R: Ring + Wait + 'static, F: Future>(
    event_loop: &Loop,
    worker: Worker<R>,
    busy_poll: BusyPoll,
    future: F,
    finish: impl FnOnce(&Local),
) -> Result<(F::Output, Worker<R>), Error> {
    event_loop.block_on(async move {
        let local = Rc::clone(&worker.local);
        let driver = tokio::task::spawn_local(host::drive(worker, busy_poll));
        // Lets the worker make itself known before the future wants to connect.
        tokio::task::yield_now().await;
        let output = future.await;
        finish(&local);
        match driver.await {
            Ok(Ok(worker)) => Ok((output, worker)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    })
}

fn failed(error: &dyn fmt::Display) -> Error {
    Error::Worker { worker: 0, fault: error.to_string() }
}

impl RuntimeBuilder {
    /// What the loop's worker talks to the kernel with; see
    /// [`ServerBuilder::driver`](crate::ServerBuilder::driver).
    pub fn driver(mut self, driver: Driver) -> Self {
        self.driver = Some(driver);
        self
    }

    /// The loop of the thread; see [`ServerBuilder::event_loop`](crate::ServerBuilder::event_loop).
    pub fn event_loop(mut self, event_loop: EventLoop) -> Self {
        self.event_loop = event_loop;
        self
    }

    /// How long the loop spins on its ring after the last activity before it sleeps; tasks and
    /// timers are served meanwhile. It cuts a round trip to a fraction and costs a whole core.
    /// [`Duration::MAX`] spins always. Default: zero, never.
    pub fn busy_poll(mut self, duration: Duration) -> Self {
        self.busy_poll = duration;
        self
    }

    /// How long connections that are left at the end have for their close handshake. Default: 1 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Bytes of memory that the connections of this loop may hold together; see
    /// [`ServerBuilder::memory_limit`](crate::ServerBuilder::memory_limit).
    pub fn memory_limit(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.memory_limit = Some(bytes.into());
        self
    }

    /// Makes the loop.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or the driver cannot be set up. The text names the cause and
    /// the cure.
    pub fn build(self) -> Result<Runtime, Error> {
        host::refuse_inside_runtime()?;
        host::refuse_second_worker()?;
        let mut config = Config::default();
        if let Some(limit) = self.memory_limit {
            config.memory = MemoryBudget::new(limit);
        }
        config.check()?;
        let failed = |it: StartError| Error::from(it);
        let (kind, driver) =
            (self.event_loop, self.driver.map_or_else(Driver::from_environment, Ok)?);
        let (config, busy_poll) = (Arc::new(config), BusyPoll(self.busy_poll));
        let drain_timeout = self.drain_timeout;
        let ring = AnyRing::open(driver, WaitMode::Hosted).map_err(failed)?;
        let counters = Arc::<Counters>::default();
        counters.set_driver(ring.driver(), ring.is_restricted());
        let (event_loop, local, worker) = match ring {
            AnyRing::IoUring(ring) => {
                let (event_loop, local, worker) = build_worker(ring, kind, config, counters)?;
                (event_loop, local, AnyWorker::IoUring(worker))
            }
            AnyRing::Epoll(ring) => {
                let (event_loop, local, worker) = build_worker(ring, kind, config, counters)?;
                (event_loop, local, AnyWorker::Epoll(worker))
            }
        };
        Ok(Runtime { event_loop, worker, local, busy_poll, drain_timeout })
    }
}

/// A loop, and a worker for it.
fn build_worker<R: Ring + Wait>(
    ring: R,
    event_loop: EventLoop,
    config: Arc<Config>,
    counters: Arc<Counters>,
) -> Result<(Loop, Rc<Local>, Worker<R>), Error> {
    let kind = event_loop.kind_for(&ring)?;
    let event_loop = patiently(StartError::may_pass, || Loop::new(kind));
    let event_loop = event_loop.map_err(Error::from)?;
    let mailbox = Arc::new(Mailbox::new(ring.signal()));
    let local = Local::new(config, counters, mailbox);
    let worker = Worker::new(ring, Rc::clone(&local));
    Ok((event_loop, local, worker))
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("busy_poll", &self.busy_poll.0).finish_non_exhaustive()
    }
}

/// Long enough for a close handshake across the world, and short enough for a user who waits for
/// a program to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
