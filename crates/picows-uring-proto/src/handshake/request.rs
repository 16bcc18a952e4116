//! The request that opens a WebSocket connection, as a server receives it.
//!
//! Judges HTTP only: whether the request is a good WebSocket handshake is decided in `upgrade`,
//! after the application has had its chance to answer a plain GET.

use std::fmt;
use std::net::SocketAddr;

use http::StatusCode;

use super::head::{Framing, Head, HeadError, first_line, is_token, list_elements};
use super::request_line::{Target, parse_request_line, refuse_early};
use super::{HeadLimits, HeadScanner};

/// A GET request, kept as the bytes that arrived and a table of where its headers lie.
///
/// Two allocations and no map: it may be kept for as long as the connection lives.
///
/// ```
/// use picows_uring_proto::{HeadLimits, UpgradeRequest};
///
/// let wire = b"GET /chat?room=7 HTTP/1.1\r\nHost: example.com\r\n\r\n\x81\x80";
/// let (request, head_bytes) = UpgradeRequest::parse(wire, &HeadLimits::default())?
///     .expect("the head is complete");
/// assert_eq!(request.path(), "/chat");
/// assert_eq!(request.query(), Some("room=7"));
/// assert_eq!(request.header_str("host"), Some("example.com"));
/// assert_eq!(&wire[head_bytes..], b"\x81\x80"); // The first frame, not ours to touch.
/// # Ok::<(), picows_uring_proto::RequestError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct UpgradeRequest {
    head: Head,
    target: Target,
    peer: Option<SocketAddr>,
}

/// Why a request was refused before anybody looked at it.
///
/// The text is fit for the peer: it names the fault and nothing about us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The first byte is that of a TLS handshake.
    #[error("looks like a TLS ClientHello: this is a plain ws:// port")]
    TlsClientHello,
    /// The first line is not a method, a target and a version with one space between them.
    #[error("malformed request line: expected `GET <target> HTTP/1.1`")]
    MalformedRequestLine,
    /// The method is not GET (RFC 6455 §4.1, item 2).
    #[error("unsupported HTTP method {method}: a WebSocket handshake is a GET")]
    UnsupportedMethod {
        /// The method, at most `METHOD_BYTES_MAX` capital letters and hyphens.
        method: String,
    },
    /// There are two spaces where the target should be.
    #[error("HTTP request target cannot be empty")]
    EmptyTarget,
    /// The target is neither a path nor an absolute URL, or has a byte that no URL has.
    #[error("invalid HTTP request target: expected a percent-encoded path without fragment")]
    InvalidTarget,
    /// The version is not HTTP/1.1 (RFC 6455 §4.1, item 2, RFC 9112 §2.3).
    #[error("unsupported HTTP version: expected HTTP/1.1")]
    UnsupportedVersion,
    /// The headers are malformed, or there are too many.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// There is a `Transfer-Encoding`.
    #[error("HTTP request body is not supported: Transfer-Encoding")]
    TransferEncoding,
    /// There is a `Content-Length` that is not one plain zero.
    #[error("HTTP request body is not supported: Content-Length must be 0 or absent")]
    ContentLength,
}

impl RequestError {
    /// The status owed to the peer.
    ///
    /// An unknown method or version gets 400 as well: 405 and 505 promise that the same request
    /// might do in another form, and no form without GET and HTTP/1.1 does.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Head(HeadError::TooLarge { .. } | HeadError::TooManyHeaders { .. }) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Head(
                HeadError::BareLineFeed
                | HeadError::FoldedHeader
                | HeadError::MissingColon
                | HeadError::InvalidHeaderName
                | HeadError::InvalidHeaderValue,
            )
            | Self::TlsClientHello
            | Self::MalformedRequestLine
            | Self::UnsupportedMethod { .. }
            | Self::EmptyTarget
            | Self::InvalidTarget
            | Self::UnsupportedVersion
            | Self::TransferEncoding
            | Self::ContentLength => StatusCode::BAD_REQUEST,
        }
    }
}

impl UpgradeRequest {
    /// Returns the request that `input` starts with and its length in bytes, or `None` until more
    /// bytes arrive. What follows the request is the first frames.
    ///
    /// Searches `input` from its start; [`Self::parse_with`] does not when called again.
    pub fn parse(input: &[u8], limits: &HeadLimits) -> Result<Option<(Self, usize)>, RequestError> {
        Self::parse_with(&mut HeadScanner::new(), input, limits)
    }

    /// The same as [`Self::parse`], for a buffer that grows: `scanner` remembers how far it has
    /// been searched.
    pub fn parse_with(
        scanner: &mut HeadScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(Self, usize)>, RequestError> {
        refuse_early(input)?;
        let Some(length) = scanner.find_end(input, limits)? else {
            return Ok(None);
        };
        let raw = &input[..length];
        let target = parse_request_line(first_line(raw))?;
        let head = Head::parse(raw, limits.headers_max)?;
        match head.framing() {
            Framing::NoBody => Ok(Some((Self { head, target, peer: None }, length))),
            Framing::TransferEncoding => Err(RequestError::TransferEncoding),
            Framing::ContentLength => Err(RequestError::ContentLength),
        }
    }

    /// The method, which is always `GET`.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        "GET"
    }

    /// The version, which is always `HTTP/1.1`.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        "HTTP/1.1"
    }

    /// Path and query as sent, still percent-encoded; a whole URL if the client sent one.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.text(self.target.start..self.target.end)
    }

    /// The path as sent, still percent-encoded. It starts with a slash.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.head.text(self.target.path_start..self.target.path_end);
        // `http://example.com` has an empty path, which stands for the root (RFC 9110 §4.2.3).
        if path.is_empty() { "/" } else { path }
    }

    /// What follows the first question mark of the target.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.head.text(self.target.path_end..self.target.end).strip_prefix('?')
    }

    /// The value of the first header called `name`, in any case. Bytes from 0x80 up are kept.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.value(name)
    }

    /// The value of the first header called `name`, in any case, when it is UTF-8.
    #[must_use]
    pub fn header_str(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header(name)?).ok()
    }

    /// Names and values of all headers in the order received.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: b=c\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// let headers: Vec<_> = request.headers().collect();
    /// assert_eq!(headers, [("Host", &b"a"[..]), ("Cookie", b"b=c")]);
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.headers()
    }

    /// The values of all headers called `name`, in any case.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.head.values(name)
    }

    /// The subprotocols the client offers, the one it likes best first (RFC 6455 §4.1, item 10).
    /// What is no token is skipped.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET / HTTP/1.1\r\nSec-WebSocket-Protocol: v2, v1\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["v2", "v1"]);
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        self.head
            .values("sec-websocket-protocol")
            .flat_map(list_elements)
            .filter(|element| is_token(element))
            .filter_map(|element| str::from_utf8(element).ok())
    }

    /// The values of all `Sec-WebSocket-Extensions` headers, for who negotiates them.
    pub fn extensions(&self) -> impl Iterator<Item = &[u8]> {
        self.head.values("sec-websocket-extensions")
    }

    /// Whether the client asks for a WebSocket, well or badly.
    ///
    /// What a router asks to tell a handshake from a health check; a request that says yes here
    /// may still fail [`Self::validate_upgrade`].
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.head.lists("upgrade", "websocket") && self.head.lists("connection", "upgrade")
    }

    /// Where the request came from, when the runtime has said so.
    #[must_use]
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Says where the request came from.
    pub const fn set_peer_addr(&mut self, peer: SocketAddr) {
        self.peer = Some(peer);
    }

    /// The same request as the `http` crate spells it. The peer address, when there is one, is
    /// an extension of type [`SocketAddr`].
    ///
    /// Fails on what that crate refuses and we do not, such as a target with a `{` in it.
    pub fn to_http(&self) -> Result<http::Request<()>, http::Error> {
        let mut builder = http::Request::get(self.target());
        for (name, value) in self.headers() {
            builder = builder.header(name, value);
        }
        let mut request = builder.body(())?;
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        Ok(request)
    }

    pub(super) const fn head(&self) -> &Head {
        &self.head
    }
}

/// Path and header names only: queries and values may be credentials, and debug output ends in
/// logs.
impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRequest")
            .field("path", &self.path())
            .field("headers", &self.head)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
