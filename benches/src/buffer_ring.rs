//! A ring of provided buffers (`io_uring_register_buf_ring(3)`), as programs without the runtime have it.

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// Memory that begins at a page.
#[derive(Clone, Debug)]
#[repr(align(4096))]
pub struct Page(#[expect(dead_code, reason = "the kernel writes it")] [u8; PAGE_BYTES]);

/// Zeroed pages for so many bytes.
#[must_use]
pub fn pages(bytes: usize) -> Vec<Page> {
    vec![Page([0; PAGE_BYTES]); bytes.div_ceil(PAGE_BYTES)]
}

/// Entries that describe buffers to the kernel.
#[derive(Debug)]
pub struct BufferRing {
    /// Leaked, as the kernel reads them.
    entries: *mut BufRingEntry,
    count: u16,
    tail: u16,
}

impl BufferRing {
    /// Registers `count` entries, a power of two, of which none describes a buffer yet.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn register(ring: &IoUring, count: u16, group: u16, flags: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "an entry has its place modulo that");
        let entries: *mut BufRingEntry =
            pages(usize::from(count) * size_of::<BufRingEntry>()).leak().as_mut_ptr().cast();
        // SAFETY: page-aligned, with room for `count` entries, and leaked.
        #[expect(unsafe_code)]
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries as u64, count, group, flags)?;
        }
        Ok(Self { entries, count, tail: 0 })
    }

    /// Describes the buffer `id` to the kernel, which sees it at the next [`publish`](Self::publish).
    ///
    /// # Safety
    ///
    /// The kernel may write the `len` bytes at `address` until it has used the buffer or does not use
    /// the ring any more.
    #[inline]
    #[expect(unsafe_code)]
    pub unsafe fn offer(&mut self, id: u16, address: *mut u8, len: u32) {
        let slot = self.tail & (self.count - 1);
        // SAFETY: `slot` is below `count`, for which there is room, and the kernel does not read an
        // entry at or behind the tail. The setters leave the tail, which shares memory with entry 0,
        // alone.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(slot));
            entry.set_addr(address as u64);
            entry.set_len(len);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Has the kernel see what was offered.
    #[inline]
    pub fn publish(&self) {
        // SAFETY: the tail is a field of entry 0, aligned and initialised, and only ever touched as
        // an atomic.
        #[expect(unsafe_code)]
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

const PAGE_BYTES: usize = 4096;
