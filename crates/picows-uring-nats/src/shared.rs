//! State of a bus that its handles and its thread share: the queue, the status and the counters.

use crate::presence::Presence;
use picows_uring::topics::{BusMessage, BusMode, History};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::mpsc as tokio_mpsc;

/// The connection of a bus to its server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NatsStatus {
    /// There was none yet.
    Connecting {
        /// The servers.
        servers: String,
        /// Why the last attempt failed.
        error: Option<String>,
    },
    /// It is there.
    Connected {
        /// The servers.
        servers: String,
    },
    /// It was lost, and is being made again.
    Disconnected {
        /// The servers.
        servers: String,
        /// What is known of the cause.
        error: Option<String>,
    },
    /// It is there, but its stream is not.
    NoStream {
        /// The servers.
        servers: String,
        /// What is wrong with the stream.
        error: String,
    },
    /// The bus was closed, or its hub has gone.
    Closed,
}

/// Counters of a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsStats {
    /// Publications handed to the server.
    pub sent: u64,
    /// Publications that did not leave this process, as there was no connection or too much was queued.
    pub unsent: u64,
    /// Messages received for the hub.
    pub received: u64,
    /// Messages received that are no publication.
    pub malformed: u64,
    /// Gaps reported to the hub: one for each subject after a lost connection.
    pub gaps: u64,
    /// Times that the connection was made again.
    pub reconnects: u64,
}

/// Command of a handle to the thread of the bus.
pub(crate) enum Command {
    Subscribe(String, History),
    Unsubscribe(String),
    Publish(BusMessage),
    Close(mpsc::SyncSender<()>),
}

/// Sender of commands, with the bound of what waits.
pub(crate) struct Queue {
    commands: tokio_mpsc::UnboundedSender<Command>,
    bytes_max: usize,
    /// Given back by the thread when it has taken a message.
    bytes: Arc<AtomicUsize>,
}

pub(crate) type OnStatus = Box<dyn Fn(&NatsStatus) + Send + Sync>;

/// State that the handles and the thread share.
pub(crate) struct Shared {
    servers: String,
    pub(crate) mode: BusMode,
    /// Of the other nodes.
    pub(crate) presence: Presence,
    is_connected: AtomicBool,
    status: Mutex<NatsStatus>,
    changed: Condvar,
    on_status: Option<OnStatus>,
    sent: AtomicU64,
    unsent: AtomicU64,
    received: AtomicU64,
    malformed: AtomicU64,
    gaps: AtomicU64,
    reconnects: AtomicU64,
}

impl Queue {
    pub(crate) fn new(
        commands: tokio_mpsc::UnboundedSender<Command>,
        bytes_max: usize,
        bytes: Arc<AtomicUsize>,
    ) -> Self {
        Self { commands, bytes_max, bytes }
    }

    /// Queues a command that has to get through. Returns whether there is a thread to take it.
    pub(crate) fn push(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Queues a publication, unless too much waits.
    pub(crate) fn push_message(&self, message: BusMessage) -> bool {
        let cost = cost(&message);
        if self.bytes.fetch_add(cost, Ordering::Relaxed).saturating_add(cost) > self.bytes_max {
            self.bytes.fetch_sub(cost, Ordering::Relaxed);
            return false;
        }
        self.push(Command::Publish(message))
    }
}

/// Memory of a message that waits.
pub(crate) fn cost(message: &BusMessage) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    MESSAGE_BYTES + message.topic.len() + message.payload.len() + headers
}

impl Shared {
    pub(crate) fn new(servers: String, mode: BusMode, on_status: Option<OnStatus>) -> Self {
        let status = NatsStatus::Connecting { servers: servers.clone(), error: None };
        Self {
            servers,
            mode,
            presence: Presence::default(),
            is_connected: AtomicBool::new(false),
            status: Mutex::new(status),
            changed: Condvar::new(),
            on_status,
            sent: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> NatsStatus {
        self.lock().clone()
    }

    pub(crate) fn wait_connected(&self, limit: Duration) -> bool {
        let is_not = |status: &mut NatsStatus| !matches!(status, NatsStatus::Connected { .. });
        let waited = self.changed.wait_timeout_while(self.lock(), limit, is_not);
        let (status, _) = waited.unwrap_or_else(PoisonError::into_inner);
        matches!(*status, NatsStatus::Connected { .. })
    }

    pub(crate) fn connecting(&self, error: String) {
        self.set(NatsStatus::Connecting { servers: self.servers.clone(), error: Some(error) });
    }

    pub(crate) fn connected(&self) {
        self.set(NatsStatus::Connected { servers: self.servers.clone() });
    }

    pub(crate) fn disconnected(&self, error: Option<String>) {
        self.set(NatsStatus::Disconnected { servers: self.servers.clone(), error });
    }

    pub(crate) fn no_stream(&self, error: String) {
        self.set(NatsStatus::NoStream { servers: self.servers.clone(), error });
    }

    pub(crate) fn closed(&self) {
        self.set(NatsStatus::Closed);
    }

    /// Sets the status, and reports it if it is another.
    fn set(&self, status: NatsStatus) {
        self.is_connected.store(matches!(status, NatsStatus::Connected { .. }), Ordering::Release);
        let before = std::mem::replace(&mut *self.lock(), status.clone());
        if before == status {
            return;
        }
        self.changed.notify_all();
        if matches!(status, NatsStatus::Connected { .. } | NatsStatus::Closed) {
            tracing::info!("{status}");
        } else {
            tracing::warn!("{status}");
        }
        if let Some(call) = &self.on_status {
            call(&status);
        }
    }

    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_unsent(&self) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_reconnects(&self, count: u64) {
        self.reconnects.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> NatsStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NatsStats {
            sent: load(&self.sent),
            unsent: load(&self.unsent),
            received: load(&self.received),
            malformed: load(&self.malformed),
            gaps: load(&self.gaps),
            reconnects: load(&self.reconnects),
        }
    }

    fn lock(&self) -> MutexGuard<'_, NatsStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for NatsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = |error: &Option<String>| {
            error.as_ref().map_or_else(String::new, |error| format!(": {error}"))
        };
        match self {
            Self::Connecting { servers, error } => write!(
                f,
                "NATS at {servers} is not connected{}: start nats-server there, or correct the \
                 URL; until then topics reach this process only",
                cause(error)
            ),
            Self::Connected { servers } => write!(f, "NATS at {servers} is connected"),
            Self::Disconnected { servers, error } => write!(
                f,
                "NATS at {servers} was lost{}: topics reach this process only until it is back",
                cause(error)
            ),
            Self::NoStream { servers, error } => write!(f, "NATS at {servers}: {error}"),
            Self::Closed => f.write_str("the bus on NATS is closed"),
        }
    }
}

/// What a message costs besides its bytes.
const MESSAGE_BYTES: usize = 256;
