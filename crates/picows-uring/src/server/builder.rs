//! Everything that can be set about a server, with its default and its reason.
//!
//! Which settings contradict each other is in `builder/check.rs`.

mod check;

use super::address_check::AddressCheck;
use super::handle::ServerHandle;
use super::listen::{Listen, Served};
use super::probes::OnMain;
use super::ready::ReadyCheck;
use super::waiting::Waiting;
use crate::config::{Config, WrongSetting, connection_settings};
use crate::driver::Driver;
use crate::error::Error;
use crate::memory::MemoryBudget;
use crate::socket::{self, ListenOptions, Listening, Part, Wanted};
#[cfg(feature = "_tls")]
use crate::tls::ServerTls;
use crate::upgrade::{IntoUpgrade, WorkerInfo, local_factory, shared_factory};
use picows_uring_proto::{Networks, OriginPolicy, TrustedProxies, UpgradeRequest};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A WebSocket server; see [`Server::builder`].
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Begins to describe a server.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    ///
    /// let server = Server::builder()
    ///     .listen("127.0.0.1:0") // Any free port.
    ///     .workers(1)
    ///     .start(|_request| Upgrade::accept(EchoListener))?;
    /// println!("listening on {}", server.addresses()[0]);
    /// server.stop()?;
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }
}

/// Settings of a server, and of its connections: those are the same as the settings of a
/// [`Connect`](crate::Connect), and the last of the methods here.
///
/// Each method takes and returns the builder. What makes no sense is reported by
/// [`start`](Self::start) and [`serve`](Self::serve), as an [`Error::Config`] that names the
/// setting.
///
/// Servers of clones have the same settings and nothing else in common: limits count for each by itself. A
/// socket that was given ([`listen_socket`](Self::listen_socket)) is the exception: all of them accept from it.
///
/// ```
/// use picows_uring::{EchoListener, QueuePolicy, Server, Upgrade};
/// use std::time::Duration;
///
/// let server = Server::builder()
///     .listen("127.0.0.1:0")
///     .workers(2)
///     .max_connections(10_000)
///     .handshake_timeout(Duration::from_secs(2))
///     .max_queue_size(1024 * 1024, QueuePolicy::Close)
///     .start(|_| Upgrade::accept(EchoListener))?;
/// server.stop()?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a server does nothing before `serve` or `start`"]
pub struct ServerBuilder {
    pub(super) listen: Vec<Listen>,
    pub(super) has_address: bool,
    pub(super) workers: Option<usize>,
    pub(super) pin: bool,
    pub(super) driver: Option<Driver>,
    pub(super) waiting: Waiting,
    backlog: u32,
    pub(super) share_port: bool,
    pub(super) drain_timeout: Duration,
    pub(super) address_check: Option<AddressCheck>,
    pub(super) admin: Option<String>,
    pub(super) takeover: Option<PathBuf>,
    pub(super) on_main: OnMain,
    pub(super) ready: Option<ReadyCheck>,
    pub(super) thread_name: &'static str,
    pub(super) config: Config,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            has_address: true,
            workers: None,
            pin: false,
            driver: None,
            waiting: Waiting::default(),
            backlog: BACKLOG,
            share_port: false,
            drain_timeout: DRAIN_TIMEOUT,
            address_check: None,
            admin: None,
            takeover: None,
            on_main: OnMain::default(),
            ready: None,
            thread_name: "picows",
            config: Config { drain_spread: None, ..Config::default() },
        }
    }
}

impl ServerBuilder {
    /// Listens on `address`; may be called several times. Default: `127.0.0.1:9001`.
    ///
    /// `127.0.0.1:9001`, `[::1]:9001`, `localhost:9001` (every address of the name), port 0 for
    /// any free one, or `unix:/run/picows.sock`, which is made, and removed in the end. A socket that
    /// a dead server has left there is replaced; anything else stays, and is an error. `[::]` means
    /// IPv6 only: give `0.0.0.0` as well for both. A [`Listen`] has a factory and settings of its own.
    pub fn listen(mut self, address: impl Into<Listen>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Listens on no address, unless one is given or [added](ServerHandle::listen): for a server that is
    /// handed connections which were accepted elsewhere ([`ServerHandle::adopt`]).
    pub fn without_address(mut self) -> Self {
        self.has_address = false;
        self
    }

    /// Accepts connections from a socket that listens already, as from systemd or a parent
    /// process. All workers share it.
    pub fn listen_socket(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.listen.push(Listen::socket(socket));
        self
    }

    /// Speaks TLS on all addresses but those of [`listen_tls`](Self::listen_tls): `wss://`. A clone of `tls`
    /// that the caller keeps reloads certificates without a restart ([`ServerTls::reload`]).
    #[cfg(feature = "_tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// [`listen`](Self::listen), speaking TLS on this address alone, or with settings of its own.
    #[cfg(feature = "_tls")]
    pub fn listen_tls(mut self, address: impl Into<String>, tls: ServerTls) -> Self {
        self.listen.push(Listen::on(address).tls(tls));
        self
    }

    /// Steps of TLS handshakes that a worker takes in a turn, of which a handshake has two, and each takes
    /// some 50 µs; the rest wait for the next turn. More than zero. Default: 4.
    #[cfg(feature = "_tls")]
    pub fn tls_handshakes_per_turn(mut self, steps: u16) -> Self {
        self.config.tls_handshakes_per_turn = steps;
        self
    }

    /// How many workers there are, each a thread with a loop and a ring of its own. Default: one
    /// for each core that this process may use; where the user may not lock enough memory for so
    /// many rings (`ulimit -l`, about 220 KiB each), seven of eight for which there is enough, with a
    /// warning. A number that is given here is an error then.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = Some(count);
        self
    }

    /// What workers talk to the kernel with. Default: what the environment variable
    /// `PICOWS_DRIVER` says (`auto`, `io-uring`, `epoll`), or else [`Driver::Auto`].
    pub fn driver(mut self, driver: Driver) -> Self {
        self.driver = Some(driver);
        self
    }

    /// Whether each worker is bound to one core. Default: off.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Connections that wait to be accepted, for each socket (`listen(2)`; the kernel caps it at
    /// the sysctl `net.core.somaxconn`). Default: 4096.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Whether other processes of this user may listen on the same port, as when a server is
    /// replaced without a gap (`SO_REUSEPORT`). Default: off, so that a port in use is an error.
    pub fn share_port(mut self, share: bool) -> Self {
        self.share_port = share;
        self
    }

    /// Largest request head, in bytes; a larger one is answered with 431. At most 65,535. Default:
    /// 16 KiB.
    pub fn max_header_size(mut self, bytes: usize) -> Self {
        self.config.head.head_bytes_max = bytes;
        self
    }

    /// Most header lines of a request; more are answered with 431. Default: 128.
    pub fn max_headers(mut self, count: usize) -> Self {
        self.config.head.headers_max = count;
        self
    }

    /// Proxies that begin each connection with a header of the PROXY protocol, version 1 or 2, which names
    /// the client: its address is then that of the connection, in limits, logs, requests and
    /// [`Transport::peer_addr`](crate::Transport::peer_addr). One that sends none, or a bad one, is
    /// dropped; it has the [`handshake_timeout`](Self::handshake_timeout) for it, as for what follows. Of
    /// any other peer, such a header is an error, and without one it is a client. On a Unix socket, every
    /// peer is a proxy. Default: none. [`Listen::settings`] sets it for one address.
    pub fn proxy_protocol(mut self, proxies: impl Into<Option<Networks>>) -> Self {
        self.config.proxy_protocol = proxies.into().map(Arc::new);
        self
    }

    /// Proxies that name the client in `X-Forwarded-For` or `Forwarded`: its address, with port 0, is then
    /// that of the connection, in limits, logs, requests and
    /// [`Transport::peer_addr`](crate::Transport::peer_addr). Until its request is there, a connection of
    /// theirs counts towards no limit of an address. Default: none, as clients may send these headers too.
    pub fn trusted_proxies(mut self, proxies: impl Into<Option<TrustedProxies>>) -> Self {
        self.config.trusted_proxies = proxies.into().map(Arc::new);
        self
    }

    /// The sites whose scripts may open connections; an upgrade from another one is answered with 403, and
    /// the factory is not asked. Default: [`OriginPolicy::Any`]. A service that knows its users by cookies
    /// needs another one: browsers send those along whatever site a script is from.
    pub fn origins(mut self, origins: OriginPolicy) -> Self {
        self.config.origins = origins;
        self
    }

    /// How long a client may take from the connection to the end of its request, before it is cut
    /// off: more than zero, `None` for ever. Default: 5 s.
    pub fn handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.config.conversation.handshake_timeout = timeout.into();
        self
    }

    /// How long [`ServerHandle::stop`] may take from its beginning until it drops the connections
    /// whose close handshakes are not done. Default: 5 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Over which part of the drain timeout [`ServerHandle::stop`] spreads its CLOSE 1001, so that
    /// clients do not all reconnect at once; until its CLOSE, a connection is served as before.
    /// At most half of the drain timeout; zero closes all at once. Default (`None`): as long as it
    /// takes at 10,000 connections a second for each worker, so that few are closed at once, and at
    /// most half of the drain timeout.
    pub fn drain_spread(mut self, spread: impl Into<Option<Duration>>) -> Self {
        self.config.drain_spread = spread.into();
        self
    }

    /// Ends connections that have lasted this long, with CLOSE 1001 `please reconnect`, so that
    /// load spreads over new servers. `jitter` (0.0 to 1.0) is the part of it by which each
    /// lifetime may be cut at random, so that they do not all come back at once. Default: never.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>, jitter: f64) -> Self {
        self.config.liveness.lifetime = lifetime.into();
        self.config.lifetime_jitter = jitter;
        self
    }

    /// Open connections, of all workers together; further upgrades are answered with 503 and closed.
    /// A plain request, such as a health check, still goes to the factory: each worker hears out 256
    /// connections more, of which 128 may be silent, and newcomers take the place of the oldest.
    /// Default: as many as there are descriptors.
    pub fn max_connections(mut self, count: impl Into<Option<usize>>) -> Self {
        self.config.connections_max = count.into();
        self
    }

    /// Open connections of one peer address, of all workers together; further ones are treated as
    /// beyond [`max_connections`](Self::max_connections). An IPv6 address counts with its network
    /// of 64 bits, of which one machine can have all addresses; an IPv4 address that is mapped into
    /// IPv6 counts as itself; Unix sockets have no address and no limit. Behind a proxy, all
    /// clients have the address of the proxy, unless that is one of the
    /// [`trusted_proxies`](Self::trusted_proxies) or of [`proxy_protocol`](Self::proxy_protocol).
    /// Default: none.
    pub fn max_per_address(mut self, count: impl Into<Option<usize>>) -> Self {
        self.config.connections_per_address_max = count.into();
        self
    }

    /// Handshakes in progress, of all workers together; further connections are treated as beyond
    /// [`max_connections`](Self::max_connections). One is in progress from the connection until the
    /// request is answered, at most the [`handshake_timeout`](Self::handshake_timeout): so it also
    /// bounds how many clients that connect and say nothing are waited for. `None` for no limit.
    /// Default: 4096.
    pub fn max_handshakes(mut self, count: impl Into<Option<usize>>) -> Self {
        self.config.handshakes_max = count.into();
        self
    }

    /// Bytes of memory that the connections of this server may hold together: queues, cut frames and
    /// requests, messages that wait for their rest or for a task. More than zero; `None` for no limit.
    /// Beyond it, the connection that holds the most gives up its memory and ends, with CLOSE 1013 if
    /// its socket takes it ([`DisconnectCause::MemoryLimit`](crate::DisconnectCause::MemoryLimit)), and
    /// so does the next, until less than 90 % are held. While as much is held and no connection has
    /// more than 1 MiB, new ones are answered with 503.
    ///
    /// Default: one limit for all servers and loops of the process that have none of their own. It is
    /// half of the least of these, as far as they can be read: the memory limit of the cgroup, the
    /// memory of the machine, the limit of the address space (`ulimit -v`).
    pub fn memory_limit(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.config.memory = MemoryBudget::new(bytes.into());
        self
    }

    /// Whether each connection keeps its request for
    /// [`Transport::request`](crate::Transport::request). Off saves a few hundred bytes for each
    /// idle connection. Default: on.
    pub fn keep_request(mut self, keep: bool) -> Self {
        self.config.keep_request = keep;
        self
    }

    /// How long a callback may block its worker before the log names it, with its connection and how
    /// long it took ([`Stats::slow_callbacks`](crate::Stats::slow_callbacks)). Each turn of a worker
    /// is measured, with one look at the clock, and within it each connection that received
    /// something, by a clock that moves every few milliseconds: a limit below 10 ms is kept for
    /// whole turns only. Zero switches it off. Default: 100 ms.
    pub fn slow_callback(mut self, limit: Duration) -> Self {
        self.config.slow_callback = limit;
        self
    }

    /// How long a worker keeps memory that it does not need: queues, receive buffers and room for
    /// connections that a burst made it take. What was not needed for so long is released; zero
    /// releases at once what is not needed right now. Default: 10 s.
    ///
    /// A little is always kept, some 700 KiB for each worker. `Stats` shows how much there is.
    pub fn release_memory_after(mut self, duration: Duration) -> Self {
        self.config.memory_release = duration;
        self
    }

    /// Starts the server and waits until it ends, which it does only by an error: use
    /// [`start`](Self::start) for one that can be stopped.
    ///
    /// # Errors
    ///
    /// See [`start`](Self::start); and when a worker cannot go on.
    pub fn serve<F, U>(self, factory: F) -> Result<(), Error>
    where
        F: Fn(&UpgradeRequest) -> U + Send + Sync + 'static,
        U: IntoUpgrade,
    {
        self.start(factory)?.join().map(drop)
    }

    /// Starts the server on threads of its own. When this returns, it accepts connections.
    ///
    /// `factory` sees each request and answers it, usually with a listener. It is called on the
    /// worker that has accepted the connection, and what it makes stays there.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, an address cannot be had, or the driver cannot be set up.
    /// The text names the cause and the cure.
    pub fn start<F, U>(self, factory: F) -> Result<ServerHandle, Error>
    where
        F: Fn(&UpgradeRequest) -> U + Send + Sync + 'static,
        U: IntoUpgrade,
    {
        self.start_made(shared_factory(factory))
    }

    /// [`start`](Self::start), with a factory for each worker, which `make` makes on its thread before
    /// the server accepts connections. Such a factory stays there: it may hold `Rc`s, and clients of
    /// services that the worker has for itself. `make` may start tasks ([`spawn`](crate::spawn)), unless
    /// the workers are dedicated; they run as soon as the worker does.
    ///
    /// # Errors
    ///
    /// See [`start`](Self::start); and when `make` panics.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade, UpgradeRequest};
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").workers(2).start_local(|worker| {
    ///     let count = Rc::new(Cell::new(0)); // Of this worker.
    ///     move |_: &UpgradeRequest| {
    ///         count.set(count.get() + 1);
    ///         println!("worker {} has had {} requests", worker.number(), count.get());
    ///         Upgrade::accept(EchoListener)
    ///     }
    /// })?;
    /// # server.stop()?;
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn start_local<M, F, U>(self, make: M) -> Result<ServerHandle, Error>
    where
        M: Fn(WorkerInfo) -> F + Send + Sync + 'static,
        F: Fn(&UpgradeRequest) -> U + 'static,
        U: IntoUpgrade,
    {
        self.start_made(local_factory(make))
    }

    /// A builder whose connections have the settings `config`, which are to be changed.
    pub(super) fn of_config(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// Binds the addresses for an embedded worker, and returns the settings of the connections of each.
    ///
    /// # Errors
    ///
    /// When a setting is about threads or the worker, makes no sense, or an address cannot be bound.
    pub(crate) fn bind_for_one_worker(
        self,
        memory: &Arc<MemoryBudget>,
    ) -> Result<(Listening, Vec<Served>), Error> {
        self.refuse_settings_of_workers()?;
        self.check()?;
        let options = self.listen_options(1);
        let mut config = self.config;
        config.admission = Some(Arc::default());
        config.memory = Arc::clone(memory);
        let (listen, served) = resolve(self.listen, self.has_address, &Arc::new(config))?;
        let listening = socket::listen(listen, options, None)?;
        self.address_check.map_or(Ok(()), |it| it.check(&listening.addresses))?;
        let served = listening.origins.iter().map(|origin| served[*origin].clone()).collect();
        Ok((listening, served))
    }

    /// The settings of its connections, for an embedded worker that accepts none itself.
    ///
    /// # Errors
    ///
    /// As those of [`bind_for_one_worker`](Self::bind_for_one_worker) about settings.
    pub(crate) fn config_for_one_worker(
        self,
        memory: &Arc<MemoryBudget>,
    ) -> Result<Arc<Config>, Error> {
        self.refuse_settings_of_workers()?;
        self.check()?;
        let mut config = self.config;
        config.admission = Some(Arc::default());
        config.memory = Arc::clone(memory);
        Ok(Arc::new(config))
    }

    /// The settings of its connections, for a server in memory.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn into_config(self) -> Result<Arc<Config>, Error> {
        self.check()?;
        let mut config = self.config;
        config.admission = Some(Arc::default());
        config.memory = MemoryBudget::of_another(&config.memory);
        Ok(Arc::new(config))
    }

    pub(super) fn listen_options(&self, workers: usize) -> ListenOptions {
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        let (share_port, part) = (self.share_port, Part::Main);
        ListenOptions { workers, backlog, share_port, keeps_copies: false, part }
    }
}

/// What to listen on, and how it is served.
pub(super) fn resolve(
    listen: Vec<Listen>,
    has_address: bool,
    base: &Arc<Config>,
) -> Result<(Vec<Wanted>, Vec<Served>), WrongSetting> {
    let is_usual = listen.is_empty() && has_address;
    let listen = if is_usual { vec![Listen::on(LISTEN_DEFAULT)] } else { listen };
    let resolved: Result<Vec<_>, _> = listen.into_iter().map(|it| it.resolve(base)).collect();
    Ok(resolved?.into_iter().unzip())
}

connection_settings! {
    ServerBuilder, import: "Server", make: "Server::builder()", pings: "20 s"
}

/// The port of the original WebSocket test servers, and of picows' examples.
const LISTEN_DEFAULT: &str = "127.0.0.1:9001";
/// As large as Linux allows by default since 5.4.
pub const BACKLOG: u32 = 4096;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
