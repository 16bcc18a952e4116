//! The subscriptions of one worker, and how publications reach them.
//!
//! What waits in the inbox is taken in a turn, joined into runs, and given to the subscriptions of
//! each subject one after the other. No cell is borrowed while code of the application runs.

mod runs;

use super::hub::HubCore;
use super::inbox::Inbox;
use super::linger::Lingering;
use super::sub::{Refill, Sub};
use super::topic::Seat;
use super::work::{Kind, Work};
use crate::foreign::StateCell;
use crate::local::{Local, Publications, TopicService};
use crate::ring::Token;
use picows_uring_proto::Tick;
use std::any::Any;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// The subscriptions of a worker, to the topics of all hubs.
pub(super) struct Desk {
    inbox: Arc<Inbox>,
    state: StateCell<State>,
    /// Publications are being handed out: what is called meanwhile must not begin that anew.
    is_busy: Cell<bool>,
}

#[derive(Default)]
struct State {
    channels: HashMap<u64, Channel>,
    /// The numbers of subjects, by hub and name.
    by_subject: HashMap<(usize, Arc<str>), u64>,
    connections: HashMap<Token, Vec<Rc<Sub>>>,
    works: VecDeque<Rc<Work>>,
    /// The last run of each topic, to which more can be added.
    open: HashMap<u64, Rc<Work>>,
    /// Those of them that are not in `works` yet.
    lingering: Lingering,
    /// What has a lower number in the inbox does not linger.
    prompt_before: u64,
    /// The number of the first entry in the inbox that was not taken.
    taken: u64,
    /// The subject that is being served with the first work, by its place there.
    pass: Option<usize>,
    /// Subscriptions that other threads have ended, by connection and number.
    leaving: Vec<(Token, u64)>,
    /// The number of the next subscription.
    next_id: u64,
    /// Publications in `works`, for the bound of a turn.
    publications: usize,
}

/// A subject, and its subscriptions on this worker.
struct Channel {
    hub: Arc<HubCore>,
    subject: Arc<str>,
    seat: Arc<Seat>,
    subs: Vec<Rc<Sub>>,
    /// Those before it have got what is being handed out.
    cursor: usize,
}

/// A subject that has lost its last subscription here: its hub is to know.
struct Vacant {
    hub: Arc<HubCore>,
    subject: Arc<str>,
    seat: Arc<Seat>,
}

impl Desk {
    /// The subscriptions of a worker, if it has had any.
    pub(super) fn get(local: &Local) -> Option<Rc<Self>> {
        Rc::clone(local.topics()?).as_any().downcast().ok()
    }

    /// The same; there are some from now on.
    pub(super) fn of(local: &Local) -> Option<Rc<Self>> {
        local.topics.get_or_init(|| {
            Rc::new(Self {
                inbox: Arc::new(Inbox::new(Arc::clone(&local.mailbox))),
                state: StateCell::default(),
                is_busy: Cell::new(false),
            })
        });
        Self::get(local)
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Subscriptions of a connection.
    pub(super) fn subscriptions(&self, token: Token) -> usize {
        self.state.borrow().connections.get(&token).map_or(0, Vec::len)
    }

    /// Subscriptions of a connection among those to `channels`.
    pub(super) fn count(&self, token: Token, channels: &[u64]) -> usize {
        let state = self.state.borrow();
        let subs = state.connections.get(&token).into_iter().flatten();
        subs.filter(|sub| channels.contains(&sub.seat.channel)).count()
    }

    /// The seat of a subject, if there are subscriptions to it here.
    pub(super) fn seat(&self, hub: &Arc<HubCore>, subject: &Arc<str>) -> Option<Arc<Seat>> {
        let state = self.state.borrow();
        let channel = state.by_subject.get(&(id(hub), Arc::clone(subject)))?;
        state.channels.get(channel).map(|channel| Arc::clone(&channel.seat))
    }

    /// The number of the next subscription.
    pub(super) fn next_id(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.next_id += 1;
        state.next_id
    }

    /// Adds a subscription.
    pub(super) fn insert(&self, hub: &Arc<HubCore>, sub: &Rc<Sub>) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let number = sub.seat.channel;
        state.by_subject.insert((id(hub), Arc::clone(&sub.subject)), number);
        let channel = state.channels.entry(number).or_insert_with(|| Channel {
            hub: Arc::clone(hub),
            subject: Arc::clone(&sub.subject),
            seat: Arc::clone(&sub.seat),
            subs: Vec::new(),
            cursor: 0,
        });
        sub.index.set(channel.subs.len());
        channel.subs.push(Rc::clone(sub));
        let place = state.connections.entry(sub.session.token).or_default();
        sub.place.set(place.len());
        place.push(Rc::clone(sub));
        super::registry::add(&sub.seat.subscriptions, 1);
        sub.session.set_subscribed(true);
    }

    /// Ends a subscription, unless it has ended before.
    pub(super) fn remove(&self, sub: &Rc<Sub>) {
        if !sub.is_active.replace(false) {
            return;
        }
        super::registry::add(&sub.seat.subscriptions, -1);
        let vacant = self.take_off(sub);
        sub.end();
        if let Some(Vacant { hub, subject, seat }) = vacant {
            hub.leave(&subject, &seat);
            hub.run_events();
        }
    }

    /// Takes a subscription off the lists.
    fn take_off(&self, sub: &Rc<Sub>) -> Option<Vacant> {
        let mut state = self.state.borrow_mut();
        let token = sub.session.token;
        if let Some(subs) = state.connections.get_mut(&token) {
            swap_remove(subs, sub.place.get(), |sub, place| sub.place.set(place));
            if subs.is_empty() {
                state.connections.remove(&token);
                sub.session.set_subscribed(false);
            }
        }
        let channel = state.channels.get_mut(&sub.seat.channel)?;
        channel.take_off(sub.index.get());
        if !channel.subs.is_empty() {
            return None;
        }
        let channel = state.channels.remove(&sub.seat.channel)?;
        state.by_subject.remove(&(id(&channel.hub), Arc::clone(&channel.subject)));
        Some(Vacant { hub: channel.hub, subject: channel.subject, seat: channel.seat })
    }

    /// Takes entries of the inbox, as many as fit, and returns whether there are more.
    fn take_in(&self, publications: usize, bytes: usize, now: Tick) -> bool {
        let batch = self.inbox.take(publications, bytes);
        let has_more = batch.has_more;
        self.state.borrow_mut().add(batch, now);
        has_more
    }

    /// Has what is in the inbox before the entry `until`, or was taken from there, be delivered before
    /// what follows.
    pub(super) fn end_lingering_before(&self, until: u64) {
        let mut state = self.state.borrow_mut();
        state.prompt_before = until;
        state.end_all_lingering();
    }

    /// The next subscriptions that work is for, up to `max` of one subject.
    fn next(&self, subs: &mut Vec<Rc<Sub>>, max: usize) -> Option<Rc<Work>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        loop {
            let work = Rc::clone(state.works.front()?);
            if state.pass.is_none() {
                state.pass = Some(0);
                // Nothing more is added to what some have got.
                state.close_run(&work);
            }
            let pass = state.pass.get_or_insert(0);
            let Some(number) = work.channels.get(*pass) else {
                state.finish_first();
                continue;
            };
            let channel = state.channels.get_mut(number);
            let Some(channel) = channel.filter(|it| it.cursor < it.subs.len()) else {
                if let Some(channel) = state.channels.get_mut(number) {
                    channel.cursor = 0;
                }
                *pass += 1;
                continue;
            };
            let end = channel.subs.len().min(channel.cursor + max);
            subs.extend(channel.subs[channel.cursor..end].iter().cloned());
            channel.cursor = end;
            return Some(work);
        }
    }

    /// What has not been handed out to all, oldest first; what lingers behind the rest.
    fn works(&self) -> Vec<Rc<Work>> {
        let state = self.state.borrow();
        state.works.iter().chain(state.lingering.works()).cloned().collect()
    }

    /// The subscriptions of a connection that have not got a work yet, which has the place `index`;
    /// without those that are beginning, which get it with all others of their subject.
    fn missing(&self, token: Token, index: usize, work: &Work) -> Vec<Rc<Sub>> {
        let state = self.state.borrow();
        let subs = state.connections.get(&token).into_iter().flatten();
        let is_missing = |sub: &&Rc<Sub>| {
            if sub.is_beginning.get() {
                return false;
            }
            let place = work.channels.iter().position(|it| *it == sub.seat.channel);
            let Some(place) = place else { return false };
            let (0, Some(pass)) = (index, state.pass) else { return true };
            let cursor = state.channels.get(&sub.seat.channel).map_or(0, |it| it.cursor);
            place > pass || (place == pass && sub.index.get() >= cursor)
        };
        subs.filter(is_missing).cloned().collect()
    }

    fn apply(&self, work: &Work, sub: &Rc<Sub>) {
        if !sub.is_active.get() {
            return;
        }
        match &work.kind {
            Kind::Run(run) => sub.deliver(run, work.first),
            Kind::Gap(topic_id, misses) => sub.miss_at(work.first, *topic_id, misses),
            Kind::Ready => self.begin_pending(sub),
        }
    }

    fn begin_pending(&self, sub: &Rc<Sub>) {
        let hub = {
            let state = self.state.borrow();
            state.channels.get(&sub.seat.channel).map(|channel| Arc::clone(&channel.hub))
        };
        if let Some(hub) = hub {
            super::subscription::begin(&hub, self, sub);
        }
    }

    /// The subscriptions of a connection that hold publications back.
    fn behind(&self, token: Token) -> Vec<Rc<Sub>> {
        let state = self.state.borrow();
        let subs = state.connections.get(&token).into_iter().flatten();
        subs.filter(|sub| sub.is_behind()).cloned().collect()
    }
}

impl TopicService for Desk {
    fn serve(&self, local: &Local) -> Option<Tick> {
        if self.is_busy.replace(true) {
            return None;
        }
        local.publications.set(Publications::None);
        let waiting = self.state.borrow().publications;
        let room = PUBLICATIONS_PER_TURN.saturating_sub(waiting);
        let now = local.now.get();
        let mut has_more = self.take_in(room, BYTES_PER_TURN, now);
        self.state.borrow_mut().end_lingering(now);
        self.remove_leaving();
        let (mut subs, mut left) = (Vec::new(), DELIVERIES_PER_TURN);
        while left > 0
            && let Some(work) = self.next(&mut subs, left.min(CHUNK))
        {
            left -= subs.len();
            for sub in subs.drain(..) {
                self.apply(&work, &sub);
            }
        }
        has_more |= !self.state.borrow().works.is_empty();
        let due = self.state.borrow().lingering.next_due();
        if has_more {
            local.note_publications();
        } else if due.is_some() && local.publications.get() == Publications::None {
            local.publications.set(Publications::Lingering);
        }
        self.is_busy.set(false);
        due
    }

    fn catch_up(&self, local: &Local, token: Token) {
        if self.is_busy.replace(true) {
            return;
        }
        while self.take_in(usize::MAX, usize::MAX, local.now()) {}
        self.remove_leaving();
        if self.has_caught_up(token) {
            self.is_busy.set(false);
            return;
        }
        for (index, work) in self.works().iter().enumerate() {
            let subs = self.missing(token, index, work);
            subs.iter().for_each(|sub| self.apply(work, sub));
        }
        let state = self.state.borrow();
        let subs = state.connections.get(&token).into_iter().flatten();
        for sub in subs.filter(|sub| !sub.is_beginning.get()) {
            sub.since.set(sub.since.get().max(state.taken));
        }
        drop(state);
        self.is_busy.set(false);
    }

    fn refill(&self, token: Token) {
        let mut subs = self.behind(token);
        // One of each at a time, so that none waits for the others.
        let mut has_room = true;
        while has_room && !subs.is_empty() {
            subs.retain(|sub| {
                if !has_room {
                    return true;
                }
                let refill = sub.refill();
                has_room = refill != Refill::NoRoom;
                refill == Refill::Moved
            });
        }
        // Callbacks may have ended some, and begun others.
        if let Some(sub) = self.behind(token).first() {
            sub.session.set_holds_publications(true);
        }
    }

    fn end(&self, token: Token) {
        while let Some(sub) = self.last_of(token) {
            self.remove(&sub);
        }
    }

    fn close(&self) {
        self.inbox.close();
        let mut state = self.state.borrow_mut();
        (state.pass, state.publications) = (None, 0);
        let works = (std::mem::take(&mut state.works), std::mem::take(&mut state.open));
        let lingering = std::mem::take(&mut state.lingering);
        drop(state);
        drop((works, lingering));
    }

    fn as_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

impl Desk {
    /// Ends the subscriptions that other threads have ended.
    fn remove_leaving(&self) {
        loop {
            let mut state = self.state.borrow_mut();
            let Some((token, id)) = state.leaving.pop() else { return };
            // The connection may have ended since.
            let subs = state.connections.get(&token).into_iter().flatten();
            let found = subs.into_iter().find(|sub| sub.id == id).cloned();
            drop(state);
            if let Some(sub) = found {
                self.remove(&sub);
            }
        }
    }

    fn last_of(&self, token: Token) -> Option<Rc<Sub>> {
        self.state.borrow().connections.get(&token)?.last().cloned()
    }

    /// Whether all subscriptions of a connection have got what was taken from the inbox.
    fn has_caught_up(&self, token: Token) -> bool {
        let state = self.state.borrow();
        let mut subs = state.connections.get(&token).into_iter().flatten();
        subs.all(|sub| sub.since.get() >= state.taken)
    }
}

impl Channel {
    /// Takes off the subscription at `index`, and leaves those that have got what is being handed out
    /// in front of the cursor, and the others behind it.
    fn take_off(&mut self, index: usize) {
        let mut hole = index;
        if index < self.cursor {
            self.cursor -= 1;
            self.subs.swap(index, self.cursor);
            if let Some(sub) = self.subs.get(index) {
                sub.index.set(index);
            }
            hole = self.cursor;
        }
        swap_remove(&mut self.subs, hole, |sub, index| sub.index.set(index));
    }
}

/// Removes an element, whose place the last one takes.
fn swap_remove(subs: &mut Vec<Rc<Sub>>, at: usize, moved: impl Fn(&Sub, usize)) {
    if at < subs.len() {
        subs.swap_remove(at);
        if let Some(sub) = subs.get(at) {
            moved(sub, at);
        }
    }
}

fn id(hub: &Arc<HubCore>) -> usize {
    Arc::as_ptr(hub) as usize
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}

/// Publications that are taken in for a turn: as many as leave together.
const PUBLICATIONS_PER_TURN: usize = 1024;
const BYTES_PER_TURN: usize = 1024 * 1024;
/// Runs that are queued in a turn, once for each subscription: each is a send, of some microseconds.
const DELIVERIES_PER_TURN: usize = 2048;
/// Subscriptions that are taken from a list at a time.
const CHUNK: usize = 64;
