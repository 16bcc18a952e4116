//! Batches that the kernel is sending.
//!
//! Each stays here, at the same place in memory, until its completion.

use super::{SendBatch, Socket, Token};
use io_uring::{opcode, squeue, types};

/// Batches in flight, by index.
#[derive(Debug, Default)]
pub(super) struct Sends {
    entries: Entries,
    /// Indices of `entries` that are free.
    free: Vec<u32>,
    /// The most entries in use since the last trim.
    used_max: usize,
}

/// Entries in blocks, of which only the last is not full. A vector would leave its old copies with the
/// allocator as it grows, which together are as long as it.
#[derive(Debug, Default)]
struct Entries(Vec<Vec<Entry>>);

#[derive(Debug, Default)]
struct Entry {
    owner: Option<(Token, Box<SendBatch>)>,
    /// Made at the first batch of several segments, kept for the next.
    gather: Option<Box<Gather>>,
}

/// The arguments of `sendmsg`.
struct Gather {
    message: libc::msghdr,
    /// No more than [`SEGMENTS_PER_SEND_MAX`], and not touched until the completion.
    parts: Vec<libc::iovec>,
}

/// Segments that leave with one send; the rest goes with the next.
pub(super) const SEGMENTS_PER_SEND_MAX: usize = 64;

/// Entries that are kept, which take up to 1 KiB each.
const ENTRIES_KEPT: usize = 64;
const BLOCK_ENTRIES: usize = 64;

// `UIO_MAXIOV`: more would be refused by the kernel.
const _: () = assert!(SEGMENTS_PER_SEND_MAX <= 1024);

impl Sends {
    /// Keeps `batch`, and returns its index and the operation that sends it.
    pub(super) fn put(
        &mut self,
        socket: Socket,
        token: Token,
        batch: Box<SendBatch>,
    ) -> (u32, squeue::Entry) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            (self.entries.len() - 1) as u32
        });
        self.used_max = self.used_max.max(self.entries.len() - self.free.len());
        let entry = self.entries.get_mut(index).expect("a free index is one of an entry");
        let operation = entry.operation(socket, &batch);
        entry.owner = Some((token, batch));
        (index, operation)
    }

    /// Takes the batch at `index` back, after its completion.
    pub(super) fn take(&mut self, index: u32) -> Option<(Token, Box<SendBatch>)> {
        let owner = self.entries.get_mut(index)?.owner.take()?;
        self.free.push(index);
        Some(owner)
    }

    /// Whether there are more entries than a quiet ring needs, and some can go.
    pub(super) fn has_spare(&self) -> bool {
        self.entries.len() > ENTRIES_KEPT && self.entries.is_last_free()
    }

    /// Frees entries that were not needed since the last call, as far as they are the last ones.
    pub(super) fn trim(&mut self) {
        let wanted = ENTRIES_KEPT.max(self.used_max);
        while self.entries.len() > wanted && self.entries.is_last_free() {
            self.entries.pop();
        }
        let len = self.entries.len();
        self.free.retain(|index| (*index as usize) < len);
        self.free.shrink_to(len);
        self.used_max = len - self.free.len();
    }

    /// Gives up the memory of what is in flight, as the kernel may still read it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.entries));
    }
}

impl Entries {
    fn len(&self) -> usize {
        let full = self.0.len().saturating_sub(1) * BLOCK_ENTRIES;
        self.0.last().map_or(0, |last| full + last.len())
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Entry> {
        let index = index as usize;
        self.0.get_mut(index / BLOCK_ENTRIES)?.get_mut(index % BLOCK_ENTRIES)
    }

    fn push(&mut self, entry: Entry) {
        match self.0.last_mut() {
            Some(last) if last.len() < BLOCK_ENTRIES => last.push(entry),
            _ => {
                let mut block = Vec::with_capacity(BLOCK_ENTRIES);
                block.push(entry);
                self.0.push(block);
            }
        }
    }

    fn pop(&mut self) {
        if let Some(last) = self.0.last_mut() {
            last.pop();
        }
        self.0.pop_if(|last| last.is_empty());
    }

    fn is_last_free(&self) -> bool {
        self.0.last().and_then(|last| last.last()).is_some_and(Entry::is_free)
    }
}

impl Entry {
    fn is_free(&self) -> bool {
        self.owner.is_none()
    }

    /// The operation that sends as much of `batch` as fits into one.
    ///
    /// The pointers in it lead to the heap (the buffers, the queue of segments, `gather` and its
    /// parts), so the batch may be moved.
    fn operation(&mut self, socket: Socket, batch: &SendBatch) -> squeue::Entry {
        let fd = types::Fd(socket.0);
        // MSG_WAITALL: the kernel waits for room and goes on, instead of telling us of each part.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let mut segments = batch.segments();
        if segments.len() == 1
            && let Some(only) = segments.next()
        {
            let len = u32::try_from(only.len()).unwrap_or(u32::MAX);
            return opcode::Send::new(fd, only.as_ptr(), len).flags(flags).build();
        }
        let gather = self.gather.get_or_insert_with(Gather::new);
        gather.parts.clear();
        gather.parts.extend(segments.take(SEGMENTS_PER_SEND_MAX).map(|segment| libc::iovec {
            iov_base: segment.as_ptr().cast_mut().cast(),
            iov_len: segment.len(),
        }));
        gather.message.msg_iov = gather.parts.as_mut_ptr();
        gather.message.msg_iovlen = gather.parts.len();
        opcode::SendMsg::new(fd, &raw const gather.message).flags(flags as u32).build()
    }
}

impl Gather {
    fn new() -> Box<Self> {
        // SAFETY: `msghdr` is made of integers and raw pointers, for which zero is a value; it has
        // private padding on some systems, so it cannot be written as a literal.
        #[expect(unsafe_code)]
        let message = unsafe { std::mem::zeroed() };
        Box::new(Self { message, parts: Vec::new() })
    }
}

impl std::fmt::Debug for Gather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gather").field("parts", &self.message.msg_iovlen).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Segment;

    fn batch() -> Box<SendBatch> {
        let mut batch = SendBatch::default();
        batch.push(Segment::short(b"x"));
        Box::new(batch)
    }

    #[test]
    fn each_batch_comes_back_by_its_index_and_what_a_burst_took_goes() {
        let mut sends = Sends::default();
        let token = |slot| Token { slot, generation: 7 };
        let count = 5 * BLOCK_ENTRIES as u32 + 3;
        for slot in 0..count {
            assert_eq!(sends.put(Socket(1), token(slot), batch()).0, slot);
        }
        assert_eq!((sends.entries.len(), sends.has_spare()), (count as usize, false));
        assert!(sends.take(count).is_none(), "there is none");
        for slot in (0..count).rev() {
            assert_eq!(sends.take(slot).map(|(token, _)| token), Some(token(slot)));
            assert!(sends.take(slot).is_none(), "it is taken");
        }
        assert!(sends.has_spare());
        // The burst was since the last call.
        sends.trim();
        assert_eq!(sends.entries.len(), count as usize);
        sends.trim();
        assert_eq!((sends.entries.len(), sends.entries.0.len()), (ENTRIES_KEPT, 1));
        assert_eq!((sends.free.len(), sends.has_spare()), (ENTRIES_KEPT, false));
        // What is left is used again, and then there is more.
        let indices =
            (0..=ENTRIES_KEPT as u32).map(|slot| sends.put(Socket(1), token(slot), batch()).0);
        let mut indices: Vec<_> = indices.collect();
        indices.sort_unstable();
        assert!(indices.into_iter().eq(0..=ENTRIES_KEPT as u32));
    }
}
