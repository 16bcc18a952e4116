//! Streams on a ring played by hand: what carriers are asked for, and what completes.

use super::*;
use crate::ring::{Segment, SendBatch};
use crate::testing::ring::scripted::ByHand;
use std::any::Any;
use std::cell::{Cell, RefCell};

const TOKEN: Token = Token { slot: 3, generation: 1 };

/// What a carrier was asked for.
#[derive(Default)]
struct Seen {
    calls: RefCell<Vec<String>>,
    /// It holds what it is given.
    holds: Cell<bool>,
}

struct Noting(Rc<Seen>);

impl Noting {
    fn note(&self, call: impl Into<String>) {
        self.0.calls.borrow_mut().push(call.into());
    }
}

impl Carrier for Noting {
    fn set_reading(&self, is_on: bool) {
        self.note(if is_on { "read" } else { "stop" });
    }

    fn write(&self, bytes: &[u8]) -> bool {
        self.note(String::from_utf8_lossy(bytes));
        !self.0.holds.get()
    }

    fn shut_down(&self) {
        self.note("shut down");
    }

    fn close(&self) {
        self.note("close");
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Bench {
    ring: Outside<ByHand>,
    seen: Rc<Seen>,
    carried: Carried,
    socket: Socket,
}

impl Bench {
    fn new() -> Self {
        let ring = Outside::new(ByHand::default());
        let seen = Rc::<Seen>::default();
        let socket = ring.streams().open(Box::new(Noting(Rc::clone(&seen))), None);
        let carried = ring.streams().handle(Rc::new(|| {}), socket);
        Self { ring, seen, carried, socket }
    }

    fn calls(&self) -> Vec<String> {
        self.seen.calls.take()
    }

    /// Completions, as text.
    fn poll(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.ring.poll(16, &mut out).unwrap();
        out.into_iter().map(|completion| self.shown(completion)).collect()
    }

    fn shown(&mut self, completion: Completion) -> String {
        match completion {
            Completion::Received { token, result, more } => {
                assert_eq!(token, TOKEN);
                let text = match result {
                    ReceiveResult::Data(buffer) => {
                        let text = String::from_utf8_lossy(self.ring.bytes(&buffer)).into_owned();
                        self.ring.release(buffer);
                        text
                    }
                    other => format!("{other:?}"),
                };
                format!("{text}{}", if more { "" } else { ", the last" })
            }
            Completion::Sent { token, result, batch } => {
                assert_eq!(token, TOKEN);
                format!(
                    "sent {} of {}",
                    result.map_or("none".into(), |it| it.to_string()),
                    batch.len()
                )
            }
            other => format!("{other:?}"),
        }
    }

    fn fill(&self, bytes: &[u8]) {
        let (memory, len) = self.carried.buffer();
        assert!(bytes.len() <= len);
        // SAFETY: there are so many bytes of memory, which nothing else uses.
        #[expect(unsafe_code)]
        unsafe {
            memory.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.carried.filled(bytes.len());
    }

    fn send(&mut self, parts: &[&str]) {
        let mut batch = Box::new(SendBatch::default());
        for part in parts {
            batch.push(Segment::Owned { bytes: part.as_bytes().to_vec(), start: 0 });
        }
        self.ring.send(self.socket, TOKEN, batch);
    }
}

#[test]
fn what_a_carrier_receives_completes_the_receive() {
    let mut bench = Bench::new();
    bench.ring.receive(bench.socket, TOKEN);
    bench.fill(b"one");
    bench.fill(&[b'x'; 5000]);
    assert!(bench.ring.has_work());
    assert_eq!(bench.poll(), ["one".to_owned(), "x".repeat(5000)]);
    assert!(!bench.ring.has_work());
    // It waits while nothing receives, and the carrier is asked to stop, once.
    assert!(bench.poll().is_empty());
    bench.ring.cancel_receive(TOKEN);
    assert_eq!(bench.poll(), ["Cancelled, the last"]);
    bench.fill(b"two");
    bench.fill(b"three");
    assert_eq!(bench.ring.unread(bench.socket), 8);
    assert!(bench.poll().is_empty());
    assert_eq!(bench.calls(), ["stop"]);
    bench.ring.receive_once(bench.socket, TOKEN);
    assert_eq!(bench.poll(), ["two, the last"]);
    assert_eq!(bench.calls(), [""; 0], "more waits");
    bench.ring.receive(bench.socket, TOKEN);
    assert_eq!(bench.poll(), ["three"]);
    assert_eq!(bench.calls(), ["read"]);
    bench.carried.ended(None);
    assert_eq!(bench.poll(), ["EndOfStream, the last"]);
    bench.ring.receive(bench.socket, TOKEN);
    assert_eq!(bench.poll(), ["EndOfStream, the last"], "each time");
}

#[test]
fn a_send_completes_when_the_carrier_holds_nothing() {
    let mut bench = Bench::new();
    bench.send(&["a", "b"]);
    assert_eq!(bench.calls(), [""; 0], "as with a kernel, it is queued");
    assert_eq!(bench.poll(), ["sent 2 of 2"]);
    assert_eq!(bench.calls(), ["a", "b"]);
    bench.seen.holds.set(true);
    bench.send(&["c"]);
    bench.carried.drained();
    assert!(bench.poll().is_empty(), "what was drained was before");
    assert_eq!(bench.calls(), ["c"]);
    bench.carried.drained();
    assert_eq!(bench.poll(), ["sent 1 of 1"]);
    // It is cancelled, or the stream ends.
    bench.send(&["d"]);
    assert!(bench.poll().is_empty());
    bench.ring.cancel(bench.socket);
    assert_eq!(bench.poll(), ["sent none of 1"]);
    bench.send(&["e"]);
    assert!(bench.poll().is_empty());
    bench.carried.ended(Some(io::ErrorKind::ConnectionReset));
    assert_eq!(bench.poll(), ["sent none of 1"]);
    bench.send(&["f"]);
    assert_eq!(bench.poll(), ["sent none of 1"], "nothing is written behind the end");
    assert_eq!(bench.calls(), ["d", "e"]);
}

#[test]
fn nothing_is_offered_to_a_stream_and_nothing_lent_from_it() {
    let mut bench = Bench::new();
    let batch = SendBatch::default();
    let refused = bench.ring.send_now(bench.socket, &batch).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    let outlet = bench.ring.outlet();
    assert!(outlet.send_now(bench.socket, &batch).is_err());
    assert!(outlet.send_slice(bench.socket, b"a").is_err());
    bench.ring.receive(bench.socket, TOKEN);
    bench.fill(b"x");
    let mut out = Vec::new();
    bench.ring.poll(16, &mut out).unwrap();
    let Some(Completion::Received { result: ReceiveResult::Data(mut buffer), .. }) = out.pop()
    else {
        panic!("bytes");
    };
    assert!(bench.ring.lend(&buffer).is_none());
    assert!(bench.ring.keep(&mut buffer, false));
    bench.ring.release(buffer);
}

#[test]
fn a_closed_stream_is_heard_of_no_more() {
    let mut bench = Bench::new();
    bench.ring.shut_down(bench.socket);
    bench.ring.close(bench.socket);
    assert!(!bench.carried.is_open());
    bench.fill(b"late");
    bench.carried.ended(None);
    bench.carried.drained();
    assert!(bench.poll().is_empty());
    assert_eq!(bench.calls(), ["shut down", "close"]);
    // Its number is another one's now.
    let other = Rc::<Seen>::default();
    let again = bench.ring.streams().open(Box::new(Noting(Rc::clone(&other))), None);
    assert_eq!(again, bench.socket);
    bench.ring.receive(again, TOKEN);
    bench.fill(b"late");
    assert!(bench.poll().is_empty());
    // The ring ends: so do the streams.
    drop(bench.ring);
    assert_eq!(other.calls.take(), ["close"]);
}

#[test]
fn streams_and_sockets_share_a_poll() {
    let mut bench = Bench::new();
    bench.ring.receive(bench.socket, TOKEN);
    for _ in 0..20 {
        bench.fill(b"s");
    }
    bench.ring.inner.receive(Socket(7), TOKEN);
    for _ in 0..20 {
        bench.ring.inner.deliver_to(7, b"k");
    }
    let (first, second) = (bench.poll(), bench.poll());
    for polled in [&first, &second] {
        assert!(polled.iter().filter(|it| *it == "s").count() >= 8, "{polled:?}");
    }
    let all: Vec<_> = [first, second, bench.poll(), bench.poll()].concat();
    assert_eq!(all.iter().filter(|it| *it == "k").count(), 20);
    assert_eq!(all.len(), 40);
}
