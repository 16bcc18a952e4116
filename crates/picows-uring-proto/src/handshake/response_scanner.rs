//! Finds the final answer of a server in a buffer that grows, and where its head ends.
//!
//! Passes over interim responses (RFC 9110 §15.2) and judges nothing else. Each byte is looked at
//! once however small the reads are.

use super::head::HeadError;
use super::{HeadLimits, HeadScanner};

/// Interim responses (1xx but 101) that are passed over in front of the final one. RFC 9110 §15.2
/// has a client read them and names no number; servers send one or two (100, 103).
pub const INTERIM_RESPONSES_MAX: u8 = 8;

/// Remembers how much of a growing buffer has been searched for an answer.
///
/// Use one per handshake, always with the same buffer, which may only grow at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseScanner {
    /// Where the head begins that is looked at: behind the interim responses.
    start: u16,
    interim_count: u8,
    /// For the head of a 101.
    strict: HeadScanner,
    /// For any other: prefix of it that is known to hold no empty line.
    scanned: u16,
}

/// The end of a head, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadEnd {
    /// Nothing yet.
    Open,
    /// So far from its start.
    At(usize),
    /// Beyond the limit.
    TooFar,
}

impl ResponseScanner {
    /// A scanner that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { start: 0, interim_count: 0, strict: HeadScanner::new(), scanned: 0 }
    }

    /// Where the head begins that is looked at.
    pub(super) fn start(&self) -> usize {
        usize::from(self.start)
    }

    /// The bytes of that head that may be looked at, as far as they have arrived; interim
    /// responses count towards the limit.
    pub(super) fn known<'a>(&self, input: &'a [u8], limits: &HeadLimits) -> &'a [u8] {
        let end = input.len().min(limits.head_bytes());
        input.get(self.start()..end).unwrap_or_default()
    }

    /// Finds the end of a head whose lines have to end with CRLF.
    pub(super) fn find_strict_end(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, HeadError> {
        let head_bytes_max = limits.head_bytes();
        let left = HeadLimits { head_bytes_max: head_bytes_max - self.start(), ..*limits };
        let input = input.get(self.start()..).unwrap_or_default();
        self.strict.find_end(input, &left).map_err(|fault| match fault {
            HeadError::TooLarge { .. } => HeadError::TooLarge { head_bytes_max },
            fault => fault,
        })
    }

    /// Finds the end of a head whose lines may end with LF alone, as RFC 9112 §2.2 allows.
    pub(super) fn find_lenient_end(&mut self, input: &[u8], limits: &HeadLimits) -> HeadEnd {
        let known = self.known(input, limits);
        let mut at = usize::from(self.scanned).min(known.len());
        while let Some(distance) = known[at..].iter().position(|&byte| byte == b'\n') {
            let line_feed = at + distance;
            let before = &known[..line_feed];
            if before.ends_with(b"\n") || before.ends_with(b"\n\r") {
                self.scanned = u16::try_from(line_feed).unwrap_or(u16::MAX);
                return HeadEnd::At(line_feed + 1);
            }
            at = line_feed + 1;
        }
        self.scanned = u16::try_from(known.len()).unwrap_or(u16::MAX);
        if input.len() < limits.head_bytes() { HeadEnd::Open } else { HeadEnd::TooFar }
    }

    /// Passes over an interim response of `length` bytes; `false` when there were too many.
    pub(super) fn skip_interim(&mut self, length: usize) -> bool {
        if self.interim_count == INTERIM_RESPONSES_MAX {
            return false;
        }
        let start = u16::try_from(self.start() + length).unwrap_or(u16::MAX);
        *self = Self { start, interim_count: self.interim_count + 1, ..Self::new() };
        true
    }
}
