//! Endpoint: one whole end of an open connection, without I/O.
//!
//! Joins the receiving half ([`Receiver`]), the sending half ([`Sender`]), the deadlines and the
//! liveness of one connection. It reads no clock, opens no socket and draws no random numbers:
//! bytes, times and masking keys come from the caller. The opening handshake is in `handshake.rs`.

#[cfg(feature = "deflate")]
mod expanding;
mod outgoing;
mod pieces;
mod receiver;
mod sender;

pub use outgoing::Outgoing;
pub use pieces::{FramePiece, Pieces, Received};
pub use receiver::Receiver;
pub use sender::{SendError, Sender};

use crate::close::{CloseCode, CloseFrame};
use crate::conversation::{ConversationRules, FrameAction, Phase, Step};
use crate::encode::FrameHead;
use crate::error::PeerMisbehaved;
#[cfg(feature = "deflate")]
use crate::extension::{Deflate, Expansion, Inflaters, NegotiatedDeflate};
use crate::frame::{Frame, MsgType, Role};
use crate::limits::FrameRules;
use crate::liveness::{Liveness, LivenessRules, Verdict};
use crate::tick::Tick;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Limits, timeouts and automatic answers of an [`Endpoint`]; many connections may share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointRules {
    /// Limits of received frames.
    pub frames: FrameRules,
    /// Timeouts and automatic answers.
    pub conversation: ConversationRules,
    /// Automatic pings, idle timeout and lifetime.
    pub liveness: LivenessRules,
}

/// One end of a connection: received bytes to frames, frames to be sent to bytes.
///
/// How to drive it:
///
/// - [`opened`](Self::opened) when the opening handshake is done
/// - [`receive`](Self::receive) for each run of received bytes,
///   [`end_of_stream`](Self::end_of_stream) for their end
/// - send what [`Outgoing::bytes`] holds, and report with [`sent`](Self::sent) how much was taken
/// - [`step`](Self::step) after each of these: what to do with the transport
/// - [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout)
///
/// An echo over two ends in memory:
///
/// ```
/// use picows_uring_proto::{Endpoint, EndpointRules, FrameHead, MsgType, Tick};
/// use std::sync::Arc;
///
/// let (rules, now) = (Arc::new(EndpointRules::default()), Tick::ZERO);
/// // A client draws its masking keys at random (RFC 6455 §10.3); a constant serves an example.
/// let mut client = Endpoint::client(&rules, now, || [0x37, 0xFA, 0x21, 0x3D]);
/// let mut server = Endpoint::server(&rules, now);
/// client.opened(now);
/// server.opened(now);
///
/// client.outgoing().send(FrameHead::new(MsgType::Text), b"Hello")?;
/// let mut wire = client.outgoing().bytes().to_vec();
/// client.sent(now, wire.len());
/// server.receive(now, &mut wire, |outgoing, frame| {
///     let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin());
///     outgoing.send(head, frame.payload()).expect("no CLOSE was sent");
/// })?;
///
/// let mut wire = server.outgoing().bytes().to_vec();
/// assert_eq!(wire, b"\x81\x05Hello"); // RFC 6455 §5.7
/// server.sent(now, wire.len());
/// let mut received = Vec::new();
/// client.receive(now, &mut wire, |_, frame| received.extend_from_slice(frame.payload()))?;
/// assert_eq!(received, b"Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Endpoint {
    receiver: Receiver,
    outgoing: Outgoing,
    /// Made by `opened`, if the rules watch anything.
    liveness: Option<Liveness>,
    /// Automatic pings sent so far: the payload of the last one.
    pings: u64,
    /// Of a connection that has agreed on permessage-deflate.
    #[cfg(feature = "deflate")]
    expanding: Option<Box<(Expansion, Inflaters)>>,
}

impl Endpoint {
    /// The end of a server, whose handshake begins at `now`.
    #[must_use]
    pub fn server(rules: &Arc<EndpointRules>, now: Tick) -> Self {
        Self::new(Role::Server, rules, now, Box::new(|| [0; 4]))
    }

    /// The end of a client, whose handshake begins at `now`. `next_key` draws the masking key of
    /// each frame, unpredictably (RFC 6455 §10.3).
    #[must_use]
    pub fn client(
        rules: &Arc<EndpointRules>,
        now: Tick,
        next_key: impl FnMut() -> [u8; 4] + 'static,
    ) -> Self {
        Self::new(Role::Client, rules, now, Box::new(next_key))
    }

    fn new(
        role: Role,
        rules: &Arc<EndpointRules>,
        now: Tick,
        next_key: Box<dyn FnMut() -> [u8; 4]>,
    ) -> Self {
        let outgoing = Outgoing::new(role, Arc::clone(rules), now, next_key);
        Self {
            receiver: Receiver::new(role),
            outgoing,
            liveness: None,
            pings: 0,
            #[cfg(feature = "deflate")]
            expanding: None,
        }
    }

    /// Records that the opening handshake is done.
    pub fn opened(&mut self, now: Tick) {
        self.outgoing.set_now(now);
        self.outgoing.sender_mut().conversation_mut().opened();
        let rules = &self.outgoing.rules().liveness;
        self.liveness = rules.is_on().then(|| Liveness::new(rules, now, rules.lifetime));
    }

    /// Compresses and expands messages from now on, as the handshake has agreed on; call it with
    /// [`opened`](Self::opened).
    #[cfg(feature = "deflate")]
    pub fn begin_deflate(&mut self, settings: &Deflate, agreed: &NegotiatedDeflate) {
        let expansion = Expansion::new(settings, agreed);
        self.expanding = Some(Box::new((expansion, Inflaters::new(1))));
        self.outgoing.begin_compressing(settings, agreed);
    }

    /// Handles received bytes: calls `on_frame` for each frame that is to be delivered, answers
    /// PING, and answers CLOSE after `on_frame` has seen it, as the rules say. Bytes behind the
    /// end of the conversation are ignored.
    ///
    /// # Errors
    ///
    /// When the peer breaks RFC 6455 or passes a limit. The CLOSE for that is queued, if one may
    /// be sent, and the conversation ends (RFC 6455 §7.1.7).
    pub fn receive(
        &mut self,
        now: Tick,
        input: &mut [u8],
        mut on_frame: impl FnMut(&mut Outgoing, &Frame<'_>),
    ) -> Result<(), PeerMisbehaved> {
        #[cfg(feature = "deflate")]
        let Self { receiver, outgoing, liveness, pings, expanding } = self;
        #[cfg(not(feature = "deflate"))]
        let Self { receiver, outgoing, liveness, pings } = self;
        outgoing.set_now(now);
        if let Some(liveness) = liveness {
            liveness.received(now);
        }
        let mut consumed = 0;
        while outgoing.phase() == Phase::Open {
            let (rules, rest) = (&outgoing.rules().frames, &mut input[consumed..]);
            #[cfg(feature = "deflate")]
            let next = match expanding.as_deref_mut() {
                Some((expansion, inflaters)) => receiver
                    .next_expanded(rules, expansion, inflaters, rest)
                    .map(|(decoded, _)| decoded),
                None => receiver.next(rules, rest),
            };
            #[cfg(not(feature = "deflate"))]
            let next = receiver.next(rules, rest);
            let decoded = match next {
                Ok(decoded) => decoded,
                Err(error) => {
                    outgoing.peer_misbehaved(error);
                    return Err(error);
                }
            };
            consumed += decoded.consumed;
            let Some(frame) = decoded.frame else { break };
            let (rules, sender) = outgoing.receiving();
            match sender.handle_frame(&rules.conversation, &frame) {
                FrameAction::Deliver if answers_ping(liveness.as_ref(), *pings, &frame) => {
                    if let Some(liveness) = liveness {
                        liveness.pong_received(now);
                    }
                }
                FrameAction::Deliver => {
                    on_frame(outgoing, &frame);
                    outgoing.reply_to_close(&frame);
                }
                FrameAction::AnswerPing => outgoing.answer_ping(frame.payload()),
                FrameAction::Ignore => {}
            }
        }
        receiver.release_memory();
        Ok(())
    }

    /// Records that the peer has ended its side of the stream.
    pub fn end_of_stream(&mut self, now: Tick) {
        self.outgoing.set_now(now);
        let (rules, sender) = self.outgoing.receiving();
        sender.conversation_mut().end_of_stream(&rules.conversation, now);
    }

    /// What the application sends through.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Its receiving half, for a look at it.
    #[must_use]
    pub const fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Its sending half, for a look at it.
    #[must_use]
    pub const fn sender(&self) -> &Sender {
        self.outgoing.sender()
    }

    /// Records that the transport has taken the first `count` of the outgoing bytes. With the last
    /// of them, the time of the peer to answer them begins.
    pub fn sent(&mut self, now: Tick, count: usize) {
        self.outgoing.set_now(now);
        let count = self.outgoing.take(count);
        if self.outgoing.bytes().is_empty() {
            let (rules, sender) = self.outgoing.receiving();
            sender.conversation_mut().left(&rules.conversation, now);
        }
        if let Some(liveness) = &mut self.liveness {
            liveness.sent(now, count);
        }
    }

    /// What to do with the transport.
    #[must_use]
    pub fn step(&self) -> Step {
        self.sender().conversation().step(self.outgoing.bytes().is_empty())
    }

    /// Records that the sending side of the transport was shut, as [`Step::ShutDown`] asks.
    pub fn shut_down(&mut self) {
        self.outgoing.sender_mut().conversation_mut().shut_down();
    }

    /// Records that the transport is gone. Bytes that it has not taken are dropped.
    pub fn end(&mut self) {
        self.outgoing.abort();
    }

    /// The phase of its conversation.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.outgoing.phase()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted. Moves with received bytes: a
    /// timer that was set before may fire early.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        let rules = &self.outgoing.rules().liveness;
        let watched = self.liveness.as_ref().filter(|_| self.is_watched());
        let watched = watched.and_then(|liveness| liveness.poll_timeout(rules));
        self.sender().conversation().poll_timeout().into_iter().chain(watched).min()
    }

    /// Acts on every deadline at or before `now`: ends the conversation, pings, or closes it with
    /// CLOSE 1001, and returns what was due of the liveness. Harmless when called early or twice.
    pub fn handle_timeout(&mut self, now: Tick) -> Option<Verdict> {
        self.outgoing.set_now(now);
        self.outgoing.sender_mut().conversation_mut().handle_timeout(now);
        if !self.is_watched() {
            return None;
        }
        let rules = &self.outgoing.rules().liveness;
        let reply_timeout = rules.auto_ping.map_or(Duration::ZERO, |ping| ping.reply_timeout);
        let verdict = self.liveness.as_mut()?.handle_timeout(rules, now, false)?;
        match verdict {
            Verdict::Ping => self.ping(now),
            Verdict::Silent => {
                let reason = format!("no pong within {reply_timeout:?}");
                self.outgoing.give_up(&reason, SILENT_LINGER);
            }
            Verdict::Idle => self.go_away("idle for too long"),
            Verdict::Expired => self.go_away("please reconnect"),
        }
        Some(verdict)
    }

    /// Whether liveness counts: a peer that owes us a CLOSE has a deadline for that, and no PING
    /// may follow ours.
    fn is_watched(&self) -> bool {
        self.phase() == Phase::Open && !self.sender().conversation().is_closing()
    }

    fn ping(&mut self, now: Tick) {
        self.pings += 1;
        let head = FrameHead::new(MsgType::Ping);
        let is_queued = self.outgoing.send(head, &self.pings.to_be_bytes()).is_ok();
        if let Some(liveness) = self.liveness.as_mut().filter(|_| is_queued) {
            liveness.ping_queued(now, self.outgoing.bytes().len());
        }
    }

    /// CLOSE 1001; the peer has the close timeout to answer.
    fn go_away(&mut self, reason: &str) {
        self.outgoing.send_close(CloseFrame::new(CloseCode::GOING_AWAY, reason));
        if !self.outgoing.rules().conversation.auto_close {
            self.outgoing.finish();
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("receiver", &self.receiver)
            .field("outgoing", &self.outgoing)
            .field("liveness", &self.liveness)
            .finish_non_exhaustive()
    }
}

/// Whether `frame` answers the last automatic ping, which carried its number.
fn answers_ping(liveness: Option<&Liveness>, pings: u64, frame: &Frame<'_>) -> bool {
    frame.msg_type() == MsgType::Pong
        && liveness.is_some_and(Liveness::is_pong_expected)
        && frame.payload() == pings.to_be_bytes()
}

/// Time for a silent peer to take our CLOSE: enough for one that was only slow.
const SILENT_LINGER: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
