//! The kernel's count of the bytes that a TCP socket was given to send.
//!
//! A send of several megabytes completes when the last of them fits into the socket (`MSG_WAITALL`):
//! until then, only this distinguishes a slow peer from one that has gone.

use super::{SendState, Socket};

/// Asks the kernel; `None` for a socket that is not TCP, or closed.
pub(super) fn read(socket: Socket) -> Option<SendState> {
    let mut info = [0_u8; INFO_BYTES];
    let mut len = INFO_BYTES as libc::socklen_t;
    // SAFETY: `info` has room for `len` bytes, and both outlive the call.
    #[expect(unsafe_code)]
    let outcome = unsafe {
        let out = info.as_mut_ptr().cast();
        libc::getsockopt(socket.0, libc::IPPROTO_TCP, libc::TCP_INFO, out, &raw mut len)
    };
    if outcome != 0 || (len as usize) < INFO_BYTES {
        return None;
    }
    let acked = info.get(ACKED_AT..ACKED_AT + 8)?.try_into().ok()?;
    let unsent = info.get(UNSENT_AT..UNSENT_AT + 4)?.try_into().ok()?;
    let has_more = u32::from_ne_bytes(unsent) > 0;
    Some(SendState { taken: u64::from_ne_bytes(acked), has_more })
}

/// Asks the kernel for the memory of what the peer of a Unix socket has not read; `None` for a socket
/// that does not say, or is closed.
pub(super) fn untaken(socket: Socket) -> Option<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `SIOCOUTQ`, of which `TIOCOUTQ` is the same number, writes an `int`, and `bytes` outlives
    // the call.
    #[expect(unsafe_code)]
    let outcome = unsafe { libc::ioctl(socket.0, libc::TIOCOUTQ, &raw mut bytes) };
    usize::try_from(bytes).ok().filter(|_| outcome == 0)
}

/// `tcpi_bytes_acked` of `struct tcp_info` (linux/tcp.h): after 8 fields of a byte and 24 of four.
const ACKED_AT: usize = 8 + 24 * 4 + 16;
/// `tcpi_notsent_bytes`: after two counters of eight bytes and two of four.
const UNSENT_AT: usize = ACKED_AT + 16 + 8;
/// Up to there; longer since Linux 4.6.
const INFO_BYTES: usize = UNSENT_AT + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn of(stream: &TcpStream) -> SendState {
        read(Socket(stream.as_raw_fd())).unwrap()
    }

    #[test]
    fn counts_what_the_peer_takes_and_knows_what_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert!(!of(&ours).has_more);

        // One byte that comes back was taken.
        ours.write_all(b"x").unwrap();
        theirs.read_exact(&mut [0]).unwrap();
        theirs.write_all(b"y").unwrap();
        ours.read_exact(&mut [0]).unwrap();
        let before = of(&ours);
        assert!(before.taken >= 1);

        // More than both sides have room for.
        ours.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(count) = ours.write(&[0; 1 << 16]) {
            written += count;
        }
        assert!(of(&ours).has_more);
        theirs.read_exact(&mut vec![0; written]).unwrap();
        theirs.write_all(b"z").unwrap();
        ours.set_nonblocking(false).unwrap();
        ours.read_exact(&mut [0]).unwrap();
        let after = of(&ours);
        assert!(after.taken >= before.taken + written as u64 && !after.has_more, "{after:?}");
    }

    #[test]
    fn other_sockets_say_nothing() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(read(Socket(ours.as_raw_fd())), None);
        assert_eq!(read(Socket(-1)), None);
    }

    #[test]
    fn a_unix_socket_says_what_its_peer_has_not_read() {
        let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = Socket(ours.as_raw_fd());
        assert_eq!(untaken(socket), Some(0));
        ours.write_all(&[0; 1000]).unwrap();
        let first = untaken(socket).unwrap();
        assert!(first >= 1000, "{first}");
        ours.write_all(&[0; 1000]).unwrap();
        let both = untaken(socket).unwrap();
        assert!(both > first);
        theirs.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(untaken(socket), Some(both - first));
        theirs.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!((untaken(socket), untaken(Socket(-1))), (Some(0), None));
    }
}
