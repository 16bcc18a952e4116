//! State of a connection between handshake and end, and the answers that are owed to the peer.
//!
//! Pure decisions: events and times in, steps out. Bytes are encoded and moved elsewhere, and the
//! receiving half is `decoder.rs`.

use crate::close::{CloseCode, CloseFrame, CloseHandshake};
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType, Role};
use crate::tick::Tick;
use std::time::Duration;

/// Timeouts and automatic answers that are the same for many connections.
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::ConversationRules;
///
/// assert_eq!(ConversationRules::default().close_timeout, Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationRules {
    /// How long the handshake may take; `None` for ever. Default: 5 s.
    pub handshake_timeout: Option<Duration>,
    /// How long we wait for the peer's part in the end of a connection: for its CLOSE, for our
    /// last bytes to be taken, for its end of stream. Default: 5 s.
    pub close_timeout: Duration,
    /// Whether a PING is answered with the same payload and not delivered (RFC 6455 §5.5.2).
    /// Default: on.
    pub auto_pong: bool,
    /// Whether a CLOSE is answered after the listener saw it, and the connection then ended
    /// (RFC 6455 §7.1). Off leaves both to the application, as picows does. Default: on.
    pub auto_close: bool,
}

impl Default for ConversationRules {
    fn default() -> Self {
        Self {
            handshake_timeout: Some(Duration::from_secs(5)),
            close_timeout: Duration::from_secs(5),
            auto_pong: true,
            auto_close: true,
        }
    }
}

/// The life of one connection.
///
/// `handle_frame`, `close_reply`, `send_close`, … tell what happened; [`step`](Self::step) asks what to
/// do about the transport; [`poll_timeout`](Self::poll_timeout) and
/// [`handle_timeout`](Self::handle_timeout) are its clock.
///
/// ```
/// use std::time::Duration;
/// use picows_uring_proto::*;
///
/// let (rules, now) = (ConversationRules::default(), Tick::ZERO);
/// let mut server = Conversation::new(Role::Server, &rules, now);
/// server.opened();
/// let close = Frame::new(MsgType::Close, b"\x03\xe8");
/// assert_eq!(server.handle_frame(&rules, &close), FrameAction::Deliver);
/// let reply = server.close_reply(&rules, now, &close).unwrap();
/// assert_eq!(reply.code(), Some(CloseCode::NORMAL));
/// assert_eq!(server.step(false), Step::Flush); // The reply is still queued.
/// assert_eq!(server.step(true), Step::ShutDown);
/// ```
#[derive(Debug)]
pub struct Conversation {
    /// When the peer's time is up; [`Tick`] at its maximum for never.
    deadline: Tick,
    /// Made with the first CLOSE: most of its life, a connection has none.
    close: Option<Box<CloseHandshake>>,
    phase: Phase,
    role: Role,
    /// A fragmented message of ours is under way. Kept by [`Sender`](crate::Sender), here because
    /// it costs no memory here.
    pub(crate) is_message_open: bool,
    /// The order of our fragments is the application's: no message is ever under way.
    pub(crate) is_any_order: bool,
    /// RSV1 belongs to permessage-deflate.
    pub(crate) is_deflating: bool,
    /// The peer has ended its side of the stream: there is no reason to linger.
    is_peer_gone: bool,
    /// The deadline counts from when bytes were queued that may not have left yet.
    is_leaving: bool,
}

/// Stages of a connection, in their order. None is entered twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// HTTP.
    Handshake,
    /// Frames come and go. A CLOSE may be under way.
    Open,
    /// Nothing is delivered any more; what is queued still goes out.
    Finishing,
    /// Our side of the stream is shut; the peer has a moment to shut its own, so that it can read
    /// our last words before the socket goes.
    Lingering,
    /// Over.
    Ended,
}

/// The treatment of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameAction {
    /// The listener gets it.
    Deliver,
    /// It is a PING to be answered with the same payload; the listener does not get it.
    AnswerPing,
    /// The conversation is over: it is dropped.
    Ignore,
}

/// The earlier name of [`FrameAction`].
#[deprecated(since = "0.2.0", note = "renamed to `FrameAction`")]
pub type Arrival = FrameAction;

/// The next step with the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing but moving bytes both ways.
    Continue,
    /// Send what is queued, and ask again.
    Flush,
    /// Shut the sending side, say so with [`Conversation::shut_down`], and discard what arrives.
    ShutDown,
    /// Wait for the peer to end the stream.
    Linger,
    /// Close the socket now, whatever is queued.
    Close,
}

impl Conversation {
    /// A connection whose handshake begins at `now`.
    #[must_use]
    pub fn new(role: Role, rules: &ConversationRules, now: Tick) -> Self {
        let deadline = rules.handshake_timeout.map_or(NEVER, |timeout| now + timeout);
        Self {
            deadline,
            close: None,
            phase: Phase::Handshake,
            role,
            is_message_open: false,
            is_any_order: false,
            is_deflating: false,
            is_peer_gone: false,
            // A server waits for the request; a client's has to leave first.
            is_leaving: role == Role::Client,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Which end we are.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What is known of the close handshake.
    #[must_use]
    pub fn close_handshake(&self) -> Option<&CloseHandshake> {
        self.close.as_deref()
    }

    /// Whether the peer has ended its side of the stream.
    #[must_use]
    pub const fn is_peer_gone(&self) -> bool {
        self.is_peer_gone
    }

    /// Whether our CLOSE is out: nothing may follow it (RFC 6455 §5.5.1).
    #[must_use]
    pub fn is_close_sent(&self) -> bool {
        self.close.as_ref().is_some_and(|close| close.sent.is_some())
    }

    /// Whether a CLOSE is under way, and its answer has a deadline.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Open && self.deadline != NEVER
    }

    /// Whether a frame may be sent.
    #[inline]
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.phase == Phase::Open && (self.close.is_none() || !self.is_close_sent())
    }

    /// The handshake is done.
    pub fn opened(&mut self) {
        if self.phase == Phase::Handshake {
            self.phase = Phase::Open;
            self.deadline = NEVER;
            self.is_leaving = false;
        }
    }

    /// A request was answered that was no handshake, and another may follow: the time for it begins.
    #[doc(hidden)] // For the crates of this project, and not promised.
    pub fn await_request(&mut self, rules: &ConversationRules, now: Tick) {
        if self.phase == Phase::Handshake {
            self.deadline = rules.handshake_timeout.map_or(NEVER, |timeout| now + timeout);
        }
    }

    /// Takes a frame of the peer into account, before the listener sees it.
    #[inline]
    pub fn handle_frame(&mut self, rules: &ConversationRules, frame: &Frame<'_>) -> FrameAction {
        if self.phase != Phase::Open {
            return FrameAction::Ignore;
        }
        match frame.msg_type() {
            MsgType::Ping if rules.auto_pong => FrameAction::AnswerPing,
            MsgType::Close => {
                self.record_close(frame);
                FrameAction::Deliver
            }
            _ => FrameAction::Deliver,
        }
    }

    /// Records the CLOSE of the peer. Apart, so that [`handle_frame`](Self::handle_frame) is inlined.
    #[cold]
    #[inline(never)]
    fn record_close(&mut self, frame: &Frame<'_>) {
        let close = self.close.get_or_insert_default();
        close.received_first = close.sent.is_none();
        close.received = Some(match frame.close_code() {
            Some(code) => CloseFrame::new(code, frame.close_reason().unwrap_or_default()),
            None => CloseFrame::empty(),
        });
    }

    /// The earlier name of [`handle_frame`](Self::handle_frame).
    #[deprecated(since = "0.2.0", note = "renamed to `handle_frame`")]
    pub fn arrived(&mut self, rules: &ConversationRules, frame: &Frame<'_>) -> FrameAction {
        self.handle_frame(rules, frame)
    }

    /// After the listener saw `frame`: the CLOSE that is owed for it, if it is one.
    ///
    /// The reply says what was received; a CLOSE without a code is answered without one
    /// (RFC 6455 §5.5.1). It is recorded as sent: the caller encodes it.
    pub fn close_reply(
        &mut self,
        rules: &ConversationRules,
        now: Tick,
        frame: &Frame<'_>,
    ) -> Option<CloseFrame> {
        if frame.msg_type() != MsgType::Close || !rules.auto_close || self.phase > Phase::Open {
            return None;
        }
        let close = self.close.as_mut()?;
        let reply = if close.sent.is_none() { close.received.clone() } else { None };
        close.sent = close.sent.take().or_else(|| reply.clone());
        self.finish(rules, now);
        reply
    }

    /// Records that we send CLOSE. `false` when one was sent before, or nothing may be sent.
    pub fn send_close(&mut self, rules: &ConversationRules, now: Tick, frame: CloseFrame) -> bool {
        if !self.may_send() {
            return false;
        }
        let close = self.close.get_or_insert_default();
        close.sent = Some(frame);
        if rules.auto_close {
            if close.received.is_some() {
                self.finish(rules, now);
            } else {
                self.deadline = now + rules.close_timeout;
                self.is_leaving = true;
            }
        }
        true
    }

    /// The peer misbehaved: returns the CLOSE that is owed, recorded as sent, if one may be sent.
    pub fn peer_misbehaved(
        &mut self,
        rules: &ConversationRules,
        now: Tick,
        error: PeerMisbehaved,
    ) -> Option<CloseFrame> {
        self.fail(rules, now, error.close_code(), &error.to_string())
    }

    /// The connection cannot go on: returns the CLOSE that is owed, recorded as sent, if one may
    /// be sent (RFC 6455 §7.1.7).
    pub fn fail(
        &mut self,
        rules: &ConversationRules,
        now: Tick,
        code: CloseCode,
        reason: &str,
    ) -> Option<CloseFrame> {
        let frame = self.may_send().then(|| CloseFrame::new(code, reason));
        if let Some(frame) = &frame {
            self.close.get_or_insert_default().sent = Some(frame.clone());
        }
        self.finish(rules, now);
        frame
    }

    /// [`fail`](Self::fail), for a peer that is thought to be gone: it has only `linger` to show
    /// that it is not, instead of the close timeout.
    pub fn give_up(
        &mut self,
        rules: &ConversationRules,
        now: Tick,
        reason: &str,
        linger: Duration,
    ) -> Option<CloseFrame> {
        self.fail_within(rules, now, CloseCode::GOING_AWAY, reason, linger)
    }

    /// [`fail`](Self::fail), with only `linger` for the end, unless the close timeout is shorter.
    pub fn fail_within(
        &mut self,
        rules: &ConversationRules,
        now: Tick,
        code: CloseCode,
        reason: &str,
        linger: Duration,
    ) -> Option<CloseFrame> {
        let frame = self.fail(rules, now, code, reason);
        self.expire(now + linger);
        frame
    }

    /// Ends the connection once what is queued is out. Harmless when called again.
    pub fn finish(&mut self, rules: &ConversationRules, now: Tick) {
        if self.phase < Phase::Finishing {
            self.phase = Phase::Finishing;
            self.deadline = now + rules.close_timeout;
            self.is_leaving = true;
        }
    }

    /// The sending side of the transport was shut, as [`Step::ShutDown`] wanted.
    pub fn shut_down(&mut self) {
        if self.phase < Phase::Lingering {
            self.phase = Phase::Lingering;
        }
    }

    /// The peer ended its side of the stream. What is queued still goes out, as the peer may have
    /// shut only its sending side; then nothing keeps the socket.
    pub fn end_of_stream(&mut self, rules: &ConversationRules, now: Tick) {
        self.is_peer_gone = true;
        match self.phase {
            Phase::Handshake | Phase::Lingering => self.end(),
            Phase::Open => self.finish(rules, now),
            Phase::Finishing | Phase::Ended => {}
        }
    }

    /// The transport is gone or to be dropped: reset, abort.
    pub fn end(&mut self) {
        self.phase = Phase::Ended;
        self.deadline = NEVER;
        self.is_leaving = false;
    }

    /// What to do with the transport, given whether everything queued has been taken by it.
    #[must_use]
    pub fn step(&self, is_flushed: bool) -> Step {
        match self.phase {
            Phase::Handshake | Phase::Open => Step::Continue,
            Phase::Finishing if !is_flushed => Step::Flush,
            Phase::Finishing if self.is_peer_gone => Step::Close,
            // After both CLOSE frames the server ends the stream first, so that TIME_WAIT stays
            // with it; the client waits for that (RFC 6455 §7.1.1).
            Phase::Finishing if self.role == Role::Client && self.is_close_complete() => {
                Step::Linger
            }
            Phase::Finishing => Step::ShutDown,
            Phase::Lingering => Step::Linger,
            Phase::Ended => Step::Close,
        }
    }

    /// The peer's time is up at `now`, if it was not before: a limit from outside has passed. To be
    /// said again after each step, as some begin a time of their own.
    pub fn expire(&mut self, now: Tick) {
        if self.phase != Phase::Ended && now <= self.deadline {
            self.deadline = now;
            self.is_leaving = false;
        }
    }

    /// Whether the peer's time counts from bytes that were queued and may not have left:
    /// [`left`](Self::left) puts that right.
    #[inline]
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// What was queued is with the transport since `now`: the peer's time to answer it, or to take
    /// it, begins then. So time for which we were held up in between is not the peer's. Harmless when
    /// called again, and without effect on a limit from outside.
    ///
    /// ```
    /// use std::time::Duration;
    /// use picows_uring_proto::*;
    ///
    /// let (rules, queued) = (ConversationRules::default(), Tick::ZERO);
    /// let mut server = Conversation::new(Role::Server, &rules, queued);
    /// server.opened();
    /// server.send_close(&rules, queued, CloseFrame::empty());
    /// let left = queued + Duration::from_secs(6); // The process was stopped.
    /// server.left(&rules, left);
    /// assert!(!server.handle_timeout(left + Duration::from_secs(4)));
    /// assert!(server.handle_timeout(left + Duration::from_secs(5)));
    /// ```
    pub fn left(&mut self, rules: &ConversationRules, now: Tick) {
        if !std::mem::take(&mut self.is_leaving) || self.deadline == NEVER {
            return;
        }
        let timeout = match self.phase {
            Phase::Handshake => rules.handshake_timeout,
            Phase::Open | Phase::Finishing | Phase::Lingering => Some(rules.close_timeout),
            Phase::Ended => None,
        };
        if let Some(timeout) = timeout {
            self.deadline = self.deadline.max(now + timeout);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Tick> {
        (self.deadline != NEVER).then_some(self.deadline)
    }

    /// Ends the connection if its deadline is at or before `now`; returns whether it did. Harmless
    /// when called early or twice.
    pub fn handle_timeout(&mut self, now: Tick) -> bool {
        let is_due = self.deadline != NEVER && self.deadline <= now;
        if is_due {
            self.end();
        }
        is_due
    }

    fn is_close_complete(&self) -> bool {
        self.close.as_ref().is_some_and(|close| close.is_complete())
    }
}

/// No deadline.
const NEVER: Tick = Tick::from_nanos(u64::MAX);

#[cfg(test)]
mod tests;
