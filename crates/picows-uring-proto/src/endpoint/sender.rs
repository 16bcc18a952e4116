//! Sending half of an endpoint: which frame may be sent now, its mask, the CLOSE of our side, and
//! what each frame of the peer leads to.
//!
//! Owns no bytes and draws no keys: the caller owns the vector or queue that frames are encoded
//! into. A payload passes `encode`, or the caller's own encoding behind [`Sender::check`], once:
//! `Compression` is called between the two.

use crate::close::CloseFrame;
use crate::conversation::{Conversation, ConversationRules, FrameAction, Phase};
use crate::debug_with_text;
use crate::encode::FrameHead;
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType, Role};
use crate::misuse::ApiMisuse;
use crate::tick::Tick;

/// Order of the frames of our side (RFC 6455 §5.4, §5.5.1), and the conversation it depends on.
///
/// ```
/// use picows_uring_proto::*;
///
/// let (rules, now) = (ConversationRules::default(), Tick::ZERO);
/// let mut sender = Sender::new(Role::Server, &rules, now);
/// sender.conversation_mut().opened();
/// let (mut out, key) = (Vec::new(), || unreachable!("servers do not mask"));
/// sender.encode(&mut out, FrameHead::new(MsgType::Text).with_fin(false), b"Hel", key)?;
/// let next = sender.check(FrameHead::new(MsgType::Text), 2);
/// assert_eq!(next, Err(SendError::Misuse(ApiMisuse::MessageUnderWay)));
/// sender.encode(&mut out, FrameHead::new(MsgType::Continuation), b"lo", key)?;
/// assert_eq!(out, b"\x01\x03Hel\x80\x02lo"); // RFC 6455 §5.7
/// # Ok::<(), SendError>(())
/// ```
#[derive(Debug)]
pub struct Sender {
    conversation: Conversation,
}

/// The reason why a frame may not be sent; nothing was.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It would break RFC 6455.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
    /// The connection is not open, or our CLOSE was sent.
    #[error("nothing can be sent: the connection is not open, or its CLOSE was sent")]
    Closed,
    /// There is no memory to compress it in.
    #[error("out of memory: the message cannot be compressed")]
    OutOfMemory,
}

debug_with_text! { SendError: Misuse, Closed, OutOfMemory }

impl Sender {
    /// The sending half of a connection whose handshake begins at `now`.
    #[must_use]
    pub fn new(role: Role, rules: &ConversationRules, now: Tick) -> Self {
        Self { conversation: Conversation::new(role, rules, now) }
    }

    /// Leaves the order of fragments to the application, as
    /// [`FrameRules::any_order`](crate::FrameRules::any_order) does for what is received.
    pub const fn allow_any_order(&mut self) {
        self.conversation.is_any_order = true;
        self.conversation.is_message_open = false;
    }

    /// Reserves RSV1 for permessage-deflate, which the handshake has agreed on: only what
    /// compresses messages sets it.
    pub const fn begin_compressing(&mut self) {
        self.conversation.is_deflating = true;
    }

    /// Phase, close handshake and deadline.
    #[inline]
    #[must_use]
    pub const fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// The same, to report events to it.
    #[inline]
    pub const fn conversation_mut(&mut self) -> &mut Conversation {
        &mut self.conversation
    }

    /// Whether any frame may be sent.
    #[inline]
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.conversation.may_send()
    }

    /// Whether a message of one frame may be sent: no fragmented message of ours is under way.
    #[inline]
    #[must_use]
    pub fn may_send_message(&self) -> bool {
        !self.conversation.is_message_open && self.conversation.may_send()
    }

    /// Takes a frame of the peer into account, before the application sees it, and decides whether
    /// it is delivered, answered or ignored.
    ///
    /// After a delivered CLOSE, call [`Conversation::close_reply`].
    #[inline]
    pub fn handle_frame(&mut self, rules: &ConversationRules, frame: &Frame<'_>) -> FrameAction {
        self.conversation.handle_frame(rules, frame)
    }

    /// Checks that a frame with this head may be sent now. CLOSE has a way of its own,
    /// [`send_close`](Self::send_close).
    ///
    /// # Errors
    ///
    /// When it would break RFC 6455, or nothing may be sent.
    #[inline(always)] // Of each frame that takes the longer way to a queue.
    pub fn check(&self, head: FrameHead, payload_len: usize) -> Result<(), SendError> {
        if head.msg_type == MsgType::Close {
            return Err(SendError::Misuse(ApiMisuse::CloseThroughSend));
        }
        head.check(payload_len)?;
        if head.rsv & 4 != 0 && self.conversation.is_deflating {
            return Err(SendError::Misuse(ApiMisuse::RsvOfDeflate));
        }
        if !self.conversation.may_send() {
            return Err(SendError::Closed);
        }
        if !self.conversation.is_any_order {
            head.check_order(self.conversation.is_message_open)?;
        }
        Ok(())
    }

    /// Records that a frame with this head, which was [checked](Self::check), is queued.
    #[inline]
    pub const fn queued(&mut self, head: FrameHead) {
        if !head.msg_type.is_control() {
            self.conversation.is_message_open = !head.fin && !self.conversation.is_any_order;
        }
    }

    /// The masking key of the next frame: drawn by a client, none for a server (RFC 6455 §5.3).
    #[inline]
    pub fn mask_key(&self, next_key: impl FnOnce() -> [u8; 4]) -> Option<[u8; 4]> {
        (self.conversation.role() == Role::Client).then(next_key)
    }

    /// Checks a frame, appends it to `out` and records it. `next_key` is called by a client.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check); nothing was appended.
    pub fn encode(
        &mut self,
        out: &mut Vec<u8>,
        head: FrameHead,
        payload: &[u8],
        next_key: impl FnOnce() -> [u8; 4],
    ) -> Result<(), SendError> {
        self.check(head, payload.len())?;
        head.append(out, payload, self.mask_key(next_key));
        self.queued(head);
        Ok(())
    }

    /// Records that we send CLOSE. `false` when one was sent before, or nothing may be sent; else
    /// the caller encodes `close`.
    pub fn send_close(&mut self, rules: &ConversationRules, now: Tick, close: CloseFrame) -> bool {
        self.conversation.send_close(rules, now, close)
    }

    /// The peer misbehaved: returns the CLOSE that is owed, recorded as sent, if one may be sent.
    pub fn peer_misbehaved(
        &mut self,
        rules: &ConversationRules,
        now: Tick,
        error: PeerMisbehaved,
    ) -> Option<CloseFrame> {
        self.conversation.peer_misbehaved(rules, now, error)
    }

    /// The phase of the conversation.
    #[inline]
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.conversation.phase()
    }
}
