//! A running server, from the outside.

use super::monitor::Monitor;
use crate::error::Error;
use crate::foreign::log;
use crate::health::{Counters, Stats, WorkerState};
use crate::mailbox::Mailbox;
use crate::socket::{ListenAddress, SocketPath};
use crate::stopper::Stopper;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A running server. Any thread may hold it.
///
/// Dropping it drops the server: connections are ended without a close handshake. Use
/// [`stop`](Self::stop) to end them with one.
#[derive(Debug)]
#[must_use = "dropping the handle stops the server"]
pub struct ServerHandle {
    workers: Vec<WorkerThread>,
    addresses: Vec<ListenAddress>,
    drain_timeout: Duration,
    /// Unix sockets that go with the server.
    _paths: Vec<SocketPath>,
}

/// One thread of a server.
#[derive(Debug)]
pub(super) struct WorkerThread {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) thread: JoinHandle<()>,
}

impl ServerHandle {
    pub(super) fn new(
        addresses: Vec<ListenAddress>,
        paths: Vec<SocketPath>,
        drain_timeout: Duration,
    ) -> Self {
        Self { workers: Vec::new(), addresses, drain_timeout, _paths: paths }
    }

    pub(super) fn add(&mut self, worker: WorkerThread) {
        self.workers.push(worker);
    }

    /// The addresses that the server listens on, in the order in which they were given.
    #[must_use]
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The first TCP address, if there is one.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses.iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        })
    }

    /// What the server has done so far, all workers together.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.monitor().stats()
    }

    /// What each worker has done so far.
    pub fn worker_stats(&self) -> impl ExactSizeIterator<Item = Stats> {
        self.workers.iter().map(|worker| worker.counters.read())
    }

    /// Something that can watch the server from another thread: its counters, and whether each
    /// worker lives.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(self.workers.iter().map(|worker| Arc::clone(&worker.counters)))
    }

    /// Something that can stop the server from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let mailboxes = self.workers.iter().map(|worker| Arc::clone(&worker.mailbox)).collect();
        Stopper::new(mailboxes, self.drain_timeout)
    }

    /// Stops the server: accepts no more, ends every connection with CLOSE 1001, waits for the
    /// answers up to the drain timeout, drops the rest, and returns what was done in total.
    ///
    /// Blocks the thread meanwhile: in async code, call it on a thread that may be blocked, such as one
    /// of `tokio::task::spawn_blocking`; in callbacks and tasks of the server itself, call
    /// [`Stopper::stop`], which does not wait.
    ///
    /// # Errors
    ///
    /// When a worker had failed, or this is called on a worker's own thread, which cannot wait for
    /// itself; it stops all the same.
    pub fn stop(self) -> Result<Stats, Error> {
        self.stopper().stop();
        self.join()
    }

    /// [`stop`](Self::stop), with another drain timeout.
    ///
    /// # Errors
    ///
    /// When a worker had failed.
    pub fn stop_within(self, drain: Duration) -> Result<Stats, Error> {
        self.stopper().stop_within(drain);
        self.join()
    }

    /// Waits until the server has been stopped by a [`Stopper`], and returns what it did in total.
    ///
    /// When a worker fails, the others go on, and this waits for them: [`Monitor::failed`] tells at
    /// once, and so does an error in the log. Blocks the thread, as [`stop`](Self::stop) does.
    ///
    /// # Errors
    ///
    /// When a worker failed, or this is called on a worker's own thread.
    pub fn join(mut self) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        let mut failed = Ok(());
        for (number, worker) in self.workers.drain(..).enumerate() {
            let ended = end_of(number, &worker.counters, worker.thread);
            stats += worker.counters.read();
            failed = failed.and(ended);
        }
        failed.map(|()| stats)
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stopper().stop_within(Duration::ZERO);
        for (number, worker) in self.workers.drain(..).enumerate() {
            if let Err(error) = end_of(number, &worker.counters, worker.thread) {
                log::error!(%error, "ended badly");
            }
        }
    }
}

/// Waits for the thread of a worker, and tells how it ended.
fn end_of(worker: usize, counters: &Counters, thread: JoinHandle<()>) -> Result<(), Error> {
    if thread.thread().id() == std::thread::current().id() {
        let fault = "its own thread cannot wait for it: use Stopper::stop in callbacks and tasks";
        return Err(Error::Worker { worker, fault: fault.into() });
    }
    // A panic is in the state as well.
    let _ = thread.join();
    match counters.pulse.state() {
        WorkerState::Failed(fault) => Err(Error::Worker { worker, fault }),
        WorkerState::Running | WorkerState::Ended => Ok(()),
    }
}
