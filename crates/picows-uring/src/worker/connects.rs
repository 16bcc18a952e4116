//! Adopts sockets that tasks of this thread have connected.

use super::Worker;
use crate::client::{ConnectFault, Connecting, Intake, NewSocket, NewStream};
use crate::config::Config;
use crate::connection::Connection;
use crate::ring::{Ring, Socket};
use picows_uring_proto::Role;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::rc::Rc;
use std::sync::Arc;

impl<R: Ring> Worker<R> {
    /// Where tasks of this thread leave the sockets that they have connected.
    pub(crate) fn intake(&self) -> &Rc<Intake> {
        &self.intake
    }

    /// Adopts the sockets in the intake.
    #[inline]
    pub(super) fn adopt_connected(&mut self) {
        if !self.intake.is_empty() {
            self.adopt_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn adopt_all(&mut self) {
        for NewSocket { socket, peer, config, connecting } in self.intake.take() {
            if connecting.outcome.is_abandoned() || self.shutdown.is_stopping {
                if let NewStream::Carried(socket) = socket {
                    self.ring.close(socket);
                }
                connecting.outcome.set(Err(ConnectFault::Disconnected(None)));
                continue;
            }
            let socket = match socket {
                NewStream::Descriptor(socket) => Socket(socket.into_raw_fd()),
                NewStream::Carried(socket) => socket,
            };
            self.connected(socket, peer, &config, connecting);
        }
    }

    /// Makes a client's connection of a socket, and begins its handshake.
    pub(crate) fn connected(
        &mut self,
        socket: Socket,
        peer: Option<SocketAddr>,
        config: &Arc<Config>,
        connecting: Connecting,
    ) {
        self.adopt(config, Role::Client, socket, peer, |session| {
            Connection::connected(session, connecting)
        });
    }

    /// The worker fails: so do the connections that it has not begun.
    pub(super) fn refuse_connected(&self) {
        for socket in self.intake.take() {
            socket.connecting.outcome.set(Err(ConnectFault::Disconnected(None)));
        }
    }
}
