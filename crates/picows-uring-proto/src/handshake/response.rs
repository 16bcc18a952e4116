//! The head of the answer a client gets.
//!
//! Judges HTTP only: whether the answer opens a WebSocket is decided in `verify`. Strict where the
//! answer may open one, which is where two readings of the same bytes would matter; of any other
//! answer the status counts, and as much of the rest as can be read.

use crate::debug_with_text;
use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use super::head::{Head, HeadError, first_line, narrow};
use super::refusal::InvalidMessage;
use super::response_scanner::HeadEnd;
use super::status_line::{self, NoStatus, StatusLine, check_strictly};
use super::{HeadLimits, INTERIM_RESPONSES_MAX, ResponseScanner};

/// Status and headers of an answer, kept as the bytes that arrived and a table of where its
/// headers lie.
///
/// Two allocations and no map: it may be kept for as long as the connection lives.
#[derive(Clone, PartialEq, Eq)]
pub struct ResponseHead {
    head: Head,
    line: StatusLine,
    reason_end: u16,
}

/// The final answer of a server, as far as it has been read.
pub(super) struct FinalResponse {
    pub(super) head: ResponseHead,
    /// Where the head ends and a body or frames begin; `None` when it is too long or cut off.
    pub(super) head_end: Option<usize>,
}

/// The reason why an answer cannot be understood, or why a 101 is none.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    /// A 101 is not of HTTP/1.1.
    #[error("unsupported HTTP version: expected HTTP/1.1")]
    UnsupportedVersion,
    /// There are more interim responses (1xx) in front of the final one than anything sends.
    #[error("more than {count_max} interim responses, and no final one")]
    TooManyInterim {
        /// The limit, which is [`INTERIM_RESPONSES_MAX`].
        count_max: u8,
    },
    /// The headers of a 101 are malformed, or there are too many.
    #[error(transparent)]
    Head(#[from] HeadError),
}

debug_with_text! { MessageFault: Tls, NotHttp, MalformedStatusLine, UnsupportedVersion, TooManyInterim, Head }

impl ResponseHead {
    /// Returns the final answer in `input`, or `None` until its head is complete.
    pub(super) fn parse_with(
        scanner: &mut ResponseScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<FinalResponse>, InvalidMessage> {
        loop {
            let known = scanner.known(input, limits);
            refuse_early(known).map_err(|fault| InvalidMessage::new(fault, None, known, b""))?;
            let line = match StatusLine::read(known) {
                Ok(Some(line)) => line,
                // All of the head that is let in, and no status.
                Ok(None) if input.len() < limits.head_bytes() => return Ok(None),
                Ok(None) | Err(NoStatus) => return without_status(scanner, input, limits),
            };
            if line.status == StatusCode::SWITCHING_PROTOCOLS {
                return Self::parse_strictly(scanner, line, input, limits);
            }
            let end = scanner.find_lenient_end(input, limits);
            if !line.status.is_informational() {
                return Ok(Self::parse_leniently(scanner, line, end, input, limits));
            }
            let bad = |fault| InvalidMessage::new(fault, Some(line.status), known, b"");
            let length = match end {
                HeadEnd::At(length) => length,
                HeadEnd::Open => return Ok(None),
                HeadEnd::TooFar => {
                    let head_bytes_max = limits.head_bytes();
                    return Err(bad(HeadError::TooLarge { head_bytes_max }.into()));
                }
            };
            if !scanner.skip_interim(length) {
                let count_max = INTERIM_RESPONSES_MAX;
                return Err(bad(MessageFault::TooManyInterim { count_max }));
            }
        }
    }

    /// Returns the final answer in `input` of which more was to come, if it is no 101.
    pub(super) fn parse_cut(
        scanner: &ResponseScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Option<FinalResponse> {
        let known = scanner.known(input, limits);
        let line = StatusLine::read(known).ok().flatten()?;
        let is_final = known.starts_with(status_line::NAME) && !line.status.is_informational();
        is_final.then(|| FinalResponse { head: Self::lenient(line, known, limits), head_end: None })
    }

    /// The head of a 101.
    fn parse_strictly(
        scanner: &mut ResponseScanner,
        line: StatusLine,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<FinalResponse>, InvalidMessage> {
        let known = scanner.known(input, limits);
        let end = scanner
            .find_strict_end(input, limits)
            .map_err(|fault| InvalidMessage::new(fault.into(), Some(line.status), known, b""))?;
        let Some(length) = end else { return Ok(None) };
        let head_end = scanner.start() + length;
        let (raw, rest) = (&known[..length], &input[head_end..]);
        let bad = |fault| InvalidMessage::new(fault, Some(line.status), raw, rest);
        check_strictly(first_line(raw)).map_err(bad)?;
        let head = Head::parse(raw, limits.headers_max).map_err(|fault| bad(fault.into()))?;
        let head = Self { head, line, reason_end: narrow(first_line(raw).len()) };
        Ok(Some(FinalResponse { head, head_end: Some(head_end) }))
    }

    /// The head of an answer that opens nothing.
    fn parse_leniently(
        scanner: &ResponseScanner,
        line: StatusLine,
        end: HeadEnd,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Option<FinalResponse> {
        let known = scanner.known(input, limits);
        let (raw, head_end) = match end {
            HeadEnd::Open => return None,
            HeadEnd::At(length) => (&known[..length], Some(scanner.start() + length)),
            HeadEnd::TooFar => (known, None),
        };
        Some(FinalResponse { head: Self::lenient(line, raw, limits), head_end })
    }

    fn lenient(line: StatusLine, raw: &[u8], limits: &HeadLimits) -> Self {
        let first_line_end = raw.iter().position(|&byte| byte == b'\n').unwrap_or(raw.len());
        let head = Head::parse_leniently(raw, limits.headers_max);
        Self { head, line, reason_end: narrow(first_line_end) }
    }

    /// The head as it was received, from its status line to the empty line at its end; the part that
    /// was received, where that is missing.
    #[must_use]
    pub const fn raw_head(&self) -> &[u8] {
        self.head.raw()
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.line.status
    }

    /// The reason phrase. It means nothing (RFC 9112 §4) and may be empty.
    #[must_use]
    pub fn reason(&self) -> Cow<'_, str> {
        let reason = self.head.bytes(self.line.status_end..self.reason_end);
        String::from_utf8_lossy(reason.trim_ascii())
    }

    /// The version: `HTTP/1.1` of a 101, and what stands there, such as `HTTP/1.0`, of any other.
    #[must_use]
    pub fn version(&self) -> &str {
        self.head.text(0..self.line.version_end)
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
            .field("status", &self.status())
            .field("reason", &self.reason())
            .field("headers", &self.head)
            .finish()
    }
}

/// First bytes of TLS records that carry an alert or a handshake (RFC 8446 §5.1).
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;

/// Refuses what can never become an HTTP response, as soon as that is sure.
fn refuse_early(input: &[u8]) -> Result<(), MessageFault> {
    if matches!(input.first(), Some(&(TLS_ALERT | TLS_HANDSHAKE))) {
        return Err(MessageFault::Tls);
    }
    let is_prefix = input.iter().zip(status_line::NAME).all(|(is, should)| is == should);
    if is_prefix { Ok(()) } else { Err(MessageFault::NotHttp) }
}

/// An answer that begins with a version of HTTP and has no status behind it.
fn without_status(
    scanner: &mut ResponseScanner,
    input: &[u8],
    limits: &HeadLimits,
) -> Result<Option<FinalResponse>, InvalidMessage> {
    let known = scanner.known(input, limits);
    let (head, body) = match scanner.find_lenient_end(input, limits) {
        HeadEnd::Open => return Ok(None),
        HeadEnd::At(length) => (&known[..length], &input[scanner.start() + length..]),
        HeadEnd::TooFar => (known, &b""[..]),
    };
    Err(InvalidMessage::new(MessageFault::MalformedStatusLine, None, head, body))
}
