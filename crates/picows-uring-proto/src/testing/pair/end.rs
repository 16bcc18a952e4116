//! One end: an [`Endpoint`] with its opening handshake, and a listener that takes notes.
//!
//! Decides nothing that the protocol crate decides: it carries bytes, and obeys each [`Step`].

use super::Rules;
use super::opening::{Opened, Opening};
use crate::close::{CloseCode, CloseFrame, CloseHandshake};
use crate::conversation::{Phase, Step};
use crate::encode::FrameHead;
use crate::endpoint::{Endpoint, Outgoing, SendError};
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType, Role};
use crate::tick::Tick;
use std::sync::Arc;

/// Events of one end, in their order.
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
type OnFrame = fn(&mut Outgoing, &Frame<'_>);

pub(super) struct End {
    endpoint: Endpoint,
    /// The time of the last event.
    now: Tick,
    /// Until the handshake is done.
    opening: Option<Opening>,
    on_connected: fn(&mut Outgoing),
    on_frame: OnFrame,
    events: Vec<Event>,
    /// What the transport has taken and not carried yet.
    wire: Vec<u8>,
    /// All that was ever put on the wire.
    said: Vec<u8>,
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

impl End {
    pub(super) fn new(role: Role, rules: &Rules, now: Tick) -> Self {
        let rules = Arc::new(rules.clone());
        let mut endpoint = match role {
            Role::Server => Endpoint::server(&rules, now),
            Role::Client => Endpoint::client(&rules, now, keys()),
        };
        let opening = Opening::begin(role, endpoint.outgoing());
        Self {
            endpoint,
            now,
            opening: Some(opening),
            on_connected: |_| {},
            on_frame: |_, _| {},
            events: Vec::new(),
            wire: Vec::new(),
            said: Vec::new(),
            is_blocked: false,
            has_shut_down: false,
            has_seen_end: false,
        }
    }

    /// Opens the connection; the request, which was not sent, is dropped.
    pub(super) fn skip_handshake(&mut self) {
        self.endpoint.sent(self.now, usize::MAX);
        self.opened();
    }

    /// What the listener does once it is connected.
    pub(super) fn on_connected(&mut self, on_connected: fn(&mut Outgoing)) {
        self.on_connected = on_connected;
    }

    /// What the listener does with each frame that is delivered to it.
    pub(super) fn on_frame(&mut self, on_frame: OnFrame) {
        self.on_frame = on_frame;
    }

    /// What the application sends through.
    pub(super) fn sender(&mut self) -> &mut Outgoing {
        self.endpoint.outgoing()
    }

    /// Bytes arrive.
    pub(super) fn receive(&mut self, now: Tick, bytes: &[u8]) {
        self.now = now;
        if self.phase() > Phase::Open {
            return;
        }
        let mut arrived = bytes.to_vec();
        if let Some(opening) = &mut self.opening {
            match opening.receive(bytes, self.endpoint.outgoing()) {
                Ok(None) => arrived.clear(),
                Ok(Some(Opened { head_bytes })) => {
                    arrived.drain(..head_bytes);
                    self.opened();
                }
                Err(refused) => {
                    arrived.clear();
                    self.events.push(Event::Refused(refused));
                    self.endpoint.outgoing().finish();
                }
            }
        }
        let Self { endpoint, on_frame, events, .. } = self;
        let received = endpoint.receive(now, &mut arrived, |outgoing, frame| {
            events.push(Event::Frame {
                msg_type: frame.msg_type(),
                fin: frame.fin(),
                payload: frame.payload().to_vec(),
            });
            on_frame(outgoing, frame);
        });
        if let Err(error) = received {
            self.events.push(Event::PeerMisbehaved(error));
        }
        self.turn();
    }

    fn opened(&mut self) {
        self.opening = None;
        self.endpoint.opened(self.now);
        self.events.push(Event::Connected);
        (self.on_connected)(self.endpoint.outgoing());
    }

    /// Takes note of the end of the peer's stream; `false` when there is nothing new.
    pub(super) fn see_end_of(&mut self, peer: &Self, now: Tick) -> bool {
        if !peer.has_shut_down || self.has_seen_end {
            return false;
        }
        self.has_seen_end = true;
        self.now = now;
        self.endpoint.end_of_stream(now);
        self.turn();
        true
    }

    pub(super) fn handle_timeout(&mut self, now: Tick) {
        self.now = now;
        self.endpoint.handle_timeout(now);
        self.turn();
    }

    /// What is under way to the peer.
    pub(super) fn take_wire(&mut self) -> Vec<u8> {
        self.turn();
        std::mem::take(&mut self.wire)
    }

    /// Does what the endpoint wants of the transport.
    fn turn(&mut self) {
        if !self.is_blocked && self.phase() != Phase::Ended {
            let queue = self.endpoint.outgoing().bytes();
            let count = queue.len();
            self.said.extend_from_slice(queue);
            self.wire.extend_from_slice(queue);
            self.endpoint.sent(self.now, count);
        }
        match self.step() {
            Step::Continue | Step::Flush | Step::Linger => {}
            Step::ShutDown => {
                self.has_shut_down = true;
                self.endpoint.shut_down();
            }
            Step::Close => {
                self.has_shut_down = true;
                self.endpoint.end();
                let was_connected = self.events.contains(&Event::Connected);
                if was_connected && !self.events.contains(&Event::Disconnected) {
                    self.events.push(Event::Disconnected);
                }
            }
        }
    }

    /// The peer stops reading, or reads again.
    pub(super) fn block(&mut self, is_blocked: bool) {
        self.is_blocked = is_blocked;
    }

    pub(super) fn step(&self) -> Step {
        self.endpoint.step()
    }

    pub(super) fn phase(&self) -> Phase {
        self.endpoint.phase()
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.endpoint.poll_timeout()
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn close_handshake(&self) -> Option<&CloseHandshake> {
        self.endpoint.sender().conversation().close_handshake()
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
            said: &self.said,
            phase: self.phase(),
            deadline: self.deadline(),
            close_handshake: self.close_handshake(),
        }
    }
}

/// Short ways to send, for tests: what is refused as the end is near is dropped.
pub(super) trait Speak {
    fn send_frame(&mut self, head: FrameHead, payload: &[u8]);
    fn send_text(&mut self, text: &str);
    fn send_close_with(&mut self, code: CloseCode, reason: &str);
    fn send_close_frame(&mut self, close: &CloseFrame);
}

impl Speak for Outgoing {
    fn send_frame(&mut self, head: FrameHead, payload: &[u8]) {
        match self.send(head, payload) {
            Ok(()) | Err(SendError::Closed) => {}
            Err(misuse) => panic!("{misuse}"),
        }
    }

    fn send_text(&mut self, text: &str) {
        self.send_frame(FrameHead::new(MsgType::Text), text.as_bytes());
    }

    fn send_close_with(&mut self, code: CloseCode, reason: &str) {
        self.send_close_frame(&CloseFrame::new(code, reason));
    }

    fn send_close_frame(&mut self, close: &CloseFrame) {
        self.send_close(close.clone());
    }
}

/// The keys of a client: the same in each run, and each unlike the one before.
fn keys() -> impl FnMut() -> [u8; 4] {
    let mut drawn = 0_u32;
    move || {
        drawn += 1;
        drawn.wrapping_mul(0x9E37_79B1).to_be_bytes()
    }
}
