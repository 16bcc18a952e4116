//! Live view of a load: one line on standard error, if that is a terminal.
//!
//! It fits the width of the terminal: what matters least is left out first. Drawing never waits.

use super::live::Snapshot;
use super::run::{LoadPlan, Run, Window, nanos};
use super::shape::Mode;
use crate::stdio;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A line on a terminal, or nothing.
#[derive(Debug)]
pub(super) struct ProgressBar {
    is_shown: bool,
    has_colours: bool,
    is_idle: bool,
    rounds: u32,
    connections: usize,
    total_ns: u64,
    last: RefCell<Last>,
}

/// What was shown last.
#[derive(Debug, Default)]
struct Last {
    now_ns: u64,
    messages: u64,
    snapshot: Snapshot,
}

/// A line, as its parts: the one that matters most is first.
struct Line {
    done: u64,
    total: u64,
    parts: Vec<String>,
    errors: u64,
}

impl ProgressBar {
    /// Shows nothing unless standard error is a terminal that can draw a line again.
    pub(super) fn new(plan: &LoadPlan, show: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|it| it == "dumb");
        Self {
            is_shown: show && !is_dumb && stdio::err_is_terminal(),
            has_colours: std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
            is_idle: plan.is(Mode::Idle),
            rounds: plan.rounds,
            connections: plan.connections,
            total_ns: nanos(plan.warmup + plan.duration),
            last: RefCell::default(),
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// Limit of the next wait, so that a visible line is drawn again.
    pub(super) fn wait_limit(&self, left: Duration) -> Duration {
        if self.is_shown { left.min(REFRESH) } else { left }
    }

    /// Shows how many connections there are, before the load.
    pub(super) fn connecting(&self, run: &Run) {
        let Some(live) = &run.live else { return };
        let connected = live.snapshot().connected;
        let parts = vec![format!("connecting: {connected} of {}", self.connections)];
        self.draw(&Line { done: connected, total: self.connections as u64, parts, errors: 0 });
    }

    /// Shows the rate and the latencies since it was shown last.
    pub(super) fn show(&self, run: &Run, window: &Window) {
        let Some(live) = &run.live else { return };
        let now_ns = run.now_ns();
        let mut last = self.last.borrow_mut();
        if now_ns.saturating_sub(last.now_ns) < nanos(REFRESH) / 2 {
            // An event between two drawings: its figures would be those of a moment.
            return;
        }
        let (snapshot, messages) = (live.snapshot(), messages(run));
        let seconds = now_ns.saturating_sub(last.now_ns).max(1) as f64 / 1e9;
        let rate = (messages - last.messages) as f64 / seconds;
        let stage = self.stage(window, now_ns);
        let mut parts = if self.is_idle {
            vec![format!("holding {} connections", snapshot.connected)]
        } else {
            vec![format!("{stage} {rate:.0}/s")]
        };
        for (name, share) in [("p99", 0.99), ("p50", 0.5)] {
            let quantile = snapshot.quantile_since(&last.snapshot, share);
            parts.extend(quantile.map(|nanos| format!("{name} {}", time(nanos))));
        }
        let (done, errors) = (now_ns.saturating_sub(window.start_ns), snapshot.errors);
        self.draw(&Line { done, total: self.total_ns, parts, errors });
        *last = Last { now_ns, messages, snapshot };
    }

    /// The part of the load that runs.
    fn stage(&self, window: &Window, now_ns: u64) -> String {
        let rounds = self.rounds as usize;
        match now_ns < window.measure_ns {
            true => "warm-up".to_owned(),
            false if rounds == 1 => "measuring".to_owned(),
            false => {
                format!("round {} of {rounds}", (window.round_at(now_ns) + 1).min(rounds))
            }
        }
    }

    pub(super) fn draining(&self) {
        let parts = vec!["waiting for the last".to_owned()];
        self.draw(&Line { done: 1, total: 1, parts, errors: 0 });
    }

    pub(super) fn finish(&self) {
        if self.is_shown {
            stdio::err().write_unless_behind(CLEAR_LINE);
        }
    }

    fn draw(&self, line: &Line) {
        if self.is_shown {
            let text = line.render(stdio::err_columns(), self.has_colours);
            stdio::err().write_if_idle(&format!("{CLEAR_LINE}{text}"));
        }
    }
}

impl Line {
    /// Renders the line in fewer columns than the terminal has, so that it never wraps.
    fn render(&self, columns: usize, has_colours: bool) -> String {
        let room = columns.saturating_sub(1);
        let errors = (self.errors > 0).then(|| format!("{} errors", self.errors));
        for count in (1..=self.parts.len()).rev() {
            // Errors stay as long as the first part does.
            let mut words: Vec<&str> = vec![&self.parts[0]];
            words.extend(errors.as_deref());
            words.extend(self.parts[1..count].iter().map(String::as_str));
            let text = words.join("  ");
            for bar_columns in [30, 20, 10, 0] {
                let bar = bar(self.done, self.total, bar_columns);
                if bar.chars().count() + text.chars().count() <= room {
                    return bar + &coloured(&text, errors.as_deref(), has_colours);
                }
            }
        }
        self.parts[0].chars().take(room).collect()
    }
}

fn coloured(text: &str, errors: Option<&str>, has_colours: bool) -> String {
    match errors {
        Some(errors) if has_colours => text.replacen(errors, &format!("{RED}{errors}{RESET}"), 1),
        _ => text.to_owned(),
    }
}

/// Returns a bar of so many columns and the share of `total`; without columns, nothing.
fn bar(done: u64, total: u64, columns: usize) -> String {
    if columns == 0 {
        return String::new();
    }
    let share = (done as f64 / total.max(1) as f64).min(1.0);
    let full = (share * columns as f64) as usize;
    let (full_bar, rest) = ("█".repeat(full), "░".repeat(columns - full));
    format!("{full_bar}{rest} {:>3.0}%  ", share * 100.0)
}

/// Right echoes, or visits, of all threads.
fn messages(run: &Run) -> u64 {
    run.echoes.iter().map(|it| it.load(Ordering::Relaxed)).sum()
}

/// Formats a time with a suitable unit.
fn time(nanos: u64) -> String {
    match nanos as f64 / 1e3 {
        micros @ ..1e3 => format!("{micros:.0} µs"),
        micros @ ..1e6 => format!("{:.1} ms", micros / 1e3),
        micros => format!("{:.1} s", micros / 1e6),
    }
}

const CLEAR_LINE: &str = "\r\x1b[2K";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";
const REFRESH: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::super::run::tests::plan;
    use super::*;

    fn line(errors: u64) -> Line {
        let parts = ["measuring 123456/s", "p99 1234 µs", "p50 123 µs"].map(str::to_owned).to_vec();
        Line { done: 3, total: 10, parts, errors }
    }

    #[test]
    fn the_line_fits_every_terminal_and_keeps_what_matters() {
        for errors in [0, 7] {
            for columns in 0..200 {
                let text = line(errors).render(columns, false);
                assert!(text.chars().count() < columns.max(1), "{columns}: {text}");
                assert!(columns < 20 || text.contains("measuring 123456/s"), "{columns}: {text}");
                let has_errors = text.contains("7 errors");
                assert!(columns < 30 || has_errors == (errors > 0), "{columns}: {text}");
            }
        }
        let text = line(7).render(80, false);
        for part in ["░", "30%", "p50 123 µs", "p99 1234 µs"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!line(7).render(34, false).contains('░'), "the bar goes before the figures");
    }

    #[test]
    fn colours_are_for_errors_and_take_no_columns() {
        let plain = line(7).render(80, false);
        let coloured = line(7).render(80, true);
        assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31m7 errors\x1b[0m"));
        assert_eq!(coloured.replace(RED, "").replace(RESET, ""), plain);
        assert!(!line(0).render(80, true).contains('\x1b'));
    }

    #[test]
    fn the_line_names_the_round() {
        let plan = LoadPlan { rounds: 4, duration: Duration::from_secs(8), ..plan() };
        let (bar, window) = (ProgressBar::new(&plan, false), Window::new(&plan, 0));
        for (seconds, stage) in [
            (0, "warm-up"),
            (1, "round 1 of 4"),
            (3, "round 2 of 4"),
            (8, "round 4 of 4"),
            (9, "round 4 of 4"),
        ] {
            assert_eq!(bar.stage(&window, seconds * 1_000_000_000), stage);
        }
        let plan = LoadPlan { rounds: 1, ..plan };
        let bar = ProgressBar::new(&plan, false);
        assert_eq!(bar.stage(&Window::new(&plan, 0), 5_000_000_000), "measuring");
    }

    #[test]
    fn the_bar_has_one_length() {
        for (done, total, share) in
            [(0, 10, "  0%"), (3, 10, " 30%"), (10, 10, "100%"), (12, 10, "100%"), (0, 0, "  0%")]
        {
            let text = bar(done, total, 30);
            assert_eq!(text.chars().count(), 30 + 1 + 4 + 2);
            assert!(text.trim_end().ends_with(share), "{text}");
        }
        assert_eq!(bar(3, 10, 0), "");
    }
}
