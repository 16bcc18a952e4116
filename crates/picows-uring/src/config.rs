//! Settings that connections have in common: limits, timeouts, switches.
//!
//! Filled by the builders, shared by all workers, read on the data path.

mod check;
mod settings;

pub(crate) use check::{WrongSetting, check_watermarks};
pub(crate) use settings::connection_settings;

use crate::admission::{Admission, AdmissionLimits, AdmissionState, Refusal};
use crate::memory::MemoryBudget;
use crate::tls::ServerTls;
use picows_uring_proto::{
    ConversationRules, FrameRules, HeadLimits, LivenessRules, Networks, OriginPolicy,
    ProgressRules, TrustedProxies, UpgradeRequest, UpgradeResponse,
};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Settings of every connection of a server, or of one of a client.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) head: HeadLimits,
    pub(crate) frames: FrameRules,
    /// permessage-deflate, as far as the peer agrees.
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<picows_uring_proto::Deflate>,
    pub(crate) conversation: ConversationRules,
    pub(crate) liveness: LivenessRules,
    pub(crate) progress: ProgressRules,
    /// By how much of it a lifetime may be cut at random: 0.0 to 1.0.
    pub(crate) lifetime_jitter: f64,
    /// Queued bytes of a connection above which its listener has to pause.
    pub(crate) high_watermark: usize,
    /// Queued bytes at or below which a paused listener may resume.
    pub(crate) low_watermark: usize,
    /// Queued bytes of a connection that are never passed.
    pub(crate) queue_bytes_max: usize,
    pub(crate) queue_policy: QueuePolicy,
    /// Whether the kernel reports when it received something.
    pub(crate) receive_timestamps: bool,
    /// Whether an error of `on_frame` ends the connection.
    pub(crate) disconnect_on_error: bool,
    /// Open connections of the whole server, all workers together.
    pub(crate) connections_max: Option<usize>,
    /// Open connections of one address, or of one IPv6 network of 64 bits.
    pub(crate) connections_per_address_max: Option<usize>,
    /// Handshakes in progress, of the whole server.
    pub(crate) handshakes_max: Option<usize>,
    /// Counts the connections of all workers with these settings; `None` for those of clients.
    pub(crate) admission: Option<Arc<Admission>>,
    /// Over which time the CLOSE 1001 of a worker that stops are spread; `None`: as long as their
    /// number takes at a fixed pace.
    pub(crate) drain_spread: Option<Duration>,
    /// How long a turn, or a callback, may take before it is reported; zero: any time.
    pub(crate) slow_callback: Duration,
    /// Whether another server may listen on the same ports, and all listening sockets are our own:
    /// then clients that connect while this one stops are left to that.
    pub(crate) leaves_port: bool,
    /// Whether the request is kept for [`Transport::request`](crate::Transport::request).
    pub(crate) keep_request: bool,
    /// How long a worker keeps unused memory.
    pub(crate) memory_release: Duration,
    /// What the connections of a worker may hold together with those of the others.
    pub(crate) memory: Arc<MemoryBudget>,
    /// TLS of the connections of a server; `None` for none.
    pub(crate) tls: Option<ServerTls>,
    /// Steps of TLS handshakes that a worker takes in a turn.
    pub(crate) tls_handshakes_per_turn: u16,
    /// Proxies that begin each connection with a header of the PROXY protocol.
    pub(crate) proxy_protocol: Option<Arc<Networks>>,
    /// Proxies that name the client in a header of the request.
    pub(crate) trusted_proxies: Option<Arc<TrustedProxies>>,
    /// The sites whose scripts may open connections.
    pub(crate) origins: OriginPolicy,
    /// Answers plain requests before the factory, if it wants to.
    pub(crate) probe: Option<Probe>,
}

/// Answers some plain requests in the place of the factory: those of operators.
#[derive(Clone)]
pub(crate) struct Probe(Arc<ProbeAnswer>);

type ProbeAnswer = dyn Fn(&UpgradeRequest) -> Option<UpgradeResponse> + Send + Sync;

impl Probe {
    pub(crate) fn new(
        answer: impl Fn(&UpgradeRequest) -> Option<UpgradeResponse> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(answer))
    }

    /// The answer to a request, if it is not the factory's.
    pub(crate) fn answer(&self, request: &UpgradeRequest) -> Option<UpgradeResponse> {
        if request.is_upgrade() { None } else { (self.0)(request) }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

impl Config {
    /// The settings of permessage-deflate, if messages may be compressed at all.
    pub(crate) fn deflate(&self) -> Option<picows_uring_proto::Deflate> {
        #[cfg(feature = "deflate")]
        return self.deflate;
        #[cfg(not(feature = "deflate"))]
        None
    }
}

/// Admission of the connections of a server, as far as they are counted.
impl Config {
    /// Counts a new connection, which begins its handshake, unless that would pass a limit. That of a
    /// proxy has no limit of its address.
    pub(crate) fn admit(&self, peer: Option<SocketAddr>) -> Result<(), Refusal> {
        let Some(admission) = &self.admission else { return Ok(()) };
        let is_proxy = self.has_proxies() && self.is_trusted_proxy(peer);
        admission.admit(&self.admission_limits(), peer.filter(|_| !is_proxy))
    }

    /// Counts a connection of a client behind a proxy, unless that would pass the limit of its address.
    pub(crate) fn admit_client(&self, client: Option<SocketAddr>) -> Result<(), Refusal> {
        let Some(admission) = &self.admission else { return Ok(()) };
        admission.admit_address(&self.admission_limits(), client)
    }

    /// Whether there may be proxies in front.
    #[inline]
    pub(crate) fn has_proxies(&self) -> bool {
        self.proxy_protocol.is_some() || self.trusted_proxies.is_some()
    }

    /// Whether requests are judged by where they come from.
    #[inline]
    pub(crate) fn judges_source(&self) -> bool {
        self.has_proxies() || self.origins != OriginPolicy::Any
    }

    /// Whether a peer is a proxy, which names its clients.
    pub(crate) fn is_trusted_proxy(&self, peer: Option<SocketAddr>) -> bool {
        let is_trusted =
            |proxies: &Arc<TrustedProxies>| peer.is_some_and(|it| proxies.trust(it.ip()));
        self.sends_proxy_header(peer) || self.trusted_proxies.as_ref().is_some_and(is_trusted)
    }

    /// Whether a peer begins with a header of the PROXY protocol. On a Unix socket, its path decides
    /// who may connect.
    pub(crate) fn sends_proxy_header(&self, peer: Option<SocketAddr>) -> bool {
        let Some(networks) = &self.proxy_protocol else { return false };
        peer.is_none_or(|peer| networks.contain(peer.ip()))
    }

    /// A handshake is over.
    pub(crate) fn handshake_ended(&self) {
        if let Some(admission) = &self.admission {
            admission.handshake_ended();
        }
    }

    /// A connection has gone, of which `state` says how it is counted.
    pub(crate) fn release_admission(&self, state: AdmissionState, peer: Option<SocketAddr>) {
        if let Some(admission) = &self.admission {
            admission.release(&self.admission_limits(), state, peer);
        }
    }

    /// The limits of its connections.
    pub(crate) fn admission_limits(&self) -> AdmissionLimits {
        AdmissionLimits {
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max,
            handshakes_max: self.handshakes_max,
        }
    }
}

/// The policy for a connection whose queue of unsent bytes would pass its limit.
///
/// ```
/// use picows_uring::{QueuePolicy, Server};
///
/// // Prices: a peer that reads slowly gets the newest, and not all of them.
/// let builder = Server::builder().max_queue_size(256 * 1024, QueuePolicy::DropOldest);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueuePolicy {
    /// CLOSE 1008 and the end: a peer that does not read is not served. The default.
    #[default]
    Close,
    /// The data frame that does not fit is dropped, and the sender told so. Control frames are
    /// never dropped, and a fragment that continues a message is not, either: the connection is
    /// closed as by [`Close`](Self::Close), as the message would arrive with a hole.
    DropNewest,
    /// The oldest messages that have not begun to leave are dropped until the new one fits: a peer
    /// that reads slowly gets what is new, with gaps. Whole messages only, with all fragments;
    /// control frames are never dropped, and do not wait behind data frames.
    ///
    /// About the first 64 KiB (a quarter of the limit, if that is less) that are unsent are as good
    /// as on their way, and what the kernel has taken is out of reach: the buffers of the socket
    /// (`SO_SNDBUF`) are what a slow peer lags behind at the least. A frame for which there is no
    /// room even so (it is larger than the queue, or a fragmented message is under way that fills
    /// it) is treated as by [`DropNewest`](Self::DropNewest).
    ///
    /// While frames wait, each is kept apart from the others, counts 160 bytes more towards the
    /// limit, and costs an allocation. A peer that keeps up costs nothing more.
    DropOldest,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            frames: FrameRules::default(),
            #[cfg(feature = "deflate")]
            deflate: None,
            conversation: ConversationRules::default(),
            liveness: LivenessRules::default(),
            progress: ProgressRules::default(),
            lifetime_jitter: LIFETIME_JITTER,
            high_watermark: HIGH_WATERMARK_BYTES,
            low_watermark: LOW_WATERMARK_BYTES,
            queue_bytes_max: QUEUE_BYTES_MAX,
            queue_policy: QueuePolicy::default(),
            receive_timestamps: false,
            disconnect_on_error: true,
            connections_max: None,
            connections_per_address_max: None,
            handshakes_max: Some(HANDSHAKES_MAX),
            admission: None,
            drain_spread: Some(Duration::ZERO),
            slow_callback: SLOW_CALLBACK,
            leaves_port: false,
            keep_request: true,
            memory_release: MEMORY_RELEASE,
            memory: MemoryBudget::of_process(),
            tls: None,
            probe: None,
            tls_handshakes_per_turn: TLS_HANDSHAKES_PER_TURN,
            proxy_protocol: None,
            trusted_proxies: None,
            origins: OriginPolicy::default(),
        }
    }
}

/// Connections that begin together end over a fifth of their lifetime, and come back so.
const LIFETIME_JITTER: f64 = 0.2;
/// As many as a backlog holds by default; more clients than that do not connect within the handshake
/// timeout of a server that keeps up.
const HANDSHAKES_MAX: usize = 4096;
/// As in the debug mode of asyncio.
const SLOW_CALLBACK: Duration = Duration::from_millis(100);
/// Longer than the pauses of a connection that is busy, and soon enough for what else runs here.
const MEMORY_RELEASE: Duration = Duration::from_secs(10);
/// Some 200 µs, a fifth of what a connection may take of a turn.
const TLS_HANDSHAKES_PER_TURN: u16 = 4;
/// As in picows and asyncio.
const HIGH_WATERMARK_BYTES: usize = 64 * 1024;
/// A quarter of the high one, so that pausing and resuming does not flutter.
const LOW_WATERMARK_BYTES: usize = 16 * 1024;
/// Six frames of the largest size that is accepted by default.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(LOW_WATERMARK_BYTES < HIGH_WATERMARK_BYTES);
const _: () = assert!(HIGH_WATERMARK_BYTES < QUEUE_BYTES_MAX);
