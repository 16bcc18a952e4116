//! Mistakes of our own caller with a handshake.
//!
//! Never what a peer did: that is a `RequestError`, an `UpgradeError` or a `ResponseError`.

use crate::debug_with_text;
use crate::escape::short;

/// A handshake was asked for that may not be put on the wire.
///
/// ```
/// use picows_uring_proto::{HandshakeMisuse, UpgradeResponse};
///
/// let error = UpgradeResponse::ok().with_header("X-Trace", "a\r\nSet-Cookie: b").unwrap_err();
/// assert_eq!(error, HandshakeMisuse::InvalidHeaderValue { name: "X-Trace".into() });
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeMisuse {
    /// A header name is no token (RFC 9110 §5.6.2).
    #[error("{} is no HTTP header name", short(name))]
    InvalidHeaderName {
        /// The name that was given.
        name: String,
    },
    /// A header value has a control character, such as a line end.
    #[error("the value of header {} has a control character", short(name))]
    InvalidHeaderValue {
        /// The header whose value was given.
        name: String,
    },
    /// The handshake writes this header itself.
    #[error("header {} is written by the handshake and cannot be replaced", short(name))]
    ReservedHeader {
        /// The name that was given.
        name: String,
    },
    /// A `Host` is empty or has characters that cannot be in one.
    #[error("{} cannot be a Host header", short(host))]
    InvalidHost {
        /// The host that was given.
        host: String,
    },
    /// A request target is not a path with an optional query, in visible ASCII without fragment.
    #[error(
        "{} is no request target: it starts with '/' and is percent-encoded ASCII",
        short(target)
    )]
    InvalidTarget {
        /// The target that was given.
        target: String,
    },
    /// A subprotocol is no token (RFC 6455 §4.1, item 10).
    #[error("{} is no subprotocol name", short(subprotocol))]
    InvalidSubprotocol {
        /// The subprotocol that was given.
        subprotocol: String,
    },
    /// A subprotocol is offered twice (RFC 6455 §4.1, item 10).
    #[error("subprotocol {} is offered twice", short(subprotocol))]
    RepeatedSubprotocol {
        /// The subprotocol that was given.
        subprotocol: String,
    },
    /// The subprotocol chosen for an answer is none that the client offered (RFC 6455 §4.2.2).
    #[error("subprotocol {} was not offered by the client", short(subprotocol))]
    SubprotocolNotOffered {
        /// The subprotocol that was chosen.
        subprotocol: String,
    },
    /// An extension offer does not start with a name (RFC 6455 §9.1).
    #[error("{} is no extension offer", short(extension))]
    InvalidExtension {
        /// The offer that was given.
        extension: String,
    },
}

debug_with_text! { HandshakeMisuse: InvalidHeaderName, InvalidHeaderValue, ReservedHeader, InvalidHost, InvalidTarget, InvalidSubprotocol, RepeatedSubprotocol, SubprotocolNotOffered, InvalidExtension }
