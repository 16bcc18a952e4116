//! Connections of an embedded worker over streams that a carrier of the application brings.

use super::Embedded;
use crate::client::{Attempt, Connect, ConnectError};
use crate::error::Error;
use crate::foreign::Foreign;
use crate::listener::Listener;
use crate::ring::outside::{Carried, Carrier};
use crate::server::ServerBuilder;
use crate::transport::Transport;
use crate::upgrade::{IntoUpgrade, SharedFactory};
use crate::worker;
use picows_uring_proto::{ResponseHead, UpgradeRequest};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

/// Settings and factory of connections that are accepted elsewhere.
pub struct CarriedServer(worker::Listening);

impl fmt::Debug for CarriedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarriedServer").finish_non_exhaustive()
    }
}

impl Embedded {
    /// [`connect`](Self::connect), over a stream instead of a socket.
    ///
    /// # Errors
    ///
    /// As those of `connect`; the carrier is closed.
    pub(crate) fn connect_carried<L: Listener + 'static>(
        &self,
        mut connect: Connect,
        carrier: Box<dyn Carrier>,
        peer: Option<SocketAddr>,
        make: impl FnOnce(&UpgradeRequest, &ResponseHead) -> L + 'static,
        outcome: impl FnOnce(Result<Transport, ConnectError>) + 'static,
    ) -> Result<(Attempt, Option<Carried>), ConnectError> {
        let streams = self.local.streams.get();
        let stream = streams.map(|streams| streams.open(carrier, peer));
        connect.carry(stream);
        let attempt = self.connect(connect, make, outcome);
        if let (Err(_), Some(streams), Some(stream)) = (&attempt, streams, stream) {
            streams.close(stream);
            self.local.wake();
        }
        let carried = streams.zip(stream).map(|(it, stream)| it.handle(self.waker(), stream));
        Ok((attempt?, carried))
    }

    /// Takes settings and a factory for connections that are accepted elsewhere.
    ///
    /// # Errors
    ///
    /// As those of [`listen`](Self::listen) about settings.
    pub(crate) fn serve_carried<F, U>(
        &self,
        builder: ServerBuilder,
        factory: F,
    ) -> Result<CarriedServer, Error>
    where
        F: Fn(&UpgradeRequest) -> U + 'static,
        U: IntoUpgrade,
    {
        let config = builder.config_for_one_worker(&self.local.config.memory)?;
        let factory = move |request: &UpgradeRequest| factory(request).into_upgrade();
        let factory: SharedFactory = Rc::new(Foreign::new(Box::new(factory)));
        Ok(CarriedServer(worker::Listening::of(config, factory)))
    }

    /// Serves a stream whose peer has connected.
    ///
    /// # Errors
    ///
    /// In a callback ([`Error::InsideTurn`]), or when the worker has failed. The carrier is closed.
    pub(crate) fn accept_carried(
        &self,
        server: &CarriedServer,
        carrier: Box<dyn Carrier>,
        peer: Option<SocketAddr>,
    ) -> Result<Carried, Error> {
        let (Some(mut host), Some(streams)) = (self.host.take(), self.local.streams.get()) else {
            carrier.close();
            return Err(self.unavailable());
        };
        let stream = streams.open(carrier, peer);
        let carried = streams.handle(self.waker(), stream);
        host.serve(stream, server.0.clone());
        self.host.replace(Some(host));
        self.local.wake();
        Ok(carried)
    }

    /// Has the worker take a turn, for work of a carrier.
    fn waker(&self) -> Rc<dyn Fn()> {
        let local = Rc::clone(&self.local);
        Rc::new(move || local.wake())
    }
}
