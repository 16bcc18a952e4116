//! Subscribing, and the handle of a subscription.

use super::desk::Desk;
use super::error::TopicError;
use super::hub::{Hub, HubCore};
use super::name::{TopicName, is_pattern};
use super::options::{Recovery, Start, SubscribeOptions};
use super::position::Position;
use super::post::Publication;
use super::remote::RemoteSubscription;
use super::sub::{Pending, Snapshot, Sub};
use crate::foreign;
use crate::transport::Transport;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A subscription of a connection. Dropping it unsubscribes; the end of the connection does, too.
///
/// Behind that, no filter, format or callback of it runs, and nothing more is queued. What is in the
/// queue of the connection still leaves.
///
/// ```
/// use picows_uring::topics::{Hub, SubscribeOptions, Subscription};
/// use picows_uring::{Frame, Listener, ListenerResult, Transport};
///
/// /// Has the topic that its peer named last.
/// struct Tuned(Hub, Option<Subscription>);
///
/// impl Listener for Tuned {
///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
///         let subject = std::str::from_utf8(frame.payload())?;
///         // The one before ends here.
///         self.1 = Some(self.0.subscribe(transport, subject, SubscribeOptions::new())?);
///         Ok(())
///     }
/// }
/// ```
#[must_use = "dropping it unsubscribes: `keep` lets it last as long as the connection"]
pub struct Subscription {
    desk: Rc<Desk>,
    sub: Rc<Sub>,
    is_kept: bool,
}

impl Subscription {
    /// What came of its start; `None` while a bus is asked for the past.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        self.sub.recovery.get()
    }

    /// The topic or subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.sub.subject
    }

    /// Publications that were dropped or lost for it, as far as their number is known.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sub.dropped.get()
    }

    /// Publications that later ones have replaced.
    #[must_use]
    pub fn conflated(&self) -> u64 {
        self.sub.conflated.get()
    }

    /// Publications that it holds back now, until the peer takes what was sent before.
    #[must_use]
    pub fn held(&self) -> usize {
        self.sub.held()
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.sub.is_active.get()
    }

    /// A handle with which other threads end it. It does not keep it.
    #[must_use]
    pub fn remote(&self) -> RemoteSubscription {
        let make = || RemoteSubscription::new(self.desk.inbox(), &self.sub);
        self.sub.remote.get_or_init(make).clone()
    }

    /// Ends it, as dropping it does.
    pub fn unsubscribe(self) {
        drop(self);
    }

    /// Has it last as long as the connection.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.is_kept {
            self.desk.remove(&self.sub);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("subject", &self.subject())
            .field("is_active", &self.is_active())
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

pub(super) fn subscribe(
    hub: &Hub,
    transport: &Transport,
    subject: &str,
    options: SubscribeOptions,
) -> Result<Subscription, TopicError> {
    TopicName::check_pattern(subject)?;
    if is_pattern(subject) && matches!(options.start, Start::From(_)) {
        return Err(TopicError::PositionOfPattern);
    }
    let (hub, session) = (hub.core(), transport.session());
    let desk = Desk::of(&session.local).filter(|_| !transport.is_disconnected());
    let desk = desk.ok_or(TopicError::Disconnected)?;
    let max = hub.settings.subscriptions_max;
    if desk.subscriptions(session.token) >= max {
        return Err(TopicError::TooManySubscriptions(max));
    }
    hub.join_budget(&session.local.config.memory);
    let subject: Arc<str> = Arc::from(subject);
    // Before it is known to publishers: what they push from then on is for it.
    let since = desk.inbox().next();
    let seat = match desk.seat(hub, &subject) {
        Some(seat) => seat,
        None => hub.join(&subject, desk.inbox())?,
    };
    let sub = Rc::new(Sub::new(desk.next_id(), subject, seat, session, options, since));
    desk.insert(hub, &sub);
    let subscription = Subscription { desk: Rc::clone(&desk), sub, is_kept: false };
    hub.run_events();
    let sub = &subscription.sub;
    // Where the bus has the past, also what is new begins behind it: the two are not marked.
    if sub.seat.is_ready.load(Ordering::Acquire) {
        begin(hub, &desk, sub);
    }
    Ok(subscription)
}

/// Begins a subscription whose past is here.
pub(super) fn begin(hub: &Arc<HubCore>, desk: &Desk, sub: &Rc<Sub>) {
    let Some(Pending { start, on_start }) = sub.pending.take() else { return };
    sub.is_beginning.set(true);
    let (recovery, recovered) = if is_pattern(&sub.subject) {
        begin_pattern(hub, desk, sub, start)
    } else {
        begin_topic(hub, desk, sub, start)
    };
    sub.recovery.set(Some(recovery));
    if let Some(on_start) = on_start {
        let (on_start, transport) =
            (on_start.into_inner(), Transport::new(Rc::clone(&sub.session)));
        foreign::run("on_start", &sub.subject, || on_start(&transport, &recovery));
    }
    for publication in recovered {
        if sub.passes(&publication)
            && let Ok(message) = sub.formatted(&publication)
            && sub.is_active.get()
        {
            sub.hand_recovered(&publication, message);
        }
    }
    sub.is_beginning.set(false);
}

fn begin_topic(
    hub: &Arc<HubCore>,
    desk: &Desk,
    sub: &Rc<Sub>,
    start: Start,
) -> (Recovery, Vec<Publication>) {
    let Some(topic) = hub.matched_by(&sub.subject).pop() else {
        debug_assert!(false, "a topic with subscribers is there");
        return (Recovery::Lost { position: Position::default() }, Vec::new());
    };
    let now = hub.now();
    let mut state = topic.lock();
    // Under the lock: what the history has was pushed before, and what is pushed from now on it has
    // not.
    sub.since.set(desk.inbox().begin(Some(topic.id)));
    state.start(start, now)
}

fn begin_pattern(
    hub: &Arc<HubCore>,
    desk: &Desk,
    sub: &Rc<Sub>,
    start: Start,
) -> (Recovery, Vec<Publication>) {
    let position = Position::default();
    if start == Start::New {
        sub.since.set(desk.inbox().begin(None));
        return (Recovery::New { position }, Vec::new());
    }
    let (now, mut since, mut all) = (hub.now(), HashMap::new(), Vec::new());
    for topic in hub.matched_by(&sub.subject) {
        let mut state = topic.lock();
        let (_, mut recovered) = state.start(start, now);
        // As above, for each topic by itself.
        since.insert(topic.id, desk.inbox().begin(Some(topic.id)));
        all.append(&mut recovered);
    }
    let until = desk.inbox().next();
    desk.end_lingering_before(until);
    sub.session.local.note_publications();
    sub.set_snapshot(Snapshot { until, since });
    (Recovery::Recovered { count: all.len(), position }, all)
}
