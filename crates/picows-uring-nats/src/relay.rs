//! Core NATS: a subscription for each subject, whose messages go to the hub as they come.
//!
//! Keeps nothing: what it missed is a gap.

use crate::connection::chain;
use crate::message::{Subjects, decode};
use crate::shared::Shared;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt;
use picows_uring::topics::Inlet;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// The subscriptions of a bus.
pub(crate) struct Relay {
    client: Client,
    pub(crate) subjects: Subjects,
    inlet: Inlet,
    shared: Arc<Shared>,
    readers: RefCell<HashMap<String, Reader>>,
}

/// The task that reads one subscription; it ends with this.
struct Reader {
    /// The number that async-nats names in its events, if it is known.
    id: Option<u64>,
    task: AbortHandle,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    pub(crate) fn new(
        (client, subjects, inlet, shared): (Client, Subjects, Inlet, Arc<Shared>),
    ) -> Self {
        Self { client, subjects, inlet, shared, readers: RefCell::default() }
    }

    pub(crate) async fn subscribe(&self, subject: String) {
        let subscriber = match self.client.subscribe(self.subjects.subject(&subject)).await {
            Ok(subscriber) => subscriber,
            Err(error) => {
                tracing::warn!(subject, "not subscribed at NATS: {}", chain(&error));
                self.gap(&subject);
                return;
            }
        };
        let id = id_of(&subscriber);
        let (inlet, shared) = (self.inlet.clone(), Arc::clone(&self.shared));
        let reading = read(subscriber, subject.clone(), self.subjects.clone(), inlet, shared);
        let task = tokio::spawn(reading).abort_handle();
        self.readers.borrow_mut().insert(subject, Reader { id, task });
    }

    pub(crate) fn unsubscribe(&self, subject: &str) {
        self.readers.borrow_mut().remove(subject);
    }

    /// A subscription had no room: its messages were dropped.
    pub(crate) fn gap_of(&self, id: u64) {
        let readers = self.readers.borrow();
        // What is not known by its number is looked for among all whose number is unknown.
        let is_hit = |reader: &Reader| reader.id.is_none_or(|it| it == id);
        let hit = readers.iter().filter(|(_, reader)| is_hit(reader));
        let hit: Vec<_> = hit.map(|(subject, _)| subject.clone()).collect();
        drop(readers);
        hit.iter().for_each(|subject| self.gap(subject));
    }

    /// The connection was lost, and is there again.
    pub(crate) fn gap_of_all(&self) {
        let subjects: Vec<_> = self.readers.borrow().keys().cloned().collect();
        subjects.iter().for_each(|subject| self.gap(subject));
    }

    fn gap(&self, subject: &str) {
        self.shared.count_gap();
        self.inlet.gap(subject);
    }
}

/// Hands messages to the hub until the subscription ends.
async fn read(
    mut subscriber: Subscriber,
    via: String,
    subjects: Subjects,
    inlet: Inlet,
    shared: Arc<Shared>,
) {
    while let Some(message) = subscriber.next().await {
        match decode(&subjects, message) {
            Some(message) => {
                shared.count_received();
                if !inlet.deliver(&via, message) {
                    // The hub has gone.
                    return;
                }
            }
            None => shared.count_malformed(),
        }
    }
}

/// The number of a subscription, which async-nats shows in its `Debug` only.
fn id_of(subscriber: &Subscriber) -> Option<u64> {
    let text = format!("{subscriber:?}");
    let (_, rest) = text.split_once("sid: ")?;
    rest.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}
