//! Sockets that tasks of this thread have connected, until its worker adopts them.
//!
//! The worker owns the intake; the host of a thread makes it known to the tasks there.

use super::connecting::Connecting;
use super::error::ConnectFault;
use crate::config::Config;
use crate::foreign::StateCell;
use crate::local;
use crate::ring::Socket;
use rustix::fd::OwnedFd;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The bytes of a connection that is to be adopted.
pub(crate) enum NewStream {
    Descriptor(OwnedFd),
    /// Brought by a carrier that the worker knows.
    Carried(Socket),
}

/// A connected socket for the worker to adopt.
pub(crate) struct NewSocket {
    pub(crate) socket: NewStream,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) config: Arc<Config>,
    pub(crate) connecting: Connecting,
}

impl fmt::Debug for NewSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSocket").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The connected sockets of one worker, in their order.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    sockets: StateCell<Vec<NewSocket>>,
}

impl Intake {
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.borrow().is_empty()
    }

    pub(super) fn put(&self, socket: NewSocket) {
        self.sockets.borrow_mut().push(socket);
    }

    pub(crate) fn take(&self) -> Vec<NewSocket> {
        self.sockets.take()
    }
}

/// Hands a connected socket to the worker that the loop of this thread hosts.
///
/// # Errors
///
/// [`ConnectFault::NoRuntime`] where there is none, or none any more.
pub(super) fn hand_over(socket: NewSocket) -> Result<(), ConnectFault> {
    let worker = local::current().ok_or(ConnectFault::NoRuntime)?;
    current().ok_or(ConnectFault::NoRuntime)?.put(socket);
    worker.wake();
    Ok(())
}

thread_local! {
    /// The intake of the worker that the loop of this thread hosts.
    static CURRENT: StateCell<Option<Rc<Intake>>> = const { StateCell::new(None) };
}

fn current() -> Option<Rc<Intake>> {
    // Not while the thread ends: what its other variables drop may ask.
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Makes an intake known to the tasks of this thread, until it is dropped.
pub(crate) struct Registration;

impl Registration {
    pub(crate) fn begin(intake: &Rc<Intake>) -> Self {
        CURRENT.with(|current| drop(current.replace(Some(Rc::clone(intake)))));
        Self
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(StateCell::take);
    }
}
