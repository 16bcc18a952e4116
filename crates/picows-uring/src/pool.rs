//! Memory that goes from connection to connection, so that none owns any while it is idle.
//!
//! One pool for each worker; no locks.

use crate::ring::{Segment, SendBatch};
use picows_uring_proto::Stash;
use std::cell::RefCell;
use std::rc::Rc;

/// Buffers and queues that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
    #[expect(clippy::vec_box, reason = "the box is what is passed around; the pool only holds it")]
    batches: RefCell<Vec<Box<SendBatch>>>,
    stashes: RefCell<Vec<Rc<Vec<u8>>>>,
}

impl Pool {
    /// An empty buffer with room for at least `len` bytes.
    pub(crate) fn buffer(&self, len: usize) -> Vec<u8> {
        if len > BUFFER_BYTES {
            return self.large_buffer(len);
        }
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// A buffer for a large frame. Without the pool, the memory would go back to the system and
    /// come again page by page with each frame: half of the cost of an echo of 100 kB.
    fn large_buffer(&self, len: usize) -> Vec<u8> {
        let mut large = self.large.borrow_mut();
        match large.iter().rposition(|buffer| buffer.capacity() >= len) {
            Some(index) => large.swap_remove(index),
            None if len <= LARGE_BYTES_MAX => Vec::with_capacity(len.next_power_of_two()),
            None => Vec::with_capacity(len),
        }
    }

    /// Takes a buffer back, if it is of a size that is kept.
    pub(crate) fn put_buffer(&self, mut buffer: Vec<u8>) {
        let (pool, count_max) = match buffer.capacity() {
            BUFFER_BYTES => (&self.buffers, BUFFERS_MAX),
            LARGE_BYTES_MIN..=LARGE_BYTES_MAX => (&self.large, LARGE_MAX),
            _ => return,
        };
        let mut buffers = pool.borrow_mut();
        if buffers.len() < count_max {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// An empty buffer for a frame that is received in pieces; of any capacity, also none.
    pub(crate) fn stash(&self) -> Stash {
        self.stashes.borrow_mut().pop().map_or(Stash::new(), Stash::with_memory)
    }

    /// Takes such a buffer back, if nobody else holds it.
    pub(crate) fn put_stash(&self, stash: Stash) {
        if let Some(memory) = stash.into_memory() {
            self.put_memory(memory);
        }
    }

    /// Takes the memory of a frame back, unless it is in use or too large to be kept.
    fn put_memory(&self, memory: Rc<Vec<u8>>) {
        let mut stashes = self.stashes.borrow_mut();
        let is_free = Rc::strong_count(&memory) == 1;
        if is_free && memory.capacity() <= STASH_BYTES_MAX && stashes.len() < STASHES_MAX {
            stashes.push(memory);
        }
    }

    /// Takes the memory of a segment that was sent.
    pub(crate) fn put_segment(&self, segment: Segment) {
        match segment {
            Segment::Owned { bytes, .. } => self.put_buffer(bytes),
            Segment::Received { memory, .. } => self.put_memory(memory),
            Segment::Shared(_) => {}
        }
    }

    /// An empty queue.
    pub(crate) fn batch(&self) -> Box<SendBatch> {
        self.batches.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a queue back, whatever is in it.
    pub(crate) fn put_batch(&self, mut batch: Box<SendBatch>) {
        batch.clear(|segment| self.put_segment(segment));
        let mut batches = self.batches.borrow_mut();
        if batch.segment_capacity() <= BATCH_SEGMENTS_MAX && batches.len() < BATCHES_MAX {
            batches.push(batch);
        }
    }
}

/// Size of a pooled buffer: room for many small frames, and not much for a lone one.
const BUFFER_BYTES: usize = 16 * 1024;
/// Buffers that are kept: 4 MiB for each worker at the most.
const BUFFERS_MAX: usize = 256;
/// Large buffers that are kept: 16 MiB for each worker at the most.
const LARGE_MAX: usize = 8;
const LARGE_BYTES_MIN: usize = BUFFER_BYTES + 1;
const LARGE_BYTES_MAX: usize = 2 * 1024 * 1024;
const BATCHES_MAX: usize = 1024;
/// Stashes are as large as the frames that were cut: at most 8 MiB are kept for each worker.
const STASHES_MAX: usize = 4;
const STASH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A queue that grew longer than this is not kept.
const BATCH_SEGMENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_odd_ones_do_not() {
        let pool = Pool::default();
        let mut buffer = pool.buffer(1);
        buffer.push(1);
        let address = buffer.as_ptr();
        pool.put_buffer(buffer);
        pool.put_buffer(Vec::new());
        let again = pool.buffer(BUFFER_BYTES);
        assert!(again.is_empty() && again.as_ptr() == address);
        assert_eq!(pool.buffers.borrow().len(), 0);
    }

    #[test]
    fn large_buffers_are_used_again_if_they_are_large_enough() {
        let pool = Pool::default();
        let buffer = pool.buffer(100_000);
        let address = buffer.as_ptr();
        pool.put_buffer(buffer);
        let larger = pool.buffer(200_000);
        assert_ne!(larger.as_ptr(), address);
        let again = pool.buffer(90_000);
        assert_eq!(again.as_ptr(), address);
        pool.put_buffer(Vec::with_capacity(LARGE_BYTES_MAX + 1));
        assert_eq!(pool.large.borrow().len(), 0);
        assert!(pool.buffer(BUFFER_BYTES + 1).capacity() > BUFFER_BYTES);
    }
}
