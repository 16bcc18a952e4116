//! Faults of a proxy, and of what was asked of it.
//!
//! No text has a user or a password: errors end in logs.

use crate::client::error::{ConnectFault, shown_error, tell_attempts};
use crate::error::{name_cure, shown};
use picows_uring_proto::internal::debug_with_text;
use picows_uring_proto::{TunnelError, TunnelMisuse};
use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// What is wrong with a proxy, or on the way through it.
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
        /// What the resolver said.
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
}

debug_with_text! { ProxyFault: Url, Option, Resolve, Unreachable, Tunnel, Io }

impl From<TunnelError> for ProxyFault {
    fn from(error: TunnelError) -> Self {
        Self::Tunnel(error)
    }
}

impl ProxyFault {
    /// Whether trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Url(_) | Self::Option(_) => false,
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
        fault => Err(fault),
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
