//! Messages that are encoded once, and sent to many connections.
//!
//! Refers to no connection: the compressed form has no history, so it is valid for every one whose
//! window covers it.

use bytes::Bytes;
use picows_uring_proto::{ApiMisuse, FrameHead, MsgType};
use std::fmt;
use std::sync::Arc;

/// A message that was encoded, and if asked for compressed, for any number of connections.
///
/// Cheap to clone, and may be sent from any thread's connections:
/// [`Transport::send_prepared`](crate::Transport::send_prepared).
///
/// ```
/// use picows_uring::{MsgType, Prepared};
///
/// let tick = Prepared::new(MsgType::Text, r#"{"bid":101.5}"#)?;
/// assert!(Prepared::new(MsgType::Ping, "").is_err());
/// # Ok::<(), picows_uring::ApiMisuse>(())
/// ```
#[derive(Clone)]
pub struct Prepared(Arc<Message>);

struct Message {
    msg_type: MsgType,
    /// Header and payload of an unmasked frame.
    frame: Bytes,
    header_len: usize,
    compressed: Option<CompressedFrame>,
}

/// The compressed form of a message: a whole frame, unmasked.
#[cfg_attr(not(feature = "deflate"), allow(dead_code, reason = "there is none without"))]
pub(crate) struct CompressedFrame {
    pub(crate) frame: Bytes,
    header_len: usize,
    /// What a connection has to have agreed on for it.
    pub(crate) window_bits: u8,
}

impl CompressedFrame {
    /// Head and payload of the frame, for a connection that masks.
    #[cfg(feature = "deflate")]
    pub(crate) fn parts(&self, prepared: &Prepared) -> (FrameHead, &[u8]) {
        (prepared.head().with_rsv(RSV1), &self.frame[self.header_len..])
    }
}

impl Prepared {
    /// Encodes a message of one frame.
    ///
    /// # Errors
    ///
    /// When it is neither TEXT nor BINARY, or text that is not UTF-8.
    pub fn new(msg_type: MsgType, payload: impl AsRef<[u8]>) -> Result<Self, ApiMisuse> {
        let payload = payload.as_ref();
        match msg_type {
            MsgType::Text if str::from_utf8(payload).is_err() => {
                return Err(ApiMisuse::InvalidUtf8);
            }
            MsgType::Text | MsgType::Binary => {}
            _ => return Err(ApiMisuse::NotAMessage),
        }
        let mut frame = Vec::new();
        FrameHead::new(msg_type).append(&mut frame, payload, None);
        let header_len = frame.len() - payload.len();
        Ok(Self(Arc::new(Message { msg_type, frame: frame.into(), header_len, compressed: None })))
    }

    /// Compresses it, for connections that have agreed on permessage-deflate with a window of at
    /// least so many bits, 9 to 15; with others, it stays as it is, and so does one that does not
    /// shrink. Connections without the extension get the message as it is.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(self, window_bits: u8) -> Self {
        let settings = crate::Deflate::new().window_bits(window_bits.clamp(9, 15));
        let once = picows_uring_proto::internal::compress_once;
        let Ok(Some(compressed)) = once(&settings, self.text()) else { return self };
        let mut encoded = Vec::new();
        self.head().with_rsv(RSV1).append(&mut encoded, &compressed, None);
        let compressed = CompressedFrame {
            header_len: encoded.len() - compressed.len(),
            frame: encoded.into(),
            window_bits: window_bits.clamp(9, 15),
        };
        let Message { msg_type, ref frame, header_len, .. } = *self.0;
        let (frame, compressed) = (frame.clone(), Some(compressed));
        Self(Arc::new(Message { msg_type, frame, header_len, compressed }))
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.text()
    }

    pub(crate) fn head(&self) -> FrameHead {
        FrameHead::new(self.0.msg_type)
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.0.frame[self.0.header_len..]
    }

    pub(crate) fn text_bytes(&self) -> Bytes {
        self.0.frame.slice(self.0.header_len..)
    }

    pub(crate) fn frame(&self) -> &Bytes {
        &self.0.frame
    }

    /// Its compressed form, if it was compressed.
    #[cfg(feature = "deflate")]
    pub(crate) fn compressed(&self) -> Option<&CompressedFrame> {
        self.0.compressed.as_ref()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("msg_type", &self.0.msg_type)
            .field("bytes", &self.text().len())
            .field(
                "compressed",
                &self.0.compressed.as_ref().map(|it| it.frame.len() - it.header_len),
            )
            .finish()
    }
}

/// The bit of a compressed message (RFC 7692 §6).
#[cfg(feature = "deflate")]
const RSV1: u8 = 4;
