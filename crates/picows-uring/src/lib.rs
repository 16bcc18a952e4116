//! WebSocket client and server runtime for Linux on io_uring, in the image of Python's picows.
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
//! Needs Linux 6.1 or later with io_uring allowed; `docs/KERNEL.md` lists what is used.

mod client;
mod config;
mod connection;
mod counters;
mod error;
mod foreign;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod keys;
mod listener;
mod log;
mod log_limit;
mod mailbox;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod measured;
mod memory;
mod messages;
mod patience;
mod pool;
mod pulse;
mod reconnect;
mod remote;
mod ring;
mod roundtrip;
mod runtime;
mod server;
mod session;
#[cfg(any(test, feature = "fuzzing"))]
mod simulation;
mod socket;
mod stream;
mod sync;
mod task;
mod transport;
mod unix_url;
mod watch;
mod worker;

pub use client::{Connect, ConnectError, ConnectFault, ConnectStage, RedirectKeeps};
pub use config::QueuePolicy;
pub use counters::Stats;
pub use error::Error;
pub use listener::{EchoListener, Listener, ListenerError, ListenerResult};
pub use messages::{MessageListener, MessageWriter, Messages};
pub use reconnect::{Backoff, Reconnect};
pub use remote::{RemoteError, RemoteTransport};
pub use roundtrip::RoundtripError;
pub use runtime::{Runtime, RuntimeBuilder, run};
pub use server::{
    IntoUpgrade, Monitor, Server, ServerBuilder, ServerHandle, Stopper, Upgrade, WorkerState,
    WorkerStatus,
};
pub use socket::ListenAddress;
pub use stream::{OwnedMessage, SendError, StreamOptions, WhenFull, WsStream};
pub use task::{SpawnError, Task, TaskFailed, spawn};
pub use transport::{DisconnectCause, SendStatus, Transport};

pub use picows_uring_proto::{
    ApiMisuse, Assembled, AutoPing, AutoPingStrategy, CloseCode, CloseFrame, CloseHandshake,
    Escaped, FRAME_HEADER_BYTES_MAX, Frame, FrameHead, HandshakeMisuse, InvalidMessage, Message,
    MessageAssembler, MessageFault, MsgType, PeerMisbehaved, RejectedResponse, RequestError,
    ResponseError, ResponseHead, RetryAfter, UpgradeRequest, UpgradeResponse, select_subprotocol,
};
