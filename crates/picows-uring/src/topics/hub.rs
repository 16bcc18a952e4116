//! A hub: its topics, its workers, and its bus.
//!
//! Locks are taken in one order, registry, topic, inbox, and released before code of the application
//! runs.

mod events;
mod inlet;
mod shrink;

use super::bus::{Bus, BusMessage, BusMode, Inlet};
use super::desk::Desk;
use super::error::TopicError;
use super::inbox::Inbox;
use super::name::TopicName;
use super::options::SubscribeOptions;
use super::position::Position;
use super::post::{Encoded, Post};
use super::registry::Registry;
use super::settings::HubBuilder;
use super::subscription::{self, Subscription};
use super::topic::{Made, Published, Seat, Topic, TopicCore, TopicState};
use crate::foreign;
use crate::local::{self, Local};
use crate::ring::Token;
use crate::transport::Transport;
use events::{Event, Events};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// The topics of a process, or of a part of it. Cheap to clone; any thread may publish.
///
/// ```
/// use picows_uring::topics::{Hub, Post, SubscribeOptions};
/// use picows_uring::{Frame, Listener, ListenerResult, Transport};
///
/// struct Visitor(Hub);
///
/// impl Listener for Visitor {
///     fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
///         self.0.subscribe(transport, "news", SubscribeOptions::new())?.keep();
///         self.0.publish("visitors", Post::text("one more"))?;
///         Ok(())
///     }
///
///     fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
///         self.0.publish("chat", Post::binary(frame.payload().to_vec()))?;
///         Ok(())
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Hub(Arc<HubCore>);

/// The state that all clones of a hub share.
pub(super) struct HubCore {
    pub(super) settings: HubBuilder,
    registry: RwLock<Registry>,
    /// The upper half of its epochs.
    node: u64,
    next_epoch: AtomicU64,
    started: Instant,
    events: Events,
    is_attaching: AtomicBool,
    bus: OnceLock<(Arc<dyn Bus>, BusMode)>,
    totals: Totals,
    /// Bytes that histories may take together.
    history_bytes_max: usize,
    /// A thread has histories give way.
    is_shrinking: AtomicBool,
}

/// Counters of what is not counted elsewhere.
#[derive(Debug, Default)]
struct Totals {
    published: AtomicU64,
    lost: AtomicU64,
    bus_errors: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    conflated: AtomicU64,
    closed: AtomicU64,
}

/// The counters of a hub. Each is exact, and they are not taken at one instant.
///
/// ```
/// use picows_uring::topics::{Hub, Post};
///
/// let hub = Hub::new();
/// hub.topic("news")?.publish(Post::text("hello"))?;
/// let stats = hub.stats();
/// assert_eq!((stats.published, stats.delivered, stats.subscriptions), (1, 0, 0));
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Topics in use.
    pub topics: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Subscriptions that hold publications back.
    pub behind: usize,
    /// Messages that were published, those of a bus included.
    pub published: u64,
    /// Publications that were queued for a connection, once for each subscription.
    pub delivered: u64,
    /// Publications that were dropped for subscriptions that were slow or whose worker was.
    pub dropped: u64,
    /// Publications that were replaced by a later one.
    pub conflated: u64,
    /// Connections that were closed because they were slow, or because of a gap.
    pub closed: u64,
    /// Publications that were not given to a worker, once for each of its subscriptions.
    pub lost: u64,
    /// Publications that the bus did not send, and messages of the bus that were not valid.
    pub bus_errors: u64,
    /// Publications that the histories of all topics have.
    pub history_len: usize,
    /// Bytes of memory that they take.
    pub history_bytes: usize,
}

/// The thread that publishes.
pub(super) struct Sender<'a> {
    /// The inbox of its worker, if that has subscriptions.
    pub(super) inbox: Option<&'a Arc<Inbox>>,
    /// A connection of it that does not get the publication.
    pub(super) except: Option<Token>,
    desk: Option<&'a Desk>,
}

impl Sender<'_> {
    /// Subscriptions of the connection that does not get a publication, among those to `channels`.
    pub(super) fn excepted(&self, channels: &[u64]) -> usize {
        let (Some(desk), Some(token)) = (self.desk, self.except) else { return 0 };
        desk.count(token, channels)
    }
}

impl Hub {
    /// A hub whose topics keep no history.
    #[must_use]
    pub fn new() -> Self {
        Self::with(HubBuilder::new())
    }

    /// The settings of a hub.
    pub fn builder() -> HubBuilder {
        HubBuilder::new()
    }

    pub(super) fn with(settings: HubBuilder) -> Self {
        // The keys of a hash map are random, so what it makes of nothing is.
        let random = RandomState::new().build_hasher().finish();
        let history_bytes_max = settings.history_bytes_max.unwrap_or_else(shrink::default_max);
        Self(Arc::new(HubCore {
            settings,
            registry: RwLock::default(),
            node: random & !u64::from(u32::MAX),
            next_epoch: AtomicU64::new(random & u64::from(u32::MAX)),
            started: Instant::now(),
            events: Events::default(),
            is_attaching: AtomicBool::new(false),
            bus: OnceLock::new(),
            totals: Totals::default(),
            history_bytes_max,
            is_shrinking: AtomicBool::new(false),
        }))
    }

    /// The topic of a name, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// When the name is not valid, or there are too many topics.
    pub fn topic(&self, name: &str) -> Result<Topic, TopicError> {
        loop {
            let core = self.0.topic(name)?;
            let topic = Topic::new(self, core);
            // It may have been forgotten in between: then the handle is one of nothing.
            if !topic.is_gone() {
                return Ok(topic);
            }
        }
    }

    /// Publishes a message to the subscribers of a topic, on all workers of the process, and through
    /// the bus to those of other processes. It is delivered in the next turn of each worker, and to
    /// the connections of the calling thread's worker in the order of calls, direct sends included.
    ///
    /// # Errors
    ///
    /// When the name is not valid, or there are too many topics; when the message is neither TEXT nor
    /// BINARY, or text that is not UTF-8, or its headers are too long.
    pub fn publish(&self, name: &str, post: Post) -> Result<Published, TopicError> {
        let core = self.0.topic(name)?;
        self.publish_to(&core, post, None)
    }

    /// [`publish`](Self::publish), to all but one connection, mostly the one from which the message
    /// came.
    ///
    /// # Errors
    ///
    /// See [`publish`](Self::publish).
    pub fn publish_except(
        &self,
        except: &Transport,
        name: &str,
        post: Post,
    ) -> Result<Published, TopicError> {
        let core = self.0.topic(name)?;
        self.publish_to(&core, post, Some(except))
    }

    pub(super) fn publish_to(
        &self,
        core: &Arc<TopicCore>,
        post: Post,
        except: Option<&Transport>,
    ) -> Result<Published, TopicError> {
        let encoded = post.encode(self.0.settings.deflate)?;
        self.0.publish(core, encoded, except.map(|it| it.session().token))
    }

    /// Subscribes a connection to a topic, or with wildcards to all that match.
    ///
    /// The subscription lasts as long as its handle, or the connection. What is published after this
    /// has returned is delivered, what was before is not, unless [`Start`](super::Start) says so.
    ///
    /// # Errors
    ///
    /// When the subject is not valid, the connection has ended or has too many subscriptions, or there
    /// are too many topics or subjects with wildcards.
    pub fn subscribe(
        &self,
        transport: &Transport,
        subject: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, TopicError> {
        subscription::subscribe(self, transport, subject, options)
    }

    /// The position of the last publication of a topic; `None` if there is no such topic.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<Position> {
        let core = self.0.read().get(name).cloned()?;
        Some(core.lock().position())
    }

    /// Subscriptions of this process that get what is published to a topic.
    #[must_use]
    pub fn subscribers(&self, name: &str) -> usize {
        self.0.subscribers(name)
    }

    /// The same, with those of all processes on its bus, as far as that knows them: one on NATS does a
    /// second or two later.
    #[must_use]
    pub fn subscribers_everywhere(&self, name: &str) -> usize {
        let others = self.0.bus.get().and_then(|(bus, _)| {
            let mut count = None;
            foreign::run("bus", name, || count = Some(bus.subscribers(name)));
            count
        });
        self.subscribers(name) + others.unwrap_or(0)
    }

    /// Topics in use.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.0.read().topics().len()
    }

    /// Subscriptions of this process.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        let count = |seat: &Arc<Seat>| seat.subscriptions.load(Ordering::Relaxed);
        self.0.read().seats().map(count).sum()
    }

    /// Its counters. Looks at each topic.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        self.0.stats()
    }

    /// Attaches a bus.
    ///
    /// # Errors
    ///
    /// When there is one already, or this one cannot be used.
    pub fn attach(&self, bus: Arc<dyn Bus>) -> Result<(), TopicError> {
        if self.0.is_attaching.swap(true, Ordering::AcqRel) {
            return Err(TopicError::HasBus);
        }
        let mode = bus.mode();
        let inlet = Inlet::new(Arc::downgrade(&self.0), mode, self.0.node);
        if let Err(error) = bus.attach(inlet) {
            self.0.is_attaching.store(false, Ordering::Release);
            return Err(error.into());
        }
        let registry = self.0.write();
        let _ = self.0.bus.set((bus, mode));
        for subject in registry.subject_names() {
            self.0.events.push(Event::Attached(subject));
        }
        drop(registry);
        self.0.run_events();
        Ok(())
    }

    /// Whether its bus is connected; `true` without one.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.bus.get().is_none_or(|(bus, _)| bus.is_ready())
    }

    pub(super) fn core(&self) -> &Arc<HubCore> {
        &self.0
    }

    pub(super) fn now(&self) -> Duration {
        self.0.now()
    }

    pub(super) fn forget_unused(&self, topic: &Arc<TopicCore>) {
        self.0.forget_unused(topic);
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("topics", &self.topics()).finish_non_exhaustive()
    }
}

impl HubCore {
    /// A thread that panicked here leaves it whole: no code of the application runs under the lock.
    fn read(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic of a name, which is made if it is not there.
    pub(super) fn topic(&self, name: &str) -> Result<Arc<TopicCore>, TopicError> {
        if let Some(core) = self.read().get(name) {
            return Ok(Arc::clone(core));
        }
        TopicName::check(name)?;
        self.write().topic(name, &self.settings, || self.new_epoch())
    }

    fn new_epoch(&self) -> u64 {
        let count = self.next_epoch.fetch_add(1, Ordering::Relaxed);
        self.node | (count & u64::from(u32::MAX))
    }

    /// Whether an epoch is one of this hub.
    fn is_own(&self, epoch: u64) -> bool {
        epoch & !u64::from(u32::MAX) == self.node
    }

    fn mode(&self) -> Option<BusMode> {
        self.bus.get().map(|(_, mode)| *mode)
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time, for a history that has an age.
    fn now_for(&self, state: &TopicState) -> Duration {
        match state.log.limits().age {
            Some(_) => self.started.elapsed(),
            None => Duration::ZERO,
        }
    }

    fn publish(
        &self,
        core: &Arc<TopicCore>,
        encoded: Encoded,
        except: Option<Token>,
    ) -> Result<Published, TopicError> {
        let local = local::here();
        let desk = local.as_ref().and_then(|local| Desk::get(local));
        let inbox = desk.as_ref().map(|desk| desk.inbox());
        let sender = Sender { inbox, except, desk: desk.as_deref() };
        let (core, made) = self.publish_first(core, encoded, &sender)?;
        self.publish_rest(&core, &made, local.as_ref());
        Ok(made.published)
    }

    /// What is done under the lock of the topic.
    fn publish_first(
        &self,
        core: &Arc<TopicCore>,
        encoded: Encoded,
        sender: &Sender<'_>,
    ) -> Result<(Arc<TopicCore>, Made), TopicError> {
        let mode = self.mode();
        let mut core = Arc::clone(core);
        loop {
            let mut state = core.lock();
            if state.is_gone {
                drop(state);
                core = self.topic(&core.name)?;
                continue;
            }
            if mode == Some(BusMode::Log) {
                let is_out = state.push_outgoing(BusMessage::of(&core.name, &encoded, None));
                self.count_unsent(is_out);
                let receivers = state.subscribers();
                drop(state);
                let published = Published { receivers, ..Published::default() };
                return Ok((core, Made { published, ..Made::default() }));
            }
            let (position, now) = (state.next_position(), self.now_for(&state));
            if mode.is_some() {
                let origin = state.next_origin();
                let message = BusMessage::of(&core.name, &encoded, Some(origin));
                let is_out = state.push_outgoing(message);
                self.count_unsent(is_out);
            }
            let max = self.settings.waiting_max;
            let made = core.publish(&mut state, position, encoded, sender, max, now);
            drop(state);
            return Ok((core, made));
        }
    }

    fn count_unsent(&self, is_out: bool) {
        if !is_out {
            self.totals.bus_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is done without it.
    fn publish_rest(&self, core: &Arc<TopicCore>, made: &Made, local: Option<&Rc<Local>>) {
        self.on_published(made, local);
        if self.mode().is_some() {
            self.send_outgoing(core);
        } else if made.is_unused {
            self.forget_unused(core);
        }
    }

    /// Counts a publication, and has the worker of this thread deliver it.
    fn on_published(&self, made: &Made, local: Option<&Rc<Local>>) {
        self.totals.published.fetch_add(1, Ordering::Relaxed);
        self.totals.lost.fetch_add(made.published.lost as u64, Ordering::Relaxed);
        if made.is_own
            && let Some(local) = local
        {
            local.note_publications();
            local.wake();
        }
        self.shrink_if_over();
    }

    /// Hands the messages of a topic to the bus, in their order.
    fn send_outgoing(&self, core: &TopicCore) {
        let Some((bus, _)) = self.bus.get() else { return };
        let mut state = core.lock();
        if std::mem::replace(&mut state.is_draining, true) {
            return;
        }
        while let Some(message) = state.outgoing.pop_front() {
            drop(state);
            let sent = foreign::call(|| bus.publish(message));
            if !matches!(sent, Ok(Ok(()))) {
                self.totals.bus_errors.fetch_add(1, Ordering::Relaxed);
            }
            state = core.lock();
        }
        state.is_draining = false;
    }

    fn forget_unused(&self, topic: &Arc<TopicCore>) {
        // What other nodes know of its offsets is worth keeping, as long as there is room.
        let keeps_offsets = self.mode().is_some() && topic.lock().position().offset > 0;
        if !keeps_offsets {
            self.write().forget_unused(topic);
        }
    }

    /// Adds a worker to the subscribers of a subject. Events are to be run afterwards.
    pub(super) fn join(
        &self,
        subject: &Arc<str>,
        inbox: &Arc<Inbox>,
    ) -> Result<Arc<Seat>, TopicError> {
        let mut registry = self.write();
        let is_ready = self.mode() != Some(BusMode::Log);
        let (seat, is_first) = registry.join(subject, inbox, &self.settings, is_ready)?;
        if !super::name::is_pattern(subject)
            && let Err(error) = registry.topic(subject, &self.settings, || self.new_epoch())
        {
            registry.leave(subject, &seat);
            return Err(error);
        }
        if is_first {
            self.events.push(Event::First(Arc::clone(subject), self.mode().is_some()));
        }
        Ok(seat)
    }

    /// Takes a worker off the subscribers of a subject. Events are to be run afterwards.
    pub(super) fn leave(&self, subject: &Arc<str>, seat: &Arc<Seat>) {
        let mut registry = self.write();
        if registry.leave(subject, seat) {
            self.events.push(Event::Last(Arc::clone(subject), self.mode().is_some()));
        }
        drop(registry);
        let (totals, read) = (&self.totals, |it: &AtomicU64| it.load(Ordering::Relaxed));
        totals.delivered.fetch_add(read(&seat.delivered), Ordering::Relaxed);
        totals.dropped.fetch_add(read(&seat.dropped), Ordering::Relaxed);
        totals.conflated.fetch_add(read(&seat.conflated), Ordering::Relaxed);
        totals.closed.fetch_add(read(&seat.closed), Ordering::Relaxed);
    }

    /// Subscriptions of this process that get what is published to a topic.
    pub(super) fn subscribers(&self, name: &str) -> usize {
        self.read().subscribers(name)
    }

    /// Subjects with subscriptions, and how many of each.
    pub(super) fn subscriptions_by_subject(&self) -> Vec<(String, usize)> {
        self.read().subscriptions_by_subject()
    }

    /// Topics that match a subject.
    pub(super) fn matched_by(&self, subject: &str) -> Vec<Arc<TopicCore>> {
        self.read().matched_by(subject)
    }

    fn stats(&self) -> HubStats {
        let read = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let (registry, totals) = (self.read(), &self.totals);
        let mut stats = HubStats {
            topics: registry.topics().len(),
            published: read(&totals.published),
            delivered: read(&totals.delivered),
            dropped: read(&totals.dropped),
            conflated: read(&totals.conflated),
            closed: read(&totals.closed),
            lost: read(&totals.lost),
            bus_errors: read(&totals.bus_errors),
            ..HubStats::default()
        };
        for seat in registry.seats() {
            stats.subscriptions += seat.subscriptions.load(Ordering::Relaxed);
            stats.behind += seat.behind.load(Ordering::Relaxed);
            stats.delivered += read(&seat.delivered);
            stats.dropped += read(&seat.dropped);
            stats.conflated += read(&seat.conflated);
            stats.closed += read(&seat.closed);
        }
        for topic in registry.topics() {
            let state = topic.lock();
            stats.history_len += state.log.len();
            stats.history_bytes += state.log.bytes();
        }
        stats
    }
}

impl fmt::Debug for HubCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubCore")
    }
}
