//! The log on standard error: its filter, and the form of its lines.
//!
//! Lines are queued and written by a thread of their own, whatever the form.

use clap::ValueEnum;
use serde_json::json;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// The form of the lines on standard error.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people, with colours on a terminal
    #[default]
    Text,
    /// One JSON object on each line, for log pipelines; notes of the command included
    Json,
}

/// Installs the subscriber of `tracing`: from here on, lines of standard error have this form.
pub(crate) fn install_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(super::LogWriter);
    match format {
        LogFormat::Text => {
            // Colours are for people who want them (https://no-color.org).
            let is_plain = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
            log.with_ansi(std::io::stderr().is_terminal() && !is_plain).init();
        }
        LogFormat::Json => {
            IS_JSON.store(true, Ordering::Relaxed);
            let log = log.json().flatten_event(true).with_ansi(false);
            log.with_current_span(true).with_span_list(false).init();
        }
    }
}

/// Whether each line of standard error is a JSON object.
pub(super) fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Formats a note of the command as the log formats its events.
pub(super) fn json_line(level: Level, message: &str) -> String {
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let level = level.as_str();
    json!({ "timestamp": timestamp, "level": level, "message": message, "target": "picows" })
        .to_string()
}

static IS_JSON: AtomicBool = AtomicBool::new(false);
