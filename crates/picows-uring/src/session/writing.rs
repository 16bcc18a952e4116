//! The frame of a connection that is sent in pieces (`frame_writer.rs`).
//!
//! Its header is queued when it begins, and each piece at once. Until its end, nothing else may be in
//! the queue: control frames wait here, and messages are refused. A frame that cannot be finished
//! ends the connection, as the peer would take whatever follows for a part of it.

use super::Session;
use crate::status::{DisconnectCause, SendStatus};
use picows_uring_proto::internal::mask;
use picows_uring_proto::{ApiMisuse, FRAME_HEADER_BYTES_MAX, FrameHead, MsgType};

/// How far the frame is.
#[derive(Debug)]
pub(super) struct Writing {
    /// Bytes that are missing; never 0.
    left: u64,
    /// The masking key of a client, from the next byte on.
    key: Option<[u8; 4]>,
    /// Control frames that follow it, encoded.
    behind: Vec<u8>,
}

impl Session {
    /// Whether a frame was begun and is not at its end.
    #[inline]
    pub(crate) fn is_writing(&self) -> bool {
        self.rare_state.get().is_some_and(|it| it.writing.borrow().is_some())
    }

    /// Bytes that are missing of the frame under way.
    pub(crate) fn left_to_write(&self) -> u64 {
        let Some(rare_state) = self.rare_state.get() else { return 0 };
        rare_state.writing.borrow().as_ref().map_or(0, |it| it.left)
    }

    /// Queues the header of a frame of `len` bytes, which [`write_piece`](Self::write_piece) writes.
    pub(crate) fn begin_frame(&self, head: FrameHead, len: u64) -> SendStatus {
        self.catch_up();
        if head.msg_type.is_control() {
            return SendStatus::Refused(ApiMisuse::NotAMessage);
        }
        self.catch_up();
        // A compressed message goes on compressed.
        let is_compressed = head.msg_type == MsgType::Continuation && self.is_compressing();
        if self.is_writing() || is_compressed {
            return SendStatus::Refused(ApiMisuse::FrameUnderWay);
        }
        let Ok(payload_len) = usize::try_from(len) else {
            return SendStatus::Refused(ApiMisuse::PastFrameEnd(usize::MAX, len));
        };
        if let Err(status) = self.check(head, payload_len) {
            return status;
        }
        // What came before it goes before it.
        self.commit_all();
        let key = self.mask_key();
        let (header, header_len) = head.encode_header(payload_len, key);
        self.open_queue().append_short(&header[..header_len]);
        self.conversation.sender_mut().queued(head);
        self.count_sent(head.msg_type, payload_len);
        if len > 0 {
            let writing = Writing { left: len, key, behind: Vec::new() };
            self.rare_state().writing.replace(Some(Box::new(writing)));
            self.renew_append_max();
        }
        self.mark_dirty();
        SendStatus::Queued
    }

    /// Queues the next bytes of the frame under way.
    pub(crate) fn write_piece(&self, mut piece: &[u8]) -> SendStatus {
        let left = self.left_to_write();
        if piece.len() as u64 > left {
            return match self.conversation.borrow().may_send() {
                true => SendStatus::Refused(ApiMisuse::PastFrameEnd(piece.len(), left)),
                false => SendStatus::Closed,
            };
        }
        while !piece.is_empty() {
            let part;
            (part, piece) = piece.split_at(piece.len().min(PART_BYTES_MAX));
            if let Err(status) = self.write_part(part) {
                return status;
            }
        }
        self.mark_dirty();
        if self.buffered() <= self.high_watermark() {
            return SendStatus::Queued;
        }
        self.offer();
        if self.buffered() <= self.high_watermark() {
            return SendStatus::Queued;
        }
        if !self.is_paused.get() {
            self.owes_pause.set(true);
        }
        SendStatus::Congested
    }

    fn write_part(&self, part: &[u8]) -> Result<(), SendStatus> {
        if !self.conversation.borrow().may_send() {
            return Err(SendStatus::Closed);
        }
        if self.buffered() + part.len() > self.queue_bytes_max() {
            self.offer();
        }
        let pool = &self.local.pool;
        let is_full = self.buffered() + part.len() > self.queue_bytes_max();
        if is_full || !pool.has_room(part.len()) {
            let full = DisconnectCause::QueueFull;
            self.set_cause(if is_full { full } else { DisconnectCause::OutOfMemory });
            self.cut_off_frame();
            return Err(SendStatus::Closed);
        }
        let Some(rare_state) = self.rare_state.get() else { return Err(SendStatus::Closed) };
        let mut cell = rare_state.writing.borrow_mut();
        let Some(writing) = cell.as_deref_mut() else { return Err(SendStatus::Closed) };
        self.open_queue().append(
            part.len(),
            || pool.buffer(part.len()),
            |out| match writing.key {
                Some(key) => mask::copy_at(out, part, key, 0),
                None => out.extend_from_slice(part),
            },
        );
        if let Some(key) = &mut writing.key {
            key.rotate_left(part.len() % 4);
        }
        writing.left -= part.len() as u64;
        if writing.left == 0 {
            let behind = std::mem::take(&mut writing.behind);
            drop(cell);
            rare_state.writing.take();
            if !behind.is_empty() {
                let len = behind.len();
                self.open_queue().append(len, || pool.buffer(len), |out| out.extend(&behind));
            }
            self.renew_append_max();
        }
        Ok(())
    }

    /// Queues a control frame behind the frame under way; a message is refused.
    pub(super) fn queue_behind_pieces(&self, head: FrameHead, payload: &[u8]) -> SendStatus {
        if !head.msg_type.is_control() {
            return SendStatus::Refused(ApiMisuse::FrameUnderWay);
        }
        let key = self.mask_key();
        let Some(rare_state) = self.rare_state.get() else { return SendStatus::Closed };
        let mut cell = rare_state.writing.borrow_mut();
        let Some(writing) = cell.as_deref_mut() else { return SendStatus::Closed };
        let len = FRAME_HEADER_BYTES_MAX + payload.len();
        if writing.behind.len() + len > BEHIND_BYTES_MAX {
            return SendStatus::Dropped;
        }
        head.append(&mut writing.behind, payload, key);
        drop(cell);
        self.count_sent(head.msg_type, payload.len());
        self.note_ping();
        SendStatus::Queued
    }

    /// Gives the frame under way up: the connection ends without CLOSE, which would be a part of it.
    pub(crate) fn cut_off_frame(&self) {
        let Some(rare_state) = self.rare_state.get() else { return };
        if rare_state.writing.take().is_some() {
            self.set_cause(DisconnectCause::FrameUnfinished);
            self.conversation.borrow_mut().end();
            self.renew_append_max();
            self.mark_dirty();
        }
    }
}

/// Bytes that are queued at a time: a part of a buffer of the pool, so that all of that is used.
const PART_BYTES_MAX: usize = 4096;
/// Control frames that wait for the end of a frame.
const BEHIND_BYTES_MAX: usize = 4096;
