//! Received pieces: bytes of the peer, in a buffer of the ring or in memory of the connection.

use crate::local::Local;
use crate::pool::Pool;
use crate::ring::{RecvBuffer, Ring, Stamp, reserve_max};
use picows_uring_proto::Stash;

/// A run of bytes of the peer that its connection has not handled, or not to its end.
#[derive(Debug)]
pub(crate) enum Piece {
    /// In the buffer that the kernel filled. The first `start` are done with.
    Received { buffer: RecvBuffer, start: usize },
    /// In memory of the connection, which the pool counts. The first `start` are done with, of which the
    /// very first are its stamp if it `is_stamped`.
    Copied { memory: Stash, start: usize, is_stamped: bool },
}

impl Piece {
    /// The bytes of a completion.
    pub(crate) fn new(buffer: RecvBuffer) -> Self {
        Self::Received { buffer, start: 0 }
    }

    /// Bytes that were copied to `memory`, which is counted from now on.
    pub(crate) fn copied(mut memory: Stash, pool: &Pool) -> Self {
        pool.hold(&mut memory);
        Self::Copied { memory, start: 0, is_stamped: false }
    }

    /// Bytes that are left.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Received { buffer, start } => buffer.len() - start,
            Self::Copied { memory, start, .. } => memory.len() - start,
        }
    }

    /// When the kernel received its last bytes, if it came with a stamp.
    pub(crate) fn stamp(&self, ring: &mut impl Ring) -> Option<Stamp> {
        match self {
            Self::Received { buffer, .. } => ring.stamp(buffer),
            Self::Copied { memory, is_stamped: true, .. } => Stamp::of_bytes(memory.bytes()),
            Self::Copied { .. } => None,
        }
    }

    /// Bytes of memory that it takes beside the receive buffers.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Received { .. } => 0,
            Self::Copied { memory, .. } => memory.capacity(),
        }
    }

    /// Lends the bytes that are left to `handle`, which returns how many it has handled, or `None`
    /// for all of them and the end of the piece. Returns that count, and the rest, if only of what
    /// `handle` has to look at again.
    ///
    /// If it `is_lent`, frames in the piece may be forwarded from where they lie, meanwhile.
    pub(crate) fn hand_over(
        self,
        ring: &mut impl Ring,
        local: &Local,
        is_lent: bool,
        handle: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> (usize, Option<Self>) {
        match self {
            Self::Received { buffer, start } => {
                let loan = if is_lent { ring.lend(&buffer) } else { None };
                let lending = loan.map(|loan| local.lent.begin(loan));
                let bytes = &mut ring.bytes(&buffer)[start..];
                let len = bytes.len();
                let handled = handle(bytes);
                drop(lending);
                let Some(count) = handled else {
                    ring.release(buffer);
                    return (len, None);
                };
                (count, Some(Self::Received { buffer, start: start + count }))
            }
            Self::Copied { mut memory, start, is_stamped } => {
                local.pool.unhold(&memory);
                let bytes = &mut memory.bytes_mut()[start..];
                let len = bytes.len();
                let Some(count) = handle(bytes) else {
                    local.pool.put_stash(memory);
                    return (len, None);
                };
                local.pool.hold(&mut memory);
                (count, Some(Self::Copied { memory, start: start + count, is_stamped }))
            }
        }
    }

    /// Keeps it beyond the turn: in its buffer, while enough of them are left for other
    /// connections, else in memory of its own.
    pub(crate) fn keep(self, ring: &mut impl Ring, pool: &Pool) -> Self {
        let Self::Received { mut buffer, start } = self else { return self };
        if ring.keep(&mut buffer, false) {
            return Self::Received { buffer, start };
        }
        let stamp = ring.stamp(&buffer).map(Stamp::to_bytes);
        let bytes = &ring.bytes(&buffer)[start..];
        let front = stamp.as_ref().map_or(&[][..], |stamp| &stamp[..]);
        let mut memory = pool.stash();
        let is_too_much = bytes.len() > reserve_max();
        if is_too_much || memory.bytes_mut().try_reserve(front.len() + bytes.len()).is_err() {
            // Without memory for a copy, the buffer is missed less.
            ring.keep(&mut buffer, true);
            return Self::Received { buffer, start };
        }
        memory.bytes_mut().extend_from_slice(front);
        memory.bytes_mut().extend_from_slice(bytes);
        ring.release(buffer);
        pool.hold(&mut memory);
        Self::Copied { memory, start: front.len(), is_stamped: stamp.is_some() }
    }

    /// Gives it up, handled or not.
    pub(crate) fn release(self, ring: &mut impl Ring, pool: &Pool) {
        match self {
            Self::Received { buffer, .. } => ring.release(buffer),
            Self::Copied { memory, .. } => {
                pool.unhold(&memory);
                pool.put_stash(memory);
            }
        }
    }
}

const _: () = assert!(size_of::<Piece>() <= 24);
