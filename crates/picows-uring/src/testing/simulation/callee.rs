//! A server at the other end of a connection that our client makes.
//!
//! Played by the simulation through the protocol crate's server side: it answers in one of several
//! manners, echoes, and checks everything that it gets against the journal.

use super::client::verdict::is_long_stall;
use super::codec::Codec;
use super::journal::{Journal, Seen};
use super::stream::PeerStream;
use super::{letters, script};
use crate::client::{ConnectFault, ConnectOutcome};
use crate::ring::Ring;
use crate::testing::ring::sim::{BrokenBy, PeerId, PeerRead, Random, SimRing};
use http::HeaderMap;
use picows_uring_proto::{
    CloseCode, CloseFrame, Decoder, Deflate, FrameHead, FrameRules, HeadLimits, MsgType, Role,
    Stash, UpgradeRequest, encode_switching_protocols,
};
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Callee {
    pub(super) id: u32,
    pub(super) dialed_at: Duration,
    manner: Manner,
    random: Random,
    line: Option<Line>,
    room: usize,
    may_break: bool,
    read_max: usize,
    write_max: usize,
    /// Frames until it does what is in its manner; `None` once it has done so.
    patience: Option<usize>,
    has_shut_down: bool,
    stage: CalleeStage,
    ended_at: Option<Duration>,
    head: Vec<u8>,
    decoder: Decoder,
    stash: Stash,
    /// What it accepts, and what becomes of it.
    deflate: Option<Deflate>,
    codec: Codec,
    out: Vec<u8>,
    /// How many frames of the journal have arrived.
    arrived: usize,
    close_received: Option<Option<u16>>,
    fault: Option<String>,
}

/// The connection, once it is made.
struct Line {
    stream: PeerStream,
    outcome: Rc<ConnectOutcome>,
    /// The outcome that the caller got.
    told: Option<Result<(), ConnectFault>>,
}

impl Line {
    fn listen(&mut self) {
        if let Some(result) = self.outcome.take_result() {
            self.told = Some(result.map(drop));
        }
    }
}

/// How it treats those who call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Echo,
    /// Answers 403.
    Refuse,
    /// Answers with what is no HTTP.
    Rubbish,
    /// Does not answer.
    Mute,
    /// Echoes, and then breaks the protocol.
    Break,
    /// Echoes, and then sends CLOSE first.
    Leave,
    /// Echoes, and then is gone.
    Vanish,
    /// Its caller gives up before the answer.
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CalleeStage {
    Before,
    Handshake,
    Open,
    /// It has said its last word, and closes when that has left.
    Closing,
    /// It waits for the end.
    Ending,
    Over,
}

impl Callee {
    pub(super) fn new(
        id: u32,
        deflate: Option<Deflate>,
        random: &mut Random,
        span: Duration,
    ) -> Self {
        let mut random = random.fork();
        let manner = match random.below(16) {
            0 => Manner::Refuse,
            1 => Manner::Rubbish,
            2 => Manner::Mute,
            3 => Manner::Break,
            4 => Manner::Leave,
            5 => Manner::Vanish,
            6 => Manner::Forget,
            _ => Manner::Echo,
        };
        Self {
            id,
            manner,
            dialed_at: span * random.below(1000) as u32 / 1000,
            line: None,
            room: random.pick(&[4 * 1024, 64 * 1024, 300 * 1024]),
            may_break: random.chance(300),
            read_max: random.pick(&[300, 2000, 400_000]),
            write_max: random.pick(&[300, 2000, 400_000]),
            patience: Some(random.between(0, 5)),
            has_shut_down: false,
            stage: CalleeStage::Before,
            ended_at: None,
            head: Vec::new(),
            decoder: Decoder::new(Role::Server),
            stash: Stash::new(),
            deflate,
            codec: Codec::default(),
            out: Vec::new(),
            arrived: 0,
            close_received: None,
            fault: None,
            random,
        }
    }

    /// How large its pipes are, and whether the network may break them.
    pub(super) fn wire(&self) -> (usize, bool) {
        (self.room, self.may_break)
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == CalleeStage::Over
    }

    pub(super) fn is_dialed(&self) -> bool {
        self.stage != CalleeStage::Before
    }

    pub(super) fn peer(&self) -> Option<PeerId> {
        self.line.as_ref().map(|line| line.stream.peer())
    }

    /// Our client has called.
    pub(super) fn dialed(&mut self, stream: PeerStream, outcome: Rc<ConnectOutcome>) {
        self.stage = CalleeStage::Handshake;
        if self.manner == Manner::Forget && self.random.chance(500) {
            ConnectOutcome::give_up(Rc::clone(&outcome));
        }
        self.line = Some(Line { stream, outcome, told: None });
    }

    /// No more calls will come.
    pub(super) fn give_up(&mut self) {
        self.stage = CalleeStage::Over;
    }

    /// Whether it has something to do.
    pub(super) fn has_work(&self, ring: &mut SimRing) -> bool {
        let Some(line) = self.line.as_ref().filter(|_| !self.is_over()) else { return false };
        let stream = &line.stream;
        let has_plain = !self.out.is_empty() && !self.has_shut_down;
        let has_out = stream.sealed() > 0 || (has_plain && stream.is_ready());
        stream.is_readable(ring) || (has_out && ring.peer(stream.peer()).is_writable())
    }

    /// Does what is due; returns whether that was anything.
    pub(super) fn act(&mut self, ring: &mut SimRing, journal: &Journal) -> bool {
        let Some(peer) = self.peer().filter(|_| !self.is_over()) else { return false };
        self.ended_at = Some(ring.now());
        if let Some(line) = &mut self.line {
            line.listen();
        }
        let has_written = self.write(ring);
        has_written | self.read(ring, peer, journal)
    }

    fn write(&mut self, ring: &mut SimRing) -> bool {
        let Some(Line { stream, .. }) = &mut self.line else { return false };
        let sealed = stream.sealed();
        if self.has_shut_down && sealed == 0 {
            return false;
        }
        let wire_max = self.random.between(1, self.write_max);
        let max = if self.has_shut_down { 0 } else { wire_max.min(self.out.len()) };
        if max == 0 && sealed == 0 {
            if self.stage == CalleeStage::Closing {
                self.has_shut_down = true;
                stream.shut_down(ring);
                self.stage = CalleeStage::Ending;
                return true;
            }
            return false;
        }
        let Some(count) = stream.write(ring, &self.out[..max], wire_max) else {
            self.stage = CalleeStage::Over;
            return true;
        };
        self.out.drain(..count);
        count > 0 || stream.sealed() != sealed
    }

    fn read(&mut self, ring: &mut SimRing, peer: PeerId, journal: &Journal) -> bool {
        let max = self.random.between(1, self.read_max);
        let Some(line) = &mut self.line else { return false };
        let mut bytes = match line.stream.read(ring, max) {
            PeerRead::Nothing => return false,
            PeerRead::Bytes(bytes) => bytes,
            PeerRead::End | PeerRead::Reset => {
                ring.peer(peer).close();
                self.stage = CalleeStage::Over;
                return true;
            }
        };
        match self.stage {
            CalleeStage::Handshake => {
                self.head.append(&mut bytes);
                self.read_request();
            }
            CalleeStage::Open => self.read_frames(&mut bytes, journal),
            // Its last word is behind what it has not read.
            CalleeStage::Closing | CalleeStage::Ending if self.close_received.is_none() => {
                self.read_frames(&mut bytes, journal);
            }
            _ => {}
        }
        if self.manner == Manner::Vanish && self.patience.is_none() {
            match self.random.below(2) {
                0 => ring.peer(peer).reset(),
                _ => ring.peer(peer).close(),
            }
            self.stage = CalleeStage::Over;
        }
        true
    }

    fn read_request(&mut self) {
        let parsed = UpgradeRequest::parse(&self.head, &HeadLimits::default());
        let request = match parsed {
            Ok(Some((request, used))) if used == self.head.len() => request,
            Ok(None) => return,
            other => return self.fail(format!("a strange request: {other:?}")),
        };
        match self.manner {
            Manner::Refuse => {
                let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever";
                self.out.extend_from_slice(answer);
                self.stage = CalleeStage::Closing;
            }
            Manner::Rubbish => {
                let answer = if self.speaks_tls() { &TLS_ALERT[..] } else { &NO_HTTP[..] };
                self.out.extend_from_slice(answer);
                self.stage = CalleeStage::Closing;
            }
            Manner::Mute => self.stage = CalleeStage::Ending,
            Manner::Forget => {
                if let Some(line) = &self.line {
                    ConnectOutcome::give_up(Rc::clone(&line.outcome));
                }
                self.stage = CalleeStage::Ending;
            }
            Manner::Echo | Manner::Break | Manner::Leave | Manner::Vanish => {
                match request.validate_upgrade() {
                    Ok(key) => {
                        let mut headers = HeaderMap::new();
                        if let Some(settings) = &self.deflate
                            && let Some((agreed, answer)) = settings.accept(&request)
                        {
                            headers.insert("sec-websocket-extensions", answer.parse().unwrap());
                            self.codec.begin(Role::Server, settings, &agreed);
                        }
                        encode_switching_protocols(&mut self.out, &key, None, &headers);
                        self.stage = CalleeStage::Open;
                        self.tire();
                    }
                    Err(error) => self.fail(format!("a bad request: {error}")),
                }
            }
        }
    }

    /// After each frame: does what is in its manner, once.
    fn tire(&mut self) {
        match &mut self.patience {
            Some(0) => self.patience = None,
            Some(left) => return *left -= 1,
            None => return,
        }
        match self.manner {
            Manner::Break => self.out.extend_from_slice(b"\x81\x80\0\0\0\0"), // Masked, §5.1.
            Manner::Leave => {
                CloseFrame::new(CloseCode::GOING_AWAY, "").append(&mut self.out, None);
            }
            _ => return,
        }
        self.stage = CalleeStage::Ending;
    }

    fn read_frames(&mut self, bytes: &mut [u8], journal: &Journal) {
        let rules = FrameRules::default();
        let mut consumed = 0;
        loop {
            let input = &mut bytes[consumed..];
            let memory = (&mut self.decoder, &mut self.stash);
            let (head, payload) = match self.codec.next(memory, &rules, input) {
                Err(error) => return self.fail(format!("our client broke the protocol: {error}")),
                Ok(decoded) => {
                    consumed += decoded.consumed;
                    let Some(frame) = decoded.frame else { break };
                    let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin());
                    (head, frame.payload().to_vec())
                }
            };
            self.read_frame(head, &payload, journal);
            if !self.decoder.wants_stash() {
                self.stash.clear();
            }
        }
        if !self.decoder.wants_stash() {
            self.stash.clear();
        }
    }

    fn read_frame(&mut self, head: FrameHead, payload: &[u8], journal: &Journal) {
        match head.msg_type {
            MsgType::Close => {
                let code = payload.first_chunk().map(|two| u16::from_be_bytes(*two));
                self.close_received = Some(code);
                if self.stage == CalleeStage::Open {
                    head.append(&mut self.out, payload, None);
                }
                // A server is the first to end the stream (RFC 6455 §7.1.1).
                self.stage = CalleeStage::Closing;
            }
            MsgType::Pong => {
                // Every ping of ours says the same.
                if payload != script::SERVER_PING {
                    self.fail(format!("a pong of {payload:?}"));
                }
            }
            MsgType::Ping => {
                FrameHead::new(MsgType::Pong).append(&mut self.out, payload, None);
            }
            _ => {
                if let Some(to) = letters::addressee(payload) {
                    if to != self.id {
                        self.fail(format!("it got a letter for {to}"));
                    }
                    return;
                }
                let seen = Seen::new(head.msg_type, head.fin, payload);
                let record = journal.records.get(&self.id);
                let expected = record.and_then(|record| record.sent.get(self.arrived).copied());
                self.arrived += 1;
                if expected != Some(seen) {
                    let number = self.arrived;
                    self.fail(format!("frame {number} is {seen:?} and should be {expected:?}"));
                }
                if self.stage == CalleeStage::Open {
                    self.codec.frame(&mut self.out, head, payload, None);
                    script::ping_behind(&mut self.random, &mut self.out);
                    self.tire();
                }
            }
        }
    }

    /// Whether its rubbish is the alert of a server that expects TLS. Not drawn: other runs stay what
    /// they were.
    fn speaks_tls(&self) -> bool {
        self.id % 2 == 1
    }

    fn fail(&mut self, what: String) {
        self.fault.get_or_insert(what);
    }

    /// Whether its caller knows what became of the call, if there was one.
    pub(super) fn is_told(&mut self) -> bool {
        let is_forgotten = self.manner == Manner::Forget;
        self.line.as_mut().is_none_or(|line| {
            line.listen();
            line.told.is_some() || is_forgotten
        })
    }

    /// Judges what it got, and what its caller got, at the end.
    pub(super) fn verdict(
        &mut self,
        broken: Option<BrokenBy>,
        is_sent_away: bool,
        may_be_evicted: bool,
        stopped: Option<(Duration, Duration)>,
        stalled: Duration,
        journal: &Journal,
    ) -> Result<(), String> {
        let Some(line) = &mut self.line else { return Ok(()) };
        line.listen();
        let (told, is_secure) = (line.told.take(), line.stream.is_secure());
        let has_layers = line.stream.has_layers();
        let record = journal.records.get(&self.id);
        let demand = |is_kept: bool, what: &str| {
            if is_kept {
                return Ok(());
            }
            Err(format!("{what}: {self:?}, told {told:?}, {record:?}"))
        };
        let is_forgotten = self.manner == Manner::Forget;
        demand(told.is_some() || is_forgotten, "its caller was told nothing")?;
        if record.is_some_and(|record| record.dropped > 0) {
            return Ok(());
        }
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let is_cut_short = stopped.is_some_and(|(at, _)| self.ended_at.is_none_or(|it| it >= at));
        let is_late = self.close_received == Some(Some(1001)) && is_sent_away;
        let is_ended_by_us =
            is_late || record.is_some_and(|record| record.is_ended_by_us || record.is_evicted);
        let is_broken = matches!(broken, Some(BrokenBy::Network | BrokenBy::Peer));
        if is_ended_by_us || is_broken || is_cut_short || self.manner == Manner::Vanish {
            return Ok(());
        }
        if may_be_evicted && matches!(told, Some(Err(ConnectFault::Disconnected(_)))) {
            return Ok(()); // In its handshake, where there is no listener to be told.
        }
        if is_long_stall(stalled) && self.close_received.is_none() {
            return Ok(());
        }
        // An answer that is refused is not read to its end.
        let is_rude = matches!(self.manner, Manner::Refuse | Manner::Rubbish | Manner::Mute);
        // It answers the hello of a caller that has gone.
        let is_rude = is_rude || (is_forgotten && has_layers);
        // Dropped for its memory after it had the last word: what it sent meanwhile is unread.
        let is_dropped = may_be_evicted && matches!(self.manner, Manner::Break | Manner::Leave);
        demand(broken.is_none() || is_rude || is_dropped, "it was reset")?;
        let is_rejected = matches!(told, Some(Err(ConnectFault::Response(_))));
        let is_disconnected = matches!(told, Some(Err(ConnectFault::Disconnected(_))));
        let is_normal = self.close_received == Some(Some(1000));
        match self.manner {
            Manner::Echo => {
                let sent = record.map_or(0, |record| record.sent.len());
                let echoed = record.map_or(0, |record| record.echoed);
                demand((self.arrived, echoed) == (sent, sent), "frames are lost")?;
                demand(is_normal, "the wrong close code")
            }
            // However it is cut.
            Manner::Rubbish if self.speaks_tls() && !is_secure => {
                let is_named = matches!(told, Some(Err(ConnectFault::TlsExpected)));
                demand(is_named, "no word of TLS")
            }
            Manner::Refuse | Manner::Rubbish => demand(is_rejected, "no word of the answer"),
            Manner::Mute => demand(is_disconnected, "no word of the silence"),
            // Its caller may have been the first to send CLOSE.
            Manner::Break | Manner::Leave if is_normal => Ok(()),
            // Dropped for its memory after it had the last word, which is then the cause.
            Manner::Break | Manner::Leave if may_be_evicted && self.close_received.is_none() => {
                Ok(())
            }
            Manner::Break => demand(self.close_received == Some(Some(1002)), "the wrong code"),
            Manner::Leave => demand(self.close_received == Some(Some(1001)), "the wrong code"),
            Manner::Vanish | Manner::Forget => Ok(()),
        }
    }
}

impl std::fmt::Debug for Callee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callee")
            .field("id", &self.id)
            .field("manner", &self.manner)
            .field("peer", &self.peer())
            .field("stage", &self.stage)
            .field("out", &self.out.len())
            .field("arrived", &self.arrived)
            .field("close_received", &self.close_received)
            .finish_non_exhaustive()
    }
}

/// An alert of TLS, as a server answers HTTP on a port of wss://.
const TLS_ALERT: [u8; 7] = *b"\x15\x03\x01\0\x02\x02\x46";
const NO_HTTP: [u8; 18] = *b"no HTTP at all\r\n\r\n";
