//! States of the deflate algorithm, which connections share. The only file that names zlib-rs.
//!
//! Each worker has one set of each kind, in which the state that was used last is at the end. A
//! connection whose state is still there goes on with it; for any other, the state that was not used
//! for longest is emptied, and filled with the history of the connection.

use super::history::History;
use super::short::{OUTPUT_BYTES_MORE, ShortDeflater};
#[cfg(feature = "libdeflate")]
use super::whole::{WholeDeflater, WholeInflater};
use crate::error::PeerMisbehaved;
use crate::reserve::{reserve, reserve_exact};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zlib_rs::{DeflateConfig, DeflateFlush, InflateFlush, Strategy};

/// Names the state that a connection has left in a set; 0 is none.
pub(super) type Stamp = u64;

/// What distinguishes compressors: one is made for these and keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) level: u8,
    pub(super) memory_level: u8,
    pub(super) window_bits: u8,
}

/// A compressor that is lent out of a set.
pub(super) struct Deflater {
    state: zlib_rs::Deflate,
    shape: Shape,
    stamp: Stamp,
}

/// An expander that is lent out of a set.
pub(super) struct Inflater {
    /// Apart, as a connection has room for one and seldom has one.
    state: Box<zlib_rs::Inflate>,
    stamp: Stamp,
}

/// Compressors of a worker, and memory for what they write.
///
/// ```
/// use picows_uring_proto::Deflaters;
///
/// assert_eq!(Deflaters::new(32).memory(), 0); // Until the first message.
/// ```
pub struct Deflaters {
    states: Vec<Deflater>,
    states_max: usize,
    stamps: Stamp,
    is_used: bool,
    /// What the last message was compressed to. All of it is initialised.
    pub(super) output: Vec<u8>,
    /// Memory of a history that was given up.
    pub(super) spare: Vec<u8>,
    short: ShortDeflater,
    #[cfg(feature = "libdeflate")]
    whole: WholeDeflater,
}

/// Expanders of a worker.
///
/// ```
/// use picows_uring_proto::Inflaters;
///
/// assert_eq!(Inflaters::new(16).memory(), 0); // Until the first message.
/// ```
pub struct Inflaters {
    states: Vec<Inflater>,
    states_max: usize,
    stamps: Stamp,
    is_used: bool,
    /// How many are with messages of which fragments were received, and not the last.
    out: Option<Arc<AtomicUsize>>,
    /// Memory of a history that was given up.
    pub(super) spare: Vec<u8>,
    #[cfg(feature = "libdeflate")]
    whole: WholeInflater,
}

/// The permission of a message to keep an expander until its last fragment.
#[derive(Debug)]
pub(super) struct Kept(Arc<AtomicUsize>);

impl Deflaters {
    /// A set that keeps up to `states_max` compressors, of about 165 KB each.
    #[must_use]
    pub const fn new(states_max: usize) -> Self {
        Self {
            states: Vec::new(),
            states_max,
            stamps: 0,
            is_used: false,
            output: Vec::new(),
            spare: Vec::new(),
            short: ShortDeflater::new(),
            #[cfg(feature = "libdeflate")]
            whole: WholeDeflater::new(),
        }
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        let states: usize = self.states.iter().map(|it| deflater_bytes(it.shape)).sum();
        let kept = states + self.output.capacity() + self.spare.capacity() + self.short.memory();
        #[cfg(feature = "libdeflate")]
        let kept = kept + self.whole.memory();
        kept
    }

    /// Gives up what it holds, `all` of it or what was not used since the last call.
    pub fn trim(&mut self, all: bool) {
        if all || !std::mem::take(&mut self.is_used) {
            self.states = Vec::new();
            self.output = Vec::new();
            self.spare = Vec::new();
            self.short = ShortDeflater::new();
            #[cfg(feature = "libdeflate")]
            {
                self.whole = WholeDeflater::new();
            }
        } else if self.output.capacity() > OUTPUT_KEPT_BYTES {
            self.output = Vec::new();
        }
    }

    /// Lends the compressor that is called `stamp`, or another with the text of `history` in it.
    pub(super) fn lend(
        &mut self,
        shape: Shape,
        stamp: Stamp,
        history: Option<&History>,
    ) -> Result<Deflater, PeerMisbehaved> {
        self.is_used = true;
        let is_own = |it: &Deflater| stamp != 0 && it.stamp == stamp && it.shape == shape;
        if let Some(at) = self.states.iter().rposition(is_own) {
            return Ok(self.states.remove(at));
        }
        let mut deflater = self.take(shape)?;
        for run in history.map_or([&[][..]; 2], History::runs) {
            if !run.is_empty() && deflater.state.set_dictionary(run).is_err() {
                // It has no text between two messages that could stand in the way.
                return Err(PeerMisbehaved::OutOfMemory);
            }
        }
        Ok(deflater)
    }

    /// An empty compressor.
    fn take(&mut self, shape: Shape) -> Result<Deflater, PeerMisbehaved> {
        // The one that belongs to no connection and was used last is in the cache.
        let is_free = |it: &Deflater| it.shape == shape && it.stamp == 0;
        let free = self.states.iter().rposition(is_free);
        let is_full = self.states.len() >= self.states_max;
        let at = free.or_else(|| {
            let same = self.states.iter().position(|it| it.shape == shape);
            same.filter(|_| is_full)
        });
        if let Some(at) = at {
            let mut deflater = self.states.remove(at);
            deflater.state.reset();
            return Ok(deflater);
        }
        if is_full && !self.states.is_empty() {
            self.states.remove(0);
        }
        reserve(&mut Vec::new(), deflater_bytes(shape))?;
        let is_smallest = shape.window_bits < WINDOW_BITS_OF_MATCHES;
        let config = DeflateConfig {
            level: i32::from(shape.level),
            mem_level: i32::from(shape.memory_level),
            // Negative: raw deflate, without header and checksum (RFC 7692 §7.2.1).
            window_bits: -i32::from(shape.window_bits.max(WINDOW_BITS_OF_MATCHES)),
            strategy: if is_smallest { Strategy::HuffmanOnly } else { Strategy::Default },
            ..DeflateConfig::default()
        };
        let state = zlib_rs::Deflate::new_with_config(config);
        Ok(Deflater { state, shape, stamp: 0 })
    }

    /// Takes a compressor back. Returns what it is called until its connection needs it again, if
    /// its window is that of the peer.
    pub(super) fn give_back(&mut self, mut deflater: Deflater, is_current: bool) -> Stamp {
        self.stamps += u64::from(is_current);
        deflater.stamp = if is_current { self.stamps } else { 0 };
        let stamp = deflater.stamp;
        if self.states_max > 0 {
            self.states.push(deflater);
        }
        stamp
    }

    /// Compresses a short message without history into the output: see [`ShortDeflater::compress`].
    pub(super) fn compress_short(
        &mut self,
        shape: Shape,
        text: &[u8],
    ) -> Result<usize, PeerMisbehaved> {
        self.is_used = true;
        self.reserve_output(text.len() + OUTPUT_BYTES_MORE)?;
        let has_matches = shape.window_bits >= WINDOW_BITS_OF_MATCHES;
        let window = if has_matches { 1 << shape.window_bits } else { 0 };
        self.short.compress(shape.level, window, text, &mut self.output)
    }

    /// Compresses a whole message without history into the output, if that makes it shorter: see
    /// [`WholeDeflater::compress`].
    #[cfg(feature = "libdeflate")]
    pub(super) fn compress_whole(
        &mut self,
        level: u8,
        text: &[u8],
    ) -> Result<Option<usize>, PeerMisbehaved> {
        self.is_used = true;
        self.reserve_output(text.len())?;
        let output = &mut self.output[..text.len()];
        self.whole.compress(level, text, output)
    }

    /// Makes room for an output of `len` bytes.
    pub(super) fn reserve_output(&mut self, len: usize) -> Result<(), PeerMisbehaved> {
        if let Some(missing) = len.checked_sub(self.output.len()).filter(|&missing| missing > 0) {
            reserve(&mut self.output, missing)?;
            // Once for the longest message: it stays initialised.
            self.output.resize(self.output.capacity(), 0);
        }
        Ok(())
    }
}

impl Deflater {
    /// Compresses `input` up to a sync flush (RFC 7692 §7.2.1, steps 1 and 2) into the output of
    /// `set`, whatever it holds, and returns the length.
    ///
    /// To the end in any case: zlib-rs 0.6.8 writes rubbish after a reset in the middle of a block.
    pub(super) fn compress(
        &mut self,
        set: &mut Deflaters,
        mut input: &[u8],
    ) -> Result<usize, PeerMisbehaved> {
        let mut written = 0;
        loop {
            // A flush that fills the output may not be over.
            let room = input.len() + input.len() / 8 + FLUSH_BYTES;
            set.reserve_output(written + room)?;
            let output = &mut set.output[written..written + room];
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let outcome = self.state.compress(input, output, DeflateFlush::SyncFlush);
            debug_assert!(outcome.is_ok(), "{outcome:?}");
            let taken = (self.state.total_in() - before_in) as usize;
            let count = (self.state.total_out() - before_out) as usize;
            written += count;
            input = &input[taken..];
            if outcome.is_err() {
                return Err(PeerMisbehaved::OutOfMemory);
            }
            if count < room {
                return Ok(written);
            }
        }
    }
}

impl Inflaters {
    /// A set that keeps up to `states_max` expanders, of about 48 KB each.
    #[must_use]
    pub const fn new(states_max: usize) -> Self {
        Self {
            states: Vec::new(),
            states_max,
            stamps: 0,
            is_used: false,
            out: None,
            spare: Vec::new(),
            #[cfg(feature = "libdeflate")]
            whole: WholeInflater::new(),
        }
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        let kept = self.states.len() * INFLATER_BYTES + self.spare.capacity();
        #[cfg(feature = "libdeflate")]
        let kept = kept + self.whole.memory();
        kept
    }

    /// Gives up what it holds, `all` of it or what was not used since the last call.
    pub fn trim(&mut self, all: bool) {
        if all || !std::mem::take(&mut self.is_used) {
            self.states = Vec::new();
            self.spare = Vec::new();
            #[cfg(feature = "libdeflate")]
            {
                self.whole = WholeInflater::new();
            }
        }
    }

    /// Expands a whole message without history into `text`: see [`WholeInflater::expand`].
    #[cfg(feature = "libdeflate")]
    pub(super) fn expand_whole(
        &mut self,
        data: &[u8],
        text: &mut [u8],
    ) -> Result<Option<usize>, PeerMisbehaved> {
        self.is_used = true;
        self.whole.expand(data, text)
    }

    /// Lends the expander that is called `stamp`, or another with the text of `history` in it.
    pub(super) fn lend(
        &mut self,
        stamp: Stamp,
        history: &History,
    ) -> Result<Inflater, PeerMisbehaved> {
        self.is_used = true;
        let is_own = |it: &Inflater| stamp != 0 && it.stamp == stamp;
        if let Some(at) = self.states.iter().rposition(is_own) {
            let mut inflater = self.states.remove(at);
            // Its window is larger than that of the peer: a distance is judged by the history and the
            // text of the message itself, the same whether this one or another expands it.
            if history.is_cut() {
                inflater.restart(history)?;
            }
            return Ok(inflater);
        }
        let free = self.states.iter().rposition(|it| it.stamp == 0);
        let is_full = self.states.len() >= self.states_max;
        let at = free.or_else(|| (is_full && !self.states.is_empty()).then_some(0));
        let mut inflater = match at {
            Some(at) => self.states.remove(at),
            None => {
                reserve_exact(&mut Vec::new(), INFLATER_BYTES)?;
                // Whatever was agreed on: a larger window expands each smaller one.
                Inflater { state: Box::new(zlib_rs::Inflate::new(false, 15)), stamp: 0 }
            }
        };
        inflater.restart(history)?;
        Ok(inflater)
    }

    /// Lets a message keep its expander until its last fragment.
    ///
    /// # Errors
    ///
    /// When so many others do that the memory for that is used up.
    pub(super) fn keep(&mut self) -> Result<Kept, PeerMisbehaved> {
        let out = self.out.get_or_insert_default();
        if out.load(Ordering::Relaxed) >= KEPT_MAX {
            return Err(PeerMisbehaved::OutOfMemory);
        }
        out.fetch_add(1, Ordering::Relaxed);
        Ok(Kept(Arc::clone(out)))
    }

    /// Takes an expander back, between two messages. Returns what it is called until its connection
    /// needs it again, if that goes on with its window.
    pub(super) fn give_back(&mut self, mut inflater: Inflater, is_current: bool) -> Stamp {
        self.stamps += u64::from(is_current);
        inflater.stamp = if is_current { self.stamps } else { 0 };
        let stamp = inflater.stamp;
        if self.states.len() < self.states_max {
            self.states.push(inflater);
        }
        stamp
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inflater {
    /// Empties it, and fills it with the text of `history`: no message can refer to the text of
    /// another connection.
    pub(super) fn restart(&mut self, history: &History) -> Result<(), PeerMisbehaved> {
        self.state.reset(false);
        for run in history.runs() {
            if !run.is_empty() && self.state.set_dictionary(run).is_err() {
                return Err(PeerMisbehaved::InvalidDeflate);
            }
        }
        Ok(())
    }

    /// Adds text of the message itself behind what [`restart`](Self::restart) has put in.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), PeerMisbehaved> {
        self.state.set_dictionary(text).map(|_| ()).map_err(|_| PeerMisbehaved::InvalidDeflate)
    }

    /// Expands a part of `input` into `output`: how many bytes it took and wrote, and whether the
    /// stream has ended, with a block that says it is the last.
    pub(super) fn expand(
        &mut self,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(usize, usize, bool), PeerMisbehaved> {
        self.step(input, output, InflateFlush::SyncFlush)
    }

    /// Adds what the sender has cut off behind a message (RFC 7692 §7.2.2), and checks that this is
    /// the end of an empty block: whatever follows, the state is that between two messages.
    pub(super) fn finish(&mut self) -> Result<(), PeerMisbehaved> {
        let mut text = [0];
        // Both stop where a block ends. The first has one byte more, which is left over if a block
        // ends with the four before it. The second, an empty block, is taken whole if that end is
        // the end of a byte too; what is left of a byte otherwise, bits of 0xFF, begins a last block.
        for (input, taken) in [([0, 0, 0xFF, 0xFF, 0], 4), ([0, 0, 0, 0xFF, 0xFF], 5)] {
            if self.step(&input, &mut text, InflateFlush::Block)? != (taken, 0, false) {
                return Err(PeerMisbehaved::InvalidDeflate);
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        flush: InflateFlush,
    ) -> Result<(usize, usize, bool), PeerMisbehaved> {
        let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
        let outcome = self.state.decompress(input, output, flush);
        let Ok(status) = outcome else { return Err(PeerMisbehaved::InvalidDeflate) };
        let taken = (self.state.total_in() - before_in) as usize;
        let written = (self.state.total_out() - before_out) as usize;
        Ok((taken, written, status == zlib_rs::Status::StreamEnd))
    }
}

impl fmt::Debug for Deflaters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflaters").field("states", &self.states.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inflaters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflaters").field("states", &self.states.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

/// About what a compressor takes: its hash table of 128 KiB, twice the window with links into it,
/// and what is pending.
const fn deflater_bytes(shape: Shape) -> usize {
    130 * 1024 + (6 << shape.window_bits) + (32 << shape.memory_level)
}

/// Messages of connections that share expanders which may keep one from fragment to fragment: 47 MiB.
pub(super) const KEPT_MAX: usize = 1024;
/// What an expander takes, whatever its window.
pub(super) const INFLATER_BYTES: usize = 47_700;
/// What a flush takes beside the data: the rest of a block, and an empty one.
const FLUSH_BYTES: usize = 64;
/// The smallest window for which raw deflate finds matches. For a smaller one, text is coded byte by
/// byte, which fits any window.
pub(super) const WINDOW_BITS_OF_MATCHES: u8 = 9;
/// Room for the output of most messages.
const OUTPUT_KEPT_BYTES: usize = 256 * 1024;
