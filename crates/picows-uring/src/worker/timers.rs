//! Timers of a worker: one wheel for all of them, and what each is for.
//!
//! What happens when one fires is decided by the service that has set it.

use crate::ring::Token;
use picows_uring_proto::{Tick, TimerId, Wheel};

/// The purpose of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A deadline of a connection.
    Connection(Token),
    /// Accepting goes on after a pause.
    ResumeAccept,
    /// Connections that had begun when the server was stopped are accepted.
    StopAccepting,
    /// The next connection is sent CLOSE 1001.
    Shutdown,
    /// The drain timeout.
    Drain,
    /// Memory that a burst has left is given up.
    Trim,
    /// Lines that the log left out are reported.
    LogReport,
    /// The progress of connections is checked.
    Progress,
    /// Publications that linger are due.
    Topics,
}

/// The timers that are set.
#[derive(Debug)]
pub(super) struct Timers {
    wheel: Wheel,
}

impl Timers {
    pub(super) fn new(now: Tick) -> Self {
        Self { wheel: Wheel::new(now) }
    }

    /// Sets a timer that fires at `deadline`.
    #[inline]
    pub(super) fn insert(&mut self, deadline: Tick, timer: Timer) -> TimerId {
        self.wheel.insert(deadline, timer.pack())
    }

    /// Takes a timer back, if it has not fired.
    #[inline]
    pub(super) fn cancel(&mut self, timer: TimerId) {
        self.wheel.cancel(timer);
    }

    /// The next timer whose deadline is at or before `now`.
    #[inline]
    pub(super) fn expire(&mut self, now: Tick) -> Option<Timer> {
        self.wheel.expire(now).map(Timer::unpack)
    }

    /// When the next timer fires, or before.
    pub(super) fn next_deadline(&mut self) -> Option<Tick> {
        self.wheel.next_deadline()
    }

    /// Gives up memory that a burst of timers has left.
    pub(super) fn trim(&mut self) {
        self.wheel.trim();
    }

    /// How many are set.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.wheel.len()
    }
}

impl Timer {
    /// As a token of the wheel: a tag above the 60 bits of a connection's token, which is 0 for
    /// the timer of a connection and consecutive for those of the worker, in their order above.
    fn pack(self) -> u64 {
        match self {
            Self::Connection(token) => token.pack(),
            Self::ResumeAccept => 1 << TAG_SHIFT,
            Self::StopAccepting => 2 << TAG_SHIFT,
            Self::Shutdown => 3 << TAG_SHIFT,
            Self::Drain => 4 << TAG_SHIFT,
            Self::Trim => 5 << TAG_SHIFT,
            Self::LogReport => 6 << TAG_SHIFT,
            Self::Progress => 7 << TAG_SHIFT,
            Self::Topics => 8 << TAG_SHIFT,
        }
    }

    fn unpack(bits: u64) -> Self {
        match bits >> TAG_SHIFT {
            1 => Self::ResumeAccept,
            2 => Self::StopAccepting,
            3 => Self::Shutdown,
            4 => Self::Drain,
            5 => Self::Trim,
            6 => Self::LogReport,
            7 => Self::Progress,
            8 => Self::Topics,
            _ => Self::Connection(Token::unpack(bits)),
        }
    }
}

/// Above the 60 bits of a token.
const TAG_SHIFT: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_fires_for_what_it_was_set() {
        let token = Token { slot: u32::MAX, generation: Token::GENERATIONS - 1 };
        let all = [
            Timer::Connection(token),
            Timer::ResumeAccept,
            Timer::StopAccepting,
            Timer::Shutdown,
            Timer::Drain,
            Timer::Trim,
            Timer::LogReport,
            Timer::Progress,
            Timer::Topics,
        ];
        for (tag, timer) in all.into_iter().enumerate() {
            assert_eq!(timer.pack() >> TAG_SHIFT, tag as u64, "{timer:?}");
            let mut timers = Timers::new(Tick::ZERO);
            timers.insert(Tick::ZERO, timer);
            assert_eq!(timers.expire(Tick::ZERO + Wheel::GRANULARITY), Some(timer));
            assert_eq!((timers.len(), timers.next_deadline()), (0, None));
        }
    }
}
