//! Stops the workers of a server or of a runtime, from any thread.
//!
//! Posts and returns; how a worker ends its connections is the worker's affair.

use crate::command::Command;
use crate::mailbox::Mailbox;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Stops a server or a [`Runtime`](crate::Runtime) from any thread, while another one waits for its
/// end.
///
/// ```
/// use picows_uring::{EchoListener, Server, Upgrade};
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
/// let stopper = server.stopper();
/// std::thread::spawn(move || stopper.stop());
/// server.join()?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stopper {
    mailboxes: Vec<Arc<Mailbox>>,
    drain_timeout: Duration,
    /// Set with the first stop.
    is_draining: Arc<AtomicBool>,
    before: Option<Before>,
}

/// What is done before each stop.
#[derive(Clone)]
struct Before(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Before").finish_non_exhaustive()
    }
}

impl Stopper {
    pub(crate) fn new(mailboxes: Vec<Arc<Mailbox>>, drain_timeout: Duration) -> Self {
        Self { mailboxes, drain_timeout, is_draining: Arc::default(), before: None }
    }

    /// Has it set `is_draining` before it posts.
    pub(crate) fn noting_in(self, is_draining: Arc<AtomicBool>) -> Self {
        Self { is_draining, ..self }
    }

    /// Has it call `before` before it posts: code of ours, not of the application.
    pub(crate) fn calling(self, before: impl Fn() + Send + Sync + 'static) -> Self {
        Self { before: Some(Before(Arc::new(before))), ..self }
    }

    /// Accepts no more and ends every connection with CLOSE 1001, not all of them at once
    /// ([`drain_spread`](crate::ServerBuilder::drain_spread)); connections that are left when the
    /// drain timeout is over are dropped. Returns at once.
    pub fn stop(&self) {
        self.stop_within(self.drain_timeout);
    }

    /// [`stop`](Self::stop), with another drain timeout. A shorter one may follow a longer one;
    /// zero drops everybody at once.
    pub fn stop_within(&self, drain: Duration) {
        self.is_draining.store(true, Ordering::Relaxed);
        if let Some(Before(before)) = &self.before {
            before();
        }
        for mailbox in &self.mailboxes {
            mailbox.post(Command::Stop { drain });
        }
    }
}
