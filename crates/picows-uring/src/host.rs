//! How a worker waits: hosted in a tokio-uring loop, where other tasks run beside it.
//!
//! The only place that names tokio-uring. The worker's ring signals an eventfd, which the loop
//! watches; what tokio-uring itself does on its own ring is not our concern.

use crate::ring::kernel::{KernelRing, RingEvent};
use crate::worker::{Turn, Worker};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// Runs `worker` on this thread until it is stopped.
///
/// # Errors
///
/// When the loop cannot be set up, or the worker's ring is lost.
pub(crate) fn run(worker: Worker<KernelRing>) -> io::Result<()> {
    let mut builder = tokio_uring::builder();
    builder.entries(LOOP_ENTRIES);
    tokio_uring::Runtime::new(&builder)?.block_on(drive(worker))
}

async fn drive(mut worker: Worker<KernelRing>) -> io::Result<()> {
    let event = RingEvent::watch(&worker.ring)?;
    let mut busy_turns = 0_u32;
    loop {
        match worker.turn()? {
            Turn::Busy => {
                busy_turns = busy_turns.wrapping_add(1);
                if busy_turns.is_multiple_of(BUSY_TURNS_PER_YIELD) {
                    tokio::task::yield_now().await;
                }
            }
            Turn::Idle => sleep(&worker, &event).await?,
            Turn::Done => return Ok(()),
        }
        let (ring, counters) = (&worker.ring, &worker.shared.counters);
        counters.ring_enters.set(ring.enters());
    }
}

/// Waits until the ring, another thread, or a task of this one has something for the worker.
async fn sleep(worker: &Worker<KernelRing>, event: &RingEvent) -> io::Result<()> {
    let shared = &worker.shared;
    if !shared.mailbox.before_sleep() {
        return Ok(());
    }
    shared.counters.sleeps.increment();
    let woken = poll_fn(|context| poll_woken(worker, event, context)).await;
    shared.waker.borrow_mut().take();
    shared.mailbox.after_sleep();
    woken
}

fn poll_woken(
    worker: &Worker<KernelRing>,
    event: &RingEvent,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if !worker.shared.dirty.borrow().is_empty() {
        return Poll::Ready(Ok(()));
    }
    *worker.shared.waker.borrow_mut() = Some(context.waker().clone());
    event.poll_signal(context)
}

/// The loop's own ring serves what the application does with tokio-uring, such as files.
const LOOP_ENTRIES: u32 = 64;
/// A worker that never runs dry lets the other tasks of its loop run this often.
const BUSY_TURNS_PER_YIELD: u32 = 16;
