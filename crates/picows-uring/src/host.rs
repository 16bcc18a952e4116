//! How a worker waits between its turns.
//!
//! Hosted: in a tokio-uring loop, where other tasks run beside it. Dedicated: in its own ring, with
//! nothing else on the thread. Both can spin for a while before they sleep. The only place that
//! names tokio-uring; what that does on its own ring is not our concern.

use crate::error::Error;
use crate::foreign::{self};
use crate::local::{Hosting, Shared};
use crate::ring::uring::{StartError, UringRing};
use crate::ring::{Ring, RingEvent, Wait};
use crate::worker::{Turn, Worker};
use picows_uring_proto::Tick;
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::coop;

pub(crate) use tokio_uring::spawn;

/// How long a worker spins on its ring after the last activity before it sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusyPoll(pub(crate) Duration);

/// Fails where tokio would panic: a loop cannot run, nor end, inside of another.
pub(crate) fn refuse_inside_runtime() -> Result<(), Error> {
    if is_inside_runtime() { Err(Error::InsideRuntime) } else { Ok(()) }
}

/// Whether this thread polls a future of a tokio runtime, whose loop must not be blocked.
fn is_inside_runtime() -> bool {
    let Ok(handle) = Handle::try_current() else { return false };
    // Also known in `spawn_blocking` and beside an `enter` guard, where blocking is allowed. Only what
    // is polled has a budget, unless that was switched off; then only an attempt tells.
    is_budgeted() || foreign::call(|| handle.block_on(std::future::ready(()))).is_err()
}

/// Whether tokio bounds what is done here until the next `await`, by spending all of it.
fn is_budgeted() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    (0..BUDGET_MAX).any(|_| match coop::poll_proceed(&mut context) {
        Poll::Ready(unit) => {
            unit.made_progress();
            false
        }
        Poll::Pending => true,
    })
}

/// A tokio-uring loop on this thread.
pub(crate) struct Loop(Option<tokio_uring::Runtime>);

impl Drop for Loop {
    /// Inside of another runtime, tokio would panic: then the loop is leaked.
    fn drop(&mut self) {
        if is_inside_runtime() {
            std::mem::forget(self.0.take());
        }
    }
}

impl Loop {
    /// # Errors
    ///
    /// When there is too little of something: the loop has a ring of its own.
    pub(crate) fn new() -> Result<Self, StartError> {
        let mut builder = tokio_uring::builder();
        builder.entries(LOOP_ENTRIES);
        Ok(Self(Some(tokio_uring::Runtime::new(&builder)?)))
    }

    /// Runs `future` to its end.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("only `drop` takes it").block_on(future)
    }
}

/// Drives `worker` in the loop of this thread until it is stopped or [released](release), and gives
/// it back.
///
/// # Errors
///
/// When the worker's ring is lost.
pub(crate) async fn drive(
    mut worker: Worker<UringRing>,
    busy_poll: BusyPoll,
) -> io::Result<Worker<UringRing>> {
    let _hosting = Hosting::begin(&worker.shared);
    let event = RingEvent::watch(&worker.ring)?;
    let (mut busy_turns, mut yielded) = (0_u32, worker.ring.now());
    while !worker.shared.is_released.take() {
        match worker.turn()? {
            Turn::Busy => {
                busy_turns = busy_turns.wrapping_add(1);
                let now = worker.shared.now().duration_since(Tick::ZERO);
                let is_long = now.saturating_sub(yielded) >= BUSY_TIME_PER_YIELD;
                if is_long || busy_turns.is_multiple_of(BUSY_TURNS_PER_YIELD) {
                    tokio::task::yield_now().await;
                    yielded = now;
                }
            }
            Turn::Idle => {
                worker.shared.idle_since.set(Some(Instant::now()));
                let mut spin = Spin::begin(&worker, busy_poll);
                while spin.lasts(&mut worker) {
                    tokio::task::yield_now().await;
                }
                worker.ring.set_signals(true);
                if !worker_has_news(&mut worker) {
                    sleep(&worker, &event).await?;
                    yielded = worker.ring.now();
                }
                worker.ring.set_signals(false);
            }
            Turn::Done => break,
        }
        worker.shared.counters.ring_enters.set(worker.ring.enters());
    }
    Ok(worker)
}

/// Has the loop of this thread give back the worker of `shared` before its next turn.
pub(crate) fn release(shared: &Shared) {
    shared.is_released.set(true);
    shared.wake();
}

/// Runs `worker` on this thread, which does nothing else, until it is stopped. Its ring is that of a
/// dedicated worker.
///
/// # Errors
///
/// When the worker's ring is lost.
pub(crate) fn run_dedicated(mut worker: Worker<UringRing>, busy_poll: BusyPoll) -> io::Result<()> {
    loop {
        match worker.turn()? {
            Turn::Busy => {}
            Turn::Idle => {
                let mut spin = Spin::begin(&worker, busy_poll);
                while spin.lasts(&mut worker) {}
                if !worker_has_news(&mut worker) && worker.shared.mailbox.before_sleep() {
                    worker.shared.counters.sleeps.increment();
                    let woken = worker.ring.wait();
                    worker.shared.mailbox.after_sleep();
                    woken?;
                }
            }
            Turn::Done => return Ok(()),
        }
        worker.shared.counters.ring_enters.set(worker.ring.enters());
    }
}

/// Looking at the ring again and again instead of sleeping.
///
/// The kernel raises a flag in the memory of the ring when it has something, so looking costs no
/// system call.
struct Spin {
    /// When the worker last had something to do.
    start: Duration,
    limit: Duration,
}

impl Spin {
    fn begin(worker: &Worker<UringRing>, busy_poll: BusyPoll) -> Self {
        let start = if busy_poll.0.is_zero() { Duration::ZERO } else { worker.ring.now() };
        Self { start, limit: busy_poll.0 }
    }

    /// Spins for a moment. `false` when there is news, or the time is over.
    fn lasts(&mut self, worker: &mut Worker<UringRing>) -> bool {
        if self.limit.is_zero() {
            return false;
        }
        let begin = worker.ring.now();
        loop {
            for _ in 0..SPINS_PER_CLOCK {
                if worker_has_news(worker) {
                    return false;
                }
                std::hint::spin_loop();
            }
            worker.shared.counters.spins.add(u64::from(SPINS_PER_CLOCK));
            let now = worker.ring.now();
            if now.saturating_sub(self.start) >= self.limit {
                return false;
            }
            if now.saturating_sub(begin) >= SPIN_MOMENT {
                return true;
            }
        }
    }
}

fn worker_has_news(worker: &mut Worker<UringRing>) -> bool {
    worker.has_work() || worker.shared.mailbox.has_mail() || worker.shared.is_released.get()
}

/// Waits until the ring, another thread, or a task of this one has something for the worker.
async fn sleep(worker: &Worker<UringRing>, event: &RingEvent) -> io::Result<()> {
    let shared = &worker.shared;
    if !shared.mailbox.before_sleep() {
        return Ok(());
    }
    shared.counters.sleeps.increment();
    let woken = poll_fn(|context| poll_woken(shared, event, context)).await;
    drop(shared.waker.take());
    shared.mailbox.after_sleep();
    woken
}

fn poll_woken(
    shared: &Shared,
    event: &RingEvent,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if shared.has_work() || shared.is_released.get() {
        return Poll::Ready(Ok(()));
    }
    drop(shared.waker.replace(Some(context.waker().clone())));
    event.poll_signal(context)
}

/// More than tokio lets a task do before it has to wait: 128, in 2026.
const BUDGET_MAX: usize = 1024;
/// The loop's own ring serves what the application does with tokio-uring, such as files.
const LOOP_ENTRIES: u32 = 64;
/// A worker that never runs dry lets the other tasks of its loop run this often.
const BUSY_TURNS_PER_YIELD: u32 = 16;
/// And this often when its turns are long, as with a peer that floods it with tiny frames.
const BUSY_TIME_PER_YIELD: Duration = Duration::from_millis(1);
/// Looks at the ring between two looks at the clock, which is the dearer of the two.
const SPINS_PER_CLOCK: u32 = 32;
/// How long a worker spins before it lets the other tasks of its loop run, which costs two system
/// calls.
const SPIN_MOMENT: Duration = Duration::from_micros(50);
