//! The dials of a wheel: which timers fire together, and which fire next.
//!
//! Knows granules, not nanoseconds, and has no idea how late it is.
//!
//! A dial divides a span of time into 64 slots. A slot is empty, lists its timers, or is *refined*:
//! covered by a finer dial that divides the slot's span once more. The coarsest dial covers all of
//! time; a slot of the finest level is one granule. A slot is refined only when it gets crowded
//! or when the next timer is in it, so the dials follow the timers: none for the years in which
//! nothing happens, the finest ones for the next few milliseconds.
//!
//! Dials do not turn. All timers of a granule are in one slot, the finest that covers it, and
//! they only ever move to a finer one, in order and seven times at most. This is why timers that
//! fire together do so in insertion order, and why finding the next is cheap on average.

use super::timers::{NONE, Timers};

/// A tree of dials, the coarsest at index `ROOT`.
#[derive(Debug)]
pub(super) struct Dials {
    dials: Vec<Dial>,
    /// The first of the dials out of use, which are linked through `parent`.
    free: u32,
}

/// Invariant: `refined` is a subset of `occupied`; no bit is set of a dial out of use.
#[derive(Debug)]
struct Dial {
    /// Slots with timers, in their list or in a finer dial.
    occupied: u64,
    /// Slots covered by a finer dial.
    refined: u64,
    /// The slot that this dial refines.
    parent: u32,
    /// Contents are left over from earlier use where `occupied` has no bit.
    slots: [Slot; DIAL_SLOTS],
}

/// A list of timers in insertion order; or a finer dial.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// First timer of the list. When refined: the finer dial.
    head: u32,
    /// Last timer of the list.
    tail: u32,
    /// Timers in the list.
    count: u32,
}

impl Dials {
    pub(super) fn new() -> Self {
        let mut dials = Self { dials: Vec::new(), free: NONE };
        let root = dials.allocate(NONE);
        debug_assert_eq!(root, ROOT);
        dials
    }

    /// Lists a timer in the finest slot that covers its granule.
    pub(super) fn insert(&mut self, timers: &mut Timers, timer: u32) {
        let granule = timers[timer].granule;
        let mut level = LEVEL_COARSEST;
        let mut dial = ROOT;
        while let Some(finer) = self.finer(dial, digit(granule, level)) {
            dial = finer;
            level -= 1;
        }
        self.push(timers, slot_index(dial, digit(granule, level)), timer);
        // Lists are kept short everywhere, so that no later step has to move many timers at once.
        while level > 0 && self.slot(timers[timer].slot).count > SLOT_TIMERS_MAX {
            self.refine(timers, timers[timer].slot, level);
            level -= 1;
        }
    }

    /// Takes a timer out of its slot's list, and puts dials out of use that are empty thereby.
    pub(super) fn remove(&mut self, timers: &mut Timers, timer: u32) {
        let (previous, next) = (timers[timer].previous, timers[timer].next);
        let index = timers[timer].slot;
        let slot = self.slot_mut(index);
        slot.count -= 1;
        match previous {
            NONE => slot.head = next,
            _ => timers[previous].next = next,
        }
        match next {
            NONE => slot.tail = previous,
            _ => timers[next].previous = previous,
        }
        if slot.count == 0 {
            self.vacate(index);
        }
    }

    /// The timer that fires first, and of those that fire together the one inserted first.
    pub(super) fn first(&mut self, timers: &mut Timers) -> Option<u32> {
        if self.dials[ROOT as usize].occupied == 0 {
            return None;
        }
        let mut level = LEVEL_COARSEST;
        let mut dial = ROOT;
        loop {
            // A dial in use has timers: only the root may be empty.
            let digit = self.dials[dial as usize].occupied.trailing_zeros() as usize;
            let slot = slot_index(dial, digit);
            if let Some(finer) = self.finer(dial, digit) {
                dial = finer;
                level -= 1;
            } else if level == 0 {
                return Some(self.slot(slot).head);
            } else if self.slot(slot).count <= SEARCH_TIMERS_MAX {
                return Some(self.search(timers, slot));
            } else {
                // The next round descends into it.
                self.refine(timers, slot, level);
            }
        }
    }

    /// The first to fire of one list.
    fn search(&self, timers: &Timers, slot: u32) -> u32 {
        let mut first = self.slot(slot).head;
        let mut timer = timers[first].next;
        while timer != NONE {
            // Among equals the older timer, which comes earlier in the list, stays first.
            if timers[timer].granule < timers[first].granule {
                first = timer;
            }
            timer = timers[timer].next;
        }
        first
    }

    /// Covers a slot of a dial of this level by a finer dial, and moves its timers there.
    fn refine(&mut self, timers: &mut Timers, slot: u32, level: u32) {
        let finer = self.allocate(slot);
        let mut timer = self.slot(slot).head;
        while timer != NONE {
            let next = timers[timer].next;
            let digit = digit(timers[timer].granule, level - 1);
            self.push(timers, slot_index(finer, digit), timer);
            timer = next;
        }
        self.slot_mut(slot).head = finer;
        let (dial, digit) = dial_and_digit(slot);
        self.dials[dial].refined |= 1 << digit;
    }

    /// Appends a timer to the list of a slot.
    fn push(&mut self, timers: &mut Timers, index: u32, timer: u32) {
        let (dial, digit) = dial_and_digit(index);
        let dial = &mut self.dials[dial];
        let slot = &mut dial.slots[digit];
        if dial.occupied & (1 << digit) == 0 {
            dial.occupied |= 1 << digit;
            *slot = Slot { head: timer, tail: NONE, count: 0 };
        } else {
            timers[slot.tail].next = timer;
        }
        let entry = &mut timers[timer];
        (entry.previous, entry.next, entry.slot) = (slot.tail, NONE, index);
        slot.tail = timer;
        slot.count += 1;
    }

    /// Marks a slot as empty, and with it every coarser one that has nothing else in it.
    fn vacate(&mut self, mut slot: u32) {
        loop {
            let (index, digit) = dial_and_digit(slot);
            let dial = &mut self.dials[index];
            dial.occupied &= !(1 << digit);
            dial.refined &= !(1 << digit);
            if dial.occupied != 0 || index == ROOT as usize {
                return;
            }
            slot = dial.parent;
            dial.parent = self.free;
            self.free = index as u32;
        }
    }

    /// Takes an empty dial, which refines `parent`, out of those not in use.
    fn allocate(&mut self, parent: u32) -> u32 {
        if self.free != NONE {
            let index = self.free;
            let dial = &mut self.dials[index as usize];
            self.free = dial.parent;
            dial.parent = parent;
            return index;
        }
        assert!(self.dials.len() < DIALS_MAX, "memory ends before the numbers of slots do");
        let slots = [Slot { head: NONE, tail: NONE, count: 0 }; DIAL_SLOTS];
        self.dials.push(Dial { occupied: 0, refined: 0, parent, slots });
        (self.dials.len() - 1) as u32
    }

    /// Gives up the memory of dials behind the last that is in use.
    pub(super) fn trim(&mut self) {
        // The root stays, in use or not.
        let in_use = self.dials.iter().rposition(|dial| dial.occupied != 0).unwrap_or(0);
        if in_use + 1 == self.dials.len() {
            return;
        }
        self.dials.truncate(in_use + 1);
        self.dials.shrink_to_fit();
        self.free = NONE;
        for index in (ROOT as usize + 1..self.dials.len()).rev() {
            if self.dials[index].occupied == 0 {
                self.dials[index].parent = self.free;
                self.free = index as u32;
            }
        }
    }

    /// The dial that refines a slot, if any.
    fn finer(&self, dial: u32, digit: usize) -> Option<u32> {
        let dial = &self.dials[dial as usize];
        (dial.refined & (1 << digit) != 0).then_some(dial.slots[digit].head)
    }

    fn slot(&self, index: u32) -> &Slot {
        let (dial, digit) = dial_and_digit(index);
        &self.dials[dial].slots[digit]
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        let (dial, digit) = dial_and_digit(index);
        &mut self.dials[dial].slots[digit]
    }
}

/// Which slot of a dial of this level covers `granule`.
fn digit(granule: u64, level: u32) -> usize {
    (granule >> (level * DIGIT_BITS)) as usize % DIAL_SLOTS
}

/// The number by which a timer knows its slot.
fn slot_index(dial: u32, digit: usize) -> u32 {
    dial * DIAL_SLOTS as u32 + digit as u32
}

/// The way back from `slot_index`.
fn dial_and_digit(slot: u32) -> (usize, usize) {
    (slot as usize / DIAL_SLOTS, slot as usize % DIAL_SLOTS)
}

/// The coarsest dial, which is always in use.
const ROOT: u32 = 0;

/// Each level takes this many bits of a granule.
const DIGIT_BITS: u32 = 6;

/// One bit of a word each, so that the first with timers is found with one instruction.
const DIAL_SLOTS: usize = 1 << DIGIT_BITS;
const _: () = assert!(DIAL_SLOTS == u64::BITS as usize);

/// Levels from the finest, 0, upwards: a dial covers 67 ms, 4.3 s, 4.6 min, 4.9 h, 13 days,
/// 2.3 years, 146 years and, with this one, all the time there is.
const LEVEL_COARSEST: u32 = 7;

/// The first granule beyond the coarsest dial.
pub(super) const GRANULE_END: u64 = 1 << (DIGIT_BITS * (LEVEL_COARSEST + 1));

/// Most timers in a list that is searched for the first of them. More are sorted into a finer
/// dial: that pays only when it spares several searches.
const SEARCH_TIMERS_MAX: u32 = 8;

/// Most timers in a list of more than one granule. It bounds what a single call can move.
const SLOT_TIMERS_MAX: u32 = 64;

/// What dials cost per timer when every slot has just become too crowded.
const DIAL_BYTES_PER_TIMER_MAX: usize = 16;
const _: () =
    assert!(size_of::<Dial>() <= (SLOT_TIMERS_MAX as usize + 1) * DIAL_BYTES_PER_TIMER_MAX);

// A list that was just found too long to be searched would be searched again otherwise.
const _: () = assert!(SEARCH_TIMERS_MAX <= SLOT_TIMERS_MAX);

/// Slots have 32-bit numbers, of which `NONE` is no slot.
const DIALS_MAX: usize = (u32::MAX / DIAL_SLOTS as u32) as usize;

#[cfg(test)]
mod check;
