//! Sockets as a ring names them, borrowed where the system's own calls want a descriptor.

use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::net::SocketAddr;

/// A socket, as the ring names it. Means nothing to anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Socket(pub(crate) i32);

impl Socket {
    /// Whether it names a stream of a carrier (`outside.rs`), and no descriptor.
    pub(crate) fn is_stream(self) -> bool {
        self.0 < -1
    }

    /// Which stream.
    pub(super) fn stream_index(self) -> usize {
        (-2 - self.0) as usize
    }
}

/// The address that the socket behind `fd` has on our side.
pub(crate) fn local_addr(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    rustix::net::getsockname(fd).ok()?.try_into().ok()
}

/// Closes descriptors that this process has inherited, and that none of its values owns any more.
pub(crate) fn close_inherited(descriptors: Vec<i32>) {
    // Streams of carriers have none.
    for descriptor in descriptors.into_iter().filter(|it| *it >= 0) {
        // SAFETY: a child of fork has them from its parent, whose values of them it has forgotten.
        #[expect(unsafe_code)]
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
}

/// The descriptor behind `socket`, for the time of a call.
pub(crate) fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: a `Socket` is made from a descriptor that the ring accepted or was given, and its
    // owner forgets it when it hands it to `close`, on the same thread.
    #[expect(unsafe_code)]
    unsafe {
        BorrowedFd::borrow_raw(socket.0)
    }
}
