//! Facts of a connection that the handshake agreed on, as plain data.

use std::fmt;
use std::sync::Arc;

/// Version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// Parameters that the handshake of a connection agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version.
    pub version: TlsVersion,
    /// Name of the cipher suite, as IANA registers it without the prefix `TLS_`, as in
    /// `AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// Name of the server that the client asked for (SNI). `None` if it sent none, or an address.
    pub sni: Option<Arc<str>>,
    /// The protocol that both agreed on (ALPN).
    pub alpn: Option<Arc<str>>,
    /// Whether a session was resumed, and no certificate asked for therefore.
    pub resumed: bool,
}

/// Everything that is known after a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// Parameters that both sides agreed on.
    pub info: TlsInfo,
    /// The certificates of the peer as DER, its own first. Empty if it has sent none. A resumed session
    /// has those of the session.
    pub peer_certificates: Vec<Vec<u8>>,
}
