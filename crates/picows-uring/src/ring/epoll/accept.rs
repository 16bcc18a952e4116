//! Accepting on the epoll driver.

use super::super::{Completion, ListenerId, Socket, borrow};
use super::EpollRing;
use rustix::fd::IntoRawFd;
use rustix::net::SocketFlags;

impl EpollRing {
    /// Accepts what has connected. `out` gets no longer than `end`.
    #[inline(never)]
    pub(super) fn serve_accept(
        &mut self,
        socket: Socket,
        listener: ListenerId,
        end: usize,
        out: &mut Vec<Completion>,
    ) {
        let Some(entry) = self.sockets.get_mut(socket.0 as u64) else { return };
        while out.len() < end {
            let result = match rustix::net::accept_with(borrow(&socket), SocketFlags::CLOEXEC) {
                Ok(accepted) => Ok(Socket(accepted.into_raw_fd())),
                Err(rustix::io::Errno::AGAIN) => {
                    entry.is_readable = false;
                    return;
                }
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
            let more = result.is_ok();
            if !more {
                entry.reading = None;
            }
            out.push(Completion::Accepted { listener, result, more });
            if !more {
                return;
            }
        }
    }

    /// Accepts what has connected to a listening socket, as io_uring does when accepting begins.
    pub(super) fn accept_backlog(&mut self, socket: Socket, listener: ListenerId) {
        for _ in 0..SWEPT_MAX {
            match rustix::net::accept_with(borrow(&socket), SocketFlags::CLOEXEC) {
                Ok(accepted) => {
                    let result = Ok(Socket(accepted.into_raw_fd()));
                    self.done.push_back(Completion::Accepted { listener, result, more: true });
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Connections that are accepted at most when accepting ends: more than a backlog holds.
const SWEPT_MAX: usize = 65_536;
