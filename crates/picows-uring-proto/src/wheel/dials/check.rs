//! Asserts what must hold of the dials between any two calls. For tests: it looks at everything.

use super::*;

impl Dials {
    /// Panics unless every armed timer is listed once, in the slot that covers its granule, and
    /// every dial is in use exactly once or free. Returns how many dials are in use.
    pub(in crate::wheel) fn check(&self, timers: &Timers) -> usize {
        let mut dials_in_use = 0;
        let mut timers_listed = 0;
        // A dial, its level, the slot it refines and the first granule it covers.
        let mut pending = vec![(ROOT, LEVEL_COARSEST, NONE, 0)];
        while let Some((index, level, parent, start)) = pending.pop() {
            dials_in_use += 1;
            let dial = &self.dials[index as usize];
            assert!(index == ROOT || dial.occupied != 0, "an empty dial is in use");
            assert_eq!(dial.refined & !dial.occupied, 0, "a refined slot is occupied");
            assert_eq!(dial.parent, parent);
            for digit in (0..DIAL_SLOTS).filter(|digit| dial.occupied & (1 << digit) != 0) {
                let slot = slot_index(index, digit);
                let span = 1 << (level * DIGIT_BITS);
                let start = start + digit as u64 * span;
                if let Some(finer) = self.finer(index, digit) {
                    pending.push((finer, level - 1, slot, start));
                } else {
                    timers_listed += self.check_list(timers, slot, start..start + span);
                }
            }
        }
        assert_eq!(timers_listed, timers.len());

        let mut dials_free = 0;
        let mut free = self.free;
        while free != NONE {
            dials_free += 1;
            assert_eq!(self.dials[free as usize].occupied, 0);
            free = self.dials[free as usize].parent;
        }
        assert_eq!(dials_in_use + dials_free, self.dials.len());
        dials_in_use
    }

    fn check_list(&self, timers: &Timers, slot: u32, granules: std::ops::Range<u64>) -> usize {
        let list = self.slot(slot);
        let mut count = 0;
        let mut previous = NONE;
        let mut timer = list.head;
        while timer != NONE {
            let entry = &timers[timer];
            assert!(granules.contains(&entry.granule), "{} in {granules:?}", entry.granule);
            assert_eq!((entry.slot, entry.previous), (slot, previous));
            count += 1;
            previous = timer;
            timer = entry.next;
        }
        assert_eq!((list.tail, list.count), (previous, count));
        assert!(count > 0, "an empty slot is occupied");
        let span = granules.end - granules.start;
        assert!(span == 1 || count <= SLOT_TIMERS_MAX, "{count} timers in {granules:?}");
        count as usize
    }

    /// Dials for which memory is reserved.
    pub(in crate::wheel) fn capacity(&self) -> usize {
        self.dials.capacity()
    }

    /// Bytes reserved for dials.
    pub(in crate::wheel) fn bytes(&self) -> usize {
        self.capacity() * size_of::<Dial>()
    }
}
