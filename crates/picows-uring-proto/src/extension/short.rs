//! Compressor of short messages without history: one block for each.
//!
//! A general compressor is emptied before each message, which takes as long for a short one as for a long
//! one. What this one keeps is small, and is not emptied: what it has of an earlier message is of positions
//! below those of the next, and never looked at.

use super::codes::{CODE_BITS_MAX, SYMBOLS_MAX, codes_of, lengths_of};
use crate::error::PeerMisbehaved;
use crate::reserve::reserve_exact;

/// The compressor of a worker, made for the first message.
pub(super) struct ShortDeflater(Option<Box<State>>);

/// How hard it looks for matches.
#[derive(Clone, Copy)]
struct Effort {
    /// Places that are compared.
    depth: usize,
    /// A match that is shorter is given up for a longer one a byte later.
    lazy: usize,
    /// A match that is as long is taken at once.
    good: usize,
    /// Of a longer match, only the last places are remembered.
    remembered: usize,
}

struct State {
    /// The last place with four bytes that have this hash, counted from the first byte of some message.
    heads: [u16; 1 << HASH_BITS],
    /// The place before it, by places of this message.
    links: [u16; TEXT_BYTES_MAX],
    /// Where this message begins, in the count of `heads`.
    base: usize,
    /// Bytes and matches of the message, in their order.
    symbols: [u32; TEXT_BYTES_MAX],
    symbol_count: usize,
    literals: [u16; LITERALS],
    distances: [u16; DISTANCES],
}

impl ShortDeflater {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<State>())
    }

    /// Compresses `text`, of [`TEXT_BYTES_MAX`] at most, into `output`, up to the end that is not sent (RFC
    /// 7692 §7.2.1), with no distance beyond `window`. Returns the length, that of `text` where it does not
    /// get shorter. `output` has [`OUTPUT_BYTES_MORE`] more than that.
    ///
    /// # Errors
    ///
    /// When there is no memory for a compressor.
    pub(super) fn compress(
        &mut self,
        level: u8,
        window: usize,
        text: &[u8],
        output: &mut [u8],
    ) -> Result<usize, PeerMisbehaved> {
        if self.0.is_none() {
            reserve_exact(&mut Vec::new(), size_of::<State>())?;
        }
        let state = self.0.get_or_insert_with(State::new);
        state.find(EFFORTS[usize::from(level.clamp(1, 9))], window, text);
        Ok(state.write(text.len(), output))
    }
}

impl State {
    fn new() -> Box<Self> {
        Box::new(Self {
            heads: [0; 1 << HASH_BITS],
            links: [0; TEXT_BYTES_MAX],
            base: 1,
            symbols: [0; TEXT_BYTES_MAX],
            symbol_count: 0,
            literals: [0; LITERALS],
            distances: [0; DISTANCES],
        })
    }

    /// Makes bytes and matches of `text`, and counts them.
    fn find(&mut self, effort: Effort, window: usize, text: &[u8]) {
        if self.base + text.len() > usize::from(u16::MAX) {
            self.heads.fill(0);
            self.base = 1;
        }
        self.symbol_count = 0;
        self.literals.fill(0);
        self.distances.fill(0);
        // One match more would have to be looked for behind the last.
        let last = text.len().saturating_sub(MATCH_BYTES_MIN);
        let mut at = 0;
        while at < last {
            let before = self.insert(text, at);
            let (mut len, mut distance) = self.longest(effort, window, text, at, before, 0);
            if len == 0 {
                self.push_literal(text[at]);
                at += 1;
                continue;
            }
            let mut is_next_in = false;
            if len < effort.lazy && at + 1 < last {
                let before = self.insert(text, at + 1);
                let (longer, its) = self.longest(effort, window, text, at + 1, before, len);
                is_next_in = longer <= len;
                if longer > len {
                    self.push_literal(text[at]);
                    (at, len, distance) = (at + 1, longer, its);
                }
            }
            self.push_match(len, distance);
            let end = at + len;
            let first = at + 1 + usize::from(is_next_in);
            let first = if len > effort.remembered { first.max(end - 2) } else { first };
            for inside in first..end.min(last) {
                self.insert(text, inside);
            }
            at = end;
        }
        for &byte in text.get(at..).unwrap_or_default() {
            self.push_literal(byte);
        }
        self.base += text.len();
    }

    /// Remembers the place `at`, and returns the one before with the same hash.
    #[inline(always)]
    fn insert(&mut self, text: &[u8], at: usize) -> usize {
        let hash = four(text, at).wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS);
        let before = std::mem::replace(&mut self.heads[hash as usize], (self.base + at) as u16);
        self.links[at] = before;
        usize::from(before)
    }

    /// Length and distance of the longest match of what begins at `at`, if it is longer than `best`; the
    /// first place to compare is `place`.
    #[inline(always)]
    fn longest(
        &self,
        effort: Effort,
        window: usize,
        text: &[u8],
        at: usize,
        mut place: usize,
        mut best: usize,
    ) -> (usize, usize) {
        let rest = &text[at..text.len().min(at + MATCH_BYTES_MAX)];
        let (begin, mut distance) = (four(text, at), 0);
        // Before it are places of earlier messages, and those that are too far away.
        let floor = self.base + at.saturating_sub(window);
        let depth = if best < rest.len() { effort.depth } else { 0 };
        for _ in 0..depth {
            let Some(from) = place.checked_sub(floor).map(|_| place - self.base) else { break };
            if four(text, from) == begin && (best == 0 || text[from + best] == rest[best]) {
                let len = common(&text[from..], rest);
                if len > best {
                    (best, distance) = (len, at - from);
                    if len >= effort.good || len == rest.len() {
                        break;
                    }
                }
            }
            place = usize::from(self.links[from]);
        }
        (best, distance)
    }

    #[inline(always)]
    fn push_literal(&mut self, byte: u8) {
        self.literals[usize::from(byte)] += 1;
        self.push(u32::from(byte));
    }

    #[inline(always)]
    fn push_match(&mut self, len: usize, distance: usize) {
        self.literals[usize::from(LENGTHS.symbols[len])] += 1;
        self.distances[distance_symbol(distance).0] += 1;
        self.push(IS_MATCH | (len as u32) << 16 | distance as u32);
    }

    #[inline(always)]
    fn push(&mut self, symbol: u32) {
        self.symbols[self.symbol_count] = symbol;
        self.symbol_count += 1;
    }

    /// Writes the block, and the begin of the empty one that ends a flush. Returns the length, or that of the
    /// text.
    fn write(&mut self, text_len: usize, output: &mut [u8]) -> usize {
        self.literals[END_OF_BLOCK] = 1;
        let (mut literals, mut distances) = ([0; LITERALS], [0; DISTANCES]);
        let literals_per_length = lengths_of::<CODE_BITS_MAX>(&self.literals, &mut literals);
        let distances_per_length = lengths_of::<CODE_BITS_MAX>(&self.distances, &mut distances);
        let header = Header::new(&literals, &distances);
        let (mut own_bits, mut fixed_bits, mut more_bits) = (header.bits(), 0, 0);
        for (symbol, &count) in self.literals.iter().enumerate() {
            own_bits += usize::from(count) * usize::from(literals[symbol]);
            fixed_bits += usize::from(count) * usize::from(FIXED[symbol]);
        }
        for (&count, &more) in self.literals[END_OF_BLOCK + 1..].iter().zip(&LENGTHS.more) {
            more_bits += usize::from(count) * usize::from(more);
        }
        for (symbol, &count) in self.distances.iter().enumerate() {
            own_bits += usize::from(count) * usize::from(distances[symbol]);
            fixed_bits += usize::from(count) * FIXED_DISTANCE_BITS;
            more_bits += usize::from(count) * (symbol / 2).saturating_sub(1);
        }
        let len = (BLOCK_BITS + own_bits.min(fixed_bits) + more_bits + BLOCK_BITS).div_ceil(8);
        if len >= text_len {
            return text_len;
        }
        let mut bits = Bits { output, at: 0, bits: 0, count: 0 };
        if fixed_bits <= own_bits {
            bits.put(FIXED_BLOCK, BLOCK_BITS as u32);
            self.write_symbols(&mut bits, &FIXED_LITERALS, &FIXED_DISTANCES);
        } else {
            bits.put(OWN_BLOCK, BLOCK_BITS as u32);
            header.write(&mut bits);
            let (mut literal_codes, mut distance_codes) = ([0; LITERALS], [0; DISTANCES]);
            codes_of(&literals[..header.literals], &literals_per_length, &mut literal_codes);
            codes_of(&distances[..header.distances], &distances_per_length, &mut distance_codes);
            self.write_symbols(&mut bits, &literal_codes, &distance_codes);
        }
        // A block without codes, of which no more than its kind is sent.
        bits.put(0, BLOCK_BITS as u32);
        bits.flush();
        debug_assert_eq!(bits.at + usize::from(bits.count > 0), len);
        len
    }

    #[inline]
    fn write_symbols(
        &self,
        bits: &mut Bits<'_>,
        literals: &[u32; LITERALS],
        distances: &[u32; DISTANCES],
    ) {
        bits.flush();
        for &symbol in &self.symbols[..self.symbol_count] {
            if symbol & IS_MATCH == 0 {
                bits.code(literals[symbol as usize & 0xFF]);
            } else {
                let len = (symbol >> 16 & 0x1FF) as usize;
                let length = usize::from(LENGTHS.symbols[len]);
                let nth = length - LENGTH_SYMBOLS;
                bits.code(literals[length]);
                bits.put(
                    (len - usize::from(LENGTHS.first[nth])) as u64,
                    u32::from(LENGTHS.more[nth]),
                );
                let (distance, more, value) = distance_symbol(symbol as usize & 0xFFFF);
                bits.code(distances[distance]);
                bits.put(value, more);
            }
            // 48 bits at most, behind 7.
            bits.flush();
        }
        bits.code(literals[END_OF_BLOCK]);
        bits.flush();
    }
}

/// The header of a block with codes of its own (RFC 1951 §3.2.7).
struct Header {
    literals: usize,
    distances: usize,
    /// Lengths of codes, runs of them, and how long a run is.
    runs: [(u8, u8); LITERALS + DISTANCES],
    run_count: usize,
    lengths: [u8; RUN_SYMBOLS],
    per_length: [u16; CODE_BITS_MAX + 1],
    length_count: usize,
}

impl Header {
    fn new(literals: &[u8; LITERALS], distances: &[u8; DISTANCES]) -> Self {
        let used = |lengths: &[u8]| lengths.iter().rposition(|it| *it > 0).map_or(0, |at| at + 1);
        let mut header = Self {
            literals: used(literals).max(END_OF_BLOCK + 1),
            distances: used(distances).max(1),
            runs: [(0, 0); LITERALS + DISTANCES],
            run_count: 0,
            lengths: [0; RUN_SYMBOLS],
            per_length: [0; CODE_BITS_MAX + 1],
            length_count: 0,
        };
        let mut both = [0; LITERALS + DISTANCES];
        let total = header.literals + header.distances;
        both[..header.literals].copy_from_slice(&literals[..header.literals]);
        both[header.literals..total].copy_from_slice(&distances[..header.distances]);
        let mut counts = [0; RUN_SYMBOLS];
        let mut rest = &both[..total];
        while let Some(&length) = rest.first() {
            let mut run = rest.iter().position(|it| *it != length).unwrap_or(rest.len());
            rest = &rest[run..];
            let mut push = |symbol: u8, more: usize| {
                counts[usize::from(symbol)] += 1;
                header.runs[header.run_count] = (symbol, more as u8);
                header.run_count += 1;
            };
            if length == 0 {
                while run >= 11 {
                    let part = run.min(138);
                    push(LONG_ZEROS, part - 11);
                    run -= part;
                }
                if run >= 3 {
                    push(ZEROS, run - 3);
                    run = 0;
                }
            } else {
                push(length, 0);
                run -= 1;
                while run >= 3 {
                    let part = run.min(6);
                    push(REPEAT, part - 3);
                    run -= part;
                }
            }
            for _ in 0..run {
                push(length, 0);
            }
        }
        header.per_length = lengths_of::<7>(&counts, &mut header.lengths);
        let is_used = |at: &usize| header.lengths[*at] > 0;
        header.length_count = ORDER.iter().rposition(is_used).map_or(0, |at| at + 1).max(4);
        header
    }

    /// How many bits it takes.
    fn bits(&self) -> usize {
        let runs = self.runs[..self.run_count].iter();
        let runs = runs.map(|run| usize::from(self.lengths[usize::from(run.0)] + more_of(run.0)));
        14 + 3 * self.length_count + runs.sum::<usize>()
    }

    fn write(&self, bits: &mut Bits<'_>) {
        bits.put((self.literals - END_OF_BLOCK - 1) as u64, 5);
        bits.put((self.distances - 1) as u64, 5);
        bits.put((self.length_count - 4) as u64, 4);
        for &symbol in &ORDER[..self.length_count] {
            bits.flush();
            bits.put(u64::from(self.lengths[symbol]), 3);
        }
        let mut codes = [0; RUN_SYMBOLS];
        codes_of(&self.lengths, &self.per_length, &mut codes);
        for &(symbol, more) in &self.runs[..self.run_count] {
            bits.flush();
            bits.code(codes[usize::from(symbol)]);
            bits.put(u64::from(more), u32::from(more_of(symbol)));
        }
    }
}

/// Bits behind the code of a run.
const fn more_of(symbol: u8) -> u8 {
    match symbol {
        REPEAT => 2,
        ZEROS => 3,
        LONG_ZEROS => 7,
        _ => 0,
    }
}

/// Writes bits, the first one lowest.
struct Bits<'a> {
    output: &'a mut [u8],
    at: usize,
    bits: u64,
    count: u32,
}

impl Bits<'_> {
    #[inline(always)]
    const fn put(&mut self, value: u64, count: u32) {
        self.bits |= value << self.count;
        self.count += count;
    }

    #[inline(always)]
    fn code(&mut self, code: u32) {
        self.put(u64::from(code as u16), code >> 16);
    }

    /// Writes whole bytes: afterwards 7 bits are left at most.
    #[inline(always)]
    fn flush(&mut self) {
        if let Some(to) = self.output.get_mut(self.at..).and_then(|it| it.first_chunk_mut()) {
            *to = self.bits.to_le_bytes();
        }
        self.at += (self.count / 8) as usize;
        self.bits >>= self.count & !7;
        self.count &= 7;
    }
}

/// The four bytes at a place, if they are there.
#[inline(always)]
fn four(text: &[u8], at: usize) -> u32 {
    text.get(at..).and_then(|it| it.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// How many bytes `rest` has in common with what is in front of it, `before`.
#[inline(always)]
fn common(before: &[u8], rest: &[u8]) -> usize {
    let mut len = 0;
    while let (Some(a), Some(b)) = (eight(before, len), eight(rest, len)) {
        let different = a ^ b;
        if different != 0 {
            return len + different.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    while len < rest.len() && before[len] == rest[len] {
        len += 1;
    }
    len
}

#[inline(always)]
fn eight(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..).and_then(|it| it.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes))
}

/// The symbol of a distance, and how many bits follow with which value (RFC 1951 §3.2.5).
#[inline(always)]
const fn distance_symbol(distance: usize) -> (usize, u32, u64) {
    let value = distance as u32 - 1;
    if value < 4 {
        return (value as usize, 0, 0);
    }
    let more = 30 - value.leading_zeros();
    ((2 * more + (value >> more)) as usize, more, (value & ((1 << more) - 1)) as u64)
}

/// Symbols of lengths, and for each its first length and how many bits follow.
struct Lengths {
    symbols: [u16; MATCH_BYTES_MAX + 1],
    first: [u16; LITERALS - LENGTH_SYMBOLS],
    more: [u8; LITERALS - LENGTH_SYMBOLS],
}

static LENGTHS: Lengths = {
    const COUNT: usize = LITERALS - LENGTH_SYMBOLS;
    let (mut symbols, mut first, mut more) = ([0; MATCH_BYTES_MAX + 1], [0; COUNT], [0; COUNT]);
    let (mut nth, mut len) = (0, 3);
    while nth < COUNT - 1 {
        first[nth] = len as u16;
        more[nth] = if nth < 8 { 0 } else { nth as u8 / 4 - 1 };
        let end = len + (1 << more[nth]);
        while len < end && len < MATCH_BYTES_MAX {
            symbols[len] = (LENGTH_SYMBOLS + nth) as u16;
            len += 1;
        }
        nth += 1;
    }
    // The longest has a symbol of its own.
    first[COUNT - 1] = MATCH_BYTES_MAX as u16;
    symbols[MATCH_BYTES_MAX] = (LITERALS - 1) as u16;
    Lengths { symbols, first, more }
};

/// Lengths of the fixed codes (RFC 1951 §3.2.6).
static FIXED: [u8; SYMBOLS_MAX] = fixed();
static FIXED_LITERALS: [u32; LITERALS] = {
    let mut per_length = [0; CODE_BITS_MAX + 1];
    (per_length[7], per_length[8], per_length[9]) = (24, 152, 112);
    let (mut codes, mut used) = ([0; SYMBOLS_MAX], [0; LITERALS]);
    codes_of(&fixed(), &per_length, &mut codes);
    let mut symbol = 0;
    while symbol < LITERALS {
        used[symbol] = codes[symbol];
        symbol += 1;
    }
    used
};
static FIXED_DISTANCES: [u32; DISTANCES] = {
    let mut per_length = [0; CODE_BITS_MAX + 1];
    per_length[FIXED_DISTANCE_BITS] = 32;
    let mut codes = [0; DISTANCES];
    codes_of(&[FIXED_DISTANCE_BITS as u8; DISTANCES], &per_length, &mut codes);
    codes
};

const fn fixed() -> [u8; SYMBOLS_MAX] {
    let (mut lengths, mut symbol) = ([8; SYMBOLS_MAX], 144);
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    lengths
}

/// Longer messages have more to gain from a compressor that looks further, and less to lose by it.
pub(super) const TEXT_BYTES_MAX: usize = 4096;
/// Room behind the output of as many bytes as the text has: bits are written eight bytes at a time.
pub(super) const OUTPUT_BYTES_MORE: usize = 8;
/// By level: 1 for time, from 5 on for few bytes.
const EFFORTS: [Effort; 10] = {
    let fast = Effort { depth: 1, lazy: 0, good: 64, remembered: 8 };
    let usual = Effort { depth: 2, lazy: 8, good: 64, remembered: 16 };
    let hard = Effort { depth: 8, lazy: 32, good: 128, remembered: MATCH_BYTES_MAX };
    let most = Effort { depth: 32, lazy: 64, good: MATCH_BYTES_MAX, remembered: MATCH_BYTES_MAX };
    [fast, fast, usual, usual, usual, hard, hard, most, most, most]
};
/// 4 KB of places.
const HASH_BITS: u32 = 11;
const IS_MATCH: u32 = 1 << 31;
const MATCH_BYTES_MIN: usize = 4;
const MATCH_BYTES_MAX: usize = 258;
/// Symbols of bytes, of the end of a block, and of lengths.
const LITERALS: usize = 286;
const END_OF_BLOCK: usize = 256;
const LENGTH_SYMBOLS: usize = 257;
const DISTANCES: usize = 30;
/// What each block begins with: whether it is the last, and its kind.
const BLOCK_BITS: usize = 3;
const FIXED_BLOCK: u64 = 0b010;
const OWN_BLOCK: u64 = 0b100;
const FIXED_DISTANCE_BITS: usize = 5;
const RUN_SYMBOLS: usize = 19;
const REPEAT: u8 = 16;
const ZEROS: u8 = 17;
const LONG_ZEROS: u8 = 18;
/// The order of the lengths of the code for lengths (RFC 1951 §3.2.7).
const ORDER: [usize; RUN_SYMBOLS] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
