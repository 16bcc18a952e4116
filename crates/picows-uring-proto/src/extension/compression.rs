//! Sending half of permessage-deflate: which messages are compressed, and to what.
//!
//! Called at the point of no return: what is compressed has to be sent, in this order. Encodes no
//! header and masks nothing.

use super::deflate::{Deflaters, Shape, Stamp, WINDOW_BITS_OF_MATCHES};
use super::history::History;
use super::settings::{Deflate, NegotiatedDeflate};
use super::short::TEXT_BYTES_MAX;
use crate::encode::FrameHead;
use crate::error::PeerMisbehaved;
use crate::frame::MsgType;

/// What one connection keeps of what it sends.
#[derive(Debug)]
pub struct Compression {
    shape: Shape,
    takeover: bool,
    /// Messages are compressed whose head does not say.
    is_default: bool,
    threshold: usize,
    /// The fragmented message under way is compressed.
    is_open: bool,
    stamp: Stamp,
    history: History,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressed<'a> {
    /// It is sent as it is.
    Plain,
    /// It is sent with this head and payload.
    Frame(FrameHead, &'a [u8]),
}

impl Compression {
    /// The sending half of a connection that has agreed on `agreed`.
    #[must_use]
    pub fn new(settings: &Deflate, agreed: &NegotiatedDeflate) -> Self {
        let takeover = agreed.context_takeover;
        let threshold = if takeover { THRESHOLD } else { THRESHOLD_WITHOUT_CONTEXT };
        Self {
            shape: Shape {
                level: settings.level,
                memory_level: settings.memory_level,
                window_bits: agreed.window_bits,
            },
            // Without matches, there is nothing to refer to.
            takeover: takeover && agreed.window_bits >= WINDOW_BITS_OF_MATCHES,
            is_default: settings.compress,
            threshold: settings.threshold.unwrap_or(threshold),
            is_open: false,
            stamp: 0,
            history: History::new(agreed.window_bits),
        }
    }

    /// Compresses the payload of a frame that is sent next, if it is to be.
    ///
    /// A whole message that does not shrink is sent as it is, and so is a message whose first
    /// fragment does not.
    ///
    /// # Errors
    ///
    /// [`PeerMisbehaved::OutOfMemory`]: the frame cannot be sent.
    pub fn compress<'a>(
        &mut self,
        deflaters: &'a mut Deflaters,
        head: FrameHead,
        payload: &[u8],
    ) -> Result<Compressed<'a>, PeerMisbehaved> {
        let is_continued = match head.msg_type {
            MsgType::Text | MsgType::Binary => false,
            MsgType::Continuation if self.is_open => true,
            _ => return Ok(Compressed::Plain),
        };
        if !is_continued && !self.is_wanted(head, payload.len()) {
            self.is_open = false;
            return Ok(Compressed::Plain);
        }
        if self.is_alone(head) {
            let len = self.compress_alone(deflaters, payload)?;
            if let Some(len) = len {
                (self.stamp, self.is_open) = (0, false);
                if len >= payload.len() {
                    return Ok(Compressed::Plain);
                }
                let head = head.with_rsv(head.rsv | RSV1);
                return Ok(Compressed::Frame(head, &deflaters.output[..len]));
            }
        }
        let history = if self.takeover || is_continued { Some(&self.history) } else { None };
        let mut deflater = deflaters.lend(self.shape, self.stamp, history)?;
        // A continuation cannot do without, however long it gets, nor can a fragment without text
        // decide for those that follow.
        let must_fit = !is_continued && !payload.is_empty();
        let tail = if head.fin { TAIL.len() } else { 0 };
        self.stamp = 0;
        let written = deflater.compress(deflaters, payload)?;
        let is_plain = must_fit && written >= payload.len() + tail;
        // The text is in the window of the peer, and up to the end of a message referred to.
        let is_kept = !is_plain && (self.takeover || !head.fin);
        self.stamp = deflaters.give_back(deflater, is_kept);
        self.is_open = !is_plain && !head.fin;
        if is_plain {
            return Ok(Compressed::Plain);
        }
        if !is_kept {
            self.history.give_up(&mut deflaters.spare);
        } else if self.has_matches() {
            self.history.adopt(&mut deflaters.spare);
            self.history.push(payload)?;
        }
        let head = if is_continued { head } else { head.with_rsv(head.rsv | RSV1) };
        Ok(Compressed::Frame(head, finish(&mut deflaters.output, written, head.fin)))
    }

    /// Records that a message that was compressed without history is sent next.
    ///
    /// # Errors
    ///
    /// As [`compress`](Self::compress).
    pub fn skip(&mut self, text: &[u8]) -> Result<(), PeerMisbehaved> {
        self.stamp = 0;
        // Where there is nothing to refer to, it stays so: most connections that get messages of
        // this kind get no others.
        if self.history.is_empty() { Ok(()) } else { self.history.push(text) }
    }

    /// Whether a message that was compressed without history, for a window of so many bits, may be
    /// sent instead of its text.
    #[must_use]
    pub const fn covers(&self, window_bits: u8) -> bool {
        window_bits <= self.shape.window_bits
    }

    /// Whether messages are compressed whose head does not say.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.is_default
    }

    /// Forgets the history, which is always allowed between two messages.
    pub fn forget(&mut self) {
        if !self.is_open {
            self.stamp = 0;
            self.history.clear();
        }
    }

    /// Gives its memory up: nothing more is sent.
    pub fn end(&mut self) {
        self.is_open = false;
        self.forget();
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.history.memory()
    }

    fn is_wanted(&self, head: FrameHead, payload_len: usize) -> bool {
        // How long a message in fragments gets is not known.
        let is_worth_it = !head.fin || payload_len >= self.threshold;
        payload_len < PAYLOAD_BYTES_MAX
            && match head.compressed {
                Some(compressed) => compressed && (payload_len > 0 || !head.fin),
                None => self.is_default && is_worth_it && (payload_len > 0 || !head.fin),
            }
    }

    /// Whether a frame is a message that is compressed without others.
    fn is_alone(&self, head: FrameHead) -> bool {
        !self.takeover && head.fin && head.msg_type != MsgType::Continuation
    }

    /// Compresses a whole message without history by what takes it at once, and returns the length; `None`
    /// leaves it to the shared compressors.
    fn compress_alone(
        &self,
        deflaters: &mut Deflaters,
        payload: &[u8],
    ) -> Result<Option<usize>, PeerMisbehaved> {
        if payload.len() <= TEXT_BYTES_MAX {
            return deflaters.compress_short(self.shape, payload).map(Some);
        }
        // No distance in it is longer than itself.
        #[cfg(feature = "libdeflate")]
        if payload.len() <= 1 << self.shape.window_bits {
            return deflaters.compress_whole(self.shape.level, payload);
        }
        Ok(None)
    }

    const fn has_matches(&self) -> bool {
        self.shape.window_bits >= WINDOW_BITS_OF_MATCHES
    }
}

/// Compresses a whole message without history, for any connection whose window has so many bits;
/// `None` where it does not shrink.
///
/// # Errors
///
/// [`PeerMisbehaved::OutOfMemory`].
pub fn compress_once(settings: &Deflate, text: &[u8]) -> Result<Option<Vec<u8>>, PeerMisbehaved> {
    let agreed = NegotiatedDeflate {
        window_bits: settings.window_bits,
        peer_window_bits: settings.window_bits,
        context_takeover: false,
        peer_context_takeover: false,
    };
    let (mut compression, mut deflaters) = (Compression::new(settings, &agreed), Deflaters::new(0));
    let head = FrameHead::new(MsgType::Binary).compressed(true);
    Ok(match compression.compress(&mut deflaters, head, text)? {
        Compressed::Plain => None,
        Compressed::Frame(_, payload) => Some(payload.to_vec()),
    })
}

/// The payload of a frame whose data ends with a flush (RFC 7692 §7.2.1, step 3).
fn finish(output: &mut [u8], written: usize, fin: bool) -> &[u8] {
    if !fin {
        return &output[..written];
    }
    if written > TAIL.len() {
        return &output[..written - TAIL.len()];
    }
    // A flush right behind another writes nothing: the empty block alone (RFC 7692 §7.2.3.6).
    output[0] = 0;
    &output[..1]
}

/// End of each flush; it is not sent (RFC 7692 §7.2.1).
pub(super) const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
pub(super) const RSV1: u8 = 4;
/// Below that, little is saved: the header of a TCP segment is as long.
const THRESHOLD: usize = 64;
/// As Node's `ws` has it: 100 bytes by themselves shrink to 92.
const THRESHOLD_WITHOUT_CONTEXT: usize = 1024;
/// The algorithm counts in 32 bits.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;
