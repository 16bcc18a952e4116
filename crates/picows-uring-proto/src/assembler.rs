//! Frames in, messages out: joins fragments (RFC 6455 §5.4).
//!
//! Owns one buffer and does no I/O. A message of one frame is lent from where the frame lies; only
//! fragments are copied, each once.

use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType};
use crate::limits::MESSAGE_BYTES_DEFAULT;
use crate::reserve::{reserve, reserve_text};
use crate::utf8::{InvalidUtf8, Utf8Stream};
use std::fmt;

/// Joins the frames of one peer into messages.
///
/// Text is checked as it arrives, so a message that can no longer become UTF-8 is refused before
/// its last fragment is there (RFC 6455 §8.1). Memory grows with the bytes of the message that is
/// under way, never past the limit, and not at all for messages of one frame.
///
/// RSV bits are not part of a message: an application with an extension of its own reads frames.
///
/// ```
/// use picows_uring_proto::{Assembled, Frame, Message, MessageAssembler, MsgType};
///
/// let mut assembler = MessageAssembler::default();
/// let hel = Frame::new(MsgType::Text, b"Hel").with_fin(false);
/// assert!(assembler.push(&hel)?.is_none());
/// let ping = Frame::new(MsgType::Ping, b"in between");
/// assert!(matches!(assembler.push(&ping)?, Some(Assembled::Control(_))));
/// let lo = Frame::new(MsgType::Continuation, b"lo");
/// assert_eq!(assembler.push(&lo)?, Some(Assembled::Message(Message::Text("Hello"))));
/// # Ok::<(), picows_uring_proto::PeerMisbehaved>(())
/// ```
#[derive(Debug)]
pub struct MessageAssembler {
    /// The message under way, or the one just lent; cleared when the next one begins.
    joined: Joined,
    /// Most bytes of a message, all fragments together.
    message_bytes_max: usize,
    /// Whether a fragmented message is under way.
    is_open: bool,
    /// Reported again at every later call.
    failed: Option<PeerMisbehaved>,
}

/// A message, lent for the time of a callback.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// A message that a frame completed, or a control frame.
#[derive(Clone, Copy, Debug)]
pub enum Assembled<'a> {
    /// A message, with its last or only frame.
    Message(Message<'a>),
    /// A control frame, which may stand between the fragments of a message (RFC 6455 §5.4).
    Control(Frame<'a>),
}

/// Fragments so far, in the type of their message.
enum Joined {
    /// Always valid; a character whose end has not arrived waits in the stream.
    Text(String, Utf8Stream),
    Binary(Vec<u8>),
}

impl MessageAssembler {
    /// An assembler that refuses messages of more than `message_bytes_max` bytes, all fragments
    /// together, with 1009.
    #[must_use]
    pub const fn new(message_bytes_max: usize) -> Self {
        let joined = Joined::Binary(Vec::new());
        Self { joined, message_bytes_max, is_open: false, failed: None }
    }

    /// Takes the next frame; returns what it completed, or `None` for a fragment that others
    /// follow.
    ///
    /// # Errors
    ///
    /// When the message is larger than the limit, or can no longer become UTF-8, or when the frames
    /// come in an order that a [`Decoder`](crate::Decoder) would have refused. Every later call
    /// returns the same error.
    #[inline]
    pub fn push<'a>(
        &'a mut self,
        frame: &Frame<'a>,
    ) -> Result<Option<Assembled<'a>>, PeerMisbehaved> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if frame.msg_type().is_control() {
            return Ok(Some(Assembled::Control(*frame)));
        }
        let pushed = self.check(frame).and_then(|()| {
            if self.is_open || !frame.fin() { self.join(frame).map(|()| None) } else { lend(frame) }
        });
        match pushed {
            Ok(None) if !self.is_open => Ok(Some(Assembled::Message(self.joined.message()))),
            Ok(whole) => Ok(whole.map(Assembled::Message)),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Whether a fragmented message is under way.
    #[must_use]
    pub const fn is_message_open(&self) -> bool {
        self.is_open
    }

    /// Bytes of memory that it holds, for the message under way or the next.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.joined.capacity()
    }

    /// Gives memory back after a large message was delivered; what messages of the usual size need
    /// is kept. Harmless at any time.
    #[inline]
    pub fn trim(&mut self) {
        if !self.is_open && self.joined.capacity() > RETAINED_BYTES_MAX {
            self.joined = Joined::Binary(Vec::new());
        }
    }

    /// Checks order and size, before anything is copied.
    fn check(&self, frame: &Frame<'_>) -> Result<(), PeerMisbehaved> {
        let before = match (frame.msg_type() == MsgType::Continuation, self.is_open) {
            (true, false) => return Err(PeerMisbehaved::UnexpectedContinuation),
            (false, true) => return Err(PeerMisbehaved::UnfinishedMessage),
            (true, true) => self.joined.len(),
            (false, false) => 0,
        };
        if frame.payload().len() > self.message_bytes_max - before {
            return Err(PeerMisbehaved::MessageTooLarge);
        }
        Ok(())
    }

    /// Appends a fragment.
    fn join(&mut self, frame: &Frame<'_>) -> Result<(), PeerMisbehaved> {
        if !self.is_open {
            self.joined.restart(frame.msg_type());
        }
        self.is_open = !frame.fin();
        self.joined.append(frame)
    }

    #[cold]
    fn fail(&mut self, error: PeerMisbehaved) -> PeerMisbehaved {
        self.failed = Some(error);
        self.joined = Joined::Binary(Vec::new());
        error
    }
}

impl Default for MessageAssembler {
    /// Messages of at most 10 MiB.
    fn default() -> Self {
        Self::new(MESSAGE_BYTES_DEFAULT)
    }
}

/// The message that one frame is.
#[inline]
fn lend<'a>(frame: &Frame<'a>) -> Result<Option<Message<'a>>, PeerMisbehaved> {
    if frame.msg_type() == MsgType::Binary {
        return Ok(Some(Message::Binary(frame.payload())));
    }
    match simdutf8::basic::from_utf8(frame.payload()) {
        Ok(text) => Ok(Some(Message::Text(text))),
        Err(_) => Err(PeerMisbehaved::InvalidUtf8),
    }
}

impl Joined {
    /// Begins a message in the memory of the one before.
    fn restart(&mut self, msg_type: MsgType) {
        let mut bytes = match std::mem::replace(self, Self::Binary(Vec::new())) {
            Self::Text(text, _) => text.into_bytes(),
            Self::Binary(bytes) => bytes,
        };
        bytes.clear();
        *self = match msg_type {
            // No byte is no broken character.
            MsgType::Text => {
                Self::Text(String::from_utf8(bytes).unwrap_or_default(), Utf8Stream::new())
            }
            _ => Self::Binary(bytes),
        };
    }

    fn append(&mut self, frame: &Frame<'_>) -> Result<(), PeerMisbehaved> {
        let payload = frame.payload();
        match self {
            Self::Text(text, stream) => {
                reserve_text(text, stream.partial_len() + payload.len())?;
                let appended = stream.append(payload, text);
                let is_broken = frame.fin() && !stream.is_complete();
                match appended {
                    Ok(()) if !is_broken => Ok(()),
                    Ok(()) | Err(InvalidUtf8) => Err(PeerMisbehaved::InvalidUtf8),
                }
            }
            Self::Binary(bytes) => {
                reserve(bytes, payload.len())?;
                bytes.extend_from_slice(payload);
                Ok(())
            }
        }
    }

    /// Bytes that arrived, those of an unfinished character included.
    fn len(&self) -> usize {
        match self {
            Self::Text(text, stream) => text.len() + stream.partial_len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Text(text, _) => text.capacity(),
            Self::Binary(bytes) => bytes.capacity(),
        }
    }

    fn message(&self) -> Message<'_> {
        match self {
            Self::Text(text, _) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

impl<'a> Message<'a> {
    /// The bytes of the message.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text; `None` for a binary message.
    #[must_use]
    pub const fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// [`MsgType::Text`] or [`MsgType::Binary`].
    #[must_use]
    pub const fn msg_type(&self) -> MsgType {
        match self {
            Self::Text(_) => MsgType::Text,
            Self::Binary(_) => MsgType::Binary,
        }
    }
}

impl fmt::Debug for Message<'_> {
    /// The length only: logs are no place for a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?}, {} bytes)", self.msg_type(), self.payload().len())
    }
}

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.len(), self.capacity())
    }
}

/// Two control frames are equal when a listener could not tell them apart.
impl PartialEq for Assembled<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Message(one), Self::Message(other)) => one == other,
            (Self::Control(one), Self::Control(other)) => {
                (one.msg_type(), one.payload()) == (other.msg_type(), other.payload())
            }
            (Self::Message(_), Self::Control(_)) | (Self::Control(_), Self::Message(_)) => false,
        }
    }
}

/// How much memory a connection keeps between two fragmented messages: enough for the usual ones,
/// and little enough for a million connections that had one large message each.
const RETAINED_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(RETAINED_BYTES_MAX < MESSAGE_BYTES_DEFAULT);

#[cfg(test)]
mod tests;
