//! Publications on their way to one worker, from all threads.
//!
//! The mailbox carries one command for any number of them. Bounded: beyond, a gap is left, which the
//! worker reports to its subscriptions.

use super::backlog::Misses;
use super::linger::Batching;
use super::post::Publication;
use super::settings::WaitingMax;
use crate::command::Command;
use crate::mailbox::Mailbox;
use crate::ring::Token;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The entries that wait for a worker.
#[derive(Debug)]
pub(super) struct Inbox {
    mailbox: Arc<Mailbox>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    /// The number of the entry that is pushed next; they are numbered without end.
    next: u64,
    publications: usize,
    bytes: usize,
    /// A command is in the mailbox for what waits.
    is_announced: bool,
    /// The worker has ended.
    is_closed: bool,
    /// Numbers of gaps to which further publications of their topics belong.
    gaps: HashMap<u64, u64>,
}

/// Something that happened in a topic.
#[derive(Debug)]
pub(super) enum Entry {
    Publication(Delivery),
    Gap(Gap),
    /// A bus has delivered the past of a subject, for those subscriptions that have waited for it.
    Ready(u64),
    /// Another thread ends the subscription with this number, of this connection.
    Unsubscribe(Token, u64),
}

/// A publication, and which subscriptions of the worker it goes to.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) publication: Publication,
    /// Subjects that match its topic and have subscribers here.
    pub(super) channels: Arc<[u64]>,
    /// The connection that does not get it.
    pub(super) except: Option<Token>,
    pub(super) batching: Batching,
}

/// Publications of a topic that the worker does not get.
#[derive(Debug)]
pub(super) struct Gap {
    pub(super) topic_id: u64,
    pub(super) misses: Misses,
    pub(super) channels: Arc<[u64]>,
}

/// The fate of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Taken,
    /// It waits behind many others.
    Behind,
    /// There is no room for it: there will be a gap.
    Full,
    /// The worker has ended.
    Closed,
}

/// What a worker takes at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<(u64, Entry)>,
    /// The number of the first entry that was not taken.
    pub(super) end: u64,
    pub(super) has_more: bool,
}

impl Inbox {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, state: Mutex::default() }
    }

    /// Adds a publication, within `max`.
    pub(super) fn push(&self, delivery: Delivery, max: WaitingMax) -> Pushed {
        let mut state = self.lock();
        if state.is_closed {
            return Pushed::Closed;
        }
        let bytes = delivery.publication.memory();
        let topic_id = delivery.publication.topic_id();
        let is_full = state.publications >= max.publications || state.bytes + bytes > max.bytes;
        if is_full && state.publications > 0 {
            state.leave_out(&delivery);
            return Pushed::Full;
        }
        if !state.gaps.is_empty() {
            state.gaps.remove(&topic_id);
        }
        state.publications += 1;
        state.bytes += bytes;
        state.add(Entry::Publication(delivery));
        let is_behind = state.publications > max.publications / BEHIND_PART
            || state.bytes > max.bytes / BEHIND_PART;
        if is_behind { Pushed::Behind } else { Pushed::Taken }
    }

    /// Adds an entry that needs no room: there are no more of them than topics, subjects and
    /// subscriptions.
    pub(super) fn push_notice(&self, entry: Entry) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        if let Entry::Gap(gap) = &entry
            && let Some(open) = state.open_gap(gap.topic_id)
        {
            return open.misses.merge(gap.misses.clone());
        }
        if let Entry::Gap(gap) = &entry {
            let next = state.next;
            state.gaps.insert(gap.topic_id, next);
        }
        state.add(entry);
    }

    /// Has the worker look, if it was not asked already.
    pub(super) fn announce(&self) {
        let is_first = !std::mem::replace(&mut self.lock().is_announced, true);
        if is_first {
            self.mailbox.post(Command::Topics);
        }
    }

    /// The number of the entry that is pushed next: what is published from now on is behind it.
    pub(super) fn next(&self) -> u64 {
        self.lock().next
    }

    /// The same, for subscriptions that begin there, to one topic or to all: what is missing from now on
    /// is a gap of its own, as the one before is none of theirs.
    pub(super) fn begin(&self, topic_id: Option<u64>) -> u64 {
        let mut state = self.lock();
        match topic_id {
            Some(topic_id) => drop(state.gaps.remove(&topic_id)),
            None => state.gaps.clear(),
        }
        state.next
    }

    /// Takes about so many publications and bytes, oldest first.
    pub(super) fn take(&self, publications: usize, bytes: usize) -> Batch {
        let mut state = self.lock();
        let mut batch = Batch { end: state.next - state.entries.len() as u64, ..Batch::default() };
        let (publications_left, bytes_left) =
            (state.publications.saturating_sub(publications), state.bytes.saturating_sub(bytes));
        while state.publications > publications_left && state.bytes > bytes_left
            || !matches!(state.entries.front(), None | Some(Entry::Publication(_)))
        {
            let Some(entry) = state.entries.pop_front() else { break };
            match &entry {
                Entry::Publication(delivery) => {
                    state.publications -= 1;
                    state.bytes -= delivery.publication.memory();
                }
                Entry::Gap(gap) if state.gaps.get(&gap.topic_id) == Some(&batch.end) => {
                    state.gaps.remove(&gap.topic_id);
                }
                Entry::Gap(_) | Entry::Ready(_) | Entry::Unsubscribe(..) => {}
            }
            batch.entries.push((batch.end, entry));
            batch.end += 1;
        }
        batch.has_more = !state.entries.is_empty();
        // Whatever is left is looked at without being asked.
        state.is_announced = batch.has_more;
        batch
    }

    /// The worker has ended: nothing more is taken.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        *state =
            State { next: state.next, is_closed: true, is_announced: true, ..State::default() };
    }

    /// Publications that wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.lock().publications
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        self.next += 1;
    }

    /// The gap of a topic that is the last of what waits of it.
    fn open_gap(&mut self, topic_id: u64) -> Option<&mut Gap> {
        let number = *self.gaps.get(&topic_id)?;
        let first = self.next - self.entries.len() as u64;
        match self.entries.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)? {
            Entry::Gap(gap) => Some(gap),
            _ => None,
        }
    }

    /// Counts a publication for which there is no room.
    fn leave_out(&mut self, delivery: &Delivery) {
        let (publication, position) = (&delivery.publication, delivery.publication.position());
        let misses = Misses {
            count: 1,
            is_unknown: false,
            topic: Some(Arc::clone(publication.topic_name())),
            epoch: position.epoch,
            offset: position.offset,
        };
        let topic_id = publication.topic_id();
        if let Some(gap) = self.open_gap(topic_id) {
            return gap.misses.merge(misses);
        }
        self.gaps.insert(topic_id, self.next);
        let channels = Arc::clone(&delivery.channels);
        self.add(Entry::Gap(Gap { topic_id, misses, channels }));
    }
}

/// Of what may wait, as much is no sign that the worker does not keep up.
const BEHIND_PART: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::position::Position;
    use super::super::post::Post;
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn inbox() -> Inbox {
        let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        Inbox::new(Arc::new(Mailbox::new(event)))
    }

    fn delivery(topic: u64, offset: u64) -> Delivery {
        let encoded = Post::binary(vec![0; 10]).encode(None).unwrap();
        let name = Arc::from(format!("t{topic}"));
        let position = Position { epoch: 1, offset };
        let publication = Publication::new(&name, topic, position, encoded);
        let (channels, batching) = (Arc::from([topic]), Batching::DEFAULT);
        Delivery { publication, channels, except: None, batching }
    }

    const MAX: WaitingMax = WaitingMax { publications: 4, bytes: usize::MAX };

    fn texts(batch: &Batch) -> Vec<String> {
        let text = |(number, entry): &(u64, Entry)| match entry {
            Entry::Publication(it) => {
                format!("{number}:{}@{}", it.publication.topic(), it.publication.position().offset)
            }
            Entry::Gap(gap) => format!("{number}:gap {} {}", gap.topic_id, gap.misses.count),
            Entry::Ready(channel) => format!("{number}:ready {channel}"),
            Entry::Unsubscribe(_, id) => format!("{number}:unsubscribe {id}"),
        };
        batch.entries.iter().map(text).collect()
    }

    #[test]
    fn one_command_announces_all_that_waits() {
        let inbox = inbox();
        for offset in 1..=3 {
            assert!(inbox.push(delivery(1, offset), MAX) != Pushed::Full);
            inbox.announce();
        }
        assert_eq!(inbox.mailbox.len(), 1);
        let batch = inbox.take(2, usize::MAX);
        assert_eq!((texts(&batch), batch.has_more), (vec!["0:t1@1".into(), "1:t1@2".into()], true));
        inbox.push(delivery(1, 4), MAX);
        inbox.announce();
        assert_eq!(inbox.mailbox.len(), 1, "the worker has more to look at anyway");
        assert!(!inbox.take(9, usize::MAX).has_more);
        inbox.push(delivery(1, 5), MAX);
        inbox.announce();
        assert_eq!(inbox.mailbox.len(), 2);
    }

    #[test]
    fn what_has_no_room_is_counted_where_it_is_missing() {
        let inbox = inbox();
        let pushed: Vec<_> = (1..=6).map(|offset| inbox.push(delivery(1, offset), MAX)).collect();
        use Pushed::{Behind, Full, Taken};
        assert_eq!(pushed, [Taken, Behind, Behind, Behind, Full, Full]);
        assert_eq!(inbox.push(delivery(2, 1), MAX), Full);
        assert_eq!(texts(&inbox.take(1, usize::MAX)), ["0:t1@1"]);
        assert_eq!(inbox.push(delivery(1, 7), MAX), Behind);
        assert_eq!(inbox.push(delivery(1, 8), MAX), Full);
        let all = inbox.take(99, usize::MAX);
        let expected =
            ["1:t1@2", "2:t1@3", "3:t1@4", "4:gap 1 2", "5:gap 2 1", "6:t1@7", "7:gap 1 1"];
        assert_eq!(texts(&all), expected);
        assert_eq!((inbox.waiting(), inbox.next()), (0, 8));
    }

    #[test]
    fn bytes_are_a_bound_of_what_is_taken_and_one_is_always_taken() {
        let inbox = inbox();
        (1..=3).for_each(|offset| assert!(inbox.push(delivery(1, offset), MAX) != Pushed::Full));
        assert_eq!(texts(&inbox.take(9, 1)), ["0:t1@1"]);
        let tight = WaitingMax { publications: 9, bytes: 1 };
        assert_eq!(inbox.push(delivery(1, 4), tight), Pushed::Full);
        inbox.take(9, usize::MAX);
        assert_eq!(inbox.push(delivery(1, 5), tight), Pushed::Behind, "alone, it gets through");
    }

    #[test]
    fn a_worker_that_has_ended_takes_nothing() {
        let inbox = inbox();
        inbox.push(delivery(1, 1), MAX);
        inbox.close();
        assert_eq!(inbox.push(delivery(1, 2), MAX), Pushed::Closed);
        inbox.push_notice(Entry::Ready(1));
        inbox.announce();
        assert_eq!((inbox.mailbox.len(), inbox.take(9, 9).entries.len()), (0, 0));
    }
}
