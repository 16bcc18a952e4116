//! Buses: what carries publications between the hubs of several processes.
//!
//! A bus is code of others. It is called in the order of what happened, by one thread at a time, and
//! with no lock of the hub held.

mod local;

use super::error::BusError;
use super::history::History;
use super::hub::HubCore;
use super::position::Position;
use super::post::{Encoded, Publication};
use bytes::Bytes;
pub use local::LocalBus;
use picows_uring_proto::MsgType;
use std::fmt;
use std::sync::Weak;

/// Carries publications between hubs, mostly of several processes: [`Hub::attach`](super::Hub::attach).
///
/// The hub subscribes to a subject for as long as it has a subscriber itself. All calls but
/// [`publish`](Self::publish) come one after the other, in their order, and those of `publish` in the
/// order of each topic. They come on whatever thread publishes or subscribes, workers included, so
/// they must not block: queue, and return.
pub trait Bus: Send + Sync + 'static {
    /// Who gives publications their order and position. Asked once, before [`attach`](Self::attach).
    fn mode(&self) -> BusMode {
        BusMode::Relay
    }

    /// The hub is there: what comes in goes to `inlet` from now on. Called once.
    ///
    /// # Errors
    ///
    /// When the bus cannot be used at all; one that is not reachable yet connects later.
    fn attach(&self, inlet: Inlet) -> Result<(), BusError>;

    /// The hub has a first subscriber for `subject`, which may have wildcards. A bus that keeps history
    /// delivers as much of the past as `history` says, oldest first, and then calls
    /// [`Inlet::ready`].
    fn subscribe(&self, subject: &str, history: History);

    /// The last subscriber for `subject` has gone.
    fn unsubscribe(&self, subject: &str);

    /// Publishes a message of this process.
    ///
    /// # Errors
    ///
    /// When it is not sent. Local subscribers get it all the same, unless the bus gives positions; the
    /// hub counts it (`bus_errors`).
    fn publish(&self, message: BusMessage) -> Result<(), BusError>;

    /// Subscriptions of other processes that get what is published to a topic, as far as it knows. It has
    /// theirs from [`Inlet::subscriptions`].
    fn subscribers(&self, topic: &str) -> usize {
        let _ = topic;
        0
    }

    /// Whether it is connected, as for a probe of readiness.
    fn is_ready(&self) -> bool {
        true
    }
}

/// Who gives publications their order and position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusMode {
    /// Each hub does, for its own subscribers, to whom it delivers what is published in its process at
    /// once. The bus carries it to the others, with the position that it had at its origin: the hub
    /// takes nothing twice by that, and finds what is missing.
    #[default]
    Relay,
    /// The bus does, and keeps history. What is published in this process is delivered when the bus
    /// returns it.
    Log,
}

/// A publication on the bus; [`Inlet`] has an example.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BusMessage {
    /// The name of its topic.
    pub topic: String,
    /// TEXT or BINARY.
    pub msg_type: MsgType,
    /// Its payload.
    pub payload: Bytes,
    /// Its key.
    pub key: Option<u64>,
    /// Names and values of its headers.
    pub headers: Vec<(String, String)>,
    /// The position that it had in the process that published it; `None` from other programs.
    pub origin: Option<Position>,
    /// The position that a bus has given it ([`BusMode::Log`]).
    pub position: Option<Position>,
}

impl BusMessage {
    /// A message without key, headers and positions.
    #[must_use]
    pub fn new(topic: impl Into<String>, msg_type: MsgType, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            msg_type,
            payload: payload.into(),
            key: None,
            headers: Vec::new(),
            origin: None,
            position: None,
        }
    }

    pub(super) fn of(topic: &str, encoded: &Encoded, origin: Option<Position>) -> Self {
        Self {
            topic: topic.to_owned(),
            msg_type: encoded.message.head().msg_type,
            payload: encoded.message.text_bytes(),
            key: encoded.key,
            headers: encoded.headers.clone(),
            origin,
            position: None,
        }
    }
}

impl From<&Publication> for BusMessage {
    fn from(publication: &Publication) -> Self {
        Self {
            topic: publication.topic().to_owned(),
            msg_type: publication.msg_type(),
            payload: publication.message().text_bytes(),
            key: publication.key(),
            headers: publication.header_list().clone(),
            origin: None,
            position: Some(publication.position()),
        }
    }
}

/// The hub, as a bus sees it. It does not keep the hub alive.
///
/// ```
/// use picows_uring::MsgType;
/// use picows_uring::topics::{Bus, BusError, BusMessage, History, Hub, Inlet};
/// use std::sync::{Arc, Mutex};
///
/// /// Brings what other programs say, and carries nothing to them.
/// #[derive(Default)]
/// struct Feed(Mutex<Option<Inlet>>);
///
/// impl Bus for Feed {
///     fn attach(&self, inlet: Inlet) -> Result<(), BusError> {
///         *self.0.lock().unwrap() = Some(inlet);
///         Ok(())
///     }
///
///     fn subscribe(&self, _: &str, _: History) {}
///
///     fn unsubscribe(&self, _: &str) {}
///
///     fn publish(&self, _: BusMessage) -> Result<(), BusError> {
///         Err(BusError::new("it only reads"))
///     }
/// }
///
/// let (hub, feed) = (Hub::new(), Arc::new(Feed::default()));
/// hub.attach(feed.clone())?;
/// let topic = hub.topic("news")?;
/// let inlet = feed.0.lock().unwrap().clone().expect("it is attached");
/// assert!(inlet.deliver("news", BusMessage::new("news", MsgType::Text, "hello")), "the hub is there");
/// assert_eq!(topic.position().offset, 1);
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
#[derive(Clone)]
pub struct Inlet {
    hub: Weak<HubCore>,
    mode: BusMode,
    node: u64,
}

impl Inlet {
    pub(super) const fn new(hub: Weak<HubCore>, mode: BusMode, node: u64) -> Self {
        Self { hub, mode, node }
    }

    /// Delivers a message that came by the subscription to `via`. Returns `false` once the hub has
    /// gone.
    ///
    /// Every copy is to be delivered, if a message comes by several subscriptions. A message that is
    /// not valid is left out and counted (`bus_errors`).
    pub fn deliver(&self, via: &str, message: BusMessage) -> bool {
        let Some(hub) = self.hub.upgrade() else { return false };
        match self.mode {
            BusMode::Relay => hub.relay_in(via, message),
            BusMode::Log => hub.log_in(via, message),
        }
        true
    }

    /// Messages of all topics that `subject` matches may be lost, as behind a new connection.
    pub fn gap(&self, subject: &str) {
        if let Some(hub) = self.hub.upgrade() {
            hub.gap(subject);
        }
    }

    /// What was asked of the past of `subject` has been delivered, as far as it is there.
    pub fn ready(&self, subject: &str) {
        if let Some(hub) = self.hub.upgrade() {
            hub.ready(subject);
        }
    }

    /// The subjects that this process has subscriptions to, and how many of each: for the hubs of other
    /// processes. Looks at each subject.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<(String, usize)> {
        self.hub.upgrade().map_or_else(Vec::new, |hub| hub.subscriptions_by_subject())
    }

    /// Subscriptions of this process that get what is published to a topic.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> usize {
        self.hub.upgrade().map_or(0, |hub| hub.subscribers(topic))
    }

    /// A random number of this hub.
    #[must_use]
    pub const fn node(&self) -> u64 {
        self.node
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The last offsets of other nodes that publish to a topic, those heard last at the end.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<Origin>);

#[derive(Debug)]
struct Origin {
    last: Position,
    /// Nothing of it came for a while, which is no gap: what comes next begins anew.
    is_paused: bool,
}

/// The order of a message among those of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Next,
    /// So many before it did not come.
    Behind(u64),
    /// It came before, or its gap was reported.
    Old,
}

impl Origins {
    pub(super) fn note(&mut self, origin: Position) -> Order {
        let at = self.0.iter().position(|it| it.last.epoch == origin.epoch);
        let newest = Origin { last: origin, is_paused: false };
        let Some(at) = at else {
            if self.0.len() >= ORIGINS_MAX {
                self.0.remove(0);
            }
            self.0.push(newest);
            return Order::Next;
        };
        if origin.offset <= self.0[at].last.offset {
            return Order::Old;
        }
        let Origin { last, is_paused } = self.0.remove(at);
        self.0.push(newest);
        match origin.offset - last.offset - 1 {
            missing if missing > 0 && !is_paused => Order::Behind(missing),
            _ => Order::Next,
        }
    }

    /// The bus delivers nothing for now.
    pub(super) fn pause(&mut self) {
        self.0.iter_mut().for_each(|origin| origin.is_paused = true);
    }
}

/// Nodes that publish to one topic, and lives of the topic there.
const ORIGINS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_tell_old_from_new_and_count_what_is_missing() {
        let mut origins = Origins::default();
        let at = |epoch, offset| Position { epoch, offset };
        assert_eq!(origins.note(at(1, 5)), Order::Next, "the first that is heard of");
        assert_eq!(origins.note(at(1, 6)), Order::Next);
        assert_eq!(origins.note(at(1, 6)), Order::Old);
        assert_eq!(origins.note(at(2, 1)), Order::Next, "each counts by itself");
        assert_eq!(origins.note(at(1, 9)), Order::Behind(2));
        assert_eq!(origins.note(at(1, 8)), Order::Old, "late: it counts as missing");
        assert_eq!(origins.note(at(2, 2)), Order::Next);
        origins.pause();
        assert_eq!(origins.note(at(1, 9)), Order::Old, "not even then");
        assert_eq!(origins.note(at(1, 15)), Order::Next, "what is missing was not asked for");
        assert_eq!(origins.note(at(1, 17)), Order::Behind(1));
        assert_eq!(origins.note(at(2, 3)), Order::Next);
        for epoch in 3..=ORIGINS_MAX as u64 + 1 {
            origins.note(at(epoch, 1));
        }
        assert_eq!(origins.0.len(), ORIGINS_MAX);
        assert_eq!(origins.note(at(2, 4)), Order::Next, "heard of since the first");
    }
}
