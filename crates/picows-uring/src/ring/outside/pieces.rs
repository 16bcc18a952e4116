//! Memory of what streams have received: filled by carriers, read by the worker, used again.

use super::{RecvBuffer, STREAM_ID};

/// Bytes that a carrier has received.
pub(super) struct Piece {
    /// Longer than what is in it, where it is to be used again.
    memory: Vec<u8>,
    len: usize,
}

impl Piece {
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Memory that carriers fill, and that was read.
#[derive(Default)]
pub(crate) struct Spare {
    scratch: Vec<u8>,
    read: Vec<Vec<u8>>,
}

impl Spare {
    /// The memory that is filled next.
    pub(super) fn scratch(&mut self) -> (*mut u8, usize) {
        if self.scratch.is_empty() {
            self.scratch = self.read.pop().unwrap_or_else(|| vec![0; SCRATCH_BYTES]);
        }
        (self.scratch.as_mut_ptr(), self.scratch.len())
    }

    /// What was filled: copied if it is short, so that the rest can be filled next.
    pub(super) fn cut(&mut self, count: usize) -> Piece {
        let len = count.min(self.scratch.len());
        if len <= COPY_BYTES_MAX {
            return Piece { memory: self.scratch[..len].to_vec(), len };
        }
        Piece { memory: std::mem::take(&mut self.scratch), len }
    }

    fn put(&mut self, memory: Vec<u8>) {
        if memory.len() == SCRATCH_BYTES && self.read.len() < READ_MAX {
            self.read.push(memory);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.read = Vec::new();
    }
}

/// The pieces that the worker has, by the numbers of their buffers.
#[derive(Default)]
pub(super) struct Pieces {
    given: Vec<Option<Piece>>,
    free: Vec<u16>,
}

impl Pieces {
    /// Gives a piece to the worker; `None` where it has as many as there are numbers.
    pub(super) fn give(&mut self, piece: Piece) -> Result<RecvBuffer, Piece> {
        let len = piece.len as u32;
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.given.len() < usize::from(STREAM_ID) => {
                self.given.push(None);
                (self.given.len() - 1) as u16
            }
            None => return Err(piece),
        };
        self.given[usize::from(index)] = Some(piece);
        Ok(RecvBuffer { id: STREAM_ID | index, offset: 0, len, is_kept: false, is_stamped: false })
    }

    pub(super) fn bytes(&mut self, buffer: &RecvBuffer) -> &mut [u8] {
        let piece =
            self.given.get_mut(usize::from(buffer.id & !STREAM_ID)).and_then(Option::as_mut);
        debug_assert!(piece.is_some(), "a piece that was released: {buffer:?}");
        piece.map_or(&mut [], |piece| &mut piece.memory[..piece.len])
    }

    pub(super) fn release(&mut self, buffer: &RecvBuffer, spare: &mut Spare) {
        let index = buffer.id & !STREAM_ID;
        if let Some(piece) = self.given.get_mut(usize::from(index)).and_then(Option::take) {
            self.free.push(index);
            spare.put(piece.memory);
        }
    }
}

const SCRATCH_BYTES: usize = 64 * 1024;
/// Less is not worth its memory.
const COPY_BYTES_MAX: usize = 4096;
/// A megabyte for a worker.
const READ_MAX: usize = 16;
