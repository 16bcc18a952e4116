//! A client's handshake in progress, and its outcome.
//!
//! [`Connecting`] belongs to the connection, which is in the stage of the response; the future that
//! awaits it, or the [`Attempt`](super::Attempt), shares the [`ConnectOutcome`].

use super::error::ConnectFault;
#[cfg(feature = "_tls")]
use super::proxy::ProxyTls;
#[cfg(feature = "_tls")]
use super::secure::NewTls;
use crate::foreign::{self, Foreign, StateCell};
use crate::listener::Listener;
use crate::session::Session;
use crate::transport::Transport;
use picows_uring_proto::{
    ClientHandshake, HeadReceiver, ResponseError, ResponseHead, UpgradeRequest,
};
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Makes the listener, once the handshake is done.
pub(crate) type MakeListener = Box<dyn FnOnce(&UpgradeRequest, &ResponseHead) -> Box<dyn Listener>>;

/// Takes the outcome of a handshake, and whether its time was over.
pub(super) type TakeOutcome = Box<dyn FnOnce(Result<Transport, ConnectFault>, bool)>;

/// A client's handshake in progress.
pub(crate) struct Connecting {
    pub(crate) handshake: ClientHandshake,
    /// Receives the head of the response.
    pub(crate) head: HeadReceiver<ResponseHead>,
    /// The handshake's request, as a server sees it.
    pub(crate) request: Box<UpgradeRequest>,
    /// Shared by all attempts; taken by the one that succeeds.
    pub(crate) make: Rc<Cell<Option<Foreign<MakeListener>>>>,
    pub(crate) outcome: Rc<ConnectOutcome>,
    /// A redirect is followed, whatever its body says.
    pub(crate) follows_redirects: bool,
    /// TLS comes first.
    #[cfg(feature = "_tls")]
    pub(crate) tls: Option<Box<NewTls>>,
    /// TLS to a proxy is around all of it.
    #[cfg(feature = "_tls")]
    pub(crate) proxy: Option<Box<ProxyTls>>,
}

/// The outcome of a handshake, as the connection leaves it for the future that awaits it, or hands it
/// to a callback.
#[derive(Default)]
pub(crate) struct ConnectOutcome {
    result: StateCell<Option<Result<Transport, ConnectFault>>>,
    waker: Cell<Option<Foreign<Waker>>>,
    callback: Cell<Option<Foreign<TakeOutcome>>>,
    session: StateCell<Option<Rc<Session>>>,
    /// An answer that is no upgrade, whose body may still be arriving.
    rejected: StateCell<Option<ResponseError>>,
    /// The same of an answer whose head has not ended, as it was when its status was first known.
    unfinished: StateCell<Option<ResponseError>>,
    /// No future waits any more.
    is_abandoned: Cell<bool>,
    /// The handshake of TLS is under way.
    is_in_tls: Cell<bool>,
}

impl ConnectOutcome {
    /// An outcome that is handed to `callback` as soon as it is there.
    pub(super) fn with_callback(callback: TakeOutcome) -> Self {
        Self { callback: Cell::new(Some(Foreign::new(callback))), ..Self::default() }
    }

    /// The handshake of TLS comes first.
    #[cfg(feature = "_tls")]
    pub(super) fn begin_tls(&self) {
        self.is_in_tls.set(true);
    }

    /// The handshake of TLS is done.
    #[cfg(feature = "_tls")]
    pub(crate) fn tls_done(&self) {
        self.is_in_tls.set(false);
    }

    /// Whether the handshake of TLS is under way.
    pub(super) fn is_in_tls(&self) -> bool {
        self.is_in_tls.get()
    }

    /// The worker has adopted the socket.
    pub(crate) fn attach(&self, session: &Rc<Session>) {
        drop(self.session.replace(Some(Rc::clone(session))));
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// Leaves the outcome, unless there is one, or hands it to the callback.
    pub(crate) fn set(&self, result: Result<Transport, ConnectFault>) {
        let session = self.session.take();
        if let Some(callback) = self.callback.take() {
            let has_timed_out = session.is_some_and(|session| session.has_timed_out());
            let callback = callback.into_inner();
            let call = || callback(result, has_timed_out);
            return foreign::run("call", "the outcome of a connection", call);
        }
        if !self.has_result() {
            self.result.replace(Some(result));
        }
        foreign::wake(self.waker.take());
    }

    /// The caller waits no longer: ends the connection, unless it was handed out.
    pub(super) fn abandon(&self) {
        self.is_abandoned.set(true);
        drop(self.callback.take());
        if let Some(session) = self.session.take() {
            Transport::new(session).abort();
        }
        // It may have opened since the future was last polled.
        if let Some(Ok(transport)) = self.result.take() {
            transport.abort();
        }
    }

    /// An answer arrived that is no upgrade. Its body may follow.
    pub(crate) fn reject(&self, error: ResponseError) {
        drop(self.rejected.replace(Some(error)));
    }

    /// Adds to the body of an answer that is no upgrade, and returns how much of it is missing;
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

    /// The outcome for the waiting future, as far as it is there.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn take_result(&self) -> Option<Result<Transport, ConnectFault>> {
        self.result.take()
    }

    /// The future that waits is dropped.
    #[cfg(test)]
    pub(crate) fn give_up(outcome: Rc<Self>) {
        drop(Abandon(outcome));
    }

    /// Waits for the outcome. When the future is dropped before, so is the connection.
    pub(super) async fn wait(self: Rc<Self>) -> Result<Transport, ConnectFault> {
        let waiting = Abandon(self);
        let outcome = &waiting.0;
        outcome.until(|| outcome.has_result()).await;
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
        self.0.abandon();
    }
}
