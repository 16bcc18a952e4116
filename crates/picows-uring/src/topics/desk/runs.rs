//! Runs of a worker: what it takes from the inbox, joined by topic, and what lingers of it.

use super::State;
use crate::topics::inbox::{Batch, Delivery, Entry, Gap};
use crate::topics::work::{Kind, Work};
use picows_uring_proto::Tick;
use std::rc::Rc;
use std::sync::Arc;

impl State {
    pub(super) fn add(&mut self, batch: Batch, now: Tick) {
        self.taken = batch.end;
        for (number, entry) in batch.entries {
            match entry {
                Entry::Publication(delivery) => self.add_publication(number, delivery, now),
                Entry::Gap(Gap { topic_id, misses, channels }) => {
                    self.end_lingering_of(topic_id);
                    self.open.remove(&topic_id);
                    self.add_work(Work {
                        first: number,
                        channels,
                        kind: Kind::Gap(topic_id, misses),
                    });
                }
                Entry::Ready(channel) => {
                    // What was before it is the past.
                    self.end_all_lingering();
                    self.open.clear();
                    let channels = Arc::from([channel]);
                    self.add_work(Work { first: number, channels, kind: Kind::Ready });
                }
                Entry::Unsubscribe(token, id) => self.leaving.push((token, id)),
            }
        }
    }

    fn add_work(&mut self, work: Work) {
        self.works.push_back(Rc::new(work));
    }

    fn add_publication(&mut self, number: u64, delivery: Delivery, now: Tick) {
        let topic_id = delivery.publication.topic_id();
        let (bytes, linger) = (delivery.publication.memory(), delivery.batching.linger);
        let delivery = match self.open.get(&topic_id) {
            None => delivery,
            Some(open) => match open.join(number, delivery) {
                Ok(()) => {
                    let is_full = open.is_full();
                    if !self.lingering.note_joined(topic_id, bytes) {
                        self.publications += 1;
                    } else if is_full {
                        self.end_lingering_of(topic_id);
                    }
                    return;
                }
                Err(delivery) => delivery,
            },
        };
        self.end_lingering_of(topic_id);
        let work = Work::run(number, delivery);
        self.open.insert(topic_id, Rc::clone(&work));
        if linger.is_zero() || work.is_full() || number < self.prompt_before {
            self.add_run(work);
        } else {
            self.lingering.begin(topic_id, now + linger, work, bytes);
            self.end_lingering(now);
        }
    }

    fn add_run(&mut self, work: Rc<Work>) {
        self.publications += work.len();
        self.works.push_back(work);
    }

    /// What is due at `now` lingers no longer.
    pub(super) fn end_lingering(&mut self, now: Tick) {
        while let Some(work) = self.lingering.take_due(now) {
            self.add_run(work);
        }
    }

    pub(super) fn end_all_lingering(&mut self) {
        while let Some(work) = self.lingering.take_first() {
            self.add_run(work);
        }
    }

    fn end_lingering_of(&mut self, topic_id: u64) {
        if let Some(work) = self.lingering.take(topic_id) {
            self.add_run(work);
        }
    }

    /// Nothing more is added to a run.
    pub(super) fn close_run(&mut self, work: &Rc<Work>) {
        if let Kind::Run(run) = &work.kind
            && self.open.get(&run.topic_id()).is_some_and(|open| Rc::ptr_eq(open, work))
        {
            self.open.remove(&run.topic_id());
        }
    }

    /// The first work was handed out to all.
    pub(super) fn finish_first(&mut self) {
        self.pass = None;
        if let Some(work) = self.works.pop_front() {
            self.publications -= work.len().min(self.publications);
        }
    }
}
