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

/// Receives so much that buffers become full, and hands each piece to `keep`.
fn receive(
    ring: &mut KernelRing,
    (to, from): (Socket, &UnixStream),
    keep: &mut dyn FnMut(Option<Loan>),
) {
    let mut from = from;
    let (chunk, mut received, mut out) = (vec![9; 1 << 16], 0, Vec::new());
    let bytes_max = 2 * BUFFER_BYTES;
    while received < bytes_max {
        from.write_all(&chunk).unwrap();
        let until = received + chunk.len();
        while received < until {
            ring.wait().unwrap();
            ring.poll(100, &mut out).unwrap();
            for completion in out.drain(..) {
                let Completion::Received { result, more, .. } = completion else { panic!() };
                if !more {
                    ring.receive(to, TOKEN);
                }
                let Received::Data(buffer) = result else { continue };
                received += ring.bytes(&buffer).len();
                keep(ring.lend(&buffer));
                ring.release(buffer);
            }
        }
    }
}

const BUFFER_BYTES: usize = 256 * 1024;

/// What is lent is not written to, whatever arrives; and what is lent no more is used again.
#[test]
fn a_buffer_goes_back_when_its_last_loan_ends() {
    let mut ring = KernelRing::new(Waiting::Dedicated).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let path = (Socket(ours.into_raw_fd()), &theirs);
    ring.receive(path.0, TOKEN);
    let mut loans = Vec::new();
    receive(&mut ring, path, &mut |loan| loans.extend(loan));
    let kept: Vec<_> = loans.drain(..4).collect();
    let addresses: Vec<_> = kept.iter().map(|loan| loan.as_slice().as_ptr().addr()).collect();
    drop(loans);
    for _ in 0..4 {
        receive(&mut ring, path, &mut |loan| {
            let bytes = loan.as_ref().unwrap().as_slice();
            let (start, end) = (bytes.as_ptr().addr(), bytes.as_ptr().addr() + bytes.len());
            assert!(addresses.iter().all(|kept| !(start..end).contains(kept)), "it is lent");
        });
    }
    let count = ring.recv_buffers();
    assert!(kept.iter().all(|loan| loan.as_slice().iter().all(|byte| *byte == 9)));
    drop(kept);
    let mut seen = 0;
    for _ in 0..4 {
        receive(&mut ring, path, &mut |loan| {
            let bytes = loan.as_ref().unwrap().as_slice();
            seen += usize::from(addresses.contains(&bytes.as_ptr().addr()));
        });
    }
    assert!(seen > 0, "it is used again");
    assert_eq!(ring.recv_buffers(), count, "so there is no need for more");
}

/// Sends that do not get ahead must not take all buffers there are.
#[test]
fn only_so_many_buffers_are_kept_by_loans() {
    let mut ring = KernelRing::new(Waiting::Dedicated).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let path = (Socket(ours.into_raw_fd()), &theirs);
    ring.receive(path.0, TOKEN);
    let (mut loans, mut refused) = (Vec::new(), 0);
    for _ in 0..10 {
        receive(&mut ring, path, &mut |loan| match loan {
            Some(loan) => loans.push(loan),
            None => refused += 1,
        });
    }
    let lent: usize = loans.iter().map(Loan::len).sum();
    assert!(refused > 0 && lent <= 10 * BUFFER_BYTES, "{lent} bytes, {refused} refused");
    drop(loans);
    let mut refused = 0;
    receive(&mut ring, path, &mut |loan| refused += usize::from(loan.is_none()));
    assert_eq!(refused, 0);
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
