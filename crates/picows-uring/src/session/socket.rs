//! Socket and peer of a connection, in as few bytes as they take.

use crate::ring::Socket;
use std::cell::Cell;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A socket, until it is closed.
pub(crate) struct SocketCell(Cell<i32>);

impl SocketCell {
    pub(super) fn new(socket: Socket) -> Self {
        Self(Cell::new(socket.0))
    }

    /// The socket; `None` once it was taken.
    #[inline]
    pub(crate) fn get(&self) -> Option<Socket> {
        let socket = self.0.get();
        (socket != NO_SOCKET).then_some(Socket(socket))
    }

    /// Forgets the socket, for a caller that closes it.
    pub(crate) fn take(&self) -> Option<Socket> {
        let socket = self.get();
        self.0.set(NO_SOCKET);
        socket
    }
}

impl fmt::Debug for SocketCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The address of a peer, if it has one (Unix sockets do not). Half as long as the type that it
/// stands for, and shown in the same way.
pub(crate) enum PeerAddr {
    None,
    V4(Ipv4Addr, u16),
    V6(Box<SocketAddrV6>),
}

impl PeerAddr {
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::V4(address, port) => Some(SocketAddrV4::new(*address, *port).into()),
            Self::V6(address) => Some((**address).into()),
        }
    }
}

impl From<Option<SocketAddr>> for PeerAddr {
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::None,
            Some(SocketAddr::V4(address)) => Self::V4(*address.ip(), address.port()),
            Some(SocketAddr::V6(address)) => Self::V6(Box::new(address)),
        }
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// No descriptor is negative.
const NO_SOCKET: i32 = -1;
const _: () = assert!(size_of::<PeerAddr>() * 2 <= size_of::<Option<SocketAddr>>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for text in ["192.0.2.1:80", "[2001:db8::1]:443", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let kept = PeerAddr::from(Some(address));
            assert_eq!(kept.get(), Some(address));
            assert_eq!(format!("{kept:?}"), format!("{:?}", Some(address)));
        }
        assert_eq!(PeerAddr::from(None).get(), None);
    }

    #[test]
    fn a_socket_is_taken_once() {
        let socket = SocketCell::new(Socket(0));
        assert_eq!(socket.get(), Some(Socket(0)));
        assert_eq!(socket.take(), Some(Socket(0)));
        assert_eq!((socket.get(), socket.take()), (None, None));
    }
}
