//! Received frames in pieces: large ones are handed out as they come, from where they lie.
//!
//! A layer over the decoder, which checks each piece as it checks a whole frame; control frames and
//! small ones stay whole. Collects nothing: a frame of any length takes no memory.

use super::Receiver;
use crate::decoder::{Decoded, FrameUnderWay};
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType};
use crate::limits::{CONTROL_PAYLOAD_BYTES_MAX, FrameRules};
use crate::progress::UnderWay;
use std::fmt;

/// Which frames of a connection come in pieces, and how far the one under way is.
///
/// ```
/// use picows_uring_proto::{FrameRules, Pieces, Received, Receiver, Role};
///
/// let (mut receiver, rules) = (Receiver::new(Role::Client), FrameRules::default());
/// let mut pieces = Pieces::of_frames_above(1000);
/// let mut wire = vec![0x82, 126, 0x10, 0x00]; // 4096 bytes
/// wire.extend([7; 4096]);
/// let (mut consumed, mut ends) = (0, Vec::new());
/// for received_until in [1000, 4100] {
///     while consumed < received_until {
///         let input = &mut wire[consumed..received_until];
///         let (count, received) = receiver.next_in_pieces(&rules, &mut pieces, input)?;
///         consumed += count;
///         let Some(Received::Piece(piece)) = received else { break };
///         ends.push((piece.offset(), piece.payload().len(), piece.is_last()));
///     }
/// }
/// assert_eq!(ends, [(0, 996, false), (996, 3100, true)]);
/// # Ok::<(), picows_uring_proto::PeerMisbehaved>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// Longer frames come in pieces.
    frame_bytes_whole: u64,
    /// Bytes of the frame under way that were handed out.
    offset: u64,
    /// Bytes that were handed out so of the message under way.
    message_bytes: u64,
}

/// The next of what a peer has sent.
#[derive(Debug)]
pub enum Received<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// A part of a large one.
    Piece(FramePiece<'a>),
}

/// A part of a frame, unmasked and checked, and lent for the time of a callback.
#[derive(Clone, Copy)]
pub struct FramePiece<'a> {
    payload: &'a [u8],
    msg_type: MsgType,
    fin: bool,
    rsv: u8,
    offset: u64,
    frame_len: u64,
}

impl Pieces {
    /// Frames of more than `bytes` come in pieces; control frames never do.
    #[must_use]
    pub fn of_frames_above(bytes: u64) -> Self {
        let frame_bytes_whole = bytes.max(CONTROL_PAYLOAD_BYTES_MAX as u64);
        Self { frame_bytes_whole, offset: 0, message_bytes: 0 }
    }

    /// Whether a frame is under way of which a piece was handed out.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        self.offset > 0
    }

    fn piece<'a>(&mut self, frame: FrameUnderWay, payload: &'a [u8]) -> FramePiece<'a> {
        let FrameUnderWay { rest, msg_type, fin, rsv } = frame;
        let offset = self.offset;
        let piece =
            FramePiece { payload, msg_type, fin, rsv, offset, frame_len: self.offset + rest };
        if !piece.is_last() {
            self.offset += payload.len() as u64;
            self.message_bytes += payload.len() as u64;
        } else {
            self.offset = 0;
            // The decoder counts the last pieces of fragments.
            self.message_bytes = if fin { 0 } else { self.message_bytes };
        }
        piece
    }
}

impl Receiver {
    /// [`next`](Self::next) with large frames in pieces: how many bytes of `input` are done with, and
    /// what they have brought, or `None` until more come. `pieces` is the same one for the life of
    /// the connection.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next). Pieces that were handed out before cannot be taken back.
    pub fn next_in_pieces<'a>(
        &'a mut self,
        rules: &FrameRules,
        pieces: &mut Pieces,
        input: &'a mut [u8],
    ) -> Result<(usize, Option<Received<'a>>), PeerMisbehaved> {
        let Self { decoder, stash } = self;
        let (start, under_way) = decoder.begin_frame(rules, stash, input)?;
        let Some(under_way) = under_way else { return Ok((start, None)) };
        let input = &mut input[start..];
        let is_large = pieces.offset + under_way.rest > pieces.frame_bytes_whole;
        if is_large && (input.len() as u64) < under_way.rest {
            if input.is_empty() {
                return Ok((start, None));
            }
            decoder.take_part(rules, input, pieces.offset == 0)?;
            let piece = pieces.piece(under_way, input);
            return Ok((start + piece.payload.len(), Some(Received::Piece(piece))));
        }
        let Decoded { consumed, frame } = decoder.next_frame(rules, stash, input)?;
        let received = frame.map(|frame| match is_large {
            true => Received::Piece(pieces.piece(under_way, frame.payload())),
            false => {
                if frame.fin() && !frame.msg_type().is_control() {
                    pieces.message_bytes = 0;
                }
                Received::Frame(frame)
            }
        });
        Ok((start + consumed, received))
    }

    /// [`under_way`](Self::under_way) where large frames come in pieces.
    pub fn under_way_in_pieces(&mut self, pieces: &Pieces) -> Option<UnderWay> {
        let under_way = self.under_way()?;
        let bytes = under_way.bytes.saturating_add(pieces.message_bytes);
        Some(UnderWay { bytes, ..under_way })
    }
}

impl<'a> FramePiece<'a> {
    /// The bytes of this piece.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The type of the frame.
    #[must_use]
    pub const fn msg_type(&self) -> MsgType {
        self.msg_type
    }

    /// Whether the frame is the last fragment of its message.
    #[must_use]
    pub const fn fin(&self) -> bool {
        self.fin
    }

    /// The RSV bits of the frame: 4, 2 and 1.
    #[must_use]
    pub const fn rsv(&self) -> u8 {
        self.rsv
    }

    /// Where the piece begins in the payload of the frame.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the whole payload of the frame.
    #[must_use]
    pub const fn frame_len(&self) -> u64 {
        self.frame_len
    }

    /// Whether the frame ends with this piece.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.offset + self.payload.len() as u64 == self.frame_len
    }
}

impl fmt::Debug for FramePiece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramePiece")
            .field("msg_type", &self.msg_type)
            .field("fin", &self.fin)
            .field("bytes", &self.payload.len())
            .field("offset", &self.offset)
            .field("frame_len", &self.frame_len)
            .finish_non_exhaustive()
    }
}
