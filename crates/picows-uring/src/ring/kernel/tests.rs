//! Rings that go before their time, with operations in flight.

use super::*;
use crate::ring::Segment;
use bytes::Bytes;
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;

thread_local! {
    static IS_LOST: Cell<bool> = const { Cell::new(false) };
}

/// The next poll of a ring of this thread fails, as if the ring were lost.
pub(crate) fn lose_ring() {
    IS_LOST.set(true);
}

pub(super) fn lose_on_demand() -> io::Result<()> {
    if IS_LOST.take() { Err(io::Error::from_raw_os_error(libc::EBADFD)) } else { Ok(()) }
}

const TOKEN: Token = Token { slot: 0, generation: 0 };

fn batch(bytes: &Bytes) -> Box<SendBatch> {
    let mut batch = Box::<SendBatch>::default();
    batch.push(Segment::Shared(bytes.clone()));
    batch
}

/// The kernel reads the buffers of a send until it has completed: they outlive it.
#[test]
fn a_ring_that_is_dropped_waits_for_its_sends() {
    let mut ring = KernelRing::new(Waiting::Dedicated).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (socket, bytes) = (Socket(ours.into_raw_fd()), Bytes::from(vec![7; 16 << 20]));
    ring.send(socket, TOKEN, batch(&bytes));
    ring.receive(socket, TOKEN);
    ring.set_deadline(Duration::from_secs(3600));
    ring.poll(10, &mut Vec::new()).unwrap();
    assert!(!bytes.is_unique(), "the kernel has them");
    ring.abandon(socket);
    drop(ring);
    assert!(bytes.is_unique(), "and has let them go");
    // A send that goes on would fill the room that is read free.
    let sent = rustix::io::ioctl_fionread(&theirs).unwrap();
    let mut read = Vec::new();
    theirs.read_to_end(&mut read).unwrap();
    assert!(!read.is_empty() && read.iter().all(|byte| *byte == 7));
    assert_eq!(read.len() as u64, sent);
}

/// Operations that were queued and not handed over name their socket by a number, which means
/// something else when the socket is closed and another one is opened.
#[test]
fn what_was_queued_on_an_abandoned_socket_reaches_no_other() {
    let mut ring = KernelRing::new(Waiting::Dedicated).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let socket = Socket(ours.into_raw_fd());
    ring.send(socket, TOKEN, batch(&Bytes::from_static(b"a secret")));
    ring.abandon(socket);
    // Lowest number first: these would get that of the abandoned one.
    let mut others: Vec<_> = (0..10).map(|_| UnixStream::pair().unwrap()).collect();
    drop(ring);
    for (one, other) in &mut others {
        one.write_all(b"x").unwrap();
        let mut first = [0; 8];
        assert_eq!(other.read(&mut first).unwrap(), 1, "{}", first.escape_ascii());
        other.write_all(b"x").unwrap();
        assert_eq!(one.read(&mut first).unwrap(), 1, "{}", first.escape_ascii());
    }
    let mut read = Vec::new();
    theirs.read_to_end(&mut read).unwrap();
}
