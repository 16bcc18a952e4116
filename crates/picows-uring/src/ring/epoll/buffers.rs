//! Receive buffers for calls on sockets, of both drivers: memory that pieces are cut from.
//!
//! What is received lies one piece behind the other, and a buffer begins anew as soon as all of its
//! pieces were released. So the bytes of a turn take as much memory as they are long, and a quiet
//! worker uses the beginning of one buffer again and again, which stays in cache. The number grows
//! while pieces are kept or lent, up to the limit of the other driver, and shrinks again.

use crate::ring::loan::RecvMemory;
use crate::ring::{Loan, RecvBuffer};
use std::rc::Rc;

/// The buffers of one worker.
#[derive(Debug, Default)]
pub(in crate::ring) struct Buffers {
    /// By id; `None` for ids that are free.
    buffers: Vec<Option<Buffer>>,
    /// The id of the buffer that pieces are cut from.
    current: usize,
    /// How many there are.
    count: usize,
    /// The most that were in use at once since the last trim.
    used_max: usize,
    /// Those of which a piece is kept beyond its turn.
    kept: usize,
}

#[derive(Debug)]
struct Buffer {
    memory: Rc<RecvMemory>,
    /// Bytes behind which the next piece begins.
    filled: u32,
    /// Pieces that were not released.
    lent: u32,
    /// Those of them that are kept beyond their turn.
    kept: u32,
}

impl Buffer {
    /// Whether nothing in it is needed any more.
    fn is_unused(&self) -> bool {
        self.lent == 0 && !self.memory.is_lent()
    }
}

impl Buffers {
    /// Memory for a piece of at most `max` bytes, or of less; `None` where all buffers are in use.
    /// Its bytes are of no meaning before [`cut`](Self::cut).
    pub(in crate::ring) fn space(&mut self, max: usize) -> Option<&mut [u8]> {
        if !self.has_space(self.current) {
            self.current = self.find_space()?;
        }
        let buffer = self.buffers[self.current].as_mut()?;
        if buffer.is_unused() {
            buffer.filled = 0;
        }
        let start = buffer.filled as usize;
        let len = max.min(BUFFER_BYTES - start);
        let address = buffer.memory.address();
        // SAFETY: the range lies in the memory, which is initialised, behind all pieces that were cut
        // and not released, so no piece and no loan of one covers it; the borrow of `self` keeps
        // others from being cut meanwhile.
        #[expect(unsafe_code)]
        let bytes = unsafe { std::slice::from_raw_parts_mut(address.add(start), len) };
        Some(bytes)
    }

    /// Cuts the piece off that consists of the first `len` bytes of the last [`space`](Self::space).
    pub(in crate::ring) fn cut(&mut self, len: usize) -> Option<RecvBuffer> {
        let buffer = self.buffers.get_mut(self.current)?.as_mut()?;
        let offset = buffer.filled;
        debug_assert!(offset as usize + len <= BUFFER_BYTES, "no more than there was space for");
        buffer.filled += len as u32;
        buffer.lent += 1;
        Some(RecvBuffer {
            id: self.current as u16,
            offset,
            len: len as u32,
            is_kept: false,
            is_stamped: false,
        })
    }

    /// The bytes of a piece.
    pub(in crate::ring) fn bytes(&mut self, piece: &RecvBuffer) -> &mut [u8] {
        let buffer = self.buffers[usize::from(piece.id)].as_ref().expect("a piece of it is lent");
        // SAFETY: made by `cut`, the piece lies inside the memory, and no other piece covers it before
        // it is released, which the borrow of `self` prevents. Loans of it are read by the kernel, and
        // by senders, who borrow the ring.
        #[expect(unsafe_code)]
        unsafe {
            let start = buffer.memory.address().add(piece.offset as usize);
            std::slice::from_raw_parts_mut(start, piece.len as usize)
        }
    }

    /// Gives a piece back.
    #[expect(clippy::needless_pass_by_value, reason = "it is used up")]
    pub(in crate::ring) fn release(&mut self, piece: RecvBuffer) {
        let buffer = self.buffers[usize::from(piece.id)].as_mut().expect("a piece of it is lent");
        debug_assert!(buffer.lent > 0, "released once");
        buffer.lent -= 1;
        if piece.is_kept {
            buffer.kept -= 1;
            self.kept -= usize::from(buffer.kept == 0);
        }
        if buffer.is_unused() {
            buffer.filled = 0;
        }
    }

    /// Keeps a piece beyond its turn, if half of the buffers are left for the others or
    /// it `must` be kept.
    pub(in crate::ring) fn keep(&mut self, piece: &mut RecvBuffer, must: bool) -> bool {
        if piece.is_kept {
            return true;
        }
        let Some(buffer) = &mut self.buffers[usize::from(piece.id)] else { return false };
        if buffer.kept == 0 {
            if !must && 2 * (self.kept + 1) > self.count.max(COUNT_MIN) {
                return false;
            }
            self.kept += 1;
        }
        buffer.kept += 1;
        piece.is_kept = true;
        true
    }

    /// Lends the bytes of a piece, unless many buffers wait for loans already: sends that do not get
    /// ahead must not take all there are.
    #[inline]
    pub(in crate::ring) fn lend(&self, piece: &RecvBuffer) -> Option<Loan> {
        if piece.len() < LOAN_BYTES_MIN { None } else { self.lend_long(piece) }
    }

    #[inline(never)]
    fn lend_long(&self, piece: &RecvBuffer) -> Option<Loan> {
        let waiting = self.buffers.iter().flatten();
        if waiting.filter(|it| it.lent == 0 && it.memory.is_lent()).count() >= LENT_OUT_MAX {
            return None;
        }
        let buffer = self.buffers[usize::from(piece.id)].as_ref()?;
        buffer.memory.lend(piece.offset as usize, piece.len as usize)
    }

    /// How many receives may be begun that have room.
    pub(in crate::ring) fn room(&self) -> usize {
        let open = (0..self.buffers.len()).filter(|id| self.has_space(*id)).count();
        (open + COUNT_MAX - self.count) * RECEIVES_PER_BUFFER
    }

    /// How many there are.
    pub(in crate::ring) fn count(&self) -> usize {
        self.count
    }

    /// Whether there are more than a quiet worker needs, of which some can go.
    pub(in crate::ring) fn has_spare(&self) -> bool {
        self.count > 1 && self.buffers.iter().flatten().any(Buffer::is_unused)
    }

    /// Frees buffers that were not needed since the last call.
    pub(in crate::ring) fn trim(&mut self) {
        let used = self.buffers.iter().flatten().filter(|buffer| !buffer.is_unused()).count();
        let wanted = self.used_max.max(used).max(1);
        for buffer in self.buffers.iter_mut().rev() {
            if self.count > wanted && buffer.as_ref().is_some_and(Buffer::is_unused) {
                *buffer = None;
                self.count -= 1;
            }
        }
        self.used_max = used;
    }

    fn has_space(&self, id: usize) -> bool {
        let Some(Some(buffer)) = self.buffers.get(id) else { return false };
        buffer.is_unused() || BUFFER_BYTES - buffer.filled as usize >= PIECE_BYTES_MIN
    }

    /// A buffer with space: the first, so that the others can go; or a new one.
    fn find_space(&mut self) -> Option<usize> {
        let found = (0..self.buffers.len()).find(|id| self.has_space(*id));
        let id = match found {
            Some(id) => id,
            None => self.add()?,
        };
        let used = self.buffers.iter().flatten().filter(|buffer| !buffer.is_unused()).count();
        self.used_max = self.used_max.max(used + 1);
        Some(id)
    }

    fn add(&mut self) -> Option<usize> {
        if self.count == COUNT_MAX {
            return None;
        }
        let memory = RecvMemory::new(BUFFER_BYTES, LOAN_BYTES_MIN);
        let buffer = Some(Buffer { memory, filled: 0, lent: 0, kept: 0 });
        self.count += 1;
        if let Some(id) = self.buffers.iter().position(Option::is_none) {
            self.buffers[id] = buffer;
            return Some(id);
        }
        self.buffers.push(buffer);
        Some(self.buffers.len() - 1)
    }
}

/// Large, so that a frame is rarely cut.
pub(in crate::ring) const BUFFER_BYTES: usize = 256 * 1024;
/// One is kept of so few.
const COUNT_MIN: usize = 2;
/// Together 16 MiB, as of the other driver.
const COUNT_MAX: usize = 64;
/// Less would cut frames that need not be: what is behind the last piece stays unused.
const PIECE_BYTES_MIN: usize = 64 * 1024;
/// What a receive takes at the least, if as much is there: so many fit into a buffer.
const RECEIVES_PER_BUFFER: usize = BUFFER_BYTES / PIECE_BYTES_MIN;
/// Shorter runs are copied.
const LOAN_BYTES_MIN: usize = 4096;
/// Buffers of which nothing but loans is left.
const LENT_OUT_MAX: usize = 8;
