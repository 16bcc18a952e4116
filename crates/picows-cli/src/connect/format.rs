//! Format of messages on standard output.
//!
//! Works frame by frame, so that a message is not collected, whatever its length.

use crate::stdio::Escaper;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use picows_uring::{Escaped, Frame, MsgType};

/// Format of messages, with the unwritten rest of the last one.
#[derive(Debug)]
pub(super) enum Format {
    /// Unchanged, for programs.
    Plain { has_lines: bool },
    /// Escaped, for terminals.
    Shown { escaper: Escaper, has_lines: bool },
    /// A line of JSON for each.
    Json(Json),
}

impl Format {
    /// Chooses the format. Binary messages end without a line break.
    pub(super) fn new(is_binary: bool, is_json: bool, is_terminal: bool) -> Self {
        match (is_json, is_terminal) {
            (true, _) => Self::Json(Json::default()),
            (false, false) => Self::Plain { has_lines: !is_binary },
            (false, true) if is_binary => {
                Self::Shown { escaper: Escaper::keeping_lines(), has_lines: false }
            }
            (false, true) => Self::Shown { escaper: Escaper::default(), has_lines: true },
        }
    }

    /// Appends a data frame to `out`.
    pub(super) fn append(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Plain { has_lines } => {
                out.extend_from_slice(frame.payload());
                if frame.fin() && *has_lines {
                    out.push(b'\n');
                }
            }
            Self::Shown { escaper, has_lines } => {
                escaper.escape(frame.payload(), out);
                if frame.fin() {
                    escaper.finish(out);
                    out.extend(has_lines.then_some(b'\n'));
                }
            }
            Self::Json(json) => json.append(frame, out),
        }
    }
}

/// Messages as lines of JSON.
#[derive(Debug, Default)]
pub(super) struct Json {
    is_binary: bool,
    /// The beginning of a character, or of a group of three bytes, that the next frame completes.
    cut: Vec<u8>,
}

impl Json {
    fn append(&mut self, frame: &Frame<'_>, out: &mut Vec<u8>) {
        if frame.msg_type() != MsgType::Continuation {
            self.is_binary = frame.msg_type() == MsgType::Binary;
            let head: &[u8] = if self.is_binary {
                br#"{"type":"binary","base64":""#
            } else {
                br#"{"type":"text","text":""#
            };
            out.extend_from_slice(head);
        }
        self.cut.extend_from_slice(frame.payload());
        if self.is_binary {
            let whole = if frame.fin() { self.cut.len() } else { self.cut.len() / 3 * 3 };
            out.extend_from_slice(BASE64_STANDARD.encode(&self.cut[..whole]).as_bytes());
            self.cut.drain(..whole);
        } else {
            let text = match std::str::from_utf8(&self.cut) {
                Ok(text) => text,
                // The library has validated the text, so the frame ends inside a character.
                Err(error) => str::from_utf8(&self.cut[..error.valid_up_to()]).unwrap_or_default(),
            };
            let whole = text.len();
            append_text(text, out);
            self.cut.drain(..whole);
        }
        if frame.fin() {
            self.cut.clear();
            out.extend_from_slice(b"\"}\n");
        }
    }
}

/// Appends the inside of a JSON string: one line without control characters.
fn append_text(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            _ if controls_terminal(character) => append_code(character, out),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether `character` can control a terminal. Letters, by far the most frequent, skip the lookup.
fn controls_terminal(character: char) -> bool {
    if character.is_ascii() || character.is_alphanumeric() {
        return character.is_ascii_control();
    }
    let mut bytes = [0; 4];
    let text: &str = character.encode_utf8(&mut bytes);
    Escaped::new(text).to_string() != text
}

fn append_code(character: char, out: &mut Vec<u8>) {
    let mut units = [0; 2];
    for unit in character.encode_utf16(&mut units) {
        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(mut format: Format, frames: &[Frame<'_>]) -> String {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| format.append(frame, &mut out));
        String::from_utf8(out).unwrap()
    }

    const HOSTILE: &str =
        "\x1b[2J\x1b]0;t\x07 \u{9b}31m \u{202e}gpj\r\nforged\t\"\\ 👩‍🚀 \u{e0041}\0";

    #[test]
    fn messages_are_lines_and_fragments_are_not() {
        let frames = [
            Frame::new(MsgType::Text, b"one"),
            Frame::new(MsgType::Text, b"tw").with_fin(false),
            Frame::new(MsgType::Continuation, b"o"),
        ];
        for is_terminal in [false, true] {
            assert_eq!(written(Format::new(false, false, is_terminal), &frames), "one\ntwo\n");
            assert_eq!(written(Format::new(true, false, is_terminal), &frames), "onetwo");
        }
    }

    #[test]
    fn a_terminal_gets_no_control_characters_and_a_pipe_gets_all() {
        let frames = [Frame::new(MsgType::Text, HOSTILE.as_bytes())];
        assert_eq!(written(Format::new(false, false, false), &frames), HOSTILE.to_owned() + "\n");
        let shown = written(Format::new(false, false, true), &frames);
        assert_eq!(shown.lines().count(), 1);
        assert!(
            shown.starts_with(r"\x1b[2J\x1b]0;t\x07 \u{9b}31m \u{202e}gpj\r\nforged\t"),
            "{shown}"
        );
        let shown = written(Format::new(true, false, true), &frames);
        assert!(shown.contains("\\r\nforged\t\"\\ 👩‍🚀"), "{shown}");
        assert!(!shown.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}', '\0']), "{shown}");
    }

    #[test]
    fn json_is_a_line_a_message_wherever_it_is_cut() {
        for cut in 0..=HOSTILE.len() {
            let (head, tail) = HOSTILE.as_bytes().split_at(cut);
            let frames = |msg_type| {
                [
                    Frame::new(msg_type, head).with_fin(false),
                    Frame::new(MsgType::Continuation, tail),
                    Frame::new(MsgType::Text, b"next"),
                ]
            };
            let text = written(Format::new(false, true, false), &frames(MsgType::Text));
            let lines: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let next = json!({"type": "text", "text": "next"});
            assert_eq!(lines, [json!({"type": "text", "text": HOSTILE}), next.clone()]);
            assert!(!text.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}', '\r', '\0']), "{text}");

            let text = written(Format::new(false, true, true), &frames(MsgType::Binary));
            let lines: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let base64 = BASE64_STANDARD.encode(HOSTILE);
            assert_eq!(lines, [json!({"type": "binary", "base64": base64}), next]);
        }
    }
}
