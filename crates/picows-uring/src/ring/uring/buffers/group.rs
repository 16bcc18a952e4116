//! One group of receive buffers, registered with the kernel as a buffer ring.
//!
//! Knows where each received piece lies, and which buffers the kernel has. Which operations may
//! name the group is decided in `buffers.rs`.

use super::super::{Loan, RecvBuffer, Uring};
use crate::ring::loan::RecvMemory;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The shape of a group: how the kernel fills its buffers, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Number of the group, which operations name.
    pub(super) number: u16,
    /// Each buffer is filled piece by piece (`IOU_PBUF_RING_INC`); else a receive takes a whole one.
    pub(super) is_incremental: bool,
    /// Size of a buffer, in bytes: whole pages.
    pub(super) buffer_bytes: u32,
    /// A group that is in use has so many, or more.
    pub(super) count_min: usize,
    /// Nor more than these; at most `ENTRIES_MAX`.
    pub(super) count_max: usize,
}

/// The kernel's completions do not fit what is known of a buffer: where a piece lies is unknown.
#[derive(Debug)]
pub(super) struct OutOfOrder;

/// The buffers of one group.
#[derive(Debug)]
pub(super) struct Group {
    shape: Shape,
    /// The ring of descriptions that the kernel reads; `ENTRIES_MAX` of them.
    entries: NonNull<BufRingEntry>,
    /// Position behind the last description that we wrote.
    tail: u16,
    /// By id; `None` for ids that are free.
    buffers: Vec<Option<Buffer>>,
    /// Those that would be back with the kernel if no loan of them were left.
    lent_out: Vec<u16>,
    /// How many there are.
    count: usize,
    /// Those of them that have received something and have not gone back.
    busy: usize,
    /// The most of those since the last trim: so many were needed at once.
    busy_max: usize,
    /// How many are to go, instead of back to the kernel.
    surplus: usize,
    /// Those of which a piece is kept beyond its turn.
    kept: usize,
    /// Pages are to go back to the system as soon as it is known what the buffers hold.
    is_discard_due: bool,
}

#[derive(Debug)]
struct Buffer {
    memory: Rc<RecvMemory>,
    /// Bytes that the kernel has put into it, by its completions so far.
    filled: u32,
    /// Pieces that were received and not released.
    lent: u32,
    /// Those of them that are kept beyond their turn.
    kept: u32,
    /// The kernel will put nothing more into it: it goes back when `lent` is zero.
    is_full: bool,
    /// It has received something since it was described to the kernel.
    is_busy: bool,
    /// Its completions came in another order than its bytes: no piece of it is handed out before it
    /// has been filled and described anew.
    is_suspect: bool,
    /// Its pages have gone back to the system since it was described to the kernel.
    is_bare: bool,
}

impl Group {
    /// Registers a group of `ring`, which has no buffers yet.
    pub(super) fn register(ring: &Uring, shape: Shape) -> io::Result<Self> {
        let layout = entries_layout();
        // SAFETY: the layout has a size.
        #[expect(unsafe_code)]
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(entries) = NonNull::new(memory.cast::<BufRingEntry>()) else {
            handle_alloc_error(layout)
        };
        let group = Self {
            shape,
            entries,
            tail: 0,
            buffers: Vec::new(),
            lent_out: Vec::new(),
            count: 0,
            busy: 0,
            busy_max: 0,
            surplus: 0,
            kept: 0,
            is_discard_due: false,
        };
        let flags = if shape.is_incremental { IOU_PBUF_RING_INC } else { 0 };
        // SAFETY: the memory is page-aligned, has room for `ENTRIES_MAX` entries, and lives as long
        // as the ring: both belong to the same `UringRing`, whose `drop` sees to it that nothing is
        // in flight.
        #[expect(unsafe_code)]
        unsafe {
            let address = entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(
                address,
                ENTRIES_MAX,
                shape.number,
                flags,
            )?;
        }
        Ok(group)
    }

    /// Adds the least number of buffers, if there are none yet.
    pub(super) fn stock(&mut self) {
        while self.count < self.shape.count_min {
            self.add();
        }
    }

    /// How the buffers are filled.
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Takes note of a piece of `len` bytes, more than 0, that the kernel put into buffer `id`;
    /// `is_last` if it puts nothing more into it.
    ///
    /// # Errors
    ///
    /// When that cannot be so with the pieces before. An incremental buffer is done exactly when it
    /// is full, so completions that changed places around its end show here. Others do not: see
    /// `buffers.rs` for what keeps the order.
    pub(super) fn take(
        &mut self,
        id: u16,
        len: u32,
        is_last: bool,
    ) -> Result<RecvBuffer, OutOfOrder> {
        let Shape { is_incremental, buffer_bytes, .. } = self.shape;
        let is_last = is_last || !is_incremental;
        let buffer = self.buffers[usize::from(id)].as_mut().expect("the kernel has this buffer");
        if !std::mem::replace(&mut buffer.is_busy, true) {
            self.busy += 1;
            self.busy_max = self.busy_max.max(self.busy);
        }
        let offset = buffer.filled;
        buffer.filled = offset.saturating_add(len);
        let is_sound = buffer.filled <= buffer_bytes
            && (!is_incremental || is_last == (buffer.filled == buffer_bytes));
        buffer.is_suspect |= !is_sound;
        if buffer.is_suspect {
            // All of its bytes have been accounted for, in whatever order: the kernel is done.
            buffer.is_full = buffer.filled >= buffer_bytes;
            self.go_back_if_done(id);
            return Err(OutOfOrder);
        }
        buffer.lent += 1;
        buffer.is_full |= is_last;
        Ok(RecvBuffer { id, offset, len, is_kept: false, is_stamped: false })
    }

    /// The kernel named buffer `id` in a completion without bytes.
    ///
    /// A whole buffer was used up by it. Of an incremental one nothing was, whatever the completion
    /// says: kernels leave out that there is more to come (`IORING_CQE_F_BUF_MORE`) at the end of
    /// some streams, and go on filling it.
    pub(super) fn pass_over(&mut self, id: u16) {
        if self.shape.is_incremental {
            return;
        }
        let buffer = self.buffers[usize::from(id)].as_mut().expect("the kernel has this buffer");
        if !std::mem::replace(&mut buffer.is_busy, true) {
            self.busy += 1;
        }
        buffer.is_full = true;
        self.go_back_if_done(id);
    }

    /// The bytes of a piece.
    pub(super) fn bytes(&mut self, piece: &RecvBuffer) -> &mut [u8] {
        let buffer = self.buffers[usize::from(piece.id)].as_ref().expect("a piece of it is lent");
        // SAFETY: made by `take`, the piece lies inside the buffer where the kernel has written and
        // does not again before it is released, which the borrow of `self` prevents; no other piece
        // covers it. Loans of it are read by the kernel, and by senders, who borrow the ring.
        #[expect(unsafe_code)]
        unsafe {
            let start = buffer.memory.address().add(piece.offset as usize);
            std::slice::from_raw_parts_mut(start, piece.len as usize)
        }
    }

    /// Gives a piece back; the buffer goes to the kernel with its last one.
    pub(super) fn release(&mut self, piece: RecvBuffer) {
        let buffer = self.buffers[usize::from(piece.id)].as_mut().expect("a piece of it is lent");
        debug_assert!(buffer.lent > 0, "released once");
        buffer.lent -= 1;
        if piece.is_kept {
            buffer.kept -= 1;
            self.kept -= usize::from(buffer.kept == 0);
        }
        self.go_back_if_done(piece.id);
    }

    /// Keeps a piece of buffer `id` beyond its turn, if half of the buffers are left for the others
    /// or it `must` be kept.
    pub(super) fn keep(&mut self, id: u16, must: bool) -> bool {
        let Some(buffer) = &mut self.buffers[usize::from(id)] else { return false };
        if buffer.kept == 0 {
            if !must && 2 * (self.kept + 1) > self.count {
                return false;
            }
            self.kept += 1;
        }
        buffer.kept += 1;
        true
    }

    /// How many receives may be begun that have room, as far as is known.
    pub(super) fn room(&self) -> usize {
        let open = self.buffers.iter().flatten().filter(|buffer| !buffer.is_full).count();
        open * if self.shape.is_incremental { RECEIVES_PER_BUFFER } else { 1 }
    }

    /// Returns a buffer to the kernel that is full and of which no piece is lent; if a loan of it is
    /// left, later.
    fn go_back_if_done(&mut self, id: u16) {
        let Some(buffer) = &self.buffers[usize::from(id)] else { return };
        if !buffer.is_full || buffer.lent > 0 {
            return;
        }
        if buffer.memory.is_lent() {
            self.lent_out.push(id);
        } else {
            self.go_back(id);
        }
    }

    /// Lends the bytes of a piece, so that the buffer stays after its last one was released.
    ///
    /// Not while many stay already: sends that do not get ahead must not take all there are.
    pub(super) fn lend(&self, piece: &RecvBuffer) -> Option<Loan> {
        if self.lent_out.len() >= LENT_OUT_MAX {
            return None;
        }
        let buffer = self.buffers[usize::from(piece.id)].as_ref()?;
        buffer.memory.lend(piece.offset as usize, piece.len as usize)
    }

    /// Takes buffers back of which no loan is left.
    #[inline]
    pub(super) fn reclaim(&mut self) {
        for index in (0..self.lent_out.len()).rev() {
            let id = self.lent_out[index];
            let buffer = self.buffers[usize::from(id)].as_ref();
            if !buffer.is_some_and(|buffer| buffer.memory.is_lent()) {
                self.lent_out.swap_remove(index);
                self.go_back(id);
            }
        }
    }

    /// Returns a buffer to the kernel that has been filled and read, unless it is surplus.
    fn go_back(&mut self, id: u16) {
        let Some(buffer) = &mut self.buffers[usize::from(id)] else { return };
        self.busy -= 1;
        if self.surplus > 0 {
            self.surplus -= 1;
            self.remove(id);
            return;
        }
        buffer.is_full = false;
        buffer.is_busy = false;
        buffer.is_suspect = false;
        buffer.is_bare = false;
        buffer.filled = 0;
        self.provide(id);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether there are more than a quiet ring needs, which are not about to go.
    pub(super) fn has_spare(&self) -> bool {
        self.is_discard_due || self.count - self.surplus > self.shape.count_min
    }

    /// Has buffers go that were not needed since the last call. Each does when it comes back next,
    /// as the kernel cannot be asked for one; until then those that hold nothing have no pages, if
    /// `is_told`: nothing that was received waits to be told by a completion.
    pub(super) fn trim(&mut self, is_told: bool) {
        // Where no more than the least were ever in use, those are enough.
        let count_min = self.shape.count_min;
        let is_calm = self.busy_max <= count_min;
        let wanted = if is_calm { count_min } else { 2 * self.busy_max };
        self.surplus = self.count.saturating_sub(wanted);
        self.busy_max = self.busy;
        self.is_discard_due = self.surplus > 0 && self.shape.is_incremental;
        if self.is_discard_due && is_told {
            self.discard();
        }
    }

    /// Gives the pages of the buffers back that lie with the kernel and hold nothing.
    ///
    /// Only of a group of multishot receives, and of a kernel that fills piece by piece: there, all
    /// that is received is received while the ring is entered (`IORING_SETUP_DEFER_TASKRUN`), and
    /// its completion is posted at once. A single receive may be left to a kernel thread, which
    /// writes at any time; a multishot one never is, since Linux 6.10.
    fn discard(&mut self) {
        self.is_discard_due = false;
        for buffer in self.buffers.iter_mut().flatten() {
            if !buffer.is_busy && !std::mem::replace(&mut buffer.is_bare, true) {
                buffer.memory.discard();
            }
        }
    }

    /// The kernel ran out of buffers: adds as many as there are, up to the limit.
    pub(super) fn grow(&mut self) {
        self.surplus = 0;
        self.is_discard_due = false;
        // A shortage comes once for each connection that met it. As long as there is room, one
        // doubling answers all of those in a turn: further ones find unused buffers.
        if self.busy < self.count {
            return;
        }
        for _ in 0..self.count {
            if self.count < self.shape.count_max {
                self.add();
            }
        }
    }

    /// Where buffer `id` begins, as the kernel knows it.
    #[cfg(test)]
    pub(super) fn address(&self, id: usize) -> *mut u8 {
        self.buffers[id].as_ref().expect("there is one").memory.address()
    }

    /// Gives up the memory, as the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.buffers));
        self.entries = NonNull::dangling();
    }

    fn add(&mut self) {
        let memory = RecvMemory::new(self.shape.buffer_bytes as usize, LOAN_BYTES_MIN);
        let buffer = Buffer {
            memory,
            filled: 0,
            lent: 0,
            kept: 0,
            is_full: false,
            is_busy: false,
            is_suspect: false,
            is_bare: false,
        };
        let vacant = self.buffers.iter().position(Option::is_none);
        let id = vacant.unwrap_or(self.buffers.len());
        if vacant.is_some() {
            self.buffers[id] = Some(buffer);
        } else {
            self.buffers.push(Some(buffer));
        }
        self.count += 1;
        self.provide(id as u16);
    }

    /// Frees a buffer that the kernel does not have, and of which nothing is lent.
    fn remove(&mut self, id: u16) {
        if self.buffers[usize::from(id)].take().is_some() {
            self.count -= 1;
        }
    }

    /// Describes buffer `id` to the kernel.
    fn provide(&mut self, id: u16) {
        let Some(buffer) = &self.buffers[usize::from(id)] else { return };
        let address = buffer.memory.address() as u64;
        let slot = self.tail & (ENTRIES_MAX - 1);
        // SAFETY: there is room for `ENTRIES_MAX`, and `slot` is below. The kernel reads no entry at
        // or behind the tail, and each buffer is described once at a time, so none is overwritten
        // unused. The setters leave the tail alone, which shares memory with entry 0.
        #[expect(unsafe_code)]
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(slot));
            entry.set_addr(address);
            entry.set_len(self.shape.buffer_bytes);
            entry.set_bid(self.shape.number * ENTRIES_MAX + id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is the last field of entry 0, aligned and initialised; the kernel reads
        // it while we write, so it is only ever touched as an atomic.
        #[expect(unsafe_code)]
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail)
        };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.entries == NonNull::dangling() {
            return;
        }
        // SAFETY: allocated in `register` with this layout; the ring went first or is going, and
        // it has nothing in flight.
        #[expect(unsafe_code)]
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout());
        }
    }
}

fn entries_layout() -> Layout {
    page_aligned(usize::from(ENTRIES_MAX) * size_of::<BufRingEntry>())
}

fn page_aligned(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a small multiple of the page size")
}

/// Descriptions that the kernel can be shown at a time; a power of two.
pub(super) const ENTRIES_MAX: u16 = 256;
/// Fill buffers piece by piece (Linux 6.12, `io_uring_register_buf_ring(3)`).
const IOU_PBUF_RING_INC: u16 = 2;
/// Up to here a copy is cheaper than a part of its own in the send.
const LOAN_BYTES_MIN: usize = 4 * 1024;
/// Receives that a buffer has room for which is filled piece by piece: of 4 KiB each.
const RECEIVES_PER_BUFFER: usize = 64;
/// Buffers that may be kept by loans alone: 2 MiB.
const LENT_OUT_MAX: usize = 8;
const PAGE_BYTES: usize = 4096;

const _: () = assert!(ENTRIES_MAX.is_power_of_two());
