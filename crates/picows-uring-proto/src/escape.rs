//! Escaped text: what peers and callers sent, as it may be shown to people and to line-based logs.
//!
//! Changes no data: what is delivered, stored or sent stays as it is.

use std::fmt::{self, Write};

/// Displays foreign text so that it can neither steer a terminal nor forge a line of a log.
///
/// Escaped are control characters (C0, DEL and C1, so also ESC, CR and LF), line and paragraph
/// separators, marks that change the direction of text or cannot be seen, and bytes that are not
/// UTF-8. Everything else is shown as it is. [`quoted`](Self::quoted) adds quotation marks, and
/// [`at_most`](Self::at_most) cuts.
///
/// ```
/// use picows_uring_proto::Escaped;
///
/// assert_eq!(Escaped::new("bücher\x1b[2J\r\n").to_string(), r"bücher\x1b[2J\r\n");
/// assert_eq!(Escaped::new(b"a\"\xff").quoted().to_string(), r#""a\"\xff""#);
/// assert_eq!(Escaped::new("abcdef").quoted().at_most(3).to_string(), r#""abc"..."#);
/// ```
#[derive(Clone, Copy)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
    bytes_max: usize,
    is_quoted: bool,
}

impl<'a> Escaped<'a> {
    /// All of `text`, without quotation marks.
    #[must_use]
    pub fn new(text: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { bytes: text.as_ref(), bytes_max: usize::MAX, is_quoted: false }
    }

    /// Adds quotation marks; those in the text, and backslashes, are escaped.
    #[must_use]
    pub const fn quoted(mut self) -> Self {
        self.is_quoted = true;
        self
    }

    /// Shows no more than `bytes_max` bytes of the text, cut between characters, with `...` behind.
    #[must_use]
    pub const fn at_most(mut self, bytes_max: usize) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    fn write_char(self, f: &mut fmt::Formatter<'_>, character: char) -> fmt::Result {
        match character {
            '"' | '\\' if self.is_quoted => write!(f, "\\{character}"),
            '\n' => f.write_str("\\n"),
            '\r' => f.write_str("\\r"),
            '\t' => f.write_str("\\t"),
            '\0'..='\x7f' if character.is_control() => write!(f, "\\x{:02x}", u32::from(character)),
            _ if steers(character) => write!(f, "{}", character.escape_unicode()),
            _ => f.write_char(character),
        }
    }

    /// Writes the text; returns whether it was cut.
    fn write_text(self, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
        let mut left = self.bytes_max;
        for chunk in self.bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let Some(rest) = left.checked_sub(character.len_utf8()) else { return Ok(true) };
                left = rest;
                self.write_char(f, character)?;
            }
            for byte in chunk.invalid() {
                let Some(rest) = left.checked_sub(1) else { return Ok(true) };
                left = rest;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(false)
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.is_quoted { "\"" } else { "" };
        f.write_str(quote)?;
        let is_cut = self.write_text(f)?;
        f.write_str(quote)?;
        if is_cut { f.write_str("...") } else { Ok(()) }
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.quoted(), f)
    }
}

/// Whether `character` acts on what shows it, or is text that cannot be seen. The joiners U+200C
/// and U+200D stay: scripts and emoji are spelt with them, and they reach no further than their
/// neighbours.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Bytes shown of a name, a header value or anything else that is short unless it is wrong.
pub const SHOWN_BYTES_MAX: usize = 64;

/// Bytes shown of a URL, a path or a body: what a line of a log can hold.
pub const SHOWN_TEXT_BYTES_MAX: usize = 512;

/// A name or a value in an error text: in quotation marks, escaped, cut.
pub(crate) fn short(text: &(impl AsRef<[u8]> + ?Sized)) -> Escaped<'_> {
    Escaped::new(text).quoted().at_most(SHOWN_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_a_terminal_or_ends_a_line_is_escaped() {
        for (text, shown) in [
            ("plain text, ünïcode, 日本, 👩‍🚀", "plain text, ünïcode, 日本, 👩‍🚀"),
            ("a\"\\b", "a\"\\b"),
            ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
            ("\u{9b}31m\u{85}", r"\u{9b}31m\u{85}"),
            ("a\r\nERROR forged\tline\0\x7f", r"a\r\nERROR forged\tline\x00\x7f"),
            ("\u{202e}gpj\u{2066}\u{200f}", r"\u{202e}gpj\u{2066}\u{200f}"),
            ("\u{2028}\u{2029}\u{feff}\u{200b}", r"\u{2028}\u{2029}\u{feff}\u{200b}"),
        ] {
            assert_eq!(Escaped::new(text).to_string(), shown);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_numbers() {
        assert_eq!(Escaped::new(b"\xff\xe4\xb8!\xc3\xa4").to_string(), "\\xff\\xe4\\xb8!ä");
    }

    #[test]
    fn quotes_can_be_told_from_those_of_the_text() {
        let quoted = Escaped::new("a\"b\\").quoted();
        assert_eq!(quoted.to_string(), r#""a\"b\\""#);
        assert_eq!(format!("{:?}", Escaped::new("a\n")), r#""a\n""#);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        for (limit, shown) in [(0, "..."), (1, "a..."), (2, "a..."), (3, "aä..."), (4, "aäb")] {
            assert_eq!(Escaped::new("aäb").at_most(limit).to_string(), shown);
        }
        assert_eq!(short(&"x".repeat(65)).to_string(), format!("\"{}\"...", "x".repeat(64)));
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_harmless_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            text in any::<String>(),
            limit in 0_usize..80,
        ) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let shown = Escaped::new(bytes).quoted().at_most(limit).to_string();
                prop_assert!(!shown.chars().any(steers), "{:?}", shown);
                prop_assert!(shown.len() <= 4 * limit.min(bytes.len()) + 5, "{:?}", shown);
            }
        }
    }
}
