//! Handshakes, made by rustls: the only place that knows its connections.

use crate::client::ClientTls;
use crate::error::{HandshakeError, TlsError};
use crate::info::Facts;
use crate::secure::Secure;
use crate::server::ServerTls;

/// A handshake under way, of either side. Does no I/O, and is dropped when it is done.
pub struct Handshake {
    _private: (),
}

/// How far a handshake has come.
#[derive(Debug)]
pub enum Step {
    /// The input is used up, and more is needed. What is in `output` has to be sent first.
    NeedsMore {
        /// Always the whole input: an incomplete record is kept inside.
        consumed: usize,
    },
    /// The handshake is done. What is in `output` has to be sent first.
    Done {
        /// Length of what belonged to the handshake. What follows are records for [`Secure::next`].
        consumed: usize,
        /// The record layer of the connection.
        secure: Box<Secure>,
        /// What is known of the peer and the connection.
        facts: Facts,
    },
}

impl Handshake {
    /// Begins a handshake of a server, with its settings of this moment.
    pub fn server(tls: &ServerTls) -> Self {
        let _ = tls;
        Self { _private: () }
    }

    /// Begins a handshake of a client with the server `name`, a host name or an address.
    ///
    /// The first [`Self::advance`], with an empty input, writes the hello.
    pub fn client(tls: &ClientTls, name: &str) -> Result<Self, TlsError> {
        let _ = (tls, name);
        Ok(Self { _private: () })
    }

    /// Takes bytes of the peer and appends what it is owed to `output`.
    ///
    /// Call it with new bytes only. After an error `output` has the alert for the peer, and the handshake is
    /// over.
    pub fn advance(
        &mut self,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        let _ = (input, output);
        Err(HandshakeError::Local("not built yet".into()))
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}
