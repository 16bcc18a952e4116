//! Hosted workers: tasks of a tokio loop, which polls the descriptor of their ring.
//!
//! The one file that names tokio-uring. What that does on its own ring is not our concern.

use super::event_loop::LoopKind;
use super::nesting::is_inside_runtime;
use super::{BusyPoll, Host, has_other_worker};
use crate::client::Registration;
use crate::local::{HostKind, Hosting, Local, Wake};
use crate::ring::uring::StartError;
use crate::ring::{Ring, RingEvent, Wait, WaitMode};
use crate::worker::{Turn, Worker};
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

/// A loop on this thread.
pub(crate) struct Loop(Option<Inner>);

enum Inner {
    TokioUring(tokio_uring::Runtime),
    Tokio(LocalRuntime),
}

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
    /// When there is too little of something: each loop has descriptors, and tokio-uring's a ring.
    pub(crate) fn new(kind: LoopKind) -> Result<Self, StartError> {
        find_spare_descriptors()?;
        Ok(Self(Some(match kind {
            LoopKind::TokioUring => {
                let mut builder = tokio_uring::builder();
                builder.entries(LOOP_ENTRIES);
                Inner::TokioUring(tokio_uring::Runtime::new(&builder)?)
            }
            LoopKind::Tokio => {
                let mut builder = Builder::new_current_thread();
                Inner::Tokio(builder.enable_all().build_local(LocalOptions::default())?)
            }
        })))
    }

    /// Runs `future` to its end.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        // Not as the output of what the loop polls: it would hand on room for one with each poll, and
        // a worker has two kilobytes.
        let mut output = None;
        let run = async { output = Some(future.await) };
        match self.0.as_ref().expect("only `drop` takes it") {
            Inner::TokioUring(runtime) => runtime.block_on(run),
            Inner::Tokio(runtime) => runtime.block_on(run),
        }
        output.expect("the loop ends with the future")
    }
}

/// Fails where there are too few descriptors for a loop. Where tokio watches signals, it would panic: it
/// makes sockets for that once in a process.
fn find_spare_descriptors() -> io::Result<()> {
    let spare: io::Result<Vec<_>> =
        (0..DESCRIPTORS_OF_LOOP / 2).map(|_| UnixStream::pair()).collect();
    spare.map(drop)
}

/// Drives `worker` in the loop of this thread until it is stopped or [released](release), and gives
/// it back.
///
/// # Errors
///
/// When the worker's ring is lost.
pub(crate) async fn drive<R: Ring + Wait>(
    worker: Worker<R>,
    busy_poll: BusyPoll,
) -> io::Result<Worker<R>> {
    let _hosting = Hosting::begin(&worker.local, HostKind::Loop).ok_or_else(has_other_worker)?;
    let _registration = Registration::begin(worker.intake());
    let event = RingEvent::watch(&worker.ring)?;
    let mut host = Host::new(worker, WaitMode::Hosted, busy_poll);
    // Spinning looks at the descriptor alone.
    if busy_poll == BusyPoll::default() {
        host.worker.ring.join_loop();
    }
    let driven = take_turns(&mut host, &event).await;
    host.worker.ring.leave_loop();
    driven.map(|()| host.worker)
}

/// Takes turns, and sleeps between them, until the worker is stopped or released.
async fn take_turns<R: Ring + Wait>(host: &mut Host<R>, event: &RingEvent) -> io::Result<()> {
    // Since when other tasks have not run; a sleep lets them.
    let (mut busy_turns, mut busy_since) = (0_u32, None);
    while !host.worker.local.is_released.take() {
        let turn = host.turn()?;
        let begun = *busy_since.get_or_insert_with(|| host.worker.local.now.get());
        match turn {
            Turn::Busy => {
                busy_turns = busy_turns.wrapping_add(1);
                let now = host.worker.local.now();
                let is_long = now.duration_since(begun) >= BUSY_TIME_PER_YIELD;
                if is_long || busy_turns.is_multiple_of(BUSY_TURNS_PER_YIELD) {
                    tokio::task::yield_now().await;
                    busy_since = Some(now);
                }
            }
            Turn::Idle => {
                host.begin_idle();
                let mut spin = host.spin();
                while spin.lasts(host) {
                    tokio::task::yield_now().await;
                }
                if host.before_sleep() {
                    let woken = sleep(&mut host.worker, event).await;
                    host.after_sleep();
                    woken?;
                    busy_since = None;
                }
            }
            Turn::Done => break,
        }
    }
    Ok(())
}

/// Has the loop of this thread give back the worker of `shared` before its next turn.
pub(crate) fn release(local: &Local) {
    local.is_released.set(true);
    local.wake();
}

/// Waits until the ring, at the deadline at the latest, another thread, or a task of this one has
/// something for the worker.
async fn sleep<R: Ring + Wait>(worker: &mut Worker<R>, event: &RingEvent) -> io::Result<()> {
    let mut is_woken = false;
    let woken = poll_fn(|context| {
        if std::mem::replace(&mut is_woken, true) {
            // Mostly for a reason, and then nothing need be registered.
            let is_signalled = event.take_signal();
            if worker.ring.poll_sockets(context, is_signalled).is_ready() {
                return Poll::Ready(Ok(()));
            }
        }
        poll_woken(worker, event, context)
    })
    .await;
    drop(worker.local.wake.take());
    woken
}

fn poll_woken<R: Ring + Wait>(
    worker: &mut Worker<R>,
    event: &RingEvent,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if worker.has_local_work() || worker.local.is_released.get() {
        // Together with what the loop has found meanwhile.
        return worker.ring.poll_sockets(context, true).map(Ok);
    }
    drop(worker.local.wake.replace(Wake::Task(context.waker().clone())));
    let signal = event.poll_signal(context)?;
    worker.ring.poll_sockets(context, signal.is_ready()).map(Ok)
}

/// Its epoll descriptor and eventfd, and the pair of sockets for signals with a copy of one.
const DESCRIPTORS_OF_LOOP: usize = 6;
/// The loop's own ring serves what the application does with tokio-uring, such as files.
const LOOP_ENTRIES: u32 = 64;
/// A worker that never runs dry lets the other tasks of its loop run this often.
const BUSY_TURNS_PER_YIELD: u32 = 16;
/// And this often when its turns are long, as with a peer that floods it with tiny frames.
const BUSY_TIME_PER_YIELD: Duration = Duration::from_millis(1);
