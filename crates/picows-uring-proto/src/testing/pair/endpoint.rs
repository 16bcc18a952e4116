//! One end: decoder, conversation and encoder put together, and a listener that takes notes.
//!
//! Decides nothing that the parts decide; that they fit together so easily is part of the test.

use super::Rules;
use super::opening::{Opened, Opening};
use crate::close::{CloseCode, CloseFrame, CloseHandshake};
use crate::conversation::{Conversation, FrameAction, Phase, Step};
use crate::decoder::Decoder;
use crate::encode::FrameHead;
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType, Role};
use crate::stash::Stash;
use crate::tick::Tick;

/// What a listener, or whoever waits for a connection, is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The handshake failed: there was never a connection.
    Refused(String),
    Connected,
    Frame {
        msg_type: MsgType,
        fin: bool,
        payload: Vec<u8>,
    },
    PeerMisbehaved(PeerMisbehaved),
    Disconnected,
}

/// What the listener does with a frame, besides writing it down.
type OnFrame = fn(&mut Sender, &Frame<'_>);

pub(super) struct Endpoint {
    pub(super) sender: Sender,
    decoder: Decoder,
    stash: Stash,
    /// Until the handshake is done.
    opening: Option<Opening>,
    on_connected: fn(&mut Sender),
    on_frame: OnFrame,
    events: Vec<Event>,
}

/// What a listener sends through.
pub(super) struct Sender {
    conversation: Conversation,
    rules: Rules,
    now: Tick,
    /// What the transport has not taken yet.
    queue: Vec<u8>,
    /// What the transport has taken and not carried yet.
    wire: Vec<u8>,
    /// All that was ever put on the wire.
    said: Vec<u8>,
    keys_drawn: u32,
    /// The transport takes nothing: the peer does not read.
    is_blocked: bool,
    has_shut_down: bool,
    has_seen_end: bool,
}

/// All that one end saw, said and is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct History<'a> {
    events: &'a [Event],
    said: &'a [u8],
    phase: Phase,
    deadline: Option<Tick>,
    close_handshake: Option<&'a CloseHandshake>,
}

impl Endpoint {
    pub(super) fn new(role: Role, rules: &Rules, now: Tick) -> Self {
        let mut sender = Sender {
            conversation: Conversation::new(role, &rules.conversation, now),
            rules: rules.clone(),
            now,
            queue: Vec::new(),
            wire: Vec::new(),
            said: Vec::new(),
            keys_drawn: 0,
            is_blocked: false,
            has_shut_down: false,
            has_seen_end: false,
        };
        let opening = Opening::begin(role, &mut sender.queue);
        Self {
            sender,
            decoder: Decoder::new(role),
            stash: Stash::new(),
            opening: Some(opening),
            on_connected: |_| {},
            on_frame: |_, _| {},
            events: Vec::new(),
        }
    }

    pub(super) fn skip_handshake(&mut self) {
        self.sender.queue.clear();
        self.opened();
    }

    /// What the listener does once it is connected.
    pub(super) fn on_connected(&mut self, on_connected: fn(&mut Sender)) {
        self.on_connected = on_connected;
    }

    /// What the listener does with each frame that is delivered to it.
    pub(super) fn on_frame(&mut self, on_frame: OnFrame) {
        self.on_frame = on_frame;
    }

    /// Bytes arrive.
    pub(super) fn receive(&mut self, now: Tick, bytes: &[u8]) {
        self.sender.now = now;
        if self.phase() > Phase::Open {
            return;
        }
        let mut arrived = bytes.to_vec();
        if let Some(opening) = &mut self.opening {
            match opening.receive(bytes, &mut self.sender.queue) {
                Ok(None) => arrived.clear(),
                Ok(Some(Opened { rest })) => {
                    arrived = rest;
                    self.opened();
                }
                Err(refused) => {
                    arrived.clear();
                    self.events.push(Event::Refused(refused));
                    self.sender.finish();
                }
            }
        }
        self.read_frames(&mut arrived);
        self.turn();
    }

    fn opened(&mut self) {
        self.opening = None;
        self.sender.conversation.opened();
        self.events.push(Event::Connected);
        (self.on_connected)(&mut self.sender);
    }

    fn read_frames(&mut self, arrived: &mut [u8]) {
        let mut consumed = 0;
        while self.phase() == Phase::Open {
            let Self { sender, decoder, stash, .. } = self;
            let frames = &sender.rules.frames;
            let frame = match decoder.next_frame(frames, stash, &mut arrived[consumed..]) {
                Ok(decoded) => {
                    consumed += decoded.consumed;
                    decoded.frame
                }
                Err(error) => {
                    self.events.push(Event::PeerMisbehaved(error));
                    sender.peer_misbehaved(error);
                    return;
                }
            };
            let Some(frame) = frame else { break };
            match sender.conversation.handle_frame(&sender.rules.conversation, &frame) {
                FrameAction::Deliver => {
                    self.events.push(Event::Frame {
                        msg_type: frame.msg_type(),
                        fin: frame.fin(),
                        payload: frame.payload().to_vec(),
                    });
                    (self.on_frame)(sender, &frame);
                    sender.close_reply(&frame);
                }
                FrameAction::AnswerPing => {
                    sender.send(FrameHead::new(MsgType::Pong), frame.payload());
                }
                FrameAction::Ignore => {}
            }
        }
        if !self.decoder.wants_stash() {
            self.stash = Stash::new();
        }
    }

    /// Takes note of the end of the peer's stream; `false` when there is nothing new.
    pub(super) fn see_end_of(&mut self, peer: &Self, now: Tick) -> bool {
        if !peer.sender.has_shut_down || self.sender.has_seen_end {
            return false;
        }
        self.sender.has_seen_end = true;
        self.sender.now = now;
        let Sender { conversation, rules, .. } = &mut self.sender;
        conversation.end_of_stream(&rules.conversation, now);
        self.turn();
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Tick) {
        self.sender.now = now;
        self.sender.conversation.handle_timeout(now);
        self.turn();
    }

    /// What is under way to the peer.
    pub(super) fn take_wire(&mut self) -> Vec<u8> {
        self.turn();
        std::mem::take(&mut self.sender.wire)
    }

    /// Does what the conversation wants of the transport.
    fn turn(&mut self) {
        let sender = &mut self.sender;
        if !sender.is_blocked && sender.conversation.phase() != Phase::Ended {
            sender.said.extend_from_slice(&sender.queue);
            sender.wire.append(&mut sender.queue);
        }
        match sender.step() {
            Step::Continue | Step::Flush | Step::Linger => {}
            Step::ShutDown => {
                sender.has_shut_down = true;
                sender.conversation.shut_down();
            }
            Step::Close => {
                sender.has_shut_down = true;
                sender.queue.clear();
                sender.conversation.end();
                let was_connected = self.events.contains(&Event::Connected);
                if was_connected && !self.events.contains(&Event::Disconnected) {
                    self.events.push(Event::Disconnected);
                }
            }
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.sender.conversation.phase()
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn close_handshake(&self) -> Option<&CloseHandshake> {
        self.sender.conversation.close_handshake()
    }

    /// The frames that were delivered to the listener: type, FIN and payload.
    pub(super) fn frames(&self) -> Vec<(MsgType, bool, &[u8])> {
        let frames = self.events.iter().filter_map(|event| match event {
            Event::Frame { msg_type, fin, payload } => Some((*msg_type, *fin, &payload[..])),
            _ => None,
        });
        frames.collect()
    }

    /// The texts that were delivered to the listener.
    pub(super) fn texts(&self) -> Vec<&str> {
        let texts = self.frames().into_iter().filter(|(msg_type, ..)| *msg_type == MsgType::Text);
        texts.map(|(.., payload)| str::from_utf8(payload).unwrap()).collect()
    }

    pub(super) fn history(&self) -> History<'_> {
        History {
            events: &self.events,
            said: &self.sender.said,
            phase: self.phase(),
            deadline: self.sender.conversation.poll_timeout(),
            close_handshake: self.close_handshake(),
        }
    }
}

impl Sender {
    pub(super) fn send_text(&mut self, text: &str) {
        self.send(FrameHead::new(MsgType::Text), text.as_bytes());
    }

    /// Queues a frame, unless nothing may be sent any more.
    pub(super) fn send(&mut self, head: FrameHead, payload: &[u8]) {
        assert_eq!(head.check(payload.len()), Ok(()));
        if self.conversation.may_send() {
            let key = self.draw_key();
            head.append(&mut self.queue, payload, key);
        }
    }

    /// Queues bytes that may be no frame at all.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        self.queue.extend_from_slice(bytes);
    }

    pub(super) fn send_close(&mut self, code: CloseCode, reason: &str) {
        self.send_close_frame(&CloseFrame::new(code, reason));
    }

    pub(super) fn send_close_frame(&mut self, close: &CloseFrame) {
        let rules = &self.rules.conversation;
        if self.conversation.send_close(rules, self.now, close.clone()) {
            self.queue_close(close);
        }
    }

    /// Disconnects once what is queued is out.
    pub(super) fn finish(&mut self) {
        self.conversation.finish(&self.rules.conversation, self.now);
    }

    /// Disconnects now.
    pub(super) fn abort(&mut self) {
        self.conversation.end();
    }

    /// The peer stops reading, or reads again.
    pub(super) fn block(&mut self, is_blocked: bool) {
        self.is_blocked = is_blocked;
    }

    pub(super) fn step(&self) -> Step {
        self.conversation.step(self.queue.is_empty())
    }

    fn peer_misbehaved(&mut self, error: PeerMisbehaved) {
        let rules = &self.rules.conversation;
        if let Some(close) = self.conversation.peer_misbehaved(rules, self.now, error) {
            self.queue_close(&close);
        }
    }

    fn close_reply(&mut self, frame: &Frame<'_>) {
        let rules = &self.rules.conversation;
        if let Some(close) = self.conversation.close_reply(rules, self.now, frame) {
            self.queue_close(&close);
        }
    }

    fn queue_close(&mut self, close: &CloseFrame) {
        let key = self.draw_key();
        close.append(&mut self.queue, key);
    }

    /// The next key of a client: the same in each run, and unlike the one before.
    fn draw_key(&mut self) -> Option<[u8; 4]> {
        if self.conversation.role() == Role::Server {
            return None;
        }
        self.keys_drawn += 1;
        Some(self.keys_drawn.wrapping_mul(0x9E37_79B1).to_be_bytes())
    }
}
