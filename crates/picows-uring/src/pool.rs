//! Memory that goes from connection to connection, so that none owns any while it is idle.
//!
//! One pool for each worker; no locks.

use crate::ring::SendBatch;
use std::cell::{Cell, RefCell};

/// Buffers and queues that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: RefCell<Vec<Vec<u8>>>,
    large: Kept,
    #[expect(clippy::vec_box, reason = "the box is what is passed around; the pool only holds it")]
    batches: RefCell<Vec<Box<SendBatch>>>,
    stashes: Kept,
}

/// Buffers of any size, as many as fit into a number of bytes.
#[derive(Debug, Default)]
struct Kept {
    buffers: RefCell<Vec<Vec<u8>>>,
    bytes: Cell<usize>,
}

impl Kept {
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        let mut buffers = self.buffers.borrow_mut();
        let index = buffers.iter().rposition(|buffer| buffer.capacity() >= len)?;
        let buffer = buffers.swap_remove(index);
        self.bytes.set(self.bytes.get() - buffer.capacity());
        Some(buffer)
    }

    fn put(&self, mut buffer: Vec<u8>, bytes_max: usize) {
        let bytes = self.bytes.get() + buffer.capacity();
        let mut buffers = self.buffers.borrow_mut();
        if bytes <= bytes_max && buffers.len() < KEPT_MAX {
            buffer.clear();
            buffers.push(buffer);
            self.bytes.set(bytes);
        }
    }
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
        match self.large.take(len) {
            Some(buffer) => buffer,
            None if len <= LARGE_BYTES_MAX => Vec::with_capacity(len.next_power_of_two()),
            None => Vec::with_capacity(len),
        }
    }

    /// Takes a buffer back, if it is of a size that is kept.
    pub(crate) fn put_buffer(&self, mut buffer: Vec<u8>) {
        match buffer.capacity() {
            BUFFER_BYTES => {
                let mut buffers = self.buffers.borrow_mut();
                if buffers.len() < BUFFERS_MAX {
                    buffer.clear();
                    buffers.push(buffer);
                }
            }
            LARGE_BYTES_MIN..=LARGE_BYTES_MAX => self.large.put(buffer, LARGE_KEPT_BYTES),
            _ => {}
        }
    }

    /// An empty buffer for a frame that is received in pieces; of any capacity, also none.
    pub(crate) fn stash(&self) -> Vec<u8> {
        self.stashes.take(0).unwrap_or_default()
    }

    /// Takes such a buffer back, if it is not too large to be kept.
    pub(crate) fn put_stash(&self, stash: Vec<u8>) {
        if stash.capacity() <= STASH_BYTES_MAX {
            self.stashes.put(stash, STASHES_KEPT_BYTES);
        }
    }

    /// An empty queue.
    pub(crate) fn batch(&self) -> Box<SendBatch> {
        self.batches.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a queue back, whatever is in it.
    pub(crate) fn put_batch(&self, mut batch: Box<SendBatch>) {
        batch.clear(|buffer| self.put_buffer(buffer));
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
/// Large buffers that are kept for each worker: by bytes, so that there is one for each of a
/// hundred connections that echo 100 kB, as there is for each of a few that echo more.
const LARGE_KEPT_BYTES: usize = 16 * 1024 * 1024;
const LARGE_BYTES_MIN: usize = BUFFER_BYTES + 1;
const LARGE_BYTES_MAX: usize = 2 * 1024 * 1024;
const BATCHES_MAX: usize = 1024;
/// Stashes are as large as the frames that were cut; so many bytes are kept for each worker.
const STASHES_KEPT_BYTES: usize = 8 * 1024 * 1024;
const STASH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bounds the search for one that is large enough.
const KEPT_MAX: usize = 256;
/// A queue that grew longer than this is not kept: 8 KiB, or some hundred payloads by reference.
const BATCH_SEGMENTS_MAX: usize = 256;

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
        assert_eq!(pool.large.buffers.borrow().len(), 0);
        assert!(pool.buffer(BUFFER_BYTES + 1).capacity() > BUFFER_BYTES);
    }

    #[test]
    fn what_is_kept_is_bounded_by_its_bytes() {
        let pool = Pool::default();
        for round in 0..2 {
            let held: Vec<_> = (0..200).map(|_| pool.buffer(100_000)).collect();
            let kept = pool.large.bytes.get();
            assert_eq!(kept, 0, "all that was kept is in use again, round {round}");
            held.into_iter().for_each(|buffer| pool.put_buffer(buffer));
            let buffers = pool.large.buffers.borrow();
            let bytes: usize = buffers.iter().map(Vec::capacity).sum();
            assert_eq!((bytes, bytes), (pool.large.bytes.get(), LARGE_KEPT_BYTES));
        }
        for _ in 0..2000 {
            pool.put_stash(Vec::with_capacity(1024));
        }
        assert_eq!(pool.stashes.buffers.borrow().len(), KEPT_MAX);
    }
}
