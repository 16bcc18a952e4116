//! Frames that wait one by one, behind what is as good as on its way, and may be taken back.
//!
//! Made only where frames are dropped or replaced, and only while a peer does not keep up. Holds
//! whole messages, and no control frames but one PONG: those do not wait here. When frames have to
//! go is decided in `queue.rs`.

use crate::pool::Pool;
use crate::prepared::Prepared;
use crate::ring::{Segment, SendBatch};
use picows_uring_proto::FrameHead;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;

/// The frames that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Droppable {
    frames: VecDeque<DroppableFrame>,
    /// The number of the frame in front; they are numbered without end.
    first: u64,
    /// The number of the frame that waits for each key.
    keys: HashMap<u64, u64>,
    /// Bytes of all frames, the PONG included.
    len: usize,
    /// The answer to the last PING.
    pong: Option<Vec<u8>>,
    counted: Counted,
}

/// Bytes that are part of a sum for as long as they are there.
#[derive(Debug, Default)]
struct Counted {
    bytes: usize,
    sum: Option<Rc<Cell<usize>>>,
}

impl Counted {
    fn set(&mut self, bytes: usize) {
        if let Some(sum) = &self.sum {
            sum.set(sum.get() + bytes - self.bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The place of frames that wait: empty, most of the time.
#[derive(Default)]
pub(super) struct DroppableSlot(Cell<Option<Box<Droppable>>>);

impl DroppableSlot {
    pub(super) fn take(&self) -> Option<Box<Droppable>> {
        self.0.take()
    }

    pub(super) fn set(&self, droppable: Option<Box<Droppable>>) {
        self.0.set(droppable);
    }

    /// Asks those that wait, if any do.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Droppable) -> T) -> Option<T> {
        let droppable = self.0.take()?;
        let answer = ask(&droppable);
        self.0.set(Some(droppable));
        Some(answer)
    }
}

impl fmt::Debug for DroppableSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.ask(Droppable::len);
        f.debug_struct("DroppableSlot").field("bytes", &bytes).finish()
    }
}

/// A frame that is encoded, or where messages are compressed, one that is not yet.
#[derive(Debug)]
pub(super) struct DroppableFrame {
    /// The header; the payload as well, unless there is a `body`.
    start: Segment,
    body: Option<Segment>,
    /// The head of a frame that is not encoded yet: its payload is the `body`.
    plain: Option<FrameHead>,
    /// The message that such a frame was prepared as.
    prepared: Option<Prepared>,
    key: Option<u64>,
    /// It ends a message.
    fin: bool,
}

impl DroppableFrame {
    pub(super) fn new(head: FrameHead, start: Segment, body: Option<Segment>) -> Self {
        Self { start, body, plain: None, prepared: None, key: None, fin: head.fin }
    }

    /// A frame that is encoded when it is moved to the queue.
    pub(super) fn plain(head: FrameHead, payload: Segment, prepared: Option<Prepared>) -> Self {
        let (start, body) = (Segment::short(&[]), Some(payload));
        Self { start, body, plain: Some(head), prepared, key: None, fin: head.fin }
    }

    fn len(&self) -> usize {
        self.start.as_slice().len() + self.body.as_ref().map_or(0, |body| body.as_slice().len())
    }

    /// What it counts for towards the limit of the queue.
    fn weight(&self) -> usize {
        self.len() + WAITING_FRAME_BYTES
    }

    /// Lets go of it. What it referred to is dropped later: its owner may send.
    fn discard(self, pool: &Pool) {
        pool.discard(self.start);
        if let Some(body) = self.body {
            pool.discard(body);
        }
    }
}

impl Droppable {
    /// Bytes to be sent.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Counts what it weighs now into `sum`, until the next call or nothing is left of it.
    pub(super) fn count_into(&mut self, sum: &Rc<Cell<usize>>) {
        self.counted.sum.get_or_insert_with(|| Rc::clone(sum));
        self.counted.set(self.weight());
    }

    /// Whether any frame waits, the PONG aside.
    pub(super) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Bytes towards the limit of the queue: those to be sent, and what it takes to tell their
    /// frames apart.
    pub(super) fn weight(&self) -> usize {
        self.len + self.frames.len() * WAITING_FRAME_BYTES
    }

    /// The part of [`weight`](Self::weight) that cannot be dropped: the message that is not
    /// complete yet, and the PONG.
    pub(super) fn fixed_weight(&self) -> usize {
        let open = self.frames.iter().rev().take_while(|frame| !frame.fin);
        open.map(DroppableFrame::weight).sum::<usize>() + self.pong.as_ref().map_or(0, Vec::len)
    }

    /// The weight of the frame that waits for `key`.
    pub(super) fn weight_of(&self, key: u64) -> usize {
        self.position(key).map_or(0, |position| self.frames[position].weight())
    }

    fn position(&self, key: u64) -> Option<usize> {
        self.keys.get(&key).map(|number| (number - self.first) as usize)
    }

    /// Adds a frame at the end; one with a key takes the place of the one that waits for the key,
    /// and says so.
    pub(super) fn put(&mut self, mut frame: DroppableFrame, key: Option<u64>, pool: &Pool) -> bool {
        frame.key = key;
        self.len += frame.len();
        if let Some(position) = key.and_then(|key| self.position(key)) {
            let old = std::mem::replace(&mut self.frames[position], frame);
            self.len -= old.len();
            old.discard(pool);
            return true;
        }
        if let Some(key) = key {
            self.keys.insert(key, self.first + self.frames.len() as u64);
        }
        self.frames.push_back(frame);
        false
    }

    /// Has `pong` wait in the place of the one that waits, and returns whether there was one.
    pub(super) fn put_pong(&mut self, pong: Vec<u8>) -> bool {
        self.len += pong.len();
        let old = self.pong.replace(pong);
        self.len -= old.as_ref().map_or(0, Vec::len);
        old.is_some()
    }

    /// Whether the answer to a PING waits.
    pub(super) fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Drops the oldest message, and returns its number of frames: none if it is not complete.
    pub(super) fn drop_oldest(&mut self, pool: &Pool) -> usize {
        let Some(last) = self.frames.iter().position(|frame| frame.fin) else { return 0 };
        for _ in 0..=last {
            if let Some(frame) = self.pop() {
                frame.discard(pool);
            }
        }
        last + 1
    }

    /// Drops all frames.
    pub(super) fn clear(&mut self, pool: &Pool) {
        while let Some(frame) = self.pop() {
            frame.discard(pool);
        }
    }

    /// Moves the PONG and about `max` bytes of frames to the end of `batch`: whole messages, and of
    /// one that is not complete what there is.
    /// Frames that are not encoded yet go through `encode`.
    pub(super) fn move_to(
        &mut self,
        batch: &mut SendBatch,
        max: usize,
        pool: &Pool,
        mut encode: impl FnMut(&mut SendBatch, FrameHead, &[u8], Option<&Prepared>),
    ) {
        if let Some(pong) = self.pong.take() {
            self.len -= pong.len();
            append(batch, Segment::Owned { bytes: pong, start: 0 }, pool);
        }
        let mut is_between = true;
        while !is_between || batch.len() < max {
            let Some(frame) = self.pop() else { return };
            is_between = frame.fin;
            if let (Some(head), Some(body)) = (frame.plain, &frame.body) {
                encode(batch, head, body.as_slice(), frame.prepared.as_ref());
                frame.discard(pool);
                continue;
            }
            append(batch, frame.start, pool);
            if let Some(body) = frame.body {
                batch.push(body);
            }
        }
    }

    fn pop(&mut self) -> Option<DroppableFrame> {
        let frame = self.frames.pop_front()?;
        self.first += 1;
        self.len -= frame.len();
        if let Some(key) = frame.key {
            self.keys.remove(&key);
        }
        Some(frame)
    }
}

/// Appends a segment; a short one is copied, as every segment costs the kernel something.
fn append(batch: &mut SendBatch, segment: Segment, pool: &Pool) {
    let bytes = segment.as_slice();
    if bytes.len() > COPY_BYTES_MAX {
        return batch.push(segment);
    }
    if let Segment::Short { .. } = segment {
        return batch.append_short(bytes);
    }
    batch.append(bytes.len(), || pool.buffer(bytes.len()), |out| out.extend_from_slice(bytes));
}

/// Up to here, copying is cheaper than a segment of its own.
pub(crate) const COPY_BYTES_MAX: usize = 1024;
/// What a frame takes besides its bytes: its place in the queue and among the keys, and what the
/// allocator adds.
pub(crate) const WAITING_FRAME_BYTES: usize = 160;
const _: () = assert!(size_of::<DroppableFrame>() + 4 * size_of::<u64>() <= WAITING_FRAME_BYTES);
