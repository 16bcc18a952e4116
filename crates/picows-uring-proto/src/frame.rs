//! A frame as the listener sees it: borrowed from the buffer it arrived in.
//!
//! Already unmasked and checked; how that happens stands in `decoder.rs`.

use crate::close::CloseCode;
use std::fmt;
use std::rc::Rc;
use std::str::Utf8Error;

/// The type of a frame (RFC 6455 §5.2, opcode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MsgType {
    /// The next fragment of the message that a TEXT or BINARY frame began.
    Continuation = 0x0,
    /// Text, or the first fragment of it.
    Text = 0x1,
    /// Bytes, or the first fragment of them.
    Binary = 0x2,
    /// The close handshake.
    Close = 0x8,
    /// A ping.
    Ping = 0x9,
    /// A pong.
    Pong = 0xA,
}

impl MsgType {
    /// The type with this opcode, or `None` for the opcodes that RFC 6455 reserves.
    #[must_use]
    pub const fn from_opcode(opcode: u8) -> Option<Self> {
        match opcode {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// The opcode on the wire.
    #[must_use]
    pub const fn opcode(self) -> u8 {
        self as u8
    }

    /// Whether this is CLOSE, PING or PONG (RFC 6455 §5.5).
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.opcode() & 0x8 != 0
    }
}

/// Our end of the connection: it decides who masks (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We connected: what we send is masked.
    Client,
    /// We accepted: what we receive is masked.
    Server,
}

/// A complete frame, lent for the time of a callback.
///
/// The payload lies in the buffer that the kernel filled (or, for a frame that was cut by the end
/// of such a buffer, in memory of the session), unmasked in place. Copy what must outlive the
/// callback; the borrow checker sees to it.
///
/// Frames come as they are on the wire: fragments are not joined.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) msg_type: MsgType,
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) last_in_buffer: bool,
    pub(crate) tail_size: usize,
    pub(crate) memory: Option<&'a Rc<Vec<u8>>>,
}

impl<'a> Frame<'a> {
    /// A frame made by hand: a complete message of one frame with nothing after it, as tests of a
    /// listener want it.
    ///
    /// ```
    /// use picows_uring_proto::{Frame, MsgType};
    ///
    /// let frame = Frame::new(MsgType::Text, b"hello");
    /// assert_eq!(frame.text(), Ok("hello"));
    /// assert!(frame.fin() && frame.last_in_buffer());
    /// ```
    #[must_use]
    pub const fn new(msg_type: MsgType, payload: &'a [u8]) -> Self {
        Self {
            payload,
            msg_type,
            fin: true,
            rsv: 0,
            last_in_buffer: true,
            tail_size: 0,
            memory: None,
        }
    }

    /// The same frame with another FIN bit.
    #[must_use]
    pub const fn with_fin(mut self, fin: bool) -> Self {
        self.fin = fin;
        self
    }

    /// What the frame carries.
    #[must_use]
    pub const fn msg_type(&self) -> MsgType {
        self.msg_type
    }

    /// Whether this is the last fragment of its message.
    #[must_use]
    pub const fn fin(&self) -> bool {
        self.fin
    }

    /// RSV1. Off unless the application allowed it.
    #[must_use]
    pub const fn rsv1(&self) -> bool {
        self.rsv & 4 != 0
    }

    /// RSV2. Off unless the application allowed it.
    #[must_use]
    pub const fn rsv2(&self) -> bool {
        self.rsv & 2 != 0
    }

    /// RSV3. Off unless the application allowed it.
    #[must_use]
    pub const fn rsv3(&self) -> bool {
        self.rsv & 1 != 0
    }

    /// All three RSV bits: 4 is RSV1, 2 is RSV2, 1 is RSV3.
    #[must_use]
    pub const fn rsv(&self) -> u8 {
        self.rsv
    }

    /// The application data, unmasked.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The payload as text.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8. A fragment of a longer text may end inside a character: only a whole
    /// message is sure to be text.
    pub fn text(&self) -> Result<&'a str, Utf8Error> {
        // The fast check says only yes or no; the slow one says where.
        match simdutf8::basic::from_utf8(self.payload) {
            Ok(text) => Ok(text),
            Err(_) => std::str::from_utf8(self.payload),
        }
    }

    /// The code of a CLOSE frame; `None` for an empty CLOSE and for every other frame.
    #[must_use]
    pub fn close_code(&self) -> Option<CloseCode> {
        match (self.msg_type, self.payload) {
            (MsgType::Close, [high, low, ..]) => CloseCode::new(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }

    /// The reason of a CLOSE frame; `None` for a CLOSE without one and for every other frame.
    #[must_use]
    pub fn close_reason(&self) -> Option<&'a str> {
        match (self.msg_type, self.payload) {
            (MsgType::Close, [_, _, reason @ ..]) if !reason.is_empty() => {
                std::str::from_utf8(reason).ok()
            }
            _ => None,
        }
    }

    /// Whether no complete frame follows in what has been received so far. After a data frame, PING
    /// and PONG do not count: many are answered, or awaited, and not delivered.
    ///
    /// A listener that batches (say, one answer for many frames) flushes when this is on: it is for
    /// the last data frame that has arrived, whatever control frames follow.
    #[must_use]
    pub const fn last_in_buffer(&self) -> bool {
        self.last_in_buffer
    }

    /// How many bytes have been received after this frame.
    #[must_use]
    pub const fn tail_size(&self) -> usize {
        self.tail_size
    }

    /// The memory that holds the payload and nothing else, if there is such: a frame that arrived in
    /// pieces can be kept without a copy.
    #[doc(hidden)] // For the crates of this project, and not promised.
    #[must_use]
    pub const fn memory(&self) -> Option<&'a Rc<Vec<u8>>> {
        self.memory
    }
}

impl fmt::Debug for Frame<'_> {
    /// Everything but the payload, of which only the length is shown: logs are no place for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Frame({:?}, fin={}, rsv1={}, rsv2={}, rsv3={}, payload={} bytes, last_in_buffer={}, \
             tail_size={})",
            self.msg_type,
            self.fin,
            self.rsv1(),
            self.rsv2(),
            self.rsv3(),
            self.payload.len(),
            self.last_in_buffer,
            self.tail_size,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_accessors_speak_only_of_close_frames() {
        let close = Frame::new(MsgType::Close, b"\x03\xe8bye");
        assert_eq!(close.close_code(), Some(CloseCode::NORMAL));
        assert_eq!(close.close_reason(), Some("bye"));
        let bare = Frame::new(MsgType::Close, b"\x03\xe8");
        assert_eq!((bare.close_code(), bare.close_reason()), (Some(CloseCode::NORMAL), None));
        let empty = Frame::new(MsgType::Close, b"");
        assert_eq!((empty.close_code(), empty.close_reason()), (None, None));
        let text = Frame::new(MsgType::Text, b"\x03\xe8bye");
        assert_eq!((text.close_code(), text.close_reason()), (None, None));
    }

    #[test]
    fn text_says_where_it_is_broken() {
        let broken = Frame::new(MsgType::Text, b"ab\xff");
        assert_eq!(broken.text().map_err(|error| error.valid_up_to()), Err(2));
    }

    #[test]
    fn debug_shows_no_payload() {
        let frame = Frame::new(MsgType::Binary, b"secret");
        assert_eq!(
            format!("{frame:?}"),
            "Frame(Binary, fin=true, rsv1=false, rsv2=false, rsv3=false, payload=6 bytes, \
             last_in_buffer=true, tail_size=0)"
        );
    }
}
