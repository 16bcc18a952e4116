//! A client's handshake in progress, and its outcome.
//!
//! [`Connecting`] belongs to the connection, which is in the stage of the response; the future that
//! awaits it shares the [`ConnectOutcome`].

use super::error::ConnectFault;
use crate::foreign::{self, Foreign, StateCell};
use crate::listener::Listener;
use crate::session::Session;
use crate::transport::Transport;
use picows_uring_proto::{
    ClientHandshake, ResponseError, ResponseHead, ResponseScanner, UpgradeRequest,
};
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::time::timeout;

/// Makes the listener, once the handshake is done.
pub(crate) type MakeListener = Box<dyn FnOnce(&UpgradeRequest, &ResponseHead) -> Box<dyn Listener>>;

/// A client's handshake in progress.
pub(crate) struct Connecting {
    pub(crate) handshake: ClientHandshake,
    /// How much of the response has been searched.
    pub(crate) scanner: ResponseScanner,
    /// The handshake's request, as a server sees it.
    pub(crate) request: Box<UpgradeRequest>,
    /// Shared by all attempts; taken by the one that succeeds.
    pub(crate) make: Rc<Cell<Option<Foreign<MakeListener>>>>,
    pub(crate) outcome: Rc<ConnectOutcome>,
    /// A redirect is followed, whatever its body says.
    pub(crate) follows_redirects: bool,
}

/// The outcome of a handshake, as the connection leaves it for the future that awaits it.
#[derive(Default)]
pub(crate) struct ConnectOutcome {
    result: StateCell<Option<Result<Transport, ConnectFault>>>,
    waker: Cell<Option<Foreign<Waker>>>,
    session: StateCell<Option<Rc<Session>>>,
    /// An answer that is no upgrade, whose body may still be arriving.
    rejected: StateCell<Option<ResponseError>>,
    /// The same of an answer whose head has not ended, as it was when its status was first known.
    unfinished: StateCell<Option<ResponseError>>,
    /// Nobody waits any more.
    is_abandoned: Cell<bool>,
}

impl ConnectOutcome {
    /// The worker has adopted the socket.
    pub(crate) fn attach(&self, session: &Rc<Session>) {
        drop(self.session.replace(Some(Rc::clone(session))));
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// Leaves the outcome, unless there is one.
    pub(crate) fn set(&self, result: Result<Transport, ConnectFault>) {
        if !self.has_result() {
            self.result.replace(Some(result));
        }
        drop(self.session.take());
        foreign::wake(self.waker.take());
    }

    /// An answer arrived that is no upgrade. Its body may follow.
    pub(crate) fn reject(&self, error: ResponseError) {
        drop(self.rejected.replace(Some(error)));
        foreign::wake(self.waker.take());
    }

    /// Adds to the body of an answer that is no upgrade, and tells how much of it is missing;
    /// `None` when there was no such answer.
    pub(crate) fn extend_body(&self, bytes: &[u8]) -> Option<usize> {
        let mut rejected = self.rejected.borrow_mut();
        let response = rejected.as_mut()?.response_mut()?;
        response.extend_body(bytes);
        Some(response.body_missing())
    }

    /// The answer that is no upgrade, as far as it has arrived.
    pub(crate) fn take_rejected(&self) -> Option<ResponseError> {
        self.rejected.take().or_else(|| self.unfinished.take())
    }

    /// The answer that is no upgrade, at the end of the connection; `cut` finds one whose head did
    /// not end.
    pub(crate) fn rejection(
        &self,
        cut: impl FnOnce() -> Option<ResponseError>,
    ) -> Option<ResponseError> {
        self.rejected.take().or_else(cut)
    }

    /// The head of an answer has not ended. `refusal` finds what it says so far, if that is no
    /// upgrade; it is not called again once it has.
    pub(crate) fn unfinished(&self, refusal: impl FnOnce() -> Option<ResponseError>) {
        let mut unfinished = self.unfinished.borrow_mut();
        if unfinished.is_none() {
            *unfinished = refusal();
        }
    }

    /// The time of the handshake is over: the worker ends it once it has handled what had arrived,
    /// and leaves the outcome. `None` when it is not under way.
    pub(super) fn expire(&self) -> Option<Rc<Session>> {
        let session = self.session.borrow().clone()?;
        let now = session.local.now();
        session.conversation.borrow_mut().expire(now);
        session.mark_dirty();
        Some(session)
    }

    /// What whoever waits gets, as far as it is there.
    #[cfg(test)]
    pub(crate) fn take_result(&self) -> Option<Result<Transport, ConnectFault>> {
        self.result.take()
    }

    /// Whoever waits stops doing so.
    #[cfg(test)]
    pub(crate) fn give_up(outcome: Rc<Self>) {
        drop(Abandon(outcome));
    }

    /// Waits for the outcome. When the future is dropped before, so is the connection.
    pub(super) async fn wait(self: Rc<Self>) -> Result<Transport, ConnectFault> {
        let waiting = Abandon(self);
        let outcome = &waiting.0;
        outcome.until(|| outcome.has_result() || outcome.rejected.borrow().is_some()).await;
        if !outcome.has_result() {
            // The end of a body without a length is the end of the connection, which a server
            // that means to keep it does not bring about.
            let waited = timeout(BODY_WAIT, outcome.until(|| outcome.has_result())).await;
            if waited.is_err() && outcome.expire().is_some() {
                // What has arrived of it by now is handled first.
                outcome.until(|| outcome.has_result()).await;
            }
        }
        let result = outcome.result.take();
        result.unwrap_or_else(|| {
            Err(outcome
                .take_rejected()
                .map_or(ConnectFault::Disconnected(None), ConnectFault::Response))
        })
    }

    fn has_result(&self) -> bool {
        self.result.borrow().is_some()
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        poll_fn(|context| {
            if holds() {
                return Poll::Ready(());
            }
            self.waker.set(Some(Foreign::new(context.waker().clone())));
            Poll::Pending
        })
        .await;
    }
}

/// Gives the connection up, unless it was handed out.
struct Abandon(Rc<ConnectOutcome>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.is_abandoned.set(true);
        if let Some(session) = self.0.session.take() {
            Transport::new(session).abort();
        }
        // It may have opened since whoever waits was last asked.
        if let Some(Ok(transport)) = self.0.result.take() {
            transport.abort();
        }
    }
}

/// How long the body of an answer that is no upgrade is waited for: it is there for the error's
/// text, which nobody wants to wait long for.
const BODY_WAIT: Duration = Duration::from_millis(500);
