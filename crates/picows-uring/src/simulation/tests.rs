//! Single lies, one at a time, and what has to come of them.

use super::harness::Harness;
use super::journal;
use super::listeners::PLACES;
use crate::config::{Config, QueuePolicy};
use crate::ring::sim::{Faults, PeerId, PeerRead};
use crate::ring::{Ring, Token};
use picows_uring_proto::{
    AutoPing, AutoPingStrategy, ClientHandshake, CloseCode, CloseFrame, FrameHead, LivenessRules,
    MsgType,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
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
fn want_of_descriptors_pauses_accepting_and_a_timer_resumes_it() {
    let mut scene = Scene::new(Faults { descriptors_max: 1, ..Faults::none() }, Config::default());
    let peer = scene.call("/echo");
    scene.run(MILLI * 250);
    let stats = scene.harness.stats();
    assert_eq!((stats.accepted, stats.accept_pauses), (0, 3), "every 100 ms");
    assert!(stats.turns < 100, "it does not spin: {}", stats.turns);
    scene.harness.ring().faults_mut().descriptors_max = 100;
    scene.run(MILLI * 30);
    assert_eq!(scene.harness.stats().accepted, 0);
    scene.run(MILLI * 30);
    scene.assert_served(peer);
    scene.end();
}

#[test]
fn a_connection_that_ends_resumes_accepting() {
    let mut scene = Scene::new(Faults { descriptors_max: 2, ..Faults::none() }, Config::default());
    let first = scene.call("/echo");
    let second = scene.call("/echo");
    assert_eq!((scene.harness.stats().accepted, scene.harness.stats().accept_pauses), (1, 1));
    scene.harness.ring().peer(first).reset();
    scene.run(MILLI * 3);
    assert_eq!(scene.harness.stats().accepted, 2);
    scene.assert_served(second);
    scene.end();
}

#[test]
fn a_handshake_has_five_seconds() {
    let mut scene = Scene::quiet();
    let silent = scene.connect(1000);
    let slow = scene.connect(1000);
    scene.write(slow, b"GET /echo HTTP/1.1\r\n");
    scene.run(MILLI * 4990);
    assert_eq!(scene.harness.stats().connections, 2);
    scene.run(MILLI * 20);
    assert_eq!(scene.harness.stats().connections, 0);
    for peer in [silent, slow] {
        assert!(scene.hear(peer).is_over);
    }
    scene.end();
}

#[test]
fn a_peer_that_never_reads_is_given_the_close_timeout() {
    let mut scene = Scene::quiet();
    let peer = scene.call_with_room("/echo", 5000);
    scene.say(peer, MsgType::Binary, &[7; 3000]);
    scene.run(MILLI);
    scene.say(peer, MsgType::Binary, &[7; 3000]);
    scene.run(MILLI);
    scene.write(peer, CLOSE_NORMAL);
    scene.run(MILLI * 4900);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (1, 0));
    scene.run(MILLI * 200);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (0, 1));
    scene.end();
}

#[test]
fn a_peer_that_does_not_end_the_stream_is_given_the_close_timeout() {
    let mut scene = Scene::quiet();
    let peer = scene.call("/echo");
    scene.write(peer, CLOSE_NORMAL);
    let heard = scene.hear(peer);
    assert_eq!(heard.frames, [(0x88, vec![0x03, 0xE8])]);
    assert!(heard.is_over);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (1, 1));
    scene.run(MILLI * 5000);
    assert_eq!(scene.harness.stats().connections, 0);
    scene.end();
}

#[test]
fn want_of_buffers_loses_nothing() {
    let faults = Faults { buffers: 1, buffer_bytes: 64, ..Faults::none() };
    let mut scene = Scene::new(faults, Config::default());
    let peers: Vec<_> = (0..8).map(|_| scene.call("/echo")).collect();
    for (number, peer) in peers.iter().enumerate() {
        scene.say(*peer, MsgType::Binary, &vec![number as u8; 10_000]);
    }
    scene.run(MILLI * 500);
    for (number, peer) in peers.into_iter().enumerate() {
        assert_eq!(scene.hear(peer).frames, [(0x82, vec![number as u8; 10_000])]);
    }
    assert!(scene.harness.stats().buffer_shortages > 100);
    scene.end();
}

#[test]
fn the_limit_of_connections_is_told_with_503() {
    let config = Config { connections_max: Some(1), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let first = scene.call("/echo");
    let second = scene.call("/echo");
    let heard = scene.hear(second);
    assert!(heard.answer.starts_with("HTTP/1.1 503 "), "{heard:?}");
    assert!(heard.is_over);
    scene.assert_served(first);
    for peer in [first, second] {
        scene.harness.ring().peer(peer).close();
    }
    scene.run(MILLI * 5);
    assert_eq!(scene.harness.stats().refused, 1);
    let third = scene.call("/echo");
    scene.assert_served(third);
    scene.end();
}

#[test]
fn the_limit_of_an_address_and_that_of_handshakes_are_told_with_503() {
    let config = Config { connections_per_address_max: Some(2), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let (first, second) = (scene.call("/echo"), scene.call("/echo"));
    let third = scene.call("/echo");
    let heard = scene.hear(third);
    assert!(heard.answer.starts_with("HTTP/1.1 503 "), "{heard:?}");
    scene.assert_served(first);
    scene.harness.ring().peer(second).close();
    scene.run(MILLI * 5);
    let fourth = scene.call("/echo");
    scene.assert_served(fourth);
    assert_eq!(scene.harness.stats().refused_by_address, 1);
    scene.end();

    let config = Config { handshakes_max: Some(1), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let first = scene.call("/echo");
    let begun = scene.connect(1000);
    scene.run(MILLI);
    let second = scene.call("/echo");
    let heard = scene.hear(second);
    assert!(heard.answer.starts_with("HTTP/1.1 503 "), "{heard:?}");
    scene.assert_served(first);
    scene.harness.ring().peer(begun).close();
    scene.run(MILLI);
    let third = scene.call("/echo");
    scene.assert_served(third);
    assert_eq!(scene.harness.stats().refused_by_handshakes, 1);
    scene.end();
}

#[test]
fn stopping_says_goodbye_to_everybody_and_waits_no_longer_than_it_was_told() {
    let mut scene = Scene::quiet();
    let (polite, rude) = (scene.call("/echo"), scene.call("/mute"));
    let begun = scene.connect(1000);
    scene.run(MILLI);
    scene.harness.stop(MILLI * 1000);
    scene.run(MILLI * 2);
    let goodbye = close_frame(CloseCode::GOING_AWAY, "server is shutting down");
    for peer in [polite, rude] {
        let heard = scene.hear(peer);
        assert_eq!(heard.frames.as_slice(), std::slice::from_ref(&goodbye));
        assert!(!heard.is_over);
    }
    assert!(scene.hear(begun).is_over);
    let late = scene.connect(1000);
    scene.run(MILLI);
    assert!(scene.hear(late).is_over);
    scene.write(polite, b"\x88\x82\0\0\0\0\x03\xE9");
    assert!(scene.hear(polite).is_over);
    scene.harness.ring().peer(polite).close();
    scene.run(MILLI * 800);
    assert!(!scene.harness.is_done());
    assert_eq!((Scene::disconnected(0), Scene::disconnected(1)), (1, 0));
    scene.run(MILLI * 200);
    assert!(scene.harness.is_done());
    assert_eq!(Scene::disconnected(1), 1);
}

#[test]
fn goodbyes_are_spread_and_whoever_waits_for_one_is_served() {
    const PEERS: usize = 10;
    let config = Config { drain_spread: Some(MILLI * 1000), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let peers: Vec<_> = (0..PEERS).map(|_| scene.call("/echo")).collect();
    peers.iter().for_each(|peer| drop(scene.hear(*peer)));
    scene.say(peers[8], MsgType::Text, b"still there?");
    scene.harness.stop(MILLI * 4000);
    let (begun, before) = (scene.harness.ring().now(), scene.harness.stats().frames_sent);
    // One that leaves by itself does not hold the others up.
    scene.harness.ring().peer(peers[PEERS - 1]).close();
    for _ in 0..8 {
        scene.run(MILLI * 100);
        let passed = scene.harness.ring().now() - begun;
        // One frame is the echo.
        let told = scene.harness.stats().frames_sent - before - 1;
        // The first at once, and then one every 100 ms, as exactly as timers are.
        let due = |at: Duration| (at.as_millis() as u64 / 100 + 1).min(9);
        assert!((due(passed - MILLI * 10)..=due(passed)).contains(&told), "{told} by {passed:?}");
    }
    let goodbye = close_frame(CloseCode::GOING_AWAY, "server is shutting down");
    assert_eq!(scene.hear(peers[8]).frames, [(0x81, b"still there?".to_vec()), goodbye]);
    for peer in &peers[..9] {
        scene.write(*peer, b"\x88\x82\0\0\0\0\x03\xE9");
        scene.run(MILLI);
        scene.harness.ring().peer(*peer).close();
    }
    scene.run(MILLI * 100);
    assert!(scene.harness.is_done(), "nobody is left, so nobody is waited for");
}

#[test]
fn a_stop_that_is_in_a_hurry_overtakes_one_that_is_not() {
    let config = Config { drain_spread: Some(MILLI * 10_000), ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let peers: Vec<_> = (0..10).map(|_| scene.call("/echo")).collect();
    scene.harness.stop(MILLI * 60_000);
    scene.run(MILLI * 100);
    scene.harness.stop(MILLI * 1000);
    scene.run(MILLI * 500);
    for peer in &peers {
        assert_eq!(scene.hear(*peer).frames.len(), 1);
    }
    scene.harness.stop(Duration::ZERO);
    scene.run(MILLI * 10);
    assert!(scene.harness.is_done());
}

#[test]
fn a_panic_in_any_callback_ends_one_connection_only() {
    for place in PLACES {
        let config = Config { high_watermark: 1000, low_watermark: 100, ..Config::default() };
        let mut scene = Scene::new(Faults::none(), config);
        let neighbour = scene.call("/echo");
        // Echoes 3000 bytes into a pipe of 2000, so that it pauses, and resumes when it is read.
        let peer = scene.call_with_room(&format!("/echo?at={place}"), 3200);
        scene.hear(peer);
        if place != "connected" {
            for _ in 0..2 {
                scene.say(peer, MsgType::Binary, &[1; 3000]);
                scene.run(MILLI);
            }
            scene.hear(peer);
        }
        if matches!(place, "disconnected" | "drop") {
            scene.harness.ring().peer(peer).reset();
        }
        scene.run(MILLI * 5100);
        let record = journal::with(|journal| format!("{:?}", journal.record(1)));
        assert_eq!(scene.harness.stats().listener_errors, 1, "at={place}: {record}");
        assert_eq!(scene.harness.stats().connections, 1, "at={place}: {record}");
        assert_eq!(Scene::disconnected(1), 1, "at={place}");
        scene.assert_served(neighbour);
        scene.end();
    }
}

#[test]
fn what_a_listener_returns_decides_the_close_code() {
    for (command, code, reason) in
        [("panic", 1011, ""), ("error", 1011, ""), ("refuse", 4000, "as it was told")]
    {
        let mut scene = Scene::quiet();
        let neighbour = scene.call("/echo");
        let peer = scene.call("/obey");
        scene.say(peer, MsgType::Text, command.as_bytes());
        let heard = scene.hear(peer);
        assert_eq!(heard.frames, [close_frame(CloseCode::new(code).unwrap(), reason)]);
        assert!(heard.is_over);
        scene.assert_served(neighbour);
        scene.end();
    }
}

#[test]
fn a_listener_that_panics_when_it_is_dropped_unused_ends_one_connection_only() {
    let mut scene = Scene::quiet();
    let neighbour = scene.call("/echo");
    let peer = scene.connect(1000);
    scene.write(peer, b"GET /echo?at=drop HTTP/1.1\r\nHost: x\r\n\r\n");
    let heard = scene.hear(peer);
    assert!(heard.answer.starts_with("HTTP/1.1 4"), "{heard:?}");
    scene.assert_served(neighbour);
    scene.end();
}

#[test]
fn a_late_completion_does_not_reach_the_next_owner_of_its_slot() {
    let mut scene = Scene::quiet();
    let first = scene.call("/echo");
    scene.harness.ring().peer(first).reset();
    scene.run(MILLI * 2);
    let second = scene.call("/echo");
    let late = Token { slot: 0, generation: 0 };
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
fn a_callback_may_end_another_connection() {
    let mut closes = Vec::new();
    for first in 0..8 {
        let mut scene = Scene::quiet();
        // The way in which it is ended depends on the number of the caller.
        scene.callers = first * 10;
        let neighbour = scene.call("/echo");
        let (caller, victim) = (scene.call("/obey"), scene.call("/room"));
        scene.hear(victim);
        scene.say(caller, MsgType::Text, b"others");
        closes.push(scene.hear(victim).frames.len());
        scene.run(MILLI * 5100);
        assert_eq!(Scene::disconnected(first * 10 + 2), 1);
        assert_eq!(Scene::disconnected(first * 10 + 1), 0);
        scene.assert_served(neighbour);
        scene.end();
    }
    assert!(closes.contains(&0) && closes.contains(&1), "in silence, and with CLOSE: {closes:?}");
}

#[test]
fn a_full_queue_ends_the_connection_with_1008() {
    let config = Config { queue_bytes_max: 10_000, high_watermark: 5000, ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let peer = scene.call_with_room("/echo", 5000);
    for _ in 0..8 {
        scene.say(peer, MsgType::Binary, &[5; 3000]);
        scene.run(MILLI);
    }
    let heard = scene.hear(peer);
    let (last, frames) = heard.frames.split_last().unwrap();
    assert_eq!(*last, close_frame(CloseCode::POLICY_VIOLATION, "send queue full"));
    assert!(heard.is_over && frames.len() < 8);
    assert!(frames.iter().all(|frame| *frame == (0x82, vec![5; 3000])));
    scene.end();
}

#[test]
fn a_full_queue_may_drop_what_is_newest_and_no_control_frame() {
    let config = Config {
        queue_bytes_max: 10_000,
        high_watermark: 5000,
        queue_policy: QueuePolicy::DropNewest,
        ..Config::default()
    };
    let mut scene = Scene::new(Faults::none(), config);
    let peer = scene.call_with_room("/echo", 5000);
    for number in 0..8 {
        scene.say(peer, MsgType::Binary, &[number; 3000]);
        scene.run(MILLI);
    }
    scene.say(peer, MsgType::Ping, b"alive?");
    scene.run(MILLI);
    let heard = scene.hear(peer);
    let (last, frames) = heard.frames.split_last().unwrap();
    assert_eq!(*last, (0x8A, b"alive?".to_vec()));
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(*frame, (0x82, vec![number as u8; 3000]));
    }
    let dropped = 8 - frames.len() as u64;
    assert!(dropped > 0 && scene.harness.stats().frames_dropped == dropped);
    scene.assert_served(peer);
    scene.end();
}

#[test]
fn who_is_told_that_the_queue_is_congested_is_told_to_pause() {
    // With its header counted in full, the frame passes the mark; with its real one, it does not.
    let config = Config { high_watermark: 1000, low_watermark: 100, ..Config::default() };
    let mut scene = Scene::new(Faults::none(), config);
    let peer = scene.call("/echo");
    scene.say(peer, MsgType::Binary, &[0; 990]);
    scene.run(MILLI * 5);
    let (pauses, is_paused) = journal::with(|journal| {
        let record = journal.record(0);
        (record.pauses, record.is_paused)
    });
    assert_eq!((pauses, is_paused), (1, false), "paused, and resumed when it was sent");
    scene.assert_served(peer);
    scene.end();
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

#[test]
fn an_idle_connection_owns_no_buffer() {
    let mut scene = Scene::quiet();
    let peer = scene.call("/echo");
    // A frame in two halves needs a stash, and its echo a queue.
    let mut frame = Vec::new();
    FrameHead::new(MsgType::Binary).append(&mut frame, &[7; 50_000], Some([1, 2, 3, 4]));
    let (first, second) = frame.split_at(20_000);
    scene.write(peer, first);
    scene.run(MILLI * 5);
    assert!(scene.harness.owned_bytes() >= 19_000, "{}", scene.harness.owned_bytes());
    scene.write(peer, second);
    assert_eq!(scene.hear(peer).frames.len(), 1);
    assert_eq!(scene.harness.owned_bytes(), 0);
    scene.end();
}

/// A ping after ten seconds without anything, to be answered within five.
fn pinging(strategy: AutoPingStrategy) -> Config {
    let ping = AutoPing::new(SECOND * 10, SECOND * 5).with_strategy(strategy);
    let liveness = LivenessRules { auto_ping: Some(ping), ..LivenessRules::default() };
    Config { liveness, ..Config::default() }
}

#[test]
fn a_silent_peer_is_dropped_within_idle_and_reply_timeout_and_told_once() {
    let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
    let peer = scene.call("/echo");
    // To hear takes twenty milliseconds, and so did the call.
    scene.run(SECOND * 10 - MILLI * 60);
    assert!(scene.hear(peer).frames.is_empty());
    scene.run(MILLI * 40);
    let heard = scene.hear(peer);
    assert_eq!(heard.frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [0x89]);
    scene.run(SECOND * 5 - MILLI * 60);
    assert_eq!(Scene::disconnected(0), 0);
    scene.run(MILLI * 60);
    assert_eq!(Scene::disconnected(0), 1, "a ping, five seconds, and a granule of the wheel");
    let heard = scene.hear(peer);
    assert_eq!(heard.frames, [close_frame(CloseCode::GOING_AWAY, "no pong within 5s")]);
    assert!(heard.is_over);
    scene.end();
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_as_soon() {
    let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
    let peer = scene.call_with_room("/echo", 3000);
    // The echo fills the peer's room, so that the ping never leaves the queue.
    scene.say(peer, MsgType::Binary, &[7; 2900]);
    scene.run(MILLI);
    scene.say(peer, MsgType::Binary, &[7; 2900]);
    scene.run(SECOND * 15 - MILLI * 10);
    assert_eq!(Scene::disconnected(0), 0);
    scene.run(MILLI * 40);
    assert_eq!((scene.harness.stats().connections, Scene::disconnected(0)), (0, 1));
    scene.end();
}

#[test]
fn a_peer_that_answers_lives_and_a_wrong_answer_does_not_count() {
    for is_right in [true, false] {
        let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
        let peer = scene.call("/echo");
        for _ in 0..10 {
            scene.run(SECOND * 10);
            let heard = scene.hear(peer);
            let Some((0x89, nonce)) = heard.frames.first().cloned() else { break };
            let answer = if is_right { nonce } else { b"whatever".to_vec() };
            scene.say(peer, MsgType::Pong, &answer);
        }
        // A wrong pong shows that the peer is there, but not that it has got our ping.
        scene.run(SECOND * 6);
        assert_eq!(Scene::disconnected(0), u32::from(!is_right), "is_right={is_right}");
        scene.end();
    }
}

#[test]
fn a_busy_peer_is_pinged_only_by_the_clock() {
    for (strategy, pings) in [(AutoPingStrategy::WhenIdle, 0), (AutoPingStrategy::Periodic, 6)] {
        let mut scene = Scene::new(Faults::none(), pinging(strategy));
        let peer = scene.call("/mute");
        let mut seen = 0;
        for _ in 0..61 {
            scene.run(SECOND);
            scene.say(peer, MsgType::Text, b"busy");
            for (first, nonce) in scene.hear(peer).frames {
                assert_eq!(first, 0x89);
                seen += 1;
                scene.say(peer, MsgType::Pong, &nonce);
            }
        }
        assert_eq!(seen, pings, "{strategy:?}");
        scene.end();
    }
}

#[test]
fn nothing_wakes_a_worker_between_the_deadlines_of_its_idle_connections() {
    let mut scene = Scene::new(Faults::none(), pinging(AutoPingStrategy::WhenIdle));
    for _ in 0..50 {
        scene.call("/mute");
    }
    scene.run(SECOND);
    let before = scene.harness.stats().turns;
    scene.run(SECOND * 8);
    // The harness itself wakes a worker for nothing now and then, to see that it is harmless.
    let turns = scene.harness.stats().turns - before;
    assert!(turns < 2000, "{turns} turns in 80,000 steps of a clock without a deadline");
    scene.end();
}
