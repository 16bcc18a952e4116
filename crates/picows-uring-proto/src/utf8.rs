//! UTF-8 that arrives in pieces.
//!
//! Says no at the first byte that no continuation can mend (RFC 6455 §8.1); keeps at most the
//! three bytes of a character that is not complete.

/// Checks a text that arrives in pieces of any size.
///
/// ```
/// use picows_uring_proto::internal::Utf8Stream;
///
/// let mut stream = Utf8Stream::default();
/// let (first, second) = "я".as_bytes().split_at(1);
/// assert!(stream.feed(first).is_ok() && !stream.is_complete());
/// assert!(stream.feed(second).is_ok() && stream.is_complete());
/// assert!(stream.feed(b"\xff").is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    /// The start of a character whose rest has not arrived; valid as far as it goes.
    partial: [u8; 3],
    /// How many bytes of `partial` are in use: 0..=3.
    partial_len: u8,
}

/// The text can no longer become UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

impl Utf8Stream {
    /// A stream before its first byte.
    #[must_use]
    pub const fn new() -> Self {
        Self { partial: [0; 3], partial_len: 0 }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// When what has arrived so far is the start of no UTF-8 text. The stream is of no use then.
    #[inline]
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        // Not by `feed_to`, whose call costs as much as a short text.
        if self.partial_len == 0 && simdutf8::basic::from_utf8(piece).is_ok() {
            return Ok(());
        }
        self.feed_slowly(piece, |_| {})
    }

    /// Takes the next piece, and appends to `text` what is complete of it.
    ///
    /// # Errors
    ///
    /// As for [`feed`](Self::feed).
    #[inline]
    pub fn append(&mut self, piece: &[u8], text: &mut String) -> Result<(), InvalidUtf8> {
        self.feed_to(piece, |complete| text.push_str(complete))
    }

    /// Whether the text may end here: no character is begun and unfinished.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.partial_len == 0
    }

    /// How many bytes of an unfinished character have arrived: 0..=3.
    pub(crate) fn partial_len(&self) -> usize {
        usize::from(self.partial_len)
    }

    #[inline]
    fn feed_to(&mut self, piece: &[u8], mut sink: impl FnMut(&str)) -> Result<(), InvalidUtf8> {
        if self.partial_len == 0
            && let Ok(text) = simdutf8::basic::from_utf8(piece)
        {
            sink(text);
            return Ok(());
        }
        self.feed_slowly(piece, sink)
    }

    fn feed_slowly(
        &mut self,
        mut piece: &[u8],
        mut sink: impl FnMut(&str),
    ) -> Result<(), InvalidUtf8> {
        while self.partial_len > 0 {
            let Some((byte, rest)) = piece.split_first() else { return Ok(()) };
            piece = rest;
            let len = usize::from(self.partial_len);
            let mut longer = [0; 4];
            longer[..len].copy_from_slice(&self.partial[..len]);
            longer[len] = *byte;
            match std::str::from_utf8(&longer[..=len]) {
                Ok(character) => {
                    sink(character);
                    self.partial_len = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                // Of four bytes, the longest character is complete.
                Err(_) => match self.partial.get_mut(len) {
                    Some(next) => {
                        *next = *byte;
                        self.partial_len += 1;
                    }
                    None => return Err(InvalidUtf8),
                },
            }
        }
        // The compatible flavour separates an unfinished character at the end from a broken one.
        match simdutf8::compat::from_utf8(piece) {
            Ok(text) => {
                sink(text);
                Ok(())
            }
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                let (complete, tail) = piece.split_at(error.valid_up_to());
                sink(simdutf8::basic::from_utf8(complete).map_err(|_| InvalidUtf8)?);
                self.partial[..tail.len()].copy_from_slice(tail);
                self.partial_len = tail.len() as u8;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many bytes of `text` are accepted one by one before it is refused.
    fn accepted_bytes(text: &[u8]) -> usize {
        let mut stream = Utf8Stream::default();
        text.iter().take_while(|byte| stream.feed(&[**byte]).is_ok()).count()
    }

    #[test]
    fn fails_at_the_first_byte_that_cannot_be_mended() {
        assert_eq!(accepted_bytes(b"\xf4\x90"), 1); // Past U+10FFFF.
        assert_eq!(accepted_bytes(b"\xed\xa0\x80"), 1); // A surrogate.
        assert_eq!(accepted_bytes(b"\xc0\x80"), 0); // Overlong.
        assert_eq!(accepted_bytes(b"\xe0\x80"), 1); // Overlong.
        assert_eq!(accepted_bytes(b"ab\x80"), 2); // A continuation without a start.
        assert_eq!(accepted_bytes("κόσμε".as_bytes()), "κόσμε".len());
    }

    proptest! {
        #[test]
        fn agrees_with_the_whole_text_however_it_is_cut(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..80),
                ".{0,40}".prop_map(String::into_bytes),
            ],
            cuts in proptest::collection::vec(0..80_usize, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut stream = Utf8Stream::default();
            let fed = cuts.windows(2).all(|pair| stream.feed(&text[pair[0]..pair[1]]).is_ok());
            prop_assert_eq!(fed && stream.is_complete(), std::str::from_utf8(&text).is_ok());
            let (mut stream, mut joined) = (Utf8Stream::default(), String::new());
            let appended = |pair: &[usize]| stream.append(&text[pair[0]..pair[1]], &mut joined);
            prop_assert_eq!(cuts.windows(2).map(appended).all(|it| it.is_ok()), fed);
            if fed {
                let partial_len = stream.partial_len();
                prop_assert_eq!(joined.as_bytes(), &text[..text.len() - partial_len]);
            }
        }
    }
}
