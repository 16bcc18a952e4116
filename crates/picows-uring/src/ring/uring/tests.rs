//! Rings that go before their time, with operations in flight; what a socket takes or has at once.

use super::*;
use crate::ring::Segment;
use crate::testing::ring::checked::Checked;
use bytes::Bytes;
use std::cell::Cell;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

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

/// A ring under the contract: what a test asks of it is what a worker may.
fn checked(waiting: WaitMode) -> Checked<UringRing> {
    Checked::new(UringRing::new(waiting).unwrap())
}

const TOKEN: Token = Token { slot: 0, generation: 0 };

fn batch(bytes: &Bytes) -> Box<SendBatch> {
    let mut batch = Box::<SendBatch>::default();
    batch.push(Segment::shared(bytes.clone()));
    batch
}

/// Operations that fill the queue leave at once, as long as there is room for what comes of them; the rest
/// waits for a poll.
#[test]
fn what_fills_the_queue_of_operations_is_kept_apart_only_for_the_completions() {
    let mut ring = UringRing::new(WaitMode::Dedicated).unwrap();
    for _ in 0..COMPLETIONS_KEPT {
        ring.cancel_receive(TOKEN);
    }
    assert_eq!((ring.overflow.capacity(), ring.enters), (0, 3));
    for _ in COMPLETIONS_KEPT..7000 {
        ring.cancel_receive(TOKEN);
    }
    assert_eq!((ring.overflow.len(), ring.ring.completion().len()), (7000 - 6 * 1024, 5 * 1024));
    let mut out = Vec::new();
    while ring.in_flight > 0 {
        ring.poll(512, &mut out).unwrap();
        assert!(!ring.ring.submission().cq_overflow(), "the kernel has room for all of them");
    }
    assert!(out.is_empty() && ring.overflow.is_empty());
}

/// The kernel reads the buffers of a send until it has completed: they outlive it.
#[test]
fn a_ring_that_is_dropped_waits_for_its_sends() {
    let mut ring = checked(WaitMode::Dedicated);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (socket, bytes) = (Socket(ours.into_raw_fd()), Bytes::from(vec![7; 16 << 20]));
    ring.send(socket, TOKEN, batch(&bytes));
    ring.receive(socket, TOKEN);
    ring.set_deadline(Duration::from_secs(3600));
    ring.poll(10, &mut Vec::new()).unwrap();
    assert!(!bytes.is_unique(), "the kernel has them");
    ring.close_on_failure(socket);
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
    ring: &mut Checked<UringRing>,
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
                let ReceiveResult::Data(buffer) = result else { continue };
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
    let mut ring = checked(WaitMode::Dedicated);
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
    let mut ring = checked(WaitMode::Dedicated);
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
    let mut ring = checked(WaitMode::Dedicated);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let socket = Socket(ours.into_raw_fd());
    ring.send(socket, TOKEN, batch(&Bytes::from_static(b"a secret")));
    ring.close_on_failure(socket);
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

fn of_segments<'a>(segments: impl IntoIterator<Item = &'a [u8]>) -> SendBatch {
    let mut batch = SendBatch::default();
    for segment in segments {
        batch.push(Segment::shared(Bytes::copy_from_slice(segment)));
    }
    batch
}

/// A ring, and two sockets that are connected.
fn connected() -> (Checked<UringRing>, UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (checked(WaitMode::Dedicated), ours, theirs)
}

#[test]
fn a_send_at_once_takes_what_there_is_room_for_and_then_nothing() {
    let (mut ring, ours, mut theirs) = connected();
    let socket = Socket(ours.as_raw_fd());
    let bytes: Vec<u8> = (0..4 << 20).map(|index| (index % 251) as u8).collect();
    let (mut batch, mut read, mut full) = (of_segments(bytes.chunks(1 << 20)), Vec::new(), 0);
    let first = ring.send_now(socket, &batch).unwrap();
    assert!((1..batch.len()).contains(&first), "a part: {first}");
    batch.advance(first, drop);
    while !batch.is_empty() {
        match ring.send_now(socket, &batch) {
            Ok(0) => panic!("no room is an error"),
            Ok(count) => batch.advance(count, drop),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                full += 1;
                let start = read.len();
                read.resize(bytes.len() - batch.len(), 0);
                theirs.read_exact(&mut read[start..]).unwrap();
            }
        }
    }
    drop(ours);
    theirs.read_to_end(&mut read).unwrap();
    assert!(full > 0 && read == bytes, "what was counted has left, and nothing else");
}

#[test]
fn of_many_segments_a_send_at_once_counts_those_it_took() {
    let (mut ring, ours, mut theirs) = connected();
    let segments: Vec<_> =
        (0..2 * direct::SEGMENTS_PER_CALL_MAX + 3).map(|index| [index as u8; 9]).collect();
    let mut batch = of_segments(segments.iter().map(|segment| &segment[..]));
    let mut counts = Vec::new();
    while !batch.is_empty() {
        let count = ring.send_now(Socket(ours.as_raw_fd()), &batch).unwrap();
        assert!(count > 0, "there is room");
        batch.advance(count, drop);
        counts.push(count);
    }
    assert_eq!(
        counts,
        [direct::SEGMENTS_PER_CALL_MAX, direct::SEGMENTS_PER_CALL_MAX, 3].map(|count| count * 9)
    );
    drop(ours);
    let mut read = Vec::new();
    theirs.read_to_end(&mut read).unwrap();
    assert_eq!(read, segments.concat());
}

/// Programs other than those of Rust do not ignore the signal, and may lend us their threads.
#[test]
fn a_send_at_once_to_a_peer_that_is_gone_fails_without_a_signal() {
    // A thread of its own, as its signals are blocked, so that one which is ignored is kept as well.
    let ran = std::thread::spawn(|| {
        let mut signals = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` makes the set that the others use, and it outlives the calls.
        #[expect(unsafe_code)]
        let result = unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            libc::sigaddset(signals.as_mut_ptr(), libc::SIGPIPE);
            libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut())
        };
        assert_eq!(result, 0);
        for segments in [&[&b"one"[..]][..], &[b"one", b"two"]] {
            let (mut ring, ours, theirs) = connected();
            drop(theirs);
            let batch = of_segments(segments.iter().copied());
            let error = ring.send_now(Socket(ours.as_raw_fd()), &batch).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
            let pending = u64::from_str_radix(pending.trim(), 16).unwrap();
            assert_eq!(pending & (1 << (libc::SIGPIPE - 1)), 0, "{}", segments.len());
        }
    });
    ran.join().unwrap();
}

#[test]
fn a_send_at_once_returns_that_the_peer_has_reset_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for is_sending in [true, false] {
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        // Closed with unread bytes: a reset (RFC 2525 §2.17), once they are there.
        ours.write_all(b"unread").unwrap();
        assert_eq!(theirs.peek(&mut [0]).unwrap(), 1);
        theirs.write_all(b"x").unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap(), 1);
        drop(theirs);
        let mut ring = checked(WaitMode::Dedicated);
        let socket = Socket(ours.as_raw_fd());
        let deadline = Instant::now() + Duration::from_secs(20);
        // Until it has arrived, at once is too early.
        let error = loop {
            assert!(Instant::now() < deadline, "it does not arrive");
            let mut memory = Vec::new();
            let result = if is_sending {
                ring.send_now(socket, &of_segments([&b"late"[..]]))
            } else {
                ring.receive_now(socket, Room::new(&mut memory, 0, 10, 10).unwrap())
            };
            match result {
                Ok(count) => assert!(is_sending && count > 0, "{count}: not the end of the stream"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{is_sending}");
    }
}

#[test]
fn what_is_received_at_once_lies_behind_the_gap_and_is_no_more_than_asked_for() {
    let (mut ring, ours, mut theirs) = connected();
    let socket = Socket(ours.as_raw_fd());
    theirs.write_all(b"Hello, and the rest").unwrap();
    // More memory than is asked for.
    let mut memory = Vec::with_capacity(1000);
    memory.extend_from_slice(b"kept");
    assert_eq!(ring.receive_now(socket, Room::new(&mut memory, 14, 5, 5).unwrap()).unwrap(), 5);
    assert_eq!((&memory[..4], &memory[4 + 14..]), (&b"kept"[..], &b"Hello"[..]));
    // Nor does it take what it has no room for.
    assert!(ring.unread(socket) > 0);
    let before = memory.clone();
    assert_eq!(ring.receive_now(socket, Room::new(&mut memory, 0, 900, 900).unwrap()).unwrap(), 14);
    assert_eq!(memory, [&before[..], b", and the rest"].concat());
}

#[test]
fn where_nothing_is_received_at_once_the_memory_is_as_it_was() {
    let (mut ring, ours, theirs) = connected();
    let socket = Socket(ours.as_raw_fd());
    let mut memory = b"kept".to_vec();
    let result = ring.receive_now(socket, Room::new(&mut memory, 14, 100, 100).unwrap());
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(memory, b"kept");
    drop(theirs);
    assert_eq!(ring.receive_now(socket, Room::new(&mut memory, 14, 100, 100).unwrap()).unwrap(), 0);
    assert_eq!(memory, b"kept", "at the end of the stream");
}

const TOKEN_OF_A: Token = Token { slot: 1, generation: 0 };
const TOKEN_OF_B: Token = Token { slot: 2, generation: 0 };

/// Two connections receive at the same time, A by a single receive and B by one that `receive_b`
/// begins; their completions come in the order of the kernel, or the other way round. Returns how
/// many brought bytes, which are those of their connection.
fn receive_in_order(receive_b: fn(&mut UringRing, Socket), is_reversed: bool) -> usize {
    // Not checked: its completions are taken from the kernel, past `poll`.
    let mut ring = UringRing::new(WaitMode::Dedicated).unwrap();
    let (a, mut peer_of_a) = UnixStream::pair().unwrap();
    let (b, mut peer_of_b) = UnixStream::pair().unwrap();
    receive_b(&mut ring, Socket(b.as_raw_fd()));
    ring.receive_once(Socket(a.as_raw_fd()), TOKEN_OF_A);
    ring.enter(0).unwrap();
    peer_of_a.write_all(b"secret of A").unwrap();
    peer_of_b.write_all(b"hello of B!").unwrap();
    let mut entries: Vec<cqueue::Entry> = Vec::new();
    while entries.len() < 2 {
        ring.enter(1).unwrap();
        entries.extend(ring.ring.completion());
    }
    if is_reversed {
        entries.reverse();
    }
    let mut right = 0;
    for entry in &entries {
        let Some(Completion::Received { token, result, .. }) = ring.complete(entry) else {
            panic!("of a receive");
        };
        let ReceiveResult::Data(buffer) = result else { panic!("{result:?}") };
        let wanted: &[u8] = if token == TOKEN_OF_A { b"secret of A" } else { b"hello of B!" };
        assert_eq!(ring.bytes(&buffer), wanted, "the bytes of another connection");
        ring.release(buffer);
        right += 1;
    }
    right
}

/// Kernels before 6.15 may post a single receive, whose completion is deferred, behind a multishot
/// one that came later.
#[test]
fn completions_in_another_order_do_not_mix_up_connections() {
    let multishot: fn(&mut UringRing, Socket) = |ring, socket| ring.receive(socket, TOKEN_OF_B);
    let single: fn(&mut UringRing, Socket) = |ring, socket| ring.receive_once(socket, TOKEN_OF_B);
    for is_old in [false, true] {
        if is_old {
            buffers::tests::be_old();
        }
        for receive_b in [single, multishot] {
            for is_reversed in [false, true] {
                assert_eq!(receive_in_order(receive_b, is_reversed), 2);
            }
        }
    }
}

/// Of a thousand buffers' worth of pieces, in both groups.
#[test]
fn single_receives_take_turns_with_multishot_ones() {
    let mut ring = checked(WaitMode::Dedicated);
    let (a, mut peer_of_a) = UnixStream::pair().unwrap();
    let (b, mut peer_of_b) = UnixStream::pair().unwrap();
    let (socket_a, socket_b) = (Socket(a.as_raw_fd()), Socket(b.as_raw_fd()));
    ring.receive(socket_b, TOKEN_OF_B);
    let (mut got_a, mut got_b, mut out) = (0, 0, Vec::new());
    for _ in 0..1000 {
        ring.receive_once(socket_a, TOKEN_OF_A);
        peer_of_a.write_all(&[b'a'; 5000]).unwrap();
        peer_of_b.write_all(&[b'b'; 3000]).unwrap();
        let (until_a, until_b) = (got_a + 5000, got_b + 3000);
        while got_a < until_a || got_b < until_b {
            ring.wait().unwrap();
            ring.poll(10, &mut out).unwrap();
            for completion in out.drain(..) {
                let Completion::Received { token, result, more } = completion else { panic!() };
                if let ReceiveResult::Data(buffer) = result {
                    let (byte, got) = match token {
                        TOKEN_OF_A => (b'a', &mut got_a),
                        _ => (b'b', &mut got_b),
                    };
                    let bytes = ring.bytes(&buffer);
                    assert!(bytes.iter().all(|it| *it == byte), "of another connection");
                    *got += bytes.len();
                    ring.release(buffer);
                }
                if token == TOKEN_OF_A && got_a < until_a {
                    ring.receive_once(socket_a, TOKEN_OF_A);
                } else if token == TOKEN_OF_B && !more {
                    ring.receive(socket_b, TOKEN_OF_B);
                }
            }
        }
    }
    assert_eq!((got_a, got_b), (5_000_000, 3_000_000));
}

/// Whether the eventfd was signalled after a deadline had passed.
fn is_signalled_by(ring: &mut Checked<UringRing>) -> bool {
    ring.set_deadline(ring.now());
    ring.wait().unwrap();
    ring.poll(1, &mut Vec::new()).unwrap();
    rustix::io::read(ring.descriptor(), &mut [0; 8]).is_ok()
}

#[test]
fn a_ring_that_is_hosted_no_longer_signals_to_itself() {
    let mut ring = checked(WaitMode::Hosted);
    assert!(is_signalled_by(&mut ring));
    ring.dedicate().unwrap();
    assert!(!is_signalled_by(&mut ring));
}
