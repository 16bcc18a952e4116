//! Send queue of a connection: its frames, from the call that queues them to the send.
//!
//! Frames are appended to one run of bytes, which leaves with the next send. Where frames may be
//! taken back (the policy is to drop the oldest, or they have keys), they wait apart instead, as
//! soon as more is unsent than is worth keeping movable, and follow a little at a time (`limit.rs`).
//! Before a frame has to wait, or is too much, the socket is offered what is queued (`outlet.rs`).

use super::Session;
use super::conflation::{COPY_BYTES_MAX, Droppable};
use super::limit::{append_max, commit_bytes_max};
use super::payload::{
    Copied, InPlace, Lent, Payload, PreparedPayload, ReceivedPayload, Referenced,
};
use crate::foreign::StateMut;
use crate::pool::BUFFER_BYTES;
use crate::prepared::Prepared;
use crate::ring::{Loan, Segment, SendBatch};
use crate::status::SendStatus;
use bytes::Bytes;
use picows_uring_proto::{
    ApiMisuse, CONTROL_PAYLOAD_BYTES_MAX, CloseFrame, FRAME_HEADER_BYTES_MAX, Frame, FrameHead,
    MsgType, SendError,
};

impl Session {
    /// Bytes that were queued and whose send has not completed.
    pub(crate) fn buffered(&self) -> usize {
        self.in_flight.get() + self.queued()
    }

    /// Bytes that wait for the next send.
    pub(crate) fn queued(&self) -> usize {
        self.appended() + self.droppable.ask(Droppable::len).unwrap_or(0)
    }

    /// Bytes that leave before everything that is queued from now on, whatever is dropped.
    pub(crate) fn committed(&self) -> usize {
        self.in_flight.get() + self.appended()
    }

    fn appended(&self) -> usize {
        self.queue.borrow().as_ref().map_or(0, |queue| queue.len())
    }

    /// Bytes of memory of what waits for the next send.
    pub(super) fn queue_memory(&self) -> usize {
        let apart = self.droppable.ask(Droppable::weight).unwrap_or(0);
        apart + self.queue.borrow().as_ref().map_or(0, |queue| queue.memory())
    }

    /// Whether what is sent next begins a frame, provided that nothing is in flight.
    pub(crate) fn is_between_frames(&self) -> bool {
        // What is sealed cannot be left out: what follows it would be refused.
        let queue = self.queue.borrow();
        let is_begun = queue.as_ref().is_some_and(|it| it.is_begun() || it.is_sealed());
        !is_begun && !self.is_writing()
    }

    /// Whether there is a queue at all, and how long its buffers are.
    #[cfg(test)]
    pub(crate) fn queue_capacity(&self) -> usize {
        let apart = self.droppable.ask(Droppable::weight).unwrap_or(0);
        apart + self.queue.borrow().as_ref().map_or(0, |queue| size_of_val(&**queue) + queue.len())
    }

    /// Queues a frame whose payload is copied.
    pub(crate) fn send(&self, head: FrameHead, payload: &[u8]) -> SendStatus {
        match self.send_behind(head, payload) {
            Some(status) => status,
            None => self.queue_frame(head, Copied(payload)),
        }
    }

    /// [`send`](Self::send) of what most frames are: a whole message of a server, where others wait
    /// for the same send and leave room in their buffer. Of any other, this knows nothing.
    #[inline(always)]
    fn send_behind(&self, head: FrameHead, payload: &[u8]) -> Option<SendStatus> {
        let mut cell = self.queue.borrow_mut();
        let Some(queue) = cell.as_mut() else {
            drop(cell);
            return self.send_first(head, payload);
        };
        let (header, header_len) = head.encode_short_header(payload.len())?;
        if self.is_client || !self.conversation.sender().may_send_message() {
            return None;
        }
        let buffered = self.in_flight.get() + queue.len() + FRAME_HEADER_BYTES_MAX + payload.len();
        let fits = buffered <= self.append_max.get() as usize;
        // Counted before the copy: behind it, type and length would have to be fetched again.
        let count = || self.count_sent(head.msg_type, payload.len());
        if !fits || !queue.append_pair(header, header_len, payload, count) {
            return None;
        }
        // What the worker's owner has for its wake-up runs now.
        drop(cell);
        self.mark_dirty();
        // It fits in what is appended at once: see `queued_frame`.
        let is_short = !self.is_offered.get();
        Some(if is_short { SendStatus::Queued } else { self.appended_frame(buffered) })
    }

    /// The same where nothing is queued: in the buffer of the last batch that left.
    #[inline(never)]
    fn send_first(&self, head: FrameHead, payload: &[u8]) -> Option<SendStatus> {
        let (header, header_len) = head.encode_short_header(payload.len())?;
        let len = FRAME_HEADER_BYTES_MAX + payload.len();
        let buffered = self.in_flight.get() + len;
        if buffered > self.append_max.get() as usize || len > BUFFER_BYTES {
            return None;
        }
        // Records of TLS want room in front of them.
        if self.is_client || !self.conversation.sender().may_send_message() || self.is_sealed() {
            return None;
        }
        let pool = &self.local.pool;
        let mut batch = pool.batch_with_buffer();
        batch.set_front(0);
        let count = || self.count_sent(head.msg_type, payload.len());
        if !batch.append_pair(header, header_len, payload, count) {
            pool.put_batch(batch);
            return None;
        }
        self.queue.replace(Some(batch));
        self.mark_dirty();
        // Nothing that was appended at once is beyond the high watermark, unless the socket was offered some.
        let is_short = !self.is_offered.get();
        Some(if is_short { SendStatus::Queued } else { self.appended_frame(buffered) })
    }

    /// Queues a frame whose payload is kept by reference, if it need not be masked.
    pub(crate) fn send_shared(&self, head: FrameHead, payload: &Bytes) -> SendStatus {
        if payload.len() <= COPY_BYTES_MAX {
            return self.send(head, payload);
        }
        self.queue_frame(head, Referenced(payload))
    }

    /// Queues a message that was encoded before.
    pub(crate) fn send_prepared(&self, prepared: &Prepared) -> SendStatus {
        #[cfg(feature = "deflate")]
        if let Some(status) = self.send_compressed(prepared) {
            return status;
        }
        self.queue_frame(prepared.head(), PreparedPayload(prepared))
    }

    /// Queues a frame that was received, without a copy of a large payload that need not be masked:
    /// it leaves from where it lies.
    #[inline]
    pub(crate) fn forward(&self, head: FrameHead, frame: &Frame<'_>) -> SendStatus {
        let payload = frame.payload();
        match frame.memory() {
            _ if payload.len() <= COPY_BYTES_MAX || self.is_client => self.send(head, payload),
            Some(memory) => self.queue_frame(head, ReceivedPayload(memory)),
            None => match self.borrow(payload) {
                Some(loan) => self.queue_frame(head, Lent { loan, payload }),
                None => self.send(head, payload),
            },
        }
    }

    /// The loan of a payload that lies in a receive buffer.
    ///
    /// Not for a peer that has not taken what was sent before: who knows when it will, and the
    /// buffer is wanted back.
    fn borrow(&self, payload: &[u8]) -> Option<Loan> {
        if self.in_flight.get() > 0 {
            return None;
        }
        self.local.lent.part(payload)
    }

    /// Queues a frame whose header is written in front of its payload.
    pub(crate) fn send_headroom(
        &self,
        head: FrameHead,
        buffer: Vec<u8>,
        payload_start: usize,
    ) -> SendStatus {
        // Checked before anything is counted: what is refused was not sent.
        if payload_start < FRAME_HEADER_BYTES_MAX {
            return SendStatus::Refused(ApiMisuse::HeadroomTooSmall(payload_start));
        }
        if payload_start > buffer.len() {
            let len = buffer.len();
            return SendStatus::Refused(ApiMisuse::HeadroomPastEnd { start: payload_start, len });
        }
        self.queue_frame(head, InPlace { buffer, start: payload_start })
    }

    /// Queues a message that a later one with the same key may replace.
    pub(crate) fn send_latest(&self, key: u64, head: FrameHead, payload: &Bytes) -> SendStatus {
        if payload.len() <= COPY_BYTES_MAX {
            return self.send_latest_copied(key, head, payload);
        }
        self.queue_latest(key, head, Referenced(payload))
    }

    /// [`send_latest`](Self::send_latest), of a payload that is copied.
    pub(crate) fn send_latest_copied(
        &self,
        key: u64,
        head: FrameHead,
        payload: &[u8],
    ) -> SendStatus {
        self.queue_latest(key, head, Copied(payload))
    }

    fn queue_latest<P: Payload>(&self, key: u64, head: FrameHead, payload: P) -> SendStatus {
        if !head.fin || !matches!(head.msg_type, MsgType::Text | MsgType::Binary) {
            return SendStatus::Refused(ApiMisuse::KeyOfFragment);
        }
        self.catch_up();
        match self.check(head, payload.len()) {
            Ok(_) if !self.has_memory_for(&payload) => SendStatus::Closed,
            Ok(_) => self.queue_beyond(head, payload, Some(key)),
            Err(status) => status,
        }
    }

    /// Checks that a frame may be sent now.
    #[inline(always)]
    pub(super) fn check(&self, head: FrameHead, payload_len: usize) -> Result<(), SendStatus> {
        self.conversation.sender().check(head, payload_len).map_err(|error| match error {
            SendError::Misuse(misuse) => SendStatus::Refused(misuse),
            SendError::Closed | SendError::OutOfMemory => SendStatus::Closed,
        })
    }

    /// Checks whether a frame may be queued, does so, and keeps the books.
    #[inline(never)]
    fn queue_frame<P: Payload>(&self, head: FrameHead, payload: P) -> SendStatus {
        self.catch_up();
        if let Err(status) = self.check(head, payload.len()) {
            return status;
        }
        if !self.has_memory_for(&payload) {
            return SendStatus::Closed;
        }
        let buffered = self.committed() + FRAME_HEADER_BYTES_MAX + payload.len();
        // Also where frames wait apart: it is 0 then.
        if buffered > self.append_max.get() as usize && !self.appends_beyond(buffered) {
            return self.queue_beyond(head, payload, None);
        }
        self.conversation.sender_mut().queued(head);
        self.count_sent(head.msg_type, payload.len());
        payload.append(head, &mut self.open_queue(), &self.local.pool, self.mask_key());
        self.queued_frame(buffered)
    }

    /// Whether there is memory for a copy of `payload`, if one is made of it; if not, this is the
    /// connection's end.
    #[inline]
    pub(super) fn has_memory_for<P: Payload>(&self, payload: &P) -> bool {
        let len = FRAME_HEADER_BYTES_MAX + payload.len();
        if payload.is_copied(self.is_client) && !self.local.pool.has_room(len) {
            self.out_of_memory();
            return false;
        }
        true
    }

    /// Counts a frame that is queued.
    #[inline(always)]
    pub(super) fn count_sent(&self, msg_type: MsgType, payload_len: usize) {
        self.local.counters.count_sent(msg_type, payload_len);
    }

    /// A frame was queued, so that there are `buffered` bytes.
    #[inline(always)]
    pub(super) fn queued_frame(&self, buffered: usize) -> SendStatus {
        self.mark_dirty();
        // Until the socket has refused some, no more than the high watermark is appended.
        let is_appended = !self.is_offered.get() && buffered <= self.append_max.get() as usize;
        if is_appended { SendStatus::Queued } else { self.appended_frame(buffered) }
    }

    /// The status of a frame behind which the queue may be beyond the high watermark.
    fn appended_frame(&self, buffered: usize) -> SendStatus {
        if buffered <= self.high_watermark() {
            return SendStatus::Queued;
        }
        if !self.is_paused.get() {
            self.owes_pause.set(true);
        }
        SendStatus::Congested
    }

    /// Answers a PING. While more than the high watermark is on its way, only the last PING is
    /// (RFC 6455 §5.5.3), and the answer goes to the end of the queue when a send completes: a peer
    /// that pings without reading costs us one PONG.
    pub(crate) fn answer_ping(&self, payload: &[u8]) {
        let head = FrameHead::new(MsgType::Pong);
        let has_pong = self.droppable.ask(Droppable::has_pong).unwrap_or(false);
        let is_much = || self.committed() > self.high_watermark();
        if !has_pong && is_much() && !self.is_offered.get() {
            // What this turn has queued says nothing of the peer.
            self.offer();
        }
        if !has_pong && !is_much() {
            self.send(head, payload);
        } else if self.conversation.borrow().may_send() {
            let mut pong = Vec::with_capacity(FRAME_HEADER_BYTES_MAX + payload.len());
            head.append(&mut pong, payload, self.mask_key());
            let mut droppable = self.droppable.take().unwrap_or_default();
            if !droppable.put_pong(pong) {
                self.count_sent(MsgType::Pong, payload.len());
            }
            self.set_droppable(Some(droppable));
            self.mark_dirty();
        }
    }

    /// Queues a CLOSE that the conversation has recorded as sent, and has the connection looked
    /// at in any case.
    pub(crate) fn queue_close(&self, close: Option<CloseFrame>) {
        if let Some(close) = close {
            if self.is_writing() {
                return self.cut_off_frame();
            }
            // Nothing may follow it.
            self.commit_all();
            let key = self.mask_key();
            let header_len = if key.is_some() { 6 } else { 2 };
            self.queue_last(CLOSE_FRAME_BYTES_MAX, |out| {
                let before = out.len();
                close.append(out, key);
                self.count_sent(MsgType::Close, out.len() - before - header_len);
            });
        }
        self.mark_dirty();
    }

    /// Queues bytes that are no frame: HTTP.
    pub(crate) fn queue_raw(&self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let pool = &self.local.pool;
        self.open_queue().append(len, || pool.buffer(len), write);
        self.mark_dirty();
    }

    /// Queues an answer over HTTP, or other last bytes of a connection, `len` at the most. They take no more
    /// memory than that, unlike what others follow: a worker that ends many connections for their memory
    /// needs less then, and not more.
    pub(crate) fn queue_last(&self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        self.open_queue().append(len, || Vec::with_capacity(len), write);
        self.mark_dirty();
    }

    /// Queues bytes behind those of [`queue_last`](Self::queue_last), by reference.
    pub(crate) fn queue_reference(&self, bytes: &Bytes) {
        self.open_queue().push(Segment::shared(bytes.clone()));
        self.mark_dirty();
    }

    /// Takes the bytes to be sent next: what is queued, sealed where the connection is secure.
    pub(crate) fn take_batch(&self) -> Option<Box<SendBatch>> {
        if self.is_sealed() { self.take_sealed() } else { self.take_queue() }
    }

    /// Takes what is queued, to be sent: of what waits apart only a part, so that the rest may
    /// still be taken back.
    pub(super) fn take_queue(&self) -> Option<Box<SendBatch>> {
        if let Some(mut droppable) = self.droppable.take() {
            if self.is_writing() {
                // Not inside of a frame.
                self.droppable.set(Some(droppable));
            } else {
                let max = commit_bytes_max(&self.config);
                self.commit(&mut droppable, max);
                self.set_droppable((droppable.len() > 0).then_some(droppable));
            }
        }
        self.queue.borrow_mut().take()
    }

    /// Puts what a send left over in front of what was queued since.
    pub(crate) fn put_back(&self, mut rest: Box<SendBatch>) {
        if let Some(mut later) = self.queue.take() {
            rest.extend(&mut later);
            self.local.pool.put_batch(later);
        }
        self.queue.replace(Some(rest));
    }

    /// Drops what is queued.
    pub(crate) fn drop_queue(&self) {
        let (droppable, queue) = (self.droppable.take(), self.queue.take());
        self.set_droppable(None);
        if let Some(mut droppable) = droppable {
            droppable.clear(&self.local.pool);
        }
        if let Some(queue) = queue {
            self.local.pool.put_batch(queue);
        }
    }

    pub(super) fn set_droppable(&self, mut droppable: Option<Box<Droppable>>) {
        if let Some(droppable) = &mut droppable {
            droppable.count_into(self.local.pool.queued_sum());
        }
        self.set_append_max(droppable.is_some());
        self.droppable.set(droppable);
    }

    pub(super) fn set_append_max(&self, is_waiting: bool) {
        let max = append_max(&self.config, self.high_watermark(), self.is_offered.get());
        // Where messages are compressed, none takes the short way either, nor inside of a frame.
        let is_long =
            is_waiting || self.is_compressing() || self.is_writing() || self.is_subscribed();
        self.append_max.set(if is_long { 0 } else { max });
    }

    /// The key of the next frame, if frames are masked (RFC 6455 §5.3).
    #[inline]
    pub(super) fn mask_key(&self) -> Option<[u8; 4]> {
        self.is_client.then(|| self.local.keys.borrow_mut().next_key())
    }

    pub(super) fn open_queue(&self) -> StateMut<'_, Box<SendBatch>> {
        let queue = self.queue.borrow_mut();
        queue.map(|queue| {
            queue.get_or_insert_with(|| {
                let mut batch = self.local.pool.batch();
                if cfg!(feature = "_tls") {
                    batch.set_front(self.record_prefix());
                }
                batch
            })
        })
    }
}

const CLOSE_FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES_MAX + CONTROL_PAYLOAD_BYTES_MAX;
