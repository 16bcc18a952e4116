//! The driver on real sockets: events, what they wake, and what is remembered of them.

use super::*;
use crate::ring::{Segment, Wait};
use crate::testing::ring::checked::Checked;
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::IntoRawFd;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

const TOKEN: Token = Token { slot: 3, generation: 1 };
const OTHER: Token = Token { slot: 4, generation: 1 };
const LISTENER: ListenerId = ListenerId { index: 4, generation: 1 };

/// A ring under the contract: what a test asks of it is what a worker may.
fn checked() -> Checked<EpollRing> {
    Checked::new(EpollRing::new().unwrap())
}

fn connected() -> (Checked<EpollRing>, Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (checked(), Socket(ours.into_raw_fd()), theirs)
}

fn batch(bytes: &Bytes) -> Box<SendBatch> {
    let mut batch = Box::<SendBatch>::default();
    batch.push(Segment::shared(bytes.clone()));
    batch
}

/// Waits and polls until there is a completion.
fn next(ring: &mut Checked<EpollRing>) -> Completion {
    let mut out = Vec::new();
    while out.is_empty() {
        ring.wait().unwrap();
        ring.poll(1, &mut out).unwrap();
    }
    out.remove(0)
}

/// Completions that are there without a wait.
fn there(ring: &mut Checked<EpollRing>) -> Vec<Completion> {
    let mut out = Vec::new();
    ring.poll(100, &mut out).unwrap();
    ring.poll(100, &mut out).unwrap();
    out
}

/// Ends what is in flight on a socket, and closes it.
fn close(ring: &mut Checked<EpollRing>, socket: Socket) {
    ring.cancel(socket);
    there(ring);
    ring.close(socket);
}

/// The bytes of a completion, and whether receiving goes on.
fn data(ring: &mut Checked<EpollRing>, completion: Completion) -> (Vec<u8>, bool) {
    let Completion::Received { result: ReceiveResult::Data(piece), more, .. } = completion else {
        panic!("{completion:?}")
    };
    let bytes = ring.bytes(&piece).to_vec();
    ring.release(piece);
    (bytes, more)
}

#[test]
fn what_has_connected_is_accepted_before_accepting_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut ring = Checked::new(EpollRing::new().unwrap());
    let listening = Socket(listener.into_raw_fd());
    let _peers: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    ring.accept(listening, LISTENER);
    ring.cancel(listening);
    for _ in 0..3 {
        let completion = next(&mut ring);
        let Completion::Accepted { result: Ok(socket), more: true, .. } = completion else {
            panic!("{completion:?}")
        };
        ring.close(socket);
    }
    let end = next(&mut ring);
    assert!(matches!(end, Completion::Accepted { result: Err(_), more: false, .. }), "{end:?}");
    ring.close(listening);
}

#[test]
fn a_connection_is_accepted_answered_and_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut ring = checked();
    let listening = Socket(listener.into_raw_fd());
    ring.accept(listening, LISTENER);
    assert!(there(&mut ring).is_empty(), "nothing to accept, and it does not block");
    let mut peers: Vec<_> = (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut accepted = Vec::new();
    while accepted.len() < peers.len() {
        let Completion::Accepted { listener: LISTENER, result: Ok(socket), more: true } =
            next(&mut ring)
        else {
            panic!()
        };
        accepted.push(socket);
    }
    let (socket, peer) = (accepted[0], &mut peers[0]);
    assert_eq!(ring.peer_addr(socket), peer.local_addr().ok());
    ring.receive(socket, TOKEN);
    for text in [&b"hello"[..], b"once more"] {
        peer.write_all(text).unwrap();
        let completion = next(&mut ring);
        assert_eq!(data(&mut ring, completion), (text.to_vec(), true));
        ring.send(socket, TOKEN, batch(&Bytes::copy_from_slice(text)));
        assert!(matches!(next(&mut ring), Completion::Sent { token: TOKEN, result: Ok(_), .. }));
        let mut read = vec![0; text.len()];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(read, text);
    }
    // The last bytes and the end of the stream come with one event.
    peer.write_all(b"bye").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let completion = next(&mut ring);
    assert_eq!(data(&mut ring, completion), (b"bye".to_vec(), true));
    let end = next(&mut ring);
    assert!(
        matches!(end, Completion::Received { result: ReceiveResult::EndOfStream, more: false, .. }),
        "{end:?}"
    );
    accepted.into_iter().for_each(|it| ring.close(it));
    ring.cancel(listening);
    let end = there(&mut ring).pop();
    assert!(
        matches!(end, Some(Completion::Accepted { result: Err(_), more: false, .. })),
        "{end:?}"
    );
    ring.close(listening);
    assert_eq!(ring.sockets.count(), 0);
    ring.demand_nothing_is_left();
}

#[test]
fn a_send_goes_on_when_there_is_room_and_returns_its_batch_whole() {
    let (mut ring, socket, mut theirs) = connected();
    let bytes = Bytes::from((0..4 << 20).map(|index: u32| index as u8).collect::<Vec<_>>());
    ring.send(socket, TOKEN, batch(&bytes));
    assert!(there(&mut ring).is_empty(), "more than the socket holds");
    let mut read = vec![0; bytes.len()];
    let (mut done, mut sent) = (0, None);
    while sent.is_none() {
        done += theirs.read(&mut read[done..]).unwrap();
        sent = there(&mut ring).pop();
    }
    let Some(Completion::Sent { token: TOKEN, result: Ok(count), batch }) = sent else { panic!() };
    assert_eq!((count, batch.len()), (bytes.len(), bytes.len()), "the owner takes them off");
    theirs.read_exact(&mut read[done..]).unwrap();
    assert!(read == bytes, "each byte once, in order");
    ring.close(socket);
}

#[test]
fn what_is_cancelled_comes_back() {
    let (mut ring, socket, theirs) = connected();
    let (other, _other_peer) = UnixStream::pair().unwrap();
    let other = Socket(other.into_raw_fd());
    ring.receive(other, OTHER);
    ring.cancel(other);
    assert_eq!(there(&mut ring).len(), 1);
    ring.close(other);
    ring.receive(socket, TOKEN);
    ring.cancel_receive(OTHER);
    assert!(there(&mut ring).is_empty(), "another one's");
    ring.cancel_receive(TOKEN);
    let mut out = there(&mut ring);
    let cancelled = out.pop();
    assert!(
        matches!(
            cancelled,
            Some(Completion::Received { result: ReceiveResult::Cancelled, more: false, .. })
        ),
        "{cancelled:?}"
    );
    ring.receive(socket, TOKEN);
    ring.send(socket, TOKEN, batch(&Bytes::from(vec![0; 4 << 20])));
    assert!(there(&mut ring).is_empty());
    ring.cancel(socket);
    let out = there(&mut ring);
    let [Completion::Received { .. }, Completion::Sent { result: Ok(1..), .. }] = &out[..] else {
        panic!("{out:?}")
    };
    ring.close(socket);
    drop(theirs);
}

/// Edges come once: bytes that a single receive left, or that came while there was none, are found by
/// the next.
#[test]
fn what_waits_in_a_socket_is_found_by_a_later_receive() {
    let (mut ring, socket, mut theirs) = connected();
    let sent: Vec<u8> = (0..50_000_u32).map(|index| index as u8).collect();
    theirs.write_all(&sent).unwrap();
    let mut read = Vec::new();
    while read.len() < sent.len() {
        ring.receive_once(socket, TOKEN);
        let completion = next(&mut ring);
        let (bytes, more) = data(&mut ring, completion);
        assert!(!more && bytes.len() <= ONCE_BYTES_MAX);
        read.extend(bytes);
    }
    assert!(read == sent);
    theirs.write_all(b"while nothing receives").unwrap();
    assert!(there(&mut ring).is_empty());
    ring.receive(socket, TOKEN);
    let completion = next(&mut ring);
    assert_eq!(data(&mut ring, completion).0, b"while nothing receives");
    close(&mut ring, socket);
}

#[test]
fn the_next_socket_with_a_descriptor_inherits_nothing() {
    let (mut ring, socket, theirs) = connected();
    ring.receive(socket, TOKEN);
    ring.cancel(socket);
    assert_eq!(there(&mut ring).len(), 1);
    drop(theirs);
    let (next_ours, _next_theirs) = UnixStream::pair().unwrap();
    ring.close(socket);
    rustix::io::dup(&next_ours).map(|fd| assert_eq!(fd.into_raw_fd(), socket.0)).unwrap();
    ring.opened(socket);
    ring.receive(socket, OTHER);
    assert!(there(&mut ring).is_empty(), "the end of the other stream");
    close(&mut ring, socket);
}

#[test]
fn the_descriptor_is_readable_at_the_deadline() {
    let mut ring = checked();
    let is_readable = |ring: &Checked<EpollRing>, timeout: i32| {
        let descriptor = ring.descriptor();
        let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
        let timeout = Timespec { tv_sec: timeout.into(), tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0
    };
    ring.set_deadline(ring.now() + Duration::from_secs(3600));
    assert!(!is_readable(&ring, 0));
    let earlier = ring.now() + Duration::from_millis(5);
    ring.set_deadline(earlier);
    ring.set_deadline(earlier + Duration::from_secs(3600));
    assert!(is_readable(&ring, 60), "the earliest counts");
    assert!(ring.now() >= earlier);
    ring.poll(1, &mut Vec::new()).unwrap();
    assert!(!is_readable(&ring, 0), "it has passed");
    ring.set_deadline(ring.now());
    assert!(is_readable(&ring, 60), "and the next");
}

#[test]
fn waits_end_with_the_deadline_and_with_a_signal() {
    let mut ring = checked();
    for _ in 0..2 {
        // The second of them begins anew, as the alarm of the first is over.
        ring.set_deadline(ring.now());
        ring.set_deadline(ring.now() + Duration::from_secs(3600));
        ring.wait().unwrap();
        ring.poll(1, &mut Vec::new()).unwrap();
    }
    for _ in 0..2 {
        // Not read, and an edge each time.
        rustix::io::write(ring.signal(), &1_u64.to_ne_bytes()).unwrap();
        ring.wait().unwrap();
    }
    assert!(!ring.has_work(), "a signal is no completion");
    assert_eq!(ring.enters(), 4);
}

#[test]
fn a_poll_returns_no_more_than_it_is_asked_for_and_the_rest_next() {
    let mut ring = checked();
    let mut peers = Vec::new();
    for slot in 0..10 {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        let socket = Socket(ours.into_raw_fd());
        ring.receive(socket, Token { slot, generation: 0 });
        peers.push((socket, theirs));
    }
    let (mut out, mut slots) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        ring.poll(3, &mut out).unwrap();
        assert!((1..=3).contains(&out.len()) && ring.has_work() == (slots.len() + out.len() < 10));
        for completion in out.drain(..) {
            let Completion::Received { token, result: ReceiveResult::Data(piece), .. } = completion
            else {
                panic!()
            };
            slots.push(token.slot);
            ring.release(piece);
        }
    }
    slots.sort_unstable();
    assert!(slots.into_iter().eq(0..10));
    peers.into_iter().for_each(|(socket, _)| close(&mut ring, socket));
}

#[test]
fn a_poll_receives_from_a_full_socket_a_few_times_and_the_next_goes_on() {
    let (mut ring, socket, mut theirs) = connected();
    rustix::net::sockopt::set_socket_send_buffer_size(&theirs, 208 << 10).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut written = 0;
    while let Ok(count) = theirs.write(&[7; 64 << 10]) {
        written += count;
    }
    let most = ROUNDS_PER_POLL * RECEIVE_BYTES_MAX;
    assert!(written > most, "{written} bytes are in the socket: more than a poll receives");
    ring.receive(socket, TOKEN);
    let mut left = written;
    while left > 0 {
        let mut out = Vec::new();
        ring.poll(100, &mut out).unwrap();
        let count: usize = out.into_iter().map(|it| data(&mut ring, it).0.len()).sum();
        assert!((1..=most).contains(&count), "{count} bytes with one poll");
        left -= count;
        assert!(left == 0 || ring.has_work(), "the rest is known");
    }
    close(&mut ring, socket);
}

/// Sleeping fetches the events, so the two polls of a turn that serves them and of one that is idle make
/// no call; an owner that does not sleep looks again.
#[test]
fn a_cycle_of_sleep_and_turns_fetches_once() {
    let (mut ring, socket, mut theirs) = connected();
    ring.receive(socket, TOKEN);
    assert!(there(&mut ring).is_empty());
    let before = ring.enters();
    for cycle in 1..=3 {
        theirs.write_all(b"x").unwrap();
        ring.wait().unwrap();
        let mut out = Vec::new();
        ring.poll(10, &mut out).unwrap();
        assert_eq!(data(&mut ring, out.remove(0)).0, b"x");
        ring.poll(10, &mut out).unwrap();
        assert!(out.is_empty());
        assert_eq!(ring.enters(), before + cycle);
    }
    theirs.write_all(b"y").unwrap();
    let mut out = Vec::new();
    ring.poll(10, &mut out).unwrap();
    let completion = out.pop().expect("without a sleep");
    assert_eq!(data(&mut ring, completion).0, b"y");
    close(&mut ring, socket);
}

#[test]
fn a_socket_that_is_none_fails_by_a_completion() {
    let mut ring = checked();
    ring.receive(Socket(i32::MAX - 1), TOKEN);
    let out = there(&mut ring);
    assert!(matches!(&out[..], [Completion::Received { result: ReceiveResult::Failed(_), .. }]));
}

#[test]
fn bytes_of_a_turn_lie_in_one_buffer_which_begins_anew() {
    let (mut ring, socket, mut theirs) = connected();
    ring.receive(socket, TOKEN);
    let mut addresses = Vec::new();
    for _ in 0..3 {
        theirs.write_all(b"some bytes").unwrap();
        let Completion::Received { result: ReceiveResult::Data(piece), .. } = next(&mut ring)
        else {
            panic!()
        };
        addresses.push(ring.bytes(&piece).as_ptr());
        ring.release(piece);
    }
    assert!(addresses.iter().all(|it| *it == addresses[0]));
    assert_eq!(ring.recv_buffers(), 1);
    close(&mut ring, socket);
}

#[test]
fn kept_pieces_and_loans_are_not_overwritten_and_both_are_bounded() {
    let mut buffers = Buffers::default();
    let piece = |buffers: &mut Buffers, fill: u8| {
        buffers
            .space(RECEIVE_BYTES_MAX)
            .map(|it| it.fill(fill))
            .and_then(|()| buffers.cut(RECEIVE_BYTES_MAX))
    };
    let (mut kept, mut loans, mut count) = (Vec::new(), Vec::new(), 0_u32);
    while let Some(mut it) = piece(&mut buffers, count as u8) {
        if count % 2 == 0 && buffers.keep(&mut it, false) {
            kept.push((it, count as u8));
        } else if let Some(loan) = buffers.lend(&it) {
            loans.push((loan, count as u8));
            buffers.release(it);
        } else {
            buffers.release(it);
        }
        count += 1;
        if count > 4096 {
            break;
        }
    }
    for (piece, fill) in &kept {
        assert!(buffers.bytes(piece).iter().all(|byte| byte == fill));
    }
    assert!(loans.iter().all(|(loan, fill)| loan.as_slice().iter().all(|byte| byte == fill)));
    let most = buffers.count();
    kept.into_iter().for_each(|(piece, _)| buffers.release(piece));
    drop(loans);
    assert!(most > 2 && buffers.has_spare(), "{most} buffers");
    buffers.trim();
    buffers.trim();
    assert_eq!((buffers.count(), buffers.has_spare()), (1, false));
}
