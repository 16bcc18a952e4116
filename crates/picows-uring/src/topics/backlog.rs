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

/// A publication that is held back. Each byte is paid for by every slow subscriber.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) publication: Publication,
    /// What is sent for it, where that is not its own message.
    pub(super) message: Option<Prepared>,
    /// What is missing in front of it.
    pub(super) missed: Option<Box<Misses>>,
}

const _: () = assert!(size_of::<Held>() <= 24 && size_of::<Backlog>() <= 104);

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
    /// The oldest, kept in place: most that are behind hold the latest of one topic and nothing else.
    first: Option<Held>,
    /// Those behind it.
    rest: VecDeque<Held>,
    /// The number of the first entry; they are numbered without end.
    front: u64,
    /// Entries in front that belong to a recovery, which is exempt from bounds, and is never replaced.
    recovered: usize,
    /// The numbers of the others, where there are too many to look at each.
    #[expect(clippy::box_collection, reason = "few have one, and the others pay for a pointer")]
    index: Option<Box<HashMap<HeldKey, u64>>>,
    /// A publication replaces one of the same topic only if it has the same key.
    is_by_key: bool,
    bytes: usize,
    /// What is missing behind the last entry.
    trailing: Option<Box<Misses>>,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Adds a publication of the history: it is never dropped.
    pub(super) fn put_recovered(&mut self, publication: Publication, message: Option<Prepared>) {
        debug_assert_eq!(self.recovered, self.len(), "history comes first");
        self.recovered += 1;
        self.push(publication, message);
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
            Bound::Open | Bound::Bytes(_) => self.push(publication, message),
            Bound::Count(max) => {
                let is_full = self.len() - self.recovered >= max.max(1);
                if is_full {
                    self.drop_oldest();
                }
                self.push(publication, message);
                if is_full {
                    return Put::DroppedOldest;
                }
            }
            Bound::Topic | Bound::Key => {
                self.is_by_key = bound == Bound::Key;
                return self.replace(publication, message);
            }
        }
        Put::Held
    }

    fn replace(&mut self, publication: Publication, message: Option<Prepared>) -> Put {
        let key = self.key_of(&publication);
        let Some(at) = self.position(key) else {
            let number = self.front + self.len() as u64;
            if let Some(index) = &mut self.index {
                index.insert(key, number);
            }
            self.push(publication, message);
            self.index_if_many();
            return Put::Held;
        };
        let entry = if at == 0 { self.first.as_mut() } else { self.rest.get_mut(at - 1) };
        let Some(entry) = entry else { return Put::Full };
        self.bytes -= entry.len();
        (entry.publication, entry.message) = (publication, message);
        self.bytes += entry.len();
        Put::Replaced
    }

    fn key_of(&self, publication: &Publication) -> HeldKey {
        (publication.topic_id(), publication.key().filter(|_| self.is_by_key))
    }

    /// The place of the entry that a publication with this key replaces.
    fn position(&self, key: HeldKey) -> Option<usize> {
        if let Some(index) = &self.index {
            return index.get(&key).map(|number| (number - self.front) as usize);
        }
        let entries = self.first.iter().chain(&self.rest).enumerate().skip(self.recovered);
        entries.into_iter().find(|(_, it)| self.key_of(&it.publication) == key).map(|(at, _)| at)
    }

    /// Makes the index, unless there is one or the entries are few.
    fn index_if_many(&mut self) {
        if self.index.is_some() || self.len() - self.recovered <= SEARCHED_MAX {
            return;
        }
        let entries = (self.front..).zip(self.first.iter().chain(&self.rest)).skip(self.recovered);
        let numbers = entries.map(|(number, it)| (self.key_of(&it.publication), number));
        self.index = Some(Box::new(numbers.collect()));
    }

    fn push(&mut self, publication: Publication, message: Option<Prepared>) {
        let entry = Held { publication, message, missed: self.trailing.take() };
        self.bytes += entry.len();
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.rest.push_back(entry);
        }
    }

    /// Takes the oldest entry off the list.
    fn take_first(&mut self) -> Option<Held> {
        std::mem::replace(&mut self.first, self.rest.pop_front())
    }

    /// Drops the oldest entry that is not part of a recovery; what follows knows of it.
    fn drop_oldest(&mut self) {
        debug_assert!(self.index.is_none(), "no entry is replaced where entries are dropped");
        let at = self.recovered;
        let entry = if at == 0 { self.take_first() } else { self.rest.remove(at - 1) };
        let Some(mut entry) = entry else { return };
        self.bytes -= entry.len();
        let mut missed = entry.missed.take().unwrap_or_default();
        missed.add(&entry.publication);
        let next = if at == 0 { self.first.as_mut() } else { self.rest.get_mut(at - 1) };
        let next = next.map_or(&mut self.trailing, |next| &mut next.missed);
        if let Some(later) = next.take() {
            missed.merge(*later);
        }
        *next = Some(missed);
    }

    /// Records that publications are missing here.
    pub(super) fn miss(&mut self, missed: Misses) {
        if missed.is_some() {
            self.trailing.get_or_insert_default().merge(missed);
        }
    }

    /// What is missing behind everything that is held.
    pub(super) fn take_trailing(&mut self) -> Option<Box<Misses>> {
        self.trailing.take()
    }

    /// Takes the oldest entry.
    pub(super) fn pop(&mut self) -> Option<Held> {
        let entry = self.take_first()?;
        self.front += 1;
        self.bytes -= entry.len();
        let is_recovered = self.begins_recovered();
        self.recovered = self.recovered.saturating_sub(1);
        let key = self.key_of(&entry.publication);
        if let Some(index) = &mut self.index
            && !is_recovered
        {
            index.remove(&key);
        }
        if self.first.is_none() {
            self.index = None;
        }
        Some(entry)
    }

    /// Puts back what was taken and could not be sent.
    pub(super) fn put_back(&mut self, entry: Held, is_recovered: bool) {
        self.front -= 1;
        self.recovered += usize::from(is_recovered);
        self.bytes += entry.len();
        let key = self.key_of(&entry.publication);
        if let Some(index) = &mut self.index
            && !is_recovered
        {
            index.insert(key, self.front);
        }
        if let Some(second) = self.first.replace(entry) {
            self.rest.push_front(second);
        }
    }

    /// Whether the oldest entry is part of a recovery.
    pub(super) const fn begins_recovered(&self) -> bool {
        self.recovered > 0
    }
}

impl Held {
    /// Bytes to be sent for it.
    fn len(&self) -> usize {
        len(&self.publication, self.message.as_ref())
    }
}

/// Entries that are looked at one by one for what a publication replaces.
const SEARCHED_MAX: usize = 16;

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
            let missed = held.missed.map_or(0, |missed| missed.count);
            all.push((missed, held.publication.position().offset));
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
        assert!(backlog.index.is_none());
    }

    #[test]
    fn of_many_keys_the_latest_takes_the_place_of_the_one_before_too() {
        let mut backlog = Backlog::default();
        (1..=2).for_each(|offset| backlog.put_recovered(publication(1, offset, Some(0)), None));
        let count = 3 * SEARCHED_MAX as u64;
        let put = |backlog: &mut Backlog, offset, key| {
            backlog.put(publication(1, offset, Some(key)), None, Bound::Key)
        };
        for key in 0..count {
            assert_eq!(put(&mut backlog, 10 + key, key), Put::Held, "what is recovered stays");
        }
        let recovered: Vec<_> = [(); 2].into_iter().filter_map(|()| backlog.pop()).collect();
        assert_eq!(
            recovered.iter().map(|it| it.publication.key()).collect::<Vec<_>>(),
            [Some(0); 2]
        );
        let first = backlog.pop().unwrap();
        assert_eq!(put(&mut backlog, 500, 0), Put::Held, "it is on its way");
        assert_eq!(put(&mut backlog, 501, 0), Put::Replaced);
        let again = backlog.pop().unwrap();
        backlog.put_back(again, false);
        assert_eq!(put(&mut backlog, 502, 1), Put::Replaced);
        assert_eq!(first.publication.position().offset, 10);
        let mut expected: Vec<_> = (1..count).map(|key| (0, 10 + key)).collect();
        expected[0].1 = 502;
        expected.push((0, 501));
        assert_eq!(drain(&mut backlog), expected);
        assert_eq!((backlog.bytes, backlog.len(), backlog.index.is_none()), (0, 0, true));
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
        let missed = |at: usize| entries[at].missed.as_deref();
        assert_eq!(missed(0), None);
        assert!(missed(1).is_some_and(|missed| missed.is_unknown && missed.count == 0));
        backlog.miss(Misses { count: 2, ..Misses::default() });
        assert_eq!(backlog.take_trailing().map(|missed| missed.count), Some(2));
        assert_eq!(backlog.take_trailing(), None);
    }
}
