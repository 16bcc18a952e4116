//! Receiving half of permessage-deflate: frames of compressed messages to plain ones.
//!
//! Each frame is expanded when it is complete, and keeps its type, its FIN bit and its place. Which
//! frames those are, the decoder has checked.

use super::compression::RSV1;
use super::deflate::{INFLATER_BYTES, Inflater, Inflaters, Kept, Stamp};
use super::history::History;
use super::settings::{Deflate, NegotiatedDeflate};
#[cfg(feature = "libdeflate")]
use super::whole::{MARKS_BYTES, WholeInflater};
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType};
use crate::limits::FrameRules;
use crate::reserve::reserve_exact;
use crate::stash::Stash;
use crate::utf8::Utf8Stream;

/// What one connection keeps of what it receives.
#[derive(Debug)]
pub struct Expansion {
    takeover: bool,
    ratio_max: Option<u32>,
    stamp: Stamp,
    history: History,
    /// The message under way, if it is compressed.
    message: Option<OpenMessage>,
    /// Memory for the text of a frame, lent until the next one.
    text: Stash,
}

/// A compressed message of which a fragment was received, and not the last.
#[derive(Debug)]
struct OpenMessage {
    inflater: Inflater,
    /// From its first fragment on, while the message is under way.
    _kept: Option<Kept>,
    is_text: bool,
    utf8: Utf8Stream,
    compressed: u64,
    expanded: u64,
}

/// Bytes of a frame, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// Bytes that were received.
    pub before: usize,
    /// Bytes that they were expanded to.
    pub after: usize,
}

impl Expansion {
    /// The receiving half of a connection that has agreed on `agreed`.
    #[must_use]
    pub fn new(settings: &Deflate, agreed: &NegotiatedDeflate) -> Self {
        Self {
            takeover: agreed.peer_context_takeover,
            ratio_max: settings.ratio_max,
            stamp: 0,
            // zlib makes 9 bits of 8, and the peers that link it do not know.
            history: History::new(agreed.peer_window_bits.max(9)),
            message: None,
            text: Stash::new(),
        }
    }

    /// Memory for the text of frames, to lend it from a pool and to take it back between two.
    pub const fn text_mut(&mut self) -> &mut Stash {
        &mut self.text
    }

    /// Whether the listener has kept the memory of the last frame.
    #[must_use]
    pub fn is_text_shared(&self) -> bool {
        self.text.is_shared()
    }

    /// Bytes of memory that it holds from frame to frame.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.history.memory() + self.message.as_ref().map_or(0, |_| INFLATER_BYTES)
    }

    /// Gives its memory up: nothing more is received.
    pub fn end(&mut self) {
        self.stamp = 0;
        self.message = None;
        self.history.clear();
    }

    /// Whether a frame is one of a compressed message.
    #[inline]
    pub(crate) fn concerns(&self, frame: &Frame<'_>) -> bool {
        frame.rsv & RSV1 != 0 || (self.message.is_some() && frame.msg_type == MsgType::Continuation)
    }

    /// Expands a frame that it [concerns](Self::concerns).
    pub(crate) fn expand<'a>(
        &'a mut self,
        inflaters: &mut Inflaters,
        rules: &FrameRules,
        frame: Frame<'_>,
    ) -> Result<(Frame<'a>, Expanded), PeerMisbehaved> {
        self.text.clear();
        #[cfg(feature = "libdeflate")]
        if frame.fin
            && self.message.is_none()
            && !self.takeover
            && WholeInflater::takes(frame.payload)
        {
            if self.run_whole(inflaters, rules, frame.payload)? {
                self.stamp = 0;
                if rules.validate_text && frame.msg_type == MsgType::Text {
                    self.check_text(&mut Utf8Stream::new(), true)?;
                }
                return Ok(self.plain(&frame));
            }
            self.text.clear();
        }
        let mut message = match self.message.take() {
            Some(message) => message,
            None => OpenMessage {
                _kept: if frame.fin { None } else { Some(inflaters.keep()?) },
                inflater: inflaters.lend(self.stamp, &self.history)?,
                is_text: frame.msg_type == MsgType::Text,
                utf8: Utf8Stream::new(),
                compressed: 0,
                expanded: 0,
            },
        };
        self.stamp = 0;
        self.run(&mut message, rules, frame.payload, frame.fin)?;
        if rules.validate_text && message.is_text {
            self.check_text(&mut message.utf8, frame.fin)?;
        }
        if self.takeover || !frame.fin {
            self.history.adopt(&mut inflaters.spare);
            self.history.push(self.text.bytes())?;
        }
        if frame.fin {
            if !self.takeover {
                self.history.give_up(&mut inflaters.spare);
            }
            self.stamp = inflaters.give_back(message.inflater, self.takeover);
        } else {
            self.message = Some(message);
        }
        Ok(self.plain(&frame))
    }

    /// The frame with the text that it was expanded to.
    fn plain(&self, frame: &Frame<'_>) -> (Frame<'_>, Expanded) {
        let text = self.text.bytes();
        let expanded = Expanded { before: frame.payload.len(), after: text.len() };
        let frame = Frame {
            payload: text,
            msg_type: frame.msg_type,
            fin: frame.fin,
            rsv: frame.rsv & !RSV1,
            last_in_buffer: frame.last_in_buffer,
            tail_size: frame.tail_size,
            memory: self.text.memory(),
        };
        (frame, expanded)
    }

    /// Whether the text goes on with what `utf8` was fed before, and ends a message if it is `fin`.
    fn check_text(&self, utf8: &mut Utf8Stream, fin: bool) -> Result<(), PeerMisbehaved> {
        let is_text = utf8.feed(self.text.bytes()).is_ok();
        if is_text && (!fin || utf8.is_complete()) {
            Ok(())
        } else {
            Err(PeerMisbehaved::InvalidUtf8)
        }
    }

    /// Expands a whole message without history into the text, if it gets no longer than most; returns
    /// whether it did.
    #[cfg(feature = "libdeflate")]
    fn run_whole(
        &mut self,
        inflaters: &mut Inflaters,
        rules: &FrameRules,
        payload: &[u8],
    ) -> Result<bool, PeerMisbehaved> {
        let text_max = usize::try_from(rules.payload_bytes_max).unwrap_or(usize::MAX);
        let room = first_room(payload.len()).min(text_max).saturating_add(MARKS_BYTES);
        let text = self.text.bytes_mut();
        reserve_exact(text, room)?;
        text.resize(room, 0);
        let Some(written) = inflaters.expand_whole(payload, text)? else { return Ok(false) };
        text.truncate(written);
        self.check_ratio(written as u64, payload.len() as u64)?;
        Ok(true)
    }

    /// Expands `payload`, and at the end of the message what its sender has cut off, into the text.
    fn run(
        &mut self,
        message: &mut OpenMessage,
        rules: &FrameRules,
        payload: &[u8],
        fin: bool,
    ) -> Result<(), PeerMisbehaved> {
        let text_max = usize::try_from(rules.payload_bytes_max).unwrap_or(usize::MAX - 1);
        let text_max = text_max.min(isize::MAX as usize - 1);
        let mut ends_left = ENDS_MIN + payload.len() / BYTES_PER_END;
        message.compressed += payload.len() as u64;
        let (mut input, mut written) = (payload, 0);
        loop {
            self.make_room(written, input.len(), text_max)?;
            let output = &mut self.text.bytes_mut()[written..];
            let room = output.len();
            let (taken, count, is_end) = message.inflater.expand(input, output)?;
            (input, written) = (&input[taken..], written + count);
            message.expanded += count as u64;
            if written > text_max {
                return Err(PeerMisbehaved::FrameTooLarge);
            }
            self.check_ratio(message.expanded, message.compressed)?;
            if is_end {
                // A block that says it is the last: more may follow (RFC 7692 §7.2.3.4), and
                // refer to what came before.
                if ends_left == 0 {
                    return Err(PeerMisbehaved::InvalidDeflate);
                }
                ends_left -= 1;
                message.inflater.restart(&self.history)?;
                message.inflater.add(&self.text.bytes()[..written])?;
                if input.is_empty() {
                    break;
                }
            } else if count < room {
                if !input.is_empty() {
                    // It wants nothing of what is left, and is not at its end.
                    return Err(PeerMisbehaved::InvalidDeflate);
                }
                break;
            }
        }
        if fin {
            message.inflater.finish()?;
        }
        self.text.bytes_mut().truncate(written);
        Ok(())
    }

    /// Makes room for more text behind the first `written` bytes: never more than a byte past the
    /// limit, which shows that it is passed.
    fn make_room(
        &mut self,
        written: usize,
        input_len: usize,
        text_max: usize,
    ) -> Result<(), PeerMisbehaved> {
        let text = self.text.bytes_mut();
        if written < text.len() {
            return Ok(());
        }
        let wanted = match written {
            0 => first_room(input_len),
            _ => written.saturating_mul(2),
        };
        let len = wanted.min(text_max.saturating_add(1));
        reserve_exact(text, len - written)?;
        text.resize(len, 0);
        Ok(())
    }

    const fn check_ratio(&self, expanded: u64, compressed: u64) -> Result<(), PeerMisbehaved> {
        match self.ratio_max {
            Some(ratio) if expanded > RATIO_FREE_BYTES && expanded / ratio as u64 > compressed => {
                Err(PeerMisbehaved::ExpandedTooFar)
            }
            _ => Ok(()),
        }
    }
}

/// Room that a frame of `input_len` bytes is begun with: so much that most short ones are expanded in one
/// go, and not to the very end of it.
const fn first_room(input_len: usize) -> usize {
    let short = if input_len < SHORT_BYTES { input_len } else { SHORT_BYTES };
    input_len.saturating_mul(4).saturating_add(4 * short + ROOM_LEFT_BYTES)
}

/// Frames up to that are given room for eight times their bytes; others for four times, and as much
/// more.
const SHORT_BYTES: usize = 1024;
/// Room that the expander goes on one byte at a time in: it looks ahead while there is more.
const ROOM_LEFT_BYTES: usize = 260;
/// Blocks that say they are the last: of each frame so many, and one more for so many bytes of it.
/// Each costs a copy of the window.
const ENDS_MIN: usize = 16;
const BYTES_PER_END: usize = 1024;
/// Text of a message that is judged by no ratio.
const RATIO_FREE_BYTES: u64 = 64 * 1024;
