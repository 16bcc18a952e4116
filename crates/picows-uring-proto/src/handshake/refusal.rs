//! Reasons why a client did not get its WebSocket, and what the server said instead.
//!
//! Decides nothing: `response` and `verify` find the fault. Redirects are reported here and
//! followed by the runtime.

use crate::debug_with_text;
use std::fmt;

use http::StatusCode;

use super::body::Body;
use super::head::list_elements;
use super::{DeflateFault, MessageFault, REJECTED_BODY_BYTES_MAX, ResponseHead};
use crate::escape::{Escaped, SHOWN_BYTES_MAX, SHOWN_TEXT_BYTES_MAX, short};

/// The reason why a server's answer does not open a WebSocket.
///
/// Each variant has what the server sent, so that a caller can tell 401 from 404 and read why.
///
/// ```
/// use picows_uring_proto::{ClientHandshake, HeadLimits, ResponseError};
///
/// let handshake = ClientHandshake::new("example.com", "/", [0; 16])?;
/// let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno room";
/// let error = handshake.parse_response(answer, &HeadLimits::default()).unwrap_err();
/// let text = "the server answered 404 Not Found instead of 101: \"no room\"";
/// assert_eq!(error.to_string(), text);
/// let ResponseError::InvalidStatus(response) = error else { unreachable!() };
/// assert_eq!(response.body(), b"no room");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// It is no HTTP response, or a 101 that is malformed.
    #[error("invalid HTTP response: {}", .0.fault)]
    InvalidMessage(Box<InvalidMessage>),
    /// The status is not 101 (RFC 6455 §4.1), nor a redirect that says where to. Nothing else of
    /// the answer has to be right: HTTP/1.0, lines that end with LF, bad headers and a head that is
    /// too long hide no status.
    #[error("the server answered {} instead of 101{}", .0.head().status(), .0.explanation())]
    InvalidStatus(Box<RejectedResponse>),
    /// The status is 301, 302, 303, 307 or 308.
    #[error("the server redirects to {}", Escaped::new(location).quoted().at_most(SHOWN_TEXT_BYTES_MAX))]
    Redirect {
        /// The value of `Location`, which may be relative to the URL that was asked for.
        location: String,
        /// The whole answer.
        response: Box<RejectedResponse>,
    },
    /// `Upgrade` is not `websocket` (RFC 6455 §4.1, item 2 of the checks).
    #[error("invalid upgrade header: {}", .0.shown("upgrade"))]
    InvalidUpgrade(Box<RejectedResponse>),
    /// `Connection` does not list `Upgrade` (RFC 6455 §4.1, item 3 of the checks).
    #[error("invalid connection header: {}", .0.shown("connection"))]
    InvalidConnection(Box<RejectedResponse>),
    /// `Sec-WebSocket-Accept` does not answer our key (RFC 6455 §4.1, item 4 of the checks).
    #[error("invalid sec-websocket-accept header: {}", .0.shown("sec-websocket-accept"))]
    InvalidAccept(Box<RejectedResponse>),
    /// An extension was not offered (RFC 6455 §4.1, item 5 of the checks).
    #[error("invalid sec-websocket-extensions header: {}", .0.shown("sec-websocket-extensions"))]
    InvalidExtensions(Box<RejectedResponse>),
    /// The answer about permessage-deflate does not fit our offer (RFC 7692 §5.1).
    #[error("invalid sec-websocket-extensions header: {fault}")]
    InvalidDeflate {
        /// What is wrong with it.
        fault: DeflateFault,
        /// The whole answer.
        response: Box<RejectedResponse>,
    },
    /// The subprotocol was not offered (RFC 6455 §4.1, item 6 of the checks).
    #[error("invalid sec-websocket-protocol header: {}", .0.shown("sec-websocket-protocol"))]
    InvalidSubprotocol(Box<RejectedResponse>),
}

debug_with_text! { ResponseError: InvalidMessage, InvalidStatus, Redirect, InvalidUpgrade, InvalidConnection, InvalidAccept, InvalidExtensions, InvalidDeflate, InvalidSubprotocol }

/// The answer in an error, borrowed as the error is.
macro_rules! response_of {
    ($error:expr) => {
        match $error {
            Self::InvalidMessage(_) => None,
            Self::InvalidStatus(response)
            | Self::Redirect { response, .. }
            | Self::InvalidDeflate { response, .. }
            | Self::InvalidUpgrade(response)
            | Self::InvalidConnection(response)
            | Self::InvalidAccept(response)
            | Self::InvalidExtensions(response)
            | Self::InvalidSubprotocol(response) => Some(response),
        }
    };
}

impl ResponseError {
    /// The answer; `None` when it was not even HTTP.
    #[must_use]
    pub fn response(&self) -> Option<&RejectedResponse> {
        response_of!(self)
    }

    /// The same, to add what arrives of its body.
    pub fn response_mut(&mut self) -> Option<&mut RejectedResponse> {
        response_of!(self)
    }
}

/// An answer that is HTTP but opens no WebSocket.
#[derive(Clone, PartialEq, Eq)]
pub struct RejectedResponse {
    head: ResponseHead,
    body: Body,
}

impl RejectedResponse {
    pub(super) fn new(head: ResponseHead, arrived: &[u8]) -> Self {
        let body = Body::after(&head, arrived);
        Self { head, body }
    }

    /// An answer whose head is too long or was cut off: what follows is unknown.
    pub(super) const fn without_body(head: ResponseHead) -> Self {
        Self { head, body: Body::none() }
    }

    /// Status and headers.
    #[must_use]
    pub const fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// The first part of the body, as far as it has arrived; without the framing of its chunks, and
    /// still in its content coding.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.bytes()
    }

    /// How many more bytes of the body there may be and are worth waiting for.
    ///
    /// ```
    /// # use picows_uring_proto::{ClientHandshake, HeadLimits};
    /// # let handshake = ClientHandshake::new("example.com", "/", [0; 16])?;
    /// let answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\ntry ";
    /// let mut error = handshake.parse_response(answer, &HeadLimits::default()).unwrap_err();
    /// let response = error.response_mut().unwrap();
    /// assert_eq!(response.body_missing(), 5);
    /// response.extend_body(b"later");
    /// assert_eq!(response.body(), b"try later");
    /// # Ok::<(), picows_uring_proto::HandshakeMisuse>(())
    /// ```
    #[must_use]
    pub fn body_missing(&self) -> usize {
        self.body.missing()
    }

    /// Adds bytes of the body that have arrived since; those beyond
    /// [`REJECTED_BODY_BYTES_MAX`](crate::REJECTED_BODY_BYTES_MAX) in all are dropped.
    pub fn extend_body(&mut self, more: &[u8]) {
        self.body.extend(more);
    }

    /// What an error text says of the answer behind its status: when to come again, and how the
    /// body begins.
    fn explanation(&self) -> String {
        let mut text = String::new();
        if let Some(value) = self.head.header("retry-after") {
            let shown = Escaped::new(value).at_most(SHOWN_BYTES_MAX);
            text += &format!(" (Retry-After: {shown})");
        }
        let codings = self.head.header_values("content-encoding");
        let is_readable = codings.flat_map(list_elements).all(|it| it == b"identity");
        let body = self.body().trim_ascii();
        if is_readable && !body.is_empty() {
            text += &format!(": {}", Escaped::new(body).quoted().at_most(BODY_BYTES_SHOWN_MAX));
        }
        text
    }

    /// The values of a header for an error text.
    fn shown(&self, name: &str) -> String {
        let values: Vec<_> = self.head.header_values(name).collect();
        if values.is_empty() {
            return "missing".to_owned();
        }
        short(&values.join(&b", "[..])).to_string()
    }
}

impl fmt::Debug for RejectedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectedResponse")
            .field("head", &self.head)
            .field("body", &short(self.body()))
            .finish()
    }
}

/// An answer that is no HTTP response, or a malformed 101.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidMessage {
    /// What is wrong with it.
    pub fault: MessageFault,
    /// The status, if there is one.
    pub status: Option<StatusCode>,
    /// The head as received; all there is of it when it does not end.
    pub head: Vec<u8>,
    /// The first part of what follows, at most [`REJECTED_BODY_BYTES_MAX`].
    pub body: Vec<u8>,
}

impl InvalidMessage {
    pub(super) fn new(
        fault: MessageFault,
        status: Option<StatusCode>,
        head: &[u8],
        body: &[u8],
    ) -> Self {
        Self { fault, status, head: head.to_vec(), body: capped(body).to_vec() }
    }
}

impl fmt::Debug for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InvalidMessage")
            .field("fault", &self.fault)
            .field("status", &self.status)
            .field("head", &short(&self.head))
            .field("body", &short(&self.body))
            .finish()
    }
}

fn capped(body: &[u8]) -> &[u8] {
    &body[..body.len().min(REJECTED_BODY_BYTES_MAX)]
}

/// Bytes of a body in an error text: the first sentences of an error page.
const BODY_BYTES_SHOWN_MAX: usize = 200;
