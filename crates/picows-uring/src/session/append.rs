//! Frames on their way to the end of the queue, at the point of no return: encoded, and compressed where
//! that was agreed on.
//!
//! Which frames those are is decided in `queue.rs`.

use super::Session;
use super::conflation::Droppable;
use super::payload::{Copied, Payload};
use picows_uring_proto::{FRAME_HEADER_BYTES_MAX, FrameHead};

impl Session {
    /// Appends a frame to the queue, compressed where that was agreed on. `false` if there is no
    /// memory for that.
    pub(super) fn append_frame<P: Payload>(&self, head: FrameHead, payload: P) -> bool {
        #[cfg(feature = "deflate")]
        {
            let prepared = payload.prepared();
            if prepared.is_some_and(|it| self.append_prepared(&mut self.open_queue(), it)) {
                return true;
            }
            match self.append_compressed(&mut self.open_queue(), head, payload.bytes()) {
                Ok(false) => {}
                Ok(true) => return true,
                Err(_) => return false,
            }
        }
        payload.append(head, &mut self.open_queue(), &self.local.pool, self.mask_key());
        true
    }

    /// Moves all droppable frames to the end of the queue.
    pub(super) fn commit_all(&self) {
        if let Some(mut droppable) = self.droppable.take() {
            self.commit(&mut droppable, usize::MAX);
            self.set_droppable(None);
        }
    }

    /// Moves about `max` bytes of droppable frames to the end of the queue.
    pub(super) fn commit(&self, droppable: &mut Droppable, max: usize) {
        let mut is_fine = true;
        let pool = &self.local.pool;
        droppable.move_to(&mut self.open_queue(), max, pool, |queue, head, payload, prepared| {
            is_fine &= pool.has_room(FRAME_HEADER_BYTES_MAX + payload.len());
            if !is_fine {
                return;
            }
            #[cfg(feature = "deflate")]
            if prepared.is_some_and(|it| self.append_prepared(queue, it)) {
                return;
            }
            #[cfg(feature = "deflate")]
            match self.append_compressed(queue, head, payload) {
                Ok(false) => {}
                Ok(true) => return,
                Err(_) => return is_fine = false,
            }
            let _ = prepared;
            Copied(payload).append(head, queue, pool, self.mask_key());
        });
        if !is_fine {
            self.out_of_memory();
        }
    }
}
