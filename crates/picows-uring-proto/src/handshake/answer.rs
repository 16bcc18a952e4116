//! Answers of a server: a 101, or any other HTTP answer.
//!
//! Decides nothing: the application and the two error types say what the answer is.

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::head::is_token;
use super::upgrade::WEBSOCKET_VERSION;
use super::{AcceptKey, HandshakeMisuse, RequestError, UpgradeError};

/// An HTTP answer that ends the connection: a health page, a refusal, a redirect.
///
/// Its headers also serve as the extra headers of a 101, see [`encode_switching_protocols`].
///
/// ```
/// use picows_uring_proto::UpgradeResponse;
///
/// let mut wire = Vec::new();
/// UpgradeResponse::ok().with_body("fine").encode(&mut wire);
/// assert_eq!(
///     wire,
///     b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
///       Content-Length: 4\r\nConnection: close\r\n\r\nfine",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeResponse {
    /// The status line.
    pub status: StatusCode,
    /// The headers, but for those that [`Self::encode`] writes itself.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl UpgradeResponse {
    /// An answer without headers or body.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// 200 with an empty plain text.
    #[must_use]
    pub fn ok() -> Self {
        Self::text(StatusCode::OK, Bytes::new())
    }

    /// An answer in plain UTF-8 text.
    ///
    /// ```
    /// use picows_uring_proto::UpgradeResponse;
    ///
    /// let refusal = UpgradeResponse::text(http::StatusCode::NOT_FOUND, "no such room");
    /// assert_eq!(refusal.headers["content-type"], "text/plain; charset=utf-8");
    /// ```
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let mut response = Self::new(status).with_body(body);
        response.headers.insert(CONTENT_TYPE, TEXT_PLAIN);
        response
    }

    /// 401, with a challenge (RFC 9110 §11.6.1): `Bearer`, or `Basic realm="users"`. Characters of it
    /// that cannot be in a header are left out.
    ///
    /// ```
    /// use picows_uring_proto::UpgradeResponse;
    ///
    /// let refusal = UpgradeResponse::unauthorized("Bearer");
    /// assert_eq!((refusal.status.as_u16(), &refusal.headers["www-authenticate"]), (401, &"Bearer".parse()?));
    /// # Ok::<(), http::header::InvalidHeaderValue>(())
    /// ```
    #[must_use]
    pub fn unauthorized(challenge: impl AsRef<str>) -> Self {
        let mut response = Self::text(StatusCode::UNAUTHORIZED, "unauthorized\n");
        let mut challenge = challenge.as_ref().to_owned();
        challenge.retain(|it| matches!(it, ' '..='~'));
        if let Ok(value) = HeaderValue::try_from(challenge) {
            response.headers.insert(WWW_AUTHENTICATE, value);
        }
        response
    }

    /// Adds a header. A second `Content-Type` replaces the first; any other name may repeat.
    ///
    /// ```
    /// use picows_uring_proto::UpgradeResponse;
    ///
    /// let response = UpgradeResponse::ok()
    ///     .with_header("Content-Type", "application/json")?
    ///     .with_body("{}");
    /// assert_eq!(response.headers["content-type"], "application/json");
    /// # Ok::<(), picows_uring_proto::HandshakeMisuse>(())
    /// ```
    pub fn with_header(
        mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, HandshakeMisuse> {
        let (name, value) = header(name, value.as_ref())?;
        if name == CONTENT_TYPE {
            self.headers.insert(name, value);
        } else {
            self.headers.append(name, value);
        }
        Ok(self)
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Appends the answer to `out`.
    ///
    /// Its length and `Connection: close` are written here; what `headers` says of them is left
    /// out. 204 and 304 have neither body nor length (RFC 9110 §6.4.1, §8.6). An informational
    /// status cannot end an exchange, so it goes out as 500: a 101 that the application made up
    /// must not get past the checks that a real one needs.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(HEAD_BYTES_GUESS + self.body.len());
        self.encode_head(out);
        out.extend_from_slice(self.body_sent().map_or(b"", |body| body));
    }

    /// Appends the answer without its body to `out`, with every header that [`encode`](Self::encode)
    /// writes, the length of the body included: the answer to a HEAD (RFC 9110 §9.3.2).
    ///
    /// ```
    /// use picows_uring_proto::UpgradeResponse;
    ///
    /// let mut wire = Vec::new();
    /// UpgradeResponse::ok().with_body("fine").encode_head(&mut wire);
    /// assert!(wire.ends_with(b"\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"));
    /// ```
    pub fn encode_head(&self, out: &mut Vec<u8>) {
        self.encode_head_with(out, "close");
    }

    /// [`encode_head`](Self::encode_head), of an answer that leaves the connection to a further request.
    #[doc(hidden)] // For the crates of this project, and not promised.
    pub fn encode_kept_head(&self, out: &mut Vec<u8>) {
        self.encode_head_with(out, "keep-alive");
    }

    fn encode_head_with(&self, out: &mut Vec<u8>, connection: &str) {
        let status = self.status_sent();
        out.reserve(HEAD_BYTES_GUESS);
        push_status_line(out, status);
        for (name, value) in &self.headers {
            if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
                push_header(out, name, value);
            }
        }
        if has_body(status) {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        push_line(out, "Connection", connection.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// The body that [`encode`](Self::encode) writes, for a caller that sends it by reference.
    #[doc(hidden)] // For the crates of this project, and not promised.
    #[must_use]
    pub fn body_sent(&self) -> Option<&Bytes> {
        has_body(self.status_sent()).then_some(&self.body)
    }

    /// The status that goes out.
    fn status_sent(&self) -> StatusCode {
        if self.status.is_informational() { StatusCode::INTERNAL_SERVER_ERROR } else { self.status }
    }
}

/// A 405 names the methods that are served (RFC 9110 §15.5.6).
impl From<RequestError> for UpgradeResponse {
    fn from(error: RequestError) -> Self {
        let mut response = Self::text(error.status(), error.to_string());
        if response.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// A 426 names the version that would have done (RFC 6455 §4.4) and the protocol it is a version
/// of (RFC 9110 §15.5.22).
impl From<UpgradeError> for UpgradeResponse {
    fn from(error: UpgradeError) -> Self {
        let mut response = Self::text(error.status(), error.to_string());
        if response.status == StatusCode::UPGRADE_REQUIRED {
            let version = HeaderValue::from_static(WEBSOCKET_VERSION);
            response.headers.insert(SEC_WEBSOCKET_VERSION, version);
            response.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        if response.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

/// Appends the interim answer to a request that expects it, before the final one
/// (RFC 9110 §10.1.1, §15.2.1).
///
/// ```
/// let mut wire = Vec::new();
/// picows_uring_proto::encode_continue(&mut wire);
/// assert_eq!(wire, b"HTTP/1.1 100 Continue\r\n\r\n");
/// ```
pub fn encode_continue(out: &mut Vec<u8>) {
    push_status_line(out, StatusCode::CONTINUE);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head that accepts a WebSocket to `out` (RFC 6455 §4.2.2).
///
/// `subprotocol` has passed [`check_subprotocol`](crate::check_subprotocol); one that is no token
/// is left out, so that it cannot split the answer. Headers of `extra` that belong to the
/// handshake or speak of a body are ignored, `Sec-WebSocket-Protocol` too: the argument is the
/// only door for a subprotocol, because the check stands in front of it.
///
/// ```
/// use picows_uring_proto::{AcceptKey, encode_switching_protocols};
///
/// let accept = AcceptKey::for_key("dGhlIHNhbXBsZSBub25jZQ==");
/// let mut wire = Vec::new();
/// encode_switching_protocols(&mut wire, &accept, Some("chat"), &http::HeaderMap::new());
/// assert_eq!(
///     wire,
///     b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
///       Sec-WebSocket-Protocol: chat\r\n\r\n",
/// );
/// ```
pub fn encode_switching_protocols(
    out: &mut Vec<u8>,
    accept: &AcceptKey,
    subprotocol: Option<&str>,
    extra: &HeaderMap,
) {
    out.reserve(HEAD_BYTES_GUESS);
    push_status_line(out, StatusCode::SWITCHING_PROTOCOLS);
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
    push_line(out, "Sec-WebSocket-Accept", accept.as_str().as_bytes());
    if let Some(subprotocol) = subprotocol.filter(|name| is_token(name.as_bytes())) {
        push_line(out, "Sec-WebSocket-Protocol", subprotocol.as_bytes());
    }
    let ours = [
        UPGRADE,
        CONNECTION,
        SEC_WEBSOCKET_ACCEPT,
        SEC_WEBSOCKET_PROTOCOL,
        // RFC 9110 §6.1 and §8.6 forbid both in a 1xx.
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
    ];
    for (name, value) in extra {
        if !ours.contains(name) {
            push_header(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Checks a header that our caller gave.
pub(super) fn header(
    name: &str,
    value: &[u8],
) -> Result<(HeaderName, HeaderValue), HandshakeMisuse> {
    let value = HeaderValue::from_bytes(value)
        .map_err(|_| HandshakeMisuse::InvalidHeaderValue { name: name.to_owned() })?;
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| HandshakeMisuse::InvalidHeaderName { name: name.to_owned() })?;
    Ok((name, value))
}

/// Appends a header, its name spelt as the RFCs do: names have no case, but there are old peers
/// that compare them by it.
pub(super) fn push_header(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let start = out.len();
    push_line(out, name.as_str(), value.as_bytes());
    let mut begins_word = true;
    for byte in &mut out[start..start + name.as_str().len()] {
        if begins_word {
            byte.make_ascii_uppercase();
        }
        begins_word = *byte == b'-';
    }
    if name.as_str().starts_with("sec-websocket-") {
        out[start + "Sec-Web".len()] = b'S';
    }
}

/// Appends a header line. Neither part has a line end.
pub(super) fn push_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// 204 and 304 never have one (RFC 9110 §6.4.1).
fn has_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn push_status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    // The space stays without a reason (RFC 9112 §4).
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

const TEXT_PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Room for the head of most answers; only a guess that saves growing.
const HEAD_BYTES_GUESS: usize = 256;
