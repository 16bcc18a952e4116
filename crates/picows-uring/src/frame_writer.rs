//! Writer of a frame in pieces, for payloads that are too large to be in memory.
//!
//! What is queued, and what may come between the pieces, is decided in `session/writing.rs`.

use crate::status::SendStatus;
use crate::transport::Transport;
use picows_uring_proto::{ApiMisuse, FrameHead, FramePiece};

/// A frame of known length that is sent piece by piece.
///
/// Made by [`Transport::write_frame`]. May be kept from callback to callback. Each piece is copied to
/// the queue at once; [`SendStatus::Congested`] says that the peer does not keep up: go on when
/// [`Listener::resume_writing`](crate::Listener::resume_writing) is called. A queue that gets full
/// meanwhile ends the connection.
///
/// Until the frame is at its end, PING and PONG wait for it, and messages and CLOSE are refused
/// ([`ApiMisuse::FrameUnderWay`]). A writer that is dropped before leaves a peer that takes whatever
/// follows for a part of the frame: so does the end of the connection then, without CLOSE
/// ([`DisconnectCause::FrameUnfinished`](crate::DisconnectCause::FrameUnfinished)). The same becomes of
/// a connection that has to end for any other reason, such as a CLOSE of the peer.
///
/// The frame is never compressed, nor is text checked.
///
/// ```
/// use picows_uring::{ApiMisuse, FrameHead, MsgType, Transport};
///
/// fn send_zeros(transport: &Transport, len: u64) -> Result<(), ApiMisuse> {
///     let mut frame = transport.write_frame(FrameHead::new(MsgType::Binary), len)?;
///     while frame.bytes_left() > 0 {
///         let count = frame.bytes_left().min(4096) as usize;
///         frame.write(&[0; 4096][..count]);
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
#[must_use = "a frame that is not written to its end ends the connection"]
pub struct FrameWriter {
    transport: Transport,
    /// Bytes that are missing, as this writer counts them.
    left: u64,
    /// Why a piece was not queued.
    lost: Option<SendStatus>,
}

impl FrameWriter {
    /// Sends the next bytes of the frame. More than are left of it are refused, and nothing is sent
    /// of them.
    ///
    /// [`SendStatus::Closed`]: the connection is over.
    pub fn write(&mut self, piece: impl AsRef<[u8]>) -> SendStatus {
        if let Some(lost) = self.lost {
            return lost;
        }
        let piece = piece.as_ref();
        let len = piece.len();
        if len as u64 > self.left {
            return SendStatus::Refused(ApiMisuse::PastFrameEnd(len, self.left));
        }
        let status = self.transport.session().write_piece(piece);
        if status.is_queued() {
            self.left -= len as u64;
        } else {
            self.lost = Some(status);
        }
        status
    }

    /// Bytes that are left to be written.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        if self.lost.is_some() { 0 } else { self.left }
    }

    /// The connection it writes to.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if self.left > 0 {
            self.transport.session().cut_off_frame();
        }
    }
}

impl Transport {
    /// Begins a frame of `len` payload bytes, which are sent in pieces. Its header is queued at once.
    ///
    /// # Errors
    ///
    /// When the frame would break RFC 6455, is a control frame, or another one is being written; and
    /// a CONTINUATION where messages are compressed. On a connection that is over, the writer's first
    /// piece is [`SendStatus::Closed`].
    pub fn write_frame(&self, head: FrameHead, len: u64) -> Result<FrameWriter, ApiMisuse> {
        let transport = self.clone();
        match self.session().begin_frame(head, len) {
            SendStatus::Refused(misuse) => Err(misuse),
            status if status.is_queued() => Ok(FrameWriter { transport, left: len, lost: None }),
            lost => Ok(FrameWriter { transport, left: 0, lost: Some(lost) }),
        }
    }

    /// Begins a frame with the type, FIN bit and length of the one that `piece` begins.
    ///
    /// # Errors
    ///
    /// As [`write_frame`](Self::write_frame).
    pub fn write_frame_like(&self, piece: &FramePiece<'_>) -> Result<FrameWriter, ApiMisuse> {
        let head = FrameHead::new(piece.msg_type()).with_fin(piece.fin()).with_rsv(piece.rsv());
        self.write_frame(head, piece.frame_len())
    }
}
