//! The application's part in readiness: whether what it needs besides the server is there.

use super::builder::ServerBuilder;
use crate::foreign::{self, Foreign};
use std::fmt;
use std::sync::Arc;

/// A function of the application that says why no more clients should come, if there is a reason.
#[derive(Clone)]
pub(super) struct ReadyCheck(Arc<Foreign<Box<Check>>>);

type Check = dyn Fn() -> Result<(), String> + Send + Sync;

impl ReadyCheck {
    /// The reason why no more clients should come. A panic is one.
    pub(super) fn fault(&self) -> Option<String> {
        match foreign::call(|| (self.0)()) {
            Ok(outcome) => outcome.err(),
            Err(panicked) => Some(format!("the check of ready_when failed: {panicked}")),
        }
    }
}

impl fmt::Debug for ReadyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadyCheck")
    }
}

impl ServerBuilder {
    /// Asks the application, too, whether more clients should come: while `check` returns an error,
    /// `/readyz` answers 503 with its text, and [`Monitor::not_ready`](crate::Monitor::not_ready) returns
    /// it. For what the server depends on, such as a database or another server; connections that are
    /// open stay. It is called by the thread that asks, once for each probe, when the server itself is
    /// ready, so it should not block. Default: none.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicBool, Ordering};
    ///
    /// let is_there = Arc::new(AtomicBool::new(false));
    /// let database = Arc::clone(&is_there);
    /// let builder = Server::builder().listen("127.0.0.1:0").workers(1).ready_when(move || {
    ///     if database.load(Ordering::Relaxed) { Ok(()) } else { Err("no database yet".into()) }
    /// });
    /// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// assert_eq!(server.monitor().not_ready().as_deref(), Some("no database yet"));
    /// is_there.store(true, Ordering::Relaxed);
    /// assert_eq!(server.monitor().not_ready(), None);
    /// # server.stop()?;
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn ready_when<F>(mut self, check: F) -> Self
    where
        F: Fn() -> Result<(), String> + Send + Sync + 'static,
    {
        self.ready = Some(ReadyCheck(Arc::new(Foreign::new(Box::new(check)))));
        self
    }
}
