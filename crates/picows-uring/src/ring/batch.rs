//! Bytes on their way out: what one send takes along.
//!
//! A queue of segments that know how much of them has left. Which bytes those are is not known
//! here.

use super::Loan;
use crate::foreign::Foreign;
use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A run of bytes to be sent.
#[derive(Debug)]
pub(crate) enum Segment {
    /// Bytes that belong to the batch: copied here, or handed over. The first `start` are not
    /// part of it.
    Owned { bytes: Vec<u8>, start: usize },
    /// Bytes as they are on the wire, to which nothing is appended. The first `start` have left.
    #[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS seals"))]
    Sealed { bytes: Vec<u8>, start: usize },
    /// A few bytes, kept in the queue itself.
    Short { bytes: [u8; SHORT_BYTES_MAX], start: u8, end: u8 },
    /// Bytes that others may hold as well.
    Shared(Foreign<Bytes>),
    /// Bytes of ours that many connections send. Where they are not counted here, they are once for
    /// all of them.
    Common { bytes: Bytes, is_counted: bool },
    /// What was received in memory of its own and is sent on. The first `start` bytes have left.
    Received { memory: Rc<Vec<u8>>, start: usize },
    /// What was received and is sent on from where it lies.
    Lent(Loan),
}

impl Segment {
    /// What is left to be sent.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned { bytes, start } | Self::Sealed { bytes, start } => &bytes[*start..],
            Self::Short { bytes, start, end } => &bytes[usize::from(*start)..usize::from(*end)],
            Self::Shared(bytes) => bytes,
            Self::Common { bytes, .. } => bytes,
            Self::Received { memory, start } => &memory[*start..],
            Self::Lent(loan) => loan.as_slice(),
        }
    }

    /// Bytes that others may hold as well.
    pub(crate) fn shared(bytes: Bytes) -> Self {
        Self::Shared(Foreign::new(bytes))
    }

    /// A few bytes: of more, the first [`SHORT_BYTES_MAX`].
    pub(crate) fn short(bytes: &[u8]) -> Self {
        debug_assert!(bytes.len() <= SHORT_BYTES_MAX, "{} bytes", bytes.len());
        let (mut copy, end) = ([0; SHORT_BYTES_MAX], bytes.len().min(SHORT_BYTES_MAX));
        copy[..end].copy_from_slice(&bytes[..end]);
        Self::Short { bytes: copy, start: 0, end: end as u8 }
    }

    fn len(&self) -> usize {
        match self {
            Self::Lent(loan) => loan.len(),
            _ => self.as_slice().len(),
        }
    }

    /// Bytes of memory that it keeps from being freed.
    fn memory(&self) -> usize {
        match self {
            Self::Owned { bytes, .. } | Self::Sealed { bytes, .. } => bytes.capacity(),
            Self::Received { memory, .. } => memory.capacity(),
            Self::Short { .. } | Self::Common { is_counted: false, .. } => size_of::<Self>(),
            Self::Shared(bytes) => bytes.len(),
            Self::Common { bytes, .. } => bytes.len(),
            Self::Lent(loan) => loan.len(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Owned { start, .. }
            | Self::Sealed { start, .. }
            | Self::Received { start, .. } => *start += count,
            Self::Short { start, .. } => *start += count as u8,
            Self::Shared(bytes) => bytes.advance(count),
            Self::Common { bytes, .. } => bytes.advance(count),
            Self::Lent(loan) => loan.advance(count),
        }
    }
}

/// Each segment costs the kernel some 50 ns: beyond so many, a buffer of 16 KiB is worth its memory.
const REFERENCES_MAX: usize = 8;
/// As many as the header of a frame has.
const SHORT_BYTES_MAX: usize = 14;
/// As many as a record of TLS has before its plaintext.
const FRONT_BYTES_MAX: usize = 13;

/// Segments that leave together, in order. Each peer that does not read has one under way.
#[derive(Debug, Default)]
pub(crate) struct SendBatch {
    /// None of them is empty, but for the one buffer that a batch without bytes may [keep](Self::finish).
    segments: VecDeque<Segment>,
    /// Sum of the lengths of `segments`.
    len: usize,
    /// A part was sent: the rest may begin anywhere.
    is_begun: bool,
    /// Bytes that stay free in front of what is appended to a new buffer.
    front: u8,
    /// Where the memory of all batches is summed up.
    total: Rc<Cell<usize>>,
}

const _: () = assert!(size_of::<SendBatch>() <= 56);

impl SendBatch {
    /// An empty batch that counts its memory in `total`.
    pub(crate) fn counted(total: Rc<Cell<usize>>) -> Self {
        // Most have one segment, and wait for a peer that does not read as long as that takes.
        let segments = VecDeque::with_capacity(1);
        Self { segments, len: 0, is_begun: false, front: 0, total }
    }

    /// Has new buffers begin with so many bytes that are not sent, for what is put in front of all of it.
    pub(crate) fn set_front(&mut self, bytes: usize) {
        self.front = bytes.min(FRONT_BYTES_MAX) as u8;
    }

    /// Bytes that are left to be sent.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it keeps from being freed, its own aside.
    pub(crate) fn memory(&self) -> usize {
        // Not a field, as it is asked for once for each send; most have one segment.
        match self.segments.front() {
            Some(only) if self.segments.len() == 1 => {
                if self.is_empty() {
                    0
                } else {
                    only.memory()
                }
            }
            _ => self.segments.iter().map(Segment::memory).sum(),
        }
    }

    /// Whether a part was sent, and this is the rest.
    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// A part of what it begins with was sent by another way.
    pub(crate) fn mark_begun(&mut self) {
        self.is_begun = !self.is_empty();
    }

    /// Whether nothing is left to be sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segments that are left, none of them empty.
    pub(crate) fn segments(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.segments.iter().map(Segment::as_slice)
    }

    /// Appends a segment. An empty one is dropped.
    pub(crate) fn push(&mut self, segment: Segment) {
        if segment.len() > 0 {
            self.len += segment.len();
            self.grow(segment.memory());
            self.segments.push_back(segment);
        }
    }

    /// Appends through `write` to the last segment if it is an owned one with room for `expected`
    /// more bytes, else to a buffer that `fresh` makes.
    ///
    /// A segment is not grown: its bytes would be copied, and it would not fit the pool any more.
    pub(crate) fn append(
        &mut self,
        expected: usize,
        fresh: impl FnOnce() -> Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if let Some(bytes) = self.room(expected) {
            let (len, capacity) = (bytes.len(), bytes.capacity());
            write(bytes);
            let (written, grown) = (bytes.len() - len, bytes.capacity() - capacity);
            self.len += written;
            // Only what is longer than expected makes it grow.
            self.grow(grown);
            return;
        }
        let mut bytes = fresh();
        let mut start = if cfg!(feature = "_tls") { usize::from(self.front) } else { 0 };
        if start > 0 {
            // Not where it would make the buffer grow.
            start = if bytes.capacity() >= start + expected { start } else { 0 };
            bytes.extend_from_slice(&[0; FRONT_BYTES_MAX][..start]);
        }
        write(&mut bytes);
        self.push(Segment::Owned { bytes, start });
    }

    /// Appends the first `start_len` bytes of `start`, and `rest`, to the last segment, and returns
    /// whether there was room for them; `when_fits` is called before the copy.
    ///
    /// Without the checks and calls of a vector, which are as much work as the copies of short ones.
    #[inline(always)] // It is called in one place, which has to be fast.
    pub(crate) fn append_pair(
        &mut self,
        start: [u8; 4],
        start_len: usize,
        rest: &[u8],
        when_fits: impl FnOnce(),
    ) -> bool {
        let Some(bytes) = self.room(start.len() + rest.len()) else { return false };
        when_fits();
        let count = start_len.min(start.len()) + rest.len();
        let (from, to) = (rest.as_ptr(), bytes.spare_capacity_mut().as_mut_ptr().cast::<u8>());
        // SAFETY: there is room for all of `start` and `rest` behind the bytes of the vector, and
        // `count` is no more than that, all of it written. What is lent here does not overlap what is
        // owned there.
        #[expect(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(start.as_ptr(), to, start.len());
            std::ptr::copy_nonoverlapping(from, to.add(count - rest.len()), rest.len());
            bytes.set_len(bytes.len() + count);
        }
        if self.len == 0 {
            // The buffer that it has kept.
            let memory = self.kept_bytes();
            self.grow(memory);
        }
        self.len += count;
        true
    }

    /// Takes off all `count` bytes that there were, and keeps the buffer that they were in for what
    /// [comes next](Self::append_pair), if it was only one, of `capacity` bytes. Whether that was so; if
    /// not, nothing has happened. A buffer that is kept is not counted as [memory](Self::memory).
    #[inline]
    pub(crate) fn finish(&mut self, count: usize, capacity: usize) -> bool {
        if count != self.len || self.segments.len() != 1 {
            return false;
        }
        let Some(Segment::Owned { bytes, start }) = self.segments.front_mut() else { return false };
        if bytes.capacity() != capacity || bytes.is_empty() {
            return false;
        }
        bytes.clear();
        (*start, self.len, self.is_begun) = (0, 0, false);
        self.shrink(capacity);
        true
    }

    /// Whether it is empty but for a buffer that it keeps.
    #[inline]
    pub(crate) fn has_kept(&self) -> bool {
        self.len == 0 && !self.segments.is_empty()
    }

    /// Keeps `buffer`, which is empty, as if it had been [sent](Self::finish). Nothing else may be in it.
    pub(crate) fn keep(&mut self, buffer: Vec<u8>) {
        debug_assert!(
            buffer.is_empty() && self.segments.is_empty(),
            "there is something to be sent"
        );
        self.segments.push_back(Segment::Owned { bytes: buffer, start: 0 });
    }

    /// Takes the buffer that it keeps.
    #[inline]
    pub(crate) fn take_kept(&mut self) -> Option<Vec<u8>> {
        if !self.has_kept() {
            return None;
        }
        match self.segments.pop_front() {
            Some(Segment::Owned { bytes, .. }) => Some(bytes),
            _ => None,
        }
    }

    /// Bytes of the buffer that it keeps.
    #[inline]
    fn kept_bytes(&self) -> usize {
        match self.segments.front() {
            Some(Segment::Owned { bytes, .. }) if self.len == 0 => bytes.capacity(),
            _ => 0,
        }
    }

    /// The last segment, if it is an owned one with room for `expected` more bytes.
    #[inline(always)]
    fn room(&mut self, expected: usize) -> Option<&mut Vec<u8>> {
        match self.segments.back_mut() {
            Some(Segment::Owned { bytes, .. }) if bytes.capacity() - bytes.len() >= expected => {
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Appends a few bytes: to the last segment, if it is an owned one with room for them.
    pub(crate) fn append_short(&mut self, short: &[u8]) {
        match self.segments.back_mut() {
            Some(Segment::Owned { bytes, .. }) if bytes.capacity() - bytes.len() >= short.len() => {
                bytes.extend_from_slice(short);
                self.len += short.len();
            }
            _ => self.push(Segment::short(short)),
        }
    }

    /// Whether a few bytes more would want a buffer of their own, and there are few segments so far:
    /// then a reference is better.
    pub(crate) fn prefers_reference(&mut self, len: usize) -> bool {
        self.segments.len() < REFERENCES_MAX && self.room(len).is_none()
    }

    /// Whether it begins with bytes that are sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.segments.front(), Some(Segment::Sealed { .. }))
    }

    /// Puts sealed bytes behind those with which it begins, in front of all others.
    #[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS seals"))]
    pub(crate) fn insert_sealed(&mut self, bytes: Vec<u8>) {
        self.insert_sealed_from(bytes, 0);
    }

    /// The same with bytes of which the first `start` are not part of it.
    #[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS seals"))]
    pub(crate) fn insert_sealed_from(&mut self, bytes: Vec<u8>, start: usize) {
        let at = self.segments.iter().take_while(|it| matches!(it, Segment::Sealed { .. })).count();
        let segment = Segment::Sealed { bytes, start };
        if segment.len() > 0 {
            self.len += segment.len();
            self.grow(segment.memory());
            self.segments.insert(at, segment);
        }
    }

    /// Takes all of it, if that is one buffer with `front` bytes before and `behind` after what is sent,
    /// at most `max` bytes. Returns where that begins.
    #[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS seals"))]
    pub(crate) fn take_buffer(
        &mut self,
        front: usize,
        behind: usize,
        max: usize,
    ) -> Option<(Vec<u8>, usize)> {
        let [Segment::Owned { bytes, start }] = self.segments.make_contiguous() else {
            return None;
        };
        let has_room = *start >= front && bytes.capacity() - bytes.len() >= behind;
        if !has_room || self.len > max {
            return None;
        }
        let segment = self.segments.pop_front()?;
        (self.len, self.is_begun) = (0, false);
        self.shrink(segment.memory());
        match segment {
            Segment::Owned { bytes, start } => Some((bytes, start)),
            _ => None,
        }
    }

    /// Moves the sealed segments with which it begins behind those of `out`.
    #[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS seals"))]
    pub(crate) fn move_sealed(&mut self, out: &mut Self) {
        while self.is_sealed()
            && let Some(segment) = self.segments.pop_front()
        {
            self.len -= segment.len();
            self.shrink(segment.memory());
            out.push(segment);
        }
    }

    /// Appends everything in `later` and leaves it empty.
    pub(crate) fn extend(&mut self, later: &mut Self) {
        let memory = later.memory();
        later.shrink(memory);
        self.len += std::mem::take(&mut later.len);
        self.grow(memory);
        self.segments.append(&mut later.segments);
    }

    /// Takes off `count` bytes that were sent, and hands segments that are done to
    /// `recycle`.
    ///
    /// `count` is at most [`len`](Self::len): the kernel cannot send more than it was given.
    pub(crate) fn advance(&mut self, count: usize, mut recycle: impl FnMut(Segment)) {
        debug_assert!(count <= self.len, "sent {count} of {}", self.len);
        let mut count = count.min(self.len);
        self.len -= count;
        self.is_begun = self.len > 0;
        while let Some(mut first) = self.segments.pop_front() {
            self.shrink(first.memory());
            let first_len = first.len();
            if count < first_len {
                first.advance(count);
                self.grow(first.memory());
                self.segments.push_front(first);
                return;
            }
            count -= first_len;
            recycle(first);
        }
    }

    fn grow(&self, memory: usize) {
        self.total.set(self.total.get() + memory);
    }

    fn shrink(&self, memory: usize) {
        self.total.set(self.total.get() - memory);
    }

    /// Drops everything, through `recycle`.
    pub(crate) fn clear(&mut self, recycle: impl FnMut(Segment)) {
        self.advance(self.len, recycle);
    }

    /// Bytes of memory that the queue of segments itself holds on to.
    pub(crate) fn segment_capacity(&self) -> usize {
        self.segments.capacity()
    }

    /// Bytes of memory that it takes while it is empty.
    pub(crate) fn own_bytes(&self) -> usize {
        size_of::<Self>() + self.segments.capacity() * size_of::<Segment>() + self.kept_bytes()
    }
}

impl Drop for SendBatch {
    fn drop(&mut self) {
        self.shrink(self.memory());
    }
}

#[cfg(test)]
mod tests;
