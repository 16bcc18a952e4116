//! Messages, gaps and the past that come in by a bus.

use super::super::backlog::Misses;
use super::super::bus::{BusMessage, Order};
use super::super::inbox::{Entry, Gap};
use super::super::position::Position;
use super::super::post::Post;
use super::super::topic::{Made, TopicCore, TopicState};
use super::{Desk, HubCore, Sender};
use crate::local::{self, Local};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl HubCore {
    /// Takes a message of another node, or of a program without positions.
    pub(in crate::topics) fn relay_in(&self, via: &str, message: BusMessage) {
        let origin = message.origin;
        if origin.is_some_and(|origin| self.is_own(origin.epoch)) {
            return;
        }
        if !self.is_wanted(via, &message.topic, origin.is_none()) {
            return;
        }
        self.take_in(message, |core, state| {
            match origin.map_or(Order::Next, |origin| state.origins.note(origin)) {
                Order::Old => return None,
                Order::Next => {}
                Order::Behind(missing) => core.gap(state, Some(missing)),
            }
            Some(state.next_position())
        });
    }

    /// Takes a message that has its position of the bus.
    pub(in crate::topics) fn log_in(&self, via: &str, message: BusMessage) {
        let Some(position) = message.position else {
            self.totals.bus_errors.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if !self.is_wanted(via, &message.topic, false) {
            return;
        }
        self.take_in(message, |core, state| {
            let now = state.position();
            if position.epoch != now.epoch {
                // The first of a topic is no gap for those who wait for it.
                if now.offset > 0 {
                    core.gap(state, None);
                }
                state.begin_epoch(position);
            } else if position.offset <= now.offset {
                return None;
            }
            Some(position)
        });
    }

    /// Whether a message goes to a subscriber or into a history, and by this copy, if only one counts.
    fn is_wanted(&self, via: &str, topic: &str, only_one: bool) -> bool {
        let registry = self.read();
        match registry.oldest_matching(topic) {
            Some(oldest) => !only_one || registry.subject_id(via) == Some(oldest),
            None => registry.get(topic).is_some(),
        }
    }

    fn take_in(
        &self,
        message: BusMessage,
        place: impl Fn(&TopicCore, &mut TopicState) -> Option<Position>,
    ) {
        let post = Post::new(message.msg_type, message.payload)
            .with_key(message.key)
            .with_headers(message.headers);
        let taken = self.topic(&message.topic).and_then(|core| {
            let encoded = post.encode(self.settings.deflate)?;
            Ok((core, encoded))
        });
        let Ok((mut core, encoded)) = taken else {
            self.totals.bus_errors.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let here = local::here();
        let desk = here.as_ref().and_then(|local| Desk::get(local));
        let inbox = desk.as_ref().map(|desk| desk.inbox());
        let sender = Sender { inbox, except: None, desk: desk.as_deref() };
        let mut state = core.lock();
        while state.is_gone {
            drop(state);
            let Ok(again) = self.topic(&core.name) else { return };
            core = again;
            state = core.lock();
        }
        let Some(position) = place(&core, &mut state) else { return };
        let now = self.now_for(&state);
        let made =
            core.publish(&mut state, position, encoded, &sender, self.settings.waiting_max, now);
        drop(state);
        self.taken_in(&core, &made, here.as_ref());
    }

    fn taken_in(&self, core: &Arc<TopicCore>, made: &Made, local: Option<&Rc<Local>>) {
        self.on_published(made, local);
        if made.is_unused {
            self.forget_unused(core);
        }
    }

    /// Messages of all topics that a subject matches may be lost.
    pub(in crate::topics) fn gap(&self, subject: &str) {
        let topics = self.matched_by(subject);
        for core in &topics {
            let mut state = core.lock();
            core.gap(&mut state, None);
        }
        if topics.is_empty() {
            self.gap_of_unknown(subject);
        }
    }

    /// Reports a gap to the subscriptions to a subject with wildcards, of whose topics none was seen yet.
    fn gap_of_unknown(&self, subject: &str) {
        let topic = Some(Arc::from(subject));
        let misses = Misses { is_unknown: true, topic, ..Misses::default() };
        for seat in self.read().seats_of(subject) {
            // Topics and subjects are numbered together.
            let (topic_id, channels) = (seat.channel, Arc::from([seat.channel]));
            let gap = Gap { topic_id, misses: misses.clone(), channels };
            seat.inbox.push_notice(Entry::Gap(gap));
            seat.inbox.announce();
        }
    }

    /// The past of a subject is here.
    pub(in crate::topics) fn ready(&self, subject: &str) {
        for seat in self.write().set_ready(subject) {
            seat.inbox.push_notice(Entry::Ready(seat.channel));
            seat.inbox.announce();
        }
    }
}
