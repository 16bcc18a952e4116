//! A message that owns its bytes.

use bytes::Bytes;
use picows_uring_proto::{Message, PeerMisbehaved};
use std::fmt;

/// A whole message, as a [`WsStream`](super::WsStream) yields and takes it. It owns its bytes, so it may go
/// to any thread.
///
/// ```
/// use picows_uring::OwnedMessage;
///
/// let message = OwnedMessage::from("hello");
/// match &message {
///     OwnedMessage::Text(text) => assert_eq!(text, "hello"),
///     other => println!("no text: {other:?}"),
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OwnedMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// A ping of at most 125 bytes. Arrives only where automatic pongs are off.
    Ping(Bytes),
    /// A pong of at most 125 bytes.
    Pong(Bytes),
}

impl OwnedMessage {
    /// What is in it.
    ///
    /// ```
    /// use picows_uring::OwnedMessage;
    ///
    /// assert_eq!(OwnedMessage::from("hello").as_bytes(), b"hello");
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What is in it, without copying it.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
        }
    }

    /// Number of bytes in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl OwnedMessage {
    /// A copy of a message of the peer, which may be larger than the memory that is left.
    pub(super) fn copy_of(message: Message<'_>) -> Result<Self, PeerMisbehaved> {
        let mut bytes = Vec::new();
        let payload = message.payload();
        bytes.try_reserve_exact(payload.len()).map_err(|_| PeerMisbehaved::OutOfMemory)?;
        bytes.extend_from_slice(payload);
        match message {
            Message::Binary(_) => Ok(Self::Binary(bytes.into())),
            Message::Text(_) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Self::Text(text)),
                Err(_) => Err(PeerMisbehaved::InvalidUtf8),
            },
        }
    }
}

impl From<Message<'_>> for OwnedMessage {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(Bytes::copy_from_slice(bytes)),
        }
    }
}

impl From<&str> for OwnedMessage {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for OwnedMessage {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for OwnedMessage {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for OwnedMessage {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<&[u8]> for OwnedMessage {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

/// Cut short: messages are long, and debug output ends in logs.
impl fmt::Debug for OwnedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Text(_) => "Text",
            Self::Binary(_) => "Binary",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
        };
        let shown = &self.as_bytes()[..self.len().min(DEBUG_BYTES_MAX)];
        let more = if shown.len() < self.len() { "..." } else { "" };
        write!(f, "{kind}(\"{}\"{more}, {} bytes)", shown.escape_ascii(), self.len())
    }
}

const DEBUG_BYTES_MAX: usize = 64;
