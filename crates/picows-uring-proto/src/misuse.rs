//! Failures that the caller of this crate causes. Nothing was sent.
//!
//! Never turned into [`PeerMisbehaved`](crate::PeerMisbehaved), nor the other way round.

use crate::debug_with_text;
use thiserror::Error;

/// Our caller asked for something that would break RFC 6455; nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// A ping, pong or close payload of more than 125 bytes (RFC 6455 §5.5).
    #[error("control frame payload of {0} bytes: RFC 6455 allows at most 125")]
    ControlPayloadTooLong(usize),
    /// A close reason of more than 123 bytes (RFC 6455 §5.5.1).
    #[error("close reason of {0} bytes: RFC 6455 allows at most 123")]
    CloseReasonTooLong(usize),
    /// A control frame with `fin` off (RFC 6455 §5.5).
    #[error("control frames cannot be fragmented: send them with fin on")]
    FragmentedControlFrame,
    /// A close code that may not be sent (RFC 6455 §7.4).
    #[error("close code {0} may not be sent: use 1000-1003, 1007-1014 or 3000-4999")]
    InvalidCloseCode(u16),
    /// CLOSE through a general send; it has a method of its own that records the handshake.
    #[error("CLOSE is sent with send_close, which takes a code and a reason")]
    CloseThroughSend,
    /// A new data message while a fragmented one is under way (RFC 6455 §5.4).
    #[error("a fragmented message is under way: finish it before the next one begins")]
    MessageUnderWay,
    /// A message, or CLOSE, while a frame is sent in pieces: nothing may come between them.
    #[error("a frame is being written: finish it before the next one begins")]
    FrameUnderWay,
    /// More than the length with which a frame was begun.
    #[error("{0} bytes for a frame of which {1} are left")]
    PastFrameEnd(usize, u64),
    /// A CONTINUATION with no message begun (RFC 6455 §5.4).
    #[error("no message is under way that a CONTINUATION could continue: begin one with fin off")]
    UnexpectedContinuation,
    /// A control frame or a fragment with a key, which a later one would replace.
    #[error(
        "only a whole TEXT or BINARY message can be replaced by a later one: send it without a key"
    )]
    KeyOfFragment,
    /// RSV bits outside 0..=7.
    #[error("RSV bits {0:#x}: only the bits 4 (RSV1), 2 (RSV2) and 1 (RSV3) exist")]
    InvalidRsv(u8),
    /// RSV1 on a connection that has agreed on permessage-deflate, which sets it (RFC 7692 §6).
    #[error("RSV1 belongs to permessage-deflate on this connection: leave it off")]
    RsvOfDeflate,
    /// A prepared message that is neither TEXT nor BINARY.
    #[error("only a whole TEXT or BINARY message can be prepared")]
    NotAMessage,
    /// Text that is not UTF-8 (RFC 6455 §8.1), where it is checked before it is sent.
    #[error("text that is not UTF-8: use BINARY")]
    InvalidUtf8,
    /// A buffer without room for the frame header in front of the payload.
    #[error("payload starts at offset {0}: the header needs 14 bytes of room in front of it")]
    HeadroomTooSmall(usize),
    /// A payload offset past the end of its buffer.
    #[error("payload starts at offset {start}, past the end of the buffer of {len} bytes")]
    HeadroomPastEnd {
        /// Where the payload was said to start.
        start: usize,
        /// How long the buffer is.
        len: usize,
    },
}

debug_with_text! { ApiMisuse: ControlPayloadTooLong, CloseReasonTooLong, FragmentedControlFrame, InvalidCloseCode, CloseThroughSend, MessageUnderWay, FrameUnderWay, PastFrameEnd, UnexpectedContinuation, KeyOfFragment, InvalidRsv, RsvOfDeflate, NotAMessage, InvalidUtf8, HeadroomTooSmall, HeadroomPastEnd }
