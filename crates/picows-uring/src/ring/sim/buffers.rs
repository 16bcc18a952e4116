//! The receive buffers of the simulated kernel, each with an owner.
//!
//! A buffer that is given back is overwritten: whoever still reads it finds rubbish.

use super::RecvBuffer;
use super::random::Random;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Buffers {
    memory: Vec<Vec<u8>>,
    owners: Vec<Owner>,
    buffer_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Kernel,
    /// It is in a completion that has not been taken.
    Queue,
    Caller,
}

impl Buffers {
    pub(super) fn new(count: usize, buffer_bytes: usize) -> Self {
        Self {
            memory: vec![vec![RUBBISH; buffer_bytes]; count],
            owners: vec![Owner::Kernel; count],
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
        let count = self.owners.len();
        let first = random.below(count);
        let id = (first..first + count)
            .map(|index| index % count)
            .find(|id| self.owners[*id] == Owner::Kernel)?;
        let len = max.min(source.len()).min(self.buffer_bytes);
        let offset = random.below(self.buffer_bytes - len + 1);
        for (to, byte) in self.memory[id][offset..].iter_mut().zip(source.drain(..len)) {
            *to = byte;
        }
        self.owners[id] = Owner::Queue;
        Some(RecvBuffer { id: id as u16, offset: offset as u32, len: len as u32 })
    }

    /// The completion that names the buffer has been taken.
    pub(super) fn lend(&mut self, buffer: &RecvBuffer) {
        self.owners[usize::from(buffer.id)] = Owner::Caller;
    }

    /// `None` when the buffer is not the caller's.
    pub(super) fn bytes(&mut self, buffer: &RecvBuffer) -> Option<&mut [u8]> {
        let id = usize::from(buffer.id);
        let start = buffer.offset as usize;
        (self.owners[id] == Owner::Caller)
            .then(|| &mut self.memory[id][start..start + buffer.len as usize])
    }

    /// `false` when the buffer is not the caller's.
    pub(super) fn release(&mut self, buffer: &RecvBuffer) -> bool {
        let id = usize::from(buffer.id);
        self.memory[id].fill(RUBBISH);
        std::mem::replace(&mut self.owners[id], Owner::Kernel) == Owner::Caller
    }

    /// How many the caller has.
    pub(super) fn lent(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == Owner::Caller).count()
    }

    pub(super) fn are_all_free(&self) -> bool {
        self.owners.iter().all(|owner| *owner == Owner::Kernel)
    }
}

const RUBBISH: u8 = 0xDD;
