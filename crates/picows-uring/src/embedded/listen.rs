//! Listening sockets of an embedded worker, each with settings and a factory of its own.

use super::Embedded;
use crate::command::Command;
use crate::error::Error;
use crate::foreign::Foreign;
use crate::mailbox::Mailbox;
use crate::ring::ListenerId;
use crate::server::{Served, ServerBuilder};
use crate::socket::{ListenAddress, SocketPath};
use crate::upgrade::{IntoUpgrade, SharedFactory, WorkerInfo, make_factory};
use crate::worker;
use picows_uring_proto::UpgradeRequest;
use std::fmt;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

/// What an [`Embedded`] worker listens on by one call of [`listen`](Embedded::listen). Dropping it closes
/// the listening sockets.
#[must_use = "dropping it closes the listening sockets"]
pub struct Listening {
    addresses: Vec<ListenAddress>,
    descriptors: Vec<RawFd>,
    listeners: Vec<ListenerId>,
    mailbox: Arc<Mailbox>,
    /// Removed with it.
    _paths: Vec<Option<SocketPath>>,
}

impl Listening {
    /// The addresses, with the ports that were found where port 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// The listening sockets, in the order of the addresses. They are the worker's: they may be asked
    /// for their options and duplicated, while that lives.
    #[must_use]
    pub fn descriptors(&self) -> &[RawFd] {
        &self.descriptors
    }

    /// Closes the listening sockets in the next turn. Clients that have connected by then are served,
    /// and connections stay as they are. The worker does not end with its last listening socket.
    pub fn close(self) {}
}

impl Drop for Listening {
    fn drop(&mut self) {
        for listener in &self.listeners {
            self.mailbox.post(Command::CloseListener(*listener));
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Accepts connections as a server with the settings of `builder` does, from the next turn on. May
    /// be called several times: the connections of each have settings, limits and a factory of their
    /// own. `factory` runs on this thread, and may hold what stays there.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or is about threads, the driver or the worker as a whole, which are
    /// [`Embedded`]'s own ([`Error::Config`]); when an address cannot be bound; in a callback
    /// ([`Error::InsideTurn`]).
    ///
    /// ```
    /// use picows_uring::{EchoListener, Embedded, Server, Upgrade};
    ///
    /// let worker = Embedded::builder().build()?;
    /// let builder = Server::builder().listen("127.0.0.1:0");
    /// let listening = worker.listen(builder, |_| Upgrade::accept(EchoListener))?;
    /// println!("listening on {}", listening.addresses()[0]);
    /// # Ok::<(), picows_uring::Error>(())
    /// ```
    pub fn listen<F, U>(&self, builder: ServerBuilder, factory: F) -> Result<Listening, Error>
    where
        F: Fn(&UpgradeRequest) -> U + 'static,
        U: IntoUpgrade,
    {
        if self.host.borrow().is_none() {
            return Err(self.unavailable());
        }
        let (mut bound, served) = builder.bind_for_one_worker(&self.local.config.memory)?;
        let factory = move |request: &UpgradeRequest| factory(request).into_upgrade();
        let usual: SharedFactory = Rc::new(Foreign::new(Box::new(factory)));
        let served = served.into_iter().map(|Served { config, make }| {
            let own = make.map(|make| make_factory(&*make, WorkerInfo::new(0))).transpose();
            let factory = own.map_err(|panicked| {
                let fault = format!("its factory could not be made: {panicked}");
                Error::Worker { worker: 0, fault }
            });
            factory
                .map(|own| worker::Listening::of(config, own.unwrap_or_else(|| Rc::clone(&usual))))
        });
        let served = served.collect::<Result<Vec<_>, Error>>()?;
        let Some(mut host) = self.host.take() else { return Err(self.unavailable()) };
        let sockets = bound.sockets.pop().unwrap_or_default();
        let descriptors = sockets.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
        let listeners = sockets
            .into_iter()
            .zip(served)
            .map(|((_, socket), served)| host.listen(socket, &served))
            .collect();
        self.host.replace(Some(host));
        self.local.wake();
        Ok(Listening {
            addresses: bound.addresses,
            descriptors,
            listeners,
            mailbox: Arc::clone(&self.local.mailbox),
            _paths: bound.paths,
        })
    }
}
