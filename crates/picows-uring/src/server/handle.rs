//! A running server, from the outside.

use super::listen::{Listen, Served};
use super::monitor::{Monitor, ServerState};
use super::takeover::Offer;
use crate::command::{Command, ListenName};
use crate::config::Config;
use crate::error::Error;
use crate::foreign::log;
use crate::health::{Counters, Stats, WorkerState};
use crate::mailbox::Mailbox;
use crate::socket::{self, Copies, ListenAddress, ListenOptions, OfferedSockets, Part, SocketPath};
use crate::stopper::Stopper;
use crate::worker::NewListener;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

/// A running server. Any thread may hold it.
///
/// Dropping it drops the server: connections are ended without a close handshake. Use
/// [`stop`](Self::stop) to end them with one.
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade};
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// println!("{} connections at {}", server.stats().connections, server.addresses()[0]);
/// let total = server.stop()?; // CLOSE 1001 to each connection, and the answers to that.
/// assert_eq!(total.listener_errors, 0);
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping the handle stops the server"]
pub struct ServerHandle {
    pub(super) workers: Vec<WorkerThread>,
    addresses: Vec<ListenAddress>,
    /// For each address, what the workers call its sockets.
    listeners: Vec<Listener>,
    /// How many addresses there have been.
    names: u32,
    base: ListenBase,
    /// How many connections it was given: workers get them in turn.
    pub(super) adopted: AtomicUsize,
    drain_timeout: Duration,
    state: Arc<ServerState>,
    /// The server of the admin address, which ends last.
    admin: Option<Box<ServerHandle>>,
    /// Answers the process that takes over.
    takeover: Option<JoinHandle<()>>,
    predecessor: Option<u32>,
}

/// What further addresses have in common with those that the server began with.
#[derive(Debug)]
pub(super) struct ListenBase {
    pub(super) config: Arc<Config>,
    pub(super) options: ListenOptions,
    /// Where they are offered to a process that takes over.
    pub(super) offer: Option<Arc<Offer>>,
}

/// The listening sockets of one address, one for each worker.
#[derive(Debug)]
struct Listener {
    name: ListenName,
    /// A Unix socket, whose path is removed with it.
    _path: Option<SocketPath>,
}

/// One thread of a server.
#[derive(Debug)]
pub(super) struct WorkerThread {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) counters: Arc<Counters>,
    /// Where listening sockets are handed over that are added.
    pub(super) more: Sender<NewListener>,
    pub(super) thread: JoinHandle<()>,
}

impl ServerHandle {
    pub(super) fn new(base: ListenBase, drain_timeout: Duration, state: Arc<ServerState>) -> Self {
        Self {
            workers: Vec::new(),
            addresses: Vec::new(),
            listeners: Vec::new(),
            names: 0,
            base,
            adopted: AtomicUsize::new(0),
            drain_timeout,
            state,
            admin: None,
            takeover: None,
            predecessor: None,
        }
    }

    /// Gives an address the next name: workers count in the same order.
    pub(super) fn name(
        &mut self,
        address: ListenAddress,
        path: Option<SocketPath>,
        copies: Copies,
    ) -> ListenName {
        let name = ListenName(self.names);
        self.names += 1;
        if let Some(offer) = &self.base.offer {
            let offered = OfferedSockets::new(copies, path.as_ref());
            offer.add(self.base.options.part, name, offered);
        }
        self.addresses.push(address);
        self.listeners.push(Listener { name, _path: path });
        name
    }

    pub(super) fn add(&mut self, worker: WorkerThread) {
        self.workers.push(worker);
    }

    /// Keeps the server of the admin address to the end of this one.
    pub(super) fn set_admin(&mut self, admin: Option<ServerHandle>) {
        self.admin = admin.map(Box::new);
    }

    /// Keeps the thread that answers the process that takes over.
    pub(super) fn set_takeover(&mut self, predecessor: Option<u32>, thread: JoinHandle<()>) {
        self.predecessor = predecessor;
        self.takeover = Some(thread);
    }

    /// The server of the admin address.
    pub(super) fn admin(&self) -> Option<&Self> {
        self.admin.as_deref()
    }

    pub(super) fn state(&self) -> Arc<ServerState> {
        Arc::clone(&self.state)
    }

    /// The number of the process from which the listening sockets were [taken
    /// over](crate::ServerBuilder::takeover), as that knows itself.
    #[must_use]
    pub fn predecessor(&self) -> Option<u32> {
        self.predecessor
    }

    /// The [admin address](crate::ServerBuilder::admin), with the port that was found if port 0 was asked
    /// for.
    #[must_use]
    pub fn admin_address(&self) -> Option<&ListenAddress> {
        self.admin.as_ref()?.addresses.first()
    }

    /// The addresses that the server listens on, in the order in which they were given.
    /// [`close_listener`](Self::close_listener) removes one.
    #[must_use]
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The first TCP address, if there is one.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses.iter().find_map(ListenAddress::tcp)
    }

    /// Listens on another address while the server runs, and returns what that is: a name may have
    /// several. What `listen` does not say is as the server was set up. Workers begin to accept soon;
    /// clients that connect before wait in the backlog.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense or an address cannot be bound. A factory that cannot be made on a
    /// worker is in the log, and closes the listening socket of that worker.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Listen, Server, Upgrade, UpgradeResponse};
    ///
    /// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    /// let mut server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// let inside = Listen::on("[::1]:0").factory(|_| Upgrade::respond(UpgradeResponse::ok()));
    /// let added = server.listen(inside)?;
    /// assert_eq!(server.addresses().len(), 2);
    /// server.close_listener(&added[0])?;
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn listen(&mut self, listen: impl Into<Listen>) -> Result<Vec<ListenAddress>, Error> {
        let (wanted, served) = listen.into().resolve(&self.base.config)?;
        let options = ListenOptions { workers: self.workers.len(), ..self.base.options };
        let listening = socket::listen(vec![wanted], options, None)?;
        let mut names = Vec::new();
        let paths = listening.paths.into_iter().zip(listening.copies);
        for (address, (path, copies)) in listening.addresses.iter().zip(paths) {
            names.push(self.name(address.clone(), path, copies));
        }
        for (worker, sockets) in self.workers.iter().zip(listening.sockets) {
            for (address, socket) in sockets {
                let Served { config, make } = served.clone();
                let new = NewListener { name: names[address], socket, config, make };
                // A worker that has failed shows as one.
                let _ = worker.more.send(new);
            }
            worker.mailbox.post(Command::ListenMore);
        }
        Ok(listening.addresses)
    }

    /// Stops listening on one of the [`addresses`](Self::addresses), whose listening sockets the workers
    /// close soon. Clients that have connected by then are served, and connections stay as they are;
    /// the server goes on, also without an address. The path of a Unix socket is removed at once.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when the server does not listen on `address`.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    ///
    /// let builder = Server::builder().listen("127.0.0.1:0").listen("[::1]:0").workers(1);
    /// let mut server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// let first = server.addresses()[0].clone();
    /// server.close_listener(&first)?;
    /// assert_eq!(server.addresses().len(), 1);
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn close_listener(&mut self, address: &ListenAddress) -> Result<(), Error> {
        let Some(index) = self.addresses.iter().position(|it| it == address) else {
            let listens_on: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            let fault = match &listens_on[..] {
                [] => "the server listens on nothing any more".to_owned(),
                all => format!("the server listens on {}", all.join(", ")),
            };
            return Err(Error::Address { address: address.to_string(), fault });
        };
        self.addresses.remove(index);
        // With its path, so that clients find none from here on.
        let Listener { name, .. } = self.listeners.remove(index);
        if let Some(offer) = &self.base.offer {
            offer.remove(self.base.options.part, name);
        }
        for worker in &self.workers {
            worker.mailbox.post(Command::CloseListeners(name));
        }
        Ok(())
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
        let of_worker = |it: &WorkerThread| (Arc::clone(&it.counters), Arc::clone(&it.mailbox));
        Monitor::new(self.workers.iter().map(of_worker), Arc::clone(&self.state))
    }

    /// Something that can stop the server from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let mailboxes = self.workers.iter().map(|worker| Arc::clone(&worker.mailbox)).collect();
        let stopper = Stopper::new(mailboxes, self.drain_timeout);
        let stopper = stopper.noting_in(Arc::clone(&self.state.is_draining));
        match self.base.offer.as_ref().filter(|_| self.base.options.part == Part::Main) {
            // Copies of the sockets would keep them open.
            Some(offer) => {
                let offer = Arc::clone(offer);
                stopper.calling(move || offer.withdraw())
            }
            None => stopper,
        }
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

    /// Waits in a task until the server has been stopped by a [`Stopper`] or has failed, and returns what
    /// it did in total: for a server beside other things in a `main` of tokio. The future borrows
    /// nothing, and dropping it changes nothing; see [`Monitor::stopped`].
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    /// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// let stopper = server.stopper();
    /// tokio::spawn(async move { stopper.stop() }); // When a signal comes.
    /// let stats = server.stopped().await?;
    /// assert_eq!(stats.accepted, 0);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When a worker failed.
    pub fn stopped(&self) -> impl Future<Output = Result<Stats, Error>> + Send + use<> {
        let monitor = self.monitor();
        async move { monitor.stopped().await }
    }

    /// Waits until the server has been stopped by a [`Stopper`], and returns what it did in total.
    ///
    /// When a worker fails, the others go on, and this waits for them: [`Monitor::failed`] shows it
    /// at once, and so does an error in the log. Blocks the thread, as [`stop`](Self::stop) does.
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
        if let Some(thread) = self.takeover.take() {
            // A panic is in the log.
            let _ = thread.join();
        }
    }
}

/// Waits for the thread of a worker, and returns how it ended.
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
