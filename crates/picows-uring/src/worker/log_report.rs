//! Reports how many lines the log left out, where no further line does.

use super::{Timer, Worker};
use crate::foreign::log::REPORT_AFTER;
use crate::ring::Ring;

impl<R: Ring> Worker<R> {
    /// Sets the timer for the report, if lines were left out in this turn.
    #[inline]
    pub(super) fn set_log_report(&mut self) {
        if self.local.log_limits.take_report_due() && !self.is_log_report_set {
            self.set_log_alarm();
        }
    }

    /// Reports what was left out, and what may still get a line later once that is over.
    pub(super) fn report_log(&mut self) {
        self.is_log_report_set = false;
        if self.local.log_limits.report(self.local.now.get()) {
            self.set_log_alarm();
        }
    }

    fn set_log_alarm(&mut self) {
        self.is_log_report_set = true;
        let at = self.local.now.get() + REPORT_AFTER;
        self.wheel.insert(at, Timer::LogReport.pack());
    }
}
