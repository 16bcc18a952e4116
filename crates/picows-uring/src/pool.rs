//! Memory that goes from connection to connection, so that none owns any while it is idle.
//!
//! One pool for each worker; no locks. It counts what it keeps and what it has handed out, and
//! gives up what was not needed for a while.

mod shelf;
mod system;
mod tide;

use crate::foreign::{Foreign, StateCell};
use crate::ring::{Segment, SendBatch, reserve_max};
use bytes::Bytes;
use picows_uring_proto::Stash;
use shelf::{Item, Shelf};
use std::cell::Cell;
use std::rc::Rc;
use tide::Tide;

#[cfg(test)]
pub(crate) use system::releases;
pub(crate) use system::{map_large_blocks, release_free_pages};

/// Buffers and queues that are unused at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: Shelf<Vec<u8>>,
    large: Shelf<Vec<u8>>,
    batches: Shelf<Box<SendBatch>>,
    /// Queues that have kept a buffer.
    ready: Shelf<Box<SendBatch>>,
    stashes: Shelf<Rc<Vec<u8>>>,
    /// Payloads of the application that are not needed any more, each to be dropped in the guard
    /// once nothing else is under way: their owners may send.
    discarded: StateCell<Vec<Foreign<Bytes>>>,
    /// Bytes that wait in queues or are being sent.
    queued: Rc<Cell<usize>>,
    /// Bytes of the stashes that connections hold.
    stashed: Cell<usize>,
    /// Bytes of history, which connections keep to compress and expand messages with.
    histories: Rc<Cell<usize>>,
    /// Bytes of `queued` of connections that were evicted, which the kernel has yet to let go.
    leaving: Cell<usize>,
    /// Peaks of what was in use.
    pub(crate) tide: Tide,
}

impl Pool {
    /// An empty buffer with room for at least `len` bytes.
    pub(crate) fn buffer(&self, len: usize) -> Vec<u8> {
        if len > BUFFER_BYTES {
            return self.large_buffer(len);
        }
        self.buffers.take().unwrap_or_else(|| self.find_buffer())
    }

    /// A buffer that a queue has kept, or a new one.
    #[cold]
    #[inline(never)]
    fn find_buffer(&self) -> Vec<u8> {
        let kept = self.ready.take().and_then(|mut batch| {
            let kept = batch.take_kept();
            self.put_batch(batch);
            kept
        });
        kept.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// A buffer for a large frame. Without the pool, the memory would go back to the system and
    /// come again page by page with each frame: half of the cost of an echo of 100 kB.
    fn large_buffer(&self, len: usize) -> Vec<u8> {
        match self.large.take_that(|buffer| buffer.capacity() >= len) {
            Some(buffer) => buffer,
            None if len <= LARGE_BYTES_MAX => Vec::with_capacity(len.next_power_of_two()),
            None => Vec::with_capacity(len),
        }
    }

    /// Whether there is memory for a buffer of `len` bytes: then the next [`buffer`](Self::buffer)
    /// of that size is sure to be had.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        if len <= BUFFER_BYTES || self.large.has(|buffer| buffer.capacity() >= len) {
            return true;
        }
        let mut buffer = Vec::new();
        let capacity = if len <= LARGE_BYTES_MAX { len.next_power_of_two() } else { len };
        if len > reserve_max() || buffer.try_reserve_exact(capacity).is_err() {
            return false;
        }
        self.large.put(buffer, usize::MAX);
        true
    }

    /// Takes a buffer back, if it is of a size that is kept.
    pub(crate) fn put_buffer(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        match buffer.capacity() {
            BUFFER_BYTES if self.keeps_buffers() => self.buffers.put(buffer, usize::MAX),
            BUFFER_BYTES => {}
            LARGE_BYTES_MIN..=LARGE_BYTES_MAX => self.large.put_within(buffer, LARGE_KEPT_BYTES),
            _ => {}
        }
    }

    /// An empty stash, of any capacity, also none.
    pub(crate) fn stash(&self) -> Stash {
        self.stashes.take().map_or(Stash::new(), Stash::with_memory)
    }

    /// Takes a stash back, if its memory has no other holder.
    pub(crate) fn put_stash(&self, stash: Stash) {
        if let Some(memory) = stash.into_memory() {
            self.put_memory(memory);
        }
    }

    /// Takes the memory of a frame back, unless it is in use or too large to be kept.
    fn put_memory(&self, memory: Rc<Vec<u8>>) {
        if Rc::strong_count(&memory) == 1 && memory.capacity() <= STASH_BYTES_MAX {
            self.stashes.put_within(memory, STASHES_KEPT_BYTES);
        }
    }

    /// Takes the memory of a segment that was sent.
    pub(crate) fn put_segment(&self, segment: Segment) {
        match segment {
            Segment::Owned { bytes, .. } | Segment::Sealed { bytes, .. } => self.put_buffer(bytes),
            Segment::Received { memory, .. } => self.put_memory(memory),
            Segment::Shared(bytes) => self.discarded.borrow_mut().push(bytes),
            Segment::Short { .. } | Segment::Common { .. } | Segment::Lent(_) => {}
        }
    }

    /// Lets go of a segment that was not sent, and whose memory is not kept.
    pub(crate) fn discard(&self, segment: Segment) {
        if let Segment::Shared(_) = segment {
            self.put_segment(segment);
        }
    }

    /// Whether payloads wait to be dropped.
    #[inline]
    pub(crate) fn has_discarded(&self) -> bool {
        !self.discarded.borrow().is_empty()
    }

    /// Drops the payloads that were let go of. Called where nothing of ours is borrowed or half
    /// changed; what their owners let go of meanwhile waits for the next call.
    #[inline]
    pub(crate) fn drop_discarded(&self) {
        if self.has_discarded() {
            self.drop_all_discarded();
        }
    }

    #[cold]
    fn drop_all_discarded(&self) {
        let mut discarded = self.discarded.take();
        discarded.drain(..).for_each(drop);
        if discarded.capacity() <= DISCARDED_KEPT {
            let mut later = self.discarded.replace(discarded);
            self.discarded.borrow_mut().append(&mut later);
        }
    }

    /// A connection keeps `stash` until more arrives.
    ///
    /// It may be much larger than what is in it, after a large frame. Where many connections do
    /// that, it is cut to what has arrived, or a few large frames of each would be enough for all
    /// memory there is.
    pub(crate) fn hold(&self, stash: &mut Stash) {
        let (len, capacity) = (stash.len(), stash.capacity());
        // Growing by doubling leaves less than that, so bytes that drip in are not copied each time.
        let is_mostly_empty = capacity > STASH_BYTES_MIN && capacity / 4 > len;
        if is_mostly_empty && self.stashed.get() + capacity > STASHED_SLACK_MAX {
            stash.shrink_to(len.max(STASH_BYTES_MIN));
        }
        self.stashed.set(self.stashed.get() + stash.capacity());
    }

    /// A connection goes on with `stash`, or gives it back.
    pub(crate) fn unhold(&self, stash: &Stash) {
        self.stashed.set(self.stashed.get().saturating_sub(stash.capacity()));
    }

    /// A connection goes on with the `stash` that it holds; one without memory is lent some.
    #[inline]
    pub(crate) fn lend(&self, stash: &mut Stash) {
        if stash.capacity() == 0 {
            *stash = self.stash();
        } else {
            self.unhold(stash);
        }
    }

    /// A connection is done with its input: it keeps `stash` if `is_needed`, or gives it back.
    #[inline]
    pub(crate) fn hold_or_take(&self, stash: &mut Stash, is_needed: bool) {
        if is_needed {
            self.hold(stash);
        } else {
            self.put_stash(std::mem::take(stash));
        }
    }

    /// An empty queue, whose bytes are counted.
    pub(crate) fn batch(&self) -> Box<SendBatch> {
        self.batches.take().unwrap_or_else(|| self.find_batch())
    }

    /// A queue that has kept a buffer, which others take from here on, or a new one.
    #[cold]
    #[inline(never)]
    fn find_batch(&self) -> Box<SendBatch> {
        let Some(mut batch) = self.ready.take() else { return self.new_batch() };
        batch.take_kept().into_iter().for_each(|buffer| self.put_buffer(buffer));
        batch
    }

    /// The same with an empty buffer of [`BUFFER_BYTES`], for what is appended first: mostly the one that
    /// the queue had when its last bytes left.
    #[inline]
    pub(crate) fn batch_with_buffer(&self) -> Box<SendBatch> {
        self.ready.take().unwrap_or_else(|| self.give_buffer())
    }

    #[cold]
    #[inline(never)]
    fn give_buffer(&self) -> Box<SendBatch> {
        let mut batch = self.batch();
        batch.keep(self.buffer(0));
        batch
    }

    fn new_batch(&self) -> Box<SendBatch> {
        Box::new(SendBatch::counted(Rc::clone(&self.queued)))
    }

    /// The first `count` bytes of a queue have left.
    #[inline]
    pub(crate) fn advance(&self, batch: &mut SendBatch, count: usize) {
        if !batch.finish(count, BUFFER_BYTES) {
            batch.advance(count, |segment| self.put_segment(segment));
        }
    }

    /// Takes a queue back, whatever is in it. A buffer that it has kept stays in it.
    pub(crate) fn put_batch(&self, mut batch: Box<SendBatch>) {
        if batch.has_kept() && self.keeps_buffers() {
            return self.ready.put(batch, BATCHES_MAX);
        }
        drop(batch.take_kept());
        batch.clear(|segment| self.put_segment(segment));
        if batch.segment_capacity() <= BATCH_SEGMENTS_MAX {
            self.batches.put(batch, BATCHES_MAX);
        }
    }

    /// Whether one more buffer is kept, by itself or in a queue.
    fn keeps_buffers(&self) -> bool {
        self.buffers.bytes() + self.ready.bytes() < BUFFERS_KEPT_BYTES
    }

    /// Bytes that are kept for use again.
    pub(crate) fn bytes(&self) -> usize {
        let buffers = self.buffers.bytes() + self.large.bytes();
        buffers + self.ready.bytes() + self.batches.bytes() + self.stashes.bytes()
    }

    /// Bytes of memory in queues and sends.
    pub(crate) fn queued(&self) -> usize {
        self.queued.get()
    }

    /// Where bytes are counted that wait beside the queues.
    pub(crate) fn queued_sum(&self) -> &Rc<Cell<usize>> {
        &self.queued
    }

    /// Bytes of memory of the stashes that connections hold.
    pub(crate) fn stashed(&self) -> usize {
        self.stashed.get()
    }

    /// Bytes of history that connections keep.
    pub(crate) fn histories(&self) -> usize {
        self.histories.get()
    }

    /// Counts the history of one connection in one direction.
    #[cfg(feature = "deflate")]
    pub(crate) fn history_count(&self) -> HistoryCount {
        HistoryCount { bytes: 0, sum: Rc::clone(&self.histories) }
    }

    /// Bytes of memory that connections hold in queues, sends, stashes and histories.
    pub(crate) fn held(&self) -> usize {
        let held = self.queued() + self.stashed() + self.histories();
        held.saturating_sub(self.leaving.get())
    }

    /// So many of the queued bytes go as soon as the kernel lets go of them.
    pub(crate) fn leave(&self, bytes: usize) {
        self.leaving.set(self.leaving.get() + bytes);
    }

    /// They went.
    pub(crate) fn left(&self, bytes: usize) {
        self.leaving.set(self.leaving.get().saturating_sub(bytes));
    }

    /// Whether more is kept than a quiet worker needs.
    pub(crate) fn has_spare(&self) -> bool {
        self.bytes() > KEPT_BYTES
    }

    /// Gives up all that is kept: memory is short.
    pub(crate) fn give_up(&self) {
        self.large.clear();
        self.stashes.clear();
        self.buffers.clear();
        self.ready.clear();
        self.batches.clear();
    }

    /// Gives up what was not needed since the last call, the largest things first.
    pub(crate) fn trim(&self) {
        let mut surplus = self.bytes().saturating_sub(KEPT_BYTES);
        self.large.trim(&mut surplus);
        self.stashes.trim(&mut surplus);
        self.buffers.trim(&mut surplus);
        self.ready.trim(&mut surplus);
        self.batches.trim(&mut surplus);
    }
}

/// Bytes of history that are part of the sum for as long as it is there.
#[cfg(feature = "deflate")]
#[derive(Debug)]
pub(crate) struct HistoryCount {
    bytes: usize,
    sum: Rc<Cell<usize>>,
}

#[cfg(feature = "deflate")]
impl HistoryCount {
    pub(crate) fn set(&mut self, bytes: usize) {
        self.sum.set(self.sum.get() + bytes - self.bytes);
        self.bytes = bytes;
    }
}

#[cfg(feature = "deflate")]
impl Drop for HistoryCount {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Item for Vec<u8> {
    fn bytes(&self) -> usize {
        self.capacity()
    }
}

impl Item for Rc<Vec<u8>> {
    fn bytes(&self) -> usize {
        size_of::<Vec<u8>>() + self.capacity()
    }
}

impl Item for Box<SendBatch> {
    fn bytes(&self) -> usize {
        self.own_bytes()
    }
}

/// Size of a pooled buffer: room for many small frames, and not much for a lone one.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;
/// Buffers that are kept, by themselves and in queues: 4 MiB for each worker at the most.
const BUFFERS_KEPT_BYTES: usize = 256 * BUFFER_BYTES;
/// Large buffers that are kept for each worker: by bytes, so that there is one for each of a
/// hundred connections that echo 100 kB, as there is for each of a few that echo more.
const LARGE_KEPT_BYTES: usize = 16 * 1024 * 1024;
const LARGE_BYTES_MIN: usize = BUFFER_BYTES + 1;
const LARGE_BYTES_MAX: usize = 2 * 1024 * 1024;
const BATCHES_MAX: usize = 1024;
/// Stashes are as large as the frames that were cut; so many bytes are kept for each worker.
const STASHES_KEPT_BYTES: usize = 32 * 1024 * 1024;
const STASH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A stash of this size is never too large for what is in it.
const STASH_BYTES_MIN: usize = 4 * 1024;
/// What stashes in use may take before those that are mostly empty are cut.
const STASHED_SLACK_MAX: usize = 8 * 1024 * 1024;
/// A queue that grew longer than this is not kept: some hundred payloads by reference.
const BATCH_SEGMENTS_MAX: usize = 256;
/// Payloads that are let go of together without memory being taken for it.
const DISCARDED_KEPT: usize = 1024;
/// What a worker keeps for ever: enough for a few connections that come and go.
const KEPT_BYTES: usize = 8 * BUFFER_BYTES;

#[cfg(test)]
mod tests;
