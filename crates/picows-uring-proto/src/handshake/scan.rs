//! Finds where a head ends in a buffer that grows.
//!
//! Looks at line ends only and understands nothing else. Each byte is looked at once however
//! small the reads are, so a peer that drips one byte at a time costs no more than any other.

use super::HeadLimits;
use super::head::HeadError;

/// Remembers how much of a growing buffer has been searched for the end of a head.
///
/// Use one per head, always with the same buffer, which may only grow at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// Prefix that is known to hold no end of head. At most `HEAD_BYTES_CEILING`.
    scanned: u16,
}

impl HeadScanner {
    /// A scanner that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { scanned: 0 }
    }

    /// Returns the length of the head that `input` starts with, or `None` until it is complete.
    ///
    /// A LF without its CR is refused at once. RFC 9112 §2.2 lets a recipient accept it, but two
    /// recipients that differ on where a line ends is how requests are smuggled, and a peer that
    /// means it would otherwise wait for the handshake timeout.
    pub(super) fn find_end(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, HeadError> {
        let head_bytes_max = limits.head_bytes();
        let window = &input[..input.len().min(head_bytes_max)];
        let mut at = usize::from(self.scanned).min(window.len());
        while let Some(distance) = window[at..].iter().position(|&byte| byte == b'\n') {
            let line_feed = at + distance;
            let before = &window[..line_feed];
            if !before.ends_with(b"\r") {
                return Err(HeadError::BareLineFeed);
            }
            if before.ends_with(b"\r\n\r") {
                // Stops short of the LF, so that asking again gives the same answer.
                self.advance_to(line_feed);
                return Ok(Some(line_feed + 1));
            }
            at = line_feed + 1;
        }
        self.advance_to(window.len());
        if input.len() < head_bytes_max {
            Ok(None)
        } else {
            Err(HeadError::TooLarge { head_bytes_max })
        }
    }

    fn advance_to(&mut self, scanned: usize) {
        // Never saturates: the window is at most `HEAD_BYTES_CEILING` long.
        self.scanned = u16::try_from(scanned).unwrap_or(u16::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::HEAD_BYTES_CEILING;

    fn scan(input: &[u8], head_bytes_max: usize) -> Result<Option<usize>, HeadError> {
        let limits = HeadLimits { head_bytes_max, ..HeadLimits::default() };
        HeadScanner::new().find_end(input, &limits)
    }

    #[test]
    fn finds_the_first_empty_line_and_nothing_after_it() {
        assert_eq!(scan(b"A\r\n\r\nB\r\n\r\n", 100), Ok(Some(5)));
        assert_eq!(scan(b"A\r\n\r", 100), Ok(None));
        assert_eq!(scan(b"A\r\r\n\r", 100), Ok(None));
    }

    #[test]
    fn asking_again_gives_the_same_answer() {
        let mut scanner = HeadScanner::new();
        for _ in 0..3 {
            let end = scanner.find_end(b"A\r\n\r\nB", &HeadLimits::default());
            assert_eq!(end, Ok(Some(5)));
        }
    }

    #[test]
    fn a_line_feed_without_carriage_return_is_refused_where_it_stands() {
        assert_eq!(scan(b"A\n", 100), Err(HeadError::BareLineFeed));
        assert_eq!(scan(b"\n", 100), Err(HeadError::BareLineFeed));
        assert_eq!(scan(b"A\r\nB\n\r\n\r\n", 100), Err(HeadError::BareLineFeed));
    }

    #[test]
    fn the_limit_counts_the_final_empty_line() {
        assert_eq!(scan(b"A\r\n\r\n", 5), Ok(Some(5)));
        assert_eq!(scan(b"A\r\n\r\nmore", 5), Ok(Some(5)));
        assert_eq!(scan(b"AB\r\n\r\n", 5), Err(HeadError::TooLarge { head_bytes_max: 5 }));
        assert_eq!(scan(b"ABCDE", 5), Err(HeadError::TooLarge { head_bytes_max: 5 }));
        assert_eq!(scan(b"ABCD", 5), Ok(None));
    }

    #[test]
    fn no_limit_reaches_past_the_ceiling() {
        let endless = vec![b'a'; HEAD_BYTES_CEILING + 1];
        let refusal = Err(HeadError::TooLarge { head_bytes_max: HEAD_BYTES_CEILING });
        assert_eq!(scan(&endless, usize::MAX), refusal);
    }

    #[test]
    fn every_byte_is_looked_at_once() {
        let wire = vec![b'a'; 1000];
        let mut scanner = HeadScanner::new();
        for length in 0..wire.len() {
            assert_eq!(scanner.find_end(&wire[..length], &HeadLimits::default()), Ok(None));
            assert_eq!(usize::from(scanner.scanned), length);
        }
    }
}
