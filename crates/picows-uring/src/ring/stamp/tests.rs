//! Stamps in control messages, and those of both drivers on real sockets.

use super::*;
use crate::ring::epoll::EpollRing;
use crate::ring::uring::UringRing;
use crate::ring::{Completion, ReceiveResult, Ring, Token, Wait, WaitMode};
use crate::testing::ring::checked::Checked;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A control message as the kernel writes it.
fn message(level: i32, kind: i32, data: &[u64]) -> Vec<u8> {
    let mut bytes = (WORD + 8 + 8 * data.len()).to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
    bytes
}

#[test]
fn the_time_is_found_among_control_messages_and_in_whole_ones_only() {
    let time = message(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &[3, 5]);
    assert_eq!(in_control(&time), Stamp::of(3_000_000_005));
    let other = message(libc::SOL_TCP, libc::SO_TIMESTAMPNS, &[9]);
    assert_eq!(in_control(&[&other[..], &time].concat()), Stamp::of(3_000_000_005));
    assert_eq!(in_control(&other), None);
    for len in 0..time.len() {
        assert_eq!(in_control(&time[..len]), None, "{len} bytes");
    }
    assert_eq!(in_control(&[0; CONTROL_BYTES]), None, "lengths of 0 come to an end");
    let long = [&usize::MAX.to_ne_bytes()[..], &other[WORD..]].concat();
    assert_eq!(in_control(&long), None, "a length beyond all memory");
    let late = message(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &[u64::MAX >> 1, 0]);
    assert_eq!(in_control(&late), None, "beyond what a stamp holds");
}

#[test]
fn a_stamp_is_the_time_since_1970() {
    let stamp = Stamp::of(1_500_000_000_250_000_000).unwrap();
    let since = stamp.time().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(since, Duration::new(1_500_000_000, 250_000_000));
    assert_eq!(Stamp::of_bytes(&stamp.to_bytes()), Some(stamp));
    assert_eq!(Stamp::of(0), None);
    assert_eq!(Stamp::of_bytes(&[1; FRONT_BYTES - 1]), None);
}

const TOKEN: Token = Token { slot: 5, generation: 2 };

/// The bytes of a piece with their stamp, or how the receive has ended.
type Outcome = Result<(Vec<u8>, Option<Stamp>), String>;

/// The next completion, and whether receiving goes on.
fn next<R: Ring + Wait>(ring: &mut Checked<R>) -> (Outcome, bool) {
    let mut out = Vec::new();
    while out.is_empty() {
        ring.wait().unwrap();
        ring.poll(1, &mut out).unwrap();
    }
    let Some(Completion::Received { token: TOKEN, result, more }) = out.pop() else {
        panic!("of the receive");
    };
    let ReceiveResult::Data(buffer) = result else { return (Err(format!("{result:?}")), more) };
    let piece = (ring.bytes(&buffer).to_vec(), ring.stamp(&buffer));
    ring.release(buffer);
    (Ok(piece), more)
}

/// Receives `bytes`, which were just sent, all of whose pieces have stamps or none has.
fn expect<R: Ring + Wait>(ring: &mut Checked<R>, socket: Socket, bytes: &[u8]) -> Option<Stamp> {
    let (mut received, mut last) = (Vec::new(), None);
    while received.len() < bytes.len() {
        let (result, more) = next(ring);
        if !more {
            ring.receive_stamped(socket, TOKEN);
        }
        match result {
            Ok((piece, stamp)) => {
                let is_first = received.is_empty();
                assert!(is_first || stamp.is_some() == last.is_some(), "of all or of none");
                received.extend(piece);
                last = stamp;
            }
            // It found no buffer, of which there are more from then on.
            Err(end) => assert_eq!(end, "NoBuffer"),
        }
    }
    assert!(received == bytes, "nothing else, and in order");
    last
}

fn stamps_of_tcp<R: Ring + Wait>(mut ring: Checked<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = Socket(listener.accept().unwrap().0.into_raw_fd());
    assert!(ring.request_stamps(socket));
    ring.receive_stamped(socket, TOKEN);
    let deadline = Instant::now() + Duration::from_secs(20);
    // The kernel begins a moment after it was asked to.
    let (before, stamp) = loop {
        assert!(Instant::now() < deadline, "there is no stamp");
        let before = SystemTime::now();
        theirs.write_all(b"hello").unwrap();
        if let Some(stamp) = expect(&mut ring, socket, b"hello") {
            break (before, stamp);
        }
    };
    // The clock may be set meanwhile.
    let (early, late) = (before - TOLERANCE, SystemTime::now() + TOLERANCE);
    assert!(early <= stamp.time() && stamp.time() <= late, "{stamp:?} is not between");
    // More than a buffer holds.
    let bytes: Vec<u8> = (0..100_000).map(|index| (index % 251) as u8).collect();
    for _ in 0..5 {
        theirs.write_all(&bytes).unwrap();
        let later = expect(&mut ring, socket, &bytes).expect("each piece has one");
        assert!(later.time() + TOLERANCE >= stamp.time());
    }
    ring.cancel_receive(TOKEN);
    assert_eq!(next(&mut ring), (Err("Cancelled".to_owned()), false));
    ring.receive(socket, TOKEN);
    theirs.write_all(b"without").unwrap();
    assert_eq!(next(&mut ring), (Ok((b"without".to_vec(), None)), true));
    ring.cancel_receive(TOKEN);
    assert_eq!(next(&mut ring), (Err("Cancelled".to_owned()), false));
    ring.receive_stamped(socket, TOKEN);
    drop(theirs);
    assert_eq!(next(&mut ring), (Err("EndOfStream".to_owned()), false));
    ring.close(socket);
}

fn no_stamps_of_a_unix_socket<R: Ring + Wait>(mut ring: Checked<R>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let socket = Socket(ours.into_raw_fd());
    assert!(!ring.request_stamps(socket));
    ring.receive_stamped(socket, TOKEN);
    for _ in 0..100 {
        theirs.write_all(b"hello").unwrap();
        assert_eq!(expect(&mut ring, socket, b"hello"), None);
    }
    drop(theirs);
    assert_eq!(next(&mut ring), (Err("EndOfStream".to_owned()), false));
    ring.close(socket);
}

#[test]
fn pieces_have_stamps_on_io_uring() {
    stamps_of_tcp(Checked::new(UringRing::new(WaitMode::Dedicated).unwrap()));
    no_stamps_of_a_unix_socket(Checked::new(UringRing::new(WaitMode::Dedicated).unwrap()));
}

#[test]
fn pieces_have_stamps_on_epoll() {
    stamps_of_tcp(Checked::new(EpollRing::new().unwrap()));
    no_stamps_of_a_unix_socket(Checked::new(EpollRing::new().unwrap()));
}

const TOLERANCE: Duration = Duration::from_secs(2);
