//! Facts of a connection: its handshake, its addresses, TLS.

use super::Transport;
use crate::ring;
#[cfg(feature = "_tls")]
use picows_uring_proto::TlsInfo;
use picows_uring_proto::{ResponseHead, UpgradeRequest};
use std::net::SocketAddr;
use std::time::SystemTime;

impl Transport {
    /// The upgrade request, unless the server was built with `keep_request(false)`.
    #[must_use]
    pub fn request(&self) -> Option<&UpgradeRequest> {
        self.session.request()
    }

    /// The server's answer to the upgrade request; `None` on the server's side.
    #[must_use]
    pub fn response(&self) -> Option<&ResponseHead> {
        self.session.response()
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.session.subprotocol()
    }

    /// The address of the peer; `None` on a Unix socket. Of a client, it is the proxy where there is one; of
    /// a server, the client that a trusted proxy has named
    /// ([`ServerBuilder::trusted_proxies`](crate::ServerBuilder::trusted_proxies)), or else the proxy.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.session.peer.get()
    }

    /// Our own address on this connection; `None` on a Unix socket and after the end.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.with_socket(ring::local_addr).flatten()
    }

    /// When the kernel received the last byte of the frame that is being handled, or what came with it:
    /// the last segment of the receive that brought it, by the system's clock. With TLS, it is that of the
    /// last byte of its record.
    ///
    /// In callbacks that a receive causes, if
    /// [`receive_timestamps`](crate::ServerBuilder::receive_timestamps) is on. `None` at all other times,
    /// on Unix sockets, on streams of an embedding application, in tests in memory, and for a moment after
    /// the first socket of the machine has asked for it: the kernel begins a little later.
    ///
    /// ```
    /// use picows_uring::{Frame, ListenerResult, Transport};
    ///
    /// fn on_frame(transport: &Transport, _: &Frame<'_>) -> ListenerResult {
    ///     // How long the frame has waited in the socket and in this process.
    ///     let waited = transport.received_at().and_then(|at| at.elapsed().ok());
    ///     println!("{waited:?}");
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn received_at(&self) -> Option<SystemTime> {
        let (token, stamp) = self.session.local.stamp.get()?;
        (token == self.session.token).then(|| stamp.time())
    }

    /// Whether we connected, rather than accepted.
    #[must_use]
    pub fn is_client_side(&self) -> bool {
        self.session.is_client
    }

    /// Whether the connection is encrypted by this runtime as far as the peer (`wss://`), and not by a proxy
    /// in front of the server, or only as far as a proxy of the client.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.session.is_secure()
    }

    /// What TLS agreed on; `None` on a connection without it, and where the server was built with
    /// `keep_request(false)`.
    #[cfg(feature = "_tls")]
    #[must_use]
    pub fn tls_info(&self) -> Option<&TlsInfo> {
        self.session.tls_facts().map(|facts| &facts.info)
    }

    /// The certificates of the peer as DER, its own first; empty without TLS, where the peer has sent none,
    /// and where the server was built with `keep_request(false)`.
    #[cfg(feature = "_tls")]
    #[must_use]
    pub fn peer_certificates(&self) -> &[Vec<u8>] {
        self.session.tls_facts().map_or(&[], |facts| &facts.peer_certificates)
    }
}
