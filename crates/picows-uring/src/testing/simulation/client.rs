//! A client with a plan, which checks everything that it gets.
//!
//! Speaks through the protocol crate's client side. What it may expect depends on what was done
//! to it, which [`Client::verdict`] gets.

mod reading;
pub(super) mod verdict;

use super::codec::Codec;
use super::journal::{Journal, Seen};
use super::plan::{ClientScript, Pace};
use super::stream::PeerStream;
use super::{listeners, script};
use crate::ring::Socket;
use crate::testing::ring::sim::{BrokenBy, PeerId, Random, SimRing};
use picows_uring_proto::{
    ClientHandshake, CloseCode, CloseFrame, Decoder, Deflate, FrameHead, LivenessRules, MsgType,
    Role, Stash,
};
use std::collections::VecDeque;
use std::time::Duration;

pub(super) struct Client {
    pub(super) id: u32,
    pub(super) plan: ClientScript,
    random: Random,
    stream: Option<PeerStream>,
    is_secure: bool,
    stage: ClientStage,
    pace: Pace,
    connects_at: Duration,
    room: usize,
    may_break: bool,
    vanishes: Option<Vanishing>,
    handshake: ClientHandshake,
    /// The received part of the answer to the handshake.
    answer: Vec<u8>,
    status: Option<u16>,
    decoder: Decoder,
    stash: Stash,
    /// What it offers, and what becomes of it.
    deflate: Option<Deflate>,
    codec: Codec,
    /// Bytes to be sent.
    out: Vec<u8>,
    written: usize,
    /// It has vanished: nothing is owed to it any more.
    has_gone: bool,
    accepted_at: Option<Duration>,
    opened_at: Option<Duration>,
    /// Messages that are left to be said.
    left: usize,
    /// What has to arrive next, if this is known without the journal.
    expected: VecDeque<Seen>,
    /// How many frames of the journal have arrived.
    arrived: usize,
    close_sent: Option<CloseFrame>,
    close_received: Option<CloseFrame>,
    ended_at: Duration,
    /// It saw the end of the stream, and no reset.
    has_read_end: bool,
    /// Its side of the stream ends with its CLOSE, and not when the server's has ended.
    ends_early: bool,
    /// What it noticed that must not be.
    fault: Option<String>,
    /// The server broke the protocol: that must not be, however the connection ends.
    breach: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ClientStage {
    Before,
    Handshake,
    Open,
    /// Our CLOSE is sent.
    Closing,
    /// Theirs has arrived: waits for the end.
    Closed,
    Over,
}

/// How and when a client goes without a word.
#[derive(Clone, Copy, Debug)]
struct Vanishing {
    way: Way,
    /// After so many bytes written, or at this time.
    bytes: usize,
    at: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Reset,
    Close,
    ShutDown,
}

/// What the rest of the world knows when a client is judged.
pub(super) struct Facts {
    pub(super) broken: Option<BrokenBy>,
    /// The server was stopped, when, and how long it gave everybody.
    pub(super) stopped: Option<(Duration, Duration)>,
    pub(super) has_limit: bool,
    /// Connections were ended as all of them held too much.
    pub(super) has_evictions: bool,
    pub(super) liveness: LivenessRules,
    /// How long the server stood still in all.
    pub(super) stalled: Duration,
}

impl Client {
    pub(super) fn new(
        id: u32,
        (plan, path): (ClientScript, &str),
        is_secure: bool,
        deflate: Option<Deflate>,
        random: &mut Random,
        span: Duration,
    ) -> Self {
        let mut random = random.fork();
        let is_panicking =
            matches!(plan, ClientScript::Command | ClientScript::Listen) && random.chance(250);
        let panics_at = if is_panicking {
            format!("&at={}", random.pick(&listeners::PLACES))
        } else {
            String::new()
        };
        let target = format!("{path}?id={id}{panics_at}");
        let handshake = ClientHandshake::new("sim.test", &target, [id as u8; 16]).unwrap();
        let handshake = match deflate {
            Some(settings) => handshake.with_deflate(settings).unwrap(),
            None => handshake,
        };
        let at = |random: &mut Random| span * random.below(1000) as u32 / 1000;
        let vanishes = random.chance(200).then(|| Vanishing {
            way: random.pick(&[Way::Reset, Way::Close, Way::ShutDown]),
            bytes: random.pick(&[0, 10, 200, 1000, 100_000]),
            at: at(&mut random) * 2,
        });
        let mut client = Self {
            id,
            plan,
            stream: None,
            is_secure,
            stage: ClientStage::Before,
            pace: Pace::draw(plan, &mut random),
            connects_at: at(&mut random),
            room: random.pick(&[4 * 1024, 64 * 1024, 300 * 1024]),
            may_break: random.chance(500),
            vanishes,
            handshake,
            answer: Vec::new(),
            status: None,
            decoder: Decoder::new(Role::Client),
            stash: Stash::new(),
            deflate,
            codec: Codec::default(),
            out: Vec::new(),
            written: 0,
            has_gone: false,
            accepted_at: None,
            opened_at: None,
            left: random.between(0, 12),
            expected: VecDeque::new(),
            arrived: 0,
            close_sent: None,
            close_received: None,
            ended_at: Duration::ZERO,
            has_read_end: false,
            ends_early: id % 2 == 1,
            fault: None,
            breach: None,
            random,
        };
        match plan {
            ClientScript::Http(index) => client.out.extend_from_slice(script::REQUESTS[index].0),
            _ => client.handshake.encode(&mut client.out),
        }
        if plan == ClientScript::Rubbish {
            // The server may wait for the rest of it.
            let at = Duration::from_secs(10);
            client.vanishes = Some(Vanishing { way: Way::Close, bytes: usize::MAX, at });
        }
        if plan == ClientScript::Rubbish && client.random.chance(300) {
            client.out.truncate(client.random.below(client.out.len()));
            client.out.extend((0..50).map(|_| client.random.next() as u8));
        }
        client
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == ClientStage::Over
    }

    pub(super) fn peer(&self) -> Option<PeerId> {
        self.stream.as_ref().map(PeerStream::peer)
    }

    /// When it has something to do, if nothing changes.
    pub(super) fn next_at(&self, ring: &mut SimRing) -> Option<Duration> {
        let Some(stream) = &self.stream else { return Some(self.connects_at) };
        if self.stage == ClientStage::Over {
            return None;
        }
        let is_writable = ring.peer(stream.peer()).is_writable();
        let writes_at =
            (self.has_more_to_write(stream) && is_writable).then_some(self.pace.writes_at);
        let reads_at = (self.reads() && stream.is_readable(ring)).then_some(self.pace.reads_at);
        let vanishes_at = self.vanishes.map(|it| it.at);
        [writes_at, reads_at, vanishes_at].into_iter().flatten().min()
    }

    fn has_more_to_write(&self, stream: &PeerStream) -> bool {
        let has_out = !self.out.is_empty() || (self.stage == ClientStage::Open && self.may_speak());
        !self.has_gone && (stream.sealed() > 0 || (stream.is_ready() && has_out))
    }

    /// A deaf client notices nothing but that its connection is broken, once it has made a handshake of
    /// TLS, if there is one.
    fn reads(&self) -> bool {
        let is_ready = self.stream.as_ref().is_none_or(PeerStream::is_ready);
        self.plan != ClientScript::Deaf || !is_ready
    }

    /// Does what is due; returns whether that was anything.
    pub(super) fn act(
        &mut self,
        ring: &mut SimRing,
        listener: Socket,
        now: Duration,
        journal: &Journal,
    ) -> bool {
        match self.stage {
            ClientStage::Over => return false,
            ClientStage::Before if now < self.connects_at => return false,
            ClientStage::Before => {
                let peer = ring.connect(listener, self.room, self.may_break);
                self.stream = Some(PeerStream::client(peer, self.is_secure));
                self.stage = ClientStage::Handshake;
            }
            _ => {}
        }
        let peer = self.peer().expect("it has connected");
        if self.accepted_at.is_none() && ring.peer(peer).is_accepted() {
            self.accepted_at = Some(now);
        }
        self.vanish(ring, peer, now);
        if self.stage == ClientStage::Over {
            return true;
        }
        let mut has_acted = false;
        if now >= self.pace.writes_at {
            has_acted |= self.write(ring, now);
        }
        if now >= self.pace.reads_at {
            has_acted |= self.read(ring, peer, now, journal);
        }
        has_acted
    }

    /// Goes, if it is time to. It may still read after that.
    fn vanish(&mut self, ring: &mut SimRing, peer: PeerId, now: Duration) {
        let is_due = |it: &mut Vanishing| now >= it.at || self.written >= it.bytes;
        let Some(vanishing) = self.vanishes.take_if(is_due) else { return };
        self.has_gone = true;
        match vanishing.way {
            Way::Reset => ring.peer(peer).reset(),
            Way::Close => ring.peer(peer).close(),
            Way::ShutDown => return ring.peer(peer).shut_down(),
        }
        self.over(now);
    }

    /// Ends without waiting for the server's end.
    pub(super) fn give_up(&mut self, now: Duration) {
        if self.stage != ClientStage::Over {
            self.over(now);
        }
    }

    fn over(&mut self, now: Duration) {
        self.stage = ClientStage::Over;
        self.ended_at = now;
    }

    fn fail(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    fn write(&mut self, ring: &mut SimRing, now: Duration) -> bool {
        if self.has_gone {
            return false;
        }
        if self.stage == ClientStage::Open && self.out.is_empty() {
            self.speak();
        }
        let wire_max = self.random.between(1, self.pace.write_max);
        let max = wire_max.min(self.out.len());
        let Some(stream) = &mut self.stream else { return false };
        let sealed = stream.sealed();
        if max == 0 && sealed == 0 {
            return false;
        }
        let Some(count) = stream.write(ring, &self.out[..max], wire_max) else {
            self.over(now);
            return true;
        };
        let has_moved = count > 0 || stream.sealed() != sealed;
        self.out.drain(..count);
        self.written += count;
        if self.stage == ClientStage::Closing && self.out.is_empty() && self.ends_early {
            stream.shut_down(ring);
        }
        self.pace.writes_at = now + self.pace.write_pause;
        has_moved
    }

    /// Whether it has something to say, and may: an echo that is not read piles up at the server.
    fn may_speak(&self) -> bool {
        match self.plan {
            ClientScript::Idle | ClientScript::Silent | ClientScript::Listen => false,
            ClientScript::Slow | ClientScript::Deaf => self.left > 0,
            ClientScript::Echo | ClientScript::Break(_) | ClientScript::Rubbish => {
                self.expected.iter().map(|seen| seen.len).sum::<usize>() < ECHO_PENDING_MAX
            }
            _ => true,
        }
    }

    /// Puts the next thing to say into `out`.
    fn speak(&mut self) {
        if !self.may_speak() {
            return;
        }
        let Self { random, codec, out, expected, .. } = self;
        if self.left > 0 {
            self.left -= 1;
            let mut append = |random: &mut Random, head: FrameHead, payload: &[u8]| {
                let key = script::key(random);
                codec.frame(out, head, payload, Some(key));
            };
            match self.plan {
                ClientScript::Room => {
                    let payload = vec![self.id as u8; random.between(0, 500)];
                    append(random, FrameHead::new(MsgType::Binary), &payload);
                }
                ClientScript::Command => {
                    let command = random.pick(&COMMANDS);
                    append(random, FrameHead::new(MsgType::Text), command.as_bytes());
                }
                _ => script::message(random, &mut append, expected),
            }
            return;
        }
        match self.plan {
            ClientScript::Break(index) => {
                let violation = script::VIOLATIONS[index].0;
                self.out.extend_from_slice(violation);
                if violation.starts_with(b"\x01") {
                    // Its first frame is as it should be.
                    self.expected.push_back(Seen::new(MsgType::Text, false, b""));
                }
                self.stage = ClientStage::Closing;
            }
            ClientScript::Rubbish => {
                let len = random.between(1, 300);
                self.out.extend((0..len).map(|_| random.next() as u8));
                self.stage = ClientStage::Closing;
            }
            _ => {
                let code = CloseCode::new(random.pick(&[1000, 1001, 3000, 4999])).unwrap();
                let close = match random.below(3) {
                    0 => CloseFrame::empty(),
                    1 => CloseFrame::new(code, ""),
                    _ => CloseFrame::new(code, "good bye, it was nice"),
                };
                close.append(&mut self.out, Some([7; 4]));
                self.close_sent = Some(close);
                self.stage = ClientStage::Closing;
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("plan", &self.plan)
            .field("stream", &self.stream)
            .field("stage", &self.stage)
            .field("status", &self.status)
            .field("out", &self.out.len())
            .field("written", &self.written)
            .field("left", &self.left)
            .field("arrived", &self.arrived)
            .field("expected", &self.expected.len())
            .field("close_sent", &self.close_sent)
            .field("close_received", &self.close_received)
            .field("ended_at", &self.ended_at)
            .finish_non_exhaustive()
    }
}

/// The command for a listener that obeys; `others` is about another client in the room.
const COMMANDS: [&str; 9] =
    ["panic", "error", "refuse", "abort", "disconnect", "close", "others", "stay", "stay"];
/// An echo client waits when so much of what it said has not come back.
const ECHO_PENDING_MAX: usize = 60_000;
