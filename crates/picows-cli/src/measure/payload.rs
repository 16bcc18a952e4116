//! Payload of a message: a stamp that identifies it, and filler.
//!
//! One buffer serves all connections of a thread, so that it stays in the cache.

/// Generator of payloads, and comparison with their echoes.
#[derive(Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    is_text: bool,
    /// Where digits are that change from message to message.
    digits: Vec<usize>,
}

/// What the filler is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Filler {
    #[default]
    Random,
    Json,
}

/// Bytes at the start of a payload that differ from message to message.
pub(crate) const STAMP_BYTES: usize = 8;

impl Payload {
    pub(crate) fn new(size: usize, is_text: bool) -> Self {
        let fill = |index: usize| {
            let mixed = mix(index as u64) as u8;
            if is_text { LETTERS[usize::from(mixed % 64)] } else { mixed }
        };
        Self { bytes: (0..size).map(fill).collect(), is_text, digits: Vec::new() }
    }

    pub(crate) fn filled(size: usize, is_text: bool, filler: Filler) -> Self {
        match filler {
            Filler::Random => Self::new(size, is_text),
            Filler::Json => Self::json(size),
        }
    }

    /// Records like those of a market feed, whose numbers change from message to message.
    fn json(size: usize) -> Self {
        let mut bytes = Self::new(size.min(STAMP_BYTES), true).bytes;
        for record in RECORDS.iter().cycle().take(1 + size / 60) {
            bytes.extend_from_slice(record.as_bytes());
        }
        bytes.truncate(size);
        let is_digit = |at: &usize| bytes[*at] == b'0';
        let digits = (STAMP_BYTES.min(size)..size).filter(is_digit).collect();
        Self { bytes, is_text: true, digits }
    }

    /// The digits of a message, in their order.
    fn digits_of(connection: u64, sequence: u64) -> impl Iterator<Item = u8> {
        let start = mix(connection << SEQUENCE_BITS | sequence & ((1 << SEQUENCE_BITS) - 1));
        (0..).flat_map(move |block| {
            let mut mixed = mix(start.wrapping_add(block));
            (0..16).map(move |_| {
                let digit = b'0' + (mixed % 10) as u8;
                mixed /= 10;
                digit
            })
        })
    }

    /// The payload of message `sequence` of `connection`.
    pub(crate) fn stamped(&mut self, connection: u64, sequence: u64) -> &[u8] {
        let stamp = self.stamp(connection, sequence);
        let length = self.bytes.len().min(STAMP_BYTES);
        self.bytes[..length].copy_from_slice(&stamp[..length]);
        if !self.digits.is_empty() {
            for (at, digit) in self.digits.iter().zip(Self::digits_of(connection, sequence)) {
                self.bytes[*at] = digit;
            }
        }
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether `echo` is the payload of message `sequence` of `connection`.
    pub(crate) fn matches(&self, echo: &[u8], connection: u64, sequence: u64) -> bool {
        let stamp = self.stamp(connection, sequence);
        let length = self.bytes.len().min(STAMP_BYTES);
        echo.len() == self.bytes.len()
            && echo[..length] == stamp[..length]
            && self.is_rest(echo, length, connection, sequence)
    }

    /// Whether `echo` is right behind its stamp.
    fn is_rest(&self, echo: &[u8], start: usize, connection: u64, sequence: u64) -> bool {
        if self.digits.is_empty() {
            return echo[start..] == self.bytes[start..];
        }
        let mut digits = self.digits.iter().zip(Self::digits_of(connection, sequence)).peekable();
        (start..echo.len()).all(|at| match digits.next_if(|(digit_at, _)| **digit_at == at) {
            Some((_, digit)) => echo[at] == digit,
            None => echo[at] == self.bytes[at],
        })
    }

    /// The stamp of a message: unique if binary and of full length, very probably unique in text. A
    /// stamp changed on the network matches no message in flight.
    fn stamp(&self, connection: u64, sequence: u64) -> [u8; STAMP_BYTES] {
        let mixed = mix(connection << SEQUENCE_BITS | sequence & ((1 << SEQUENCE_BITS) - 1));
        if !self.is_text {
            return mixed.to_le_bytes();
        }
        std::array::from_fn(|index| LETTERS[(mixed >> (6 * index)) as usize % 64])
    }
}

/// A bijection that looks random (the finisher of `SplitMix64`).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Each 0 is a digit that changes.
const RECORDS: [&str; 3] = [
    r#"{"channel":"book","symbol":"BTC-USD","bid":00000.00,"ask":00000.00,"sequence":00000000},"#,
    r#"{"channel":"trade","symbol":"ETH-USD","price":0000.00,"size":0.0000,"side":"buy"},"#,
    r#"{"channel":"book","symbol":"SOL-EUR","bid":000.0000,"ask":000.0000,"depth":[00,00,00]},"#,
];
/// A million seconds at a million messages per second, and 16 million connections.
const SEQUENCE_BITS: u32 = 40;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_differs_from_message_to_message_and_is_recognised() {
        for size in [0, 5, 8, 9, 64, 1024, 5000] {
            let mut payload = Payload::filled(size, false, Filler::Json);
            let text = payload.stamped(3, 17).to_vec();
            assert_eq!(text.len(), size);
            let differing = text.iter().zip(payload.stamped(3, 18)).filter(|(a, b)| a != b).count();
            assert!(size < 64 || differing > size / 20, "{size}: {differing}");
            assert!(payload.matches(&text, 3, 17) && str::from_utf8(&text).is_ok());
            assert!(size == 0 || !payload.matches(&text, 3, 19));
            for index in (8..size).step_by(7) {
                let mut wrong = text.clone();
                wrong[index] ^= 1;
                assert!(!payload.matches(&wrong, 3, 17), "size={size} index={index}");
            }
        }
    }

    #[test]
    fn every_message_differs_from_every_other() {
        for is_text in [false, true] {
            let mut payload = Payload::new(64, is_text);
            let mut seen = std::collections::HashSet::new();
            for connection in 0..20 {
                for sequence in 0..200 {
                    assert!(seen.insert(payload.stamped(connection, sequence).to_vec()));
                }
            }
        }
    }

    #[test]
    fn an_echo_matches_its_message_only_and_only_unchanged() {
        for size in [8, 9, 100] {
            let mut payload = Payload::new(size, false);
            let echo = payload.stamped(3, 17).to_vec();
            payload.stamped(3, 18);
            assert!(payload.matches(&echo, 3, 17));
            assert!(!payload.matches(&echo, 3, 18));
            assert!(!payload.matches(&echo, 4, 17));
            assert!(!payload.matches(&echo[1..], 3, 17));
            for index in 0..size {
                let mut wrong = echo.clone();
                wrong[index] ^= 1;
                assert!(!payload.matches(&wrong, 3, 17), "size={size} index={index}");
            }
        }
    }

    #[test]
    fn short_messages_carry_what_fits() {
        for size in 0..STAMP_BYTES {
            let mut payload = Payload::new(size, false);
            let echo = payload.stamped(1, 2).to_vec();
            assert_eq!(echo.len(), size);
            assert!(payload.matches(&echo, 1, 2));
        }
    }

    #[test]
    fn text_is_printable_ascii() {
        let mut payload = Payload::new(1000, true);
        for sequence in 0..100 {
            let text = payload.stamped(7, sequence);
            assert!(text.iter().all(u8::is_ascii_graphic));
        }
    }
}
