//! Calls on sockets that need nothing of a ring: what both drivers do at once.

use super::{Outlet, Room, SendBatch, Socket, borrow};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// [`Ring::receive_now`](super::Ring::receive_now).
pub(super) fn receive_now(socket: Socket, room: Room<'_>) -> io::Result<usize> {
    let Room { memory, gap, max } = room;
    let before = memory.len();
    memory.resize(before + gap, 0);
    let free = memory.spare_capacity_mut();
    let end = free.len().min(max);
    let received = rustix::net::recv(borrow(&socket), &mut free[..end], RecvFlags::DONTWAIT);
    let count = received.map(|((bytes, _), _)| bytes.len());
    match count {
        Ok(count @ 1..) => {
            // SAFETY: so many bytes behind those of `memory` were just written, in its
            // capacity.
            #[expect(unsafe_code)]
            unsafe {
                memory.set_len(before + gap + count);
            }
        }
        _ => memory.truncate(before),
    }
    Ok(count?)
}

/// [`Ring::unread`](super::Ring::unread).
pub(super) fn unread(socket: Socket) -> usize {
    rustix::io::ioctl_fionread(borrow(&socket)).map_or(0, |count| count as usize)
}

/// [`Ring::peer_addr`](super::Ring::peer_addr).
pub(super) fn peer_addr(socket: Socket) -> Option<SocketAddr> {
    rustix::net::getpeername(borrow(&socket)).ok().flatten()?.try_into().ok()
}

/// [`Ring::shut_down`](super::Ring::shut_down). It fails only where the peer is gone, which the
/// receive reports as well.
pub(super) fn shut_down(socket: Socket) {
    let _ = rustix::net::shutdown(borrow(&socket), rustix::net::Shutdown::Write);
}

/// Sends by a call of its own.
#[derive(Debug)]
pub(super) struct SocketOutlet;

impl Outlet for SocketOutlet {
    #[inline]
    fn send_now(&self, socket: Socket, batch: &SendBatch) -> io::Result<usize> {
        send_from::<SEGMENTS_PER_CALL_MAX>(socket, batch, 0)
    }

    fn send_slice(&self, socket: Socket, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(borrow(&socket), bytes, SEND_FLAGS)?)
    }
}

/// Sends what the socket takes at once of the first `SEGMENTS` segments of `batch` that are left
/// behind its first `done` bytes.
#[inline]
pub(super) fn send_from<const SEGMENTS: usize>(
    socket: Socket,
    batch: &SendBatch,
    done: usize,
) -> io::Result<usize> {
    let mut segments = batch.segments();
    let count = segments.len();
    if count == 1
        && let Some(only) = segments.next().and_then(|it| it.get(done..))
    {
        return Ok(rustix::net::send(borrow(&socket), only, SEND_FLAGS)?);
    }
    if count <= SEGMENTS_PER_CALL_MAX {
        send_parts::<SEGMENTS_PER_CALL_MAX>(socket, batch, done)
    } else {
        send_parts::<SEGMENTS>(socket, batch, done)
    }
}

/// The same of any number of segments. A list of so many is written each time, so a short one is better.
#[inline(never)]
fn send_parts<const SEGMENTS: usize>(
    socket: Socket,
    batch: &SendBatch,
    done: usize,
) -> io::Result<usize> {
    let mut parts = [IoSlice::new(&[]); SEGMENTS];
    let (mut count, mut skip) = (0, done);
    for segment in batch.segments() {
        if skip >= segment.len() {
            skip -= segment.len();
            continue;
        }
        let Some(part) = parts.get_mut(count) else { break };
        *part = IoSlice::new(&segment[skip..]);
        skip = 0;
        count += 1;
    }
    let fd = borrow(&socket);
    Ok(match &parts[..count] {
        [only] => rustix::net::send(fd, only, SEND_FLAGS)?,
        parts => rustix::net::sendmsg(fd, parts, &mut SendAncillaryBuffer::default(), SEND_FLAGS)?,
    })
}

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// Segments that leave with one call of an [`Outlet`]; the rest goes the other way.
pub(super) const SEGMENTS_PER_CALL_MAX: usize = 8;
