//! A timer in the epoll descriptor: it ends sleeps at the deadline, in every kind of loop.

use super::{ALARM, timespec};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::Duration;

/// Makes the epoll descriptor readable when it fires.
#[derive(Debug)]
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    /// An alarm that is not set.
    pub(super) fn new(epoll: &OwnedFd) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // An edge for each time that it fires, so that it need not be read.
        epoll::add(epoll, &timer, EventData::new_u64(ALARM), EventFlags::IN | EventFlags::ET)?;
        Ok(Self(timer))
    }

    /// The descriptor of its timer.
    pub(super) fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Has it fire after `wait`, and no longer when it was set to before.
    pub(super) fn set(&self, wait: Duration) {
        // Zero would switch it off.
        let wait = wait.max(Duration::from_nanos(1));
        let time = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(wait) };
        let set = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &time);
        debug_assert!(set.is_ok(), "a time that can be set: {time:?}: {set:?}");
    }
}
