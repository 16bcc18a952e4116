//! Tasks: futures of the application that run beside the connections of a loop.
//!
//! A panic of a task ends that task: it is reported to the task that awaits it, or else logged and
//! counted. Which loop runs them is in `host/hosted.rs`.

use crate::foreign::log::{self, LogLine, log_limited};
use crate::foreign::{self, Foreign, Panicked};
use crate::health::Counter;
use crate::local;
use picows_uring_proto::internal::debug_with_text;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use thiserror::Error;

/// Starts a task beside the connections of this thread: in [`run`](crate::run), in
/// [`Runtime::block_on`](crate::Runtime::block_on), or from a callback of a listener, unless its
/// worker is dedicated or [embedded](crate::Embedded).
///
/// The task may use anything that runs on tokio. It shares the thread with the data path: while it
/// computes, no connection is served.
///
/// A panic ends the task and nothing else. The task that awaits it gets [`TaskError`]; if there is
/// none at that time, the panic is logged at level ERROR, with the place of this call, and counted in
/// [`Stats::task_panics`](crate::Stats::task_panics). `tokio::task::block_in_place` and `block_on`
/// panic in tasks, as they would block the thread.
///
/// # Errors
///
/// When no loop runs on this thread.
///
/// ```
/// picows_uring::run(async {
///     let task = picows_uring::spawn(async { 6 * 7 })?;
///     assert_eq!(task.await?, 42);
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[track_caller]
pub fn spawn<F: Future + 'static>(future: F) -> Result<Task<F::Output>, SpawnError> {
    if local::current().is_none() {
        return Err(SpawnError);
    }
    let fate = Arc::new(Fate { spawned_at: Location::caller(), state: Mutex::default() });
    let guarded = Guarded::new(future);
    let seen = Arc::clone(&fate);
    let handle = tokio::task::spawn_local(async move {
        let outcome = guarded.await;
        if let Err(panicked) = &outcome {
            seen.panicked(panicked);
        }
        outcome.map(Foreign::new)
    });
    Ok(Task { handle, fate })
}

/// No loop runs on this thread, so there is nothing to run a task.
///
/// ```
/// assert_eq!(picows_uring::spawn(async {}).map(drop), Err(picows_uring::SpawnError));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "no loop runs on this thread to run a task: call it inside picows_uring::run, or from a \
     callback of a worker that is hosted; a dedicated worker runs no tasks, nor does an embedded \
     one"
)]
pub struct SpawnError;

debug_with_text! { SpawnError }

/// A task that was started with [`spawn`]. Awaited, it yields what the task came to; dropped, the
/// task goes on. It runs on the thread that started it.
///
/// ```
/// let outcome = picows_uring::run(async {
///     let task = picows_uring::spawn(async { 6 * 7 })?;
///     assert_eq!(task.await, Ok(42));
///     let task = picows_uring::spawn(std::future::pending::<()>())?;
///     task.abort();
///     println!("{}", task.await.unwrap_err()); // The task did not finish.
///     Ok::<(), picows_uring::SpawnError>(())
/// })?;
/// assert_eq!(outcome, Ok(()));
/// # Ok::<(), picows_uring::Error>(())
/// ```
pub struct Task<T> {
    handle: tokio::task::JoinHandle<Result<Foreign<T>, Panicked>>,
    fate: Arc<Fate>,
}

/// A task panicked or was aborted; [`Task`] has an example.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("the task did not finish: {0}")]
pub struct TaskError(String);

debug_with_text! { TaskError }

/// The earlier name of [`TaskError`].
#[deprecated(since = "0.2.0", note = "renamed to `TaskError`")]
pub type TaskFailed = TaskError;

impl<T> Task<T> {
    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.handle.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Before it is asked: it may run on another thread.
        self.fate.is_awaited(true);
        let outcome = match Pin::new(&mut self.handle).poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(outcome) => outcome,
        };
        self.fate.take();
        Poll::Ready(match outcome {
            Ok(Ok(output)) => Ok(output.into_inner()),
            Ok(Err(panicked)) => Err(TaskError(panicked.to_string())),
            Err(error) => Err(TaskError(error.to_string())),
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // It was awaited once, and given up since.
        self.fate.is_awaited(false);
        if let Some(panicked) = self.fate.take() {
            report(self.fate.spawned_at, &panicked);
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("spawned_at", &self.fate.spawned_at).finish_non_exhaustive()
    }
}

/// The state that a task and its handle share.
struct Fate {
    spawned_at: &'static Location<'static>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_awaited: bool,
    /// A panic that the task which awaited this one has not been given yet.
    panicked: Option<Panicked>,
}

impl Fate {
    fn is_awaited(&self, is_awaited: bool) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_awaited = is_awaited;
    }

    fn take(&self) -> Option<Panicked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).panicked.take()
    }

    fn panicked(&self, panicked: &Panicked) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_awaited {
            state.panicked = Some(panicked.clone());
            return;
        }
        drop(state);
        report(self.spawned_at, panicked);
    }
}

#[cold]
fn report(spawned_at: &Location<'_>, panicked: &Panicked) {
    match local::current() {
        Some(local) => {
            Counter::increment(&local.counters.task_panics);
            log_limited!(error, local, LogLine::TaskPanicked, %panicked, %spawned_at);
        }
        // Of a loop that ends.
        None => log::error!(%panicked, %spawned_at, "{}", LogLine::TaskPanicked.text()),
    }
}

/// A future of the application, polled and dropped in the guard.
pub(crate) struct Guarded<F> {
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Guarded<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let outcome = match foreign::call(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panicked) => Err(panicked),
        };
        foreign::discard(self.future.take());
        Poll::Ready(outcome)
    }
}

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            foreign::discard(future);
        }
    }
}
