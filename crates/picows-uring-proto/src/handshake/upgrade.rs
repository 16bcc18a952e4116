//! Check of a request as WebSocket handshake (RFC 6455 §4.2.1), and choice of the subprotocol.
//!
//! Does not parse and does not answer. Runs after the application has chosen to accept.

use crate::debug_with_text;
use http::StatusCode;

use super::accept::key_text;
use super::{AcceptKey, HandshakeMisuse, UpgradeRequest};

/// The reason why a request that was to be accepted is no WebSocket handshake.
///
/// The text is fit for the peer: it names the fault and nothing about us.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// There is no `Upgrade`.
    #[error("no upgrade header: this is a WebSocket endpoint")]
    MissingUpgrade,
    /// `Upgrade` does not list `websocket` (RFC 6455 §4.2.1, item 3).
    #[error("invalid upgrade header: expected websocket")]
    InvalidUpgrade,
    /// There is no `Connection`.
    #[error("no connection header: a proxy may have dropped it")]
    MissingConnection,
    /// `Connection` does not list `Upgrade` (RFC 6455 §4.2.1, item 4).
    #[error("invalid connection header: expected it to list Upgrade")]
    InvalidConnection,
    /// There is no `Sec-WebSocket-Version`.
    #[error("no sec-websocket-version header: expected 13")]
    MissingVersion,
    /// There is more than one `Sec-WebSocket-Version` (RFC 6455 §11.3.5).
    #[error("more than one sec-websocket-version header")]
    RepeatedVersion,
    /// The version is not 13 (RFC 6455 §4.2.1, item 6).
    #[error("unsupported sec-websocket-version: expected 13")]
    UnsupportedVersion,
    /// There is no `Sec-WebSocket-Key`.
    #[error("no sec-websocket-key header")]
    MissingKey,
    /// There is more than one `Sec-WebSocket-Key` (RFC 6455 §11.3.1).
    #[error("more than one sec-websocket-key header")]
    RepeatedKey,
    /// The key is not the base64 of 16 bytes (RFC 6455 §4.2.1, item 5).
    #[error("invalid sec-websocket-key header: expected the base64 of 16 bytes")]
    InvalidKey,
    /// `Host` is empty (RFC 6455 §4.2.1, item 2). That there is one, and not two, is known.
    #[error("empty host header: expected the name of the server")]
    EmptyHost,
    /// The method is HEAD (RFC 6455 §4.1, item 2).
    #[error("a WebSocket handshake is a GET")]
    NotGet,
    /// The version is HTTP/1.0 (RFC 6455 §4.1, item 2).
    #[error("a WebSocket handshake is HTTP/1.1")]
    NotHttp11,
}

debug_with_text! { UpgradeError: MissingUpgrade, InvalidUpgrade, MissingConnection, InvalidConnection, MissingVersion, RepeatedVersion, UnsupportedVersion, MissingKey, RepeatedKey, InvalidKey, EmptyHost, NotGet, NotHttp11 }

impl UpgradeError {
    /// The status owed to the peer.
    ///
    /// 426 answers a client that named a version we do not speak (RFC 6455 §4.4). One that named
    /// none, or several, has not sent what §4.2.1 describes, and that is a 400.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::MissingUpgrade
            | Self::InvalidUpgrade
            | Self::MissingConnection
            | Self::InvalidConnection
            | Self::MissingVersion
            | Self::RepeatedVersion
            | Self::MissingKey
            | Self::RepeatedKey
            | Self::InvalidKey
            | Self::EmptyHost
            | Self::NotHttp11 => StatusCode::BAD_REQUEST,
        }
    }
}

impl UpgradeRequest {
    /// Checks the handshake and returns the proof that goes into the answer.
    ///
    /// `Upgrade` and `Connection` are searched as lists over all headers of that name: Firefox
    /// sends `Connection: keep-alive, Upgrade`.
    ///
    /// ```
    /// use picows_uring_proto::{HeadLimits, UpgradeError, UpgradeRequest};
    ///
    /// let wire = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\n\
    ///     Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    ///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    /// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
    /// assert_eq!(request.validate_upgrade()?.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn validate_upgrade(&self) -> Result<AcceptKey, UpgradeError> {
        let head = self.head();
        if head.value("upgrade").is_none() {
            return Err(UpgradeError::MissingUpgrade);
        }
        if !head.lists("upgrade", "websocket") {
            return Err(UpgradeError::InvalidUpgrade);
        }
        if !self.is_get_of_http_1_1() {
            let is_head = self.method() == "HEAD";
            return Err(if is_head { UpgradeError::NotGet } else { UpgradeError::NotHttp11 });
        }
        if head.value("connection").is_none() {
            return Err(UpgradeError::MissingConnection);
        }
        if !head.lists("connection", "upgrade") {
            return Err(UpgradeError::InvalidConnection);
        }
        let version = self.single(
            "sec-websocket-version",
            UpgradeError::MissingVersion,
            UpgradeError::RepeatedVersion,
        )?;
        if version != WEBSOCKET_VERSION.as_bytes() {
            return Err(UpgradeError::UnsupportedVersion);
        }
        let key =
            self.single("sec-websocket-key", UpgradeError::MissingKey, UpgradeError::RepeatedKey)?;
        let key = key_text(key).ok_or(UpgradeError::InvalidKey)?;
        if self.host().is_none_or(str::is_empty) {
            return Err(UpgradeError::EmptyHost);
        }
        Ok(AcceptKey::for_key(key))
    }

    /// The value of a header that has to be there once.
    fn single(
        &self,
        name: &str,
        missing: UpgradeError,
        repeated: UpgradeError,
    ) -> Result<&[u8], UpgradeError> {
        let value = self.header(name).ok_or(missing)?;
        if self.header_values(name).count() == 1 { Ok(value) } else { Err(repeated) }
    }
}

/// Returns the first of `supported` that the client offers: the server's order decides.
///
/// Names are compared by case, as RFC 6455 §1.9 registers them.
///
/// ```
/// use picows_uring_proto::{HeadLimits, UpgradeRequest, select_subprotocol};
///
/// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: superchat, chat\r\n\r\n";
/// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
/// let chosen = select_subprotocol(&request, &["chat", "superchat"]);
/// assert_eq!(chosen.as_deref(), Some("chat"));
/// # Ok::<(), picows_uring_proto::RequestError>(())
/// ```
#[must_use]
pub fn select_subprotocol(request: &UpgradeRequest, supported: &[&str]) -> Option<String> {
    let is_offered = |name: &&&str| request.subprotocols().any(|offered| offered == **name);
    supported.iter().find(is_offered).map(|&name| name.to_owned())
}

/// Returns the first that the client offers of those that are `supported`: the client's order decides.
///
/// ```
/// use picows_uring_proto::{HeadLimits, UpgradeRequest, preferred_subprotocol};
///
/// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: superchat, chat\r\n\r\n";
/// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
/// let chosen = preferred_subprotocol(&request, &["chat", "superchat"]);
/// assert_eq!(chosen.as_deref(), Some("superchat"));
/// # Ok::<(), picows_uring_proto::RequestError>(())
/// ```
#[must_use]
pub fn preferred_subprotocol(request: &UpgradeRequest, supported: &[&str]) -> Option<String> {
    request.subprotocols().find(|offered| supported.contains(offered)).map(str::to_owned)
}

/// Checks that `subprotocol`, which the application chose, is one the client offered.
///
/// RFC 6455 §4.2.2 (item 5, `subprotocol`) forbids any other, and a client that gets one has to
/// fail the connection.
///
/// ```
/// use picows_uring_proto::{HeadLimits, UpgradeRequest, check_subprotocol};
///
/// let wire = b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
/// let (request, _) = UpgradeRequest::parse(wire, &HeadLimits::default())?.unwrap();
/// assert!(check_subprotocol(&request, "chat").is_ok());
/// assert!(check_subprotocol(&request, "superchat").is_err());
/// # Ok::<(), picows_uring_proto::RequestError>(())
/// ```
pub fn check_subprotocol(
    request: &UpgradeRequest,
    subprotocol: &str,
) -> Result<(), HandshakeMisuse> {
    if request.subprotocols().any(|offered| offered == subprotocol) {
        Ok(())
    } else {
        Err(HandshakeMisuse::SubprotocolNotOffered { subprotocol: subprotocol.to_owned() })
    }
}

/// The only version there is (RFC 6455 §4.1, item 9).
pub(super) const WEBSOCKET_VERSION: &str = "13";
