//! Runs of topics that linger: they wait for more publications, so that more frames leave together.
//!
//! Computes, and knows no connection and no clock.

use super::work::Work;
use picows_uring_proto::Tick;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

/// How publications of a topic are gathered into runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batching {
    /// How long a run waits for more, at the most.
    pub(super) linger: Duration,
    /// Publications of a run, at the most.
    pub(super) max: usize,
}

impl Batching {
    pub(super) const DEFAULT: Self = Self { linger: Duration::ZERO, max: BATCH_MAX };
}

impl Default for Batching {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The runs that linger, one of a topic at the most.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    runs: HashMap<u64, Run>,
    due: BTreeSet<(Tick, u64)>,
    publications: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Run {
    work: Rc<Work>,
    due: Tick,
    publications: usize,
    bytes: usize,
}

impl Lingering {
    /// Adds the run of a topic that has none, with one publication of so many bytes.
    pub(super) fn begin(&mut self, topic_id: u64, due: Tick, work: Rc<Work>, bytes: usize) {
        debug_assert!(!self.runs.contains_key(&topic_id), "one of each topic");
        self.due.insert((due, topic_id));
        self.runs.insert(topic_id, Run { work, due, publications: 0, bytes: 0 });
        self.note_joined(topic_id, bytes);
    }

    /// Counts a publication that was added to the run of a topic. Returns whether there is one.
    pub(super) fn note_joined(&mut self, topic_id: u64, bytes: usize) -> bool {
        let Some(run) = self.runs.get_mut(&topic_id) else { return false };
        run.publications += 1;
        run.bytes += bytes;
        self.publications += 1;
        self.bytes += bytes;
        true
    }

    /// Takes the run of a topic.
    pub(super) fn take(&mut self, topic_id: u64) -> Option<Rc<Work>> {
        let run = self.runs.remove(&topic_id)?;
        self.due.remove(&(run.due, topic_id));
        self.publications -= run.publications;
        self.bytes -= run.bytes;
        Some(run.work)
    }

    /// Takes the run that has waited long enough at `now`; at any time where they take too much.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<Rc<Work>> {
        let (due, topic_id) = *self.due.first()?;
        let is_over = self.publications > LINGERING_MAX || self.bytes > LINGERING_BYTES_MAX;
        if due <= now || is_over { self.take(topic_id) } else { None }
    }

    /// Takes any run.
    pub(super) fn take_first(&mut self) -> Option<Rc<Work>> {
        let (_, topic_id) = *self.due.first()?;
        self.take(topic_id)
    }

    /// When the first of them has waited long enough.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.due.first().map(|(due, _)| *due)
    }

    pub(super) fn works(&self) -> impl Iterator<Item = &Rc<Work>> {
        self.runs.values().map(|run| &run.work)
    }
}

/// As many as a worker takes in for a turn.
const BATCH_MAX: usize = 1024;
/// Publications of a worker that linger, and the memory that they take: beyond, the oldest runs leave.
const LINGERING_MAX: usize = 16_384;
const LINGERING_BYTES_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::super::inbox::Delivery;
    use super::super::position::Position;
    use super::super::post::{Post, Publication};
    use super::*;
    use std::sync::Arc;

    fn work(topic_id: u64) -> Rc<Work> {
        let encoded = Post::binary(vec![0; 10]).encode(None).unwrap();
        let position = Position { epoch: 1, offset: 1 };
        let publication = Publication::new(&Arc::from("t"), topic_id, position, encoded);
        let (channels, batching) = (Arc::from([topic_id]), Batching::DEFAULT);
        Work::run(0, Delivery { publication, channels, except: None, batching })
    }

    fn at(millis: u64) -> Tick {
        Tick::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn runs_leave_when_they_are_due_the_first_first() {
        let mut lingering = Lingering::default();
        for (topic, due) in [(1, 30), (2, 10), (3, 20)] {
            lingering.begin(topic, at(due), work(topic), 100);
        }
        assert!(lingering.note_joined(1, 50) && !lingering.note_joined(4, 50));
        assert_eq!((lingering.publications, lingering.bytes), (4, 350));
        assert_eq!(lingering.next_due(), Some(at(10)));
        assert!(lingering.take_due(at(9)).is_none());
        assert_eq!(lingering.take_due(at(20)).unwrap().channels[0], 2);
        assert_eq!(lingering.take_due(at(20)).unwrap().channels[0], 3);
        assert!(lingering.take_due(at(29)).is_none());
        assert!(lingering.take(1).is_some() && lingering.take(1).is_none());
        assert_eq!((lingering.publications, lingering.bytes), (0, 0));
        assert_eq!((lingering.next_due(), lingering.works().count()), (None, 0));
    }

    #[test]
    fn what_lingers_is_bounded_in_number_and_bytes() {
        let mut lingering = Lingering::default();
        lingering.begin(1, at(1000), work(1), 0);
        lingering.begin(2, at(2000), work(2), 0);
        for _ in 2..LINGERING_MAX {
            lingering.note_joined(2, 0);
        }
        assert!(lingering.take_due(at(0)).is_none());
        lingering.note_joined(2, 0);
        assert_eq!(lingering.take_due(at(0)).unwrap().channels[0], 1, "the oldest");
        assert!(lingering.take_due(at(0)).is_none(), "and no more than has to");
        lingering.note_joined(2, LINGERING_BYTES_MAX + 1);
        assert_eq!(lingering.take_due(at(0)).unwrap().channels[0], 2);
    }
}
