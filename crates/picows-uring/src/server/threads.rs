//! Starting the threads of a server, each with a worker.
//!
//! Either all of them run, or none: what failed is reported, and the others end.

use super::gauge::Gauge;
use super::handle::{ServerHandle, WorkerThread};
use super::monitor::WorkerState;
use super::upgrade::Factory;
use crate::config::Config;
use crate::counters::Counters;
use crate::error::Error;
use crate::host::{self, BusyPoll, Loop};
use crate::mailbox::Mailbox;
use crate::ring::Socket;
use crate::ring::kernel::{KernelRing, StartError, Waiting};
use crate::session::Shared;
use crate::socket::{self, ListenOn, ListenOptions};
use crate::worker::Worker;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// A server that is to be started.
pub(super) struct Plan {
    pub(super) listen: Vec<ListenOn>,
    pub(super) options: ListenOptions,
    pub(super) pin: bool,
    pub(super) waiting: Waiting,
    pub(super) busy_poll: BusyPoll,
    pub(super) drain_timeout: Duration,
    pub(super) config: Arc<Config>,
    pub(super) factory: Arc<Factory>,
}

/// What one thread needs to become a worker.
struct Recruit {
    number: usize,
    core: Option<usize>,
    waiting: Waiting,
    sockets: Vec<OwnedFd>,
    config: Arc<Config>,
    factory: Arc<Factory>,
    gauge: Arc<Gauge>,
    counters: Arc<Counters>,
    /// Where it says that it runs, or why it does not.
    started: Sender<Result<Arc<Mailbox>, Error>>,
}

/// Starts all workers, and returns when all of them accept connections.
pub(super) fn start(plan: Plan) -> Result<ServerHandle, Error> {
    let listening = socket::listen(plan.listen, plan.options)?;
    let cores = if plan.pin { cores()? } else { Vec::new() };
    let gauge = Arc::<Gauge>::default();
    let mut handle = ServerHandle::new(listening.addresses, listening.paths, plan.drain_timeout);
    for (number, sockets) in listening.sockets.into_iter().enumerate() {
        let counters = Arc::<Counters>::default();
        let (started, starts) = mpsc::channel();
        let recruit = Recruit {
            number,
            waiting: plan.waiting,
            core: (!cores.is_empty()).then(|| cores[number % cores.len()]),
            sockets,
            config: Arc::clone(&plan.config),
            factory: Arc::clone(&plan.factory),
            gauge: Arc::clone(&gauge),
            counters: Arc::clone(&counters),
            started,
        };
        let thread = thread::Builder::new()
            .name(format!("picows-{number}"))
            .spawn(move || work(recruit, plan.busy_poll))
            .map_err(|source| Error::Thread { worker: number, source })?;
        let ended = || Error::Worker { worker: number, fault: "it ended at once".into() };
        // An error drops the handle, which stops the workers that run already.
        let mailbox = starts.recv().map_err(|_| ended())??;
        handle.add(WorkerThread { mailbox, counters, thread });
    }
    Ok(handle)
}

/// The life of a worker's thread.
fn work(recruit: Recruit, busy_poll: BusyPoll) {
    let started = recruit.started.clone();
    let mut witness = Witness {
        worker: recruit.number,
        counters: Arc::clone(&recruit.counters),
        state: WorkerState::Failed("it panicked: this is a bug".to_owned()),
    };
    match enlist(recruit) {
        Ok((worker, event_loop)) => {
            let _ = started.send(Ok(Arc::clone(&worker.shared.mailbox)));
            drop(started);
            let ended = match event_loop {
                Some(event_loop) => event_loop.block_on(host::drive(worker, busy_poll)).map(drop),
                None => host::run_dedicated(worker, busy_poll),
            };
            witness.state = match ended {
                Ok(()) => WorkerState::Ended,
                Err(error) => WorkerState::Failed(format!("its ring is lost: {error}")),
            };
        }
        Err(error) => {
            witness.state = WorkerState::Ended;
            let _ = started.send(Err(error));
        }
    }
}

/// Says how a worker ended, also if that was by a panic.
struct Witness {
    worker: usize,
    counters: Arc<Counters>,
    state: WorkerState,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let WorkerState::Failed(fault) = &self.state {
            let worker = self.worker;
            tracing::error!(worker, fault, "worker failed: its connections are gone");
        }
        self.counters.pulse.end(std::mem::take(&mut self.state));
    }
}

/// Makes everything that can fail for want of something, so that it fails before the server is
/// said to run.
fn enlist(recruit: Recruit) -> Result<(Worker<KernelRing>, Option<Loop>), Error> {
    if let Some(core) = recruit.core {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set)
            .map_err(|errno| Error::Thread { worker: recruit.number, source: errno.into() })?;
    }
    let failed = |error: StartError| Error::Ring(error.to_string());
    let ring = KernelRing::new(recruit.waiting).map_err(failed)?;
    let event_loop = match recruit.waiting {
        Waiting::Hosted => Some(Loop::new().map_err(failed)?),
        Waiting::Dedicated => None,
    };
    let mailbox = Arc::new(Mailbox::new(ring.event()));
    let shared = Shared::new(recruit.config, recruit.counters, mailbox);
    let listeners =
        recruit.sockets.into_iter().map(|socket| Socket(socket.into_raw_fd())).collect();
    let worker = Worker::new(ring, shared, recruit.factory, recruit.gauge, listeners);
    Ok((worker, event_loop))
}

/// The cores that this process may use.
fn cores() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None)
        .map_err(|errno| Error::Thread { worker: 0, source: errno.into() })?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}
