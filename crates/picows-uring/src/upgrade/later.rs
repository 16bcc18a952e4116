//! A decision about a request that takes time: a future, run in the loop of the worker.
//!
//! The connection owns it, and drops the future at once when it ends.

use super::Upgrade;
use crate::foreign::{self, StateCell};
use crate::listener::ListenerError;
use crate::local;
use crate::session::Session;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::task::AbortHandle;

/// A future that comes to an answer.
pub(crate) type Later = Pin<Box<dyn Future<Output = Made>>>;
/// The answer of a factory.
pub(crate) type Made = Result<Upgrade, ListenerError>;

/// There is no loop to run the future of [`Upgrade::later`].
#[derive(Debug, thiserror::Error)]
#[error(
    "Upgrade::later needs a loop, and a dedicated or embedded worker has none: decide at once, or \
     leave out ServerBuilder::dedicated"
)]
pub(crate) struct NoLoop;

/// A decision that is awaited. Dropping it drops the future.
pub(crate) struct Decision {
    state: Rc<StateCell<State>>,
    task: AbortHandle,
}

/// The progress of a decision.
#[derive(Default)]
enum State {
    Pending(Later),
    Polling,
    Made(Made),
    /// It was taken, or is awaited no longer.
    #[default]
    Over,
}

impl Decision {
    /// Runs `later` as a task of this thread, beside the connections, and has `session` served when
    /// it is done.
    ///
    /// # Errors
    ///
    /// When no loop runs on this thread.
    pub(crate) fn begin(later: Later, session: &Rc<Session>) -> Result<Self, NoLoop> {
        if local::current().is_none() {
            foreign::discard(later);
            return Err(NoLoop);
        }
        let state = Rc::new(StateCell::new(State::Pending(later)));
        let (polled, session) = (Rc::clone(&state), Rc::clone(session));
        let task = tokio::task::spawn_local(async move {
            poll_fn(|context| poll(&polled, context)).await;
            session.mark_dirty();
        });
        Ok(Self { state, task: task.abort_handle() })
    }

    /// The answer, if it is there.
    pub(crate) fn take(&self) -> Option<Made> {
        if !matches!(*self.state.borrow(), State::Made(_)) {
            return None;
        }
        match self.state.take() {
            State::Made(made) => Some(made),
            _ => None,
        }
    }
}

/// Polls the future, with nothing borrowed.
fn poll(state: &StateCell<State>, context: &mut Context<'_>) -> Poll<()> {
    let mut later = match state.replace(State::Polling) {
        State::Pending(later) => later,
        over => {
            drop(state.replace(over));
            return Poll::Ready(());
        }
    };
    let made = match foreign::call(|| later.as_mut().poll(context)) {
        Ok(Poll::Pending) if matches!(*state.borrow(), State::Polling) => {
            drop(state.replace(State::Pending(later)));
            return Poll::Pending;
        }
        Ok(Poll::Pending) => None,
        Ok(Poll::Ready(made)) => Some(made),
        Err(panicked) => Some(Err(panicked.into())),
    };
    foreign::discard(later);
    if let Some(made) = made
        && matches!(*state.borrow(), State::Polling)
    {
        drop(state.replace(State::Made(made)));
    }
    Poll::Ready(())
}

impl Drop for Decision {
    fn drop(&mut self) {
        foreign::discard(self.state.take());
        self.task.abort();
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision").finish_non_exhaustive()
    }
}
