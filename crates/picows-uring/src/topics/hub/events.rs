//! First and last subscribers of subjects: hooks of the application, and the bus.
//!
//! Events are queued under the lock of the registry and handled without it, by one thread at a time,
//! so that all see them in their order. While one is handled, a subject that comes and goes leaves none:
//! two of each subject wait at the most.

use super::super::bus::BusMode;
use super::HubCore;
use crate::foreign;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Something that others are to know of a subject. The flag says that there is a bus.
#[derive(Debug)]
pub(super) enum Event {
    First(Arc<str>, bool),
    Last(Arc<str>, bool),
    /// A bus was attached, and there are subscribers already.
    Attached(Arc<str>),
}

#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// By their numbers, which only grow.
    events: BTreeMap<u64, Event>,
    next: u64,
    /// The number of the event with which a subject begins, while that waits.
    beginnings: HashMap<Arc<str>, u64>,
    is_running: bool,
}

impl Events {
    pub(super) fn push(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// The next event for the thread that runs them: the first that asks.
    fn next(&self, is_running: bool) -> Option<Event> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_running && !is_running {
            return None;
        }
        let event = queue.pop();
        queue.is_running = event.is_some();
        event
    }
}

impl Queue {
    fn push(&mut self, event: Event) {
        let event = match event {
            Event::First(subject, has_bus) => Event::First(subject, has_bus),
            // The bus is there for the one that waits.
            Event::Attached(subject) => match self.take_beginning(&subject) {
                Some(Event::First(..)) => Event::First(subject, true),
                _ => Event::Attached(subject),
            },
            Event::Last(subject, has_bus) => match self.take_beginning(&subject) {
                // It came and went.
                Some(Event::First(..)) => return,
                Some(_) => Event::Last(subject, false),
                None => Event::Last(subject, has_bus),
            },
        };
        if let Event::First(subject, _) | Event::Attached(subject) = &event {
            self.beginnings.insert(Arc::clone(subject), self.next);
        }
        self.events.insert(self.next, event);
        self.next += 1;
    }

    fn take_beginning(&mut self, subject: &str) -> Option<Event> {
        let number = self.beginnings.remove(subject)?;
        self.events.remove(&number)
    }

    fn pop(&mut self) -> Option<Event> {
        let (_, event) = self.events.pop_first()?;
        if let Event::First(subject, _) | Event::Attached(subject) = &event {
            self.beginnings.remove(subject);
        }
        Some(event)
    }
}

impl HubCore {
    /// Handles the events that are queued, unless another thread, or a caller of this one, does.
    pub(in crate::topics) fn run_events(&self) {
        let mut next = self.events.next(false);
        while let Some(event) = next {
            self.run(&event);
            next = self.events.next(true);
        }
    }

    /// The bus is about to leave a subject: ends what topics know of other nodes, unless they come by another
    /// subject.
    fn end_relay(&self, subject: &str) {
        for core in self.matched_by(subject) {
            if !self.read().is_covered_beside(subject, &core.name) {
                core.lock().end_relay();
            }
        }
    }

    fn run(&self, event: &Event) {
        let (hook, subject, subscribes) = match event {
            Event::First(subject, has_bus) => {
                (self.settings.on_first.as_ref(), subject, has_bus.then_some(true))
            }
            Event::Last(subject, has_bus) => {
                (self.settings.on_last.as_ref(), subject, has_bus.then_some(false))
            }
            Event::Attached(subject) => (None, subject, Some(true)),
        };
        if let (Some(subscribes), Some((bus, mode))) = (subscribes, self.bus.get()) {
            if !subscribes && *mode == BusMode::Relay {
                self.end_relay(subject);
            }
            foreign::run("bus", subject, || match subscribes {
                true => bus.subscribe(subject, self.settings.settings_for(subject).history),
                false => bus.unsubscribe(subject),
            });
        }
        if let Some(hook) = hook {
            foreign::run("hook", subject, || hook(subject));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|event| format!("{event:?}")).collect()
    }

    #[test]
    fn a_subject_that_comes_and_goes_leaves_no_event() {
        let (mut queue, [a, b]) = (Queue::default(), ["a", "b"].map(Arc::<str>::from));
        let (first, last) = (
            |subject: &Arc<str>| Event::First(Arc::clone(subject), true),
            |subject: &Arc<str>| Event::Last(Arc::clone(subject), true),
        );
        for _ in 0..1000 {
            // It was there before.
            queue.push(last(&a));
            queue.push(first(&b));
            queue.push(first(&a));
            assert!(queue.events.len() <= 3 && queue.beginnings.len() <= 2);
            queue.push(last(&b));
            assert_eq!(queue.pop().map(|it| format!("{it:?}")), Some(format!("{:?}", last(&a))));
            queue.push(last(&a));
            assert!(queue.events.is_empty() && queue.beginnings.is_empty());
        }
        [last(&a), first(&a), last(&a), first(&a)].into_iter().for_each(|event| queue.push(event));
        assert_eq!(shown(&mut queue), [last(&a), first(&a)].map(|it| format!("{it:?}")));
        assert!(queue.beginnings.is_empty());
    }

    #[test]
    fn a_bus_that_is_attached_meanwhile_is_asked_once() {
        let (mut queue, subject) = (Queue::default(), Arc::<str>::from("a"));
        let own = || Arc::clone(&subject);
        queue.push(Event::First(own(), false));
        queue.push(Event::Attached(own()));
        assert_eq!(shown(&mut queue), [r#"First("a", true)"#]);
        // Not asked for it, it is not asked to end it.
        queue.push(Event::Attached(own()));
        queue.push(Event::Last(own(), true));
        assert_eq!(shown(&mut queue), [r#"Last("a", false)"#]);
        queue.push(Event::First(own(), false));
        queue.push(Event::Attached(own()));
        queue.push(Event::Last(own(), true));
        assert!(shown(&mut queue).is_empty());
    }
}
