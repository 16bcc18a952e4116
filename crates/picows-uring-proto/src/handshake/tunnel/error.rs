//! Faults of a tunnel: what the proxy did, and what our caller asked for.
//!
//! No text has a header's value, a body or a credential: these errors end in logs.

use super::super::head::{is_token, list_elements};
use super::super::{HandshakeMisuse, HeadError, ResponseHead};
use crate::debug_with_text;
use crate::escape::{Escaped, SHOWN_BYTES_MAX};
use http::StatusCode;
use std::fmt;

/// A proxy did not open a tunnel.
///
/// ```
/// use picows_uring_proto::{Tunnel, TunnelError};
///
/// let mut tunnel = Tunnel::http("feed.example", 80)?;
/// tunnel.poll_transmit(&mut Vec::new());
/// let error = tunnel.handle_input(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap_err();
/// assert!(matches!(error, TunnelError::Refused { .. }));
/// assert!(error.to_string().contains("does not allow port 80"));
/// # Ok::<(), picows_uring_proto::TunnelMisuse>(())
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// An HTTP proxy answered 407.
    #[error("it answered {}: {}", .response.status(), unauthorized(.response, *.had_credentials))]
    Unauthorized {
        /// Its last answer.
        response: Box<ResponseHead>,
        /// Credentials were sent.
        had_credentials: bool,
    },
    /// An HTTP proxy answered something else than 2xx or 407.
    #[error("it answered {}{}", .response.status(), refused(.response, *.port))]
    Refused {
        /// Its answer.
        response: Box<ResponseHead>,
        /// The port of the server.
        port: u16,
    },
    /// A SOCKS5 proxy accepts none of the methods to authenticate that were offered (RFC 1928 §3).
    #[error(
        "it accepts {}: give user and password in the proxy's URL",
        if *.had_credentials { "neither user and password nor going without" }
        else { "no connection without authentication" }
    )]
    NoAcceptableMethod {
        /// User and password were offered.
        had_credentials: bool,
    },
    /// A SOCKS5 proxy refused user and password (RFC 1929 §2).
    #[error("it refused user and password: correct them in the proxy's URL")]
    BadCredentials,
    /// A SOCKS proxy refused the tunnel.
    #[error("it answered {0}")]
    Socks(SocksRefusal),
    /// The answer is not of the protocol that was spoken.
    #[error("it does not speak {spoken}{}", wrong_protocol(*.looks_like))]
    WrongProtocol {
        /// Protocol that was spoken to it.
        spoken: ProxyProtocol,
        /// Protocol that the answer looks like, if that is known.
        looks_like: Option<ProxyProtocol>,
    },
    /// The head of an HTTP proxy's answer is malformed or too long.
    #[error("it breaks the protocol: {0}")]
    Head(#[from] HeadError),
    /// The answer is malformed in another way.
    #[error("it breaks the protocol: {0}")]
    Malformed(&'static str),
    /// Bytes follow the answer that opens the tunnel, in which the client speaks first.
    #[error("it breaks the protocol: bytes follow its answer, before the server was sent anything")]
    ExtraBytes,
    /// The proxy ended the connection.
    #[error("it ended the connection {}",
        if *.in_answer { "in the middle of its answer" }
        else { "before it answered: check the scheme of its URL, and user and password" })]
    Closed {
        /// An answer had begun.
        in_answer: bool,
    },
    /// There is no memory for the answer.
    #[error("out of memory for its answer")]
    OutOfMemory,
}

debug_with_text! { TunnelError: Unauthorized, Refused, NoAcceptableMethod, BadCredentials, Socks, WrongProtocol, Head, Malformed, ExtraBytes, Closed, OutOfMemory }

impl TunnelError {
    /// The answer of an HTTP proxy, if there is one.
    #[must_use]
    pub fn response(&self) -> Option<&ResponseHead> {
        match self {
            Self::Unauthorized { response, .. } | Self::Refused { response, .. } => Some(response),
            _ => None,
        }
    }

    /// Whether trying again later may help: the proxy cannot reach the server now, or is busy.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { response, .. } => {
                let status = response.status();
                status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
                    || matches!(status.as_u16(), 408 | 425 | 429)
            }
            Self::Socks(refusal) => refusal.is_transient(),
            Self::Closed { .. } | Self::OutOfMemory => true,
            Self::Unauthorized { .. }
            | Self::NoAcceptableMethod { .. }
            | Self::BadCredentials
            | Self::WrongProtocol { .. }
            | Self::Head(_)
            | Self::Malformed(_)
            | Self::ExtraBytes => false,
        }
    }
}

/// The code with which a SOCKS proxy refuses a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocksRefusal {
    pub(super) version: u8,
    pub(super) code: u8,
}

impl SocksRefusal {
    /// The number in the answer: from 1 on of SOCKS5 (RFC 1928 §6), from 91 on of SOCKS4.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.code
    }

    /// Whether another address of the server may help: this one is not reached, or not taken.
    #[must_use]
    pub const fn is_of_address(self) -> bool {
        self.is_transient() || matches!((self.version, self.code), (5, 8))
    }

    /// Whether trying again later may help.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        match self.version {
            5 => matches!(self.code, 1 | 3..=6),
            _ => self.code == 91,
        }
    }

    /// The name of the code, and what it means for the caller.
    const fn meaning(self) -> (&'static str, &'static str) {
        const UNREACHED: &str = "the proxy cannot reach the server";
        match (self.version, self.code) {
            (5, 1) => ("general failure", UNREACHED),
            (5, 2) => {
                let cure = "the proxy does not allow this server or port: ask for it";
                ("not allowed by its rules", cure)
            }
            (5, 3) => ("network unreachable", UNREACHED),
            (5, 4) => ("host unreachable", UNREACHED),
            (5, 5) => ("connection refused", UNREACHED),
            (5, 6) => ("time to live expired", UNREACHED),
            (5, 7) => ("command not supported", "the proxy opens no tunnels"),
            (5, 8) => {
                let cure = "the proxy takes no address of this family: use socks5h://, which \
                            resolves names at the proxy";
                ("address type not supported", cure)
            }
            (4, 91) => ("request rejected or failed", UNREACHED),
            (4, 92) => ("identd not reached", "the proxy wants an identd on this machine"),
            (4, 93) => {
                let cure = "the proxy refused the user: correct it in the proxy's URL";
                ("identd reports another user", cure)
            }
            _ => ("a code that is unknown", UNREACHED),
        }
    }
}

impl fmt::Display for SocksRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, meaning) = self.meaning();
        write!(f, "{} ({name}): {meaning}", self.code)
    }
}

/// Protocol on the port of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// HTTP.
    Http,
    /// SOCKS4 or SOCKS4a.
    Socks4,
    /// SOCKS5.
    Socks5,
    /// TLS, with one of the others in it.
    Tls,
}

impl ProxyProtocol {
    /// What the first byte of an answer is of.
    pub(super) const fn of_answer(first: u8) -> Option<Self> {
        match first {
            // `HTTP/1.1`, and pages of servers from before it had heads.
            b'H' | b'<' => Some(Self::Http),
            0 => Some(Self::Socks4),
            5 => Some(Self::Socks5),
            // An alert or a handshake (RFC 8446 §5.1).
            0x15 | 0x16 => Some(Self::Tls),
            _ => None,
        }
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Socks4 => "SOCKS4",
            Self::Socks5 => "SOCKS5",
            Self::Tls => "TLS",
        })
    }
}

/// A tunnel was asked for that no proxy can be asked for.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelMisuse {
    /// A host or a header cannot be in a request.
    #[error(transparent)]
    Http(#[from] HandshakeMisuse),
    /// A SOCKS proxy cannot be sent a text of this length.
    #[error("the {what} is {length} bytes long, and SOCKS has at most 255")]
    TooLong {
        /// `host`, `user` or `password`.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A text has a byte that is 0, which would end it.
    #[error("the {what} has a 0 byte")]
    ZeroByte {
        /// `host`, `user` or `password`.
        what: &'static str,
    },
    /// The server has an IPv6 address only.
    #[error(
        "SOCKS4 has IPv4 addresses only, and the server has none: use socks4a://, which resolves \
         names at the proxy, or socks5://"
    )]
    Ipv6OverSocks4,
    /// A password was given for SOCKS4.
    #[error("SOCKS4 has a user and no password: leave it out, or use socks5://")]
    PasswordOverSocks4,
    /// A header was given for SOCKS.
    #[error("SOCKS has no headers, and {} was given: use an http:// proxy",
        Escaped::new(name).quoted().at_most(SHOWN_BYTES_MAX))]
    HeaderOverSocks {
        /// Its name.
        name: String,
    },
    /// A user for HTTP has a colon, where its password would begin (RFC 7617 §2).
    #[error("the user has a colon, which Basic authentication does not allow")]
    ColonInUser,
    /// Credentials and a header `Proxy-Authorization` were given.
    #[error("there are user and password as well as a header Proxy-Authorization: leave one out")]
    TwoCredentials,
}

debug_with_text! { TunnelMisuse: Http, TooLong, ZeroByte, Ipv6OverSocks4, PasswordOverSocks4, HeaderOverSocks, ColonInUser, TwoCredentials }

/// The schemes to authenticate that an answer offers, by their names.
pub(super) fn offered_schemes(response: &ResponseHead) -> impl Iterator<Item = &str> {
    // Parameters follow their scheme behind commas as well, but have a `=` in the first word.
    let elements = response.header_values("proxy-authenticate").flat_map(list_elements);
    let words = elements.filter_map(|element| {
        element.split(u8::is_ascii_whitespace).next().filter(|word| is_token(word))
    });
    words.filter_map(|word| str::from_utf8(word).ok())
}

fn unauthorized(response: &ResponseHead, had_credentials: bool) -> String {
    let schemes: Vec<_> = offered_schemes(response)
        .take(SCHEMES_SHOWN_MAX)
        .map(|scheme| Escaped::new(scheme).at_most(SHOWN_BYTES_MAX).to_string())
        .collect();
    let offered = if schemes.is_empty() { "no scheme".to_owned() } else { schemes.join(", ") };
    if had_credentials {
        return format!(
            "it refused user and password (it offers {offered} to authenticate): correct them in \
             the proxy's URL"
        );
    }
    let has_basic = schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    let cure = if has_basic {
        "give user and password in the proxy's URL"
    } else {
        "only Basic can be answered: give a header Proxy-Authorization for the proxy, or use \
         another proxy"
    };
    format!("it offers {offered} to authenticate: {cure}")
}

fn refused(response: &ResponseHead, port: u16) -> String {
    match response.status().as_u16() {
        403 | 405 => format!(
            ": it does not allow port {port}, or this server: many proxies allow 443 only; use \
             wss://, or ask for the port"
        ),
        502..=504 => ": it cannot reach the server".to_owned(),
        _ => String::new(),
    }
}

fn wrong_protocol(looks_like: Option<ProxyProtocol>) -> &'static str {
    match looks_like {
        None => ": check the scheme and the port of its URL",
        Some(ProxyProtocol::Http) => ": it looks like HTTP, so its URL begins with http://",
        Some(ProxyProtocol::Socks4) => ": it looks like SOCKS4, so its URL begins with socks4a://",
        Some(ProxyProtocol::Socks5) => ": it looks like SOCKS5, so its URL begins with socks5h://",
        Some(ProxyProtocol::Tls) => ": it looks like TLS, so its URL begins with https://",
    }
}

/// Schemes in an error text.
const SCHEMES_SHOWN_MAX: usize = 8;
