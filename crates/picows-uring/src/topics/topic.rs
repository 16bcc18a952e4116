//! A topic: its order, its history, and the workers that have subscribers.
//!
//! One lock for each, held for as long as a publication takes to get its offset and to reach the
//! inboxes. No code of the application runs under it.

use super::backlog::Misses;
use super::bus::{BusMessage, Origins};
use super::error::TopicError;
use super::history::Log;
use super::history_memory::HistoryMemory;
use super::hub::{Hub, Sender};
use super::inbox::{Delivery, Entry, Gap, Inbox, Pushed};
use super::linger::Batching;
use super::options::{Recovery, Start, SubscribeOptions};
use super::position::Position;
use super::post::{Encoded, Post, Publication};
use super::settings::{TopicSettings, WaitingMax};
use super::subscription::Subscription;
use crate::transport::Transport;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A topic, for those who publish to it or subscribe to it often: without a look at its name, and it
/// stays for as long as a handle of it lives.
///
/// ```
/// use picows_uring::topics::{History, Hub, Post, TopicSettings};
///
/// let settings = TopicSettings::new().history(History::last(10));
/// let hub = Hub::builder().settings(settings).build()?;
/// let news = hub.topic("news")?;
/// let published = news.publish(Post::text("first"))?;
/// assert_eq!((published.receivers, published.lost), (0, 0));
/// assert_eq!(published.position, Some(news.position()));
/// assert_eq!(news.history_len(), 1);
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
pub struct Topic {
    hub: Hub,
    core: Arc<TopicCore>,
}

impl Topic {
    pub(super) fn new(hub: &Hub, core: Arc<TopicCore>) -> Self {
        core.handles.fetch_add(1, Ordering::Relaxed);
        Self { hub: hub.clone(), core }
    }

    /// Whether it was forgotten before the handle was made.
    pub(super) fn is_gone(&self) -> bool {
        self.core.lock().is_gone
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Publishes a message; see [`Hub::publish`].
    ///
    /// # Errors
    ///
    /// When it is neither TEXT nor BINARY, or text that is not UTF-8, or its headers are too long.
    pub fn publish(&self, post: Post) -> Result<Published, TopicError> {
        self.hub.publish_to(&self.core, post, None)
    }

    /// Publishes a message to all but one connection; see [`Hub::publish_except`].
    ///
    /// # Errors
    ///
    /// See [`publish`](Self::publish).
    pub fn publish_except(&self, except: &Transport, post: Post) -> Result<Published, TopicError> {
        self.hub.publish_to(&self.core, post, Some(except))
    }

    /// Subscribes a connection to it; see [`Hub::subscribe`].
    ///
    /// # Errors
    ///
    /// See [`Hub::subscribe`].
    pub fn subscribe(
        &self,
        transport: &Transport,
        options: SubscribeOptions,
    ) -> Result<Subscription, TopicError> {
        self.hub.subscribe(transport, &self.core.name, options)
    }

    /// The position of the last publication.
    #[must_use]
    pub fn position(&self) -> Position {
        self.core.lock().position()
    }

    /// Subscriptions of this process that get what is published to it.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.core.lock().subscribers()
    }

    /// Publications that its history has.
    #[must_use]
    pub fn history_len(&self) -> usize {
        let now = self.hub.now();
        let mut state = self.core.lock();
        state.log.expire(now);
        state.log.len()
    }
}

impl Clone for Topic {
    fn clone(&self) -> Self {
        Self::new(&self.hub, Arc::clone(&self.core))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if self.core.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.hub.forget_unused(&self.core);
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// The outcome of publishing.
///
/// ```
/// use picows_uring::topics::{Hub, Post};
///
/// let topic = Hub::new().topic("news")?;
/// let published = topic.publish(Post::text("hello"))?;
/// assert_eq!(published.position, Some(topic.position()));
/// assert_eq!(published.receivers, 0, "no connection of this process has subscribed");
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its position in the topic; `None` where a bus gives it later.
    pub position: Option<Position>,
    /// Subscriptions of this process that it goes to, before their filters. Each gets it once, or its
    /// policy deals with it: there is no reason to publish it again.
    pub receivers: usize,
    /// Those of them that are behind: their peer does not read, or much waits for their worker.
    pub congested: usize,
    /// Subscriptions that do not get it, beside the receivers: too much waits for their worker. They
    /// have a gap, as by their policies.
    pub lost: usize,
}

/// The subscriptions of one worker to one subject, as other threads see them.
#[derive(Debug)]
pub(super) struct Seat {
    /// The number of the subject.
    pub(super) channel: u64,
    pub(super) inbox: Arc<Inbox>,
    /// Subscriptions. Written by the worker alone, as all that follows.
    pub(super) subscriptions: AtomicUsize,
    /// Those that hold publications back.
    pub(super) behind: AtomicUsize,
    pub(super) delivered: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) conflated: AtomicU64,
    pub(super) closed: AtomicU64,
    /// The past is here, as far as it comes by a bus.
    pub(super) is_ready: AtomicBool,
}

impl Seat {
    pub(super) fn new(channel: u64, inbox: Arc<Inbox>, is_ready: bool) -> Self {
        Self {
            channel,
            inbox,
            subscriptions: AtomicUsize::new(0),
            behind: AtomicUsize::new(0),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            conflated: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            is_ready: AtomicBool::new(is_ready),
        }
    }
}

/// A worker that a topic has subscribers on.
#[derive(Debug)]
struct Route {
    inbox: Arc<Inbox>,
    seats: Vec<Arc<Seat>>,
    /// Their subjects.
    channels: Arc<[u64]>,
}

impl Route {
    fn sum(&self, count: impl Fn(&Seat) -> &AtomicUsize) -> usize {
        self.seats.iter().map(|seat| count(seat).load(Ordering::Relaxed)).sum()
    }

    fn renew_channels(&mut self) {
        self.channels = self.seats.iter().map(|seat| seat.channel).collect();
    }
}

#[derive(Debug)]
pub(super) struct TopicCore {
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    pub(super) handles: AtomicUsize,
    batching: Batching,
    state: Mutex<TopicState>,
}

/// What the lock of a topic guards.
#[derive(Debug)]
pub(super) struct TopicState {
    epoch: u64,
    /// The offset of the last publication.
    last: u64,
    /// Publications that were handed to the bus.
    sent: u64,
    pub(super) log: Log,
    routes: Vec<Route>,
    /// Other nodes that publish to it.
    pub(super) origins: Origins,
    /// Messages for the bus, in their order.
    pub(super) outgoing: VecDeque<BusMessage>,
    /// A thread hands them over.
    pub(super) is_draining: bool,
    /// It was taken off the list: another one has its name, or will.
    pub(super) is_gone: bool,
}

/// The outcome of a publication that was made: what is left to do without the lock.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) published: Published,
    /// It waits in the inbox of the thread's own worker.
    pub(super) is_own: bool,
    /// The topic has no other use.
    pub(super) is_unused: bool,
}

impl TopicCore {
    pub(super) fn new(
        id: u64,
        name: Arc<str>,
        epoch: u64,
        settings: TopicSettings,
        memory: Arc<HistoryMemory>,
    ) -> Self {
        let state = TopicState {
            epoch,
            last: 0,
            sent: 0,
            log: Log::new(settings.history, 0, memory),
            routes: Vec::new(),
            origins: Origins::default(),
            outgoing: VecDeque::new(),
            is_draining: false,
            is_gone: false,
        };
        let (batching, state) = (settings.batching, Mutex::new(state));
        Self { id, name, handles: AtomicUsize::new(0), batching, state }
    }

    /// A thread that panicked here leaves the state whole: no code of the application runs under it.
    pub(super) fn lock(&self) -> MutexGuard<'_, TopicState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything needs it.
    pub(super) fn is_used(&self, state: &TopicState) -> bool {
        self.handles.load(Ordering::Acquire) > 0 || state.is_used()
    }

    /// Gives a message its position, keeps it and has it delivered.
    pub(super) fn publish(
        &self,
        state: &mut TopicState,
        position: Position,
        encoded: Encoded,
        sender: &Sender<'_>,
        max: WaitingMax,
        now: Duration,
    ) -> Made {
        debug_assert!(position.offset > state.last || position.epoch != state.epoch, "order");
        state.last = position.offset;
        let publication = Publication::new(&self.name, self.id, position, encoded);
        let mut made = Made::default();
        made.published.position = Some(position);
        for route in &state.routes {
            route.push(&publication, self.batching, sender, max, &mut made);
        }
        state.log.append(publication, now);
        made.is_unused = !self.is_used(state);
        made
    }

    /// Reports to subscribers that something may be missing behind the last publication, and begins
    /// the history anew.
    pub(super) fn gap(&self, state: &mut TopicState, count: Option<u64>) {
        state.log.break_behind(state.last);
        let misses = Misses {
            count: count.unwrap_or_default(),
            is_unknown: count.is_none(),
            topic: Some(Arc::clone(&self.name)),
            epoch: state.epoch,
            offset: state.last,
        };
        for route in &state.routes {
            let (misses, channels) = (misses.clone(), Arc::clone(&route.channels));
            route.inbox.push_notice(Entry::Gap(Gap { topic_id: self.id, misses, channels }));
            route.inbox.announce();
        }
    }
}

impl Route {
    fn push(
        &self,
        publication: &Publication,
        batching: Batching,
        sender: &Sender<'_>,
        max: WaitingMax,
        made: &mut Made,
    ) {
        let is_own = sender.inbox.is_some_and(|own| Arc::ptr_eq(own, &self.inbox));
        let mut count = self.sum(|seat| &seat.subscriptions);
        if count == 0 {
            return;
        }
        let except = sender.except.filter(|_| is_own);
        if is_own {
            count -= count.min(sender.excepted(&self.channels));
        }
        let channels = Arc::clone(&self.channels);
        let delivery = Delivery { publication: publication.clone(), channels, except, batching };
        let published = &mut made.published;
        match self.inbox.push(delivery, max) {
            Pushed::Taken => {
                published.receivers += count;
                published.congested += self.sum(|seat| &seat.behind).min(count);
            }
            Pushed::Behind => {
                published.receivers += count;
                published.congested += count;
            }
            Pushed::Full => published.lost += count,
            Pushed::Closed => return,
        }
        if is_own {
            made.is_own = true;
        } else {
            self.inbox.announce();
        }
    }
}

impl TopicState {
    /// The position of the last publication.
    pub(super) const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.last }
    }

    /// The position of the next publication, where the hub gives it.
    pub(super) const fn next_position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.last + 1 }
    }

    /// The origin of the next publication for the bus: other nodes count what comes from this one, whatever
    /// comes from others in between.
    pub(super) const fn next_origin(&mut self) -> Position {
        self.sent += 1;
        Position { epoch: self.epoch, offset: self.sent }
    }

    /// The bus delivers nothing more: what other nodes publish from here on is missing in the history, and
    /// no gap for those who subscribe later.
    pub(super) fn end_relay(&mut self) {
        self.log.break_behind(self.last);
        self.origins.pause();
    }

    /// Begins another epoch, as a bus has it: nothing of the one before can be recovered.
    pub(super) fn begin_epoch(&mut self, position: Position) {
        self.epoch = position.epoch;
        self.last = position.offset.saturating_sub(1);
        self.log.restart(self.last);
    }

    /// Adds a message for the bus, unless too many wait for it already. Returns whether it did: other
    /// nodes see a gap where it is missing.
    #[must_use]
    pub(super) fn push_outgoing(&mut self, message: BusMessage) -> bool {
        let has_room = self.outgoing.len() < OUTGOING_MAX;
        if has_room {
            self.outgoing.push_back(message);
        }
        has_room
    }

    /// The subscriptions that get what is published.
    pub(super) fn subscribers(&self) -> usize {
        self.routes.iter().map(|route| route.sum(|seat| &seat.subscriptions)).sum()
    }

    pub(super) fn add_seat(&mut self, seat: &Arc<Seat>) {
        let at = self.routes.iter().position(|it| Arc::ptr_eq(&it.inbox, &seat.inbox));
        let at = at.unwrap_or_else(|| {
            let (inbox, channels) = (Arc::clone(&seat.inbox), Arc::from([]));
            self.routes.push(Route { inbox, seats: Vec::new(), channels });
            self.routes.len() - 1
        });
        self.routes[at].seats.push(Arc::clone(seat));
        self.routes[at].renew_channels();
    }

    pub(super) fn remove_seat(&mut self, seat: &Arc<Seat>) {
        let Some(at) = self.routes.iter().position(|it| Arc::ptr_eq(&it.inbox, &seat.inbox)) else {
            return;
        };
        let route = &mut self.routes[at];
        route.seats.retain(|it| !Arc::ptr_eq(it, seat));
        route.renew_channels();
        if route.seats.is_empty() {
            self.routes.swap_remove(at);
        }
    }

    /// What a subscription begins with that starts now, and what comes of its wish.
    pub(super) fn start(&mut self, start: Start, now: Duration) -> (Recovery, Vec<Publication>) {
        self.log.expire(now);
        let position = self.position();
        let recovered: Vec<_> = match start {
            Start::New => return (Recovery::New { position }, Vec::new()),
            Start::History => self.log.last(usize::MAX).cloned().collect(),
            Start::Last(count) => self.log.last(count).cloned().collect(),
            Start::From(from) => {
                let is_known = from.epoch == self.epoch && from.offset <= self.last;
                match self.log.after(from.offset).filter(|_| is_known) {
                    Some(missed) => missed.cloned().collect(),
                    None => return (Recovery::Lost { position }, Vec::new()),
                }
            }
        };
        (Recovery::Recovered { count: recovered.len(), position }, recovered)
    }

    fn is_used(&self) -> bool {
        !self.routes.is_empty() || self.log.len() > 0 || !self.outgoing.is_empty()
    }

    /// Whether other nodes count what it has published: made anew, it would be another to them, and what
    /// they miss in between they would not find out.
    pub(super) const fn is_counted_elsewhere(&self) -> bool {
        self.sent > 0
    }
}

/// Messages of a topic that may wait for its bus, which does not block: more wait where it does.
const OUTGOING_MAX: usize = 16_384;
