//! Receive buffers that are shared with the kernel.
//!
//! Buffer rings (`io_uring_register_buf_ring(3)`) of a few large buffers, so that what is received
//! stays in cache. Where the kernel can (Linux 6.12), it fills each buffer piece by piece
//! (`IOU_PBUF_RING_INC`), so that a short message takes only its own length; else each receive
//! takes a whole buffer, and there are more and smaller ones. The number grows when the kernel
//! found none, and shrinks when most were not needed for a while: too many in turn do not stay in
//! cache, and are memory.
//!
//! # Order
//!
//! Where a piece of an incremental buffer lies is not in its completion: it follows from the pieces
//! before, of whichever connections. So the completions of a group have to come in the order in
//! which its buffers were filled. The kernel keeps that order among multishot receives, each of
//! whose completions is posted at once. A single receive is completed later, with others, and
//! kernels before 6.15 post multishot completions in between that are younger: in one group with
//! those, its bytes would be taken for those of another connection. Therefore single receives have
//! a group of their own, of whole buffers, in which no piece depends on another. Stamped receives use
//! it as well. This holds for
//! every kernel, so nothing depends on recognising the old ones.

mod group;

use super::{Loan, RecvBuffer, Uring};
use crate::foreign::log;
use crate::ring::epoll::buffers::Buffers as CallBuffers;
use group::{ENTRIES_MAX, Group, Shape};
use std::io;

/// The buffers of one ring.
#[derive(Debug)]
pub(super) struct Buffers {
    /// For multishot receives.
    multishot: Group,
    /// For single ones. `None` where the others take whole buffers, too, and one group does.
    single: Option<Group>,
    /// For what is taken from sockets by calls.
    called: CallBuffers,
    /// That completions come in another order was logged, once: a peer could have it come often.
    is_reported: bool,
}

impl Buffers {
    /// Registers the buffers of `ring`.
    pub(super) fn register(ring: &Uring) -> io::Result<Self> {
        #[cfg(test)]
        let incremental = tests::register_unless_old(ring, INCREMENTAL);
        #[cfg(not(test))]
        let incremental = Group::register(ring, INCREMENTAL);
        let mut buffers = match incremental {
            Ok(multishot) => {
                let single = Some(Group::register(ring, SINGLE)?);
                Self { multishot, single, called: CallBuffers::default(), is_reported: false }
            }
            // The flag is not known before Linux 6.12.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let multishot = Group::register(ring, WHOLE)?;
                let called = CallBuffers::default();
                Self { multishot, single: None, called, is_reported: false }
            }
            Err(error) => return Err(error),
        };
        buffers.multishot.stock();
        Ok(buffers)
    }

    /// Whether multishot receives fill buffers piece by piece.
    pub(super) fn are_incremental(&self) -> bool {
        self.multishot.shape().is_incremental
    }

    /// The group that multishot receives name.
    pub(super) fn multishot_group(&self) -> u16 {
        self.multishot.shape().number
    }

    /// The group that single and stamped receives name, which has buffers from here on.
    pub(super) fn single_group(&mut self) -> u16 {
        let group = self.single.as_mut().unwrap_or(&mut self.multishot);
        group.stock();
        group.shape().number
    }

    /// Takes note of a piece of `len` bytes, more than 0, that the kernel put into the buffer that it
    /// calls `id`; `is_last` if it says that it puts nothing more into it.
    ///
    /// # Errors
    ///
    /// When completions have come in another order than their bytes, and where these are is unknown.
    pub(super) fn take(&mut self, id: u16, len: u32, is_last: bool) -> io::Result<RecvBuffer> {
        if let Ok(piece) = self.group(id).take(id % ENTRIES_MAX, len, is_last) {
            return Ok(RecvBuffer { id, ..piece });
        }
        if !std::mem::replace(&mut self.is_reported, true) {
            log::error!(
                buffer = id,
                len,
                "the kernel posted completions of receives in another order than their bytes: the \
                 connections concerned are ended, as the bytes may be those of others; a newer kernel \
                 helps (6.15)"
            );
        }
        Err(io::Error::other("the kernel does not say which bytes were received"))
    }

    /// The kernel named the buffer that it calls `id` in a completion without bytes.
    pub(super) fn pass_over(&mut self, id: u16) {
        self.group(id).pass_over(id % ENTRIES_MAX);
    }

    /// Memory for bytes that a call takes from a socket, `max` at the most.
    pub(super) fn space(&mut self, max: usize) -> Option<&mut [u8]> {
        self.called.space(max)
    }

    /// The piece of `len` bytes that a call has put at the beginning of the last
    /// [`space`](Self::space).
    pub(super) fn cut(&mut self, len: usize) -> Option<RecvBuffer> {
        let piece = self.called.cut(len)?;
        Some(RecvBuffer { id: piece.id | CALLED, ..piece })
    }

    /// The bytes of a piece.
    pub(super) fn bytes(&mut self, piece: &RecvBuffer) -> &mut [u8] {
        if is_called(piece) {
            return self.called.bytes(&local(piece));
        }
        self.group(piece.id).bytes(&local(piece))
    }

    /// Gives a piece back; the buffer goes to the kernel with its last one.
    #[expect(clippy::needless_pass_by_value, reason = "it is used up")]
    pub(super) fn release(&mut self, piece: RecvBuffer) {
        if is_called(&piece) {
            return self.called.release(local(&piece));
        }
        self.group(piece.id).release(local(&piece));
    }

    /// Keeps a piece beyond its turn, unless too many buffers are.
    pub(super) fn keep(&mut self, piece: &mut RecvBuffer, must: bool) -> bool {
        if is_called(piece) {
            let mut its = local(piece);
            piece.is_kept = self.called.keep(&mut its, must);
            return piece.is_kept;
        }
        piece.is_kept = piece.is_kept || self.group(piece.id).keep(piece.id % ENTRIES_MAX, must);
        piece.is_kept
    }

    /// How many receives may be begun, as far as is known.
    pub(super) fn room(&mut self, is_single: bool) -> usize {
        self.reclaim();
        match &mut self.single {
            Some(single) if is_single => {
                single.stock();
                single.room()
            }
            // One that is in the other's way waits for both.
            _ => self.multishot.room().min(self.called.room()),
        }
    }

    /// Lends the bytes of a piece, so that the buffer stays after its last one was released.
    ///
    /// Not while many stay already: sends that do not get ahead must not take all there are.
    pub(super) fn lend(&mut self, piece: &RecvBuffer) -> Option<Loan> {
        if is_called(piece) {
            return self.called.lend(&local(piece));
        }
        self.group(piece.id).lend(&local(piece))
    }

    /// Takes buffers back of which no loan is left.
    #[inline]
    pub(super) fn reclaim(&mut self) {
        self.multishot.reclaim();
        if let Some(single) = &mut self.single {
            single.reclaim();
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.groups().map(Group::count).sum::<usize>() + self.called.count()
    }

    /// Whether there are more than a quiet ring needs, which are not about to go.
    pub(super) fn has_spare(&self) -> bool {
        self.groups().any(Group::has_spare) || self.called.has_spare()
    }

    /// Has buffers go that were not needed since the last call. Each does when it comes back next,
    /// as the kernel cannot be asked for one. If no completion waits to be read (`is_told`), those
    /// that hold nothing lose their pages meanwhile.
    pub(super) fn trim(&mut self, is_told: bool) {
        self.multishot.trim(is_told);
        if let Some(single) = &mut self.single {
            single.trim(is_told);
        }
        self.called.trim();
    }

    /// The kernel ran out of buffers: adds as many as there are, up to the limit. The completion does
    /// not name the group: it is the one of which all are in use.
    pub(super) fn grow(&mut self) {
        self.multishot.grow();
        if let Some(single) = &mut self.single {
            single.grow();
        }
    }

    /// Gives up the memory, as the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.multishot.leak();
        if let Some(single) = &mut self.single {
            single.leak();
        }
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        std::iter::once(&self.multishot).chain(&self.single)
    }

    /// The group of the buffer that the kernel calls `id`: its number and a half of the bits.
    fn group(&mut self, id: u16) -> &mut Group {
        match &mut self.single {
            Some(single) if id / ENTRIES_MAX == SINGLE.number => single,
            _ => &mut self.multishot,
        }
    }
}

/// A piece as its group knows it.
fn local(piece: &RecvBuffer) -> RecvBuffer {
    RecvBuffer { id: piece.id % ENTRIES_MAX, ..*piece }
}

/// Whether a piece was taken from its socket by a call.
fn is_called(piece: &RecvBuffer) -> bool {
    piece.id & CALLED != 0
}

/// In the ids of pieces that were taken by calls; groups have lower ones, and streams a higher bit.
const CALLED: u16 = 1 << 14;

/// Two buffers that are filled piece by piece are half a megabyte, about the second-level cache of a
/// core. Few and large: a frame is cut less often. 64 are 16 MiB: as much as arrives in a moment over
/// the fastest networks.
const INCREMENTAL: Shape = Shape {
    number: 0,
    is_incremental: true,
    buffer_bytes: 256 * 1024,
    count_min: 2,
    count_max: 64,
};

/// Where each receive takes a whole buffer, more are needed for the same number of messages.
const WHOLE: Shape = Shape {
    number: 0,
    is_incremental: false,
    buffer_bytes: 16 * 1024,
    count_min: 32,
    count_max: ENTRIES_MAX as usize,
};

/// Single receives are few, and bring no more than a buffer of these holds.
const SINGLE: Shape = Shape { number: 1, count_min: 8, ..WHOLE };

const _: () = assert!(SINGLE.buffer_bytes >= super::ONCE_BYTES_MAX);
const _: () = assert!(INCREMENTAL.count_max <= ENTRIES_MAX as usize);

#[cfg(test)]
pub(super) mod tests;
