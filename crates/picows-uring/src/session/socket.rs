//! Socket and peer of a connection, in as few bytes as they take.

use crate::foreign::log::peer_field;
use crate::ring::Socket;
use std::cell::Cell;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use tracing::field::DisplayValue;

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
pub(crate) struct PeerAddr(Cell<Kept>);

#[derive(Default)]
enum Kept {
    #[default]
    None,
    V4(Ipv4Addr, u16),
    V6(Box<SocketAddrV6>),
}

impl PeerAddr {
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        let kept = self.0.take();
        let address = match &kept {
            Kept::None => None,
            Kept::V4(address, port) => Some(SocketAddrV4::new(*address, *port).into()),
            Kept::V6(address) => Some((**address).into()),
        };
        self.0.set(kept);
        address
    }

    /// The address as a field of the log.
    pub(crate) fn logged(&self) -> Option<DisplayValue<SocketAddr>> {
        peer_field(self.get())
    }

    /// A proxy has named the client.
    pub(crate) fn set(&self, address: SocketAddr) {
        self.0.swap(&Self::from(Some(address)).0);
    }
}

impl From<Option<SocketAddr>> for PeerAddr {
    fn from(address: Option<SocketAddr>) -> Self {
        Self(Cell::new(match address {
            None => Kept::None,
            Some(SocketAddr::V4(address)) => Kept::V4(*address.ip(), address.port()),
            Some(SocketAddr::V6(address)) => Kept::V6(Box::new(address)),
        }))
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
        let unknown = PeerAddr::from(None);
        assert_eq!(unknown.get(), None);
        unknown.set("[2001:db8::1]:443".parse().unwrap());
        unknown.set("192.0.2.1:80".parse().unwrap());
        assert_eq!(unknown.get(), Some("192.0.2.1:80".parse().unwrap()));
    }

    #[test]
    fn a_socket_is_taken_once() {
        let socket = SocketCell::new(Socket(0));
        assert_eq!(socket.get(), Some(Socket(0)));
        assert_eq!(socket.take(), Some(Socket(0)));
        assert_eq!((socket.get(), socket.take()), (None, None));
    }
}
