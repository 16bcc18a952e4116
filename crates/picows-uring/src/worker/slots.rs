//! The connections of a worker, by token.

use crate::connection::Connection;
use crate::ring::Token;

/// Slots that are used again and again, each time under another generation.
///
/// They come in chunks, so that a crowd is taken in without moving who is there, and the memory of
/// a crowd that has left can go.
#[derive(Default)]
pub(super) struct Slots {
    chunks: Vec<Chunk>,
    /// No chunk before this one has room. The first with room is taken, so that the last ones
    /// become empty.
    first_with_room: usize,
    /// Slots in use.
    used: usize,
    /// Chunks that have memory.
    allocated: usize,
    /// Those of them that have nothing in it.
    empty: usize,
    /// The fewest of those since the last trim: so many were not needed.
    empty_min: usize,
}

/// The memory of some slots, while any is in use, and for a while after.
struct Chunk {
    /// A bit for each slot that is free.
    free: u64,
    /// The generation of slots that are made anew: none of their tokens was ever given out.
    generation: u32,
    slots: Vec<Slot>,
}

enum Slot {
    /// The generation of its next owner.
    Free(u32),
    /// Its session knows the token.
    Used(Connection),
}

impl Slots {
    /// Puts the connection that `make` makes of its token into a free slot.
    pub(super) fn insert(&mut self, make: impl FnOnce(Token) -> Connection) -> Token {
        while self.chunks.get(self.first_with_room).is_some_and(|chunk| chunk.free == 0) {
            self.first_with_room += 1;
        }
        let index = self.first_with_room;
        if index == self.chunks.len() {
            self.chunks.push(Chunk { free: ALL, generation: 0, slots: Vec::new() });
        }
        let chunk = &mut self.chunks[index];
        if chunk.slots.is_empty() {
            let generation = chunk.generation;
            let slot = || Slot::Free(generation);
            chunk.slots = std::iter::repeat_with(slot).take(CHUNK_SLOTS).collect();
            self.allocated += 1;
        } else if chunk.free == ALL {
            self.empty -= 1;
            self.empty_min = self.empty_min.min(self.empty);
        }
        let place = chunk.free.trailing_zeros();
        chunk.free &= !(1 << place);
        self.used += 1;
        let entry = &mut chunk.slots[place as usize];
        let slot = (index * CHUNK_SLOTS) as u32 + place;
        let token = Token { slot, generation: entry.generation() };
        *entry = Slot::Used(make(token));
        token
    }

    /// The connection of `token`, unless it is gone.
    #[inline]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Connection> {
        let (index, place) = position(token);
        match self.chunks.get_mut(index)?.slots.get_mut(place)? {
            Slot::Used(connection) if connection.session().token == token => Some(connection),
            _ => None,
        }
    }

    /// Drops the connection of `token` and frees its slot. Nothing of it may be in flight.
    pub(super) fn free(&mut self, token: Token) {
        debug_assert!(
            self.get_mut(token).is_none_or(|it| !it.link.is_busy(it.session())),
            "freed with operations in flight"
        );
        if self.get_mut(token).is_none() {
            return;
        }
        let (index, place) = position(token);
        let chunk = &mut self.chunks[index];
        chunk.slots[place] = Slot::Free((token.generation + 1) % Token::GENERATIONS);
        chunk.free |= 1 << place;
        self.empty += usize::from(chunk.free == ALL);
        self.used -= 1;
        self.first_with_room = self.first_with_room.min(index);
    }

    /// How many slots are in use.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        let slots = self.chunks.iter_mut().flat_map(|chunk| &mut chunk.slots);
        slots.filter_map(|slot| match slot {
            Slot::Used(connection) => Some(connection),
            Slot::Free(_) => None,
        })
    }

    /// Whether there is memory that may not be needed.
    pub(super) fn has_spare(&self) -> bool {
        self.empty > EMPTY_CHUNKS_KEPT
    }

    /// Frees the memory of chunks that were not needed since the last call.
    pub(super) fn trim(&mut self) {
        let mut surplus = self.empty_min.min(self.empty.saturating_sub(EMPTY_CHUNKS_KEPT));
        for chunk in self.chunks.iter_mut().rev() {
            if surplus == 0 {
                break;
            }
            if chunk.free == ALL && !chunk.slots.is_empty() {
                // A handle in another thread may still name one of these slots.
                let generations = chunk.slots.iter().map(Slot::generation);
                chunk.generation = generations.max().unwrap_or(chunk.generation);
                chunk.slots = Vec::new();
                self.allocated -= 1;
                self.empty -= 1;
                surplus -= 1;
            }
        }
        self.empty_min = self.empty;
    }

    /// Bytes that the slots take, in use or not.
    pub(super) fn bytes(&self) -> usize {
        self.allocated * CHUNK_SLOTS * size_of::<Slot>()
            + self.chunks.capacity() * size_of::<Chunk>()
    }
}

impl Slot {
    fn generation(&self) -> u32 {
        match self {
            Self::Free(generation) => *generation,
            Self::Used(connection) => connection.session().token.generation,
        }
    }
}

/// Which chunk, and where in it.
fn position(token: Token) -> (usize, usize) {
    (token.slot as usize / CHUNK_SLOTS, token.slot as usize % CHUNK_SLOTS)
}

/// A bit of a word each.
const CHUNK_SLOTS: usize = u64::BITS as usize;
/// A chunk with every slot free.
const ALL: u64 = u64::MAX;
/// A few connections that come and go cost no allocation each time.
const EMPTY_CHUNKS_KEPT: usize = 1;

/// What a connection takes beside its session; see `SESSION_BYTES_MAX`.
const SLOT_BYTES_MAX: usize = 112;
const _: () = assert!(size_of::<Slot>() <= SLOT_BYTES_MAX);

#[cfg(test)]
mod tests;
