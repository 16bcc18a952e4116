//! History of a topic: a bounded log, from which subscribers recover all or nothing.

use super::history_memory::HistoryMemory;
use super::post::Publication;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How much a topic keeps of what was published: nothing by default. Each of the bounds holds.
///
/// ```
/// use picows_uring::topics::History;
/// use std::time::Duration;
///
/// let hour = History::last(10_000).bytes(1 << 20).age(Duration::from_secs(3600));
/// assert_eq!((hour.count, hour.bytes), (10_000, 1 << 20));
/// assert_eq!(History::none().count, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// Publications.
    pub count: usize,
    /// Bytes of them, with what each takes beside its payload.
    pub bytes: usize,
    /// The age up to which they are kept.
    pub age: Option<Duration>,
}

impl History {
    /// Nothing is kept.
    #[must_use]
    pub const fn none() -> Self {
        Self { count: 0, bytes: HISTORY_BYTES, age: None }
    }

    /// The last `count` publications are kept, of any age, up to 64 MiB. One is the last value, for
    /// those who subscribe.
    #[must_use]
    pub const fn last(count: usize) -> Self {
        Self { count, ..Self::none() }
    }

    /// The same, up to other bytes.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// The same, up to an age.
    #[must_use]
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}

impl Default for History {
    fn default() -> Self {
        Self::none()
    }
}

/// The publications that a topic keeps, oldest first.
#[derive(Debug)]
pub(super) struct Log {
    limits: History,
    entries: VecDeque<(Duration, Publication)>,
    bytes: usize,
    /// Nothing is missing behind this offset.
    floor: u64,
    /// The sum that `bytes` is part of.
    memory: Arc<HistoryMemory>,
}

impl Log {
    /// An empty log of a topic whose last publication has the offset `floor`.
    pub(super) const fn new(limits: History, floor: u64, memory: Arc<HistoryMemory>) -> Self {
        Self { limits, entries: VecDeque::new(), bytes: 0, floor, memory }
    }

    /// Adds a publication, at `now`.
    pub(super) fn append(&mut self, publication: Publication, now: Duration) {
        if self.limits.count == 0 {
            self.floor = publication.position().offset;
            return;
        }
        let before = self.bytes;
        self.bytes += publication.memory();
        self.entries.push_back((now, publication));
        while self.entries.len() > self.limits.count || self.bytes > self.limits.bytes {
            if !self.drop_oldest() {
                break;
            }
        }
        self.drop_old(now);
        self.memory.change(before, self.bytes);
    }

    /// Drops what is too old at `now`.
    pub(super) fn expire(&mut self, now: Duration) {
        let before = self.bytes;
        self.drop_old(now);
        self.memory.change(before, self.bytes);
    }

    fn drop_old(&mut self, now: Duration) {
        let Some(age) = self.limits.age else { return };
        let is_old = |at: Duration| now.saturating_sub(at) > age;
        while self.entries.front().is_some_and(|(at, _)| is_old(*at)) && self.drop_oldest() {}
    }

    /// Drops the oldest, until no more than so many bytes are left.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let before = self.bytes;
        while self.bytes > bytes && self.drop_oldest() {}
        self.entries.shrink_to(2 * self.entries.len());
        self.memory.change(before, self.bytes);
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, publication)) = self.entries.pop_front() else { return false };
        self.bytes -= publication.memory();
        self.floor = self.floor.max(publication.position().offset);
        true
    }

    /// All publications behind `offset`, oldest first; `None` if one of them may be missing.
    pub(super) fn after(&self, offset: u64) -> Option<impl Iterator<Item = &Publication>> {
        if offset < self.floor {
            return None;
        }
        // Offsets only increase.
        let start = self.entries.partition_point(|(_, it)| it.position().offset <= offset);
        Some(self.entries.range(start..).map(|(_, publication)| publication))
    }

    /// The last `count` publications that are kept, oldest first.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = &Publication> {
        let start = self.entries.len() - count.min(self.entries.len());
        self.entries.range(start..).map(|(_, publication)| publication)
    }

    /// Drops everything, as something is missing behind the publication `last`: what a history brings is
    /// to be without a hole, and for those who have `last`, too, one begins there.
    pub(super) fn break_behind(&mut self, last: u64) {
        self.restart(last + 1);
    }

    /// Drops everything, as what follows has another epoch.
    pub(super) fn restart(&mut self, floor: u64) {
        self.entries.clear();
        self.memory.change(self.bytes, 0);
        (self.bytes, self.floor) = (0, floor);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of memory that the publications take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn limits(&self) -> &History {
        &self.limits
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.memory.change(self.bytes, 0);
    }
}

/// Enough for many rooms' last hours, and little enough to be no surprise.
const HISTORY_BYTES: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::super::position::Position;
    use super::super::post::Post;
    use super::*;

    fn publication(offset: u64, len: usize) -> Publication {
        let encoded = Post::binary(vec![0; len]).encode(None).unwrap();
        Publication::new(&Arc::from("t"), 1, Position { epoch: 1, offset }, encoded)
    }

    fn filled(limits: History, offsets: std::ops::RangeInclusive<u64>) -> Log {
        let mut log = Log::new(limits, 0, Arc::default());
        offsets.for_each(|offset| log.append(publication(offset, 10), Duration::ZERO));
        log
    }

    fn offsets<'a>(all: impl Iterator<Item = &'a Publication>) -> Vec<u64> {
        all.map(|it| it.position().offset).collect()
    }

    #[test]
    fn recovery_is_all_or_nothing() {
        let log = filled(History::last(5), 1..=7);
        assert!(log.after(0).is_none(), "7 missed, 5 kept");
        assert!(log.after(1).is_none());
        assert_eq!(offsets(log.after(2).unwrap()), [3, 4, 5, 6, 7]);
        assert_eq!(offsets(log.after(6).unwrap()), [7]);
        assert_eq!(offsets(log.after(7).unwrap()), [0; 0]);
        assert_eq!(offsets(log.last(2)), [6, 7]);
        assert_eq!(offsets(log.last(99)), [3, 4, 5, 6, 7]);
    }

    #[test]
    fn bytes_and_age_are_bounds_too() {
        let each = publication(1, 10).memory();
        let log = filled(History::last(100).bytes(3 * each), 1..=7);
        assert_eq!((offsets(log.last(99)), log.bytes()), (vec![5, 6, 7], 3 * each));
        let mut log = Log::new(History::last(100).bytes(each), 0, Arc::default());
        log.append(publication(1, 1000), Duration::ZERO);
        assert_eq!((log.len(), log.bytes()), (0, 0), "longer than all");
        assert!(log.after(0).is_none() && log.after(1).is_some());

        let second = Duration::from_secs(1);
        let mut log = Log::new(History::last(100).age(10 * second), 0, Arc::default());
        for offset in 1..=5 {
            log.append(publication(offset, 10), second * offset as u32);
        }
        log.expire(second * 13);
        assert_eq!(offsets(log.last(99)), [3, 4, 5]);
        assert!(log.after(1).is_none() && log.after(2).is_some());
        log.expire(second * 100);
        assert_eq!((log.len(), log.bytes()), (0, 0));
        assert!(log.after(4).is_none(), "the fifth is gone");
        assert_eq!(offsets(log.after(5).unwrap()), [0; 0], "nothing was missed");
    }

    #[test]
    fn the_sum_of_histories_is_what_they_have() {
        let memory = Arc::new(HistoryMemory::default());
        let mut logs = [(); 2].map(|()| Log::new(History::last(3), 0, Arc::clone(&memory)));
        for offset in 1..=5 {
            logs.iter_mut().for_each(|log| log.append(publication(offset, 10), Duration::ZERO));
        }
        let each = publication(1, 10).memory();
        assert_eq!(memory.held(), 6 * each);
        logs[0].shrink_to(2 * each - 1);
        assert_eq!((offsets(logs[0].last(9)), memory.held()), (vec![5], 4 * each));
        assert!(logs[0].after(3).is_none() && logs[0].after(4).is_some(), "none is partial");
        logs[0].break_behind(5);
        assert_eq!(memory.held(), 3 * each);
        drop(logs);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_topic_without_history_recovers_those_who_missed_nothing() {
        let log = filled(History::none(), 1..=3);
        assert!(log.after(2).is_none());
        assert_eq!(offsets(log.after(3).unwrap()), [0; 0]);
    }

    #[test]
    fn a_history_begins_anew_behind_a_gap() {
        let mut log = filled(History::last(10), 1..=3);
        log.break_behind(3);
        assert_eq!((log.len(), log.bytes()), (0, 0));
        assert!(log.after(3).is_none(), "what is behind it is missing");
        log.append(publication(4, 10), Duration::ZERO);
        assert!(log.after(3).is_none());
        assert_eq!(offsets(log.after(4).unwrap()), [0; 0]);
        assert_eq!(offsets(log.last(3)), [4]);
        let mut log = filled(History::none(), 1..=3);
        log.break_behind(3);
        assert!(log.after(3).is_none());
        log.append(publication(4, 10), Duration::ZERO);
        assert!(log.after(3).is_none() && log.after(4).is_some());
    }
}
