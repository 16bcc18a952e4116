//! Starting the threads of a server, each with a worker.
//!
//! Either all of them run, or none: what failed is reported, and the others end.

use super::handle::{ListenBase, ServerHandle, WorkerThread};
use super::listen::Served;
use super::monitor::ServerState;
use super::ready::ReadyCheck;
use super::takeover::Offer;
use super::waiting::Waiting;
use crate::command::ListenName;
use crate::config::Config;
use crate::driver::{AnyRing, Driver};
use crate::error::{Error, RingError};
use crate::foreign::Panicked;
use crate::foreign::log;
use crate::health::{Counters, WorkerState};
use crate::host::{self, Loop};
use crate::local::{HostKind, Hosting, Local};
use crate::mailbox::Mailbox;
use crate::patience::patiently;
use crate::ring::{Ring, Socket, StartError, Unsupported, Wait, WaitMode};
use crate::socket::{self, ListenAddress, ListenOptions, Predecessor, Wanted};
use crate::upgrade::{MakeFactory, SharedFactory, WorkerInfo, make_factory};
use crate::worker::{Listening, MoreListeners, NewListener, Worker};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A server that is to be started.
pub(super) struct ServerPlan {
    pub(super) listen: Vec<Wanted>,
    /// Of its threads, without their numbers.
    pub(super) name: &'static str,
    /// How the connections of each are served.
    pub(super) served: Vec<Served>,
    pub(super) options: ListenOptions,
    /// There may be fewer workers, if memory for their rings is short.
    pub(super) may_be_fewer: bool,
    pub(super) pin: bool,
    pub(super) driver: Driver,
    pub(super) waiting: Waiting,
    pub(super) drain_timeout: Duration,
    /// Of the application, for readiness.
    pub(super) ready: Option<ReadyCheck>,
    pub(super) config: Arc<Config>,
    /// The factory of those that have none of their own.
    pub(super) make: Arc<MakeFactory>,
    /// Where its sockets are offered to a process that takes over.
    pub(super) offer: Option<Arc<Offer>>,
}

/// A server that has all that it needs, and accepts nothing yet.
pub(super) struct Prepared {
    crew: Crew,
    /// Of each worker.
    sockets: Vec<Vec<ListenSocket>>,
    handle: ServerHandle,
}

/// Threads that wait for their sockets, and end without them.
struct Crew(Vec<Ready>);

/// The parts from which a thread makes its worker.
struct WorkerSpec {
    number: usize,
    core: Option<usize>,
    driver: Driver,
    waiting: Waiting,
    config: Arc<Config>,
    make: Arc<MakeFactory>,
    /// The factories of addresses that have one of their own.
    own: Vec<Option<Arc<MakeFactory>>>,
    counters: Arc<Counters>,
    /// Where it says that it has all that it needs but sockets, or what there is too little of.
    ready: Sender<Result<Arc<Mailbox>, Refused>>,
    /// What it is to listen on. Closed if the server does not start after all.
    sockets: Receiver<Vec<ListenSocket>>,
    /// What it is to listen on later.
    more: Receiver<NewListener>,
}

/// A listening socket, and how its connections are served.
struct ListenSocket {
    name: ListenName,
    socket: OwnedFd,
    config: Arc<Config>,
    /// The number of what was wanted that it is of.
    origin: usize,
}

/// The factories of a worker: the usual one, and those of addresses with one of their own.
struct Factories {
    usual: SharedFactory,
    own: Vec<Option<SharedFactory>>,
}

/// The reason why a thread cannot become a worker.
enum Refused {
    Ring(StartError),
    Thread(Error),
}

/// A thread with a ring, which waits for its sockets.
struct Ready {
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    sockets: Sender<Vec<ListenSocket>>,
    more: Sender<NewListener>,
    thread: JoinHandle<()>,
}

/// Starts the threads of all workers, and listens.
///
/// Sockets come last, when the number of workers is certain: one that listens and is then closed
/// would lose connections that the kernel has given to it.
pub(super) fn prepare(
    plan: ServerPlan,
    predecessor: Option<&mut Predecessor>,
) -> Result<Prepared, Error> {
    let crew = Crew(make_ready(&plan)?);
    let options = ListenOptions { workers: crew.0.len(), ..plan.options };
    let listening = socket::listen(plan.listen, options, predecessor)?;
    let state = Arc::new(ServerState::new(&plan.config, plan.ready));
    let base = ListenBase { config: plan.config, options, offer: plan.offer };
    let of_address = |(address, socket): (usize, OwnedFd)| {
        let origin = listening.origins[address];
        let config = Arc::clone(&plan.served[origin].config);
        ListenSocket { name: ListenName(address as u32), socket, config, origin }
    };
    let of_worker = |sockets: Vec<_>| sockets.into_iter().map(of_address).collect();
    let sockets = listening.sockets.into_iter().map(of_worker).collect();
    let mut handle = ServerHandle::new(base, plan.drain_timeout, state);
    let paths = listening.paths.into_iter().zip(listening.copies);
    for (address, (path, copies)) in listening.addresses.into_iter().zip(paths) {
        handle.name(address, path, copies);
    }
    Ok(Prepared { crew, sockets, handle })
}

impl Prepared {
    /// The addresses that it is to accept connections from.
    pub(super) fn addresses(&self) -> &[ListenAddress] {
        self.handle.addresses()
    }

    /// Has all workers accept connections.
    pub(super) fn begin(self) -> ServerHandle {
        let Self { mut crew, sockets, mut handle } = self;
        for (ready, sockets) in std::mem::take(&mut crew.0).into_iter().zip(sockets) {
            // A thread that has ended shows as a failed worker.
            let _ = ready.sockets.send(sockets);
            let Ready { mailbox, counters, thread, more, .. } = ready;
            handle.add(WorkerThread { mailbox, counters, more, thread });
        }
        handle
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        std::mem::take(&mut self.0).into_iter().for_each(Ready::dismiss);
    }
}

/// Starts the threads, as many as are wanted or, if it may be fewer, as there is memory for.
fn make_ready(plan: &ServerPlan) -> Result<Vec<Ready>, Error> {
    let cores = if plan.pin { cores()? } else { Vec::new() };
    let wanted = plan.options.workers;
    let mut crew = Vec::with_capacity(wanted);
    for number in 0..wanted {
        let core = (!cores.is_empty()).then(|| cores[number % cores.len()]);
        let error = match start_thread(plan, number, core) {
            Ok(ready) => {
                crew.push(ready);
                continue;
            }
            Err(Refused::Ring(error)) if error.is_no_memory() && number > 0 => {
                if plan.may_be_fewer {
                    leave_some(&mut crew);
                    let workers = crew.len();
                    log::warn!(workers, wanted, %error, "fewer workers than cores");
                    return Ok(crew);
                }
                let remark = format_args!("there was enough for {number} of {wanted} workers");
                Error::Ring(RingError::from(&error).with_remark(remark))
            }
            Err(Refused::Ring(error)) => error.into(),
            Err(Refused::Thread(error)) => error,
        };
        crew.into_iter().for_each(Ready::dismiss);
        return Err(error);
    }
    Ok(crew)
}

/// Locked memory is counted for the user: has some workers end, so that the user's other programs
/// have something left.
fn leave_some(crew: &mut Vec<Ready>) {
    crew.drain(left_of(crew.len())..).for_each(Ready::dismiss);
}

/// How many workers stay of those that there is locked memory for.
pub(crate) fn left_of(fit: usize) -> usize {
    (fit - fit.div_ceil(LEFT_SHARE)).max(1)
}

impl Ready {
    /// Ends the thread, and waits until its ring is gone.
    fn dismiss(self) {
        drop(self.sockets);
        let _ = self.thread.join();
    }
}

/// Starts a thread, and waits until it is ready.
fn start_thread(plan: &ServerPlan, number: usize, core: Option<usize>) -> Result<Ready, Refused> {
    let counters = Arc::<Counters>::default();
    let (ready, readies) = mpsc::channel();
    let (sockets, receiver) = mpsc::channel();
    let (more, later) = mpsc::channel();
    let spec = WorkerSpec {
        number,
        core,
        driver: plan.driver,
        waiting: plan.waiting,
        config: Arc::clone(&plan.config),
        make: Arc::clone(&plan.make),
        own: plan.served.iter().map(|served| served.make.clone()).collect(),
        counters: Arc::clone(&counters),
        ready,
        sockets: receiver,
        more: later,
    };
    let thread = thread::Builder::new()
        .name(format!("{}-{number}", plan.name))
        .spawn(move || work(spec))
        .map_err(|source| Refused::Thread(Error::Thread { worker: number, source }))?;
    let ended = || Error::Worker { worker: number, fault: "it ended at once".into() };
    let mailbox = readies.recv().map_err(|_| Refused::Thread(ended()))??;
    Ok(Ready { mailbox, counters, sockets, more, thread })
}

/// The life of a worker's thread.
fn work(spec: WorkerSpec) {
    let mut witness = Witness {
        worker: spec.number,
        counters: Arc::clone(&spec.counters),
        state: WorkerState::Failed("it panicked: this is a bug".to_owned()),
    };
    witness.state = match allocate(&spec) {
        Ok((AnyRing::IoUring(ring), event_loop)) => serve(spec, ring, event_loop),
        Ok((AnyRing::Epoll(ring), event_loop)) => serve(spec, ring, event_loop),
        Err(error) => {
            let _ = spec.ready.send(Err(error));
            WorkerState::Ended
        }
    };
}

/// Waits for the sockets, and runs the worker on `ring` to its end.
fn serve<R: Ring + Wait>(spec: WorkerSpec, ring: R, event_loop: Option<Loop>) -> WorkerState {
    let busy_poll = spec.waiting.busy_poll;
    let Some(worker) = build_worker(spec, ring, event_loop.as_ref()) else {
        return WorkerState::Ended;
    };
    let ended = match event_loop {
        Some(event_loop) => event_loop.block_on(host::drive(worker, busy_poll)).map(drop),
        None => host::run_dedicated(worker, busy_poll),
    };
    match ended {
        Ok(()) => WorkerState::Ended,
        Err(error) => WorkerState::Failed(format!("its ring is lost: {error}")),
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
            log::error!(worker, fault, "worker failed: its connections are gone");
        }
        self.counters.pulse.end(std::mem::take(&mut self.state));
    }
}

/// Makes the factories, reports that all is there but the sockets, and waits for those. `None` if the
/// server does not start.
fn build_worker<R: Ring + Wait>(
    spec: WorkerSpec,
    ring: R,
    event_loop: Option<&Loop>,
) -> Option<Worker<R>> {
    let mailbox = Arc::new(Mailbox::new(ring.signal()));
    let local = Local::new(Arc::clone(&spec.config), spec.counters, Arc::clone(&mailbox));
    let info = WorkerInfo::new(spec.number);
    let make = || make_factories(info, &spec.make, &spec.own);
    let kind = if event_loop.is_some() { HostKind::Loop } else { HostKind::Dedicated };
    let hosting = Hosting::begin(&local, kind);
    let made = match event_loop {
        Some(event_loop) => event_loop.block_on(async { make() }),
        None => make(),
    };
    drop(hosting);
    let Factories { usual, own } = match made {
        Ok(factories) => factories,
        Err(panicked) => {
            let fault = format!("its factory could not be made: {panicked}");
            let error = Error::Worker { worker: spec.number, fault };
            let _ = spec.ready.send(Err(Refused::Thread(error)));
            return None;
        }
    };
    spec.ready.send(Ok(mailbox)).ok()?;
    drop(spec.ready);
    let sockets = spec.sockets.recv().ok()?;
    let mut worker = Worker::new(ring, local);
    for ListenSocket { name, socket, config, origin } in sockets {
        let factory = own.get(origin).and_then(Option::as_ref).unwrap_or(&usual);
        let listening = Listening::of(config, Rc::clone(factory));
        worker.listen_as(name, Socket(socket.into_raw_fd()), &listening);
    }
    worker.take_more(MoreListeners { worker: info, factory: usual, sockets: spec.more });
    Some(worker)
}

/// Makes the factories of a worker, on its thread.
fn make_factories(
    worker: WorkerInfo,
    make: &Arc<MakeFactory>,
    own: &[Option<Arc<MakeFactory>>],
) -> Result<Factories, Panicked> {
    let own = own.iter().map(|it| it.as_ref().map(|it| make_factory(&**it, worker)).transpose());
    let own = own.collect::<Result<_, _>>()?;
    Ok(Factories { usual: make_factory(&**make, worker)?, own })
}

/// Allocates up front whatever can run out: the ring of a worker and its loop, on its core.
fn allocate(spec: &WorkerSpec) -> Result<(AnyRing, Option<Loop>), Refused> {
    if let Some(core) = spec.core {
        let mut set = CpuSet::new();
        set.set(core);
        let failed = |source| Refused::Thread(Error::Thread { worker: spec.number, source });
        sched_setaffinity(None, &set).map_err(|errno| failed(errno.into()))?;
    }
    let mut ring = AnyRing::open(spec.driver, spec.waiting.mode).map_err(Refused::Ring)?;
    let sleep = match &mut ring {
        AnyRing::IoUring(ring) => ring.set_sleep(spec.waiting.sleep),
        AnyRing::Epoll(ring) => ring.set_sleep(spec.waiting.sleep),
    };
    sleep.map_err(|Unsupported { setting, fault }| {
        Refused::Thread(Error::Config { setting, fault })
    })?;
    spec.counters.set_driver(ring.driver(), ring.is_restricted());
    let event_loop = match spec.waiting.mode {
        WaitMode::Hosted => {
            let kind = match &ring {
                AnyRing::IoUring(ring) => spec.waiting.event_loop.kind_for(ring),
                AnyRing::Epoll(ring) => spec.waiting.event_loop.kind_for(ring),
            };
            let kind = kind.map_err(Refused::Thread)?;
            let event_loop = patiently(StartError::may_pass, || Loop::new(kind));
            Some(event_loop.map_err(Refused::Ring)?)
        }
        WaitMode::Dedicated => None,
    };
    Ok((ring, event_loop))
}

/// The cores that this process may use.
fn cores() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None)
        .map_err(|errno| Error::Thread { worker: 0, source: errno.into() })?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Where memory is short, one worker in so many that there is memory for is not started.
const LEFT_SHARE: usize = 8;
