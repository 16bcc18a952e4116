//! A tunnel through a proxy: what a client sends to have one opened, and what the answers mean.
//!
//! HTTP CONNECT (RFC 9110 §9.3.6), SOCKS4, SOCKS4a, and SOCKS5 (RFC 1928, RFC 1929). Owns no socket and
//! resolves no names. Once the tunnel is open the client speaks first, in TLS as in HTTP, so nothing
//! may follow the answer.

mod connect;
mod error;
mod socks;
mod socks4;
mod socks5;

#[cfg(test)]
mod tests;

pub use error::{ProxyProtocol, SocksRefusal, TunnelError, TunnelMisuse};

use super::HandshakeMisuse;
use super::host::is_valid_host;
use connect::HttpConnect;
use socks4::Socks4;
use socks5::Socks5;
use std::fmt;
use std::net::{IpAddr, SocketAddrV4};

/// The opening of one tunnel.
///
/// Send what [`poll_transmit`](Self::poll_transmit) appends, then give what arrives to
/// [`handle_input`](Self::handle_input), and so on, until that returns a step.
///
/// ```
/// use picows_uring_proto::{Tunnel, TunnelStep};
///
/// let (mut tunnel, mut out) = (Tunnel::http("feed.example", 443)?, Vec::new());
/// tunnel.poll_transmit(&mut out);
/// assert!(out.starts_with(b"CONNECT feed.example:443 HTTP/1.1\r\nHost: feed.example:443\r\n"));
/// assert_eq!(tunnel.handle_input(b"HTTP/1.1 200 Connection est")?, None);
/// assert_eq!(tunnel.handle_input(b"ablished\r\n\r\n")?, Some(TunnelStep::Open));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Tunnel(Protocol);

#[derive(Debug)]
enum Protocol {
    Http(Box<HttpConnect>),
    Socks4(Socks4),
    Socks5(Socks5),
}

/// Step that an answer of the proxy leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelStep {
    /// The tunnel is open: what is sent now goes to the server.
    Open,
    /// Connect to the proxy again, and go on with the same tunnel: the answer to this connection's
    /// 407 needs another one.
    Reconnect,
}

/// User and password for a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyCredentials {
    user: String,
    password: String,
}

impl ProxyCredentials {
    /// A user with a password, either of which may be empty.
    ///
    /// ```
    /// use picows_uring_proto::ProxyCredentials;
    ///
    /// let credentials = ProxyCredentials::new("user", "secret");
    /// assert!(!format!("{credentials:?}").contains("secret"));
    /// ```
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

/// Neither is shown: debug output ends in logs, and a user may be a token.
impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyCredentials").finish_non_exhaustive()
    }
}

impl Tunnel {
    /// A tunnel through an HTTP proxy to `host`, a name or an address without brackets.
    ///
    /// # Errors
    ///
    /// When `host` cannot be in a request.
    pub fn http(host: &str, port: u16) -> Result<Self, TunnelMisuse> {
        let host = checked_host(host)?;
        Ok(Self(Protocol::Http(Box::new(HttpConnect::new(authority(host, port), port)))))
    }

    /// Adds a header to the request for the tunnel, which only the proxy sees. Of other protocols
    /// this is an error, as are headers that the request has already or that announce a body.
    ///
    /// # Errors
    ///
    /// When the header cannot be sent.
    pub fn with_header(
        mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, TunnelMisuse> {
        match &mut self.0 {
            Protocol::Http(connect) => connect.add_header(name, value.as_ref())?,
            Protocol::Socks4(_) | Protocol::Socks5(_) => {
                return Err(TunnelMisuse::HeaderOverSocks { name: name.to_owned() });
            }
        }
        Ok(self)
    }

    /// Adds credentials, which are sent when the proxy asks for them: to an HTTP proxy in answer to a
    /// 407 that offers `Basic` (RFC 7617), once; to a SOCKS5 proxy if it chooses so. SOCKS4 has a user
    /// and no password.
    ///
    /// # Errors
    ///
    /// When they cannot be sent: they are too long, have a 0, or a `:` in a user of HTTP.
    pub fn with_credentials(
        mut self,
        credentials: &ProxyCredentials,
    ) -> Result<Self, TunnelMisuse> {
        match &mut self.0 {
            Protocol::Http(connect) => connect.set_credentials(credentials)?,
            Protocol::Socks4(socks) => socks.set_user(credentials)?,
            Protocol::Socks5(socks) => socks.set_credentials(credentials)?,
        }
        Ok(self)
    }

    /// A tunnel through a SOCKS4 proxy, which knows IPv4 addresses only.
    #[must_use]
    pub fn socks4(address: SocketAddrV4) -> Self {
        Self(Protocol::Socks4(Socks4::new(*address.ip(), address.port(), None)))
    }

    /// A tunnel through a SOCKS4a proxy, which resolves the name `host`; an IPv4 address is one.
    ///
    /// # Errors
    ///
    /// When `host` is an IPv6 address, or cannot be sent.
    pub fn socks4a(host: &str, port: u16) -> Result<Self, TunnelMisuse> {
        let host = checked_host(host)?;
        Ok(Self(Protocol::Socks4(match host.parse() {
            Ok(IpAddr::V4(address)) => Socks4::new(address, port, None),
            Ok(IpAddr::V6(_)) => return Err(TunnelMisuse::Ipv6OverSocks4),
            Err(_) => Socks4::new(socks4::NAME_FOLLOWS, port, Some(short_enough("host", host)?)),
        })))
    }

    /// A tunnel through a SOCKS5 proxy to an address, or to a name that the proxy resolves.
    ///
    /// # Errors
    ///
    /// When `host` cannot be sent.
    pub fn socks5(host: &str, port: u16) -> Result<Self, TunnelMisuse> {
        let host = short_enough("host", checked_host(host)?)?;
        Ok(Self(Protocol::Socks5(Socks5::new(host, port))))
    }

    /// Appends the bytes owed to the proxy, if any.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) {
        match &mut self.0 {
            Protocol::Http(connect) => connect.poll_transmit(out),
            Protocol::Socks4(socks) => socks.poll_transmit(out),
            Protocol::Socks5(socks) => socks.poll_transmit(out),
        }
    }

    /// Takes bytes of the proxy; `None` when more are needed, for which something may have to be sent
    /// first.
    ///
    /// # Errors
    ///
    /// When the proxy refuses, or breaks its protocol.
    pub fn handle_input(&mut self, input: &[u8]) -> Result<Option<TunnelStep>, TunnelError> {
        match &mut self.0 {
            Protocol::Http(connect) => connect.handle_input(input),
            Protocol::Socks4(socks) => socks::handle_input(socks, input),
            Protocol::Socks5(socks) => socks::handle_input(socks, input),
        }
    }

    /// The proxy ended the connection, or it broke. An HTTP proxy may do so behind a 407.
    ///
    /// # Errors
    ///
    /// When that ends the tunnel as well.
    pub fn handle_end(&mut self) -> Result<TunnelStep, TunnelError> {
        match &mut self.0 {
            Protocol::Http(connect) => connect.handle_end(),
            Protocol::Socks4(socks) => Err(socks::ended(socks)),
            Protocol::Socks5(socks) => Err(socks::ended(socks)),
        }
    }
}

/// Host and port as a request has them.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Checks that `host` is a name or an address without brackets.
fn checked_host(host: &str) -> Result<&str, TunnelMisuse> {
    let is_name = !host.contains([':', '[', ']']) && is_valid_host(host.as_bytes());
    if !host.is_empty() && (is_name || host.parse::<IpAddr>().is_ok()) {
        return Ok(host);
    }
    Err(TunnelMisuse::Http(HandshakeMisuse::InvalidHost { host: host.to_owned() }))
}

/// Checks that `text` fits behind a byte with its length.
fn short_enough(what: &'static str, text: &str) -> Result<String, TunnelMisuse> {
    if text.len() > SOCKS_TEXT_BYTES_MAX {
        return Err(TunnelMisuse::TooLong { what, length: text.len() });
    }
    if text.contains('\0') {
        return Err(TunnelMisuse::ZeroByte { what });
    }
    Ok(text.to_owned())
}

/// Longest host, user and password: SOCKS5 has one byte for the length of each (RFC 1928 §4, RFC 1929
/// §2), and SOCKS4 is held to the same.
const SOCKS_TEXT_BYTES_MAX: usize = 255;
