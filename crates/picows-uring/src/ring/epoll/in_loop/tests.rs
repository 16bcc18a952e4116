//! Sockets that a tokio loop watches, and those that it does not.

use super::super::EpollRing;
use super::WATCHED_MAX;
use crate::ring::{
    Completion, ReceiveResult, Ring, RingEvent, Segment, SendBatch, Socket, Token, Wait,
};
use crate::testing::ring::checked::Checked;
use bytes::Bytes;
use rustix::fd::IntoRawFd;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A ring that a task of `runtime` owns.
struct Hosted {
    runtime: Runtime,
    ring: Checked<EpollRing>,
    event: RingEvent,
}

fn token(slot: u32) -> Token {
    Token { slot, generation: 1 }
}

impl Hosted {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut ring = Checked::new(EpollRing::new().unwrap());
        let event = runtime.block_on(async { RingEvent::watch(&ring) }).unwrap();
        ring.join_loop();
        Self { runtime, ring, event }
    }

    /// A socket that receives for a token, and its peer.
    fn connect(&mut self, slot: u32) -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Socket(ours.into_raw_fd());
        self.ring.opened(socket);
        self.receive(socket, slot);
        (socket, theirs)
    }

    fn receive(&mut self, socket: Socket, slot: u32) {
        let _guard = self.runtime.enter();
        self.ring.receive(socket, token(slot));
    }

    /// Sleeps as a host does. Whether the sleep ended within `patience`.
    fn sleep(&mut self, patience: Duration) -> bool {
        let Self { runtime, ring, event } = self;
        ring.set_signals(true);
        let woken = poll_fn(|context| {
            let signal = event.poll_signal(context).map(|signal| signal.unwrap());
            ring.poll_sockets(context, signal.is_ready())
        });
        let woken = runtime.block_on(async { timeout(patience, woken).await });
        ring.set_signals(false);
        woken.is_ok()
    }

    /// Sleeps and polls until there is a completion.
    fn next(&mut self) -> Completion {
        loop {
            if let Some(completion) = self.poll() {
                return completion;
            }
            assert!(self.sleep(PATIENCE), "something wakes it");
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        let mut out = Vec::new();
        self.ring.poll(1, &mut out).unwrap();
        out.pop()
    }

    /// Sleeps until nothing more ends the sleep: what registering brings is over then.
    fn settle(&mut self) {
        while self.sleep(Duration::from_millis(1)) {
            assert!(self.poll().is_none());
        }
    }

    /// What a completion brought for the token of `slot`.
    fn data(&mut self, completion: Completion, slot: u32) -> Vec<u8> {
        let (of, bytes) = self.received(completion);
        assert_eq!(of, slot);
        bytes
    }

    fn received(&mut self, completion: Completion) -> (u32, Vec<u8>) {
        let Completion::Received { token, result: ReceiveResult::Data(piece), .. } = completion
        else {
            panic!("{completion:?}")
        };
        let bytes = self.ring.bytes(&piece).to_vec();
        self.ring.release(piece);
        (token.slot, bytes)
    }
}

#[test]
fn a_message_for_a_watched_socket_costs_no_look_at_the_descriptor() {
    let mut hosted = Hosted::new();
    let (_, mut peer) = hosted.connect(1);
    hosted.settle();
    let before = hosted.ring.enters();
    for text in ["a", "b", "c"] {
        peer.write_all(text.as_bytes()).unwrap();
        assert!(hosted.sleep(PATIENCE));
        let completion = hosted.poll().expect("it is there");
        assert_eq!(hosted.data(completion, 1), text.as_bytes());
    }
    assert_eq!(hosted.ring.enters(), before);
}

#[test]
fn sockets_beyond_the_first_few_are_found_by_the_descriptor() {
    let mut hosted = Hosted::new();
    let count = WATCHED_MAX as u32 + 2;
    let mut all: Vec<_> = (0..count).map(|slot| hosted.connect(slot)).collect();
    hosted.settle();
    for slot in (0..count).rev() {
        all[slot as usize].1.write_all(b"a").unwrap();
        let before = hosted.ring.enters();
        assert!(hosted.sleep(PATIENCE));
        let completion = hosted.poll().expect("it is there");
        assert_eq!(hosted.data(completion, slot), b"a");
        assert_eq!(hosted.ring.enters() > before, slot as usize >= WATCHED_MAX, "slot {slot}");
    }
    // Of both kinds at once.
    for slot in [0, count - 1] {
        all[slot as usize].1.write_all(b"b").unwrap();
    }
    let mut found = [0, 1].map(|_| {
        let completion = hosted.next();
        hosted.received(completion).0
    });
    found.sort_unstable();
    assert_eq!(found, [0, count - 1]);
}

#[test]
fn turns_without_a_sleep_find_what_the_loop_does_not_know_yet() {
    let mut hosted = Hosted::new();
    let (_, mut peer) = hosted.connect(1);
    hosted.settle();
    peer.write_all(b"a").unwrap();
    // The loop is not run.
    let found = (0..3).find_map(|_| hosted.poll());
    assert_eq!(hosted.data(found.expect("within few polls"), 1), b"a");
}

#[test]
fn work_of_this_thread_ends_a_sleep_and_takes_what_the_loop_has_found() {
    let mut hosted = Hosted::new();
    let (_, mut peer) = hosted.connect(1);
    hosted.settle();
    peer.write_all(b"a").unwrap();
    hosted.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    hosted.ring.set_signals(true);
    let mut context = Context::from_waker(Waker::noop());
    assert!(hosted.ring.poll_sockets(&mut context, true).is_ready());
    hosted.ring.set_signals(false);
    let completion = hosted.poll().expect("it was found");
    assert_eq!(hosted.data(completion, 1), b"a");
}

#[test]
fn the_end_of_a_stream_is_found_once_and_does_not_keep_the_loop_awake() {
    let mut hosted = Hosted::new();
    let (socket, mut peer) = hosted.connect(1);
    peer.write_all(b"a").unwrap();
    let completion = hosted.next();
    assert_eq!(hosted.data(completion, 1), b"a");
    hosted.ring.cancel_receive(token(1));
    assert!(matches!(
        hosted.next(),
        Completion::Received { result: ReceiveResult::Cancelled, more: false, .. }
    ));
    // While it is not read.
    drop(peer);
    hosted.settle();
    hosted.receive(socket, 1);
    let end = hosted.next();
    assert!(matches!(end, Completion::Received { result: ReceiveResult::EndOfStream, .. }));
    hosted.settle();
    hosted.ring.close(socket);
}

#[test]
fn a_send_goes_on_when_the_loop_finds_room() {
    let mut hosted = Hosted::new();
    let (socket, mut peer) = hosted.connect(1);
    hosted.settle();
    let bytes = Bytes::from(vec![7; 4 << 20]);
    let mut batch = Box::<SendBatch>::default();
    batch.push(Segment::shared(bytes.clone()));
    hosted.ring.send(socket, token(1), batch);
    assert!(hosted.poll().is_none(), "no socket takes so much");
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 4 << 20];
        peer.read_exact(&mut got).unwrap();
        (got, peer)
    });
    let before = hosted.ring.enters();
    let Completion::Sent { result: Ok(sent), .. } = hosted.next() else { panic!("it is sent") };
    assert_eq!(sent, bytes.len());
    assert!(hosted.ring.enters() <= before + 1, "the loop finds it, not the descriptor");
    assert_eq!(reader.join().unwrap().0, bytes);
}

#[test]
fn behind_the_loop_the_descriptor_finds_all_sockets() {
    let mut hosted = Hosted::new();
    let mut all: Vec<_> = (0..3).map(|slot| hosted.connect(slot)).collect();
    hosted.settle();
    // One is readable already, one becomes so, and one is closed.
    all[0].1.write_all(b"a").unwrap();
    hosted.ring.leave_loop();
    drop(hosted.event);
    drop(hosted.runtime);
    let mut ring = hosted.ring;
    ring.dedicate().unwrap();
    all[1].1.write_all(b"b").unwrap();
    drop(all.pop());
    let (mut out, mut found) = (Vec::new(), Vec::new());
    while found.len() < 3 {
        ring.wait().unwrap();
        ring.poll(3, &mut out).unwrap();
        for completion in out.drain(..) {
            let Completion::Received { token, result, .. } = completion else {
                panic!("{completion:?}")
            };
            if let ReceiveResult::Data(piece) = result {
                ring.release(piece);
            }
            found.push(token.slot);
        }
    }
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2]);
}

#[test]
fn the_next_socket_with_a_descriptor_is_watched_anew() {
    let mut hosted = Hosted::new();
    for round in 0..2 * WATCHED_MAX as u32 {
        let (socket, mut peer) = hosted.connect(round);
        peer.write_all(b"a").unwrap();
        let completion = hosted.next();
        assert_eq!(hosted.data(completion, round), b"a");
        hosted.settle();
        let before = hosted.ring.enters();
        peer.write_all(b"b").unwrap();
        assert!(hosted.sleep(PATIENCE));
        let completion = hosted.poll().expect("it is there");
        assert_eq!(hosted.data(completion, round), b"b");
        assert_eq!(hosted.ring.enters(), before, "the places of closed sockets are free again");
        hosted.ring.cancel(socket);
        assert!(matches!(hosted.next(), Completion::Received { .. }));
        hosted.ring.close(socket);
    }
}
