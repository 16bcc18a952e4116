//! The log on standard error: its filter, and the form of its lines.
//!
//! Lines are queued and written by a thread of their own, whatever the form.

use crate::fault::Usage;
use clap::ValueEnum;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields};
use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};
use tracing_subscriber::{EnvFilter, Registry};

/// The form of the lines on standard error.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people, with colours on a terminal
    #[default]
    Text,
    /// One JSON object on each line, for log pipelines; notes of the command included
    Json,
}

/// The file that the filter of the log is read from.
pub(crate) struct LogFile {
    path: PathBuf,
    install: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

/// Installs the subscriber of `tracing`: from here on, lines of standard error have this form.
///
/// # Errors
///
/// When the file has no filter.
pub(crate) fn install_log(format: LogFormat, file: Option<PathBuf>) -> Result<(), Usage> {
    let filter = match &file {
        Some(path) => {
            read_filter(path).map_err(|fault| Usage(format!("--log-filter-file: {fault}")))?
        }
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT)),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(super::LogWriter);
    match format {
        LogFormat::Text => {
            // Colours are for people who want them (https://no-color.org).
            let is_plain = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
            init(log.with_ansi(std::io::stderr().is_terminal() && !is_plain), file);
        }
        LogFormat::Json => {
            IS_JSON.store(true, Ordering::Relaxed);
            let log = log.json().flatten_event(true).with_ansi(false);
            init(log.with_current_span(true).with_span_list(false), file);
        }
    }
    Ok(())
}

/// Installs a subscriber, whose filter can be replaced where it came from a file.
fn init<N, E, W>(log: SubscriberBuilder<N, E, EnvFilter, W>, file: Option<PathBuf>)
where
    N: for<'a> FormatFields<'a> + Send + Sync + 'static,
    E: FormatEvent<Registry, N> + Send + Sync + 'static,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let Some(path) = file else { return log.init() };
    let log = log.with_filter_reloading();
    let handle = log.reload_handle();
    let install = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    LOG_FILE.get_or_init(|| LogFile { path, install: Box::new(install) });
    log.init();
}

/// The file of the log's filter, if one was given.
pub(crate) fn log_file() -> Option<&'static LogFile> {
    LOG_FILE.get()
}

impl LogFile {
    /// Reads the filter again, and notes the outcome.
    pub(crate) fn reload(&self) {
        match read_filter(&self.path).and_then(&self.install) {
            Ok(()) => super::note(format_args!("log filter read again")),
            Err(fault) => {
                super::note(format_args!("log filter not read again, the old one stays: {fault}"));
            }
        }
    }
}

/// Reads the filter of a file: directives, one or more on each line.
fn read_filter(path: &Path) -> Result<EnvFilter, String> {
    let fault = |what: String| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    parse_filter(&text).map_err(fault)
}

fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    let mut directives = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim().trim_matches(',');
        if line.is_empty() {
            continue;
        }
        check_directives(line).map_err(|fault| {
            let number = index + 1;
            format!(
                "line {number}: {fault}: write LEVEL or TARGET=LEVEL, such as picows_uring=debug"
            )
        })?;
        directives.push(line);
    }
    let all = if directives.is_empty() { DEFAULT.to_owned() } else { directives.join(",") };
    EnvFilter::try_new(all).map_err(|error| error.to_string())
}

/// Checks directives. A word alone, which the filter takes for a target with all of its events, is a level that is
/// written wrong, as a rule.
fn check_directives(line: &str) -> Result<(), String> {
    for word in line.split(',').map(str::trim) {
        let is_word = word.chars().all(|it| it.is_alphanumeric() || it == '_');
        if is_word && !word.is_empty() && word.parse::<LevelFilter>().is_err() {
            return Err(format!("{word:?} is no level"));
        }
    }
    EnvFilter::try_new(line).map(drop).map_err(|error| error.to_string())
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
static LOG_FILE: OnceLock<LogFile> = OnceLock::new();
/// Without RUST_LOG, and where a file has no directive.
const DEFAULT: &str = "warn";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_directives_on_lines_and_comments() {
        let shown = |text: &str| parse_filter(text).map(|filter| filter.to_string());
        assert_eq!(shown(""), Ok("warn".into()));
        assert_eq!(shown("# nothing\n\n  # here\n"), Ok("warn".into()));
        assert_eq!(shown("info # all\r\n"), Ok("info".into()));
        let two = shown("info\npicows_uring=debug,").unwrap();
        assert!(two.contains("info") && two.contains("picows_uring=debug"), "{two}");
        let fault = shown("info\npicows_uring=loud\n").unwrap_err();
        assert!(fault.starts_with("line 2: ") && fault.contains("TARGET=LEVEL"), "{fault}");
        let fault = shown("warn, inof").unwrap_err();
        assert!(fault.starts_with("line 1: \"inof\" is no level: "), "{fault}");
        for line in ["OFF", "a=info,trace", "a::b", "[span{field=1}]=debug"] {
            assert!(shown(line).is_ok(), "{line}");
        }
    }
}
