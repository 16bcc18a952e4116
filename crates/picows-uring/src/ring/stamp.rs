//! Receive timestamps of the kernel: asked for, read from control messages, and kept in front of the
//! bytes that they are of.
//!
//! `SO_TIMESTAMPNS` (socket(7)): when the network stack took in the last segment of what a receive
//! returns, by the system's clock.

use super::{RecvBuffer, Socket, borrow};
use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time at which the kernel received something: nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(NonZeroU64);

impl Stamp {
    /// A number of nanoseconds since 1970; 0 is none.
    fn of(nanos: u64) -> Option<Self> {
        NonZeroU64::new(nanos).map(Self)
    }

    /// The time, as the standard library has it.
    pub(crate) fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0.get())
    }

    /// The stamp as bytes, to be kept in front of those that it is of.
    pub(crate) fn to_bytes(self) -> [u8; FRONT_BYTES] {
        self.0.get().to_ne_bytes()
    }

    /// The stamp that `bytes` begin with, if it is one.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        Self::of(u64::from_ne_bytes(*bytes.first_chunk()?))
    }

    /// Puts a stamp, or none, at the end of `front`, the bytes in front of what was received.
    pub(super) fn put(stamp: Option<Self>, front: &mut [u8]) {
        if let Some(place) = front.last_chunk_mut() {
            *place = stamp.map_or([0; FRONT_BYTES], Self::to_bytes);
        }
    }
}

/// Has the kernel take the time of what it receives for `socket`, from a moment later on. Returns whether
/// it does: of the network only. A Unix socket has no times, and with room for control messages its
/// peer could have descriptors put into this process, which stay open.
pub(super) fn request(socket: Socket) -> bool {
    let domain = sockopt::socket_domain(borrow(&socket));
    if !matches!(domain, Ok(AddressFamily::INET | AddressFamily::INET6)) {
        return false;
    }
    let on: libc::c_int = 1;
    // SAFETY: the value is an integer of the length that is passed, and outlives the call.
    #[expect(unsafe_code)]
    let outcome = unsafe {
        libc::setsockopt(
            borrow(&socket).as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    outcome == 0
}

/// Receives what waits in `socket`, without waiting for any, behind the room for its stamp. Returns how
/// many bytes are in `memory` then, that room included, or 0 at the end of the stream.
#[inline(never)]
pub(super) fn receive(socket: Socket, memory: &mut [u8]) -> Result<usize, Errno> {
    let (front, rest) = memory.split_at_mut(FRONT_BYTES);
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
    let mut header = empty_header();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = CONTROL_BYTES as _;
    let fd = borrow(&socket).as_raw_fd();
    // SAFETY: what the header names is borrowed here until the call returns, and as long as it says.
    #[expect(unsafe_code)]
    let received = unsafe { libc::recvmsg(fd, &raw mut header, libc::MSG_DONTWAIT) };
    let error = |_| {
        Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    };
    let count = usize::try_from(received).map_err(error)?;
    if count == 0 {
        return Ok(0);
    }
    // Behind what the kernel has filled are zeros, in which nothing is found.
    Stamp::put(in_control(&control.0), front);
    Ok(FRONT_BYTES + count)
}

/// The header that multishot receives of messages name: it has room for control messages, and the kernel
/// takes the rest from a buffer.
pub(super) fn multishot_header() -> libc::msghdr {
    libc::msghdr { msg_controllen: CONTROL_BYTES as _, ..empty_header() }
}

/// The piece behind the first `front` bytes of `piece`, which hold its stamp.
pub(super) fn behind(piece: RecvBuffer, front: usize) -> RecvBuffer {
    let front = front as u32;
    let (offset, len) = (piece.offset + front, piece.len - front);
    RecvBuffer { offset, len, is_stamped: true, ..piece }
}

/// Where the stamp in front of a piece lies, if it has one.
pub(super) fn place(piece: &RecvBuffer) -> Option<RecvBuffer> {
    let len = FRONT_BYTES as u32;
    piece.is_stamped.then(|| RecvBuffer { offset: piece.offset - len, len, ..*piece })
}

/// The stamp in control messages (cmsg(3)).
pub(super) fn in_control(mut control: &[u8]) -> Option<Stamp> {
    loop {
        let len = word(control, 0)? as usize;
        let kind = [int(control, WORD)?, int(control, WORD + 4)?];
        if kind == [libc::SOL_SOCKET, libc::SO_TIMESTAMPNS] {
            let (secs, nanos) = (word(control, WORD + 8)?, word(control, 2 * WORD + 8)?);
            return Stamp::of(secs.checked_mul(1_000_000_000)?.checked_add(nanos)?);
        }
        control = control.get(len.max(1).checked_next_multiple_of(WORD)?..)?;
    }
}

/// The word at `at`, as the kernel writes lengths and the parts of a time.
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = usize::from_ne_bytes(*bytes.get(at..)?.first_chunk()?);
    u64::try_from(word).ok()
}

fn int(bytes: &[u8], at: usize) -> Option<libc::c_int> {
    Some(libc::c_int::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn empty_header() -> libc::msghdr {
    // SAFETY: a header of nothing but zeros and null pointers is one that names nothing.
    #[expect(unsafe_code)]
    unsafe {
        std::mem::zeroed()
    }
}

/// Memory for control messages, aligned as they want it.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Room for the stamp of a piece.
pub(super) const FRONT_BYTES: usize = 8;
/// What a multishot receive of messages puts in front of each: its own header (`io_uring_recvmsg_out`),
/// and the room for control messages.
pub(super) const MULTISHOT_FRONT_BYTES: usize = 16 + CONTROL_BYTES;
/// Room for a timestamp, and one more message that an application's own option of the socket causes.
const CONTROL_BYTES: usize = 64;
const WORD: usize = size_of::<usize>();

#[cfg(test)]
mod tests;
