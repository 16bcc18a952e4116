//! The head of the answer a client gets.
//!
//! Judges HTTP only: whether the answer opens a WebSocket is decided in `verify`.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use super::head::{Head, HeadError, first_line, is_value_byte, narrow};
use super::refusal::InvalidMessage;
use super::{HeadLimits, HeadScanner};

/// Status and headers of an answer, kept as the bytes that arrived and a table of where its
/// headers lie.
///
/// Two allocations and no map: it may be kept for as long as the connection lives.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseHead {
    head: Head,
    status: StatusCode,
    reason_end: u16,
}

/// Why an answer is no HTTP/1.1 response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageFault {
    /// The first byte is that of a TLS record.
    #[error("looks like TLS: the server speaks wss:// on this port")]
    Tls,
    /// It does not start with `HTTP/`.
    #[error("the server does not speak HTTP")]
    NotHttp,
    /// The first line is not a version, a number of three digits and a reason.
    #[error("malformed HTTP status line")]
    MalformedStatusLine,
    /// The version is not HTTP/1.1.
    #[error("unsupported HTTP version: expected HTTP/1.1")]
    UnsupportedVersion,
    /// The headers are malformed, or there are too many.
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl ResponseHead {
    /// Returns the head that `input` starts with and its length, or `None` until it is complete.
    pub(super) fn parse_with(
        scanner: &mut HeadScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(Self, usize)>, InvalidMessage> {
        // Until the end of the head is known, all there is of it counts as head.
        let known = &input[..input.len().min(limits.head_bytes())];
        let unfinished = |fault| InvalidMessage::new(fault, None, known, b"");
        refuse_early(input).map_err(unfinished)?;
        let end = scanner.find_end(input, limits).map_err(|fault| unfinished(fault.into()))?;
        let Some(end) = end else {
            return Ok(None);
        };
        let (raw, body) = input.split_at(end);
        let status = parse_status_line(first_line(raw))
            .map_err(|fault| InvalidMessage::new(fault, None, raw, body))?;
        let head = Head::parse(raw, limits.headers_max)
            .map_err(|fault| InvalidMessage::new(fault.into(), Some(status), raw, body))?;
        let reason_end = narrow(first_line(raw).len());
        Ok(Some((Self { head, status, reason_end }, end)))
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason phrase. It means nothing (RFC 9112 §4) and may be empty.
    #[must_use]
    pub fn reason(&self) -> Cow<'_, str> {
        let reason = self.head.bytes(STATUS_END..self.reason_end);
        String::from_utf8_lossy(reason.trim_ascii())
    }

    /// The version, which is always `HTTP/1.1`.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        "HTTP/1.1"
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
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.headers()
    }

    /// The values of all headers called `name`, in any case.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.head.values(name)
    }

    /// The subprotocol the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.header_str("sec-websocket-protocol")
    }

    /// The values of all `Sec-WebSocket-Extensions` headers, for who negotiates them.
    pub fn extensions(&self) -> impl Iterator<Item = &[u8]> {
        self.head.values("sec-websocket-extensions")
    }

    pub(super) const fn head(&self) -> &Head {
        &self.head
    }
}

/// Header names only: values may be credentials, and debug output ends in logs.
impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("reason", &self.reason())
            .field("headers", &self.head)
            .finish()
    }
}

/// Where the reason of a status line starts, if there is one: after the space that follows the
/// version and the three digits.
const STATUS_END: u16 = 12;
const _: () = assert!(b"HTTP/1.1 101".len() == STATUS_END as usize);

/// First bytes of TLS records that carry an alert or a handshake (RFC 8446 §5.1).
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;

/// Refuses what can never become an HTTP response, as soon as that is sure.
fn refuse_early(input: &[u8]) -> Result<(), MessageFault> {
    const PREFIX: &[u8] = b"HTTP/";
    if matches!(input.first(), Some(&(TLS_ALERT | TLS_HANDSHAKE))) {
        return Err(MessageFault::Tls);
    }
    let is_prefix = input.iter().zip(PREFIX).all(|(is, should)| is == should);
    if is_prefix { Ok(()) } else { Err(MessageFault::NotHttp) }
}

/// Returns the status. The reason may be anything a header value may be, or nothing; the space
/// before it may be missing, as it is from servers that have no reason to give.
fn parse_status_line(line: &[u8]) -> Result<StatusCode, MessageFault> {
    let after_version = line.strip_prefix(b"HTTP/1.1").ok_or(MessageFault::UnsupportedVersion)?;
    let [b' ', first, second, third, rest @ ..] = after_version else {
        return Err(MessageFault::MalformedStatusLine);
    };
    let is_reason = rest.is_empty() || rest.starts_with(b" ");
    if !is_reason || !rest.iter().copied().all(is_value_byte) {
        return Err(MessageFault::MalformedStatusLine);
    }
    StatusCode::from_bytes(&[*first, *second, *third])
        .map_err(|_| MessageFault::MalformedStatusLine)
}
