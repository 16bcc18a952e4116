//! A worker in a loop of the application.
//!
//! Waits for nothing: the application polls its descriptor and has it take its turns. What happens in
//! a turn is the worker's (`worker.rs`), how no wake-up is lost the host's (`host/embedded.rs`).

mod builder;
mod carried;
mod listen;

pub use builder::EmbeddedBuilder;
pub use carried::CarriedServer;
pub use listen::Listening;

#[cfg(doc)]
use crate::client::ConnectFault;
use crate::client::{Attempt, Connect, ConnectError, Intake};
use crate::driver::Driver;
use crate::error::Error;
use crate::foreign::StateCell;
use crate::health::Stats;
use crate::host::{EmbeddedHost, WorkHook};
use crate::listener::Listener;
use crate::local::{Hosting, Local};
use crate::stopper::Stopper;
use crate::transport::Transport;
use crate::worker::Turn;
use picows_uring_proto::{ResponseHead, UpgradeRequest};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A worker without a loop of its own: the application's loop waits for its descriptor ([`AsFd`]) and
/// calls [`turn`](Self::turn) when that is readable. For `poll` and `epoll`, for mio, calloop and GLib,
/// and for loops of other languages.
///
/// One for each thread, on which it stays. All methods take `&self`, so callbacks can have a
/// [`Weak`](std::rc::Weak) of it; an `Rc` in a listener keeps the worker alive, which keeps the
/// listener.
///
/// ```
/// use picows_uring::{Embedded, Turned};
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// let worker = Embedded::builder().build()?;
/// let stopper = worker.stopper();
/// std::thread::spawn(move || stopper.stop());
///
/// let mut turned = worker.turn()?;
/// while turned != Turned::Done {
///     // Beside it, whatever else the loop waits for.
///     poll(&mut [PollFd::new(&worker, PollFlags::IN)], None).expect("no signals come");
///     turned = worker.turn()?;
/// }
/// # Ok::<(), picows_uring::Error>(())
/// ```
///
/// The compiler keeps it on its thread:
///
/// ```compile_fail,E0277
/// let worker = picows_uring::Embedded::builder().build().unwrap();
/// std::thread::spawn(move || worker.turn());
/// ```
pub struct Embedded {
    /// Taken out for the time of a turn. Empty as well once the ring is lost.
    host: StateCell<Option<Box<dyn EmbeddedHost>>>,
    /// Why there is no host any more.
    failure: StateCell<Option<String>>,
    local: Rc<Local>,
    intake: Rc<Intake>,
    hook: Rc<WorkHook>,
    descriptor: Arc<OwnedFd>,
    turns_max: u32,
    drain_timeout: Duration,
    /// Ends last.
    _hosting: Hosting,
}

/// The state that [`Embedded::turn`] leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turned {
    /// Nothing is to be done until the descriptor is readable, or the hook of
    /// [`on_work`](Embedded::on_work) is called.
    Idle,
    /// There is more to do, and the loop may have other business: call [`turn`](Embedded::turn) again
    /// soon. The descriptor is readable, so a loop that waits first does so in vain, and nothing
    /// hangs.
    Busy,
    /// The worker was stopped, and its last connection has ended.
    Done,
}

impl Embedded {
    /// Begins to describe a worker.
    pub fn builder() -> EmbeddedBuilder {
        EmbeddedBuilder::default()
    }

    /// Serves the connections: receives, calls listeners, sends. Never blocks, and takes no more than
    /// [`turns_max`](EmbeddedBuilder::turns_max) turns. To be called when the descriptor is readable,
    /// after [`Turned::Busy`], and when the hook of [`on_work`](Self::on_work) was called; harmless at
    /// any other time.
    ///
    /// # Errors
    ///
    /// [`Error::InsideTurn`] in a callback and in the hook, with nothing done. [`Error::Worker`] when
    /// the ring is lost: all connections have ended, and each further call returns it again.
    pub fn turn(&self) -> Result<Turned, Error> {
        self.turn_within(self.turns_max)
    }

    /// [`turn`](Self::turn), with another limit than [`turns_max`](EmbeddedBuilder::turns_max) for this
    /// call; 0 counts as 1.
    ///
    /// # Errors
    ///
    /// As [`turn`](Self::turn).
    pub fn turn_within(&self, turns_max: u32) -> Result<Turned, Error> {
        if self.hook.is_running() {
            return Err(Error::InsideTurn);
        }
        let Some(mut host) = self.host.take() else { return Err(self.unavailable()) };
        match host.turn(turns_max.max(1)) {
            Ok(turn) => {
                self.host.replace(Some(host));
                Ok(match turn {
                    Turn::Idle => Turned::Idle,
                    Turn::Busy => Turned::Busy,
                    Turn::Done => Turned::Done,
                })
            }
            Err(error) => {
                // Ends the connections.
                drop(host);
                self.failure.replace(Some(format!("its ring is lost: {error}")));
                Err(self.unavailable())
            }
        }
    }

    /// Why there is no host at the moment.
    fn unavailable(&self) -> Error {
        match self.failure.borrow().as_ref() {
            Some(fault) => Error::Worker { worker: 0, fault: fault.clone() },
            None => Error::InsideTurn,
        }
    }

    /// Has `hook` called when work is queued outside of a turn, such as a frame that is sent by a timer
    /// of the application: it schedules a call of [`turn`](Self::turn) (`call_soon` of asyncio, an idle
    /// source of GLib). At most once between two turns, never inside of one, and in the middle of the
    /// call that queues: `turn` is refused there.
    ///
    /// Without a hook, the worker makes its descriptor readable: right as well, and a system call
    /// dearer. Other threads always do that.
    pub fn on_work(&self, hook: impl Fn() + 'static) {
        self.hook.set(hook);
    }

    /// Makes a client connection of a socket that is connected already ([`Connect::socket`]): names,
    /// dialling and redirects are the caller's, who has a loop for them. `make` makes the listener when
    /// request and response are known; `outcome` is called in a turn, once, behind `on_connected`, or
    /// with the reason why there is no connection. A redirect is such a reason
    /// ([`ConnectFault::Redirect`]). The [`handshake_timeout`](Connect::handshake_timeout) is the
    /// worker's to keep, from the next turn on; it is exact to about a millisecond.
    ///
    /// The socket is taken in as a blocking one, and so are all duplicates of its descriptor.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, the URL or an option cannot be used, or the worker has failed
    /// ([`ConnectFault::NoRuntime`]); `outcome` is not called then.
    pub fn connect<L: Listener + 'static>(
        &self,
        connect: Connect,
        make: impl FnOnce(&UpgradeRequest, &ResponseHead) -> L + 'static,
        outcome: impl FnOnce(Result<Transport, ConnectError>) + 'static,
    ) -> Result<Attempt, ConnectError> {
        let is_failed = self.failure.borrow().is_some();
        let intake = (!is_failed).then_some(&*self.intake);
        let make = move |request: &_, response: &_| -> Box<dyn Listener> {
            Box::new(make(request, response))
        };
        connect.begin(&self.local, intake, Box::new(make), Box::new(outcome))
    }

    /// Sends what is queued, as far as the sockets take it, and does nothing else: no callback is
    /// called, and what is left waits for the next turn. For code that sends much before it gets back
    /// to its loop. In a callback it does nothing, as what is queued there leaves with the turn.
    pub fn flush(&self) {
        let Some(mut host) = self.host.take() else { return };
        host.flush();
        self.host.replace(Some(host));
    }

    /// Lets go of a worker in a child process of fork, which has inherited it: closes its descriptors
    /// there, and neither calls a listener nor enters the ring, which is the parent's. What the
    /// connections hold is leaked. After it, the thread of the fork can have a worker of its own.
    ///
    /// A child must do nothing else with a worker that it has inherited: not even drop it.
    pub fn forget_in_child(self) {
        if let Some(host) = self.host.take() {
            host.forget_in_child();
        }
    }

    /// Something that ends the worker from any thread: its connections with CLOSE 1001, and then
    /// [`turn`](Self::turn) with [`Turned::Done`].
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper::new(vec![Arc::clone(&self.local.mailbox)], self.drain_timeout)
    }

    /// What the connections of this worker have done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.local.counters.read()
    }

    /// What the worker runs on: [`Driver::IoUring`] or [`Driver::Epoll`].
    #[must_use]
    pub fn driver(&self) -> Driver {
        self.local.counters.driver()
    }
}

impl AsFd for Embedded {
    /// Readable when a turn is due: the first one, work of the kernel, a deadline, what another thread
    /// has posted. To be watched for reading, by level or by edge, and never read. The same for as long
    /// as the worker lives.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Embedded {
    /// Ends the connections that are open, with CLOSE 1001 as far as their sockets take it at once,
    /// and calls `on_disconnected` for each. [`Embedded::stopper`] and turns until [`Turned::Done`]
    /// give peers the time to answer.
    fn drop(&mut self) {
        if let Some(mut host) = self.host.take() {
            host.leave();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let descriptor = &self.descriptor;
        f.debug_struct("Embedded").field("descriptor", descriptor).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
