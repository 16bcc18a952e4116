//! Faults of a proxy, and of what was asked of it.
//!
//! No text has a user or a password: errors end in logs.

use crate::client::error::{ConnectFault, shown_error, tell_attempts};
use crate::error::{name_cure, shown};
#[cfg(feature = "_tls")]
use crate::tls::{HandshakeError, TlsError};
use picows_uring_proto::internal::debug_with_text;
use picows_uring_proto::{TunnelError, TunnelMisuse};
use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// Fault of a proxy, or of the way through it.
///
/// ```
/// use picows_uring::{ConnectError, ConnectFault};
///
/// /// Whether the proxy is to blame, and may be there later.
/// fn is_proxy_down(error: &ConnectError) -> bool {
///     matches!(error.fault(), ConnectFault::Proxy { fault, .. } if fault.is_transient())
/// }
/// ```
#[derive(Error)]
#[non_exhaustive]
pub enum ProxyFault {
    /// Its URL cannot be used.
    #[error("{0}")]
    Url(String),
    /// It cannot be asked for this: a header, a user or the server's name cannot be sent.
    #[error(transparent)]
    Option(#[from] TunnelMisuse),
    /// The name of its host has no address.
    #[error(
        "its name {} cannot be resolved ({source}): check its URL, or the variable it came from{}",
        shown(host).quoted(),
        name_cure()
    )]
    Resolve {
        /// The name.
        host: String,
        /// Answer of the resolver.
        source: io::Error,
    },
    /// None of its addresses answered.
    #[error("{}, and its URL or the variable it came from", tell_attempts(attempts, "the proxy"))]
    Unreachable {
        /// Each address that was tried, and what happened.
        attempts: Vec<(SocketAddr, io::Error)>,
    },
    /// It refused, or broke the protocol.
    #[error("{0}")]
    Tunnel(#[source] TunnelError),
    /// The connection to it broke.
    #[error("the connection to it broke: {}", shown_error(.0))]
    Io(#[source] io::Error),
    /// The settings of TLS to it cannot be used, such as roots that cannot be read.
    #[cfg(feature = "_tls")]
    #[error("TLS to it: {0}")]
    TlsSettings(#[source] Box<TlsError>),
    /// TLS to it failed. What a text says of a server or a peer is meant of the proxy.
    #[cfg(feature = "_tls")]
    #[error("{}", tell_tls(.0))]
    Tls(#[source] Box<HandshakeError>),
}

#[cfg(not(feature = "_tls"))]
debug_with_text! { ProxyFault: Url, Option, Resolve, Unreachable, Tunnel, Io }
#[cfg(feature = "_tls")]
debug_with_text! { ProxyFault: Url, Option, Resolve, Unreachable, Tunnel, Io, TlsSettings, Tls }

impl From<TunnelError> for ProxyFault {
    fn from(error: TunnelError) -> Self {
        Self::Tunnel(error)
    }
}

#[cfg(feature = "_tls")]
impl From<HandshakeError> for ProxyFault {
    fn from(error: HandshakeError) -> Self {
        Self::Tls(Box::new(error))
    }
}

impl ProxyFault {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Url(_) | Self::Option(_) => false,
            #[cfg(feature = "_tls")]
            Self::TlsSettings(_) | Self::Tls(_) => false,
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::Io(_) => true,
            Self::Tunnel(error) => error.is_transient(),
        }
    }
}

/// The same fault, of a proxy instead of a server; as it is, if it is one of this machine.
pub(super) fn of_proxy(fault: ConnectFault) -> Result<ProxyFault, ConnectFault> {
    match fault {
        ConnectFault::Resolve { host, source } => Ok(ProxyFault::Resolve { host, source }),
        ConnectFault::Unreachable { attempts } => Ok(ProxyFault::Unreachable { attempts }),
        #[cfg(feature = "_tls")]
        ConnectFault::TlsSettings(error) => Ok(ProxyFault::TlsSettings(error.into())),
        fault => Err(fault),
    }
}

/// A fault of TLS with the cure that a proxy has.
#[cfg(feature = "_tls")]
fn tell_tls(error: &HandshakeError) -> String {
    match error {
        HandshakeError::PlainHttpAnswer => {
            "it speaks plain HTTP on this port: its URL begins with http://".to_owned()
        }
        HandshakeError::NotTls { first } => format!(
            "it does not speak TLS on this port (its first bytes are {first}): check the port, and whether \
             its URL begins with http://"
        ),
        HandshakeError::UnknownIssuer { issuer, roots } => format!(
            "TLS to it: its certificate is issued by {issuer}, which is not among the roots ({roots}): give \
             the issuer with `Proxy::tls` (`--proxy-ca` of the command)"
        ),
        HandshakeError::SelfSigned { subject, roots } => format!(
            "TLS to it: its certificate ({subject}) is self-signed and not among the roots ({roots}): give \
             it with `Proxy::tls` (`--proxy-ca` of the command), or pin it there"
        ),
        HandshakeError::NameMismatch { expected, presented } => format!(
            "TLS to it: its certificate is not for {expected}; its names are {}: use one of them in the \
             proxy's URL",
            presented.join(", ")
        ),
        error => format!("TLS to it: {error}"),
    }
}

/// A proxy in an error text.
pub(in crate::client) fn shown_proxy(proxy: &str, variable: Option<&str>) -> String {
    match (proxy, variable) {
        ("", Some(variable)) => format!("the proxy of the variable {variable}"),
        (proxy, Some(variable)) => format!("the proxy {proxy} of the variable {variable}"),
        (proxy, None) => format!("the proxy {proxy}"),
    }
}
