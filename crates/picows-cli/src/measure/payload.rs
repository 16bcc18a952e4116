//! Payload of a message: a stamp that identifies it, and filler.
//!
//! One buffer serves all connections of a thread, so that it stays in the cache.

/// Generator of payloads, and comparison with their echoes.
#[derive(Debug)]
pub(crate) struct Payload {
    bytes: Vec<u8>,
    is_text: bool,
}

/// Bytes at the start of a payload that differ from message to message.
pub(crate) const STAMP_BYTES: usize = 8;

impl Payload {
    pub(crate) fn new(size: usize, is_text: bool) -> Self {
        let fill = |index: usize| {
            let mixed = mix(index as u64) as u8;
            if is_text { LETTERS[usize::from(mixed % 64)] } else { mixed }
        };
        Self { bytes: (0..size).map(fill).collect(), is_text }
    }

    /// The payload of message `sequence` of `connection`.
    pub(crate) fn stamped(&mut self, connection: u64, sequence: u64) -> &[u8] {
        let stamp = self.stamp(connection, sequence);
        let length = self.bytes.len().min(STAMP_BYTES);
        self.bytes[..length].copy_from_slice(&stamp[..length]);
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
            && echo[length..] == self.bytes[length..]
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

/// A million seconds at a million messages per second, and 16 million connections.
const SEQUENCE_BITS: u32 = 40;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

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
