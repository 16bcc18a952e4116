//! The receive buffers of the simulated kernel, each with an owner.
//!
//! A buffer that is given back is overwritten: a late reader finds rubbish.

use super::random::Random;
use crate::ring::{Loan, RecvBuffer, RecvMemory};
use std::collections::VecDeque;
use std::rc::Rc;

#[derive(Debug)]
pub(super) struct Buffers {
    memory: Vec<Rc<RecvMemory>>,
    owners: Vec<Owner>,
    /// Those of the caller that it keeps beyond a turn.
    kept: usize,
    buffer_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Kernel,
    /// It is in a completion that has not been taken.
    Queue,
    Caller,
    /// It was given back, and loans of it are left.
    Borrowers,
}

impl Buffers {
    pub(super) fn new(count: usize, buffer_bytes: usize) -> Self {
        let page_bytes = buffer_bytes.next_multiple_of(4096);
        Self {
            memory: (0..count).map(|_| RecvMemory::new(page_bytes, LOAN_BYTES_MIN)).collect(),
            owners: vec![Owner::Kernel; count],
            kept: 0,
            buffer_bytes,
        }
    }

    /// Moves up to `max` bytes from the front of `source` into a free buffer, if there is one.
    pub(super) fn fill(
        &mut self,
        random: &mut Random,
        source: &mut VecDeque<u8>,
        max: usize,
    ) -> Option<RecvBuffer> {
        self.reclaim();
        let count = self.owners.len();
        let first = random.below(count);
        let id = (first..first + count)
            .map(|index| index % count)
            .find(|id| self.owners[*id] == Owner::Kernel)?;
        let len = max.min(source.len()).min(self.buffer_bytes);
        let offset = random.below(self.buffer_bytes - len + 1);
        let part = self.part(id, offset, len);
        for (to, byte) in part.iter_mut().zip(source.drain(..len)) {
            *to = byte;
        }
        self.owners[id] = Owner::Queue;
        Some(RecvBuffer::new(id as u16, offset as u32, len as u32))
    }

    /// The completion that names the buffer has been taken.
    pub(super) fn hand_over(&mut self, buffer: &RecvBuffer) {
        self.owners[usize::from(buffer.id())] = Owner::Caller;
    }

    /// `None` when the buffer is not the caller's.
    pub(super) fn bytes(&mut self, buffer: &RecvBuffer) -> Option<&mut [u8]> {
        let id = usize::from(buffer.id());
        (self.owners[id] == Owner::Caller)
            .then(|| self.part(id, buffer.offset() as usize, buffer.len()))
    }

    /// Lends what is in a buffer of the caller.
    pub(super) fn lend(&mut self, buffer: &RecvBuffer) -> Option<Loan> {
        let id = usize::from(buffer.id());
        let is_callers = self.owners[id] == Owner::Caller;
        let (offset, len) = (buffer.offset() as usize, buffer.len());
        is_callers.then(|| self.memory[id].lend(offset, len))?
    }

    /// The caller gives a buffer back.
    pub(super) fn release(&mut self, buffer: &RecvBuffer) {
        self.kept -= usize::from(buffer.is_kept());
        self.owners[usize::from(buffer.id())] = Owner::Borrowers;
        self.reclaim();
    }

    /// Takes back what was given back and is not lent any more, and leaves rubbish in it.
    fn reclaim(&mut self) {
        for id in 0..self.owners.len() {
            if self.owners[id] == Owner::Borrowers && !self.memory[id].is_lent() {
                self.owners[id] = Owner::Kernel;
                self.part(id, 0, self.buffer_bytes).fill(RUBBISH);
            }
        }
    }

    fn part(&mut self, id: usize, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset + len <= self.buffer_bytes, "inside the buffer");
        // SAFETY: the memory is as long, and belongs to these buffers, which are borrowed. Loans of
        // it are read while the ring is not, and end before the kernel has it again.
        #[expect(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.memory[id].address().add(offset), len)
        }
    }

    /// Lets the caller keep a buffer, if half of them are left or it `must`.
    pub(super) fn keep(&mut self, buffer: &mut RecvBuffer, must: bool) -> bool {
        if !buffer.is_kept() && (must || 2 * (self.kept + 1) <= self.owners.len()) {
            buffer.mark_kept();
            self.kept += 1;
        }
        buffer.is_kept()
    }

    /// How many the kernel has.
    pub(super) fn free(&mut self) -> usize {
        self.reclaim();
        self.owners.iter().filter(|owner| **owner == Owner::Kernel).count()
    }

    pub(super) fn are_all_free(&mut self) -> bool {
        self.reclaim();
        self.owners.iter().all(|owner| *owner == Owner::Kernel)
    }
}

const RUBBISH: u8 = 0xDD;
/// Short ones too, so that many frames are sent on from where they lie.
const LOAN_BYTES_MIN: usize = 1;
