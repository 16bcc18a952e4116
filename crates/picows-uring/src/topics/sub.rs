//! A subscription on its worker: what it gets, and what it holds back.

use super::backlog::{Backlog, Bound, Misses, Put};
use super::options::{
    Filter, Format, Missed, OnMissed, OnStart, Recovery, SlowPolicy, Start, SubscribeOptions,
};
use super::post::Publication;
use super::registry::add;
use super::remote::RemoteSubscription;
use super::topic::Seat;
use super::work::{Item, Run};
use crate::foreign::{self, Foreign, StateCell};
use crate::prepared::Prepared;
use crate::session::{Handed, Session};
use crate::status::DisconnectCause;
use crate::transport::Transport;
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A subscription.
pub(super) struct Sub {
    /// Its number on the worker.
    pub(super) id: u64,
    /// How other threads end it, once one may.
    pub(super) remote: OnceCell<RemoteSubscription>,
    pub(super) subject: Arc<str>,
    pub(super) seat: Arc<Seat>,
    pub(super) session: Rc<Session>,
    policy: SlowPolicy,
    filter: Option<Foreign<Filter>>,
    format: Option<Format>,
    on_missed: StateCell<Option<Foreign<OnMissed>>>,
    hears_of_gaps: bool,
    /// What has a lower number in the inbox is not for it, or it has it already.
    pub(super) since: Cell<u64>,
    pub(super) is_active: Cell<bool>,
    is_behind: Cell<bool>,
    /// Among the subscriptions to its subject.
    pub(super) index: Cell<usize>,
    /// Among those of its connection.
    pub(super) place: Cell<usize>,
    backlog: StateCell<Backlog>,
    /// The start that waits until a bus has delivered the past.
    pub(super) pending: StateCell<Option<Pending>>,
    snapshot: StateCell<Option<Box<Snapshot>>>,
    pub(super) recovery: Cell<Option<Recovery>>,
    /// Its callback and what it has recovered come first: nothing new is delivered meanwhile.
    pub(super) is_beginning: Cell<bool>,
    pub(super) dropped: Cell<u64>,
    pub(super) conflated: Cell<u64>,
}

/// A start that is to come.
pub(super) struct Pending {
    pub(super) start: Start,
    pub(super) on_start: Option<Foreign<OnStart>>,
}

/// Where a subscription with wildcards begins in each topic, until what was in the inbox when it began
/// is through.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The number of the first entry in the inbox that is new in all topics.
    pub(super) until: u64,
    /// The same for each topic, by its number: what was before is the past, of which it has recovered
    /// what there was.
    pub(super) since: HashMap<u64, u64>,
}

/// The outcome of a look at a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refill {
    /// A publication was queued.
    Moved,
    Empty,
    NoRoom,
}

impl Sub {
    pub(super) fn new(
        id: u64,
        subject: Arc<str>,
        seat: Arc<Seat>,
        session: &Rc<Session>,
        options: SubscribeOptions,
        since: u64,
    ) -> Self {
        let pending = Pending { start: options.start, on_start: options.on_start };
        Self {
            id,
            remote: OnceCell::new(),
            subject,
            seat,
            session: Rc::clone(session),
            policy: options.policy,
            filter: options.filter,
            format: options.format,
            hears_of_gaps: options.on_missed.is_some(),
            on_missed: StateCell::new(options.on_missed),
            since: Cell::new(since),
            is_active: Cell::new(true),
            is_behind: Cell::new(false),
            index: Cell::new(0),
            place: Cell::new(0),
            backlog: StateCell::default(),
            pending: StateCell::new(Some(pending)),
            snapshot: StateCell::default(),
            recovery: Cell::new(None),
            is_beginning: Cell::new(false),
            dropped: Cell::new(0),
            conflated: Cell::new(0),
        }
    }

    /// Whether it holds publications back.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind.get()
    }

    /// Publications that it holds back.
    pub(super) fn held(&self) -> usize {
        self.backlog.borrow().len()
    }

    pub(super) fn set_snapshot(&self, snapshot: Snapshot) {
        drop(self.snapshot.replace(Some(Box::new(snapshot))));
    }

    /// Delivers the publications of a run.
    pub(super) fn deliver(&self, run: &Run, first: u64) {
        if self.takes_all_of(run, first)
            && let Some(max) = self.room()
        {
            let joined = run.joined(self.format.as_ref());
            if !self.is_active.get() {
                return;
            }
            match self.session.queue_run(&joined.bytes, joined.counts, max) {
                Handed::Queued => return count(&self.seat.delivered, joined.counts.frames as u64),
                Handed::Ended => return,
                Handed::NoRoom => {}
            }
        }
        let mut index = 0;
        while self.is_active.get()
            && let Some(item) = run.item(index)
        {
            self.deliver_item(run, first, index, &item);
            index += 1;
        }
    }

    /// Whether it gets all of a run, as all others do that send plain messages.
    fn takes_all_of(&self, run: &Run, first: u64) -> bool {
        self.filter.is_none()
            && self.since.get() <= first
            && !run.has_except()
            && !self.is_behind()
            && self.session.takes_runs()
            && self.snapshot.borrow().is_none()
            && self.pending.borrow().is_none()
    }

    fn deliver_item(&self, run: &Run, first: u64, index: usize, item: &Item) {
        let publication = &item.publication;
        let is_excepted = item.except == Some(self.session.token);
        let is_wanted = item.number >= self.since.get()
            && !is_excepted
            && self.pending.borrow().is_none()
            && !self.is_past(first, item.number, publication.topic_id())
            && self.passes(publication);
        if !is_wanted || !self.is_active.get() {
            return;
        }
        let message = match &self.format {
            None => None,
            Some(format) => match run.message(index, format) {
                Some(message) => Some(message),
                None => return self.count_dropped(1),
            },
        };
        if self.is_active.get() {
            self.hand(publication, message);
        }
    }

    /// Whether an entry of a topic, in a work that begins with the entry `first`, was before its start
    /// there.
    fn is_past(&self, first: u64, number: u64, topic_id: u64) -> bool {
        let is_over = {
            let snapshot = self.snapshot.borrow();
            let Some(snapshot) = snapshot.as_ref() else { return false };
            if number < snapshot.until {
                return snapshot.since.get(&topic_id).is_some_and(|since| number < *since);
            }
            // Runs come in the order of their first entries: behind one that begins before, in which
            // this one has joined, there are others that do.
            first >= snapshot.until
        };
        if is_over {
            drop(self.snapshot.replace(None));
        }
        false
    }

    /// Whether its filter lets a publication through.
    pub(super) fn passes(&self, publication: &Publication) -> bool {
        let Some(filter) = &self.filter else { return true };
        let mut passes = false;
        foreign::run("filter", &self.subject, || passes = filter(publication));
        passes
    }

    /// What is sent for a publication of the history; `Err` for nothing.
    pub(super) fn formatted(&self, publication: &Publication) -> Result<Option<Prepared>, ()> {
        match &self.format {
            None => Ok(None),
            Some(format) => super::work::formatted(format, publication).map(Some).ok_or(()),
        }
    }

    /// Unsent bytes up to which a publication is queued; `None` if it is to be held back.
    fn room(&self) -> Option<usize> {
        if self.is_behind() {
            return None;
        }
        let session = &self.session;
        match self.policy {
            SlowPolicy::Close { bytes } => Some(bytes.unwrap_or(session.config.queue_bytes_max)),
            // What is queued behind a send in flight could not be replaced any more.
            SlowPolicy::Latest(_) if session.is_sending() && session.is_tried() => None,
            SlowPolicy::DropOldest { .. } | SlowPolicy::Latest(_) => {
                Some(session.droppable_publications_max())
            }
        }
    }

    /// Queues a publication, or holds it back.
    fn hand(&self, publication: &Publication, message: Option<Prepared>) {
        match self.queue(publication, message.as_ref()) {
            Handed::Queued | Handed::Ended => {}
            Handed::NoRoom => self.hold(publication, message),
        }
    }

    /// Queues a publication of the history, or holds it back, whatever the policy.
    pub(super) fn hand_recovered(&self, publication: &Publication, message: Option<Prepared>) {
        if self.queue(publication, message.as_ref()) == Handed::NoRoom {
            self.backlog.borrow_mut().put_recovered(publication.clone(), message);
            self.set_behind(true);
        }
    }

    fn queue(&self, publication: &Publication, message: Option<&Prepared>) -> Handed {
        let Some(max) = self.room() else { return Handed::NoRoom };
        let message = message.unwrap_or_else(|| publication.message());
        let handed = self.session.queue_publication(message, max);
        if handed == Handed::Queued {
            count(&self.seat.delivered, 1);
        }
        handed
    }

    fn hold(&self, publication: &Publication, message: Option<Prepared>) {
        let session = &self.session;
        let bound = match self.policy.bound(session.config.queue_bytes_max) {
            // What the kernel has not seen says nothing of the peer.
            Bound::Bytes(_) if !session.is_tried() => Bound::Open,
            Bound::Bytes(max) => Bound::Bytes(max.saturating_sub(session.committed())),
            bound => bound,
        };
        let put = self.backlog.borrow_mut().put(publication.clone(), message, bound);
        match put {
            Put::Held => {}
            Put::Replaced => {
                self.conflated.set(self.conflated.get() + 1);
                count(&self.seat.conflated, 1);
            }
            Put::DroppedOldest => self.count_dropped(1),
            Put::Full => {
                let reason = format!("too slow for topic {}", publication.topic());
                return self.close(DisconnectCause::QueueFull, &reason);
            }
        }
        self.set_behind(true);
    }

    /// Publications of a topic are missing at an entry of the inbox.
    pub(super) fn miss_at(&self, number: u64, topic_id: u64, misses: &Misses) {
        if number >= self.since.get() && !self.is_past(number, number, topic_id) {
            self.miss(misses);
        }
    }

    fn miss(&self, misses: &Misses) {
        if !self.is_active.get() || self.pending.borrow().is_some() {
            return;
        }
        self.count_dropped(misses.count);
        if matches!(self.policy, SlowPolicy::Close { .. }) && !self.hears_of_gaps {
            let topic = misses.topic.as_deref().unwrap_or(&self.subject);
            let reason = format!("publications of topic {topic} were lost");
            return self.close(DisconnectCause::PublicationsLost, &reason);
        }
        if self.is_behind() {
            return self.backlog.borrow_mut().miss(misses.clone());
        }
        self.report(misses.clone());
    }

    fn report(&self, misses: Misses) {
        let Some(mut on_missed) = self.on_missed.take() else { return };
        let (missed, transport) = (Missed::new(misses), Transport::new(Rc::clone(&self.session)));
        foreign::run("on_missed", &self.subject, || on_missed(&transport, &missed));
        if self.is_active.get() {
            drop(self.on_missed.replace(Some(on_missed)));
        }
    }

    fn close(&self, cause: DisconnectCause, reason: &str) {
        count(&self.seat.closed, 1);
        self.clear();
        self.session.close_for_topic(cause, reason);
    }

    /// Queues the oldest publication that it holds back.
    pub(super) fn refill(&self) -> Refill {
        let Some((mut held, is_recovered)) = self.take_held() else {
            let trailing = self.backlog.borrow_mut().take_trailing();
            if let Some(trailing) = trailing {
                // It is behind until then: what comes meanwhile is held, and follows.
                self.report(*trailing);
                return Refill::Moved;
            }
            self.set_behind(false);
            return Refill::Empty;
        };
        let message = held.message.as_ref().unwrap_or_else(|| held.publication.message()).clone();
        let max = match self.policy {
            SlowPolicy::Close { bytes } => bytes.unwrap_or(self.session.config.queue_bytes_max),
            _ => self.session.droppable_publications_max(),
        };
        match self.session.room_for(&message, max) {
            Handed::Queued => {}
            Handed::NoRoom => {
                self.backlog.borrow_mut().put_back(held, is_recovered);
                return Refill::NoRoom;
            }
            Handed::Ended => {
                self.clear();
                return Refill::Empty;
            }
        }
        if let Some(missed) = held.missed.take() {
            self.report(*missed);
        }
        if self.is_active.get()
            && self.session.queue_publication(&message, usize::MAX) == Handed::Queued
        {
            count(&self.seat.delivered, 1);
        }
        Refill::Moved
    }

    fn take_held(&self) -> Option<(super::backlog::Held, bool)> {
        let mut backlog = self.backlog.borrow_mut();
        let is_recovered = backlog.begins_recovered();
        Some((backlog.pop()?, is_recovered))
    }

    /// Drops what it holds back.
    pub(super) fn clear(&self) {
        self.set_behind(false);
        drop(self.backlog.take());
    }

    fn set_behind(&self, is_behind: bool) {
        if self.is_behind.replace(is_behind) != is_behind {
            add(&self.seat.behind, if is_behind { 1 } else { -1 });
        }
        if is_behind {
            self.session.set_holds_publications(true);
        }
    }

    fn count_dropped(&self, dropped: u64) {
        self.dropped.set(self.dropped.get() + dropped);
        count(&self.seat.dropped, dropped);
    }

    /// Lets go of code of the application, with nothing borrowed.
    pub(super) fn end(&self) {
        self.is_active.set(false);
        if let Some(remote) = self.remote.get() {
            remote.end();
        }
        self.clear();
        drop(self.on_missed.take());
        drop(self.pending.take());
    }
}

impl fmt::Debug for Sub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sub")
            .field("subject", &self.subject)
            .field("policy", &self.policy)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

/// Counts in an atomic that one thread writes.
fn count(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}
