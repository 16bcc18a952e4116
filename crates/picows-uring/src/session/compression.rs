//! Compression of frames on their way to the queue, and messages that were compressed before.
//!
//! At the point of no return: what is compressed here leaves, in this order. A frame that is
//! droppable stays as it is until it is moved to the queue.

use super::Session;
use super::limit::append_max;
use super::payload::{Copied, Payload, append_encoded};
use crate::pool::HistoryCount;
use crate::prepared::{CompressedFrame, Prepared};
use crate::ring::SendBatch;
use crate::status::SendStatus;
use picows_uring_proto::{Compressed, Compression, Deflate, FrameHead, NegotiatedDeflate};

/// What a connection keeps to compress messages with.
#[derive(Debug)]
pub(super) struct Compressing {
    pub(super) agreed: NegotiatedDeflate,
    compression: Compression,
    count: HistoryCount,
}

/// There is no memory to compress a frame in that cannot be sent otherwise.
#[derive(Debug)]
pub(super) struct OutOfMemory;

impl Session {
    /// Compresses messages from now on, as the handshake has agreed on.
    pub(crate) fn begin_compressing(&self, settings: &Deflate, agreed: &NegotiatedDeflate) {
        let compression = Compression::new(settings, agreed);
        let count = self.local.pool.history_count();
        let compressing = Compressing { agreed: *agreed, compression, count };
        self.rare_state().compressing.replace(Some(Box::new(compressing)));
        self.conversation.sender_mut().begin_compressing();
        self.renew_append_max();
    }

    /// Gives the history up: nothing more is sent.
    pub(super) fn end_compressing(&self) {
        let Some(rare_state) = self.rare_state.get() else { return };
        if let Some(compressing) = rare_state.compressing.borrow_mut().as_deref_mut() {
            compressing.compression.end();
            compressing.count.set(0);
        }
    }

    /// What was agreed on.
    pub(crate) fn negotiated_deflate(&self) -> Option<NegotiatedDeflate> {
        self.rare_state.get()?.compressing.borrow().as_ref().map(|it| it.agreed)
    }

    /// Bytes of history that it keeps.
    pub(super) fn history_bytes(&self) -> usize {
        let Some(rare_state) = self.rare_state.get() else { return 0 };
        rare_state.compressing.borrow().as_ref().map_or(0, |it| it.compression.memory())
    }

    /// Compresses a frame to the end of `queue`, if it is to be; returns whether it was.
    pub(super) fn append_compressed(
        &self,
        queue: &mut SendBatch,
        head: FrameHead,
        payload: &[u8],
    ) -> Result<bool, OutOfMemory> {
        let Some(rare_state) = self.rare_state.get() else { return Ok(false) };
        let mut compressing = rare_state.compressing.borrow_mut();
        let Some(Compressing { compression, count, .. }) = compressing.as_deref_mut() else {
            return Ok(false);
        };
        let (local, pool) = (&self.local, &self.local.pool);
        let mut deflaters = local.deflaters.borrow_mut();
        let compressed = compression.compress(&mut deflaters, head, payload);
        let is_compressed = match compressed {
            Ok(Compressed::Plain) => false,
            Ok(Compressed::Frame(head, data)) if pool.has_room(data.len() + HEADER_BYTES) => {
                local.counters.bytes_before_compression.add(payload.len() as u64);
                local.counters.bytes_after_compression.add(data.len() as u64);
                Copied(data).append(head, queue, pool, self.mask_key());
                true
            }
            Ok(Compressed::Frame(..)) | Err(_) => return Err(OutOfMemory),
        };
        count.set(compression.memory());
        Ok(is_compressed)
    }

    /// Queues a message that was compressed before, where nothing waits and there is room: the way of most
    /// that are sent to many. `None` leaves it to [`queue_frame`](Self::queue_frame).
    pub(super) fn send_compressed(&self, prepared: &Prepared) -> Option<SendStatus> {
        let compressed = prepared.compressed()?;
        if self.is_client || !self.is_compressing() {
            return None;
        }
        self.catch_up();
        if self.is_writing() || self.droppable.ask(|_| ()).is_some() {
            return None;
        }
        let (head, len) = (prepared.head(), compressed.frame.len());
        if let Err(status) = self.check(head, len) {
            return Some(status);
        }
        let buffered = self.committed() + len;
        let max = append_max(&self.config, self.high_watermark(), self.is_offered.get());
        if buffered > max as usize || !self.local.pool.has_room(len) {
            return None;
        }
        self.skip_prepared(prepared, compressed)?;
        self.conversation.sender_mut().queued(head);
        append_encoded(&compressed.frame, &mut self.open_queue(), &self.local.pool);
        Some(self.queued_frame(buffered))
    }

    /// Appends the compressed form of `prepared` to the end of `queue`, if this connection is sent that;
    /// returns whether it was.
    pub(super) fn append_prepared(&self, queue: &mut SendBatch, prepared: &Prepared) -> bool {
        let Some(compressed) = prepared.compressed() else { return false };
        if self.skip_prepared(prepared, compressed).is_none() {
            return false;
        }
        let pool = &self.local.pool;
        match self.mask_key() {
            None => append_encoded(&compressed.frame, queue, pool),
            key => {
                let (head, data) = compressed.parts(prepared);
                Copied(data).append(head, queue, pool, key);
            }
        }
        true
    }

    /// Records that the compressed form of `prepared` is sent next; `None` where the connection is sent
    /// its text instead.
    fn skip_prepared(&self, prepared: &Prepared, compressed: &CompressedFrame) -> Option<()> {
        let mut compressing = self.rare_state.get()?.compressing.borrow_mut();
        let Compressing { compression, count, .. } = compressing.as_deref_mut()?;
        if !compression.covers(compressed.window_bits) || !compression.is_default() {
            return None;
        }
        compression.skip(prepared.text()).ok()?;
        count.set(compression.memory());
        Some(())
    }
}

const HEADER_BYTES: usize = picows_uring_proto::FRAME_HEADER_BYTES_MAX;
