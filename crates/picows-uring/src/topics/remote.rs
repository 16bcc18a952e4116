//! Subscriptions, as other threads end them.

use super::inbox::{Entry, Inbox};
use super::sub::Sub;
use crate::ring::Token;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A handle with which any thread ends a subscription: [`Subscription::remote`](super::Subscription::remote).
/// Dropping it ends nothing.
///
/// ```
/// use picows_uring::Transport;
/// use picows_uring::topics::{Hub, RemoteSubscription, SubscribeOptions, TopicError};
///
/// /// Subscribes until another thread ends it.
/// fn subscribe(hub: &Hub, transport: &Transport) -> Result<RemoteSubscription, TopicError> {
///     let subscription = hub.subscribe(transport, "news", SubscribeOptions::new())?;
///     let remote = subscription.remote();
///     subscription.keep();
///     Ok(remote)
/// }
/// ```
#[derive(Clone)]
pub struct RemoteSubscription(Arc<Shared>);

struct Shared {
    inbox: Arc<Inbox>,
    token: Token,
    id: u64,
    subject: Arc<str>,
    /// The worker was asked to end it.
    is_asked: AtomicBool,
    has_ended: AtomicBool,
}

impl RemoteSubscription {
    pub(super) fn new(inbox: &Arc<Inbox>, sub: &Sub) -> Self {
        Self(Arc::new(Shared {
            inbox: Arc::clone(inbox),
            token: sub.session.token,
            id: sub.id,
            subject: Arc::clone(&sub.subject),
            is_asked: AtomicBool::new(false),
            has_ended: AtomicBool::new(!sub.is_active.get()),
        }))
    }

    /// Ends the subscription in the next turn of its worker; nothing happens if it has ended. What is
    /// published after this has returned is not delivered to it, nor is what waits or lingers then. Until
    /// that turn its filter and callbacks may run.
    pub fn unsubscribe(&self) {
        let shared = &*self.0;
        if shared.is_asked.swap(true, Ordering::AcqRel) || !self.is_active() {
            return;
        }
        shared.inbox.push_notice(Entry::Unsubscribe(shared.token, shared.id));
        shared.inbox.announce();
    }

    /// Whether it has not ended. The next turn of its worker may end it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.0.has_ended.load(Ordering::Acquire)
    }

    /// The topic or subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.0.has_ended.store(true, Ordering::Release);
    }
}

impl fmt::Debug for RemoteSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSubscription")
            .field("subject", &self.subject())
            .field("is_active", &self.is_active())
            .finish_non_exhaustive()
    }
}
