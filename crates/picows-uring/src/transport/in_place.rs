//! Sending out of memory that the caller lends for the call.

use super::Transport;
use crate::status::SendStatus;
use picows_uring_proto::{ApiMisuse, FrameHead, MsgType};

impl Transport {
    /// Sends a frame whose payload is `buffer[payload_start..]`, as [`send_headroom`](Self::send_headroom)
    /// does, out of a buffer that stays the caller's: it can be used again when this returns, and its
    /// bytes are garbage then. A client masks the payload where it lies.
    ///
    /// Of 16 KiB and more, the socket is given the frame in this call, after what is queued; only what it
    /// does not take is copied. Smaller payloads, and those that are encrypted, compressed or have to
    /// wait for others, are copied.
    ///
    /// ```
    /// use picows_uring::{FRAME_HEADER_BYTES_MAX, FrameHead, MsgType, Transport};
    ///
    /// fn send_snapshot(transport: &Transport, scratch: &mut [u8]) {
    ///     scratch[FRAME_HEADER_BYTES_MAX..].fill(7);
    ///     transport.send_in_place(FrameHead::new(MsgType::Binary), scratch, FRAME_HEADER_BYTES_MAX);
    /// }
    /// ```
    pub fn send_in_place(
        &self,
        head: FrameHead,
        buffer: &mut [u8],
        payload_start: usize,
    ) -> SendStatus {
        if head.msg_type == MsgType::Close {
            return SendStatus::Refused(ApiMisuse::CloseThroughSend);
        }
        self.session.send_in_place(head, buffer, payload_start)
    }
}
