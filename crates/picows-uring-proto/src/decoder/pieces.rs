//! Parts of a frame that is not complete, lent from the input as they come.
//!
//! Each part that is taken leaves a shorter frame under way, whose key begins where the rest does:
//! the decoder never sees that anything is missing. Which frames come so is decided in
//! `endpoint/pieces.rs`.

use super::Decoder;
use super::pending::Pending;
use crate::error::PeerMisbehaved;
use crate::frame::{MsgType, Role};
use crate::limits::FrameRules;
use crate::mask;
use crate::stash::Stash;

/// The header of the frame under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameUnderWay {
    /// Bytes that are missing.
    pub(crate) rest: u64,
    pub(crate) msg_type: MsgType,
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
}

impl Decoder {
    /// Takes the next header off `input`, unless that was done: returns how many bytes of `input`
    /// come before the payload, and the header; without one, all of `input` is taken.
    pub(crate) fn begin_frame(
        &mut self,
        rules: &FrameRules,
        stash: &mut Stash,
        input: &[u8],
    ) -> Result<(usize, Option<FrameUnderWay>), PeerMisbehaved> {
        if std::mem::take(&mut self.stash_delivered) {
            stash.clear();
        }
        if self.closed {
            return Ok((input.len(), None));
        }
        let mut start = 0;
        if self.pending.is_none() {
            let found = match self.next_header(rules, input) {
                Some(found) => Some(found),
                None => self.take_header(rules, input)?,
            };
            let Some((header, header_len)) = found else { return Ok((input.len(), None)) };
            (self.pending, start) = (Some(header), header_len);
        }
        let under_way = self.pending.map(|header| {
            let Pending { payload_len: rest, msg_type, fin, rsv, .. } = header;
            FrameUnderWay { rest, msg_type, fin, rsv }
        });
        Ok((start, under_way))
    }

    /// Unmasks and checks `part`, the next bytes of the frame under way and not its last.
    pub(crate) fn take_part(
        &mut self,
        rules: &FrameRules,
        part: &mut [u8],
        is_first: bool,
    ) -> Result<(), PeerMisbehaved> {
        let Some(mut header) = self.pending else { return Ok(()) };
        self.has_begun |= is_first && self.message.is_none();
        debug_assert!((part.len() as u64) < header.payload_len, "not the last");
        if self.role == Role::Server {
            mask::apply(part, header.key);
        }
        self.check_text(rules, header, part)?;
        header.payload_len -= part.len() as u64;
        header.key.rotate_left(part.len() % 4);
        self.pending = Some(header);
        Ok(())
    }
}
