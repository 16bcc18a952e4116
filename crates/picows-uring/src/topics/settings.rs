//! Settings of a hub and of its topics.

use super::error::TopicError;
use super::history::History;
use super::history_memory::HistoryMemory;
use super::hub::Hub;
use super::linger::Batching;
use super::name::TopicName;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Settings of topics.
///
/// ```
/// use picows_uring::topics::{History, Hub, TopicSettings};
/// use std::time::Duration;
///
/// let quotes = TopicSettings::new().history(History::last(1)).linger(Duration::from_millis(5));
/// let hub = Hub::builder().settings_of("quotes.>", quotes).build()?;
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSettings {
    pub(super) history: History,
    pub(super) batching: Batching,
}

impl TopicSettings {
    /// No history, and each publication leaves with the next turn.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How much is kept of what was published.
    #[must_use]
    pub const fn history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// How long a publication may wait for others of its topic before they are delivered together:
    /// not at all by default, so that those of one turn leave together.
    ///
    /// Many frames in one send cost the processor little more than one; the price is this latency. It
    /// is as precise as other timers, rounded up to the next millisecond. A worker lets no more than
    /// 16,384 publications and 4 MiB wait. What is sent directly to a connection takes with it what
    /// waits for that connection.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.batching.linger = linger;
        self
    }

    /// Publications that leave together at the most: 1024 by default, and one at the least. So many do
    /// not linger.
    #[must_use]
    pub const fn batch_max(mut self, publications: usize) -> Self {
        self.batching.max = publications;
        self
    }
}

/// Bounds on what other threads may leave for one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingMax {
    pub(super) publications: usize,
    pub(super) bytes: usize,
}

pub(super) type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// The settings of a hub; made by [`Hub::builder`].
///
/// ```
/// use picows_uring::topics::Hub;
///
/// let hub = Hub::builder()
///     .on_first_subscriber(|subject| println!("{subject} has a subscriber"))
///     .on_last_subscriber(|subject| println!("{subject} has none any more"))
///     .build()?;
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
#[must_use]
pub struct HubBuilder {
    pub(super) settings: TopicSettings,
    pub(super) settings_of: Vec<(String, TopicSettings)>,
    pub(super) topics_max: usize,
    pub(super) patterns_max: usize,
    pub(super) subscriptions_max: usize,
    pub(super) waiting_max: WaitingMax,
    pub(super) history_bytes_max: Option<usize>,
    /// What the histories of all topics take.
    pub(super) memory: Arc<HistoryMemory>,
    pub(super) deflate: Option<u8>,
    pub(super) on_first: Option<Hook>,
    pub(super) on_last: Option<Hook>,
}

impl HubBuilder {
    pub(super) fn new() -> Self {
        Self {
            settings: TopicSettings { history: History::none(), batching: Batching::DEFAULT },
            settings_of: Vec::new(),
            topics_max: TOPICS_MAX,
            patterns_max: PATTERNS_MAX,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            waiting_max: WaitingMax { publications: WAITING_MAX, bytes: WAITING_BYTES_MAX },
            history_bytes_max: None,
            memory: Arc::default(),
            deflate: None,
            on_first: None,
            on_last: None,
        }
    }

    /// The settings of all topics for which there are no others.
    pub fn settings(mut self, settings: TopicSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The settings of topics that match `pattern`; of several that do, those given first.
    pub fn settings_of(mut self, pattern: &str, settings: TopicSettings) -> Self {
        self.settings_of.push((pattern.to_owned(), settings));
        self
    }

    /// Topics that may be in use at a time: 100,000 by default.
    pub const fn max_topics(mut self, max: usize) -> Self {
        self.topics_max = max;
        self
    }

    /// Distinct subjects with wildcards that may be subscribed to at a time: 10,000 by default. Each
    /// is compared with a topic when that first appears.
    pub const fn max_patterns(mut self, max: usize) -> Self {
        self.patterns_max = max;
        self
    }

    /// Subscriptions that a connection may have: 1,000 by default.
    pub const fn max_subscriptions(mut self, max: usize) -> Self {
        self.subscriptions_max = max;
        self
    }

    /// Publications, and bytes of them, that may wait for one worker: 65,536 and 64 MiB by default.
    /// More are not delivered to its subscribers: they have a gap, as by their policies.
    pub const fn max_waiting(mut self, publications: usize, bytes: usize) -> Self {
        self.waiting_max = WaitingMax { publications, bytes };
        self
    }

    /// Bytes that the histories of all topics may take together; by default a quarter of the memory limit
    /// of the process, or 1 GiB where there is none. Beyond, the oldest publications of each give way, in
    /// proportion to what it has.
    ///
    /// They count towards the memory limit of the server whose connection subscribes first, and give way
    /// before a connection does.
    pub const fn max_history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes_max = Some(bytes);
        self
    }

    /// Compresses each publication once, for connections that have agreed on permessage-deflate with
    /// a window of at least so many bits, 9 to 15.
    #[cfg(feature = "deflate")]
    pub const fn deflate(mut self, window_bits: u8) -> Self {
        self.deflate = Some(window_bits);
        self
    }

    /// Is called with a subject when it gets its first subscriber in this process, by the thread that
    /// subscribes; also with one that has wildcards. Calls of it and of
    /// [`on_last_subscriber`](Self::on_last_subscriber) come one after the other, in their order. A subject
    /// that gets its first subscriber and loses the last one while another call runs is not reported.
    pub fn on_first_subscriber(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_first = Some(Box::new(hook));
        self
    }

    /// Is called with a subject when its last subscriber in this process has gone.
    pub fn on_last_subscriber(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_last = Some(Box::new(hook));
        self
    }

    /// Makes the hub.
    ///
    /// # Errors
    ///
    /// When a pattern of [`settings_of`](Self::settings_of) is not valid.
    pub fn build(self) -> Result<Hub, TopicError> {
        for (pattern, _) in &self.settings_of {
            TopicName::check_pattern(pattern)?;
        }
        Ok(Hub::with(self))
    }

    pub(super) fn settings_for(&self, name: &str) -> TopicSettings {
        let own = self.settings_of.iter().find(|(pattern, _)| TopicName::matches(pattern, name));
        own.map_or(self.settings, |(_, settings)| *settings)
    }
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("settings", &self.settings)
            .field("settings_of", &self.settings_of)
            .field("topics_max", &self.topics_max)
            .field("waiting_max", &self.waiting_max)
            .finish_non_exhaustive()
    }
}

/// A name, a lock and what they take: some 60 MB.
const TOPICS_MAX: usize = 100_000;
/// Comparing a topic with all of them takes about a millisecond, if all begin alike.
const PATTERNS_MAX: usize = 10_000;
/// Ends with the connection: a moment of work.
const SUBSCRIPTIONS_MAX: usize = 1_000;
const WAITING_MAX: usize = 65_536;
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
