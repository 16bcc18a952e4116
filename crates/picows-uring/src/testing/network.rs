//! Network in memory: one worker on a simulated ring without faults, and everything that is connected
//! to it.

use super::kernel::Kernel;
use super::peer::Peer;
use crate::client::{Connect, ConnectError};
use crate::command::Command;
use crate::config::Config;
use crate::error::Error;
use crate::health::Stats;
use crate::listener::{Listener, ListenerResult};
use crate::server::{Server, ServerBuilder};
use crate::transport::Transport;
use crate::upgrade::{IntoUpgrade, Upgrade};
use picows_uring_proto::{Frame, UpgradeRequest};
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A network in memory, with a server in it or none, and a clock that stands still until the test
/// [advances](Self::advance) it. Cheap to clone.
///
/// Each call of it and of its [`Peer`]s ends when nothing is left to be done without time passing:
/// what was sent has arrived, was handled and answered. Handles of connections ([`Transport`],
/// [`RemoteTransport`](crate::RemoteTransport)) may be used directly; what is queued with them leaves
/// with the next call.
///
/// Connections belong to the network, and end with its last clone and its last peer.
///
/// # Panics
///
/// All methods panic when they are called inside of a callback of this network, which is in the
/// middle of its turn.
///
/// ```
/// use picows_uring::testing::Network;
/// use picows_uring::{Connect, DisconnectCause, EchoListener};
///
/// let network = Network::new();
/// let (transport, server) = network.dial(Connect::new("ws://test/"), EchoListener)?;
/// server.send_text("hello");
/// assert_eq!(server.texts(), ["hello"]);
/// server.hang_up();
/// assert_eq!(transport.disconnect_cause(), Some(DisconnectCause::EndOfStream));
/// # Ok::<(), picows_uring::ConnectError>(())
/// ```
#[derive(Clone)]
pub struct Network {
    kernel: Rc<RefCell<Kernel>>,
}

impl Network {
    /// A network in which no server listens: for clients alone, whose servers are peers
    /// ([`dial`](Self::dial)).
    #[must_use]
    pub fn new() -> Self {
        Self::with(Kernel::new(Arc::new(Config::default())))
    }

    /// A network with one server. Settings of its connections hold as they do for
    /// [`ServerBuilder::start`]; those of threads, addresses and drivers have no effect. `factory`
    /// stays on this thread, so it may hold an `Rc`.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or is TLS: records are encrypted between sockets only.
    pub fn serve<F, U>(builder: ServerBuilder, factory: F) -> Result<Self, Error>
    where
        F: Fn(&UpgradeRequest) -> U + 'static,
        U: IntoUpgrade,
    {
        let config = builder.into_config()?;
        if config.tls.is_some() {
            let fault = "a network in memory has no TLS: leave it out".to_owned();
            return Err(Error::Config { setting: "tls", fault });
        }
        let mut kernel = Kernel::new(Arc::clone(&config));
        kernel.listen(config, Box::new(move |request| factory(request).into_upgrade()));
        Ok(Self::with(kernel))
    }

    fn with(kernel: Kernel) -> Self {
        Self { kernel: Rc::new(RefCell::new(kernel)) }
    }

    pub(super) fn kernel(&self) -> RefMut<'_, Kernel> {
        let kernel = self.kernel.try_borrow_mut();
        kernel.expect(
            "a network is not used inside of its callbacks: keep what you need, and use it after",
        )
    }

    /// Connects a peer to the server: a client that the test plays. `connect` gives the request: URL,
    /// headers and subprotocols; its other settings have no effect. [`Peer::status`] is the answer.
    ///
    /// # Panics
    ///
    /// When no server listens, or the request cannot be made.
    #[must_use]
    pub fn peer(&self, connect: Connect) -> Peer {
        let id = self.kernel().connect_peer(connect);
        Peer::new(self.clone(), id)
    }

    /// Connects a client of this library to the server, and returns when its handshake is over.
    ///
    /// # Errors
    ///
    /// As [`Connect::connect`], with [`ConnectFault::Unreachable`](crate::ConnectFault::Unreachable)
    /// where no server listens. Redirects are not followed.
    pub fn client(
        &self,
        connect: Connect,
        listener: impl Listener + 'static,
    ) -> Result<Transport, ConnectError> {
        self.kernel().connect_client(connect, Box::new(listener))
    }

    /// Connects a client of this library to a peer: a server that the test plays, which accepts every
    /// request, with the first of the subprotocols. [`Peer::request`] is the request.
    ///
    /// # Errors
    ///
    /// As [`Connect::connect`].
    pub fn dial(
        &self,
        connect: Connect,
        listener: impl Listener + 'static,
    ) -> Result<(Transport, Peer), ConnectError> {
        let (transport, id) = self.kernel().dial(connect, Box::new(listener))?;
        Ok((transport, Peer::new(self.clone(), id)))
    }

    /// Lets so much time pass. Deadlines that lie in it fire one after the other, each at its time.
    pub fn advance(&self, by: Duration) {
        self.kernel().advance(by);
    }

    /// Delivers what was queued by handles outside of callbacks, and all that follows from it.
    pub fn settle(&self) {
        self.kernel().settle();
    }

    /// The time since the network was made.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.kernel().now()
    }

    /// What its worker has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.kernel().stats()
    }

    /// Stops the server, as [`ServerHandle::stop_within`](crate::ServerHandle::stop_within): CLOSE
    /// 1001 for every connection, and the end of those that are left after `drain`, which
    /// [`advance`](Self::advance) brings.
    pub fn stop_within(&self, drain: Duration) {
        let mut kernel = self.kernel();
        kernel.post(Command::Stop { drain });
        kernel.settle();
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// An open connection of a server, and its peer, which has what is sent.
///
/// The connection has no listener: the test calls its own, as in the example of
/// [the module](crate::testing). It lives as long as the peer. [`Network::serve`] is for connections
/// with settings, and for a listener that the worker calls.
#[must_use]
pub fn transport() -> (Transport, Peer) {
    let transport = Rc::new(Cell::new(None));
    let keeps = Rc::clone(&transport);
    let served =
        Network::serve(Server::builder(), move |_| Upgrade::accept(Keep(Rc::clone(&keeps))));
    let network = served.expect("the default settings make sense");
    let peer = network.peer(Connect::new("ws://test/"));
    (transport.take().expect("the server accepts every request"), peer)
}

/// The same on the client's side: what is sent is masked, and the peer is a server.
#[must_use]
pub fn client_transport() -> (Transport, Peer) {
    let listener = Keep(Rc::default());
    let dialed = Network::new().dial(Connect::new("ws://test/"), listener);
    dialed.expect("the peer accepts every request")
}

/// A listener that leaves its transport to the test, and does nothing.
struct Keep(Rc<Cell<Option<Transport>>>);

impl Listener for Keep {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.0.set(Some(transport.clone()));
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}
