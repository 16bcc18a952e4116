//! Filter of a listening socket that is about to be closed: no connection begins there any more.

use rustix::fd::{AsRawFd, BorrowedFd};
use std::io;

/// Has the kernel drop what would begin a connection to a listening socket, and nothing else: clients
/// try again a second later, by when another socket of the port may be there for them. Connections that
/// have begun can be completed meanwhile, and so none is reset when the socket is closed.
///
/// For good, and for every holder of the socket: not for one that another process uses on.
pub(crate) fn drop_new_connections(listener: BorrowedFd<'_>) -> io::Result<()> {
    const FLAGS: u32 = 13; // Of the TCP header (RFC 9293 §3.1): SYN is 0x02, ACK 0x10.
    const fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0x02),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: `program` is a `sock_fprog` of the length that is passed, and `steps`, which it points
    // to, lives until the call returns; the kernel copies both (socket(7)).
    #[expect(unsafe_code)]
    let outcome = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn new_connections_are_dropped_and_those_that_have_begun_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut begun = TcpStream::connect(address).unwrap();
        drop_new_connections(listener.as_fd()).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut, "neither taken nor refused");
        let (mut accepted, _) = listener.accept().unwrap();
        drop(listener);
        begun.write_all(b"ping").unwrap();
        let mut bytes = [0; 4];
        accepted.read_exact(&mut bytes).unwrap();
        accepted.write_all(&bytes).unwrap();
        begun.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
    }
}
