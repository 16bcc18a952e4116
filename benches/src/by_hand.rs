//! A server's side of a connection, by hand over the protocol crate: bytes in, answers out.
//!
//! No sockets: the loops that drive it, on epoll and on tokio, differ in nothing else.

use http::HeaderMap;
use picows_uring_proto::{
    CloseFrame, ConversationRules, Frame, FrameAction, FrameHead, FrameRules, HeadFault,
    HeadLimits, HeadReceiver, MsgType, PeerMisbehaved, Receiver, Role, Sender, Stash, Tick,
    UpgradeRequest, UpgradeResponse, encode_switching_protocols,
};
use std::io::{self, ErrorKind, Write};

/// What all connections use in turn.
#[derive(Debug)]
pub struct Local {
    frames: FrameRules,
    rules: ConversationRules,
    /// One receive buffer for all, so that it stays in cache.
    pub input: Vec<u8>,
    /// All answers to what one read brought, for the connection that it came from.
    pub out: Vec<u8>,
    /// The same, for every connection: where messages go if they are not echoed.
    pub to_all: Option<Vec<u8>>,
    /// Empty stashes, so that a connection between two frames owns none.
    stashes: Vec<Stash>,
}

impl Local {
    /// Messages go back to their sender, or, with `is_fan_out`, to all.
    #[must_use]
    pub fn new(is_fan_out: bool) -> Self {
        Self {
            frames: FrameRules::default(),
            rules: ConversationRules::default(),
            input: vec![0; INPUT_BYTES],
            out: Vec::with_capacity(INPUT_BYTES),
            to_all: is_fan_out.then(Vec::new),
            stashes: Vec::new(),
        }
    }
}

/// How far a connection has come.
#[derive(Debug)]
pub struct Conversation {
    receiver: Receiver,
    sender: Sender,
    /// Until the handshake is over.
    head: Option<HeadReceiver<UpgradeRequest>>,
    is_ending: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            receiver: Receiver::new(Role::Server),
            sender: Sender::new(Role::Server, &ConversationRules::default(), Tick::ZERO),
            head: Some(HeadReceiver::of_request()),
            is_ending: false,
        }
    }
}

impl Conversation {
    /// Whether the handshake is over.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.head.is_none()
    }

    /// Whether to close once everything is sent.
    #[must_use]
    pub const fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Answers the first `len` bytes of the input, into `shared.out`.
    pub fn receive(&mut self, shared: &mut Local, len: usize) {
        let Local { frames, rules, input, out, to_all, stashes } = shared;
        let input = &mut input[..len];
        let used = match &mut self.head {
            Some(head) => match head.receive_request(input, &HeadLimits::default()) {
                Ok(None) => return,
                Ok(Some((request, used))) => match request.validate_upgrade() {
                    Ok(key) => {
                        encode_switching_protocols(out, &key, None, &HeaderMap::new());
                        self.sender.conversation_mut().opened();
                        self.head = None;
                        used
                    }
                    Err(error) => return self.refuse_request(error.into(), out),
                },
                Err(HeadFault::Refused(error)) => return self.refuse_request(error.into(), out),
                Err(HeadFault::OutOfMemory) => return self.is_ending = true,
            },
            None => 0,
        };
        if !self.receiver.is_collecting() {
            *self.receiver.stash_mut() = stashes.pop().unwrap_or_default();
        }
        self.receive_frames(frames, rules, &mut input[used..], out, to_all);
        if !self.receiver.is_collecting() {
            stashes.push(std::mem::take(self.receiver.stash_mut()));
        }
    }

    fn refuse_request(&mut self, refusal: UpgradeResponse, out: &mut Vec<u8>) {
        refusal.encode(out);
        self.is_ending = true;
    }

    fn receive_frames(
        &mut self,
        frames: &FrameRules,
        rules: &ConversationRules,
        input: &mut [u8],
        out: &mut Vec<u8>,
        to_all: &mut Option<Vec<u8>>,
    ) {
        let mut consumed = 0;
        loop {
            let rest = &mut input[consumed..];
            match self.receiver.next(frames, rest) {
                Ok(decoded) => {
                    consumed += decoded.consumed;
                    let Some(frame) = decoded.frame else { return };
                    let action = self.sender.handle_frame(rules, &frame);
                    self.is_ending |= answer(&frame, action, out, to_all);
                }
                Err(error) => {
                    refuse(error, out);
                    self.is_ending = true;
                    return;
                }
            }
        }
    }
}

/// Appends what a frame is owed, and returns whether it was the last.
fn answer(
    frame: &Frame<'_>,
    action: FrameAction,
    out: &mut Vec<u8>,
    to_all: &mut Option<Vec<u8>>,
) -> bool {
    let (msg_type, out) = match (frame.msg_type(), to_all) {
        _ if action == FrameAction::AnswerPing => (MsgType::Pong, out),
        _ if action == FrameAction::Ignore => return false,
        (MsgType::Pong, _) => return false,
        (MsgType::Close, _) | (_, None) => (frame.msg_type(), out),
        (_, Some(all)) => (frame.msg_type(), all),
    };
    FrameHead::new(msg_type).with_fin(frame.fin()).append(out, frame.payload(), None);
    msg_type == MsgType::Close
}

#[cold]
fn refuse(error: PeerMisbehaved, out: &mut Vec<u8>) {
    CloseFrame::new(error.close_code(), "").append(out, None);
}

/// Writes until the socket takes no more, and returns how much it took.
pub fn write(stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(len) => taken += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// Receive buffer: about what the second-level cache holds.
const INPUT_BYTES: usize = 512 * 1024;
