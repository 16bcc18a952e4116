//! JetStream: a stream that gives publications their order and keeps them.
//!
//! Each subject has a task that follows the stream by a consumer of its own, and makes it again from the
//! last sequence number after every fault. What the stream no longer has by then is a gap.

use crate::connection::chain;
use crate::message::{Subjects, decode};
use crate::shared::Shared;
use async_nats::Client;
use async_nats::datetime::from_nanos;
use async_nats::header::HeaderMap;
use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::stream::{Config, Info, StorageType};
use async_nats::jetstream::{Context, stream};
use futures_util::StreamExt;
use picows_uring::topics::{BusMessage, History, Inlet, Position};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// The stream that keeps the history of topics.
///
/// One that is there is used as it is; else it is made, with these limits.
///
/// ```
/// use picows_uring_nats::JetStream;
/// use std::time::Duration;
///
/// // In a cluster of three, of which one may be lost.
/// let made = JetStream::new("orders").per_topic(1000).bytes(1 << 30).replicas(3);
/// // Or one that an operator has made.
/// let given = JetStream::new("orders").existing();
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings of a bus"]
pub struct JetStream {
    name: String,
    per_topic: Option<u32>,
    bytes: Option<u64>,
    age: Option<Duration>,
    replicas: usize,
    is_in_memory: bool,
    is_made: bool,
}

impl JetStream {
    /// The stream of this name, without limits of its own if it has to be made.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            per_topic: None,
            bytes: None,
            age: None,
            replicas: 1,
            is_in_memory: false,
            is_made: true,
        }
    }

    /// Most publications that it keeps of each topic.
    pub fn per_topic(mut self, count: u32) -> Self {
        self.per_topic = Some(count);
        self
    }

    /// Most bytes that it keeps.
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// How long it keeps a publication.
    pub fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Servers of a cluster that have a copy of it, up to 5: of three, one may be lost. Default: 1.
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Keeps it in the server's memory instead of files.
    pub fn in_memory(mut self) -> Self {
        self.is_in_memory = true;
        self
    }

    /// Never makes the stream: it is an error if it is not there.
    pub fn existing(mut self) -> Self {
        self.is_made = false;
        self
    }

    fn config(&self, subjects: &Subjects) -> Config {
        let limit = |value: Option<u64>| value.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1);
        Config {
            name: self.name.clone(),
            subjects: vec![subjects.all()],
            max_messages_per_subject: limit(self.per_topic.map(u64::from)),
            max_bytes: limit(self.bytes),
            max_messages: -1,
            max_age: self.age.unwrap_or_default(),
            num_replicas: self.replicas,
            storage: if self.is_in_memory { StorageType::Memory } else { StorageType::File },
            ..Config::default()
        }
    }
}

/// The followers of a bus, and the stream.
pub(crate) struct Log {
    core: Arc<Core>,
    followers: RefCell<HashMap<String, Follower>>,
    /// Raised when followers have to begin again.
    generation: watch::Sender<u64>,
}

/// The task that follows one subject; it ends with this.
struct Follower(AbortHandle);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What all followers share.
struct Core {
    spec: JetStream,
    context: Context,
    client: Client,
    subjects: Subjects,
    inlet: Inlet,
    shared: Arc<Shared>,
    /// The stream as the last two checks found it, the newer one first.
    seen: Mutex<[Option<Seen>; 2]>,
}

/// A stream at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    epoch: u64,
    last: u64,
}

impl Log {
    pub(crate) fn new(
        spec: JetStream,
        (client, subjects, inlet, shared): (Client, Subjects, Inlet, Arc<Shared>),
    ) -> Self {
        let context = ContextBuilder::new().backpressure_on_inflight(true).build(client.clone());
        let seen = Mutex::new([None; 2]);
        let core = Core { spec, context, client, subjects, inlet, shared, seen };
        let generation = watch::Sender::new(0);
        Self { core: Arc::new(core), followers: RefCell::default(), generation }
    }

    pub(crate) fn subscribe(&self, subject: String, history: History) {
        let follower = follow(
            Arc::clone(&self.core),
            Course::new(subject.clone(), history),
            self.generation.subscribe(),
        );
        let task = tokio::spawn(follower).abort_handle();
        self.followers.borrow_mut().insert(subject, Follower(task));
    }

    pub(crate) fn unsubscribe(&self, subject: &str) {
        self.followers.borrow_mut().remove(subject);
    }

    /// Messages of a subject may be lost.
    pub(crate) fn gap(&self, subject: &str) {
        self.core.gap(subject);
    }

    /// Hands a publication to the stream. Its subscribers, here too, get it from there.
    pub(crate) async fn publish(&self, message: BusMessage, headers: HeaderMap) {
        let core = Arc::clone(&self.core);
        let topic = message.topic;
        let subject = core.subjects.subject(&topic);
        let sent = core.context.publish_with_headers(subject, headers, message.payload).await;
        match sent {
            Ok(acknowledged) => {
                core.shared.count_sent();
                tokio::spawn(async move {
                    if let Err(error) = acknowledged.await {
                        core.lost(&topic, &chain(&error));
                    }
                });
            }
            Err(error) => core.lost(&topic, &chain(&error)),
        }
    }

    /// Looks at the stream, and lets the followers begin again if the connection or the stream is new.
    pub(crate) async fn check(&self, is_reconnected: bool) {
        let is_other = match timeout(CHECK_TIMEOUT, self.core.stream()).await {
            Ok(Ok(stream)) => {
                let info = stream.cached_info();
                let now = Seen { epoch: epoch(info), last: info.state.last_sequence };
                let mut seen = self.core.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let is_other = seen[0].is_some_and(|before| before.epoch != now.epoch);
                *seen = [Some(now), seen[0]];
                drop(seen);
                self.core.shared.connected();
                is_other
            }
            Ok(Err(error)) => {
                self.core.shared.no_stream(error);
                false
            }
            // The connection is watched by others.
            Err(_) => false,
        };
        if is_reconnected || is_other {
            self.generation.send_modify(|generation| *generation += 1);
        }
    }
}

impl Core {
    /// Returns the stream, and makes it if it is not there.
    async fn stream(&self) -> Result<stream::Stream, String> {
        let name = &self.spec.name;
        let error = match self.context.get_stream(name).await {
            Ok(stream) => return Ok(stream),
            Err(error) if !self.spec.is_made => chain(&error),
            Err(_) => match self.context.create_stream(self.spec.config(&self.subjects)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => chain(&error),
            },
        };
        // Another node may have made it meanwhile.
        if let Ok(stream) = self.context.get_stream(name).await {
            return Ok(stream);
        }
        Err(format!(
            "there is no stream {name:?} ({error}): start nats-server with -js, and allow it, or make \
             it with the subjects {:?}",
            self.subjects.all()
        ))
    }

    /// A publication did not get into the stream: the subscribers of its topic learn of it.
    fn lost(&self, topic: &str, error: &str) {
        self.shared.count_unsent();
        tracing::warn!(topic, "not taken by JetStream: {error}");
        self.gap(topic);
    }

    fn gap(&self, subject: &str) {
        self.shared.count_gap();
        self.inlet.gap(subject);
    }

    /// The sequence number up to which a follower that was not behind has seen everything: that of the
    /// check before the last.
    fn seen_before(&self, epoch: u64) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen[1].filter(|seen| seen.epoch == epoch).map_or(0, |seen| seen.last)
    }
}

/// How far a subject was followed.
struct Course {
    subject: String,
    history: History,
    /// The stream's identity, and the last sequence number.
    known: Option<(u64, u64)>,
    /// The last message had none behind it.
    is_caught_up: bool,
    /// The hub knows that the past is complete.
    is_ready: bool,
}

impl Course {
    fn new(subject: String, history: History) -> Self {
        Self { subject, history, known: None, is_caught_up: false, is_ready: false }
    }
}

/// Follows one subject, until the task is aborted.
async fn follow(core: Arc<Core>, mut course: Course, mut generation: watch::Receiver<u64>) {
    loop {
        generation.borrow_and_update();
        tokio::select! {
            outcome = consume(&core, &mut course) => {
                match outcome {
                    // The hub has gone.
                    Ok(()) => return,
                    Err(error) => tracing::debug!(subject = course.subject, "begins again: {error}"),
                }
                sleep(RETRY_DELAY).await;
            }
            _ = generation.changed() => {}
        }
    }
}

/// Hands messages to the hub, from where the course is, until something fails. Returns `Ok` when the hub has
/// gone.
async fn consume(core: &Core, course: &mut Course) -> Result<(), async_nats::Error> {
    let stream = core.stream().await?;
    let info = stream.cached_info().clone();
    let epoch = epoch(&info);
    let start = start(core, course, &info);
    if course.known.is_none_or(|(known, _)| known != epoch) {
        let before = if let Start::Behind(sequence) = start.from { sequence } else { 0 };
        course.known = Some((epoch, before));
    }
    let deliver_policy = match start.from {
        Start::Behind(sequence) => DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
        Start::All => DeliverPolicy::All,
        Start::Since(age) => since(age),
    };
    let config = OrderedConfig {
        deliver_subject: core.client.new_inbox(),
        filter_subject: core.subjects.subject(&course.subject),
        replay_policy: ReplayPolicy::Instant,
        deliver_policy,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let pending = consumer.cached_info().num_pending;
    let limit = u64::try_from(info.config.max_messages_per_subject).unwrap_or(0);
    // As many as the stream keeps of a topic: some may have gone before them.
    if start.is_gap || start.is_resumed && limit > 0 && pending >= limit {
        core.gap(&course.subject);
    }
    let mut messages = consumer.messages().await?;
    if pending == 0 {
        ready(core, course);
    }
    let mut count = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        let (sequence, pending, number) = {
            let info = message.info()?;
            (info.stream_sequence, info.pending, info.consumer_sequence)
        };
        count += 1;
        if number != count {
            // async-nats made it again, as behind a lost connection: only a new beginning finds a gap.
            return Err("the consumer was made again".into());
        }
        course.is_caught_up = pending == 0;
        if course.known.is_some_and(|(_, known)| sequence > known) {
            course.known = Some((epoch, sequence));
            match decode(&core.subjects, message.message) {
                Some(mut message) => {
                    core.shared.count_received();
                    message.position = Some(Position { epoch, offset: sequence });
                    if !core.inlet.deliver(&course.subject, message) {
                        return Ok(());
                    }
                }
                None => core.shared.count_malformed(),
            }
        }
        if pending == 0 {
            ready(core, course);
        }
    }
    Err("the consumer ended".into())
}

/// Notifies the hub once that it has the past.
fn ready(core: &Core, course: &mut Course) {
    if !std::mem::replace(&mut course.is_ready, true) {
        core.inlet.ready(&course.subject);
    }
}

/// Where a consumer begins.
#[derive(Debug, PartialEq, Eq)]
struct Beginning {
    from: Start,
    /// It goes on where an earlier one ended.
    is_resumed: bool,
    /// The stream does not have all that came since then.
    is_gap: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Behind this sequence number.
    Behind(u64),
    All,
    /// With what is not older.
    Since(Duration),
}

/// Decides where to begin, by what the stream has now.
fn start(core: &Core, course: &Course, info: &Info) -> Beginning {
    let epoch = epoch(info);
    let state = &info.state;
    let seen = if course.is_caught_up { core.seen_before(epoch) } else { 0 };
    begin(course.known, course.history, (epoch, state.first_sequence, state.last_sequence), seen)
}

/// [`start`], of numbers alone: `stream` is its epoch, and its first and last sequence number; all up to
/// `seen` was received.
fn begin(
    known: Option<(u64, u64)>,
    history: History,
    stream: (u64, u64, u64),
    seen: u64,
) -> Beginning {
    let (epoch, first, last) = stream;
    match known {
        None if history.count == 0 => {
            Beginning { from: Start::Behind(last), is_resumed: false, is_gap: false }
        }
        None => {
            let from = history.age.map_or(Start::All, Start::Since);
            Beginning { from, is_resumed: false, is_gap: false }
        }
        Some((before, sequence)) if before == epoch && sequence <= last => Beginning {
            from: Start::Behind(sequence),
            is_resumed: true,
            is_gap: first > sequence.max(seen) + 1,
        },
        // Another stream, or one that has forgotten its end: all of it is new.
        Some(_) => Beginning { from: Start::All, is_resumed: true, is_gap: true },
    }
}

/// The policy that begins with what is not older.
fn since(age: Duration) -> DeliverPolicy {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = now.saturating_sub(age).as_nanos();
    let start = i128::try_from(nanos).ok().and_then(|nanos| from_nanos(nanos).ok());
    // What the hub does not want it drops.
    start.map_or(DeliverPolicy::All, |start_time| DeliverPolicy::ByStartTime { start_time })
}

/// The identity of a stream: its name and the time at which it was made. The same on all nodes.
fn epoch(info: &Info) -> u64 {
    let text = format!("{} {}", info.config.name, info.created);
    // FNV-1a.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}

const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_DELAY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_begins_where_the_last_one_ended_or_says_that_it_cannot() {
        let none = History::none();
        let kept = History::last(10);
        let old = History::last(10).age(Duration::from_secs(5));
        let stream = (7, 100, 200);
        for (known, history, seen, from, is_resumed, is_gap) in [
            (None, none, 0, Start::Behind(200), false, false),
            (None, kept, 0, Start::All, false, false),
            (None, old, 0, Start::Since(Duration::from_secs(5)), false, false),
            (Some((7, 150)), kept, 0, Start::Behind(150), true, false),
            (Some((7, 99)), kept, 0, Start::Behind(99), true, false),
            (Some((7, 98)), kept, 0, Start::Behind(98), true, true),
            // Quiet since 50, but all up to 120 was seen not to be for this subject.
            (Some((7, 50)), kept, 120, Start::Behind(50), true, false),
            (Some((6, 150)), kept, 0, Start::All, true, true),
            (Some((7, 201)), none, 0, Start::All, true, true),
        ] {
            let beginning = begin(known, history, stream, seen);
            assert_eq!(beginning, Beginning { from, is_resumed, is_gap }, "{known:?} {history:?}");
        }
    }
}
