//! The ways in which a payload is handed over, and how each becomes bytes to be sent.
//!
//! Whether the frame may be sent, and where it waits, is decided in `queue.rs`.

use super::conflation::{COPY_BYTES_MAX, DroppableFrame};
use crate::pool::Pool;
use crate::prepared::Prepared;
use crate::ring::{Loan, Segment, SendBatch};
use bytes::Bytes;
use picows_uring_proto::{FRAME_HEADER_BYTES_MAX, FrameHead};
use std::rc::Rc;

/// A payload that has not been encoded yet.
pub(super) trait Payload {
    fn len(&self) -> usize;

    /// Whether its bytes are copied to be sent, `masked` or not.
    fn is_copied(&self, masked: bool) -> bool {
        masked
    }

    /// What it is.
    fn bytes(&self) -> &[u8];

    /// The message that it was prepared as.
    fn prepared(&self) -> Option<&Prepared> {
        None
    }

    /// The payload by itself.
    fn body(self) -> Segment
    where
        Self: Sized,
    {
        Segment::Owned { bytes: self.bytes().to_vec(), start: 0 }
    }

    /// Appends the frame to `queue`.
    fn append(self, head: FrameHead, queue: &mut SendBatch, pool: &Pool, key: Option<[u8; 4]>);

    /// Makes a frame of its own, of no more memory than it needs.
    fn apart(self, head: FrameHead, key: Option<[u8; 4]>) -> DroppableFrame;
}

/// It is copied.
pub(super) struct Copied<'a>(pub(super) &'a [u8]);

/// It is kept by reference, if it need not be masked.
pub(super) struct Referenced<'a>(pub(super) &'a Bytes);

/// It was received, in memory of its own, and need not be masked.
pub(super) struct ReceivedPayload<'a>(pub(super) &'a Rc<Vec<u8>>);

/// It was received, lies in a receive buffer, and need not be masked. Where it has to wait, it is
/// copied, as the buffer is wanted back.
pub(super) struct Lent<'a> {
    pub(super) loan: Loan,
    pub(super) payload: &'a [u8],
}

/// It was encoded before.
pub(super) struct PreparedPayload<'a>(pub(super) &'a Prepared);

/// It was encoded for all subscribers of a topic, which its history and backlogs count once.
pub(super) struct Publication<'a>(pub(super) &'a Prepared);

/// The header is written in front of it: at least [`FRAME_HEADER_BYTES_MAX`] bytes are free there,
/// and `start` is not past the end.
pub(super) struct InPlace {
    pub(super) buffer: Vec<u8>,
    pub(super) start: usize,
}

impl Payload for Copied<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }

    fn is_copied(&self, _: bool) -> bool {
        true
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline(always)] // It is called in two places, of which one has to be fast.
    fn append(self, head: FrameHead, queue: &mut SendBatch, pool: &Pool, key: Option<[u8; 4]>) {
        let len = FRAME_HEADER_BYTES_MAX + self.0.len();
        queue.append(len, || pool.buffer(len), |out| head.append(out, self.0, key));
    }

    fn apart(self, head: FrameHead, key: Option<[u8; 4]>) -> DroppableFrame {
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES_MAX + self.0.len());
        head.append(&mut bytes, self.0, key);
        DroppableFrame::new(head, Segment::Owned { bytes, start: 0 }, None)
    }
}

impl Payload for Referenced<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }

    fn body(self) -> Segment {
        Segment::shared(self.0.clone())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn append(self, head: FrameHead, queue: &mut SendBatch, pool: &Pool, key: Option<[u8; 4]>) {
        if key.is_some() {
            return Copied(self.0).append(head, queue, pool, key);
        }
        append_header(head, self.0.len(), queue);
        queue.push(Segment::shared(self.0.clone()));
    }

    fn apart(self, head: FrameHead, key: Option<[u8; 4]>) -> DroppableFrame {
        if key.is_some() {
            return Copied(self.0).apart(head, key);
        }
        let body = Segment::shared(self.0.clone());
        DroppableFrame::new(head, header(head, self.0.len()), Some(body))
    }
}

impl Payload for ReceivedPayload<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }

    fn body(self) -> Segment {
        Segment::Received { memory: Rc::clone(self.0), start: 0 }
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn append(self, head: FrameHead, queue: &mut SendBatch, _: &Pool, _: Option<[u8; 4]>) {
        append_header(head, self.0.len(), queue);
        queue.push(Segment::Received { memory: Rc::clone(self.0), start: 0 });
    }

    fn apart(self, head: FrameHead, _: Option<[u8; 4]>) -> DroppableFrame {
        let body = Segment::Received { memory: Rc::clone(self.0), start: 0 };
        DroppableFrame::new(head, header(head, self.0.len()), Some(body))
    }
}

impl Payload for Lent<'_> {
    fn bytes(&self) -> &[u8] {
        self.payload
    }

    fn len(&self) -> usize {
        self.payload.len()
    }

    fn append(self, head: FrameHead, queue: &mut SendBatch, _: &Pool, _: Option<[u8; 4]>) {
        append_header(head, self.payload.len(), queue);
        queue.push(Segment::Lent(self.loan));
    }

    fn apart(self, head: FrameHead, key: Option<[u8; 4]>) -> DroppableFrame {
        Copied(self.payload).apart(head, key)
    }
}

/// Appends a frame that was encoded for many connections: a copy, or a reference where that is better.
pub(super) fn append_encoded(frame: &Bytes, queue: &mut SendBatch, pool: &Pool) {
    if frame.len() > COPY_BYTES_MAX || queue.prefers_reference(frame.len()) {
        return queue.push(Segment::Common { bytes: frame.clone(), is_counted: true });
    }
    queue.append(frame.len(), || pool.buffer(frame.len()), |out| out.extend_from_slice(frame));
}

/// The header of a payload that follows by itself, unmasked.
fn append_header(head: FrameHead, payload_len: usize, queue: &mut SendBatch) {
    let (bytes, len) = head.encode_header(payload_len, None);
    queue.append_short(&bytes[..len]);
}

/// A header by itself.
fn header(head: FrameHead, payload_len: usize) -> Segment {
    let (bytes, len) = head.encode_header(payload_len, None);
    Segment::short(&bytes[..len])
}

impl Payload for PreparedPayload<'_> {
    fn bytes(&self) -> &[u8] {
        self.0.text()
    }

    fn prepared(&self) -> Option<&Prepared> {
        Some(self.0)
    }

    fn body(self) -> Segment {
        Segment::shared(self.0.text_bytes())
    }

    fn is_copied(&self, masked: bool) -> bool {
        masked || self.0.text().len() <= COPY_BYTES_MAX
    }

    fn len(&self) -> usize {
        self.0.text().len()
    }

    fn append(self, head: FrameHead, queue: &mut SendBatch, pool: &Pool, key: Option<[u8; 4]>) {
        if key.is_some() {
            return Copied(self.0.text()).append(head, queue, pool, key);
        }
        append_encoded(self.0.frame(), queue, pool);
    }

    fn apart(self, head: FrameHead, key: Option<[u8; 4]>) -> DroppableFrame {
        if key.is_some() {
            return Copied(self.0.text()).apart(head, key);
        }
        DroppableFrame::new(head, Segment::shared(self.0.frame().clone()), None)
    }
}

impl Payload for Publication<'_> {
    fn bytes(&self) -> &[u8] {
        self.0.text()
    }

    #[cfg(feature = "deflate")]
    fn prepared(&self) -> Option<&Prepared> {
        Some(self.0)
    }

    fn len(&self) -> usize {
        self.0.text().len()
    }

    fn append(self, head: FrameHead, queue: &mut SendBatch, pool: &Pool, key: Option<[u8; 4]>) {
        if key.is_some() {
            return Copied(self.0.text()).append(head, queue, pool, key);
        }
        queue.push(Segment::Common { bytes: self.0.frame().clone(), is_counted: false });
    }

    fn apart(self, head: FrameHead, key: Option<[u8; 4]>) -> DroppableFrame {
        PreparedPayload(self.0).apart(head, key)
    }
}

impl Payload for InPlace {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn is_copied(&self, _: bool) -> bool {
        false
    }

    fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn append(self, head: FrameHead, queue: &mut SendBatch, _: &Pool, key: Option<[u8; 4]>) {
        queue.push(self.encode(head, key));
    }

    fn apart(self, head: FrameHead, key: Option<[u8; 4]>) -> DroppableFrame {
        DroppableFrame::new(head, self.encode(head, key), None)
    }
}

impl InPlace {
    fn encode(self, head: FrameHead, key: Option<[u8; 4]>) -> Segment {
        let Self { mut buffer, start } = self;
        let encoded = head.prepend(&mut buffer, start, key);
        debug_assert!(encoded.is_ok(), "there is room, as was promised");
        Segment::Owned { start: encoded.unwrap_or(buffer.len()), bytes: buffer }
    }
}
