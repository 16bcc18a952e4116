//! Received frames of connections that have agreed on permessage-deflate.
//!
//! The decoder checks the frames, and `extension/expansion.rs` expands those of compressed messages;
//! here the two are joined.

use super::Receiver;
use crate::decoder::Decoded;
use crate::error::PeerMisbehaved;
use crate::extension::{Expanded, Expansion, Inflaters};
use crate::limits::FrameRules;

impl Receiver {
    /// [`next`](Self::next) where messages may be compressed: a frame of one is returned expanded,
    /// without RSV1, and what it was before and after with it. `expansion` is the same one for the
    /// life of the connection.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_expanded<'a>(
        &'a mut self,
        rules: &FrameRules,
        expansion: &'a mut Expansion,
        inflaters: &mut Inflaters,
        input: &'a mut [u8],
    ) -> Result<(Decoded<'a>, Option<Expanded>), PeerMisbehaved> {
        let Self { decoder, stash } = self;
        let rules = FrameRules { compressed: true, ..*rules };
        let Decoded { consumed, frame } = decoder.next_frame(&rules, stash, input)?;
        match frame {
            Some(frame) if expansion.concerns(&frame) => {
                match expansion.expand(inflaters, &rules, frame) {
                    Ok((frame, expanded)) => {
                        Ok((Decoded { consumed, frame: Some(frame) }, Some(expanded)))
                    }
                    Err(error) => Err(decoder.fail(error)),
                }
            }
            frame => Ok((Decoded { consumed, frame }, None)),
        }
    }
}
