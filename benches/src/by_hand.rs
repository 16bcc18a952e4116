//! A server's side of a connection, by hand over the protocol crate: bytes in, answers out.
//!
//! No sockets: the loops that drive it, on epoll and on tokio, differ in nothing else.

use http::HeaderMap;
use picows_uring_proto::{
    CloseFrame, Decoder, Frame, FrameHead, FrameRules, HeadLimits, MsgType, PeerMisbehaved, Role,
    Stash, UpgradeRequest, UpgradeResponse, encode_switching_protocols,
};
use std::io::{self, ErrorKind, Write};

/// What all connections use in turn.
#[derive(Debug)]
pub struct Shared {
    rules: FrameRules,
    /// One receive buffer for all, so that it stays in cache.
    pub input: Vec<u8>,
    /// All answers to what one read brought, for the connection that it came from.
    pub out: Vec<u8>,
    /// The same, for every connection: where messages go if they are not echoed.
    pub to_all: Option<Vec<u8>>,
    /// Empty stashes, so that a connection between two frames owns none.
    stashes: Vec<Stash>,
}

impl Shared {
    /// Messages go back to whoever sent them, or, with `is_fan_out`, to all.
    #[must_use]
    pub fn new(is_fan_out: bool) -> Self {
        Self {
            rules: FrameRules::default(),
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
    decoder: Decoder,
    /// The handshake is not over.
    is_new: bool,
    is_ending: bool,
    /// Part of a frame.
    stash: Stash,
    /// The part of the request that has arrived.
    head: Vec<u8>,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(Role::Server),
            is_new: true,
            is_ending: false,
            stash: Stash::new(),
            head: Vec::new(),
        }
    }
}

impl Conversation {
    /// Whether the handshake is over.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.is_new
    }

    /// Whether to close once everything is sent.
    #[must_use]
    pub const fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Answers the first `len` bytes of the input, into `shared.out`.
    pub fn receive(&mut self, shared: &mut Shared, len: usize) {
        let Shared { rules, input, out, to_all, stashes } = shared;
        let input = &mut input[..len];
        if self.is_new {
            return self.receive_head(rules, input, out, to_all);
        }
        if !self.decoder.wants_stash() {
            self.stash = stashes.pop().unwrap_or_default();
        }
        self.receive_frames(rules, input, out, to_all);
        if !self.decoder.wants_stash() {
            stashes.push(std::mem::take(&mut self.stash));
        }
    }

    fn receive_head(
        &mut self,
        rules: &FrameRules,
        input: &[u8],
        out: &mut Vec<u8>,
        to_all: &mut Option<Vec<u8>>,
    ) {
        self.head.extend_from_slice(input);
        let mut head = std::mem::take(&mut self.head);
        let answered = match UpgradeRequest::parse(&head, &HeadLimits::default()) {
            Ok(None) => {
                self.head = head;
                return;
            }
            Ok(Some((request, used))) => match request.validate_upgrade() {
                Ok(key) => Ok((key, used)),
                Err(error) => Err(UpgradeResponse::from(error)),
            },
            Err(error) => Err(UpgradeResponse::from(error)),
        };
        match answered {
            Ok((key, used)) => {
                encode_switching_protocols(out, &key, None, &HeaderMap::new());
                self.is_new = false;
                self.receive_frames(rules, &mut head[used..], out, to_all);
            }
            Err(refusal) => {
                refusal.encode(out);
                self.is_ending = true;
            }
        }
    }

    fn receive_frames(
        &mut self,
        rules: &FrameRules,
        mut input: &mut [u8],
        out: &mut Vec<u8>,
        to_all: &mut Option<Vec<u8>>,
    ) {
        loop {
            match self.decoder.next_frame(rules, &mut self.stash, input) {
                Ok(decoded) => {
                    let consumed = decoded.consumed;
                    let Some(frame) = decoded.frame else { return };
                    self.is_ending |= answer(&frame, out, to_all);
                    input = &mut input[consumed..];
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

/// Appends what a frame is owed, and tells whether it was the last.
fn answer(frame: &Frame<'_>, out: &mut Vec<u8>, to_all: &mut Option<Vec<u8>>) -> bool {
    let (msg_type, out) = match (frame.msg_type(), to_all) {
        (MsgType::Ping, _) => (MsgType::Pong, out),
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

/// Writes until the socket takes no more, and tells how much it took.
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
