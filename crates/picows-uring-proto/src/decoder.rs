//! Bytes in, frames out: the receiving half of a connection.
//!
//! Owns no buffer and does no I/O. The caller lends the bytes that arrived and a stash; a frame
//! that lies whole in the bytes is unmasked and lent from there, and only a frame that is cut by
//! their end moves to the stash, unmasked on the way.

mod pending;
mod pieces;

use crate::close::CloseCode;
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType, Role};
use crate::header::Header;
use crate::limits::{FRAME_HEADER_BYTES_MAX, FrameRules};
use crate::mask;
use crate::progress::UnderWay;
use crate::reserve::reserve_exact;
use crate::stash::Stash;
use crate::utf8::Utf8Stream;
use pending::Pending;
pub(crate) use pieces::FrameUnderWay;

/// Turns the bytes of one peer into frames, and checks what RFC 6455 demands of them.
///
/// Drive it so: for every run of bytes that arrives, call [`next_frame`](Self::next_frame) with
/// what it has not consumed yet, until it returns no frame. The stash must be the same one from
/// call to call while [`wants_stash`](Self::wants_stash) says so, and may be any empty one
/// otherwise, so that a connection between two frames owns no memory.
///
/// ```
/// use picows_uring_proto::{Decoder, FrameRules, Role, Stash};
///
/// let (mut decoder, rules) = (Decoder::new(Role::Client), FrameRules::default());
/// let mut stash = Stash::new();
/// let mut input = *b"\x81\x05Hello\x82\x00";
/// let mut consumed = 0;
/// let mut frames = Vec::new();
/// loop {
///     let decoded = decoder.next_frame(&rules, &mut stash, &mut input[consumed..])?;
///     consumed += decoded.consumed;
///     let Some(frame) = decoded.frame else { break };
///     frames.push((frame.payload().to_vec(), frame.last_in_buffer()));
/// }
/// assert_eq!(frames, [(b"Hello".to_vec(), false), (vec![], true)]);
/// # Ok::<(), picows_uring_proto::PeerMisbehaved>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    /// Header of the frame whose payload comes next. Its own bytes are consumed.
    pending: Option<Pending>,
    /// A violation seen while looking ahead; reported once the frame before it is delivered.
    failed: Option<PeerMisbehaved>,
    /// The text of the current message, as far as it came.
    text: Utf8Stream,
    /// Type of the fragmented message that is under way; BINARY for a compressed one.
    message: Option<MsgType>,
    role: Role,
    /// The peer has sent CLOSE: whatever follows is ignored (RFC 6455 §5.5.1).
    closed: bool,
    /// The stash holds a frame that has been delivered, and is cleared at the next call.
    stash_delivered: bool,
    /// Start of a header that the end of the input cut.
    head: [u8; FRAME_HEADER_BYTES_MAX],
    /// How many bytes of `head` are in use.
    head_len: u8,
    /// A frame or message has begun that was not over with its piece, since that was last asked.
    has_begun: bool,
    /// Payload bytes of the complete fragments of the message under way; of more, as many as fit.
    fragment_bytes: u32,
}

/// The result of [`Decoder::next_frame`].
#[derive(Debug)]
pub struct Decoded<'a> {
    /// How many bytes at the start of the input are done with. They may reach past the frame,
    /// into the header of the next.
    pub consumed: usize,
    /// The next frame, or `None` until more bytes arrive; the whole input is consumed then.
    pub frame: Option<Frame<'a>>,
}

impl Decoder {
    /// A decoder before its first frame. `role` is ours: a server expects masked frames.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            pending: None,
            failed: None,
            text: Utf8Stream::new(),
            message: None,
            role,
            closed: false,
            stash_delivered: false,
            head: [0; FRAME_HEADER_BYTES_MAX],
            head_len: 0,
            has_begun: false,
            fragment_bytes: 0,
        }
    }

    /// The frame or message that has begun and is not complete, control frames included, for
    /// [`Progress`](crate::Progress) to judge; `None` between two. `stash` is that of
    /// [`next_frame`](Self::next_frame).
    ///
    /// ```
    /// use picows_uring_proto::{Decoder, FrameRules, Role, Stash};
    ///
    /// let (mut decoder, rules) = (Decoder::new(Role::Client), FrameRules::default());
    /// let mut stash = Stash::new();
    /// decoder.next_frame(&rules, &mut stash, &mut *b"\x81\x05Hel".to_vec())?;
    /// let begun = decoder.under_way(&stash).unwrap();
    /// assert_eq!((begun.bytes, begun.is_new), (3, true));
    /// assert!(!decoder.under_way(&stash).unwrap().is_new);
    /// # Ok::<(), picows_uring_proto::PeerMisbehaved>(())
    /// ```
    pub fn under_way(&mut self, stash: &Stash) -> Option<UnderWay> {
        if !self.is_under_way() {
            return None;
        }
        let fragments = self.message.map_or(0, |_| u64::from(self.fragment_bytes));
        let part = if self.stash_delivered { 0 } else { stash.len() as u64 };
        Some(UnderWay { bytes: fragments + part, is_new: std::mem::take(&mut self.has_begun) })
    }

    /// Whether [`under_way`](Self::under_way) has something to tell.
    #[inline]
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        !self.closed && (self.pending.is_some() || self.head_len > 0 || self.message.is_some())
    }

    /// Whether the stash holds part of a frame (or the frame just lent) and has to be the same
    /// one at the next call.
    #[must_use]
    pub const fn wants_stash(&self) -> bool {
        self.pending.is_some() || self.stash_delivered
    }

    /// How many bytes are missing of the frame of which `stash` has the first; 0 if it has none.
    ///
    /// They may be put behind those of the stash as they come from the peer, instead of going
    /// through [`next_frame`](Self::next_frame): see [`next_filled`](Self::next_filled).
    #[inline]
    #[must_use]
    pub fn bytes_missing(&self, stash: &Stash) -> u64 {
        match self.pending {
            Some(header) if !self.stash_delivered && !stash.is_empty() => {
                header.payload_len - stash.len() as u64
            }
            _ => 0,
        }
    }

    /// Takes the last `count` bytes of `stash` for the next ones of the peer, and returns the frame
    /// if they complete it. The `gap` bytes in front of them are dropped.
    ///
    /// There are no more than are [missing](Self::bytes_missing); if none is, they are forgotten.
    ///
    /// # Errors
    ///
    /// As [`next_frame`](Self::next_frame).
    ///
    /// ```
    /// use picows_uring_proto::{Decoder, FrameRules, Role, Stash};
    ///
    /// let (mut decoder, rules) = (Decoder::new(Role::Client), FrameRules::default());
    /// let mut stash = Stash::new();
    /// decoder.next_frame(&rules, &mut stash, &mut *b"\x81\x05Hel".to_vec())?;
    /// assert_eq!(decoder.bytes_missing(&stash), 2);
    /// stash.bytes_mut().extend_from_slice(b"..lo");
    /// let frame = decoder.next_filled(&rules, &mut stash, 2, 2)?.unwrap();
    /// assert_eq!(frame.text()?, "Hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_filled<'a>(
        &mut self,
        rules: &FrameRules,
        stash: &'a mut Stash,
        gap: usize,
        count: usize,
    ) -> Result<Option<Frame<'a>>, PeerMisbehaved> {
        let position = stash.len().saturating_sub(gap + count);
        let header = self.pending.filter(|header| {
            let is_fitting = (position + count) as u64 <= header.payload_len;
            debug_assert!(is_fitting, "no more than is missing");
            is_fitting && !self.stash_delivered
        });
        let bytes = stash.bytes_mut();
        let Some(header) = header else {
            bytes.truncate(position);
            return Ok(None);
        };
        let part = &mut bytes[position..];
        match (self.role, gap) {
            (Role::Server, 0) => mask::apply_at(part, header.key, position),
            (Role::Server, _) => mask::apply_shifted(part, gap, header.key, position),
            (Role::Client, _) => part.copy_within(gap.., 0),
        }
        bytes.truncate(position + count);
        self.check_stashed(rules, header, stash, position)?;
        if (stash.len() as u64) < header.payload_len {
            return Ok(None);
        }
        self.pending = None;
        self.stash_delivered = true;
        let stash: &'a Stash = stash;
        self.finish(rules, header, stash.bytes())?;
        Ok(Some(Frame {
            payload: stash.bytes(),
            msg_type: header.msg_type,
            fin: header.fin,
            rsv: header.rsv,
            last_in_buffer: true,
            tail_size: 0,
            memory: stash.memory(),
        }))
    }

    /// The earlier name of [`bytes_missing`](Self::bytes_missing).
    #[deprecated(since = "0.2.0", note = "renamed to `bytes_missing`")]
    #[must_use]
    pub fn missing(&self, stash: &Stash) -> u64 {
        self.bytes_missing(stash)
    }

    /// The earlier name of [`next_filled`](Self::next_filled).
    ///
    /// # Errors
    ///
    /// As [`next_filled`](Self::next_filled).
    #[deprecated(since = "0.2.0", note = "renamed to `next_filled`")]
    pub fn filled<'a>(
        &mut self,
        rules: &FrameRules,
        stash: &'a mut Stash,
        gap: usize,
        count: usize,
    ) -> Result<Option<Frame<'a>>, PeerMisbehaved> {
        self.next_filled(rules, stash, gap, count)
    }

    /// Whether the peer has sent CLOSE, so that nothing more will come out.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the next frame, unmasked, or `None` until more bytes arrive.
    ///
    /// The frame borrows `input` or `stash`, not the decoder.
    ///
    /// # Errors
    ///
    /// When the peer breaks RFC 6455 or passes a limit. A frame that was complete before the
    /// violation is returned first. Every later call returns the same error.
    #[inline(always)] // Three dozen instructions of a frame, which the compiler saves only if told.
    pub fn next_frame<'a>(
        &mut self,
        rules: &FrameRules,
        stash: &'a mut Stash,
        input: &'a mut [u8],
    ) -> Result<Decoded<'a>, PeerMisbehaved> {
        if self.stash_delivered {
            stash.clear();
            self.stash_delivered = false;
        }
        if self.closed {
            return Ok(Decoded { consumed: input.len(), frame: None });
        }
        let (header, start) = match self.pending {
            Some(header) => (header, 0),
            None => match self.next_header(rules, input) {
                Some(found) => found,
                None => match self.take_header(rules, input)? {
                    Some(found) => found,
                    None => return Ok(Decoded { consumed: input.len(), frame: None }),
                },
            },
        };
        let stashed = stash.len();
        let missing = header.payload_len - stashed as u64;
        if ((input.len() - start) as u64) < missing {
            self.pending = Some(header);
            self.stash_part(rules, header, stash, &input[start..])?;
            return Ok(Decoded { consumed: input.len(), frame: None });
        }
        self.pending = None;
        let end = start + missing as usize;
        let (body, tail) = input.split_at_mut(end);
        let body = &mut body[start..];
        let (payload, memory): (&'a [u8], _) = if stashed == 0 {
            if self.role == Role::Server {
                mask::apply(body, header.key);
            }
            self.check_text(rules, header, body)?;
            (body, None)
        } else {
            self.stash_part(rules, header, stash, body)?;
            self.stash_delivered = true;
            let stash: &'a Stash = stash;
            (stash.bytes(), stash.memory())
        };
        self.finish(rules, header, payload)?;
        let (ahead, last_in_buffer) = self.look_ahead(rules, tail, header.msg_type);
        let frame = Frame {
            payload,
            msg_type: header.msg_type,
            fin: header.fin,
            rsv: header.rsv,
            last_in_buffer,
            tail_size: tail.len(),
            memory,
        };
        Ok(Decoded { consumed: end + ahead, frame: Some(frame) })
    }

    /// Takes the next header off `input`, if it is as most are and the next to be expected.
    #[inline]
    fn next_header(&self, rules: &FrameRules, input: &[u8]) -> Option<(Pending, usize)> {
        if self.head_len > 0 || self.failed.is_some() || self.message.is_some() {
            return None;
        }
        Pending::usual(input, self.role, rules)
    }

    /// Takes the next header off `input` and returns where the payload starts, or keeps what there
    /// is of it.
    fn take_header(
        &mut self,
        rules: &FrameRules,
        input: &[u8],
    ) -> Result<Option<(Pending, usize)>, PeerMisbehaved> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let kept = usize::from(self.head_len);
        let decoded = if kept == 0 {
            Header::decode(input, self.role, rules)
        } else {
            let more = input.len().min(FRAME_HEADER_BYTES_MAX - kept);
            self.head[kept..kept + more].copy_from_slice(&input[..more]);
            Header::decode(&self.head[..kept + more], self.role, rules)
        };
        let found = decoded.and_then(|found| match found {
            Some((header, _)) => self.check_order(rules, &header).map(|()| found),
            None => Ok(None),
        });
        match found {
            Ok(Some((header, header_len))) => {
                self.head_len = 0;
                Ok(Some((Pending::new(&header), header_len - kept)))
            }
            Ok(None) => {
                self.has_begun |= self.message.is_none() && kept == 0 && !input.is_empty();
                // Shorter than the longest header, or it would have been decoded.
                self.head[kept..kept + input.len()].copy_from_slice(input);
                self.head_len += input.len() as u8;
                Ok(None)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Decodes the header after a frame: how many bytes it took, and whether the frame before it
    /// was the last complete one.
    ///
    /// The header is kept, so that looking ahead costs nothing.
    #[inline]
    fn look_ahead(&mut self, rules: &FrameRules, tail: &[u8], msg_type: MsgType) -> (usize, bool) {
        if self.closed || tail.is_empty() {
            return (0, true);
        }
        match self.next_header(rules, tail) {
            Some((header, header_len)) if !header.msg_type.is_control() => {
                let follows = (tail.len() - header_len) as u64 >= header.payload_len;
                self.pending = Some(header);
                (header_len, !follows)
            }
            _ => self.look_closer(rules, tail, msg_type),
        }
    }

    /// The same for a header that is not as most are, or that of a control frame.
    #[inline(never)]
    fn look_closer(&mut self, rules: &FrameRules, tail: &[u8], msg_type: MsgType) -> (usize, bool) {
        let decoded = Header::decode(tail, self.role, rules).and_then(|found| match found {
            Some((header, _)) => self.check_order(rules, &header).map(|()| found),
            None => Ok(None),
        });
        match decoded {
            Ok(Some((header, header_len))) => {
                self.pending = Some(Pending::new(&header));
                let behind = &tail[header_len..];
                let mut follows = behind.len() as u64 >= header.payload_len;
                // Only behind data: else many PINGs would each look past all that follow.
                if follows && is_passing(header.msg_type) && !msg_type.is_control() {
                    follows = self.data_follows(rules, &behind[header.payload_len as usize..]);
                }
                (header_len, !follows)
            }
            Ok(None) => (0, true),
            Err(error) => {
                self.fail(error);
                (0, true)
            }
        }
    }

    /// Whether a complete frame that is neither PING nor PONG is in `tail`, with no others but them
    /// in front.
    #[cold]
    #[inline(never)]
    fn data_follows(&self, rules: &FrameRules, mut tail: &[u8]) -> bool {
        while let Ok(Some((header, header_len))) = Header::decode(tail, self.role, rules) {
            let len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            let Some(behind) = tail[header_len..].get(len..) else { return false };
            if !is_passing(header.msg_type) {
                return self.check_order(rules, &header).is_ok();
            }
            tail = behind;
        }
        false
    }

    /// Checks a header against the message that is under way (RFC 6455 §5.4).
    fn check_order(&self, rules: &FrameRules, header: &Header) -> Result<(), PeerMisbehaved> {
        if rules.any_order {
            return Ok(());
        }
        match (header.msg_type, self.message) {
            (MsgType::Continuation, None) => Err(PeerMisbehaved::UnexpectedContinuation),
            (MsgType::Text | MsgType::Binary, Some(_)) => Err(PeerMisbehaved::UnfinishedMessage),
            _ => Ok(()),
        }
    }

    /// Moves the next part of a cut frame to the stash, unmasking it on the way.
    #[inline(never)]
    fn stash_part(
        &mut self,
        rules: &FrameRules,
        header: Pending,
        stash: &mut Stash,
        part: &[u8],
    ) -> Result<(), PeerMisbehaved> {
        let position = stash.len();
        // The first part of a frame that begins a message, and not the next of one that drips.
        self.has_begun |= position == 0 && !part.is_empty() && self.message.is_none();
        let bytes = stash.bytes_mut();
        let needed = position + part.len();
        if bytes.capacity() < needed {
            // Twice what there was, but never more than the frame will take.
            let frame_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            let capacity = needed.max(2 * bytes.capacity()).min(frame_len.max(needed));
            if let Err(error) = reserve_exact(bytes, capacity - position) {
                stash.clear();
                return Err(self.fail(error));
            }
        }
        match self.role {
            Role::Server => mask::copy_at(bytes, part, header.key, position),
            Role::Client => bytes.extend_from_slice(part),
        }
        self.check_stashed(rules, header, stash, position)
    }

    /// Checks what is in the stash from `position` on.
    #[inline]
    fn check_stashed(
        &mut self,
        rules: &FrameRules,
        header: Pending,
        stash: &mut Stash,
        position: usize,
    ) -> Result<(), PeerMisbehaved> {
        let checked = self.check_text(rules, header, &stash.bytes()[position..]);
        if checked.is_err() {
            // The stash is not wanted any more, and may go to another connection.
            stash.clear();
        }
        checked
    }

    /// Checks the next part of a text, as soon as it is here (RFC 6455 §8.1).
    #[inline]
    fn check_text(
        &mut self,
        rules: &FrameRules,
        header: Pending,
        part: &[u8],
    ) -> Result<(), PeerMisbehaved> {
        let is_text = rules.validate_text && !rules.any_order && self.is_text(rules, header);
        if is_text && self.text.feed(part).is_err() {
            return Err(self.fail(PeerMisbehaved::InvalidUtf8));
        }
        Ok(())
    }

    /// Whether the payload of a frame is text as it is.
    #[inline]
    fn is_text(&self, rules: &FrameRules, header: Pending) -> bool {
        match header.msg_type {
            MsgType::Text => header.rsv & 4 == 0 || !rules.compressed,
            MsgType::Continuation => self.message == Some(MsgType::Text),
            _ => false,
        }
    }

    /// Checks what only a complete frame shows, and takes it into account.
    #[inline]
    fn finish(
        &mut self,
        rules: &FrameRules,
        header: Pending,
        payload: &[u8],
    ) -> Result<(), PeerMisbehaved> {
        match header.msg_type {
            MsgType::Close => {
                if let Err(error) = check_close(payload) {
                    return Err(self.fail(error));
                }
                self.closed = true;
            }
            MsgType::Ping | MsgType::Pong => {}
            MsgType::Text | MsgType::Binary | MsgType::Continuation => {
                if header.fin {
                    // No text is fed where fragments come in any order, so it is complete then.
                    if rules.validate_text
                        && !self.text.is_complete()
                        && self.is_text(rules, header)
                    {
                        return Err(self.fail(PeerMisbehaved::InvalidUtf8));
                    }
                    self.message = None;
                } else if rules.any_order {
                    // Each frame stands for itself.
                } else if header.msg_type != MsgType::Continuation {
                    // What is compressed is not text yet.
                    let is_compressed = rules.compressed && header.rsv & 4 != 0;
                    let msg_type = if is_compressed { MsgType::Binary } else { header.msg_type };
                    self.message = Some(msg_type);
                    self.has_begun = true;
                    self.fragment_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                } else {
                    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                    self.fragment_bytes = self.fragment_bytes.saturating_add(bytes);
                }
            }
        }
        Ok(())
    }

    /// Remembers the violation, so that every later call reports it again.
    #[cold]
    pub(crate) fn fail(&mut self, error: PeerMisbehaved) -> PeerMisbehaved {
        self.failed = Some(error);
        self.pending = None;
        error
    }
}

/// Whether a frame may be answered, or awaited, without ever being delivered.
const fn is_passing(msg_type: MsgType) -> bool {
    matches!(msg_type, MsgType::Ping | MsgType::Pong)
}

/// Checks the payload of a CLOSE frame (RFC 6455 §5.5.1, §7.4).
fn check_close(payload: &[u8]) -> Result<(), PeerMisbehaved> {
    match payload {
        [] => Ok(()),
        [_] => Err(PeerMisbehaved::TruncatedCloseCode),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if CloseCode::new(code).is_none() {
                Err(PeerMisbehaved::InvalidCloseCode(code))
            } else if simdutf8::basic::from_utf8(reason).is_err() {
                Err(PeerMisbehaved::InvalidCloseReason)
            } else {
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
