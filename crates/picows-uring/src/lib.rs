//! WebSocket client and server runtime for Linux on io_uring or epoll, in the image of Python's picows.
//!
//! The data path is not async: each core runs one loop, on which a worker receives into
//! registered buffers, parses frames where they lie, and calls your [`Listener`] with a borrowed
//! [`Frame`]. Async is there for what is slow by nature, beside the data path and never under it.
//!
//! ```no_run
//! use picows_uring::{Frame, Listener, ListenerResult, Server, Transport, Upgrade};
//!
//! struct Echo;
//!
//! impl Listener for Echo {
//!     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
//!         transport.send_like(frame, frame.payload());
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<(), picows_uring::Error> {
//!     Server::builder().listen("127.0.0.1:9001").serve(|_request| Upgrade::accept(Echo))
//! }
//! ```
//!
//! On io_uring with Linux 6.1 or later, where that is allowed; else on epoll ([`Driver`]).
//! `docs/KERNEL.md` lists what is used.

#[cfg(not(target_os = "linux"))]
compile_error!("picows-uring is for Linux: it runs on io_uring or epoll");

mod admission;
mod client;
mod command;
mod config;
mod connection;
mod driver;
mod embedded;
mod error;
mod follow;
mod foreign;
mod frame_writer;
mod health;
mod host;
mod identity;
mod keys;
mod link;
mod listener;
mod local;
mod mailbox;
mod memory;
mod messages;
mod patience;
mod pool;
mod preflight;
mod prepared;
mod reconnect;
mod relay;
mod remote;
mod ring;
mod runtime;
mod server;
mod session;
mod socket;
mod status;
mod stopper;
mod stream;
mod sync;
mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
pub mod topics;
mod transport;
mod unix_url;
mod upgrade;
mod worker;

/// Names that the commands of this project need, and no other application. Not promised: semver does
/// not cover them, and any version may change or remove them.
#[doc(hidden)]
pub mod internal {
    /// Queues bytes that are no frame, for tests of peers that break the protocol.
    pub fn write_raw(transport: &crate::Transport, bytes: &[u8]) {
        transport.session().queue_raw(bytes.len(), |out| out.extend_from_slice(bytes));
    }

    pub mod preflight {
        pub use crate::preflight::*;
    }
}

/// The crates whose types are in signatures here, in the versions that fit.
pub use {bytes, http};

pub use client::{
    Attempt, Connect, ConnectError, ConnectFault, ConnectStage, Proxy, ProxyFault, RedirectKeeps,
};
pub use config::QueuePolicy;
pub use driver::{Driver, UnknownDriver};
pub use embedded::{Embedded, EmbeddedBuilder, Listening, Turned};
pub use error::{Error, RingError, RingFault};
pub use follow::{Follow, Followed};
pub use frame_writer::FrameWriter;
pub use health::Stats;
pub use health::WorkerState;
pub use identity::ConnectionId;
pub use listener::{EchoListener, Listener, ListenerError, ListenerResult};
pub use messages::{MessageListener, MessageWriter, Messages};
pub use preflight::probe;
pub use prepared::Prepared;
pub use reconnect::{Backoff, Reconnect, ReconnectError};
pub use relay::{Relay, relay};
pub use remote::{RemoteError, RemoteTransport};
pub use runtime::{Runtime, RuntimeBuilder, run};
pub use server::{Listen, Monitor, Server, ServerBuilder, ServerHandle, WorkerStatus};
pub use socket::ListenAddress;
pub use status::RoundtripError;
pub use status::{DisconnectCause, SendStatus};
pub use stopper::Stopper;
pub use stream::{OwnedMessage, SendError, StreamOptions, WhenFull, WsStream};
#[expect(deprecated)]
pub use task::TaskFailed;
pub use task::{SpawnError, Task, TaskError, spawn};
#[cfg(feature = "_tls")]
pub use tls::{
    Alert, Certificate, ClientCertificates, ClientTls, ClientTlsBuilder, Fingerprint,
    HandshakeError, InvalidFingerprint, Provider, ReadCertificate, ServerTls, ServerTlsBuilder,
    TlsError,
};
pub use transport::Transport;
pub use upgrade::{IntoUpgrade, Upgrade, WorkerInfo};

pub use picows_uring_proto::{
    ApiMisuse, Assembled, AutoPing, AutoPingStrategy, BasicCredentials, CloseCode, CloseFrame,
    CloseHandshake, Escaped, FRAME_HEADER_BYTES_MAX, Frame, FrameHead, FramePiece, HandshakeMisuse,
    InvalidMessage, InvalidNetwork, InvalidOrigin, Message, MessageAssembler, MessageFault,
    MsgType, Networks, OriginList, OriginPolicy, PeerMisbehaved, ProxyProtocol, RejectedResponse,
    RequestError, ResponseError, ResponseHead, RetryAfter, SocksRefusal, TlsInfo, TlsVersion,
    TrustedProxies, TunnelError, TunnelMisuse, UpgradeRequest, UpgradeResponse,
    preferred_subprotocol, select_subprotocol,
};
#[cfg(feature = "deflate")]
pub use picows_uring_proto::{Deflate, DeflateFault, NegotiatedDeflate};
