//! Single lies, one at a time, and what has to come of them.

mod admission;
mod callbacks;
mod ending;
mod large;
mod memory;
mod pings;

use super::harness::Harness;
use super::journal;
use crate::config::Config;
use crate::ring::{Ring, Token};
use crate::testing::ring::sim::{Faults, PeerId, PeerRead};
use picows_uring_proto::{ClientHandshake, CloseCode, CloseFrame, FrameHead, MsgType};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const MILLI: Duration = Duration::from_millis(1);
const CLOSE_NORMAL: &[u8] = b"\x88\x82\0\0\0\0\x03\xE8";

/// A server, and what is said to it by hand.
struct Scene {
    harness: Harness,
    /// Clients are numbered, for the journal.
    callers: u32,
}

/// What a peer has read: the answer to its request, then frames, and whether there was an end.
#[derive(Debug, Default)]
struct Heard {
    answer: String,
    frames: Vec<(u8, Vec<u8>)>,
    is_over: bool,
}

impl Scene {
    fn new(faults: Faults, config: Config) -> Self {
        Self { harness: Harness::new(1, faults, config), callers: 0 }
    }

    fn quiet() -> Self {
        Self::new(Faults::none(), Config::default())
    }

    /// Connects, with room for so many bytes each way.
    fn connect(&mut self, room: usize) -> PeerId {
        let listener = self.harness.listener();
        self.harness.ring().connect(listener, room, false)
    }

    /// Connects, asks for `path`, and waits for the answer.
    fn call_with_room(&mut self, path: &str, room: usize) -> PeerId {
        let peer = self.connect(room);
        let mark = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{mark}id={}", self.callers);
        self.callers += 1;
        let mut request = Vec::new();
        ClientHandshake::new("sim.test", &target, [0; 16]).unwrap().encode(&mut request);
        self.write(peer, &request);
        self.run(MILLI * 5);
        peer
    }

    fn call(&mut self, path: &str) -> PeerId {
        self.call_with_room(path, 1 << 20)
    }

    fn write(&mut self, peer: PeerId, bytes: &[u8]) {
        assert_eq!(self.harness.ring().peer(peer).write(bytes), Some(bytes.len()));
    }

    fn say(&mut self, peer: PeerId, msg_type: MsgType, payload: &[u8]) {
        let mut bytes = Vec::new();
        FrameHead::new(msg_type).append(&mut bytes, payload, Some([1, 2, 3, 4]));
        self.write(peer, &bytes);
    }

    fn run(&mut self, span: Duration) {
        let end = self.harness.ring().now() + span;
        while self.harness.ring().now() < end {
            self.harness.step(MILLI / 10);
        }
    }

    /// Reads all there is, and all that comes then.
    fn hear(&mut self, peer: PeerId) -> Heard {
        let mut bytes = Vec::new();
        let mut heard = Heard::default();
        for _ in 0..200 {
            match self.harness.ring().peer(peer).read(usize::MAX) {
                PeerRead::Bytes(more) => bytes.extend(more),
                PeerRead::Nothing => {}
                PeerRead::End | PeerRead::Reset => heard.is_over = true,
            }
            self.run(MILLI / 10);
        }
        let mut rest = &bytes[..];
        if bytes.starts_with(b"HTTP") {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            heard.answer = String::from_utf8_lossy(&bytes[..end]).into();
            if !heard.answer.starts_with("HTTP/1.1 101") {
                return heard;
            }
            rest = &bytes[end..];
        }
        while let [first, len, after @ ..] = rest {
            let (len, after) = match (len, after) {
                (126, [high, low, after @ ..]) => {
                    (usize::from(u16::from_be_bytes([*high, *low])), after)
                }
                (127, after) => {
                    let (len, after) = after.split_first_chunk().unwrap();
                    (u64::from_be_bytes(*len) as usize, after)
                }
                (len, after) => (usize::from(*len), after),
            };
            heard.frames.push((*first, after[..len].to_vec()));
            rest = &after[len..];
        }
        heard
    }

    /// Asserts that an echo still works for `peer`.
    fn assert_served(&mut self, peer: PeerId) {
        self.say(peer, MsgType::Text, b"still there?");
        let heard = self.hear(peer);
        assert_eq!(heard.frames.last(), Some(&(0x81, b"still there?".to_vec())), "{heard:?}");
        assert!(!heard.is_over);
    }

    fn disconnected(id: u32) -> u32 {
        journal::with(|journal| journal.record(id).disconnected)
    }

    /// Stops the server; the harness checks that nothing is left.
    fn end(mut self) {
        self.harness.stop(Duration::ZERO);
        self.run(MILLI * 50);
        assert!(self.harness.is_done());
    }
}

fn close_frame(code: CloseCode, reason: &str) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    CloseFrame::new(code, reason).append(&mut bytes, None);
    (bytes[0], bytes[2..].to_vec())
}

#[test]
fn a_late_completion_does_not_reach_the_next_owner_of_its_slot() {
    let mut scene = Scene::quiet();
    let first = scene.call("/echo");
    scene.harness.ring().peer(first).reset();
    scene.run(MILLI * 2);
    let second = scene.call("/echo");
    let late = Token { slot: 0, generation: 0 };
    scene.harness.ring().allow_stray(late);
    scene.harness.ring().forge_received(late, b"\x81\x84\0\0\0\0late");
    // A worker that is built with debug assertions says that it never happens, and is right.
    let told = catch_unwind(AssertUnwindSafe(|| scene.run(MILLI)));
    assert_eq!(told.is_err(), cfg!(debug_assertions));
    let answer = scene.harness.ring().peer(second).read(usize::MAX);
    let PeerRead::Bytes(answer) = answer else { panic!("{answer:?}") };
    assert!(answer.ends_with(b"\r\n\r\n"), "the second owner was given bytes of the first");
    std::mem::forget(scene);
}

#[test]
fn a_receive_that_outlives_its_cancellation_is_cancelled_again() {
    let faults =
        Faults { race: 1000, outlive: 1000, buffers: 500, buffer_bytes: 64, ..Faults::none() };
    let mut scene = Scene::new(faults, Config::default());
    let peer = scene.call("/obey");
    scene.say(peer, MsgType::Text, b"abort");
    // Some of it arrives after the cancellation each time, and then nothing does.
    scene.say(peer, MsgType::Binary, &[0; 10_000]);
    scene.run(MILLI * 50);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (0, 1));
    assert!(scene.harness.stats().bytes_received > 5000);
    scene.end();
}
