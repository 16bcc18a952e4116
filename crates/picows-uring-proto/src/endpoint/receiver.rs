//! Receiving half of an endpoint: bytes to frames.
//!
//! Owns the decoder and the memory of a frame that is cut; the input is the caller's, and a frame
//! that lies whole in it is lent from there. What is to be done with a frame depends on the
//! conversation, so `sender.rs` decides it, and sends the answers.
//!
//! A frame passes `next` or `next_filled` once, between decoder and caller. Where permessage-deflate
//! was agreed on, those of `endpoint/expanding.rs` take their place.

use crate::decoder::{Decoded, Decoder};
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, Role};
use crate::limits::FrameRules;
use crate::progress::UnderWay;
use crate::stash::Stash;

/// Turns received bytes into frames.
///
/// For every run of received bytes, call [`next`](Self::next) with what it has not consumed yet,
/// until it returns no frame. [`Sender::handle_frame`](crate::Sender::handle_frame) decides for each
/// frame whether it is delivered, answered or ignored. It is a call of its own, so that a caller that
/// shares the sender with code of the application borrows it for that long only.
///
/// ```
/// use picows_uring_proto::*;
///
/// let (frames, rules) = (FrameRules::default(), ConversationRules::default());
/// let mut sender = Sender::new(Role::Client, &rules, Tick::ZERO);
/// sender.conversation_mut().opened();
/// let mut receiver = Receiver::new(Role::Client);
/// let mut input = *b"\x81\x05Hello\x89\x00";
/// let (mut consumed, mut seen) = (0, Vec::new());
/// loop {
///     let decoded = receiver.next(&frames, &mut input[consumed..])?;
///     consumed += decoded.consumed;
///     let Some(frame) = decoded.frame else { break };
///     seen.push((frame.msg_type(), sender.handle_frame(&rules, &frame)));
/// }
/// let text = (MsgType::Text, FrameAction::Deliver);
/// assert_eq!(seen, [text, (MsgType::Ping, FrameAction::AnswerPing)]);
/// # Ok::<(), PeerMisbehaved>(())
/// ```
#[derive(Debug)]
pub struct Receiver {
    pub(super) decoder: Decoder,
    /// The part of a frame that has arrived, or the frame just lent from it.
    pub(super) stash: Stash,
}

impl Receiver {
    /// A receiver before its first frame. `role` is ours: a server expects masked frames.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self { decoder: Decoder::new(role), stash: Stash::new() }
    }

    /// Returns the next frame, or `None` until more bytes arrive.
    ///
    /// # Errors
    ///
    /// When the peer breaks RFC 6455 or passes a limit: the close code is
    /// [`PeerMisbehaved::close_code`], and
    /// [`Sender::peer_misbehaved`](crate::Sender::peer_misbehaved) makes the CLOSE. A frame that
    /// was complete before the violation is returned first. Every later call returns the same error.
    #[inline(always)] // As `Decoder::next_frame`, and for the same reason.
    pub fn next<'a>(
        &'a mut self,
        rules: &FrameRules,
        input: &'a mut [u8],
    ) -> Result<Decoded<'a>, PeerMisbehaved> {
        self.decoder.next_frame(rules, &mut self.stash, input)
    }

    /// Takes the last `count` bytes of the stash for the next ones of the peer, and returns the
    /// frame if they complete it; see [`Decoder::next_filled`].
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_filled(
        &mut self,
        rules: &FrameRules,
        gap: usize,
        count: usize,
    ) -> Result<Option<Frame<'_>>, PeerMisbehaved> {
        self.decoder.next_filled(rules, &mut self.stash, gap, count)
    }

    /// How many bytes are missing of the frame of which the stash has the first; 0 if it has none.
    /// They may be put behind those of the stash, for [`next_filled`](Self::next_filled).
    #[inline]
    #[must_use]
    pub fn bytes_missing(&self) -> u64 {
        self.decoder.bytes_missing(&self.stash)
    }

    /// Whether a call of [`next`](Self::next) without input would return nothing and change nothing.
    #[inline]
    #[must_use]
    pub const fn needs_input(&self) -> bool {
        !self.decoder.wants_stash()
    }

    /// Whether a part of a frame is in the stash, so that its memory has to stay.
    #[inline]
    #[must_use]
    pub fn is_collecting(&self) -> bool {
        self.decoder.wants_stash() && !self.stash.is_empty()
    }

    /// Whether a frame or message has begun and is not complete.
    #[inline]
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        self.decoder.is_under_way()
    }

    /// The frame or message that has begun and is not complete; see [`Decoder::under_way`].
    pub fn under_way(&mut self) -> Option<UnderWay> {
        self.decoder.under_way(&self.stash)
    }

    /// The memory in which a cut frame is collected.
    #[must_use]
    pub const fn stash(&self) -> &Stash {
        &self.stash
    }

    /// The same, to lend memory from a pool to it, or to put received bytes behind those in it.
    /// While [`is_collecting`](Self::is_collecting), its bytes are those of the frame.
    pub const fn stash_mut(&mut self) -> &mut Stash {
        &mut self.stash
    }

    /// Gives the memory of the stash up, unless a part of a frame is in it.
    pub fn release_memory(&mut self) {
        if !self.is_collecting() {
            self.stash = Stash::new();
        }
    }
}
