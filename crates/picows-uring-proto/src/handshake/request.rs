//! A request as a server receives it: the one that opens a WebSocket connection, or a plain one.
//!
//! Judges HTTP only, and all of it, before the application is asked: whether the request is a good
//! WebSocket handshake is decided in `upgrade`, after the application has had its chance to answer
//! a plain one.

use crate::debug_with_text;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use super::head::{Head, HeadError, first_line, is_token, list_elements};
use super::host::is_valid_host;
use super::request_body::refuse_body;
use super::request_line::{
    Method, RequestLine, Version, empty_line, parse_request_line, refuse_early,
};
use super::{HeadLimits, HeadScanner, TlsFacts, TlsInfo};

/// A GET or HEAD request, kept as the bytes that arrived and a table of where its headers lie.
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
    line: RequestLine,
    peer: Option<SocketAddr>,
    tls: Option<Arc<TlsFacts>>,
}

/// The reason why a request was refused before the application had it.
///
/// The text is fit for the peer: it names the fault and nothing about us.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The first byte is that of a TLS handshake.
    #[error("looks like a TLS ClientHello: this is a plain ws:// port")]
    TlsClientHello,
    /// The first line is not a method, a target and a version with one space between them.
    #[error("malformed request line: expected `GET <target> HTTP/1.1`")]
    MalformedRequestLine,
    /// The method is neither GET nor HEAD.
    #[error("unsupported HTTP method {method}: only GET and HEAD are served")]
    UnsupportedMethod {
        /// The method, at most 17 characters of a token.
        method: String,
    },
    /// The method is longer than any that is registered (RFC 9112 §3).
    #[error("unknown HTTP method: longer than any that there is")]
    MethodTooLong,
    /// There are two spaces where the target should be.
    #[error("HTTP request target cannot be empty")]
    EmptyTarget,
    /// The target is neither a path nor an absolute URL, or has a byte that no URL has.
    #[error("invalid HTTP request target: expected a percent-encoded path without fragment")]
    InvalidTarget,
    /// The version is neither HTTP/1.1 nor HTTP/1.0 (RFC 9112 §2.3).
    #[error("unsupported HTTP version: expected HTTP/1.1")]
    UnsupportedVersion,
    /// HTTP/1.1 without `Host` (RFC 9112 §3.2).
    #[error("no host header")]
    MissingHost,
    /// There is more than one `Host` (RFC 9112 §3.2).
    #[error("more than one host header")]
    RepeatedHost,
    /// `Host` is not a host with an optional port (RFC 9112 §3.2).
    #[error("invalid host header: expected a host and an optional port")]
    InvalidHost,
    /// `Expect` has a member other than `100-continue` (RFC 9110 §10.1.1).
    #[error("expectation failed: only 100-continue is understood")]
    UnknownExpectation,
    /// The headers are malformed, or there are too many.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A body of unknown length follows.
    #[error("HTTP request body is not supported: Transfer-Encoding")]
    TransferEncoding,
    /// A body of unknown length follows, with a coding besides chunked.
    #[error("unknown transfer coding: only chunked is known")]
    UnknownTransferCoding,
    /// `Transfer-Encoding` does not say where the body ends: chunked is not the last coding, is there
    /// twice, or the version is HTTP/1.0 (RFC 9112 §6.1, §6.3).
    #[error("invalid transfer-encoding header: chunked is the last coding, once, in HTTP/1.1")]
    InvalidTransferEncoding,
    /// There are both `Transfer-Encoding` and `Content-Length` (RFC 9112 §6.1).
    #[error("both transfer-encoding and content-length headers")]
    ConflictingLength,
    /// A body follows.
    #[error("HTTP request body is not supported: Content-Length must be 0 or absent")]
    ContentLength,
    /// `Content-Length` is no number, or given more than once (RFC 9112 §6.3).
    #[error("invalid content-length header: expected one decimal number")]
    InvalidContentLength,
}

debug_with_text! { RequestError: TlsClientHello, MalformedRequestLine, UnsupportedMethod, MethodTooLong, EmptyTarget, InvalidTarget, UnsupportedVersion, MissingHost, RepeatedHost, InvalidHost, UnknownExpectation, Head, TransferEncoding, UnknownTransferCoding, InvalidTransferEncoding, ConflictingLength, ContentLength, InvalidContentLength }

impl RequestError {
    /// The status owed to the peer.
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
            | Self::EmptyTarget
            | Self::InvalidTarget
            | Self::MissingHost
            | Self::RepeatedHost
            | Self::InvalidHost
            | Self::InvalidTransferEncoding
            | Self::ConflictingLength
            | Self::InvalidContentLength => StatusCode::BAD_REQUEST,
            Self::UnsupportedMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TransferEncoding => StatusCode::LENGTH_REQUIRED,
            Self::ContentLength => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownExpectation => StatusCode::EXPECTATION_FAILED,
            Self::MethodTooLong | Self::UnknownTransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }
}

/// The value of an `Authorization` header with user and password (RFC 7617).
pub fn basic_authorization(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// [`UpgradeRequest::parse`], for a buffer that grows: for measurements of the scanner by itself.
pub fn parse_request_with(
    scanner: &mut HeadScanner,
    input: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(UpgradeRequest, usize)>, RequestError> {
    UpgradeRequest::parse_with(scanner, input, limits)
}

impl UpgradeRequest {
    /// Returns the request that `input` starts with and its length in bytes, or `None` until more
    /// bytes arrive. What follows the request is the first frames.
    ///
    /// One empty line in front is passed over, and counted. What RFC 9112 obliges a server to refuse
    /// is refused, of plain requests as of handshakes; so is every body.
    ///
    /// Searches `input` from its start; a [`HeadReceiver`](crate::HeadReceiver) does not when more
    /// arrives.
    pub fn parse(input: &[u8], limits: &HeadLimits) -> Result<Option<(Self, usize)>, RequestError> {
        Self::parse_with(&mut HeadScanner::new(), input, limits)
    }

    /// The same as [`Self::parse`], for a buffer that grows: `scanner` remembers how far it has
    /// been searched.
    pub(super) fn parse_with(
        scanner: &mut HeadScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(Self, usize)>, RequestError> {
        let Some(start) = empty_line(input) else {
            return Ok(None);
        };
        refuse_early(&input[start..])?;
        let Some(length) = scanner.find_end(input, limits)? else {
            return Ok(None);
        };
        let raw = &input[start..length];
        let line = parse_request_line(first_line(raw))?;
        let head = Head::parse(raw, limits.headers_max)?;
        check_host(&head, line.version)?;
        check_expectations(&head)?;
        refuse_body(&head, line.version)?;
        Ok(Some((Self { head, line, peer: None, tls: None }, length)))
    }

    /// The method: `GET`, or `HEAD`, whose answer is sent without its body.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        self.line.method.as_str()
    }

    /// The version: `HTTP/1.1`, or `HTTP/1.0`, which has no upgrades and need not have a `Host`.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        match self.line.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }

    /// The head as it was received, from its first line to the empty one at its end.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x81\x80";
    /// let (request, length) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// assert_eq!(request.raw_head(), &wire[..length]);
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    #[must_use]
    pub const fn raw_head(&self) -> &[u8] {
        self.head.raw()
    }

    /// The host the request is for, with a port if one was given: that of an absolute target, which
    /// overrides `Host` (RFC 9112 §3.2.2), or else that of `Host`. May be empty; `None` where
    /// HTTP/1.0 names none.
    ///
    /// ```
    /// # use picows_uring_proto::{HeadLimits, UpgradeRequest};
    /// let wire = b"GET http://example.com:80/ HTTP/1.1\r\nHost: other\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// assert_eq!(request.host(), Some("example.com:80"));
    /// # Ok::<(), picows_uring_proto::RequestError>(())
    /// ```
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let target = &self.line.target;
        if target.authority_start < target.path_start {
            return Some(self.head.text(target.authority_start..target.path_start));
        }
        self.header_str("host")
    }

    /// Path and query as sent, still percent-encoded; a whole URL if the client sent one.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.text(self.line.target.start..self.line.target.end)
    }

    /// The path as sent, still percent-encoded. It starts with a slash.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.head.text(self.line.target.path_start..self.line.target.path_end);
        // `http://example.com` has an empty path, which stands for the root (RFC 9110 §4.2.3).
        if path.is_empty() { "/" } else { path }
    }

    /// What follows the first question mark of the target.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.head.text(self.line.target.path_end..self.line.target.end).strip_prefix('?')
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
    /// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: v2, v1\r\n\r\n";
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
    /// may still fail [`Self::validate_upgrade`]. HTTP/1.0 has no upgrades (RFC 9110 §7.8), and
    /// HEAD asks for none.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.is_get_of_http_1_1()
            && self.head.lists("upgrade", "websocket")
            && self.head.lists("connection", "upgrade")
    }

    /// Whether the client waits for `100 Continue` (RFC 9110 §10.1.1). One that asks for an upgrade
    /// is owed it before the 101 (§7.8): see [`encode_continue`](crate::encode_continue). Without a
    /// body to wait for, any other answer does without.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.line.version == Version::Http11 && self.head.lists("expect", "100-continue")
    }

    /// Whether the client would send a further request on the connection (RFC 9112 §9.3). One by
    /// HTTP/1.0 is taken at its version, whatever it asks for.
    #[doc(hidden)] // For the crates of this project, and not promised.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        self.line.version == Version::Http11 && !self.head.lists("connection", "close")
    }

    /// Whether it may be a WebSocket handshake by its first line (RFC 6455 §4.1, items 1 and 2).
    pub(super) fn is_get_of_http_1_1(&self) -> bool {
        (self.line.method, self.line.version) == (Method::Get, Version::Http11)
    }

    /// Where the request came from, when the runtime has said so.
    #[must_use]
    pub const fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Says where the request came from.
    #[doc(hidden)] // For the crates of this project, and not promised.
    pub const fn set_peer_addr(&mut self, peer: SocketAddr) {
        self.peer = Some(peer);
    }

    /// Whether the request came through TLS of this runtime: not that of a proxy in front.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// What TLS agreed on, when the request came through it.
    #[must_use]
    pub fn tls_info(&self) -> Option<&TlsInfo> {
        self.tls.as_ref().map(|tls| &tls.info)
    }

    /// The certificates of the client as DER, its own first. Empty if it has sent none.
    #[must_use]
    pub fn peer_certificates(&self) -> &[Vec<u8>] {
        self.tls.as_ref().map_or(&[], |tls| &tls.peer_certificates)
    }

    /// Says that the request came through TLS.
    #[doc(hidden)] // For the crates of this project, and not promised.
    pub fn set_tls(&mut self, tls: Arc<TlsFacts>) {
        self.tls = Some(tls);
    }

    /// The same request as the `http` crate spells it. The peer address, when there is one, is
    /// an extension of type [`SocketAddr`].
    ///
    /// Fails on what that crate refuses and we do not, such as a target with a `{` in it.
    pub fn to_http(&self) -> Result<http::Request<()>, http::Error> {
        let version = match self.line.version {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
        };
        let mut builder =
            http::Request::builder().method(self.method()).version(version).uri(self.target());
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

/// RFC 9112 §3.2: one valid `Host`, which HTTP/1.0 may leave out.
fn check_host(head: &Head, version: Version) -> Result<(), RequestError> {
    let mut hosts = head.values("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http10 => Ok(()),
        (None, _) => Err(RequestError::MissingHost),
        (Some(host), None) if is_valid_host(host) => Ok(()),
        (Some(_), None) => Err(RequestError::InvalidHost),
        (Some(_), Some(_)) => Err(RequestError::RepeatedHost),
    }
}

/// RFC 9110 §10.1.1: an expectation that is not understood may be refused, and what ignoring it
/// would mean cannot be known.
fn check_expectations(head: &Head) -> Result<(), RequestError> {
    let is_known = |expectation: &[u8]| expectation.eq_ignore_ascii_case(b"100-continue");
    if head.values("expect").flat_map(list_elements).all(is_known) {
        Ok(())
    } else {
        Err(RequestError::UnknownExpectation)
    }
}
