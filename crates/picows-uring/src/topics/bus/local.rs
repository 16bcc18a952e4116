//! A bus within a process: between the hubs of several servers, and for tests.

use super::{Bus, BusError, BusMessage, BusMode, History, Inlet};
use crate::topics::TopicName;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connects hubs of one process.
///
/// ```
/// use picows_uring::topics::{Hub, LocalBus};
///
/// let bus = LocalBus::new();
/// let (public, admin) = (Hub::new(), Hub::new());
/// public.attach(bus.connect())?;
/// admin.attach(bus.connect())?;
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct LocalBus(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    nodes: Mutex<Vec<Node>>,
    /// Messages that are to be delivered, and whether a thread does so.
    queue: Mutex<(VecDeque<(usize, BusMessage)>, bool)>,
}

#[derive(Debug, Default)]
struct Node {
    inlet: Option<Inlet>,
    subjects: BTreeSet<String>,
}

impl LocalBus {
    /// A bus without hubs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The end of the bus for one hub.
    #[must_use]
    pub fn connect(&self) -> Arc<dyn Bus> {
        let mut nodes = lock(&self.0.nodes);
        nodes.push(Node::default());
        Arc::new(LocalEnd { shared: Arc::clone(&self.0), index: nodes.len() - 1 })
    }
}

#[derive(Debug)]
struct LocalEnd {
    shared: Arc<Shared>,
    index: usize,
}

impl LocalEnd {
    fn with_node(&self, change: impl FnOnce(&mut Node)) {
        if let Some(node) = lock(&self.shared.nodes).get_mut(self.index) {
            change(node);
        }
    }
}

impl Bus for LocalEnd {
    fn mode(&self) -> BusMode {
        BusMode::Relay
    }

    fn attach(&self, inlet: Inlet) -> Result<(), BusError> {
        self.with_node(|node| node.inlet = Some(inlet));
        Ok(())
    }

    fn subscribe(&self, subject: &str, _: History) {
        self.with_node(|node| {
            node.subjects.insert(subject.to_owned());
        });
    }

    fn unsubscribe(&self, subject: &str) {
        self.with_node(|node| {
            node.subjects.remove(subject);
        });
    }

    fn publish(&self, message: BusMessage) -> Result<(), BusError> {
        let mut queue = lock(&self.shared.queue);
        if queue.0.len() >= QUEUED_MAX {
            return Err(BusError::new("too much waits for the hubs of the bus"));
        }
        queue.0.push_back((self.index, message));
        if std::mem::replace(&mut queue.1, true) {
            return Ok(());
        }
        drop(queue);
        self.shared.deliver();
        Ok(())
    }

    fn subscribers(&self, topic: &str) -> usize {
        let nodes = lock(&self.shared.nodes);
        let others = nodes.iter().enumerate().filter(|(index, _)| *index != self.index);
        let inlets: Vec<_> = others.filter_map(|(_, node)| node.inlet.clone()).collect();
        drop(nodes);
        inlets.iter().map(|inlet| inlet.subscribers(topic)).sum()
    }
}

impl Shared {
    /// Delivers what is queued, also by other threads meanwhile: one at a time, so that all hubs get
    /// all messages in one order.
    fn deliver(&self) {
        loop {
            let mut queue = lock(&self.queue);
            let Some((from, message)) = queue.0.pop_front() else {
                queue.1 = false;
                return;
            };
            drop(queue);
            for (via, inlet) in self.receivers(from, &message.topic) {
                inlet.deliver(&via, message.clone());
            }
        }
    }

    /// The hubs that have subscribed to a topic, once for each of their subjects.
    fn receivers(&self, from: usize, topic: &str) -> Vec<(String, Inlet)> {
        let nodes = lock(&self.nodes);
        let others = nodes.iter().enumerate().filter(|(index, _)| *index != from);
        let subjects = others.flat_map(|(_, node)| {
            let inlet = node.inlet.iter();
            inlet.flat_map(|inlet| node.subjects.iter().map(move |it| (it.clone(), inlet.clone())))
        });
        subjects.filter(|(subject, _)| TopicName::matches(subject, topic)).collect()
    }
}

/// Nothing runs under these locks that may panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Messages that may wait while a thread delivers those before them.
const QUEUED_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MsgType;
    use crate::topics::Hub;

    #[test]
    fn what_waits_for_hubs_is_bounded_and_leaves_in_order() {
        let (bus, hub) = (LocalBus::new(), Hub::new());
        let from = bus.connect();
        hub.attach(bus.connect()).unwrap();
        lock(&bus.0.nodes)[1].subjects.insert("t".to_owned());
        let topic = hub.topic("t").unwrap();
        let message = || BusMessage::new("t", MsgType::Text, "x");
        let core = hub.core().topic("t").unwrap();
        // The thread that delivers stands still, as one does that the system does not run.
        let standing = core.lock();
        std::thread::scope(|scope| {
            let first = Arc::clone(&from);
            let delivering = scope.spawn(move || first.publish(message()));
            let is_delivering = || {
                let queue = lock(&bus.0.queue);
                queue.1 && queue.0.is_empty()
            };
            while !is_delivering() {
                std::thread::yield_now();
            }
            for _ in 0..QUEUED_MAX {
                assert_eq!(from.publish(message()), Ok(()));
            }
            let refused = from.publish(message()).unwrap_err().to_string();
            assert!(refused.contains("too much waits for the hubs of the bus"), "{refused}");
            drop(standing);
            assert_eq!(delivering.join().unwrap(), Ok(()));
        });
        assert_eq!(topic.position().offset, 1 + QUEUED_MAX as u64);
        assert_eq!(from.publish(message()), Ok(()), "there is room again");
    }
}
