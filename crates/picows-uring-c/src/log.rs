//! The log of the library, for a function of C.

use crate::status::{Failure, entry, pwu_status};
use crate::types::pwu_str;
use std::ffi::{c_int, c_void};
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Levels of lines in the log.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub enum pwu_level {
    /// Something is lost, such as a worker.
    PWU_LOG_ERROR = 1,
    /// Something needs attention.
    PWU_LOG_WARN = 2,
    /// The usual level of a service.
    PWU_LOG_INFO = 3,
    /// For finding faults.
    PWU_LOG_DEBUG = 4,
}

/// Gets a line of the log, which is lent for the call. It may be called on any thread, also on several
/// at once.
pub type pwu_log = Option<unsafe extern "C" fn(user: *mut c_void, level: c_int, line: pwu_str)>;

/// Has `log` called with `user` for each line of the library's log of `level` (one of pwu_level) and
/// graver ones. Once in a process, before the first worker: the log is the process's. `user` is not
/// freed. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_set_log(level: c_int, log: pwu_log, user: *mut c_void) -> pwu_status {
    entry(|| {
        let log = log.ok_or_else(|| Failure::null("the function of the log"))?;
        let level = match level {
            1 => Level::ERROR,
            2 => Level::WARN,
            3 => Level::INFO,
            4 => Level::DEBUG,
            other => {
                let text = format!("level {other}: use one of pwu_level");
                return Err(Failure::new(pwu_status::PWU_INVALID, text));
            }
        };
        let lines = Lines { level, log, user };
        tracing::subscriber::set_global_default(lines).map_err(|_| {
            let text = "the log of this process goes somewhere already: set it once";
            Failure::new(pwu_status::PWU_INVALID, text)
        })?;
        Ok(pwu_status::PWU_OK)
    })
}

/// Hands each event to the function as one line.
struct Lines {
    level: Level,
    log: unsafe extern "C" fn(*mut c_void, c_int, pwu_str),
    user: *mut c_void,
}

// SAFETY: the application gives the pointer for use on any thread, as the header says.
unsafe impl Send for Lines {}
// SAFETY: the same.
unsafe impl Sync for Lines {}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // The library has none, and other code's are of no matter here.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = line.message + &line.fields;
        let level = match *event.metadata().level() {
            Level::ERROR => pwu_level::PWU_LOG_ERROR,
            Level::WARN => pwu_level::PWU_LOG_WARN,
            Level::INFO => pwu_level::PWU_LOG_INFO,
            _ => pwu_level::PWU_LOG_DEBUG,
        };
        // SAFETY: the application gave both for this, and the text lives meanwhile.
        unsafe { (self.log)(self.user, level as c_int, pwu_str::of(text.as_bytes())) };
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event, and its fields behind it.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
