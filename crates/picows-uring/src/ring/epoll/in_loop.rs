//! Sockets that the hosting tokio loop watches itself: those of the first few connections.
//!
//! The other sockets are in the epoll descriptor of the ring, which the loop watches as one: then a
//! lone message costs two looks, one of the loop and one of the ring. With few connections that is a
//! quarter of all system calls, and with many it is shared. Decides nothing about sockets; what the
//! loop finds goes to their entries.

use super::sockets::Sockets;
use crate::ring::Socket;
use rustix::event::epoll::EventFlags;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::task::{Context, Poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

/// The sockets that the loop of this thread watches.
#[derive(Debug, Default)]
pub(super) struct InLoop {
    watched: Vec<AsyncFd<Descriptor>>,
}

/// A descriptor that is closed elsewhere, after its registration has ended.
#[derive(Debug)]
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl InLoop {
    /// Has the loop watch a socket, if it is one of the first few. `false` where it does not.
    pub(super) fn watch(&mut self, socket: Socket) -> bool {
        if self.watched.len() == WATCHED_MAX {
            return false;
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the socket is open, always has the same descriptor, and `forget` ends the
        // registration before the ring closes it.
        #[expect(unsafe_code)]
        let registered = unsafe { AsyncFd::register_with_interest(Descriptor(socket.0), interest) };
        registered.map(|it| self.watched.push(it)).is_ok()
    }

    /// The socket is about to be closed.
    pub(super) fn forget(&mut self, socket: Socket) {
        if let Some(index) = self.watched.iter().position(|it| it.get_ref().0 == socket.0) {
            drop(self.watched.swap_remove(index));
        }
    }

    /// The sockets that are watched.
    pub(super) fn sockets(&self) -> impl Iterator<Item = Socket> {
        self.watched.iter().map(|it| Socket(it.get_ref().0))
    }

    /// Takes note of what the loop has found, and puts the sockets for which something can be done
    /// on the list. Whether there are any; if not, the loop wakes the task of `context` when it
    /// finds something.
    pub(super) fn take(
        &self,
        context: &mut Context<'_>,
        sockets: &mut Sockets,
        ready: &mut VecDeque<i32>,
    ) -> bool {
        let before = ready.len();
        for watched in &self.watched {
            let fd = watched.get_ref().0;
            let Some(entry) = sockets.get_mut(fd as u64) else { continue };
            // Once a stream has ended there is nothing to come, and tokio says so for ever.
            while !entry.is_ending
                && let Poll::Ready(found) = watched.poll_read_ready(context)
            {
                let flags = found.map_or(ALL, |mut guard| {
                    guard.clear_ready();
                    flags_of(guard.ready())
                });
                if entry.mark(flags) {
                    ready.push_back(fd);
                }
                if entry.is_listed {
                    break;
                }
            }
            let wants_room = entry.sending.is_some() && !entry.is_writable;
            if wants_room && let Poll::Ready(found) = watched.poll_write_ready(context) {
                if let Ok(mut guard) = found {
                    guard.clear_ready();
                }
                if entry.mark(EventFlags::OUT) {
                    ready.push_back(fd);
                }
            }
        }
        ready.len() > before
    }
}

/// The event of a socket whose readiness to read is `ready`.
fn flags_of(ready: Ready) -> EventFlags {
    if ready.is_read_closed() || ready.is_error() {
        EventFlags::IN | EventFlags::RDHUP
    } else {
        EventFlags::IN
    }
}

/// Of a socket that is not watched any more, as the loop has ended: each call finds out by itself.
const ALL: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP);
/// So many connections are watched by the loop: each costs a registration, some hundred bytes.
pub(super) const WATCHED_MAX: usize = 8;

#[cfg(test)]
mod tests;
