//! The guard around code of the application: callbacks, and what formatting, dropping, waking and
//! logging run.
//!
//! Such code may panic, re-enter, or fail where it must not. A panic ends here, and no state of ours
//! may be borrowed meanwhile: debug builds check that. What a panic costs is decided by the caller.

mod cell;
pub(crate) mod log;
mod value;

pub(crate) use cell::{StateCell, StateMut, StateRef};
pub(crate) use value::Foreign;

use picows_uring_proto::Escaped;
use std::any::Any;
use std::cell::Cell;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Instant;

/// A panic that was caught, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may quote a peer, and a log is read by lines.
        write!(f, "panic: {}", Escaped::new(&self.0))
    }
}

impl std::error::Error for Panicked {}

impl Panicked {
    /// Takes the text out of what [`catch_unwind`] returned.
    #[cold]
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = if let Some(text) = payload.downcast_ref::<&str>() {
            shortened(text)
        } else if let Some(text) = payload.downcast_ref::<String>() {
            shortened(text)
        } else {
            "of a type that is no text".to_owned()
        };
        // The payload may panic once more when it is dropped, and so may that panic's payload.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Self(text)
    }
}

/// Calls code of the application.
///
/// # Errors
///
/// When it panicked.
#[inline]
pub(crate) fn call<T>(call: impl FnOnce() -> T) -> Result<T, Panicked> {
    cell::assert_nothing_borrowed();
    catch_unwind(AssertUnwindSafe(call)).map_err(Panicked::new)
}

/// Drops a value of the application. A panic is logged and counted.
///
/// Several values are dropped one by one, each with a call of its own: a second panic while the
/// first unwinds through the same container would abort the process.
#[inline]
pub(crate) fn discard<T>(value: T) {
    if let Err(panicked) = call(|| drop(value)) {
        strayed("drop", std::any::type_name::<T>(), &panicked);
    }
}

/// Drops values of the application one by one.
pub(crate) fn discard_each<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(discard);
}

/// Wakes tasks of the application, all of them.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Foreign<Waker>>) {
    for waker in wakers {
        let waker = waker.into_inner();
        if let Err(panicked) = call(|| waker.wake()) {
            strayed("wake", "a waker", &panicked);
        }
    }
}

/// The text of a value of the application: at most [`TEXT_BYTES_MAX`] bytes, and a remark in place
/// of what its `Display` did not write.
pub(crate) fn text(value: &(impl fmt::Display + ?Sized)) -> String {
    let mut bounded = Bounded { text: String::new(), is_full: false };
    let outcome = call(|| write!(bounded, "{value}"));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(fmt::Error)) if bounded.is_full => {}
        Ok(Err(fmt::Error)) => bounded.text.push_str("(its Display returned an error)"),
        Err(panicked) => bounded.text.push_str(&format!("(its Display failed: {panicked})")),
    }
    bounded.text
}

/// Runs code of the application that has no caller to report to. A panic is logged and counted.
pub(crate) fn run(what: &str, of: &str, code: impl FnOnce()) {
    if let Err(panicked) = call(code) {
        strayed(what, of, &panicked);
    }
}

/// Hands an event to the log. A subscriber that panics loses its line, and costs nothing else.
#[inline]
pub(crate) fn submit(event: impl FnOnce()) {
    if call(event).is_err() {
        count_stray();
    }
}

/// Panics on this thread that belong to no callback and no task, since the last call.
pub(crate) fn take_stray_panics() -> u64 {
    STRAY_PANICS.try_with(Cell::take).unwrap_or(0)
}

/// Counts a panic, and logs it, unless one was logged on this thread a moment ago: a peer may be able
/// to cause one with each of its messages.
#[cold]
fn strayed(what: &str, of: &str, panicked: &Panicked) {
    count_stray();
    let Ok(left_out) = LOGGED.try_with(|logged| {
        let (at, left_out) = logged.get();
        if at.is_some_and(|at| at.elapsed() < log::INTERVAL) {
            logged.set((at, left_out + 1));
            return None;
        }
        logged.set((Some(Instant::now()), 0));
        Some(left_out)
    }) else {
        return;
    };
    if let Some(left_out) = left_out {
        let text = "code of the application panicked outside of its callbacks";
        log::error!(%panicked, what, of, left_out, "{text}");
    }
}

fn count_stray() {
    let _ = STRAY_PANICS.try_with(|count| count.set(count.get() + 1));
}

thread_local! {
    static STRAY_PANICS: Cell<u64> = const { Cell::new(0) };
    /// When one was logged, and how many were not since.
    static LOGGED: Cell<(Option<Instant>, u64)> = const { Cell::new((None, 0)) };
}

/// Text of a limited length.
struct Bounded {
    text: String,
    is_full: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX - self.text.len().min(TEXT_BYTES_MAX);
        let end = floor(more, room);
        self.text.push_str(&more[..end]);
        if end < more.len() {
            if !self.is_full {
                self.text.push_str(CUT_MARK);
            }
            self.is_full = true;
            // Ends a `Display` that would write for ever.
            return Err(fmt::Error);
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    let end = floor(text, TEXT_BYTES_MAX);
    let mark = if end < text.len() { CUT_MARK } else { "" };
    format!("{}{mark}", &text[..end])
}

/// The last boundary between characters that is not behind `end`.
fn floor(text: &str, end: usize) -> usize {
    (0..=end.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Enough for an error with its causes; a line of a log is not to be a megabyte.
const TEXT_BYTES_MAX: usize = 4096;
const CUT_MARK: &str = "...";

#[cfg(test)]
mod tests;
