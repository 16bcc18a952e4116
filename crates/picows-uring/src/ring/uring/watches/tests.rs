//! Receives of large frames, on sockets of a kernel: what a poll takes, and how they end.

use super::*;
use crate::ring::{Ring, Wait, WaitMode};
use crate::testing::ring::checked::Checked;
use rustix::net::sockopt;
use std::collections::HashSet;
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;

const KIB: usize = 1024;
const TOKEN: Token = Token { slot: 3, generation: 9 };

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn ring() -> Checked<UringRing> {
    Checked::new(UringRing::new(WaitMode::Dedicated).unwrap())
}

/// One poll, once there is something to do.
fn poll(ring: &mut Checked<UringRing>) -> Vec<Completion> {
    let mut out = Vec::new();
    if !ring.has_work() {
        ring.wait().unwrap();
    }
    ring.poll(100, &mut out).unwrap();
    out
}

/// What a receive brings up to its end: the bytes, and how it ended.
fn receive_all(ring: &mut Checked<UringRing>) -> (Vec<u8>, ReceiveResult) {
    let mut bytes = Vec::new();
    loop {
        for completion in poll(ring) {
            match completion {
                Completion::Received {
                    result: ReceiveResult::Data(buffer), more: true, ..
                } => {
                    bytes.extend_from_slice(ring.bytes(&buffer));
                    ring.release(buffer);
                }
                Completion::Received { result, more: false, .. } => return (bytes, result),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_poll_takes_the_bytes_of_few_sockets_and_the_next_has_the_same_memory() {
    let mut ring = ring();
    let before = ring.recv_buffers();
    let mut pairs: Vec<_> = (0..16).map(|_| pair()).collect();
    for (slot, (ours, theirs)) in pairs.iter_mut().enumerate() {
        theirs.write_all(&[slot as u8; 16 * KIB]).unwrap();
        let token = Token { slot: slot as u32, generation: 1 };
        ring.receive_in_turn(Socket(ours.as_raw_fd()), token);
    }
    let (mut got, mut places) = (0, HashSet::new());
    while got < 16 * 16 * KIB {
        let mut of_poll = 0;
        for completion in poll(&mut ring) {
            let Completion::Received { token, result, more: true } = completion else { panic!() };
            let ReceiveResult::Data(buffer) = result else { panic!("{result:?}") };
            let bytes = ring.bytes(&buffer);
            assert!(bytes.iter().all(|byte| u32::from(*byte) == token.slot), "of another");
            of_poll += bytes.len();
            places.insert((buffer.id(), buffer.offset()));
            ring.release(buffer);
        }
        assert!(of_poll <= BYTES_PER_POLL, "{of_poll} bytes in a poll");
        got += of_poll;
    }
    // Each is released before the next is cut, but those of one poll lie side by side.
    assert!(places.len() <= BYTES_PER_POLL / (16 * KIB), "{places:?}");
    assert_eq!((ring.watches.count(), ring.recv_buffers()), (16, before + 1));
}

#[test]
fn the_end_of_the_stream_is_behind_all_of_its_bytes() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    // More than one call takes, and no event comes for the second.
    let sent: Vec<u8> = (0..150_000).map(|index| (index % 251) as u8).collect();
    theirs.write_all(&sent).unwrap();
    drop(theirs);
    ring.receive_in_turn(Socket(ours.as_raw_fd()), TOKEN);
    let (bytes, end) = receive_all(&mut ring);
    assert!(bytes == sent && matches!(end, ReceiveResult::EndOfStream), "{end:?}");
    ring.poll(100, &mut Vec::new()).unwrap();
    assert_eq!((ring.in_flight, ring.watches.count(), ring.watches.has_ready()), (0, 0, false));
}

#[test]
fn what_comes_behind_a_cancellation_waits_for_the_next_receive() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    let socket = Socket(ours.as_raw_fd());
    ring.receive_in_turn(socket, TOKEN);
    ring.poll(100, &mut Vec::new()).unwrap();
    theirs.write_all(b"later").unwrap();
    ring.cancel_receive(TOKEN);
    let (bytes, end) = receive_all(&mut ring);
    assert!(bytes.is_empty() && matches!(end, ReceiveResult::Cancelled), "{bytes:?} {end:?}");
    // The other way, and this one again.
    ring.receive_in_turn(socket, TOKEN);
    drop(theirs);
    let (bytes, end) = receive_all(&mut ring);
    assert!(bytes == b"later" && matches!(end, ReceiveResult::EndOfStream), "{bytes:?} {end:?}");
    ring.trim();
    assert!(!ring.watches.has_spare());
}

#[test]
fn a_watch_that_the_kernel_ends_brings_what_is_there_and_then_ends() {
    let (ours, mut theirs) = pair();
    let socket = Socket(ours.as_raw_fd());
    for is_cancelled in [false, true] {
        let mut ring = UringRing::new(WaitMode::Dedicated).unwrap();
        let mut out = Vec::new();
        theirs.write_all(b"there").unwrap();
        ring.watches.begin(socket, TOKEN);
        let event = ring.watches.on_event(TOKEN, Ok(libc::POLLIN as usize), false);
        assert!(event.is_none() && ring.has_work());
        if is_cancelled {
            ring.watches.cancel(TOKEN);
        }
        ring.take_in_turn(10, &mut out);
        let [Completion::Received { result, more: false, .. }] = &out[..] else {
            panic!("{out:?}")
        };
        let is_data = matches!(result, ReceiveResult::Data(buffer) if buffer.len() == 5);
        assert!(is_data || matches!((result, is_cancelled), (ReceiveResult::Cancelled, true)));
        assert_eq!(ring.watches.count(), 0);
    }
}

#[test]
fn sockets_that_never_run_dry_do_not_keep_others_waiting() {
    let mut ring = ring();
    let ((ours, mut flood), (quiet, mut theirs)) = (pair(), pair());
    let quiet_token = Token { slot: 0, generation: 1 };
    flood.set_nonblocking(true).unwrap();
    sockopt::set_socket_send_buffer_size(&flood, 4 * BYTES_PER_CALL).unwrap();
    ring.receive_in_turn(Socket(ours.as_raw_fd()), TOKEN);
    ring.receive(Socket(quiet.as_raw_fd()), quiet_token);
    let mut polls_behind = 0;
    for round in 0..=POLLS_AHEAD_MAX {
        // As much as its socket holds, more than a poll takes.
        while flood.write(&[0; 32 * KIB]).is_ok() {}
        let mut tokens = Vec::new();
        for completion in poll(&mut ring) {
            let Completion::Received { token, result, more: true } = completion else { panic!() };
            let ReceiveResult::Data(buffer) = result else { panic!("{result:?}") };
            ring.release(buffer);
            tokens.push(token);
        }
        assert!(tokens.contains(&TOKEN) && ring.watches.has_ready(), "it has more");
        if tokens.contains(&quiet_token) {
            assert!(round <= polls_behind, "{polls_behind}");
            return;
        }
        if round == 0 {
            theirs.write_all(b"!").unwrap();
            polls_behind = ring.polls_behind(100);
        }
    }
    panic!("the ring was not entered");
}

#[test]
fn completions_that_fill_every_poll_leave_room_for_a_socket_that_has_bytes() {
    let mut ring = UringRing::new(WaitMode::Dedicated).unwrap();
    let (ours, mut theirs) = pair();
    theirs.write_all(b"there").unwrap();
    ring.watches.begin(Socket(ours.as_raw_fd()), TOKEN);
    assert!(ring.watches.on_event(TOKEN, Ok(libc::POLLIN as usize), true).is_none());
    let mut pairs: Vec<_> = (0..8).map(|_| pair()).collect();
    for (slot, (ours, theirs)) in pairs.iter_mut().enumerate() {
        theirs.write_all(b"!").unwrap();
        let token = Token { slot: 10 + slot as u32, generation: 1 };
        ring.receive(Socket(ours.as_raw_fd()), token);
    }
    let mut out = Vec::new();
    ring.poll(4, &mut out).unwrap();
    let is_its = |it: &&Completion| matches!(it, Completion::Received { token: TOKEN, .. });
    assert_eq!((out.len(), out.iter().filter(is_its).count()), (4, 1), "{out:?}");
}

#[test]
fn a_socket_that_is_listed_twice_ends_with_its_first_end() {
    let mut ring = UringRing::new(WaitMode::Dedicated).unwrap();
    let cancelled = || Err(io::Error::from_raw_os_error(libc::ECANCELED));
    let (mut ours, theirs) = pair();
    // With unread bytes: a reset, which the first call learns, and behind it the end of the stream.
    ours.write_all(b"unread").unwrap();
    drop(theirs);
    let mut ends = Vec::new();
    for _ in 0..2 {
        // A receive that has ended while its socket was listed leaves its place on the list.
        ring.watches.begin(Socket(ours.as_raw_fd()), TOKEN);
        assert!(ring.watches.on_event(TOKEN, Ok(libc::POLLIN as usize), true).is_none());
        if ends.is_empty() {
            ends.extend(ring.watches.on_event(TOKEN, cancelled(), false));
        }
    }
    ring.take_in_turn(10, &mut ends);
    ends.extend(ring.watches.on_event(TOKEN, cancelled(), false));
    let [_, Completion::Received { result: ReceiveResult::Failed(error), more: false, .. }] =
        &ends[..]
    else {
        panic!("{ends:?}")
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_ring_that_is_dropped_ends_its_watches() {
    let mut ring = ring();
    let (ours, mut theirs) = pair();
    let socket = Socket(ours.into_raw_fd());
    theirs.write_all(b"unread").unwrap();
    ring.receive_in_turn(socket, TOKEN);
    ring.close_on_failure(socket);
    drop(ring);
    assert!(theirs.write_all(b"!").is_err(), "it is closed");
}
