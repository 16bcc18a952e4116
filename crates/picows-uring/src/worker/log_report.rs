//! Reports of lines that the log left out, where no further line reports them.

use super::Worker;
use super::timers::Timer;
use crate::foreign::log::REPORT_AFTER;
use crate::ring::Ring;

impl<R: Ring> Worker<R> {
    /// Sets the timer for the report, if lines were left out in this turn and none is set.
    #[inline]
    pub(super) fn set_log_report(&mut self) {
        if self.local.log_limits.begin_report() {
            self.report_log_later();
        }
    }

    /// Reports what was left out, and sets the timer anew for what may still get a line later.
    pub(super) fn report_log(&mut self) {
        if self.local.log_limits.report(self.local.now.get()) {
            self.report_log_later();
        }
    }

    fn report_log_later(&mut self) {
        let at = self.local.now.get() + REPORT_AFTER;
        self.timers.insert(at, Timer::LogReport);
    }
}
