//! Received bytes that are lent to a send.
//!
//! A receive buffer goes back to the kernel when all of it was handled and no loan of it is left;
//! a loan may outlive the frame, the connection and the ring.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::rc::Rc;

/// The memory of a receive buffer, which a kernel fills piece by piece.
#[derive(Debug)]
pub(crate) struct RecvMemory {
    bytes: NonNull<u8>,
    layout: Layout,
    /// Shorter runs of bytes are not worth a loan.
    loan_min: usize,
}

impl RecvMemory {
    /// `len` zeroed bytes, which is a multiple of the page size and not 0.
    pub(crate) fn new(len: usize, loan_min: usize) -> Rc<Self> {
        let layout = Layout::from_size_align(len, PAGE_BYTES).expect("a few pages");
        debug_assert!(len > 0 && len.is_multiple_of(PAGE_BYTES));
        // SAFETY: the layout has a size.
        #[expect(unsafe_code)]
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(bytes) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Rc::new(Self { bytes, layout, loan_min })
    }

    /// Its first byte. A writer sees to it that no reader can reach what it writes.
    pub(crate) fn address(&self) -> *mut u8 {
        self.bytes.as_ptr()
    }

    /// Lends `len` bytes from `start` on, if that is worth it.
    ///
    /// Until the loan ends, the owner neither writes there nor has a kernel do so, except for what
    /// is done to the bytes before the call to [`Loan::part`] that names them.
    pub(crate) fn lend(self: &Rc<Self>, start: usize, len: usize) -> Option<Loan> {
        debug_assert!(start + len <= self.layout.size(), "inside the buffer");
        (len >= self.loan_min).then(|| Loan { memory: Rc::clone(self), start, len })
    }

    /// Bytes in it.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// Gives the pages back to the system, which are zeros when they are used next; unless a loan is
    /// left. The caller knows that no kernel is writing there, and that nothing is in it.
    pub(crate) fn discard(self: &Rc<Self>) {
        if !self.is_lent() {
            self.discard_pages();
        }
    }

    /// As [`discard`](Self::discard), where the caller knows that there is no loan, either.
    fn discard_pages(&self) {
        let (start, len) = (self.bytes.as_ptr(), self.layout.size());
        // Pages that are not private, or locked, stay as they are, which costs nothing but memory.
        // SAFETY: the range is whole pages of this allocation only, or nothing is done. Its bytes
        // become zeros at the most, and are not read, as there is neither a loan nor a piece.
        #[expect(unsafe_code)]
        unsafe {
            let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(usize::MAX);
            if start.addr().is_multiple_of(page) && len.is_multiple_of(page) {
                libc::madvise(start.cast(), len, libc::MADV_DONTNEED);
            }
        }
    }

    /// Whether a loan is left.
    pub(crate) fn is_lent(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }
}

impl Drop for RecvMemory {
    fn drop(&mut self) {
        // An allocator keeps what lies between blocks that are in use, with its pages.
        self.discard_pages();
        // SAFETY: allocated in `new` with this layout. The kernel has nothing in flight that could
        // write to it, or the ring would have leaked it.
        #[expect(unsafe_code)]
        unsafe {
            dealloc(self.bytes.as_ptr(), self.layout);
        }
    }
}

/// A run of bytes in a receive buffer, kept from being overwritten.
#[derive(Debug)]
pub(crate) struct Loan {
    memory: Rc<RecvMemory>,
    start: usize,
    len: usize,
}

impl Loan {
    /// A loan of `bytes`, if they lie in this one and are worth it.
    ///
    /// They are final: the owner of the run that this one was made for changes only what is behind
    /// them, from here on.
    pub(crate) fn part(&self, bytes: &[u8]) -> Option<Self> {
        let start = bytes.as_ptr().addr().checked_sub(self.memory.address().addr())?;
        let is_inside = start >= self.start && start + bytes.len() <= self.start + self.len;
        is_inside.then(|| self.memory.lend(start, bytes.len()))?
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes `count` bytes off its front, of those that are there.
    pub(crate) fn advance(&mut self, count: usize) {
        let count = count.min(self.len);
        self.start += count;
        self.len -= count;
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `lend` and `part` made it from a run inside the memory, which is initialised and
        // lives as long as `self`; and nothing writes there, as they demand.
        #[expect(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.memory.address().add(self.start), self.len)
        }
    }
}

const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory with a loan of its bytes 100 to 200, of which runs of 10 and more are worth it.
    fn lent() -> (Rc<RecvMemory>, Loan) {
        let memory = RecvMemory::new(PAGE_BYTES, 10);
        let loan = memory.lend(100, 100).unwrap();
        (memory, loan)
    }

    fn at(memory: &RecvMemory, start: usize, len: usize) -> &[u8] {
        // SAFETY: inside the memory, which nothing writes to.
        #[expect(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(memory.address().add(start), len)
        }
    }

    #[test]
    fn a_part_lies_inside_and_is_worth_it() {
        let (memory, loan) = lent();
        let found = |start, len| loan.part(at(&memory, start, len)).map(|part| part.len());
        assert_eq!(found(100, 100), Some(100));
        assert_eq!(found(150, 50), Some(50));
        assert_eq!(found(150, 9), None, "too short");
        for (start, len) in [(99, 50), (151, 50), (0, 50), (200, 50), (99, 102)] {
            assert_eq!(found(start, len), None, "{start} + {len}");
        }
        assert!(loan.part(&[0; 50]).is_none(), "somewhere else");
        assert!(memory.lend(0, 9).is_none());
    }

    #[test]
    fn memory_is_lent_until_the_last_part_is_gone() {
        let (memory, loan) = lent();
        let mut part = loan.part(at(&memory, 120, 20)).unwrap();
        drop(loan);
        assert!(memory.is_lent());
        let start = part.as_slice().as_ptr();
        part.advance(15);
        assert_eq!(part.as_slice().as_ptr().addr() - start.addr(), 15);
        part.advance(15);
        assert!(part.as_slice().is_empty());
        assert!(memory.is_lent());
        drop(part);
        assert!(!memory.is_lent());
    }

    #[test]
    fn a_loan_outlives_the_buffer() {
        let (memory, loan) = lent();
        drop(memory);
        assert_eq!(loan.as_slice(), [0; 100]);
    }
}
