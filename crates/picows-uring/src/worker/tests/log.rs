//! The log as tests see it: the warnings of this thread.

use std::fmt::{Debug, Write};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Collects warnings, a line each.
struct Log(Arc<std::sync::Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What `act` warns of.
pub(super) fn warnings(act: impl FnOnce()) -> Vec<String> {
    let lines = Arc::default();
    let log = Dispatch::new(Log(Arc::clone(&lines)));
    // With one subscriber in the process, tracing asks the thread that logs first whether anybody
    // wants such lines: another test, which has none. With two it asks both.
    let _second = Dispatch::new(Log(Arc::default()));
    tracing::dispatcher::with_default(&log, act);
    std::mem::take(&mut *lines.lock().unwrap())
}
