//! Whole messages without history, by libdeflate: the only file that names it.
//!
//! It takes a message at once, and ends it with a block that says it is the last. What is made of that
//! is what a flush makes, so that any peer can expand it. Whatever it cannot do is left to
//! `deflate.rs`, whose verdict counts.

use crate::error::PeerMisbehaved;
use crate::reserve::reserve_exact;
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use std::hash::{BuildHasher, RandomState};

/// A compressor, of the level that was used last.
pub(super) struct WholeDeflater(Option<(i32, Compressor)>);

/// An expander, made for the first message.
pub(super) struct WholeInflater(Option<Box<Expander>>);

struct Expander {
    state: Decompressor,
    /// A message, and the end that makes a stream of it.
    input: Vec<u8>,
    /// The text of both blocks of that end. No peer knows it: text that ends with it twice is followed by
    /// nothing, and codes of the peer do not make it.
    mark: [u8; MARK_BYTES],
}

impl WholeDeflater {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |(level, _)| deflater_bytes(*level))
    }

    /// Compresses `text` into `output`, as far as that has room: to blocks of which none says it is the
    /// last, up to the end that is not sent (RFC 7692 §7.2.1). Returns the length, that of `text` where
    /// it does not get shorter; `None` leaves it to the other compressor.
    ///
    /// # Errors
    ///
    /// When there is no memory for a compressor.
    pub(super) fn compress(
        &mut self,
        level: u8,
        text: &[u8],
        output: &mut [u8],
    ) -> Result<Option<usize>, PeerMisbehaved> {
        // Its lowest makes of short messages what the other makes at 4.
        let level = if level <= 4 { 1 } else { i32::from(level) };
        let state = match &mut self.0 {
            Some((its, state)) if *its == level => state,
            other => {
                reserve_exact(&mut Vec::new(), deflater_bytes(level))?;
                let Ok(its) = CompressionLvl::new(level) else { return Ok(None) };
                &mut other.insert((level, Compressor::new(its))).1
            }
        };
        // One byte is for the end.
        let Some((_, room)) = output.split_last_mut() else { return Ok(None) };
        let Ok(len) = state.deflate_compress(text, room) else { return Ok(Some(text.len())) };
        Ok(reopen(&mut output[..=len]))
    }
}

impl WholeInflater {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |it| INFLATER_BYTES + it.input.capacity())
    }

    /// Whether a message may be one for it, before there is room for the text.
    pub(super) fn takes(data: &[u8]) -> bool {
        // A first block that says it is the last: what follows it is not read here.
        data.len() <= INPUT_BYTES_MAX && data.first().is_some_and(|first| first & 1 == 0)
    }

    /// Expands the message `data`, which it [takes](Self::takes), into `text`, as far as that has room
    /// for it and for [`MARKS_BYTES`] more. Returns the length; `None` leaves it to the other expander,
    /// which knows why.
    ///
    /// # Errors
    ///
    /// When there is no memory for an expander.
    pub(super) fn expand(
        &mut self,
        data: &[u8],
        text: &mut [u8],
    ) -> Result<Option<usize>, PeerMisbehaved> {
        if self.0.is_none() {
            reserve_exact(&mut Vec::new(), INFLATER_BYTES)?;
        }
        let Expander { state, input, mark } = &mut **self.0.get_or_insert_with(|| {
            let mark = RandomState::new().hash_one(0).to_le_bytes();
            Box::new(Expander { state: Decompressor::new(), input: Vec::new(), mark })
        });
        input.clear();
        let end = [&OPEN[..], &mark[..], &LAST[..], &mark[..]];
        reserve_exact(input, data.len() + end.iter().map(|it| it.len()).sum::<usize>())?;
        input.extend_from_slice(data);
        end.iter().for_each(|it| input.extend_from_slice(it));
        let Ok(len) = state.deflate_decompress(input, text) else { return Ok(None) };
        let text = text[..len].strip_suffix(&mark[..]).and_then(|it| it.strip_suffix(&mark[..]));
        // A block that was to go on has taken the first block of the end for its text.
        Ok(text.filter(|it| !it.ends_with(&OPEN)).map(<[u8]>::len))
    }
}

/// Makes of a stream of one block, with a byte behind it, what a flush makes: the block says that others
/// follow, and an empty one begins, of which all but what is not sent is there. Returns its length.
///
/// `None` where there are several blocks, or one of another kind.
fn reopen(data: &mut [u8]) -> Option<usize> {
    let len = data.len() - 1;
    if *data.first()? & 0b111 != LAST_DYNAMIC {
        return None;
    }
    let (stream, _) = data.split_at(len);
    let full = stream.iter().rposition(|&byte| byte != 0)?;
    let zeros = 8 * (len - 1 - full) + stream[full].leading_zeros() as usize;
    // All but those of its last code are no part of the block.
    let free = zeros.checked_sub(zeros_of_end(stream)?).filter(|&free| free < 8)?;
    data[0] &= !1;
    data[len] = 0;
    // The first three bits of the empty block, and the rest of their byte.
    Some(if free >= 3 { len } else { len + 1 })
}

/// The zeros at the end of the code that ends a block, in a block that begins with its codes
/// (RFC 1951 §3.2.7).
fn zeros_of_end(stream: &[u8]) -> Option<usize> {
    let mut bits = Bits { stream, at: 3 };
    let codes = 257 + bits.take(5)?;
    bits.take(5)?;
    let table = lengths_table(&mut bits)?;
    // How many codes have a length, and how many of those are of literals.
    let (mut counts, mut literals) = ([0_u32; 16], [0_u32; 16]);
    let (mut symbol, mut last, mut of_end) = (0, 0, 0);
    while symbol < codes {
        let (kind, count) = table[bits.peek(7)? as usize];
        bits.at += usize::from(count);
        let (length, run) = match kind {
            16 => (last, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (usize::from(length), 1),
        };
        let end = codes.min(symbol + run);
        counts[length] += end - symbol;
        literals[length] += end.min(END_OF_BLOCK) - symbol.min(END_OF_BLOCK);
        if (symbol..end).contains(&END_OF_BLOCK) {
            of_end = length;
        }
        (symbol, last) = (end, length);
    }
    // Codes of a length follow those of all shorter ones, in the order of their symbols.
    let first = counts[..of_end].iter().skip(1).fold(0, |code, count| (code + count) << 1);
    let code = first + literals[of_end];
    (of_end > 0 && code > 0).then(|| code.trailing_zeros() as usize)
}

/// The code that lengths of codes are in: for each seven bits, a length or run, and the bits of its code.
fn lengths_table(bits: &mut Bits<'_>) -> Option<[(u8, u8); 128]> {
    let mut lengths = [0; 19];
    for at in 0..4 + bits.take(4)? as usize {
        lengths[*ORDER.get(at)?] = bits.take(3)? as u8;
    }
    let (mut table, mut code) = ([(0, 0); 128], 0_u8);
    for length in 1..8 {
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, its)| **its == length) {
            let first = usize::from(code.reverse_bits() >> (8 - length));
            for entry in table.iter_mut().skip(first).step_by(1 << length) {
                *entry = (symbol as u8, length);
            }
            code = code.wrapping_add(1);
        }
        code = code.wrapping_shl(1);
    }
    Some(table)
}

/// Reads a stream bit by bit, not to its very end.
struct Bits<'a> {
    stream: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn peek(&self, count: usize) -> Option<u32> {
        let bytes = self.stream.get(self.at / 8..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes) >> (self.at % 8) & ((1 << count) - 1))
    }

    fn take(&mut self, count: usize) -> Option<u32> {
        let value = self.peek(count)?;
        self.at += count;
        Some(value)
    }
}

/// What a compressor of a level takes.
const fn deflater_bytes(level: i32) -> usize {
    if level == 1 { 202_796 } else { 670_740 }
}

/// Text that is put behind that of a message, in two blocks.
pub(super) const MARKS_BYTES: usize = 2 * MARK_BYTES;
const MARK_BYTES: usize = 8;
/// The length of a block without codes, in place of the empty one that a message begins at its end
/// (`TAIL`). Behind that, a block of the peer could end which has taken its four bytes for codes; behind
/// this, the mark would have to begin another.
const OPEN: [u8; 4] = [MARK_BYTES as u8, 0, !(MARK_BYTES as u8), 0xFF];
/// The begin of a block that says it is the last, with so many bytes of text.
const LAST: [u8; 5] = [1, OPEN[0], OPEN[1], OPEN[2], OPEN[3]];
/// The first bits of a block that says it is the last, and has codes of its own.
const LAST_DYNAMIC: u8 = 0b101;
/// The symbol that ends a block.
const END_OF_BLOCK: u32 = 256;
/// The order of the lengths of the code for lengths (RFC 1951 §3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// What an expander takes.
const INFLATER_BYTES: usize = 11_612;
/// Messages beyond that would have to be copied.
const INPUT_BYTES_MAX: usize = 64 * 1024;
