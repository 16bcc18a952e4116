//! The span of a connection: every line that is logged while the connection is handled is inside it.

use super::*;
use std::fmt::{Debug, Write};
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Spans by their number, those that this thread is in, and lines with the innermost of them.
#[derive(Default)]
struct Spans(Mutex<State>);

#[derive(Default)]
struct State {
    made: Vec<String>,
    inside: Vec<Id>,
    lines: Vec<String>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields(String::new());
        attributes.record(&mut fields);
        let mut state = self.0.lock().unwrap();
        state.made.push(fields.0);
        Id::from_u64(state.made.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        self.0.lock().unwrap().made[span.into_u64() as usize - 1].push_str(&fields.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let mut state = self.0.lock().unwrap();
        let span = state.inside.last().map_or(0, Id::into_u64) as usize;
        let span = span.checked_sub(1).map_or("none", |at| &state.made[at]);
        let line = format!("{span}| {}", fields.0);
        state.lines.push(line);
    }

    fn enter(&self, span: &Id) {
        self.0.lock().unwrap().inside.push(span.clone());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.0.lock().unwrap().inside.pop().as_ref(), Some(span));
    }
}

/// Lines that `act` logs, each with its span. Checks that no span is left open.
fn lines_of(act: impl FnOnce()) -> Vec<String> {
    let spans = Arc::new(Spans::default());
    let log = Dispatch::from(Arc::clone(&spans) as Arc<dyn Subscriber + Send + Sync>);
    // With one subscriber in the process, tracing asks the thread that logs first: another test.
    let _second = Dispatch::new(Spans::default());
    tracing::dispatcher::with_default(&log, act);
    let mut state = spans.0.lock().unwrap();
    assert_eq!(state.inside, []);
    std::mem::take(&mut state.lines)
}

/// The line with this text: its span, and its fields.
#[track_caller]
fn line<'a>(lines: &'a [String], text: &str) -> (&'a str, &'a str) {
    let found = lines.iter().find(|line| line.contains(text));
    let Some(found) = found else { panic!("no {text} in {lines:#?}") };
    found.split_once("| ").unwrap()
}

#[test]
fn lines_of_a_connection_have_its_id() {
    let lines = lines_of(|| {
        let mut fixture = Fixture::new(Manner::default(), |_| {});
        let id = transport().id().to_string();
        fixture.join(8);
        fixture.worker.ring.deliver_to(7, b"\x8F\x80\0\0\0\0");
        fixture.turn();
        fixture.worker.ring.end_of(Socket(8), ReceiveResult::EndOfStream);
        fixture.turn();
        tracing::info!(id, "the first one");
    });
    let (outside, first) = line(&lines, "the first one");
    assert_eq!(outside, "none");
    let id = first.split('"').nth(1).unwrap();
    let (span, fields) = line(&lines, "protocol error");
    assert!(span.contains(&format!("id={id} ")), "{span} {id}");
    assert!(!fields.contains("Some("), "{fields}");
    let spans: Vec<_> = lines
        .iter()
        .filter(|it| it.contains("message=connected"))
        .map(|it| it.split('|').next())
        .collect();
    assert!(spans.len() == 2 && spans[0] != spans[1], "{lines:#?}");
    assert!(
        lines.iter().all(|it| !it.starts_with("none") || it.contains("first one")),
        "{lines:#?}"
    );
}
