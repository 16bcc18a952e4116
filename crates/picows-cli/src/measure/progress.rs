//! Progress bar on standard error, if that is a terminal.

use super::run::{LoadPlan, Run, Window, nanos};
use crate::stdio;
use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A bar on a terminal, or nothing. Drawing never waits for the terminal.
#[derive(Debug)]
pub(super) struct ProgressBar {
    is_shown: bool,
    total_ns: u64,
    /// Time and echoes when the bar was last drawn.
    last: Cell<(u64, u64)>,
}

impl ProgressBar {
    /// Shows nothing unless standard error is a terminal.
    pub(super) fn new(plan: &LoadPlan, show: bool) -> Self {
        let total_ns = nanos(plan.warmup + plan.duration);
        let is_shown = show && std::io::stderr().is_terminal();
        let progress = Self { is_shown, total_ns, last: Cell::new((0, 0)) };
        progress.draw(0, "connecting");
        progress
    }

    /// Limit of the next wait, so that a visible bar is redrawn.
    pub(super) fn wait_limit(&self, left: Duration) -> Duration {
        if self.is_shown { left.min(REFRESH) } else { left }
    }

    pub(super) fn show(&self, run: &Run, window: &Window) {
        if !self.is_shown {
            return;
        }
        let now = run.now_ns();
        let echoes: u64 = run.echoes.iter().map(|it| it.load(Ordering::Relaxed)).sum();
        let (last, echoes_then) = self.last.replace((now, echoes));
        let rate = (echoes - echoes_then) as f64 * 1e9 / now.saturating_sub(last).max(1) as f64;
        let stage = if now < window.measure_ns { "warm-up" } else { "measuring" };
        let done_ns = now.saturating_sub(window.start_ns);
        self.draw(done_ns, &format!("{stage}: {rate:.0} messages/s"));
    }

    pub(super) fn draining(&self) {
        self.draw(self.total_ns, "waiting for the last echoes");
    }

    pub(super) fn finish(&self) {
        if self.is_shown {
            stdio::err().write_unless_behind(CLEAR_LINE);
        }
    }

    fn draw(&self, done_ns: u64, message: &str) {
        if self.is_shown {
            let bar = bar(done_ns, self.total_ns);
            stdio::err().write_if_idle(&format!("{CLEAR_LINE}{bar} {message}"));
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let share = (done as f64 / total.max(1) as f64).min(1.0);
    let full = (share * BAR_COLUMNS as f64) as usize;
    let (full_bar, rest) = ("█".repeat(full), "░".repeat(BAR_COLUMNS - full));
    format!("{full_bar}{rest} {:.0}%", share * 100.0)
}

const BAR_COLUMNS: usize = 30;
const CLEAR_LINE: &str = "\r\x1b[2K";
const REFRESH: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_one_length() {
        for (done, total, share) in
            [(0, 10, "0%"), (3, 10, "30%"), (10, 10, "100%"), (12, 10, "100%")]
                .into_iter()
                .chain([(0, 0, "0%")])
        {
            let text = bar(done, total);
            assert_eq!(text.chars().count(), BAR_COLUMNS + 1 + share.len());
            assert!(text.ends_with(share), "{text}");
        }
    }
}
