//! Escaping of bytes from peers for terminals, and of lines so that they stay one line.

use picows_uring::Escaped;
use std::fmt::Write;

/// Returns `text` as one line without control characters.
pub(crate) fn one_line(text: &str) -> String {
    Escaped::new(text).to_string()
}

/// Escapes the control characters of a log line, except colours.
pub(super) fn log_line(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\x1b[") {
        let (before, sequence) = rest.split_at(at);
        let _ = write!(shown, "{}", Escaped::new(before));
        let length = colour(sequence).unwrap_or(0);
        if length > 0 {
            shown.push_str(&sequence[..length]);
            rest = &sequence[length..];
        } else {
            shown.push_str("\\x1b");
            rest = &sequence[1..];
        }
    }
    let _ = write!(shown, "{}", Escaped::new(rest));
    shown
}

/// Returns the length of the colour sequence (SGR) at the start of `text`, if there is one.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|it: char| !it.is_ascii_digit() && it != ';')?;
    (parameters.as_bytes()[end] == b'm').then_some(end + 3)
}

/// Escaper of messages, piece by piece: a character may be split between two pieces.
#[derive(Debug, Default)]
pub(crate) struct Escaper {
    /// The beginning of a character that the next piece completes.
    cut: Vec<u8>,
    /// Whether line breaks and tabs are kept.
    keeps_lines: bool,
}

impl Escaper {
    /// Makes an escaper for bytes that are not lines.
    pub(crate) fn keeping_lines() -> Self {
        Self { cut: Vec::new(), keeps_lines: true }
    }

    /// Appends `piece` to `out`, except an incomplete character at its end.
    pub(crate) fn escape(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.cut.extend_from_slice(piece);
        let whole = self.cut.len() - cut_len(&self.cut);
        self.append(whole, out);
        self.cut.drain(..whole);
    }

    /// Appends the rest of the message.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.append(self.cut.len(), out);
        self.cut.clear();
    }

    fn append(&self, length: usize, out: &mut Vec<u8>) {
        let bytes = &self.cut[..length];
        if !self.keeps_lines {
            out.extend_from_slice(Escaped::new(bytes).to_string().as_bytes());
            return;
        }
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\t')) {
            let (text, end) = match part.split_last() {
                Some((last @ (b'\n' | b'\t'), text)) => (text, Some(*last)),
                _ => (part, None),
            };
            out.extend_from_slice(Escaped::new(text).to_string().as_bytes());
            out.extend(end);
        }
    }
}

/// Returns the length of an incomplete character at the end of `bytes`.
fn cut_len(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(chunk) if !chunk.invalid().is_empty() => {
            let cut = chunk.invalid();
            let is_open = std::str::from_utf8(cut).is_err_and(|error| error.error_len().is_none());
            if is_open { cut.len() } else { 0 }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_pass_in_a_line_of_the_log() {
        for (line, shown) in [
            (
                "\x1b[2m2026\x1b[0m \x1b[1;33mWARN\x1b[0m",
                "\x1b[2m2026\x1b[0m \x1b[1;33mWARN\x1b[0m",
            ),
            ("a\x1b[2Jb\x1b]0;t\x07\x1b", r"a\x1b[2Jb\x1b]0;t\x07\x1b"),
            ("a\nforged\u{9b}31m\x1b[", r"a\nforged\u{9b}31m\x1b["),
        ] {
            assert_eq!(log_line(line), shown);
        }
    }

    #[test]
    fn characters_may_be_cut_anywhere() {
        let text = "a\x1b[2J\u{9b}31m \u{202e}gpj 👩‍🚀 ü\x07\n\r\t".as_bytes();
        let whole = r"a\x1b[2J\u{9b}31m \u{202e}gpj 👩‍🚀 ü\x07\n\r\t";
        for cut in 0..=text.len() {
            let mut out = Vec::new();
            let mut escaper = Escaper::default();
            escaper.escape(&text[..cut], &mut out);
            escaper.escape(&text[cut..], &mut out);
            escaper.finish(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), whole, "cut={cut}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_numbers_and_lines_may_stay() {
        let mut out = Vec::new();
        let mut escaper = Escaper::keeping_lines();
        escaper.escape(b"one\n\ttwo\x1b\xff", &mut out);
        escaper.escape(b"\xe4\xb8", &mut out);
        escaper.finish(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "one\n\ttwo\\x1b\\xff\\xe4\\xb8");
    }
}
