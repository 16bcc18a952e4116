//! The request that a client opens a connection with (RFC 6455 §4.1).
//!
//! Draws no random bytes and resolves no URL: key, host and target are arguments. The answer is
//! judged in `verify`.

use crate::extension::{Deflate, NegotiatedDeflate};
use std::fmt;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::accept::key_for_nonce;
use super::answer::{header, push_header, push_line};
use super::extensions;
use super::head::{extension_names, is_token};
use super::upgrade::WEBSOCKET_VERSION;
use super::{
    AcceptKey, DeflateFault, HEAD_BYTES_CEILING, HandshakeMisuse, HeadLimits, RequestError,
    ResponseHead, UpgradeRequest,
};

/// One opening handshake of a client: what it sends, and what it has to find in the answer.
///
/// ```
/// use picows_uring_proto::{ClientHandshake, HeadLimits};
///
/// let nonce = *b"the sample nonce"; // Yours come from the operating system.
/// let handshake = ClientHandshake::new("server.example.com", "/chat", nonce)?
///     .with_subprotocols(["chat", "superchat"])?
///     .with_header("Origin", "http://example.com")?;
/// let mut wire = Vec::new();
/// handshake.encode(&mut wire);
///
/// let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
///     Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
///     Sec-WebSocket-Protocol: chat\r\n\r\n";
/// let (head, _) = handshake.parse_response(answer, &HeadLimits::default())?
///     .expect("the head is complete");
/// assert_eq!(head.subprotocol(), Some("chat"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientHandshake {
    host: HeaderValue,
    target: String,
    key: String,
    accept: AcceptKey,
    subprotocols: Vec<String>,
    extensions: Vec<String>,
    deflate: Option<Deflate>,
    extra: HeaderMap,
}

impl ClientHandshake {
    /// A handshake for `target` (path and query, percent-encoded) at `host` (with its port unless
    /// that is the scheme's own).
    ///
    /// `nonce` is 16 bytes from a strong generator, new for each attempt (RFC 6455 §4.1, item 7).
    pub fn new(host: &str, target: &str, nonce: [u8; 16]) -> Result<Self, HandshakeMisuse> {
        let is_target_byte = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !target.starts_with('/') || !target.bytes().all(is_target_byte) {
            return Err(HandshakeMisuse::InvalidTarget { target: target.to_owned() });
        }
        let key = key_for_nonce(nonce);
        Ok(Self {
            host: host_value(host.as_bytes())?,
            target: target.to_owned(),
            accept: AcceptKey::for_key(&key),
            key,
            subprotocols: Vec::new(),
            extensions: Vec::new(),
            deflate: None,
            extra: HeaderMap::new(),
        })
    }

    /// Offers subprotocols, the one liked best first, after those offered already.
    pub fn with_subprotocols<I>(mut self, subprotocols: I) -> Result<Self, HandshakeMisuse>
    where
        I: IntoIterator<Item: AsRef<str>>,
    {
        for subprotocol in subprotocols {
            let subprotocol = subprotocol.as_ref().to_owned();
            if !is_token(subprotocol.as_bytes()) {
                return Err(HandshakeMisuse::InvalidSubprotocol { subprotocol });
            }
            if self.subprotocols.contains(&subprotocol) {
                return Err(HandshakeMisuse::RepeatedSubprotocol { subprotocol });
            }
            self.subprotocols.push(subprotocol);
        }
        Ok(self)
    }

    /// Offers an extension with its parameters, after those offered already.
    ///
    /// ```
    /// # use picows_uring_proto::ClientHandshake;
    /// let handshake = ClientHandshake::new("example.com", "/", [0; 16])?
    ///     .with_extension("permessage-deflate; client_max_window_bits")?;
    /// # Ok::<(), picows_uring_proto::HandshakeMisuse>(())
    /// ```
    pub fn with_extension(mut self, offer: &str) -> Result<Self, HandshakeMisuse> {
        let is_offer = offer.bytes().all(|byte| matches!(byte, b' '..=b'~'))
            && extension_names(offer.as_bytes()).is_some_and(|names| !names.is_empty());
        let is_ours = self.deflate.is_some()
            && extension_names(offer.as_bytes())
                .is_some_and(|names| names.contains(&extensions::NAME));
        if !is_offer || is_ours {
            return Err(HandshakeMisuse::InvalidExtension { extension: offer.to_owned() });
        }
        self.extensions.push(offer.to_owned());
        Ok(self)
    }

    /// Offers permessage-deflate with these settings, and judges the answer by them.
    ///
    /// # Errors
    ///
    /// When it was offered already.
    pub fn with_deflate(mut self, settings: Deflate) -> Result<Self, HandshakeMisuse> {
        let offer = settings.offer();
        if self.offers_extension(extensions::NAME) {
            return Err(HandshakeMisuse::InvalidExtension { extension: offer });
        }
        self.extensions.push(offer);
        self.deflate = Some(settings);
        Ok(self)
    }

    /// What a server has agreed on with an answer that [`parse_response`](Self::parse_response) has
    /// returned, if anything.
    #[must_use]
    pub fn negotiated_deflate(&self, response: &ResponseHead) -> Option<NegotiatedDeflate> {
        self.judge_deflate(response).ok().flatten()
    }

    pub(super) fn judge_deflate(
        &self,
        response: &ResponseHead,
    ) -> Result<Option<NegotiatedDeflate>, DeflateFault> {
        self.deflate.map_or(Ok(None), |settings| settings.judge(response))
    }

    /// Adds a header. A `Host` replaces ours and a second `Content-Type` the first; the headers
    /// the handshake is made of, and those that announce a body, are refused.
    pub fn with_header(
        mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, HandshakeMisuse> {
        let (parsed, value) = header(name, value.as_ref())?;
        if is_reserved(&parsed) {
            return Err(HandshakeMisuse::ReservedHeader { name: name.to_owned() });
        }
        if parsed == HOST {
            self.host = host_value(value.as_bytes())?;
        } else if parsed == CONTENT_TYPE {
            self.extra.insert(parsed, value);
        } else {
            self.extra.append(parsed, value);
        }
        Ok(self)
    }

    /// Appends the request to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        push_line(out, "Host", self.host.as_bytes());
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        push_line(out, "Sec-WebSocket-Key", self.key.as_bytes());
        push_line(out, "Sec-WebSocket-Version", WEBSOCKET_VERSION.as_bytes());
        if !self.subprotocols.is_empty() {
            let offer = self.subprotocols.join(", ");
            push_line(out, "Sec-WebSocket-Protocol", offer.as_bytes());
        }
        if !self.extensions.is_empty() {
            let offer = self.extensions.join(", ");
            push_line(out, "Sec-WebSocket-Extensions", offer.as_bytes());
        }
        for (name, value) in &self.extra {
            push_header(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The request as a server would see it, to be kept with the connection.
    ///
    /// Fails only when it is longer than [`HEAD_BYTES_CEILING`], which
    /// no server takes.
    ///
    /// ```
    /// # use picows_uring_proto::ClientHandshake;
    /// let handshake = ClientHandshake::new("example.com", "/chat?room=7", [0; 16])?;
    /// assert_eq!(handshake.request()?.query(), Some("room=7"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn request(&self) -> Result<UpgradeRequest, RequestError> {
        let mut wire = Vec::new();
        self.encode(&mut wire);
        let limits = HeadLimits { head_bytes_max: HEAD_BYTES_CEILING, headers_max: usize::MAX };
        match UpgradeRequest::parse(&wire, &limits)? {
            Some((request, _)) => Ok(request),
            // What `encode` writes is complete.
            None => Err(RequestError::MalformedRequestLine),
        }
    }

    /// What `Sec-WebSocket-Accept` has to be in the answer.
    pub(super) const fn accept(&self) -> &AcceptKey {
        &self.accept
    }

    /// Whether `subprotocol` was offered.
    pub(super) fn offers_subprotocol(&self, subprotocol: &[u8]) -> bool {
        self.subprotocols.iter().any(|offered| offered.as_bytes() == subprotocol)
    }

    /// Whether an extension of that name was offered, with whatever parameters.
    pub(super) fn offers_extension(&self, name: &str) -> bool {
        let offered = self.extensions.iter().filter_map(|offer| extension_names(offer.as_bytes()));
        offered.flatten().any(|offered| offered == name)
    }
}

/// Names of extra headers only: values and queries may be credentials, and debug output ends in
/// logs.
impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake")
            .field("host", &self.host)
            .field("path", &self.target.split('?').next())
            .field("subprotocols", &self.subprotocols)
            .field("extensions", &self.extensions)
            .field("extra", &self.extra.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Whether the handshake writes this header itself, or could not be a GET without body with it.
fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
        || [UPGRADE, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
}

/// Checks a host with an optional port: what may stand there is narrower than what a header may
/// carry, and a server or a proxy routes by it.
fn host_value(host: &[u8]) -> Result<HeaderValue, HandshakeMisuse> {
    let is_host_byte = |byte: &u8| byte.is_ascii_graphic() && !b"/?#@\\,".contains(byte);
    let misuse = || HandshakeMisuse::InvalidHost { host: String::from_utf8_lossy(host).into() };
    if host.is_empty() || !host.iter().all(is_host_byte) {
        return Err(misuse());
    }
    HeaderValue::from_bytes(host).map_err(|_| misuse())
}
