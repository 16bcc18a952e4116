//! What our own caller can do wrong with a handshake.
//!
//! Never what a peer did: that is a `RequestError`, an `UpgradeError` or a `ResponseError`.

/// A handshake was asked for that may not be put on the wire.
///
/// ```
/// use picows_uring_proto::{HandshakeMisuse, UpgradeResponse};
///
/// let error = UpgradeResponse::ok().with_header("X-Trace", "a\r\nSet-Cookie: b").unwrap_err();
/// assert_eq!(error, HandshakeMisuse::InvalidHeaderValue { name: "X-Trace".into() });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeMisuse {
    /// A header name is no token (RFC 9110 §5.6.2).
    #[error("{name:?} is no HTTP header name")]
    InvalidHeaderName {
        /// The name that was given.
        name: String,
    },
    /// A header value has a control character, such as a line end.
    #[error("the value of header {name:?} has a control character")]
    InvalidHeaderValue {
        /// The header whose value was given.
        name: String,
    },
    /// The handshake writes this header itself.
    #[error("header {name:?} is written by the handshake and cannot be replaced")]
    ReservedHeader {
        /// The name that was given.
        name: String,
    },
    /// A `Host` is empty or has characters that cannot be in one.
    #[error("{host:?} cannot be a Host header")]
    InvalidHost {
        /// The host that was given.
        host: String,
    },
    /// A request target is not a path with an optional query, in visible ASCII without fragment.
    #[error("{target:?} is no request target: it starts with '/' and is percent-encoded ASCII")]
    InvalidTarget {
        /// The target that was given.
        target: String,
    },
    /// A subprotocol is no token (RFC 6455 §4.1, item 10).
    #[error("{subprotocol:?} is no subprotocol name")]
    InvalidSubprotocol {
        /// The subprotocol that was given.
        subprotocol: String,
    },
    /// A subprotocol is offered twice (RFC 6455 §4.1, item 10).
    #[error("subprotocol {subprotocol:?} is offered twice")]
    RepeatedSubprotocol {
        /// The subprotocol that was given.
        subprotocol: String,
    },
    /// The subprotocol chosen for an answer is none that the client offered (RFC 6455 §4.2.2).
    #[error("subprotocol {subprotocol:?} was not offered by the client")]
    SubprotocolNotOffered {
        /// The subprotocol that was chosen.
        subprotocol: String,
    },
    /// An extension offer does not start with a name (RFC 6455 §9.1).
    #[error("{extension:?} is no extension offer")]
    InvalidExtension {
        /// The offer that was given.
        extension: String,
    },
}
