//! A bus on NATS: topics of picows-uring over several nodes.
//!
//! Knows nothing of WebSocket: a [`Hub`](picows_uring::topics::Hub) hands publications to the bus, and the
//! bus hands those of other nodes to the hub.
//!
//! ```no_run
//! use picows_uring::topics::Hub;
//! use picows_uring_nats::NatsBus;
//!
//! let hub = Hub::new();
//! let bus = NatsBus::builder("nats://127.0.0.1:4222").build()?;
//! hub.attach(bus)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With core NATS a publication goes to the subscribers of its own process at once, and to those of other
//! nodes at most once. With JetStream ([`NatsBusBuilder::jet_stream`]) the stream gives the order and keeps
//! the history, for all nodes alike. A node subscribes to a subject only while it has a subscriber.
//!
//! Nodes exchange how many subscriptions they have, on the subject `PREFIX-presence`
//! ([`Hub::subscribers_everywhere`](picows_uring::topics::Hub::subscribers_everywhere)).
//!
//! What may have been lost, as the connection to NATS was, or this node read too slowly, is reported to the
//! hub, and by its policy to each subscriber; it is never passed over in silence. While the server is not
//! there, publications go to the subscribers of this process only ([`NatsBus::status`] says so).
//!
//! The bus has a thread of its own, or is served on the loop of a worker ([`NatsBusBuilder::on_worker`]).

mod connection;
mod home;
mod message;
mod presence;
mod relay;
mod shared;
mod stream;

pub use async_nats;
pub use shared::{NatsStats, NatsStatus};
pub use stream::JetStream;

use connection::{Commands, Wanted};
use home::{Home, Plan};
use message::Subjects;
use picows_uring::topics::{Bus, BusError, BusMessage, BusMode, History, Inlet};
use shared::{Command, Queue, Shared};
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::mpsc as tokio_mpsc;

/// A bus on NATS.
///
/// Its connection is made, and made again, by a thread that starts when a hub is attached; or on the loop of
/// a worker: [`NatsBusBuilder::on_worker`].
pub struct NatsBus {
    shared: Arc<Shared>,
    queue: Queue,
    is_on_worker: bool,
    home: Mutex<Home>,
}

/// Settings of a [`NatsBus`].
///
/// ```
/// use picows_uring_nats::{JetStream, NatsBus, NatsConfigError, NatsStatus};
/// use std::time::Duration;
///
/// let stream = JetStream::new("quotes").per_topic(100).age(Duration::from_secs(3600));
/// let bus = NatsBus::builder("nats://127.0.0.1:4222").prefix("quotes").jet_stream(stream).build()?;
/// // It connects when a hub is attached.
/// assert!(matches!(bus.status(), NatsStatus::Connecting { error: None, .. }));
/// let wrong = NatsBus::builder("nats://127.0.0.1:4222").prefix("quotes.>").build();
/// assert!(matches!(wrong, Err(NatsConfigError::Prefix { .. })));
/// # Ok::<(), NatsConfigError>(())
/// ```
#[must_use = "there is no bus before `build`"]
pub struct NatsBusBuilder {
    url: String,
    options: async_nats::ConnectOptions,
    prefix: String,
    jet_stream: Option<JetStream>,
    queued_bytes_max: usize,
    is_on_worker: bool,
    on_status: Option<shared::OnStatus>,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NatsConfigError {
    /// The URL of a server.
    #[error("{url}: not the URL of a NATS server: write nats://HOST:4222, or tls://HOST:4222")]
    Url {
        /// The URL, without a password.
        url: String,
    },
    /// The prefix of subjects.
    #[error(
        "{prefix:?}: not a prefix of NATS subjects: write tokens divided by dots, without *, > and blanks"
    )]
    Prefix {
        /// The prefix.
        prefix: String,
    },
}

impl NatsBus {
    /// A bus on the server at `url`, or on one of several, divided by commas.
    pub fn builder(url: impl Into<String>) -> NatsBusBuilder {
        NatsBusBuilder {
            url: url.into(),
            options: Self::connect_options(),
            prefix: PREFIX.to_owned(),
            jet_stream: None,
            queued_bytes_max: QUEUED_BYTES_MAX,
            is_on_worker: false,
            on_status: None,
        }
    }

    /// The settings of a connection, for [`options`](NatsBusBuilder::options): those of async-nats, but for a
    /// server that is silent, which is pinged each 5 s, and left behind when two pings are not answered.
    #[must_use]
    pub fn connect_options() -> async_nats::ConnectOptions {
        async_nats::ConnectOptions::new().ping_interval(PING_INTERVAL)
    }

    /// The connection to the server, now.
    #[must_use]
    pub fn status(&self) -> NatsStatus {
        self.shared.status()
    }

    /// What the bus has carried, and what it could not.
    #[must_use]
    pub fn stats(&self) -> NatsStats {
        self.shared.stats()
    }

    /// Serves the bus on the loop of the calling thread: from `make` of
    /// [`ServerBuilder::start_local`](picows_uring::ServerBuilder::start_local), from a callback of a
    /// listener, or from a task. It connects there. Where there is no loop, as on a thread of a dedicated
    /// worker, or when the loop ends before the bus is closed, a thread of its own serves it from then on;
    /// that is another connection, so what was subscribed before has a gap.
    ///
    /// ```no_run
    /// use picows_uring::topics::{Hub, SubscribeOptions};
    /// use picows_uring::{EventLoop, Server, Upgrade, UpgradeRequest, WorkerInfo};
    /// use picows_uring_nats::NatsBus;
    /// # use picows_uring::{Frame, Listener, ListenerResult, Transport};
    /// # struct Reader(Hub);
    /// # impl Listener for Reader {
    /// #     fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
    /// #         self.0.subscribe(transport, "news", SubscribeOptions::new())?.keep();
    /// #         Ok(())
    /// #     }
    /// #     fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// let (hub, bus) = (Hub::new(), NatsBus::builder("nats://127.0.0.1:4222").on_worker().build()?);
    /// hub.attach(bus.clone())?;
    /// let server = Server::builder().listen("127.0.0.1:9001").workers(1).event_loop(EventLoop::Tokio);
    /// let server = server.start_local(move |worker: WorkerInfo| {
    ///     if worker.number() == 0
    ///         && let Err(error) = bus.serve_here()
    ///     {
    ///         eprintln!("{error}");
    ///     }
    ///     let hub = hub.clone();
    ///     move |_: &UpgradeRequest| Upgrade::accept(Reader(hub.clone()))
    /// })?;
    /// # drop(server);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When no hub is attached, or the bus is served already.
    pub fn serve_here(&self) -> Result<(), BusError> {
        let mut home = self.home();
        match std::mem::replace(&mut *home, Home::Served) {
            Home::Attached(plan, inlet) => {
                drop(home);
                home::serve_here(plan, inlet);
                Ok(())
            }
            Home::Unattached(plan) => {
                *home = Home::Unattached(plan);
                Err(BusError::new("no hub is attached to the bus: attach one first"))
            }
            Home::Served => Err(BusError::new("the bus is served already")),
        }
    }

    fn home(&self) -> MutexGuard<'_, Home> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is connected, or for so long. Returns whether it is. Blocks the calling thread: not
    /// for callbacks.
    pub fn wait_connected(&self, limit: Duration) -> bool {
        self.shared.wait_connected(limit)
    }

    /// Hands what is queued to the server, and ends the connection; waits for that for at most `limit`.
    /// Returns whether it was done. Blocks the calling thread: not for callbacks.
    pub fn close(&self, limit: Duration) -> bool {
        let (done, ended) = mpsc::sync_channel(1);
        self.queue.push(Command::Close(done)) && ended.recv_timeout(limit).is_ok()
    }
}

impl NatsBusBuilder {
    /// Settings of the connection: credentials, TLS, name and others are those of async-nats. Its callback
    /// of events is replaced. Default: [`NatsBus::connect_options`].
    pub fn options(mut self, options: async_nats::ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// What subjects begin with: topic `a.b` is subject `PREFIX.a.b`. Default: `picows`. So no topic is a
    /// subject of NATS itself, such as those by which JetStream is administered.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Keeps history in this stream of JetStream, and takes the order from it. Its offsets are the stream's
    /// sequence numbers, its epoch is the stream's identity: a stream that is made again has another.
    pub fn jet_stream(mut self, stream: JetStream) -> Self {
        self.jet_stream = Some(stream);
        self
    }

    /// Starts no thread when a hub is attached: the bus connects once
    /// [`NatsBus::serve_here`] is called on the thread of a worker, and is served there.
    ///
    /// A publication from NATS then takes one thread instead of two, some tenth less processor time, and comes
    /// sooner; but a worker with long callbacks keeps the bus waiting, and has its work beside that of connections.
    /// For one worker, or where there are more workers than cores.
    pub fn on_worker(mut self) -> Self {
        self.is_on_worker = true;
        self
    }

    /// Most bytes that wait for the loop of the bus; publications beyond it do not leave this process.
    /// Default: 64 MiB.
    pub fn queued_bytes_max(mut self, bytes: usize) -> Self {
        self.queued_bytes_max = bytes;
        self
    }

    /// Called when the status changes, on the thread that serves the bus.
    pub fn on_status(mut self, call: impl Fn(&NatsStatus) + Send + Sync + 'static) -> Self {
        self.on_status = Some(Box::new(call));
        self
    }

    /// Makes the bus, which connects when a hub is attached.
    ///
    /// # Errors
    ///
    /// When the URL or the prefix is none.
    pub fn build(self) -> Result<Arc<NatsBus>, NatsConfigError> {
        let servers = servers(&self.url)?;
        let subjects = Subjects::new(&self.prefix)
            .ok_or_else(|| NatsConfigError::Prefix { prefix: self.prefix.clone() })?;
        let (sender, commands) = tokio_mpsc::unbounded_channel();
        let names = servers.iter().map(shown).collect::<Vec<_>>().join(", ");
        let mode = if self.jet_stream.is_some() { BusMode::Log } else { BusMode::Relay };
        let shared = Arc::new(Shared::new(names, mode, self.on_status));
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let queue = Queue::new(sender, self.queued_bytes_max, Arc::clone(&waiting_bytes));
        let plan = Plan {
            servers,
            options: self.options,
            subjects,
            jet_stream: self.jet_stream,
            commands: Commands::new(commands, waiting_bytes),
            wanted: Wanted::new(),
            shared: Arc::clone(&shared),
            was_connected: false,
        };
        let home = Mutex::new(Home::Unattached(plan));
        Ok(Arc::new(NatsBus { shared, queue, is_on_worker: self.is_on_worker, home }))
    }
}

impl Bus for NatsBus {
    fn mode(&self) -> BusMode {
        self.shared.mode
    }

    fn attach(&self, inlet: Inlet) -> Result<(), BusError> {
        let mut home = self.home();
        match std::mem::replace(&mut *home, Home::Served) {
            Home::Unattached(plan) if self.is_on_worker => *home = Home::Attached(plan, inlet),
            Home::Unattached(plan) => {
                drop(home);
                home::serve_on_thread(plan, inlet)?;
            }
            before => {
                *home = before;
                return Err(BusError::new("the bus has a hub already: make another"));
            }
        }
        Ok(())
    }

    fn subscribe(&self, subject: &str, history: History) {
        self.queue.push(Command::Subscribe(subject.to_owned(), history));
    }

    fn unsubscribe(&self, subject: &str) {
        self.queue.push(Command::Unsubscribe(subject.to_owned()));
    }

    fn publish(&self, message: BusMessage) -> Result<(), BusError> {
        if !self.shared.is_connected() {
            self.shared.count_unsent();
            return Err(BusError::new(format!("{}", self.shared.status())));
        }
        if !self.queue.push_message(message) {
            self.shared.count_unsent();
            return Err(BusError::new("NATS takes publications more slowly than they come"));
        }
        Ok(())
    }

    fn subscribers(&self, topic: &str) -> usize {
        self.shared.presence.subscribers(topic)
    }

    fn is_ready(&self) -> bool {
        self.shared.is_connected()
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBus").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl fmt::Debug for NatsBusBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBusBuilder").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Parses the URLs of servers.
fn servers(urls: &str) -> Result<Vec<async_nats::ServerAddr>, NatsConfigError> {
    let parse = |url: &str| {
        let url = url.trim();
        let fault = || NatsConfigError::Url { url: without_password(url) };
        let address = url.parse::<async_nats::ServerAddr>().map_err(|_| fault())?;
        let is_known = matches!(address.scheme(), "nats" | "tls");
        if is_known && !address.host().is_empty() { Ok(address) } else { Err(fault()) }
    };
    urls.split(',').map(parse).collect()
}

/// A server as errors show it: without user and password.
fn shown(address: &async_nats::ServerAddr) -> String {
    format!("{}://{}:{}", address.scheme(), address.host(), address.port())
}

/// A URL without what precedes its last `@`.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

/// What subjects begin with by default.
const PREFIX: &str = "picows";
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// A server that does not answer is left after two of them.
const PING_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_settings_are_named_without_passwords() {
        let build = |url: &str| NatsBus::builder(url).build().map(drop);
        for url in ["nats://127.0.0.1:4222", "127.0.0.1", "tls://a:1,nats://b", "nats://u:p@h:1"] {
            assert_eq!(build(url), Ok(()), "{url}");
        }
        for url in ["http://u:SECRET@h:1", "nats://", "nats://a, ftp://u:SECRET@b", ""] {
            let error = build(url).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("nats://HOST:4222") && !text.contains("SECRET"), "{url}: {text}");
        }
        for prefix in ["", "a b", "a.*", ">", "a..b", ".a", "$JS.API\r"] {
            let error = NatsBus::builder("nats://h").prefix(prefix).build().map(drop).unwrap_err();
            assert!(matches!(error, NatsConfigError::Prefix { .. }), "{prefix:?}");
        }
    }

    #[test]
    fn without_a_connection_nothing_is_ready_and_publishing_says_why() {
        let bus = NatsBus::builder("nats://u:SECRET@127.0.0.1:1").build().unwrap();
        assert!(!bus.is_ready() && !bus.wait_connected(Duration::ZERO));
        let message = BusMessage::new("a", picows_uring::MsgType::Text, "x");
        let error = bus.publish(message).unwrap_err().to_string();
        assert!(error.contains("nats://127.0.0.1:1") && !error.contains("SECRET"), "{error}");
        assert_eq!(bus.stats().unsent, 1);
    }
}
