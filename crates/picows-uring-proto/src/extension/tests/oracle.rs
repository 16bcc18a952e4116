//! Stock zlib, and a slow and obvious decoder of deflate that knows how far distances reach.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// One direction of a peer that links stock zlib.
pub(super) struct Zlib {
    compress: Compress,
    decompress: Decompress,
}

impl Zlib {
    pub(super) fn new(level: u32, window_bits: u8) -> Self {
        Self {
            compress: Compress::new_with_window_bits(Compression::new(level), false, window_bits),
            decompress: Decompress::new_with_window_bits(false, window_bits),
        }
    }

    /// Compresses a part of a message up to a flush.
    pub(super) fn flush(&mut self, text: &[u8]) -> Vec<u8> {
        let (begin, mut data) = (self.compress.total_in(), Vec::new());
        loop {
            data.reserve(text.len() / 2 + 64);
            let taken = (self.compress.total_in() - begin) as usize;
            self.compress.compress_vec(&text[taken..], &mut data, FlushCompress::Sync).unwrap();
            if data.len() < data.capacity() {
                return data;
            }
        }
    }

    /// Compresses a message.
    pub(super) fn compress(&mut self, text: &[u8]) -> Vec<u8> {
        let mut data = self.flush(text);
        if data.is_empty() {
            return vec![0];
        }
        assert!(data.ends_with(&super::super::compression::TAIL));
        data.truncate(data.len() - 4);
        data
    }

    pub(super) fn reset(&mut self) {
        self.compress.reset();
        self.decompress.reset(false);
    }

    /// Expands a message of which `data` is all there is; `None` if it is not deflate.
    pub(super) fn expand(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        self.judge(data).ok()
    }

    /// The same, with zlib's word for what is wrong.
    pub(super) fn judge(&mut self, data: &[u8]) -> Result<Vec<u8>, String> {
        let data = [data, &super::super::compression::TAIL].concat();
        let (begin, mut text) = (self.decompress.total_in(), Vec::new());
        loop {
            text.reserve(4 * data.len() + 64);
            let taken = (self.decompress.total_in() - begin) as usize;
            let flush = FlushDecompress::Sync;
            self.decompress
                .decompress_vec(&data[taken..], &mut text, flush)
                .map_err(|error| error.message().unwrap_or_default().to_owned())?;
            if text.len() < text.capacity() {
                let taken = (self.decompress.total_in() - begin) as usize;
                return if taken == data.len() { Ok(text) } else { Err("it has ended".to_owned()) };
            }
        }
    }
}

/// A stream that ends with the message.
pub(super) fn finished(text: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len() + 64);
    let mut compress = Compress::new(Compression::new(6), false);
    compress.compress_vec(text, &mut data, FlushCompress::Finish).unwrap();
    data
}

/// The largest distance in `data`, a run of blocks that ends with a flush; `text` is all before it,
/// and what `data` expands to is appended.
pub(super) fn distance_max(data: &[u8], text: &mut Vec<u8>) -> usize {
    let mut bits = Bits { data, at: 0 };
    let mut most = 0;
    while bits.at < 8 * data.len() {
        let (_, kind) = (bits.take(1), bits.take(2));
        match kind {
            0 => {
                bits.at = bits.at.div_ceil(8) * 8;
                let len = bits.take(16);
                assert_eq!(bits.take(16), len ^ 0xFFFF);
                text.extend((0..len).map(|_| bits.take(8) as u8));
            }
            1 => {
                let lens: Vec<u8> = (0..288)
                    .map(|at| match at {
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    })
                    .collect();
                most = most.max(block(&mut bits, &lens, &[5; 30], text));
            }
            2 => {
                let (literals, distances) = code_lengths(&mut bits);
                most = most.max(block(&mut bits, &literals, &distances, text));
            }
            _ => panic!("no such block"),
        }
    }
    most
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        let bit = |at: usize| usize::from(self.data[at / 8] >> (at % 8) & 1);
        let value = (0..count).map(|at| bit(self.at + at) << at).sum();
        self.at += count;
        value
    }

    /// The next symbol of a code with these lengths (RFC 1951 §3.2.2).
    fn symbol(&mut self, lens: &[u8]) -> usize {
        let (mut code, mut first) = (0, 0);
        for len in 1..=15_u8 {
            code = code << 1 | self.take(1);
            first <<= 1;
            let of_len = || lens.iter().enumerate().filter(move |(_, own)| **own == len);
            let count = of_len().count();
            if code < first + count {
                return of_len().nth(code - first).unwrap().0;
            }
            first += count;
        }
        panic!("no such symbol")
    }
}

/// The lengths of the two codes of a dynamic block (RFC 1951 §3.2.7).
fn code_lengths(bits: &mut Bits<'_>) -> (Vec<u8>, Vec<u8>) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, codes) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let mut lens = [0; 19];
    for at in &ORDER[..codes] {
        lens[*at] = bits.take(3) as u8;
    }
    let mut all: Vec<u8> = Vec::new();
    while all.len() < literals + distances {
        let (value, count) = match bits.symbol(&lens) {
            16 => (*all.last().unwrap(), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            len => (len as u8, 1),
        };
        all.extend(std::iter::repeat_n(value, count));
    }
    let distances = all.split_off(literals);
    (all, distances)
}

/// Expands the symbols of a block (RFC 1951 §3.2.5), and returns its largest distance.
fn block(bits: &mut Bits<'_>, literals: &[u8], distances: &[u8], text: &mut Vec<u8>) -> usize {
    let mut most = 0;
    loop {
        let symbol = bits.symbol(literals);
        let len = match symbol {
            0..256 => {
                text.push(symbol as u8);
                continue;
            }
            256 => return most,
            285 => 258,
            257..265 => symbol - 254,
            _ => {
                let extra = (symbol - 261) / 4;
                ((4 + (symbol - 261) % 4) << extra) + 3 + bits.take(extra)
            }
        };
        let distance = match bits.symbol(distances) {
            short @ 0..4 => short + 1,
            symbol => {
                let extra = symbol / 2 - 1;
                ((2 + symbol % 2) << extra) + 1 + bits.take(extra)
            }
        };
        most = most.max(distance);
        for _ in 0..len {
            text.push(text[text.len() - distance]);
        }
    }
}

#[test]
fn the_slow_decoder_agrees_with_zlib() {
    for level in [1, 6, 9] {
        let mut zlib = Zlib::new(level, 15);
        let mut text = Vec::new();
        for number in 0..60 {
            let message = super::quote(number).repeat(1 + number as usize % 5);
            let data = zlib.compress(message.as_bytes());
            let data = [&data[..], &[0, 0, 0xFF, 0xFF]].concat();
            let before = text.len();
            let most = distance_max(&data, &mut text);
            assert_eq!(&text[before..], message.as_bytes());
            assert!(most <= text.len());
        }
    }
}
