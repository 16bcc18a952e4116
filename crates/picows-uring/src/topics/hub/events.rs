//! First and last subscribers of subjects: hooks of the application, and the bus.
//!
//! Events are queued under the lock of the registry and handled without it, by one thread at a time,
//! so that all see them in their order.

use super::super::bus::BusMode;
use super::HubCore;
use crate::foreign;
use std::collections::VecDeque;
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
    events: VecDeque<Event>,
    is_running: bool,
}

impl Events {
    pub(super) fn push(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).events.push_back(event);
    }

    /// The next event for the thread that runs them: the first that asks.
    fn next(&self, is_running: bool) -> Option<Event> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.is_running && !is_running {
            return None;
        }
        let event = queue.events.pop_front();
        queue.is_running = event.is_some();
        event
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
