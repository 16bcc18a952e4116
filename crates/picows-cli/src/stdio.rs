//! The standard streams, written and read without blocking a thread that serves or handles signals.
//!
//! Each output stream has a queue and a thread of its own ([`Output`]); no other code of the
//! command writes to them. Inherited descriptors are used as they are, non-blocking ones included.

mod descriptor;
mod editor;
mod escape;
mod log;
mod output;

pub(crate) use descriptor::Input;
pub(crate) use editor::{Lines, end_editor, start_editor};
pub(crate) use escape::{Escaper, one_line};
pub(crate) use log::{LogFile, LogFormat, install_log, log_file};
pub(crate) use output::{Notice, Output};

use crate::fault::Fault;
use rustix::termios::tcgetwinsize;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Standard output.
pub(crate) fn out() -> &'static Output {
    static OUT: OnceLock<Output> = OnceLock::new();
    OUT.get_or_init(|| {
        let notice = Notice::Elsewhere(Box::new(|count| {
            note(format_args!("{count} lines for standard output were dropped: {NOT_READ}"));
        }));
        Output::start("picows-stdout", above(io::stdout()), notice)
    })
}

/// Standard error.
pub(crate) fn err() -> &'static Output {
    static ERR: OnceLock<Output> = OnceLock::new();
    ERR.get_or_init(|| {
        let notice = Notice::Inline(Box::new(|count| {
            let text = format!("{count} lines for standard error were dropped: {NOT_READ}");
            formatted(Level::WARN, &text) + "\n"
        }));
        Output::start("picows-stderr", above(io::stderr()), notice)
    })
}

fn above<T: IsTerminal>(stream: T) -> editor::Above<T> {
    let is_terminal = stream.is_terminal();
    editor::Above { stream: descriptor::Descriptor(stream), is_terminal }
}

/// Prints a line on standard error, escaped so that it stays one line.
pub(crate) fn note(line: fmt::Arguments<'_>) {
    note_at(Level::INFO, line);
}

/// The same, of a level in a log of JSON.
pub(crate) fn note_at(level: Level, line: fmt::Arguments<'_>) {
    err().line(&formatted(level, &line.to_string()));
}

/// Formats a note as a line of standard error.
fn formatted(level: Level, text: &str) -> String {
    if log::is_json() { log::json_line(level, text) } else { one_line(text) }
}

/// Prints text of several lines on standard error.
pub(crate) fn note_text(text: &str) {
    // A failure of standard error does not fail the command.
    let _ = err().write(|queue| queue.extend_from_slice(text.as_bytes()));
}

/// Returns the fault of lost output, for a command whose work was that output.
pub(crate) fn cannot_write_out(error: &io::Error) -> Fault {
    format!("standard output cannot be written: {error}").into()
}

/// Whether standard input is a terminal.
pub(crate) fn in_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn out_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub(crate) fn err_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns the width of the terminal that standard error is, or what terminals usually have.
pub(crate) fn err_columns() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS } else { columns }
}

/// Writer of log lines to standard error, for the subscriber of `tracing`.
pub(crate) struct LogWriter;

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine;

    fn make_writer(&'a self) -> Self::Writer {
        LogLine(Vec::new())
    }
}

/// Writer of one event of the log, which is queued when it is complete.
pub(crate) struct LogLine(Vec<u8>);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        if !line.is_empty() {
            // JSON has escaped what it must, and needs no colours.
            err().line(&if log::is_json() { line.to_owned() } else { escape::log_line(line) });
        }
    }
}

/// Installs a panic hook that reports through the queue: the default hook writes to standard error
/// itself, and would block a worker while that is not read.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let at = panic.location().map_or_else(String::new, ToString::to_string);
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = message.unwrap_or("no text");
        note_at(Level::ERROR, format_args!("thread '{name}' panicked at {at}: {text}"));
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            true if log::is_json() => note_at(Level::ERROR, format_args!("{backtrace}")),
            true => note_text(&format!("{backtrace}\n")),
            false => {}
        }
    }));
}

/// Longest wait for a stream that is not read, at the end of a command that stops.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that suffices for a stream that is read.
pub(crate) const FLUSH_MIN: Duration = Duration::from_millis(100);
/// Of a terminal that does not know its width.
const COLUMNS: usize = 80;
const NOT_READ: &str = "it was not read as fast as they came, or could not be written";
