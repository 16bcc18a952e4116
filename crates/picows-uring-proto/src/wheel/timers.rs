//! Storage of the timers of a wheel, by id.
//!
//! Arranges nothing: `dials.rs` owns the links between timers.

use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// Names one timer of one [`Wheel`](super::Wheel), for [`cancel`](super::Wheel::cancel).
///
/// Carries a generation, so an id whose timer has fired stays harmless when the timer's memory is
/// used for another. It means nothing to another wheel.
///
/// ```
/// use picows_uring_proto::{Tick, TimerId, Wheel};
///
/// assert_eq!(size_of::<Option<TimerId>>(), 8);
///
/// let mut wheel = Wheel::new(Tick::ZERO);
/// let stale = wheel.insert(Tick::ZERO, 1);
/// assert_eq!(wheel.expire(Tick::ZERO), Some(1));
/// let fresh = wheel.insert(Tick::ZERO, 2);
/// assert!(!wheel.cancel(stale));
/// assert!(wheel.cancel(fresh));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

const _: () = assert!(size_of::<Option<TimerId>>() == 8);

/// Armed timers, and free ones whose memory waits for the next.
#[derive(Debug)]
pub(super) struct Timers {
    entries: Vec<Timer>,
    /// The first of the free entries, which are linked through `next`.
    free: u32,
    /// Entries that are armed.
    armed: usize,
    /// The generation of entries that are made anew: no id of theirs was ever given out.
    generation: u32,
}

/// One entry, armed or free.
#[derive(Debug)]
pub(super) struct Timer {
    pub(super) token: u64,
    /// When it fires, in granules since the origin of time.
    pub(super) granule: u64,
    /// Neighbours in the list of its slot; `NONE` at the ends.
    pub(super) previous: u32,
    pub(super) next: u32,
    /// The slot it is listed in; `NONE` while it is free.
    pub(super) slot: u32,
    /// How often this entry was used, by which its ids differ. Zero once it is worn out.
    generation: u32,
}

/// Stands for "no timer" and "no dial" in links, which would be twice as long as `Option<u32>`.
pub(super) const NONE: u32 = u32::MAX;

/// An idle connection is to cost 300 bytes at most, its timer included.
const TIMER_BYTES_MAX: usize = 32;
const _: () = assert!(size_of::<Timer>() <= TIMER_BYTES_MAX);

impl Timers {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), free: NONE, armed: 0, generation: 1 }
    }

    /// Timers armed.
    pub(super) fn len(&self) -> usize {
        self.armed
    }

    /// Takes an entry for a timer that no slot lists yet.
    pub(super) fn allocate(&mut self, granule: u64, token: u64) -> u32 {
        self.armed += 1;
        if self.free != NONE {
            let index = self.free;
            let timer = &mut self[index];
            (timer.granule, timer.token) = (granule, token);
            self.free = timer.next;
            return index;
        }
        let index = u32::try_from(self.entries.len()).ok().filter(|index| *index < NONE);
        let index = index.expect("memory ends before 2^32 - 1 timers do");
        let (previous, next, slot) = (NONE, NONE, NONE);
        let generation = self.generation;
        self.entries.push(Timer { token, granule, previous, next, slot, generation });
        index
    }

    /// Gives back the entry of a timer that no slot lists any more. Its ids are stale from here on.
    pub(super) fn free(&mut self, index: u32) {
        self.armed -= 1;
        let free = self.free;
        let timer = &mut self[index];
        timer.generation = timer.generation.wrapping_add(1);
        timer.slot = NONE;
        // An entry that has used up its generations is left unused, or its first id would come to
        // life again: 32 bytes lost for every four thousand million timers.
        if timer.generation != 0 {
            timer.next = free;
            self.free = index;
        }
    }

    /// Gives up the memory of free entries behind the last that is armed or worn out.
    pub(super) fn trim(&mut self) {
        let before = self.entries.len();
        while let Some(last) = self.entries.pop_if(|last| last.is_free() && last.generation != 0) {
            self.generation = self.generation.max(last.generation);
        }
        if self.entries.len() == before {
            return;
        }
        self.entries.shrink_to_fit();
        self.free = NONE;
        for index in (0..self.entries.len() as u32).rev() {
            let free = self.free;
            let timer = &mut self[index];
            if timer.is_free() && timer.generation != 0 {
                timer.next = free;
                self.free = index;
            }
        }
    }

    /// The id of an armed timer.
    pub(super) fn id(&self, index: u32) -> TimerId {
        let generation = NonZeroU32::new(self[index].generation);
        TimerId { index, generation: generation.expect("a worn-out entry is never armed") }
    }

    /// The armed timer that `id` names, or `None` when it has fired or was cancelled.
    pub(super) fn find(&self, id: TimerId) -> Option<u32> {
        // A free entry has moved on to a generation that no id carries yet.
        let timer = self.entries.get(id.index as usize)?;
        (timer.generation == id.generation.get()).then_some(id.index)
    }

    /// The next timer in the list of `index`, if it fires together with it.
    pub(super) fn next_of_same_granule(&self, index: u32) -> Option<u32> {
        let timer = &self[index];
        (timer.next != NONE && self[timer.next].granule == timer.granule).then_some(timer.next)
    }
}

impl Timer {
    fn is_free(&self) -> bool {
        self.slot == NONE
    }
}

impl Index<u32> for Timers {
    type Output = Timer;

    fn index(&self, index: u32) -> &Timer {
        &self.entries[index as usize]
    }
}

impl IndexMut<u32> for Timers {
    fn index_mut(&mut self, index: u32) -> &mut Timer {
        &mut self.entries[index as usize]
    }
}

#[cfg(test)]
impl Timers {
    /// Entries for which memory is reserved.
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Ages a free or armed entry to its last generation.
    pub(super) fn wear_out(&mut self, index: u32) {
        self[index].generation = u32::MAX;
    }
}
