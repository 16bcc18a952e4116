//! Publications that a subscription holds back while its peer does not keep up.
//!
//! References only: the messages are those of all subscribers. Computes, and knows no connection.

use super::post::Publication;
use crate::prepared::Prepared;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What a subscription is missing in front of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Misses {
    /// Publications that are known to be missing.
    pub(super) count: u64,
    /// Others may be missing, of unknown number.
    pub(super) is_unknown: bool,
    /// The topic of the last of them.
    pub(super) topic: Option<Arc<str>>,
    pub(super) offset: u64,
    pub(super) epoch: u64,
}

impl Misses {
    pub(super) const fn is_some(&self) -> bool {
        self.count > 0 || self.is_unknown
    }

    /// Adds a publication.
    fn add(&mut self, publication: &Publication) {
        let position = publication.position();
        self.count += 1;
        self.topic = Some(Arc::clone(publication.topic_name()));
        (self.epoch, self.offset) = (position.epoch, position.offset);
    }

    /// Adds what is missing behind it.
    pub(super) fn merge(&mut self, later: Self) {
        if later.is_some() {
            let (count, is_unknown) = (self.count, self.is_unknown);
            *self = later;
            self.count += count;
            self.is_unknown |= is_unknown;
        }
    }
}

/// A publication that is held back, with what is missing in front of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) publication: Publication,
    /// What is sent for it, where that is not its own message.
    pub(super) message: Option<Prepared>,
    pub(super) missed: Misses,
    key: Option<HeldKey>,
}

/// What a later publication has to have in common with one that it replaces.
type HeldKey = (u64, Option<u64>);

/// The bound of a backlog, and what gives way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// None: it is for another one to say what is too much.
    Open,
    /// The newest is refused beyond so many bytes.
    Bytes(usize),
    /// The oldest is dropped beyond so many.
    Count(usize),
    /// An older one of the same topic is replaced.
    Topic,
    /// An older one of the same topic and key is.
    Key,
}

/// The fate of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Held,
    /// It is held, in the place of an older one.
    Replaced,
    /// It is held, and the oldest was dropped.
    DroppedOldest,
    /// It is not held: there is no room.
    Full,
}

/// The publications that a subscription holds back, oldest first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    entries: VecDeque<Held>,
    /// The number of the entry in front; they are numbered without end.
    front: u64,
    /// Entries in front that belong to a recovery, which is exempt from bounds.
    recovered: usize,
    /// The numbers of those that can be replaced.
    keys: HashMap<HeldKey, u64>,
    bytes: usize,
    /// What is missing behind the last entry.
    trailing: Misses,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a publication of the history: it is never dropped.
    pub(super) fn put_recovered(&mut self, publication: Publication, message: Option<Prepared>) {
        debug_assert_eq!(self.recovered, self.entries.len(), "history comes first");
        self.recovered += 1;
        self.push(publication, message, None);
    }

    /// Adds a publication.
    pub(super) fn put(
        &mut self,
        publication: Publication,
        message: Option<Prepared>,
        bound: Bound,
    ) -> Put {
        match bound {
            Bound::Bytes(max) if self.bytes + len(&publication, message.as_ref()) > max => {
                return Put::Full;
            }
            Bound::Open | Bound::Bytes(_) => self.push(publication, message, None),
            Bound::Count(max) => {
                let is_full = self.entries.len() - self.recovered >= max.max(1);
                if is_full {
                    self.drop_oldest();
                }
                self.push(publication, message, None);
                if is_full {
                    return Put::DroppedOldest;
                }
            }
            Bound::Topic => {
                return self.replace((publication.topic_id(), None), publication, message);
            }
            Bound::Key => {
                let key = (publication.topic_id(), publication.key());
                return self.replace(key, publication, message);
            }
        }
        Put::Held
    }

    fn replace(
        &mut self,
        key: HeldKey,
        publication: Publication,
        message: Option<Prepared>,
    ) -> Put {
        let Some(number) = self.keys.get(&key) else {
            self.push(publication, message, Some(key));
            return Put::Held;
        };
        let position = (number - self.front) as usize;
        let Some(entry) = self.entries.get_mut(position) else { return Put::Full };
        self.bytes -= len(&entry.publication, entry.message.as_ref());
        self.bytes += len(&publication, message.as_ref());
        (entry.publication, entry.message) = (publication, message);
        Put::Replaced
    }

    fn push(&mut self, publication: Publication, message: Option<Prepared>, key: Option<HeldKey>) {
        if let Some(key) = key {
            self.keys.insert(key, self.front + self.entries.len() as u64);
        }
        self.bytes += len(&publication, message.as_ref());
        let missed = std::mem::take(&mut self.trailing);
        self.entries.push_back(Held { publication, message, missed, key });
    }

    /// Drops the oldest entry that is not part of a recovery; what follows knows of it.
    fn drop_oldest(&mut self) {
        let Some(mut entry) = self.entries.remove(self.recovered) else { return };
        self.bytes -= len(&entry.publication, entry.message.as_ref());
        // No entry has a key where entries are dropped, so no number changes that anything refers to.
        entry.missed.add(&entry.publication);
        let next = match self.entries.get_mut(self.recovered) {
            Some(next) => &mut next.missed,
            None => &mut self.trailing,
        };
        let later = std::mem::replace(next, entry.missed);
        next.merge(later);
    }

    /// Records that publications are missing here.
    pub(super) fn miss(&mut self, missed: Misses) {
        self.trailing.merge(missed);
    }

    /// What is missing behind everything that is held.
    pub(super) fn take_trailing(&mut self) -> Misses {
        std::mem::take(&mut self.trailing)
    }

    /// Takes the oldest entry.
    pub(super) fn pop(&mut self) -> Option<Held> {
        let entry = self.entries.pop_front()?;
        self.front += 1;
        self.recovered = self.recovered.saturating_sub(1);
        self.bytes -= len(&entry.publication, entry.message.as_ref());
        if let Some(key) = entry.key {
            self.keys.remove(&key);
        }
        Some(entry)
    }

    /// Puts back what was taken and could not be sent.
    pub(super) fn put_back(&mut self, entry: Held, is_recovered: bool) {
        self.front -= 1;
        self.recovered += usize::from(is_recovered);
        self.bytes += len(&entry.publication, entry.message.as_ref());
        if let Some(key) = entry.key {
            self.keys.insert(key, self.front);
        }
        self.entries.push_front(entry);
    }

    /// Whether the oldest entry is part of a recovery.
    pub(super) const fn begins_recovered(&self) -> bool {
        self.recovered > 0
    }
}

/// Bytes to be sent for a publication.
fn len(publication: &Publication, message: Option<&Prepared>) -> usize {
    message.unwrap_or_else(|| publication.message()).frame().len()
}

#[cfg(test)]
mod tests {
    use super::super::position::Position;
    use super::super::post::Post;
    use super::*;

    fn publication(topic: u64, offset: u64, key: Option<u64>) -> Publication {
        let encoded = Post::binary(vec![0; 98]).with_key(key).encode(None).unwrap();
        let name = Arc::from(format!("t{topic}"));
        Publication::new(&name, topic, Position { epoch: 1, offset }, encoded)
    }

    fn drain(backlog: &mut Backlog) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        while let Some(held) = backlog.pop() {
            all.push((held.missed.count, held.publication.position().offset));
        }
        all
    }

    #[test]
    fn the_oldest_gives_way_and_the_next_knows_how_many() {
        let mut backlog = Backlog::default();
        let mut dropped = 0;
        for offset in 1..=10 {
            let put = backlog.put(publication(1, offset, None), None, Bound::Count(3));
            dropped += u64::from(put == Put::DroppedOldest);
        }
        assert_eq!((dropped, backlog.len()), (7, 3));
        assert_eq!(drain(&mut backlog), [(7, 8), (0, 9), (0, 10)]);
        assert_eq!((backlog.bytes, backlog.len()), (0, 0));
    }

    #[test]
    fn a_bound_of_one_keeps_count_of_what_is_missing() {
        let mut backlog = Backlog::default();
        for offset in 1..=4 {
            backlog.put(publication(1, offset, None), None, Bound::Count(1));
        }
        assert_eq!(drain(&mut backlog), [(3, 4)]);
    }

    #[test]
    fn a_recovery_is_exempt_and_comes_first() {
        let mut backlog = Backlog::default();
        (1..=5).for_each(|offset| backlog.put_recovered(publication(1, offset, None), None));
        for offset in 6..=9 {
            backlog.put(publication(1, offset, None), None, Bound::Count(2));
        }
        let expected = [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (2, 8), (0, 9)];
        assert_eq!(drain(&mut backlog), expected);
    }

    #[test]
    fn bytes_refuse_the_newest() {
        let mut backlog = Backlog::default();
        let puts: Vec<_> = (1..=4)
            .map(|offset| backlog.put(publication(1, offset, None), None, Bound::Bytes(250)))
            .collect();
        assert_eq!(puts, [Put::Held, Put::Held, Put::Full, Put::Full]);
        let put = backlog.put(publication(1, 5, None), None, Bound::Open);
        assert_eq!((put, backlog.len()), (Put::Held, 3));
    }

    #[test]
    fn the_latest_of_a_topic_or_a_key_takes_the_place_of_the_one_before() {
        let mut backlog = Backlog::default();
        for (topic, offset) in [(1, 1), (2, 1), (1, 2), (1, 3), (2, 2)] {
            backlog.put(publication(topic, offset, Some(offset)), None, Bound::Topic);
        }
        assert_eq!(drain(&mut backlog), [(0, 3), (0, 2)]);
        for (offset, key) in [(1, Some(7)), (2, Some(8)), (3, None), (4, Some(7)), (5, None)] {
            backlog.put(publication(1, offset, key), None, Bound::Key);
        }
        assert_eq!(drain(&mut backlog), [(0, 4), (0, 2), (0, 5)]);
        assert!(backlog.keys.is_empty());
    }

    #[test]
    fn what_is_put_back_can_still_be_replaced() {
        let mut backlog = Backlog::default();
        backlog.put(publication(1, 1, None), None, Bound::Topic);
        backlog.put(publication(2, 1, None), None, Bound::Topic);
        let held = backlog.pop().unwrap();
        backlog.put_back(held, false);
        assert_eq!(backlog.put(publication(1, 2, None), None, Bound::Topic), Put::Replaced);
        assert_eq!(drain(&mut backlog), [(0, 2), (0, 1)]);
    }

    #[test]
    fn a_gap_is_told_apart_from_what_was_dropped() {
        let mut backlog = Backlog::default();
        backlog.put(publication(1, 1, None), None, Bound::Count(2));
        backlog.miss(Misses { is_unknown: true, ..Misses::default() });
        backlog.put(publication(1, 5, None), None, Bound::Count(2));
        let entries: Vec<_> = std::iter::from_fn(|| backlog.pop()).collect();
        assert!(!entries[0].missed.is_some());
        assert!(entries[1].missed.is_unknown && entries[1].missed.count == 0);
        backlog.miss(Misses { count: 2, ..Misses::default() });
        assert_eq!(backlog.take_trailing().count, 2);
        assert!(!backlog.take_trailing().is_some());
    }
}
