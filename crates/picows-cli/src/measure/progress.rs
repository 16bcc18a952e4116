//! How far a measurement is, for whoever watches a terminal.

use super::{Crew, Plan, Window};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A bar on a terminal, or nothing.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// Time and echoes at the last look.
    last: Cell<(u64, u64)>,
}

impl Progress {
    /// Shows nothing unless standard error is a terminal.
    pub(super) fn new(plan: &Plan, show: bool) -> Self {
        let bar = (show && std::io::stderr().is_terminal()).then(|| {
            let total = super::nanos(plan.warmup + plan.duration);
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style);
            }
            bar.set_message("connecting");
            bar.tick();
            bar
        });
        Self { bar, last: Cell::new((0, 0)) }
    }

    /// How much of `left` to wait before looking again.
    pub(super) fn patience(&self, left: Duration) -> Duration {
        if self.bar.is_some() { left.min(REFRESH) } else { left }
    }

    pub(super) fn show(&self, crew: &Crew, window: &Window) {
        let Some(bar) = &self.bar else { return };
        let now = crew.now_ns();
        let echoes: u64 = crew.echoes.iter().map(|it| it.load(Ordering::Relaxed)).sum();
        let (last, echoes_then) = self.last.replace((now, echoes));
        let rate = (echoes - echoes_then) as f64 * 1e9 / now.saturating_sub(last).max(1) as f64;
        let stage = if now < window.measure_ns { "warm-up" } else { "measuring" };
        bar.set_position(now.saturating_sub(window.start_ns));
        bar.set_message(format!("{stage}: {rate:.0} messages/s"));
    }

    pub(super) fn draining(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("waiting for the last echoes");
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const TEMPLATE: &str = "{bar:30} {percent}% {msg}";
const REFRESH: Duration = Duration::from_millis(200);
