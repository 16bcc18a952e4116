//! Client handshakes on simulated sockets, for the module `testing`.

use super::connect::Connect;
use super::connecting::{ConnectOutcome, Connecting, MakeListener};
use super::error::ConnectFault;
use super::target::Target;
use crate::config::Config;
use crate::foreign::Foreign;
use crate::listener::Listener;
use crate::local::Local;
use picows_uring_proto::{ClientHandshake, HeadReceiver};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

impl Connect {
    /// The URL that was given.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The handshake of a client that a test plays, which compresses nothing.
    ///
    /// # Errors
    ///
    /// When there can be no such request.
    pub(crate) fn handshake_of_peer(self, local: &Local) -> Result<ClientHandshake, ConnectFault> {
        #[cfg(feature = "deflate")]
        let this = self.deflate(None);
        #[cfg(not(feature = "deflate"))]
        let this = self;
        this.check()?;
        let target = this.plain_target()?;
        this.handshake(local, &target)
    }

    /// A handshake to begin on a simulated socket, and the settings of its connection.
    ///
    /// # Errors
    ///
    /// When there is nothing to begin with.
    pub(crate) fn begin_in_memory(
        self,
        local: &Local,
        listener: Box<dyn Listener>,
    ) -> Result<(Arc<Config>, Connecting), ConnectFault> {
        self.check()?;
        let target = self.plain_target()?;
        let handshake = self.handshake(local, &target)?;
        let request = Box::new(handshake.request()?);
        let make: MakeListener = Box::new(move |_, _| listener);
        let connecting = Connecting {
            handshake,
            head: HeadReceiver::of_response(),
            request,
            make: Rc::new(Cell::new(Some(Foreign::new(make)))),
            outcome: Rc::<ConnectOutcome>::default(),
            follows_redirects: false,
            #[cfg(feature = "_tls")]
            tls: None,
            #[cfg(feature = "_tls")]
            proxy: None,
        };
        Ok((Arc::new(self.config), connecting))
    }

    fn plain_target(&self) -> Result<Target, ConnectFault> {
        let target = self.target()?;
        if target.is_secure {
            let fault = "a network in memory has no TLS: use ws://".to_owned();
            return Err(ConnectFault::Url(fault));
        }
        Ok(target)
    }
}
