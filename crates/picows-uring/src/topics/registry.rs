//! Topics and subscribed subjects by name, and which belong together.
//!
//! A subject with wildcards is compared with topics when either first appears, so that publishing
//! takes no look at it.

use super::error::TopicError;
use super::inbox::Inbox;
use super::name::{TopicName, is_pattern};
use super::settings::HubBuilder;
use super::topic::{Seat, TopicCore};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// The topics and subjects of a hub.
#[derive(Debug, Default)]
pub(super) struct Registry {
    topics: HashMap<Arc<str>, Arc<TopicCore>>,
    subjects: HashMap<Arc<str>, Subject>,
    /// Subjects with wildcards, by their first token.
    patterns: HashMap<Box<str>, Vec<Arc<str>>>,
    patterns_len: usize,
    /// Topics, in the order in which they are looked at for whether they are in use.
    sweep: VecDeque<Weak<TopicCore>>,
}

/// A subject that has subscribers.
#[derive(Debug)]
struct Subject {
    id: u64,
    seats: Vec<Arc<Seat>>,
    /// The past is here, as far as it comes by a bus.
    is_ready: bool,
}

impl Registry {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<TopicCore>> {
        self.topics.get(name)
    }

    /// The topic of a name, which is made if it is not there.
    pub(super) fn topic(
        &mut self,
        name: &str,
        settings: &HubBuilder,
        new_epoch: impl FnOnce() -> u64,
    ) -> Result<Arc<TopicCore>, TopicError> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(Arc::clone(topic));
        }
        // Two for each that is made: all are looked at before there are twice as many.
        self.drop_unused(SWEEP_MIN);
        if self.topics.len() >= settings.topics_max {
            self.drop_unused(SWEEP_MAX);
            if self.topics.len() >= settings.topics_max {
                return Err(TopicError::TooManyTopics(settings.topics_max));
            }
        }
        let name: Arc<str> = Arc::from(name);
        let own = settings.settings_for(&name);
        let (id, memory) = (next_id(), Arc::clone(&settings.memory));
        let topic = Arc::new(TopicCore::new(id, Arc::clone(&name), new_epoch(), own, memory));
        let mut state = topic.lock();
        for subject in self.matching(&name) {
            subject.seats.iter().for_each(|seat| state.add_seat(seat));
        }
        drop(state);
        self.sweep.push_back(Arc::downgrade(&topic));
        self.topics.insert(name, Arc::clone(&topic));
        Ok(topic)
    }

    /// Looks at `count` topics, and takes those off the list that nothing needs.
    fn drop_unused(&mut self, count: usize) {
        for _ in 0..count.min(self.sweep.len()) {
            let Some(topic) = self.sweep.pop_front().and_then(|it| it.upgrade()) else { continue };
            if !self.forget(&topic, count > SWEEP_MIN) {
                self.sweep.push_back(Arc::downgrade(&topic));
            }
        }
    }

    /// Takes a topic off the list, if nothing needs it.
    pub(super) fn forget_unused(&mut self, topic: &Arc<TopicCore>) -> bool {
        self.forget(topic, false)
    }

    /// The same; if room is wanted, also one that other nodes count.
    fn forget(&mut self, topic: &Arc<TopicCore>, wants_room: bool) -> bool {
        let mut state = topic.lock();
        if topic.is_used(&state) || (state.is_counted_elsewhere() && !wants_room) {
            return false;
        }
        state.is_gone = true;
        drop(state);
        if self.topics.get(&*topic.name).is_some_and(|it| Arc::ptr_eq(it, topic)) {
            self.topics.remove(&*topic.name);
        }
        true
    }

    /// The subjects that match a topic.
    fn matching(&self, name: &str) -> impl Iterator<Item = &Subject> {
        let exact = self.subjects.get(name);
        let firsts = [first_token(name), "*", ">"];
        let patterns = firsts.into_iter().filter_map(|first| self.patterns.get(first)).flatten();
        let matching = patterns.filter(move |pattern| TopicName::matches(pattern, name));
        exact.into_iter().chain(matching.filter_map(|pattern| self.subjects.get(pattern)))
    }

    /// Whether a subject other than `subject` matches a topic.
    pub(super) fn is_covered_beside(&self, subject: &str, name: &str) -> bool {
        let own = self.subject_id(subject);
        self.matching(name).any(|it| Some(it.id) != own)
    }

    /// The oldest subscribed subject that matches a topic, by its name.
    pub(super) fn oldest_matching(&self, name: &str) -> Option<u64> {
        self.matching(name).map(|subject| subject.id).min()
    }

    /// The number of a subscribed subject.
    pub(super) fn subject_id(&self, subject: &str) -> Option<u64> {
        self.subjects.get(subject).map(|subject| subject.id)
    }

    /// The topics that match a subject.
    pub(super) fn matched_by(&self, subject: &str) -> Vec<Arc<TopicCore>> {
        if !is_pattern(subject) {
            return self.topics.get(subject).cloned().into_iter().collect();
        }
        let matches = |topic: &&Arc<TopicCore>| TopicName::matches(subject, &topic.name);
        self.topics.values().filter(matches).cloned().collect()
    }

    /// Adds a worker to the subscribers of a subject, and returns whether it is the first.
    pub(super) fn join(
        &mut self,
        subject: &Arc<str>,
        inbox: &Arc<Inbox>,
        settings: &HubBuilder,
        is_ready: bool,
    ) -> Result<(Arc<Seat>, bool), TopicError> {
        let is_new = !self.subjects.contains_key(subject);
        if is_new && is_pattern(subject) {
            if self.patterns_len >= settings.patterns_max {
                return Err(TopicError::TooManyPatterns(settings.patterns_max));
            }
            self.patterns_len += 1;
            let first = first_token(subject).into();
            self.patterns.entry(first).or_default().push(Arc::clone(subject));
        }
        let entry = self.subjects.entry(Arc::clone(subject)).or_insert_with(|| Subject {
            id: next_id(),
            seats: Vec::new(),
            is_ready,
        });
        let seat = Arc::new(Seat::new(entry.id, Arc::clone(inbox), entry.is_ready));
        entry.seats.push(Arc::clone(&seat));
        for topic in self.matched_by(subject) {
            topic.lock().add_seat(&seat);
        }
        Ok((seat, is_new))
    }

    /// Takes a worker off the subscribers of a subject, and returns whether it was the last.
    pub(super) fn leave(&mut self, subject: &Arc<str>, seat: &Arc<Seat>) -> bool {
        let Some(entry) = self.subjects.get_mut(subject) else { return false };
        entry.seats.retain(|it| !Arc::ptr_eq(it, seat));
        let is_last = entry.seats.is_empty();
        for topic in self.matched_by(subject) {
            topic.lock().remove_seat(seat);
            self.forget_unused(&topic);
        }
        if is_last {
            self.subjects.remove(subject);
            self.forget_pattern(subject);
        }
        is_last
    }

    fn forget_pattern(&mut self, subject: &str) {
        if !is_pattern(subject) {
            return;
        }
        self.patterns_len -= 1;
        let first = first_token(subject);
        if let Some(patterns) = self.patterns.get_mut(first) {
            patterns.retain(|it| &**it != subject);
            if patterns.is_empty() {
                self.patterns.remove(first);
            }
        }
    }

    /// The past of a subject is here: those that waited for it go on.
    pub(super) fn set_ready(&mut self, subject: &str) -> Vec<Arc<Seat>> {
        let Some(entry) = self.subjects.get_mut(subject) else { return Vec::new() };
        entry.is_ready = true;
        for seat in &entry.seats {
            seat.is_ready.store(true, Ordering::Release);
        }
        entry.seats.clone()
    }

    pub(super) fn subject_names(&self) -> Vec<Arc<str>> {
        self.subjects.keys().cloned().collect()
    }

    /// Subjects with subscriptions, and how many of each.
    pub(super) fn subscriptions_by_subject(&self) -> Vec<(String, usize)> {
        let count = |seat: &Arc<Seat>| seat.subscriptions.load(Ordering::Relaxed);
        let subjects = self.subjects.iter();
        subjects.map(|(name, it)| (name.to_string(), it.seats.iter().map(count).sum())).collect()
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.subjects.values().flat_map(|subject| &subject.seats)
    }

    /// The workers that have subscribers of a subject.
    pub(super) fn seats_of(&self, subject: &str) -> &[Arc<Seat>] {
        self.subjects.get(subject).map_or(&[], |it| &it.seats)
    }

    /// The subscriptions that match a topic, whether it is there or not.
    pub(super) fn subscribers(&self, name: &str) -> usize {
        let count = |seat: &Arc<Seat>| seat.subscriptions.load(Ordering::Relaxed);
        self.matching(name).flat_map(|subject| &subject.seats).map(count).sum()
    }

    pub(super) fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicCore>> {
        self.topics.values()
    }
}

fn first_token(subject: &str) -> &str {
    subject.split('.').next().unwrap_or_default()
}

/// Numbers topics and subjects of all hubs of the process, so that one inbox serves them all.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Topics that are looked at for each that is made.
const SWEEP_MIN: usize = 2;
/// Topics that are looked at when there are as many as may be.
const SWEEP_MAX: usize = 256;

/// Counts in atomics that one thread writes.
pub(super) fn add(counter: &AtomicUsize, count: isize) {
    let now = counter.load(Ordering::Relaxed);
    counter.store(now.saturating_add_signed(count), Ordering::Relaxed);
}
