//! WebSocket client and server runtime for Linux on io_uring or epoll, in the image of Python's
//! picows.
//!
//! For servers with many connections or many messages, and for clients that have to answer soon,
//! such as those of exchanges: a message costs no allocation, no task and, in a burst, no system
//! call of its own.
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
//! # Concepts
//!
//! - A **worker** is a thread with a loop, one for each core. It receives into registered buffers,
//!   parses frames where they lie, and sends what callbacks have queued once it has handled all
//!   that was received.
//! - A [`Listener`] has the callbacks of one connection. It stays on the thread of its worker, so
//!   it need not be `Send`. A [`Frame`] is lent for the time of a callback; [`Messages`] joins
//!   fragments.
//! - A [`Transport`] is the handle of a connection, to send and to end it. Sending never waits: a
//!   queue grows, up to a limit with a [policy](QueuePolicy), and [`SendStatus`] is the outcome.
//!   [`RemoteTransport`] does the same from any thread.
//! - The **factory** of a [`Server`] sees each request ([`UpgradeRequest`]) and returns an
//!   [`Upgrade`]: a listener, a plain HTTP answer, or a decision that is made
//!   [later](Upgrade::later).
//! - [`Connect`] makes a client connection, in [`run`] or in the loop of a worker; [`Reconnect`]
//!   makes it again.
//! - Async is beside the data path and never under it: [`spawn`] runs tasks on a worker, and
//!   [`WsStream`] is a connection as a stream of messages.
//! - [`topics`] deliver a publication to subscribers on all workers, with history and recovery.
//! - The [`Driver`] is io_uring where it can be used (Linux 6.1 or later, and allowed), else epoll
//!   on any Linux. Workers run in a loop of tokio ([`EventLoop`]) unless they are dedicated.
//!
//! # Not for
//!
//! - Other systems than Linux; a process that may have no threads of its own, unless its loop
//!   drives an [`Embedded`] worker.
//! - HTTP beyond small answers. An HTTP server may keep the port and hand connections over
//!   ([`ServerHandle::adopt_upgraded`]).
//! - Callbacks that compute for long: no other connection of the worker is served meanwhile.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `tls` | `wss://`, with cryptography by aws-lc-rs, which needs a C compiler |
//! | `tls-ring` | the same by ring, which builds faster |
//! | `tls-webpki-roots` | Mozilla's roots in the program, beside those of the system |
//! | `deflate` | permessage-deflate, for connections whose settings ask for it |
//! | `libdeflate` | the same, with libdeflate for whole messages without context takeover: needs a C compiler |
//! | `systemd` | socket activation by systemd, and notifications to it: the module `systemd` |
//! | `testing` | servers, clients and transports in memory, for tests: the module `testing` |
//!
//! # Guides
//!
//! - Begin: [Getting started](guides::getting_started), [Async iteration](guides::async_iteration),
//!   [Threads](guides::threads), [With tokio and axum](guides::tokio), [Errors](guides::errors),
//!   [Testing an application](guides::testing)
//! - Servers: [Authentication and Origin](guides::authentication), [Topics and
//!   rooms](guides::topics), [Slow peers](guides::slow_peers), [Memory](guides::memory), [Operating
//!   a server](guides::operating), [Metrics and health](guides::metrics),
//!   [Restarting](guides::restarting), [Behind nginx or HAProxy](guides::behind_a_proxy),
//!   [Containers and services](guides::containers)
//! - Connections: [TLS](guides::tls), [Compression](guides::compression), [Automatic
//!   pings](guides::auto_ping), [Round trips](guides::roundtrip), [Message
//!   fragmentation](guides::fragmentation), [Proxies](guides::proxies), [Socket
//!   options](guides::socket_options)
//! - Loops: [Drivers](guides::drivers), [Busy polling and dedicated threads](guides::busy_polling),
//!   [In another loop](guides::embedding)
//! - Coming from elsewhere: [From picows](guides::from_picows), [From
//!   tokio-tungstenite](guides::from_tokio_tungstenite), [From
//!   uWebSockets](guides::from_uwebsockets), [From ws](guides::from_ws)
//!
//! The protocol alone, without sockets and without a clock, is `picows-uring-proto`; the command
//! `picows`, an echo server, load generator and client, is `picows-cli`.

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
#[cfg(all(doc, not(doctest)))]
pub mod guides;
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
#[cfg(feature = "systemd")]
pub mod systemd;
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

    pub mod outside {
        //! Connections over streams that a carrier of the program brings, for the library for C.
        use crate::{
            Attempt, Connect, ConnectError, Embedded, Error, IntoUpgrade, Listener, ResponseHead,
            ServerBuilder, Transport, UpgradeRequest,
        };
        use std::net::SocketAddr;

        pub use crate::embedded::CarriedServer;
        pub use crate::ring::outside::{Carried, Carrier};

        /// [`Embedded::connect`], over a stream instead of a socket.
        ///
        /// # Errors
        ///
        /// As those of `connect`; the carrier is closed.
        pub fn connect<L: Listener + 'static>(
            worker: &Embedded,
            connect: Connect,
            carrier: Box<dyn Carrier>,
            peer: Option<SocketAddr>,
            make: impl FnOnce(&UpgradeRequest, &ResponseHead) -> L + 'static,
            outcome: impl FnOnce(Result<Transport, ConnectError>) + 'static,
        ) -> Result<(Attempt, Option<Carried>), ConnectError> {
            worker.connect_carried(connect, carrier, peer, make, outcome)
        }

        /// Takes settings and a factory for connections that are accepted elsewhere.
        ///
        /// # Errors
        ///
        /// As those of [`Embedded::listen`] about settings.
        pub fn serve<F, U>(
            worker: &Embedded,
            builder: ServerBuilder,
            factory: F,
        ) -> Result<CarriedServer, Error>
        where
            F: Fn(&UpgradeRequest) -> U + 'static,
            U: IntoUpgrade,
        {
            worker.serve_carried(builder, factory)
        }

        /// Serves a stream whose peer has connected.
        ///
        /// # Errors
        ///
        /// In a callback ([`Error::InsideTurn`]), or when the worker has failed. The carrier is closed.
        pub fn accept(
            worker: &Embedded,
            server: &CarriedServer,
            carrier: Box<dyn Carrier>,
            peer: Option<SocketAddr>,
        ) -> Result<Carried, Error> {
            worker.accept_carried(server, carrier, peer)
        }

        /// Calls `with` with the carrier of a connection, if it has one.
        pub fn with_carrier<T>(
            transport: &Transport,
            with: impl FnOnce(&dyn Carrier) -> T,
        ) -> Option<T> {
            let session = transport.session();
            let carrier = session.local.streams.get()?.carrier(session.socket.get()?)?;
            Some(with(&***carrier))
        }
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
pub use host::{EventLoop, UnknownEventLoop};
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
