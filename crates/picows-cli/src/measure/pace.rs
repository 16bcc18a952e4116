//! The sender of an open loop: one for each thread, woken when a message is due.

use super::connection::Connection;
use super::schedule::Schedule;
use super::{Crew, Window};
use picows_uring::Transport;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;

/// Sends what is due until the window ends.
///
/// # Errors
///
/// When there is no timer to be had.
pub(super) async fn pace(
    crew: &Crew,
    window: &Window,
    schedule: &Schedule,
    connections: &[(Rc<RefCell<Connection>>, Transport)],
) -> io::Result<()> {
    let mut alarm = Alarm::new()?;
    let ids: Vec<_> = connections.iter().map(|(connection, _)| connection.borrow().id()).collect();
    let mut turns = (0_u64..).flat_map(|sequence| (0..ids.len()).map(move |at| (sequence, at)));
    let mut next = turns.next();
    let mut turns_since_yield = 0;
    while let Some((sequence, at)) = next {
        let due_ns = schedule.due_ns(ids[at], sequence);
        if due_ns >= window.stop_ns {
            return Ok(());
        }
        let now_ns = crew.now_ns();
        if due_ns > now_ns {
            alarm.wait(Duration::from_nanos(due_ns - now_ns)).await?;
            turns_since_yield = 0;
            continue;
        }
        // All that is due for the connection, so for most of a backlog this does nothing.
        let (connection, transport) = &connections[at];
        connection.borrow_mut().pump(transport, now_ns);
        next = turns.next();
        turns_since_yield += 1;
        if turns_since_yield == TURNS_PER_YIELD {
            turns_since_yield = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// A timer of the kernel: the loop's own timers tick in milliseconds.
struct Alarm {
    timer: OwnedFd,
    /// The same, for the loop: it reads like a pipe, eight bytes at a time.
    expirations: Receiver,
}

impl Alarm {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let expirations = Receiver::from_owned_fd_unchecked(timer.try_clone()?)?;
        Ok(Self { timer, expirations })
    }

    /// Waits for about that long, and lets the connections be served meanwhile.
    async fn wait(&mut self, duration: Duration) -> io::Result<()> {
        if duration < SLEEP_MIN {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec {
            tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: duration.subsec_nanos().into(),
        };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        let mut count = [0; 8];
        loop {
            self.expirations.readable().await?;
            match self.expirations.try_read(&mut count) {
                // Readiness of an earlier alarm.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome.map(drop),
            }
        }
    }
}

/// Falling asleep and waking up takes about as long.
const SLEEP_MIN: Duration = Duration::from_micros(20);
/// A sender that is always late lets what it queued leave this often.
const TURNS_PER_YIELD: u32 = 64;
