//! Embedded workers: a loop of the application waits for their descriptor and takes their turns.
//!
//! The order that loses no wake-up is that of every host (`host.rs`), spread over two calls: one
//! ends with `before_sleep`, and the next begins with `after_sleep`.

use super::{BusyPoll, Host};
use crate::foreign::{self, Foreign, StateCell};
use crate::local::{Local, Wake};
use crate::mailbox::Mailbox;
use crate::ring::{ListenerId, Ring, Socket, Wait, WaitMode, close_inherited};
use crate::worker::{Listening, Turn, Worker};
use std::cell::Cell;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

/// A worker that takes turns and never waits, on a ring of either driver.
pub(crate) trait EmbeddedHost {
    /// Takes turns until one is idle, `turns_max` at the most.
    ///
    /// # Errors
    ///
    /// When the ring is lost.
    fn turn(&mut self, turns_max: u32) -> io::Result<Turn>;

    /// Sends what is queued, as far as sockets take it. Calls no listener.
    fn flush(&mut self);

    /// Accepts connections on `socket` from the next turn on.
    fn listen(&mut self, socket: OwnedFd, listening: &Listening) -> ListenerId;

    /// Serves a stream that was accepted elsewhere, from the next turn on.
    fn serve(&mut self, stream: Socket, listening: Listening);

    /// Closes what a child process of fork has inherited of it, and touches nothing that the child shares
    /// with its parent.
    fn forget_in_child(self: Box<Self>);

    /// Sends CLOSE 1001 to all connections, as far as sockets take it: the worker is dropped next.
    fn leave(&mut self);
}

/// Announces work that is queued between two turns: by the application's hook, or by the descriptor
/// of the worker.
pub(crate) struct WorkHook {
    hook: StateCell<Option<Hook>>,
    is_running: Cell<bool>,
    /// The descriptor was made readable.
    is_signalled: Cell<bool>,
    mailbox: Arc<Mailbox>,
}

/// The application's; it may replace itself while it runs.
type Hook = Rc<Foreign<Box<dyn Fn()>>>;

impl WorkHook {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Rc<Self> {
        Rc::new(Self {
            hook: StateCell::default(),
            is_running: Cell::new(false),
            is_signalled: Cell::new(false),
            mailbox,
        })
    }

    pub(crate) fn set(&self, hook: impl Fn() + 'static) {
        drop(self.hook.replace(Some(Rc::new(Foreign::new(Box::new(hook))))));
    }

    /// Whether the hook is being called.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running.get()
    }

    fn announce(&self) {
        let hook = self.hook.borrow().clone();
        match hook {
            Some(hook) => {
                self.is_running.set(true);
                foreign::run("call", "the hook of on_work", || hook());
                self.is_running.set(false);
            }
            None => self.signal(),
        }
    }

    fn signal(&self) {
        self.is_signalled.set(true);
        self.mailbox.raise();
    }
}

/// Prepares `worker` for a loop of the application.
pub(crate) fn embed<R: Ring + Wait + 'static>(
    worker: Worker<R>,
    hook: Rc<WorkHook>,
) -> Box<dyn EmbeddedHost> {
    let host = Host::new(worker, WaitMode::Hosted, BusyPoll::default());
    // Its first turn is due.
    hook.signal();
    let announcer = Rc::clone(&hook);
    let wake: Rc<dyn Fn()> = Rc::new(move || announcer.announce());
    Box::new(EmbeddedWorker { host, hook, wake, is_asleep: false })
}

struct EmbeddedWorker<R: Ring> {
    host: Host<R>,
    hook: Rc<WorkHook>,
    wake: Rc<dyn Fn()>,
    /// Between `before_sleep` and `after_sleep`.
    is_asleep: bool,
}

impl<R: Ring + Wait> EmbeddedWorker<R> {
    fn local(&self) -> &Local {
        &self.host.worker.local
    }

    /// The owner has woken up, or looks in without.
    fn wake_up(&mut self) {
        drop(self.local().wake.take());
        if self.hook.is_signalled.take() || (self.is_asleep && !self.is_woken_by_itself()) {
            self.host.worker.ring.clear_signals();
        }
        if std::mem::take(&mut self.is_asleep) {
            self.host.after_sleep();
        }
    }

    /// Whether it is work of this thread alone that ended the sleep: then nothing was signalled, or
    /// what was is seen after the next sleep.
    fn is_woken_by_itself(&mut self) -> bool {
        let worker = &mut self.host.worker;
        worker.has_local_work() && !worker.ring.has_work() && !worker.local.mailbox.has_mail()
    }

    /// Takes turns; returns what the last one came to.
    fn take_turns(&mut self, turns_max: u32) -> io::Result<Turn> {
        for _ in 0..turns_max {
            match self.host.turn()? {
                Turn::Busy => {}
                Turn::Idle => {
                    self.is_asleep = self.host.before_sleep();
                    if self.is_asleep {
                        return Ok(Turn::Idle);
                    }
                }
                // Sockets are closed by what is queued with the ring.
                Turn::Done if self.host.worker.ring.has_work() => {}
                Turn::Done => return Ok(Turn::Done),
            }
        }
        Ok(Turn::Busy)
    }
}

impl<R: Ring + Wait> EmbeddedHost for EmbeddedWorker<R> {
    fn turn(&mut self, turns_max: u32) -> io::Result<Turn> {
        self.wake_up();
        let turn = self.take_turns(turns_max)?;
        if turn == Turn::Busy {
            // For a loop that waits whatever is returned: slow, and not for ever.
            self.hook.signal();
        } else {
            self.local().wake.replace(Wake::Hook(Rc::clone(&self.wake)));
        }
        self.host.begin_idle();
        Ok(turn)
    }

    fn flush(&mut self) {
        self.host.worker.flush_dirty();
    }

    fn listen(&mut self, socket: OwnedFd, listening: &Listening) -> ListenerId {
        self.host.worker.listen(Socket(socket.into_raw_fd()), listening)
    }

    fn serve(&mut self, stream: Socket, listening: Listening) {
        self.host.worker.begin_connection(listening, stream);
    }

    fn forget_in_child(mut self: Box<Self>) {
        let descriptors = self.host.worker.descriptors();
        // Dropping it would have the parent's ring do things, and notify listeners.
        std::mem::forget(self);
        close_inherited(descriptors);
    }

    fn leave(&mut self) {
        drop(self.local().wake.take());
        self.host.worker.leave();
    }
}
