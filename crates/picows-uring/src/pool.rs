//! Memory that goes from connection to connection, so that none owns any while it is idle.
//!
//! One pool for each worker; no locks.

use crate::ring::SendBatch;
use std::cell::RefCell;

/// Buffers and queues that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    buffers: RefCell<Vec<Vec<u8>>>,
    #[expect(clippy::vec_box, reason = "the box is what is passed around; the pool only holds it")]
    batches: RefCell<Vec<Box<SendBatch>>>,
    stashes: RefCell<Vec<Vec<u8>>>,
}

impl Pool {
    /// An empty buffer with room for at least `len` bytes.
    pub(crate) fn buffer(&self, len: usize) -> Vec<u8> {
        if len > BUFFER_BYTES {
            return Vec::with_capacity(len);
        }
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back, if it is of the size that is kept.
    pub(crate) fn put_buffer(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffer.capacity() == BUFFER_BYTES && buffers.len() < BUFFERS_MAX {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// An empty buffer for a frame that is received in pieces; of any capacity, also none.
    pub(crate) fn stash(&self) -> Vec<u8> {
        self.stashes.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes such a buffer back, if it is not too large to be kept.
    pub(crate) fn put_stash(&self, mut stash: Vec<u8>) {
        let mut stashes = self.stashes.borrow_mut();
        if stash.capacity() <= STASH_BYTES_MAX && stashes.len() < STASHES_MAX {
            stash.clear();
            stashes.push(stash);
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
        pool.put_buffer(Vec::with_capacity(BUFFER_BYTES + 1));
        pool.put_buffer(Vec::new());
        let again = pool.buffer(BUFFER_BYTES);
        assert!(again.is_empty() && again.as_ptr() == address);
        assert_eq!(pool.buffers.borrow().len(), 0);
        assert!(pool.buffer(BUFFER_BYTES + 1).capacity() > BUFFER_BYTES);
    }
}
