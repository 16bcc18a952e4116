//! History of one direction: the last bytes of plaintext, as many as a message may refer to.
//!
//! A ring that grows with what it is given. Which messages belong to it is decided by its owner.

use super::settings::WINDOW_BITS_MAX;
use crate::error::PeerMisbehaved;
use crate::reserve::reserve_exact;

/// At most a window of plaintext.
#[derive(Debug)]
pub(super) struct History {
    bytes: Vec<u8>,
    /// Where the oldest byte is, once it is full.
    start: usize,
    bytes_max: usize,
}

impl History {
    /// An empty one for a window of so many bits; takes no memory yet.
    pub(super) const fn new(window_bits: u8) -> Self {
        Self { bytes: Vec::new(), start: 0, bytes_max: 1 << window_bits }
    }

    /// Appends `text`; the oldest bytes make room for it.
    ///
    /// # Errors
    ///
    /// When there is no memory: it is empty then.
    pub(super) fn push(&mut self, text: &[u8]) -> Result<(), PeerMisbehaved> {
        let text = &text[text.len().saturating_sub(self.bytes_max)..];
        let free = self.bytes_max - self.bytes.len();
        let (first, rest) = text.split_at(text.len().min(free));
        let needed = self.bytes.len() + first.len();
        if self.bytes.capacity() < needed {
            // Twice what there was, but never more than a window.
            let capacity = needed.max(2 * self.bytes.capacity()).max(BYTES_MIN).min(self.bytes_max);
            let additional = capacity - self.bytes.len();
            if let Err(error) = reserve_exact(&mut self.bytes, additional) {
                self.clear();
                return Err(error);
            }
        }
        self.bytes.extend_from_slice(first);
        let end = self.start + rest.len();
        let (behind, front) = rest.split_at(rest.len() - end.saturating_sub(self.bytes_max));
        self.bytes[self.start..self.start + behind.len()].copy_from_slice(behind);
        self.bytes[..front.len()].copy_from_slice(front);
        if !rest.is_empty() {
            self.start = end % self.bytes_max;
        }
        Ok(())
    }

    /// Its bytes, the oldest first, in two runs.
    pub(super) fn runs(&self) -> [&[u8]; 2] {
        let (newer, older) = self.bytes.split_at(self.start);
        [older, newer]
    }

    /// Whether it has forgotten, or is about to forget, text that the largest window still covers.
    pub(super) const fn is_cut(&self) -> bool {
        self.bytes.len() == self.bytes_max && self.bytes_max < 1 << WINDOW_BITS_MAX
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the memory of another one that was given up, if it has none and may have as much.
    pub(super) fn adopt(&mut self, spare: &mut Vec<u8>) {
        if self.bytes.capacity() == 0 && spare.capacity() <= self.bytes_max {
            self.bytes = std::mem::take(spare);
        }
    }

    /// Forgets its bytes, and leaves its memory to the next that needs some.
    pub(super) fn give_up(&mut self, spare: &mut Vec<u8>) {
        if self.bytes.capacity() > spare.capacity() {
            self.bytes.clear();
            *spare = std::mem::take(&mut self.bytes);
        }
        self.clear();
    }

    /// Forgets its bytes, and gives up its memory.
    pub(super) fn clear(&mut self) {
        self.bytes = Vec::new();
        self.start = 0;
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Room to begin with: a few small messages.
const BYTES_MIN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_last_window_of_what_it_is_given_in_order() {
        let text: Vec<u8> = (0..5000_u32).map(|at| (at * 7 % 251) as u8).collect();
        for step in [1, 3, 100, 255, 256, 257, 511, 512, 513, 1024, 5000] {
            let mut history = History::new(9);
            for end in (0..text.len()).step_by(step).skip(1).chain([text.len()]) {
                let begin = (end - 1) / step * step;
                history.push(&text[begin..end]).unwrap();
                let kept = history.runs().concat();
                assert_eq!(kept, &text[end.saturating_sub(512)..end], "step={step} end={end}");
                assert!(history.memory() <= 512);
            }
        }
    }

    #[test]
    fn it_grows_with_what_it_is_given() {
        let mut history = History::new(15);
        assert_eq!(history.memory(), 0);
        history.push(&[1; 100]).unwrap();
        assert_eq!(history.memory(), 256);
        history.push(&[2; 200]).unwrap();
        assert_eq!(history.memory(), 512);
        history.clear();
        assert!(history.is_empty() && history.memory() == 0);
    }
}
