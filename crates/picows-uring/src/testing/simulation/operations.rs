//! One operation after another, as a fuzzer chooses: of peers, of the kernel, of the clock.
//!
//! Three bytes are a seed, the settings and the kernel ([`Scene::new`]). Then come pairs: what is
//! done ([`Scene::operate`]), and how. The low half of the first says what; two bits say which
//! peer does it, and the others are [`HELD`] and [`IN_PIECES`].

use super::harness::Harness;
use super::{listeners, script};
use crate::config::{Config, QueuePolicy};
use crate::health::Stats;
use crate::ring::Ring;
use crate::testing::ring::sim::{Faults, Peer, PeerId, PeerRead, Random};
use picows_uring_proto::{
    AutoPing, ClientHandshake, CloseCode, CloseFrame, FrameHead, LivenessRules, MsgType,
};
use std::mem::ManuallyDrop;
use std::time::Duration;

/// What holds for every input: the server keeps to the contract of its ring and to the order of
/// its callbacks, says nothing to anybody that is no answer and no frame, and ends in time when
/// it is stopped, leaving nothing behind.
pub(crate) fn fuzz(data: &[u8]) {
    play(data);
}

fn play(data: &[u8]) -> Stats {
    let [seed, settings, kernel, operations @ ..] = data else { return Stats::default() };
    // After a panic, its worker is in no state to be ended.
    let mut scene = ManuallyDrop::new(Scene::new(*seed, *settings, *kernel));
    let mut rest = operations;
    for _ in 0..OPERATIONS_MAX {
        let [what, how, after @ ..] = rest else { break };
        rest = scene.operate(*what, *how, after);
        if what & HELD == 0 {
            for _ in 0..scene.random.between(1, 3) {
                scene.step(Duration::from_micros(50));
            }
        }
        if scene.harness.is_done() {
            break;
        }
    }
    scene.finish();
    let stats = scene.harness.stats();
    drop(ManuallyDrop::into_inner(scene));
    stats
}

/// A server, and the clients that are connected to it.
struct Scene {
    harness: Harness,
    random: Random,
    peers: [Option<Caller>; PEERS],
    /// Upgrades are numbered, for the journal.
    calls: u32,
    /// When the worker has ended, once it has to.
    ends_by: Option<Duration>,
}

struct Caller {
    peer: PeerId,
    /// What it is about to send.
    out: Vec<u8>,
    has_shut_down: bool,
    heard: Heard,
}

/// What a peer has read, and not understood yet.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    stage: PeerStage,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum PeerStage {
    #[default]
    Answer,
    Frames,
    /// After CLOSE.
    Closed,
    /// The body of an answer.
    Body,
}

impl Scene {
    fn new(seed: u8, settings: u8, kernel: u8) -> Self {
        let mut random = Random::new(u64::from(seed));
        let mut faults = if kernel & 16 == 0 { Faults::none() } else { Faults::draw(&mut random) };
        faults.buffers = [8, 1, 2, 32][usize::from(kernel & 3)];
        faults.buffer_bytes = [4096, 64, 300, 1024][usize::from(kernel >> 2 & 3)];
        let harness = Harness::new(u64::from(seed), faults, config(settings));
        Self { harness, random, peers: [const { None }; PEERS], calls: 0, ends_by: None }
    }

    /// Does one thing, and returns the bytes that come after it.
    fn operate<'a>(&mut self, what: u8, how: u8, mut rest: &'a [u8]) -> &'a [u8] {
        let index = usize::from(what >> 4) % PEERS;
        let at = usize::from(how);
        match what & 15 {
            0 => self.connect(index, how),
            1 => self.upgrade(index, how),
            2 => self.say(index, what, |out| {
                out.extend_from_slice(script::REQUESTS[at % script::REQUESTS.len()].0);
            }),
            3 => self.say(index, what, |out| frame(out, how)),
            4 => self.say(index, what, |out| {
                let command = COMMANDS[at % COMMANDS.len()].as_bytes();
                FrameHead::new(MsgType::Text).append(out, command, Some(KEY));
            }),
            5 => self.say(index, what, |out| {
                out.extend_from_slice(script::VIOLATIONS[at % script::VIOLATIONS.len()].0);
            }),
            6 => {
                let (bytes, after) = rest.split_at(rest.len().min(at % 32));
                rest = after;
                self.say(index, what, |out| out.extend(bytes.iter().copied().map(no_slash)));
            }
            7 => {
                let mut random = self.random.fork();
                let bytes = (0..at * 4 + 1).map(|_| no_slash(random.next() as u8));
                self.say(index, what, |out| out.extend(bytes));
            }
            8 => self.read(index, [usize::MAX, 1, 100, 4000][at % 4]),
            9 => self.shut_down(index),
            10 => self.leave(index, |mut peer| peer.reset()),
            11 => self.leave(index, |mut peer| peer.close()),
            12 => self.pass(SPANS[at % SPANS.len()]),
            13 => self.fault(how),
            // A task beside the worker, on its thread.
            14 => listeners::end_another(&mut self.random, u32::MAX),
            // Rarely, as not much comes after it.
            _ if at < 32 => self.stop(DRAINS[at % DRAINS.len()]),
            _ => self.say(index, what, |_| {}),
        }
        rest
    }

    fn connect(&mut self, index: usize, how: u8) {
        self.leave(index, |mut peer| peer.close());
        let listener = self.harness.listener();
        let room = [300 * 1024, 256, 4 * 1024, 64 * 1024][usize::from(how & 3)];
        let peer = self.harness.ring().connect(listener, room, how & 4 != 0);
        let heard = Heard::default();
        self.peers[index] = Some(Caller { peer, out: Vec::new(), has_shut_down: false, heard });
    }

    /// Asks for an upgrade, of a client that is there or of a new one.
    fn upgrade(&mut self, index: usize, how: u8) {
        if self.peers[index].is_none() {
            self.connect(index, how >> 3 & 7);
        }
        let path = PATHS[usize::from(how & 7)];
        let mut target = format!("{path}?id={}", self.calls);
        self.calls += 1;
        if let Some(place) = listeners::PLACES.get(usize::from(how >> 4).wrapping_sub(11)) {
            target += &format!("&at={place}");
        }
        let handshake = ClientHandshake::new("sim.test", &target, [0; 16]).unwrap();
        self.say(index, 0, |out| handshake.encode(out));
    }

    /// Has a peer say something, after what it has not said yet, as far as there is room.
    fn say(&mut self, index: usize, what: u8, more: impl FnOnce(&mut Vec<u8>)) {
        let ring = self.harness.ring();
        let Some(caller) = &mut self.peers[index] else { return };
        if caller.has_shut_down {
            return;
        }
        if caller.out.len() < OUT_MAX {
            more(&mut caller.out);
        }
        let mut max = caller.out.len();
        if what & IN_PIECES != 0 {
            max = max.min(self.random.between(1, 20));
        }
        match ring.peer(caller.peer).write(&caller.out[..max]) {
            Some(count) => drop(caller.out.drain(..count)),
            None => caller.out.clear(),
        }
    }

    fn read(&mut self, index: usize, max: usize) {
        let Some(caller) = &mut self.peers[index] else { return };
        match self.harness.ring().peer(caller.peer).read(max) {
            PeerRead::Bytes(bytes) => caller.heard.take_in(&bytes),
            // An end may come anywhere: an abort does not wait for the rest of a frame.
            PeerRead::Nothing | PeerRead::End => {}
            PeerRead::Reset => self.peers[index] = None,
        }
    }

    /// Has a peer send no more, and stay to listen.
    fn shut_down(&mut self, index: usize) {
        if let Some(caller) = self.peers[index].as_mut().filter(|it| !it.has_shut_down) {
            caller.has_shut_down = true;
            self.harness.ring().peer(caller.peer).shut_down();
        }
    }

    /// Has a peer end its connection.
    fn leave(&mut self, index: usize, way: impl FnOnce(Peer<'_>)) {
        if let Some(caller) = self.peers[index].take() {
            way(self.harness.ring().peer(caller.peer));
        }
    }

    fn fault(&mut self, how: u8) {
        let level = usize::from(how >> 4) % 4;
        let chance = [1000, 0, 100, 500][level];
        let faults = self.harness.ring().faults_mut();
        match how & 15 {
            0 => faults.descriptors_max = [1, 2, 3, usize::MAX][level],
            1 => faults.no_buffer = chance,
            2 => faults.receive_ends = chance,
            3 => faults.accept_ends = chance,
            4 => faults.accept_fails = chance,
            5 => faults.reset = chance / 10,
            6 => faults.race = chance,
            7 => faults.cut = chance,
            8 => faults.short_send = chance,
            9 => faults.few = chance,
            10 => faults.outlive = chance,
            11 => {
                faults.delay = chance;
                faults.delay_max = Duration::from_millis(2);
            }
            _ => {
                let Faults { buffers, buffer_bytes, .. } = *faults;
                *faults = Faults { buffers, buffer_bytes, ..Faults::none() };
            }
        }
    }

    fn stop(&mut self, drain: Duration) {
        let ends_by = self.now() + drain + STOP_SLACK;
        // Of two such commands the shorter time counts.
        self.ends_by = Some(self.ends_by.map_or(ends_by, |before| before.min(ends_by)));
        self.harness.stop(drain);
    }

    fn now(&mut self) -> Duration {
        self.harness.ring().now()
    }

    /// Lets so much time pass, and returns whether the worker had a turn.
    fn step(&mut self, by: Duration) -> bool {
        let has_moved = self.harness.step(by);
        if let Some(ends_by) = self.ends_by
            && !self.harness.is_done()
        {
            assert!(self.now() < ends_by, "it does not end: {:?}", self.harness.stats());
        }
        has_moved
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now() + span;
        while self.now() < end && !self.harness.is_done() {
            // A worker that is given a turn now and then has no fault in being late.
            let by = if self.ends_by.is_some() { STEP_MAX } else { span / 64 };
            self.advance(end, by);
        }
    }

    /// Lets `by` pass, and if nothing comes of that, all the time until something does.
    fn advance(&mut self, end: Duration, by: Duration) {
        if self.step(by.max(STEP_MIN)) || self.harness.is_woken() {
            return;
        }
        let now = self.now();
        let next = self.harness.ring().next_event().unwrap_or(end).min(end);
        self.step(next.saturating_sub(now));
    }

    fn finish(&mut self) {
        if self.ends_by.is_none() {
            let drain = self.random.pick(&DRAINS);
            self.stop(drain);
        }
        let mut steps = 0;
        while !self.harness.is_done() {
            steps += 1;
            assert!(steps < STEPS_MAX, "no end: {:?}", self.harness.stats());
            let end = self.ends_by.expect("it is stopped");
            let by = if steps < 100 { STEP_MIN } else { STEP_MAX };
            self.advance(end, by);
        }
    }
}

impl Heard {
    fn take_in(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        loop {
            let used = match self.stage {
                PeerStage::Answer => self.answer(),
                PeerStage::Frames => self.frame(),
                PeerStage::Closed => {
                    assert!(self.bytes.is_empty(), "after CLOSE: {:?}", self.bytes);
                    0
                }
                PeerStage::Body => self.bytes.len(),
            };
            if used == 0 {
                return;
            }
            self.bytes.drain(..used);
        }
    }

    fn answer(&mut self) -> usize {
        let known = self.bytes.len().min(VERSION.len());
        assert_eq!(self.bytes[..known], VERSION[..known], "no answer");
        let Some(end) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return 0;
        };
        let is_upgraded = self.bytes[VERSION.len()..].starts_with(b"101 ");
        self.stage = if is_upgraded { PeerStage::Frames } else { PeerStage::Body };
        end + 4
    }

    /// The length of the frame at the front, if it is whole.
    fn frame(&mut self) -> usize {
        let [first, second, rest @ ..] = &self.bytes[..] else { return 0 };
        let (kind, is_fin) = (first & 15, first & 0x80 != 0);
        assert!(first & 0x70 == 0 && matches!(kind, 0..=2 | 8..=10), "opcode {first:#x}");
        assert!(kind < 8 || (is_fin && *second <= 125), "control {first:#x}, {second}");
        let (head, len) = match (second, rest) {
            (0..=125, _) => (2, usize::from(*second)),
            (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            (127, _) => match rest.first_chunk() {
                Some(bytes) => (10, u64::from_be_bytes(*bytes) as usize),
                None => return 0,
            },
            (126, _) => return 0,
            _ => panic!("a server masked a frame: {second:#x}"),
        };
        if self.bytes.len() < head + len {
            return 0;
        }
        if kind == 8 {
            self.stage = PeerStage::Closed;
        }
        head + len
    }
}

fn config(settings: u8) -> Config {
    let mut config = Config { lifetime_jitter: 0.0, ..Config::default() };
    config.frames.payload_bytes_max = if settings & 1 == 0 { 65_536 } else { 3000 };
    // The listeners count on it.
    config.frames.validate_text = true;
    if settings & 2 != 0 {
        let policies = [QueuePolicy::DropNewest, QueuePolicy::DropOldest];
        config.queue_policy = policies[usize::from(settings >> 3 & 1)];
    }
    if settings & 4 != 0 {
        (config.high_watermark, config.low_watermark) = (4000, 1000);
    }
    config.queue_bytes_max = if settings & 8 == 0 { 400 * 1024 } else { 80 * 1024 };
    if settings & 16 != 0 {
        config.connections_max = Some(2);
    }
    if settings & 32 != 0 {
        config.liveness = LivenessRules {
            auto_ping: Some(AutoPing::new(Duration::from_secs(1), Duration::from_millis(500))),
            idle_timeout: Some(Duration::from_secs(4)),
            lifetime: Some(Duration::from_secs(7)),
        };
    }
    config.disconnect_on_error = settings & 64 == 0;
    config.keep_request = settings & 128 == 0;
    config
}

/// Appends a frame as a client sends it.
fn frame(out: &mut Vec<u8>, how: u8) {
    let msg_type = match how & 7 {
        0 | 1 => MsgType::Binary,
        2 => MsgType::Text,
        3 | 4 => MsgType::Continuation,
        5 => MsgType::Ping,
        6 => MsgType::Pong,
        _ => return CloseFrame::new(CloseCode::NORMAL, "").append(out, Some(KEY)),
    };
    let payload = vec![b'x'; SIZES[usize::from(how >> 4)]];
    let head = FrameHead::new(msg_type).with_fin(how & 8 == 0);
    head.append_header(out, payload.len(), Some([0; 4]));
    out.extend_from_slice(&payload);
}

/// Keeps made-up bytes from being a request, with a number that another one has.
fn no_slash(byte: u8) -> u8 {
    if byte == b'/' { b'.' } else { byte }
}

const PEERS: usize = 4;
const OPERATIONS_MAX: usize = 300;
/// No time passes after it.
const HELD: u8 = 64;
/// A few bytes of it are sent, the rest later.
const IN_PIECES: u8 = 128;
/// Enough for a peer to have ready.
const OUT_MAX: usize = 256 * 1024;
const KEY: [u8; 4] = [1, 2, 3, 4];
const VERSION: &[u8] = b"HTTP/1.1 ";
const PATHS: [&str; 8] =
    ["/echo", "/room", "/push", "/obey", "/mute", "/echo", "/room", "/nowhere"];
const COMMANDS: [&str; 8] =
    ["panic", "error", "refuse", "abort", "disconnect", "close", "others", "stay"];
const SIZES: [usize; 16] =
    [0, 1, 5, 60, 125, 126, 127, 300, 1000, 3000, 5000, 20_000, 40_000, 65_535, 65_536, 65_537];
const SPANS: [Duration; 8] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];
const DRAINS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(500), Duration::from_secs(2)];
/// How long a worker may take after its drain timeout: delays of what it cancels.
const STOP_SLACK: Duration = Duration::from_millis(100);
const STEP_MIN: Duration = Duration::from_micros(50);
/// While it is measured how long something takes.
const STEP_MAX: Duration = Duration::from_millis(1);
/// More than the longest drain needs.
const STEPS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Random strings, of which each is a run.
    fn strings() -> impl Iterator<Item = Vec<u8>> {
        let mut random = Random::new(5);
        (0..300).map(move |_| {
            let len = random.between(3, 500);
            (0..len).map(|_| random.next() as u8).collect()
        })
    }

    #[test]
    fn whatever_is_done() {
        let (mut upgraded, mut refused, mut errors, mut shortages, mut pauses) = (0, 0, 0, 0, 0);
        for (number, data) in strings().enumerate() {
            println!("string {number}");
            let stats = play(&data);
            upgraded += stats.upgraded;
            refused += stats.refused;
            errors += stats.listener_errors;
            shortages += stats.buffer_shortages;
            pauses += stats.accept_pauses;
        }
        let reached = [upgraded, refused, errors, shortages, pauses];
        assert!(reached.iter().all(|count| *count > 10), "hardly anything is done: {reached:?}");
    }
}
