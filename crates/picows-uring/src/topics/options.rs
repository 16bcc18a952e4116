//! The choices of a subscriber: where it starts, what it gets, and what happens when it is slow.

use super::backlog::{Bound, Misses};
use super::position::Position;
use super::post::Publication;
use crate::foreign::Foreign;
use crate::prepared::Prepared;
use crate::transport::Transport;
use picows_uring_proto::ApiMisuse;
use std::fmt;
use std::sync::Arc;

/// The choices of a subscription.
///
/// ```
/// use picows_uring::topics::{SlowPolicy, Start, SubscribeOptions};
///
/// let options = SubscribeOptions::new()
///     .start(Start::Last(50))
///     .policy(SlowPolicy::drop_oldest(100))
///     .filter(|publication| publication.header("venue") == Some("XETRA"));
/// ```
#[derive(Default)]
pub struct SubscribeOptions {
    pub(super) policy: SlowPolicy,
    pub(super) start: Start,
    pub(super) filter: Option<Foreign<Filter>>,
    pub(super) format: Option<Format>,
    pub(super) on_start: Option<Foreign<OnStart>>,
    pub(super) on_missed: Option<Foreign<OnMissed>>,
}

pub(super) type Filter = Box<dyn Fn(&Publication) -> bool>;
pub(super) type OnStart = Box<dyn FnOnce(&Transport, &Recovery)>;
pub(super) type OnMissed = Box<dyn FnMut(&Transport, &Missed)>;

impl SubscribeOptions {
    /// From now on, every publication as it is, and CLOSE 1013 for a peer that is too slow.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What happens when the peer does not keep up.
    #[must_use]
    pub const fn policy(mut self, policy: SlowPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Where it starts.
    #[must_use]
    pub const fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Delivers those publications alone for which `filter` returns `true`. It runs once for each of
    /// them, on the connection's thread; one that panics lets nothing through.
    #[must_use]
    pub fn filter(mut self, filter: impl Fn(&Publication) -> bool + 'static) -> Self {
        self.filter = Some(Foreign::new(Box::new(filter)));
        self
    }

    /// What is sent for a publication, if not its message.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format.0.is_some().then_some(format);
        self
    }

    /// Is called when it is known what was recovered, before the first publication is queued: inside
    /// of the call that subscribes, unless a bus has to be asked.
    #[must_use]
    pub fn on_start(mut self, on_start: impl FnOnce(&Transport, &Recovery) + 'static) -> Self {
        self.on_start = Some(Foreign::new(Box::new(on_start)));
        self
    }

    /// Is called where publications are missing: in front of the next that is delivered, or at once
    /// if none waits. With it, a gap that no policy has made (a bus has lost something) does not end
    /// the connection.
    #[must_use]
    pub fn on_missed(mut self, on_missed: impl FnMut(&Transport, &Missed) + 'static) -> Self {
        self.on_missed = Some(Foreign::new(Box::new(on_missed)));
        self
    }
}

impl fmt::Debug for SubscribeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscribeOptions")
            .field("policy", &self.policy)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

/// What happens when the peer of a subscription does not keep up: its socket has refused some of what
/// was queued before.
///
/// ```
/// use picows_uring::topics::{SlowPolicy, SubscribeOptions};
///
/// // Quotes: of each key, a peer that is behind gets the last one.
/// let quotes = SubscribeOptions::new().policy(SlowPolicy::latest_by_key());
/// // A log: a peer that is more than a thousand lines behind misses the oldest.
/// let log = SubscribeOptions::new().policy(SlowPolicy::drop_oldest(1000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowPolicy {
    /// The connection ends with CLOSE 1013, whose reason names the topic, when more than so many bytes
    /// are unsent; `None` for the `max_queue_size` of the connection. It never misses a publication.
    Close {
        /// Unsent bytes, those of direct sends included.
        bytes: Option<usize>,
    },
    /// Publications are held back, this many at the most (one at the least), and the oldest of them is
    /// dropped for a new one.
    DropOldest {
        /// Publications that are held back.
        count: usize,
    },
    /// Publications are held back, and a new one takes the place of one that it supersedes.
    Latest(Conflate),
}

impl SlowPolicy {
    /// The connection ends beyond its `max_queue_size`.
    #[must_use]
    pub const fn close() -> Self {
        Self::Close { bytes: None }
    }

    /// The oldest of `count` publications gives way.
    #[must_use]
    pub const fn drop_oldest(count: usize) -> Self {
        Self::DropOldest { count }
    }

    /// The latest publication of each topic counts.
    #[must_use]
    pub const fn latest() -> Self {
        Self::Latest(Conflate::Topic)
    }

    /// The latest publication of each key of a topic counts.
    #[must_use]
    pub const fn latest_by_key() -> Self {
        Self::Latest(Conflate::Key)
    }

    pub(super) fn bound(self, queue_bytes_max: usize) -> Bound {
        match self {
            Self::Close { bytes } => Bound::Bytes(bytes.unwrap_or(queue_bytes_max)),
            Self::DropOldest { count } => Bound::Count(count),
            Self::Latest(Conflate::Topic) => Bound::Topic,
            Self::Latest(Conflate::Key) => Bound::Key,
        }
    }
}

impl Default for SlowPolicy {
    fn default() -> Self {
        Self::close()
    }
}

/// Which publication a later one supersedes.
///
/// ```
/// use picows_uring::topics::{Conflate, Post, SlowPolicy, SubscribeOptions};
///
/// // A subscriber that is slow gets the last price of each instrument.
/// let policy = SlowPolicy::latest_by_key();
/// assert_eq!(policy, SlowPolicy::Latest(Conflate::Key));
/// let options = SubscribeOptions::new().policy(policy);
/// let price = Post::text("EURUSD 1.1031").key(17);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflate {
    /// One of the same topic.
    Topic,
    /// One of the same topic with the same [key](super::Post::key); those without one supersede each
    /// other.
    Key,
}

/// The publication that a subscription begins with.
///
/// ```
/// use picows_uring::topics::{Start, SubscribeOptions};
///
/// // The last ten publications that the history has, and then the new ones.
/// let options = SubscribeOptions::new().start(Start::Last(10));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The next one that is published.
    #[default]
    New,
    /// The oldest that the history has.
    History,
    /// The last so many that the history has. With wildcards, of each topic.
    Last(usize),
    /// The one behind a position: all that was missed, or none. Not with wildcards.
    From(Position),
}

/// The outcome of the start of a subscription.
///
/// ```
/// use picows_uring::topics::{Hub, Position, Recovery, Start, SubscribeOptions};
/// use picows_uring::{Transport, topics::TopicError};
///
/// /// Subscribes a peer that says where it was, and returns whether it has missed some.
/// fn resume(hub: &Hub, transport: &Transport, at: Position) -> Result<bool, TopicError> {
///     let options = SubscribeOptions::new().start(Start::From(at));
///     let subscription = hub.subscribe(transport, "orders", options)?;
///     let is_lost = matches!(subscription.recovery(), Some(Recovery::Lost { .. }));
///     subscription.keep();
///     Ok(is_lost)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// It gets what is published from now on.
    New {
        /// The position of the last publication before it; that of wildcards is 0 in epoch 0.
        position: Position,
    },
    /// So many publications of the history come first, and nothing is missing between them and what
    /// is published from now on.
    Recovered {
        /// Publications.
        count: usize,
        /// The position of the last of them, or of the last publication before.
        position: Position,
    },
    /// Some of what is behind the wanted position is not there any more, or may not be: none of it
    /// comes. It gets what is published from now on.
    Lost {
        /// The position of the last publication before it.
        position: Position,
    },
}

impl Recovery {
    /// The position behind which the next new publication is.
    #[must_use]
    pub const fn position(&self) -> Position {
        match self {
            Self::New { position } | Self::Recovered { position, .. } | Self::Lost { position } => {
                *position
            }
        }
    }
}

/// Publications that a subscription does not get.
///
/// ```
/// use picows_uring::topics::SubscribeOptions;
///
/// let options = SubscribeOptions::new().on_missed(|transport, missed| {
///     let count = missed.count().map_or("some".to_owned(), |count| count.to_string());
///     transport.send_text(format!("{count} publications of {} are missing", missed.topic()));
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed(Misses);

impl Missed {
    pub(super) const fn new(misses: Misses) -> Self {
        Self(misses)
    }

    /// The topic; that of the last of them, if there are several. Where none was seen yet, the subject with
    /// wildcards.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.0.topic.as_deref().unwrap_or_default()
    }

    /// How many they are; `None` if that is not known.
    #[must_use]
    pub const fn count(&self) -> Option<u64> {
        if self.0.is_unknown { None } else { Some(self.0.count) }
    }

    /// The position of the last of them, as far as it is known.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { epoch: self.0.epoch, offset: self.0.offset }
    }
}

/// What is sent for a publication: its message, or what a function makes of it.
///
/// Subscriptions that hold clones of one format share its result: the function runs once for a
/// publication and a worker.
///
/// ```
/// use picows_uring::topics::{Format, SubscribeOptions};
/// use picows_uring::{MsgType, Prepared};
///
/// // Each message behind its topic and a blank.
/// let named = Format::new(|publication| {
///     let mut text = format!("{} ", publication.topic()).into_bytes();
///     text.extend_from_slice(publication.payload());
///     Prepared::new(MsgType::Text, &text)
/// });
/// let options = SubscribeOptions::new().format(named);
/// ```
#[derive(Clone, Default)]
pub struct Format(Option<Arc<FormatFn>>);

type FormatFn = dyn Fn(&Publication) -> Result<Prepared, ApiMisuse> + Send + Sync;

impl Format {
    /// The message as it was published.
    #[must_use]
    pub const fn message() -> Self {
        Self(None)
    }

    /// What `format` makes of it. A publication for which it fails or panics is not sent, and counts
    /// as dropped.
    pub fn new(
        format: impl Fn(&Publication) -> Result<Prepared, ApiMisuse> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(format)))
    }

    /// The same for clones of a format alone.
    pub(super) fn id(&self) -> usize {
        self.0.as_ref().map_or(0, |format| Arc::as_ptr(format).cast::<()>() as usize)
    }

    pub(super) fn apply(&self, publication: &Publication) -> Result<Prepared, ApiMisuse> {
        match &self.0 {
            None => Ok(publication.message().clone()),
            Some(format) => format(publication),
        }
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_none() { "Format::message()" } else { "Format::new(..)" })
    }
}
