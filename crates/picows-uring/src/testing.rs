//! Tests without a kernel: transports, servers and clients in memory, with a clock that the test moves.
//!
//! Needs the feature `testing`, for `[dev-dependencies]`. Neither io_uring nor a socket is used, so
//! it works wherever the program runs at all: in containers that forbid io_uring, in sandboxes, in
//! parallel. The worker, the sessions and the protocol are those of the library; a simulated ring is
//! below them. The guide "Testing" has an example of each kind.
//!
//! A listener by itself is called by the test, with a transport whose peer is a [`Peer`]:
//!
//! ```
//! use picows_uring::{Frame, Listener, ListenerResult, MsgType, Transport, testing};
//!
//! struct Shout;
//!
//! impl Listener for Shout {
//!     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
//!         transport.send_text(frame.text()?.to_uppercase());
//!         Ok(())
//!     }
//! }
//!
//! let (transport, sent) = testing::transport();
//! Shout.on_frame(&transport, &Frame::new(MsgType::Text, b"hello"))?;
//! assert_eq!(sent.texts(), ["HELLO"]);
//! # Ok::<(), picows_uring::ListenerError>(())
//! ```
//!
//! A whole server or client is in a [`Network`], and so is the time:
//!
//! ```
//! use picows_uring::testing::Network;
//! use picows_uring::{AutoPing, Connect, EchoListener, Server, Upgrade};
//! use std::time::Duration;
//!
//! let ping = AutoPing::new(Duration::from_secs(10), Duration::from_secs(5));
//! let network = Network::serve(Server::builder().auto_ping(ping), |request| match request.path() {
//!     "/echo" => Upgrade::accept(EchoListener),
//!     _ => Upgrade::not_found(),
//! })?;
//! let peer = network.peer(Connect::new("ws://test/echo"));
//! peer.send_text("hello");
//! assert_eq!(peer.texts(), ["hello"]);
//!
//! peer.answer_pings(false);
//! network.advance(Duration::from_secs(16));
//! assert!(peer.is_ended(), "it did not answer its ping");
//! # Ok::<(), picows_uring::Error>(())
//! ```

#[cfg(any(test, feature = "_fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod kernel;
#[cfg(any(test, feature = "_fuzzing"))]
#[doc(hidden)]
pub mod measured;
mod network;
mod peer;
pub(crate) mod ring;
#[cfg(any(test, feature = "_fuzzing"))]
pub(crate) mod simulation;
#[cfg(test)]
mod tests;

pub use network::{Network, client_transport, transport};
pub use peer::{Peer, SentFrame};
