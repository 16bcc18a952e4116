//! The sender of an open loop: one for each thread, which sleeps until a message is due.

use super::connection::Connection;
use super::run::{Run, Window};
use super::schedule::Schedule;
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

/// Sends messages as they are due, until the window ends.
///
/// # Errors
///
/// When the kernel grants no timer, or the timer fails.
pub(super) async fn pace(
    run: &Run,
    window: &Window,
    schedule: &Schedule,
    connections: &[(Rc<RefCell<Connection>>, Transport)],
) -> io::Result<()> {
    let mut timer = SendTimer::new(run.plan.busy_poll)?;
    let ids: Vec<_> = connections.iter().map(|(connection, _)| connection.borrow().id()).collect();
    let mut turns = (0_u64..).flat_map(|sequence| (0..ids.len()).map(move |at| (sequence, at)));
    let mut next = turns.next();
    let mut turns_since_yield = 0;
    while let Some((sequence, at)) = next {
        let due_ns = schedule.due_ns(ids[at], sequence);
        if due_ns >= window.stop_ns {
            return Ok(());
        }
        let now_ns = run.now_ns();
        if due_ns > now_ns {
            timer.wait(Duration::from_nanos(due_ns - now_ns)).await?;
            turns_since_yield = 0;
            continue;
        }
        // Sends everything that is due on the connection, so later turns of a backlog find nothing.
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

/// A timer of the kernel, as the loop's own timers tick in milliseconds.
pub(crate) struct SendTimer {
    timer: OwnedFd,
    /// The same, for the loop: it reads like a pipe, eight bytes at a time.
    expirations: Receiver,
    /// Messages due within this time are spun for.
    busy_poll: Duration,
}

impl SendTimer {
    /// # Errors
    ///
    /// When the kernel grants none.
    pub(crate) fn new(busy_poll: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let expirations = Receiver::from_owned_fd_unchecked(timer.try_clone()?)?;
        Ok(Self { timer, expirations, busy_poll })
    }

    /// Waits for about `duration`, while the loop serves the connections.
    ///
    /// # Errors
    ///
    /// When the timer fails.
    pub(crate) async fn wait(&mut self, duration: Duration) -> io::Result<()> {
        if duration <= self.busy_poll {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let duration = duration.max(SLEEP_MIN);
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
                // Readiness of an earlier timer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome.map(drop),
            }
        }
    }
}

/// Messages due within this time are sent together. Sleeping and waking take about 20 µs of a
/// processor, so a sender that sleeps before each of many messages falls behind.
const SLEEP_MIN: Duration = Duration::from_micros(50);
/// Turns after which a sender that is late yields, so that its queued messages leave.
const TURNS_PER_YIELD: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a task of the loop has its turn while the timer waits.
    fn turns_beside(busy_poll: Duration, wait: Duration) -> (Duration, u32) {
        let turns = Rc::new(std::cell::Cell::new(0));
        let count = Rc::clone(&turns);
        let waited = picows_uring::run(async move {
            let beside = picows_uring::spawn(async move {
                loop {
                    count.set(count.get() + 1);
                    tokio::task::yield_now().await;
                }
            })
            .unwrap();
            let mut timer = SendTimer::new(busy_poll).unwrap();
            let start = std::time::Instant::now();
            timer.wait(wait).await.unwrap();
            beside.abort();
            start.elapsed()
        });
        (waited.unwrap(), turns.get())
    }

    #[test]
    fn what_is_due_soon_is_slept_for_unless_the_user_wants_to_spin() {
        let soon = Duration::from_micros(10);
        let (waited, _) = turns_beside(Duration::ZERO, soon);
        assert!(waited >= SLEEP_MIN, "{waited:?}");
        let (_, turns) = turns_beside(Duration::MAX, soon);
        assert!(turns <= 2, "the caller looks at the clock again, and comes back: {turns}");
        let (waited, _) = turns_beside(Duration::from_micros(5), soon);
        assert!(waited >= SLEEP_MIN, "{waited:?}");
    }
}
