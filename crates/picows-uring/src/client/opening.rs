//! What a connection carries while its handshake is under way, and how its maker hears of it.

use super::error::ConnectFault;
use crate::config::Config;
use crate::listener::Listener;
use crate::session::Session;
use crate::transport::Transport;
use picows_uring_proto::{ClientHandshake, ResponseError, ResponseHead, UpgradeRequest};
use rustix::fd::OwnedFd;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A connected socket that the worker is to take in.
pub(crate) struct Recruit {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) config: Arc<Config>,
    pub(crate) opening: Opening,
}

impl fmt::Debug for Recruit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recruit").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Makes the listener, once the handshake is done.
pub(crate) type MakeListener = Box<dyn FnOnce(&UpgradeRequest, &ResponseHead) -> Box<dyn Listener>>;

/// A handshake that is under way, on the client's side.
pub(crate) struct Opening {
    pub(crate) handshake: ClientHandshake,
    /// Shared by all attempts; taken by the one that succeeds.
    pub(crate) make: Rc<Cell<Option<MakeListener>>>,
    pub(crate) outcome: Rc<Outcome>,
    /// An answer that is no upgrade, whose body is still arriving.
    pub(crate) rejected: Option<ResponseError>,
}

/// Where the worker leaves the outcome of a handshake.
#[derive(Default)]
pub(crate) struct Outcome {
    result: RefCell<Option<Result<Transport, ConnectFault>>>,
    waker: Cell<Option<Waker>>,
    session: RefCell<Option<Rc<Session>>>,
    /// Nobody waits any more.
    is_abandoned: Cell<bool>,
}

impl Outcome {
    /// The worker has taken the connection in.
    pub(crate) fn attach(&self, session: &Rc<Session>) {
        *self.session.borrow_mut() = Some(Rc::clone(session));
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// Leaves the outcome, unless there is one.
    pub(crate) fn set(&self, result: Result<Transport, ConnectFault>) {
        self.result.borrow_mut().get_or_insert(result);
        self.session.take();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the outcome. When the future is dropped before, so is the connection.
    pub(super) async fn wait(self: Rc<Self>) -> Result<Transport, ConnectFault> {
        let waiting = Abandon(self);
        poll_fn(|context| match waiting.0.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                waiting.0.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

struct Abandon(Rc<Outcome>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.is_abandoned.set(true);
        if let Some(session) = self.0.session.take() {
            Transport::new(session).abort();
        }
    }
}
