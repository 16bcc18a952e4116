//! Two causes of failure that are not the kernel's: the peer broke the RFC, or our caller erred.
//!
//! Neither is ever turned into the other. Failures of the kernel are `io::Error` in the runtime.

use crate::close::CloseCode;
use crate::debug_with_text;
use thiserror::Error;

/// The peer broke RFC 6455, or passed a limit of ours.
///
/// The text is the close reason that the peer gets, so it fits into a control frame.
///
/// ```
/// use picows_uring_proto::{CloseCode, PeerMisbehaved};
///
/// assert_eq!(PeerMisbehaved::UnmaskedFrame.close_code(), CloseCode::PROTOCOL_ERROR);
/// assert_eq!(PeerMisbehaved::FrameTooLarge.close_code(), CloseCode::MESSAGE_TOO_BIG);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// A client sent a frame without a mask (RFC 6455 §5.1).
    #[error("Received un-masked frame from client")]
    UnmaskedFrame,
    /// A server sent a frame with a mask (RFC 6455 §5.1).
    #[error("Received masked frame from server")]
    MaskedFrame,
    /// An opcode that RFC 6455 §5.2 reserves.
    #[error("Received frame with invalid opcode {0}")]
    UnknownOpcode(u8),
    /// An RSV bit that no extension gave a meaning to (RFC 6455 §5.2).
    #[error("Received frame with unexpected RSV bits")]
    UnexpectedRsv,
    /// A control frame without FIN (RFC 6455 §5.5).
    #[error("Received fragmented control frame")]
    FragmentedControlFrame,
    /// A control frame with more than 125 bytes (RFC 6455 §5.5).
    #[error("Received control frame with payload size > 125 bytes")]
    ControlFrameTooLong,
    /// A 16-bit length that fits into 7 bits (RFC 6455 §5.2).
    #[error("Received frame with invalid 16-bit payload length: not the shortest form")]
    NonMinimalLength16,
    /// A 64-bit length that fits into 16 bits (RFC 6455 §5.2).
    #[error("Received frame with invalid 64-bit payload length: not the shortest form")]
    NonMinimalLength64,
    /// A 64-bit length with the most significant bit set (RFC 6455 §5.2).
    #[error("Received frame with invalid 64-bit payload length: most significant bit set")]
    LengthOverflow,
    /// A CONTINUATION with no message begun (RFC 6455 §5.4).
    #[error("Received CONTINUATION without a message to continue")]
    UnexpectedContinuation,
    /// A new message inside a fragmented one (RFC 6455 §5.4).
    #[error("Received a new message before the fragmented one was finished")]
    UnfinishedMessage,
    /// A CLOSE with one byte of payload (RFC 6455 §5.5.1).
    #[error("Received CLOSE with a payload of one byte")]
    TruncatedCloseCode,
    /// A close code that may not appear on the wire (RFC 6455 §7.4).
    #[error("Received CLOSE with invalid close code {0}")]
    InvalidCloseCode(u16),
    /// A close reason that is not UTF-8 (RFC 6455 §5.5.1).
    #[error("Received CLOSE with invalid UTF-8 reason")]
    InvalidCloseReason,
    /// A compressed message whose data is not that of deflate (RFC 7692 §7.2.2).
    #[error("received compressed data that cannot be expanded")]
    InvalidDeflate,
    /// A compressed message that expands further than the configured ratio.
    #[error("received message that expands further than allowed")]
    ExpandedTooFar,
    /// Text that is not UTF-8 (RFC 6455 §8.1).
    #[error("Received text that is not valid UTF-8")]
    InvalidUtf8,
    /// A frame beyond the configured size.
    #[error("Received frame with payload size exceeding max allowed size")]
    FrameTooLarge,
    /// A message beyond the configured size, all fragments together.
    #[error("Received message with total size exceeding max allowed size")]
    MessageTooLarge,
    /// Nothing that the peer did wrong: there was no memory for what it sent.
    #[error("Too little memory for what was received")]
    OutOfMemory,
}

debug_with_text! { PeerMisbehaved: UnmaskedFrame, MaskedFrame, UnknownOpcode, UnexpectedRsv, FragmentedControlFrame, ControlFrameTooLong, NonMinimalLength16, NonMinimalLength64, LengthOverflow, UnexpectedContinuation, UnfinishedMessage, TruncatedCloseCode, InvalidCloseCode, InvalidCloseReason, InvalidDeflate, ExpandedTooFar, InvalidUtf8, FrameTooLarge, MessageTooLarge, OutOfMemory }

impl PeerMisbehaved {
    /// The close code that we owe the peer (RFC 6455 §7.4.1).
    // No `_` arm: a new variant has to choose one.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::UnknownOpcode(_)
            | Self::UnexpectedRsv
            | Self::FragmentedControlFrame
            | Self::ControlFrameTooLong
            | Self::NonMinimalLength16
            | Self::NonMinimalLength64
            | Self::LengthOverflow
            | Self::UnexpectedContinuation
            | Self::UnfinishedMessage
            | Self::TruncatedCloseCode
            | Self::InvalidCloseCode(_) => CloseCode::PROTOCOL_ERROR,
            Self::InvalidCloseReason | Self::InvalidDeflate | Self::InvalidUtf8 => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::ExpandedTooFar | Self::FrameTooLarge | Self::MessageTooLarge => {
                CloseCode::MESSAGE_TOO_BIG
            }
            Self::OutOfMemory => CloseCode::TRY_AGAIN_LATER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CLOSE_REASON_BYTES_MAX;

    #[test]
    fn every_reason_fits_into_a_close_frame() {
        let longest = [
            PeerMisbehaved::UnknownOpcode(u8::MAX),
            PeerMisbehaved::NonMinimalLength64,
            PeerMisbehaved::LengthOverflow,
            PeerMisbehaved::InvalidCloseCode(u16::MAX),
            PeerMisbehaved::UnfinishedMessage,
            PeerMisbehaved::FrameTooLarge,
        ];
        for error in longest {
            assert!(error.to_string().len() <= CLOSE_REASON_BYTES_MAX, "{error}");
        }
    }
}
