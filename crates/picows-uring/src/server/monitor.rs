//! View of a running server for other threads: counters, and whether its workers live.
//!
//! Only reads; what stops a server is its handle.

use crate::driver::Driver;
use crate::error::Error;
use crate::health::{Counters, Stats, WorkerState};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Watches a server from any thread; made by [`ServerHandle::monitor`](crate::ServerHandle::monitor).
/// Cheap to clone, and stays valid when the server has ended.
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade, WorkerState};
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(2);
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// let monitor = server.monitor();
/// assert!(monitor.workers().all(|worker| worker.state == WorkerState::Running));
/// server.stop()?;
/// assert!(monitor.workers().all(|worker| worker.state == WorkerState::Ended));
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Monitor {
    workers: Arc<[Arc<Counters>]>,
}

/// The status of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its number, counted from 0; its thread is called `picows-` and that.
    pub number: usize,
    /// Whether it runs.
    pub state: WorkerState,
    /// What it runs on: [`Driver::IoUring`] or [`Driver::Epoll`].
    pub driver: Driver,
    /// Whether the kernel refuses its ring all operations but those of the data path: on io_uring,
    /// unless the kernel knows no restrictions.
    pub is_restricted: bool,
    /// How long it has been in its present turn, unless it is between two. Far below a millisecond
    /// unless a callback blocks; a worker that is blocked for ever is seen here, and nowhere else.
    pub turn_time: Option<Duration>,
    /// What it has done so far.
    pub stats: Stats,
}

impl Monitor {
    pub(super) fn new(workers: impl Iterator<Item = Arc<Counters>>) -> Self {
        Self { workers: workers.collect() }
    }

    /// What the server has done so far, all workers together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.workers.iter().for_each(|worker| sum += worker.read());
        sum
    }

    /// How each worker is.
    pub fn workers(&self) -> impl ExactSizeIterator<Item = WorkerStatus> {
        self.workers.iter().enumerate().map(|(number, worker)| WorkerStatus {
            number,
            driver: worker.driver(),
            is_restricted: worker.is_restricted(),
            state: worker.pulse.state(),
            turn_time: worker.pulse.turn_time(),
            stats: worker.read(),
        })
    }

    /// The first worker that could not go on, as the error that
    /// [`ServerHandle::join`](crate::ServerHandle::join) will return. The others go on without it.
    #[must_use]
    pub fn failed(&self) -> Option<Error> {
        self.workers.iter().enumerate().find_map(|(worker, counters)| {
            match counters.pulse.state() {
                WorkerState::Failed(fault) => Some(Error::Worker { worker, fault }),
                WorkerState::Running | WorkerState::Ended => None,
            }
        })
    }

    /// Waits until the server has ended, and returns what it did in total. Any number of tasks may wait,
    /// on any runtime; dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// When a worker failed, once the others have ended as well: [`failed`](Self::failed) shows it at
    /// once.
    pub async fn stopped(&self) -> Result<Stats, Error> {
        for worker in self.workers.iter() {
            let ended = |is_ended| if is_ended { Poll::Ready(()) } else { Poll::Pending };
            poll_fn(|context| ended(worker.pulse.wait(context.waker()))).await;
        }
        self.failed().map_or_else(|| Ok(self.stats()), Err)
    }

    /// Whether any worker runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.workers.iter().any(|worker| worker.pulse.state() == WorkerState::Running)
    }
}
