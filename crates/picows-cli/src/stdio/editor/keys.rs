//! Keys of a terminal, from its bytes.

/// A key that the editor knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    Enter,
    Backspace,
    /// Deletes what is under the cursor, or ends the input.
    EndOfInput,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    DeleteToStart,
    DeleteToEnd,
    DeleteWord,
    /// Stops the command, until a shell has it go on.
    Suspend,
}

/// Parser of the bytes of keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// An escape sequence, or a character of several bytes, that is not complete.
    begun: Vec<u8>,
}

impl Keys {
    /// Takes a byte. Returns the key that it completes, if the editor knows it.
    pub(super) fn next(&mut self, byte: u8) -> Option<Key> {
        self.begun.push(byte);
        match self.begun[0] {
            ESC => self.next_of_escape(),
            first if first < 0x80 => {
                self.begun.clear();
                control(first).or_else(|| character(char::from(first)))
            }
            _ => self.next_of_character(),
        }
    }

    fn next_of_escape(&mut self) -> Option<Key> {
        let key = match self.begun[1..] {
            [] | [b'[' | b'O'] => return None,
            // Alt and a letter, as shells have it.
            [b'b'] => Some(Key::WordLeft),
            [b'f'] => Some(Key::WordRight),
            // A second one begins anew.
            [ESC] => {
                self.begun.pop();
                return None;
            }
            [b'O', last] => sequence(&[], last),
            [b'[', ref parameters @ .., last @ 0x40..=0x7e] => sequence(parameters, last),
            [b'[', ..] if self.begun.len() < SEQUENCE_BYTES_MAX => return None,
            _ => None,
        };
        self.begun.clear();
        key
    }

    fn next_of_character(&mut self) -> Option<Key> {
        match std::str::from_utf8(&self.begun) {
            Ok(text) => {
                let found = text.chars().next();
                self.begun.clear();
                found.and_then(character)
            }
            Err(error) if error.error_len().is_none() => None,
            Err(_) => {
                self.begun.clear();
                Some(Key::Character(char::REPLACEMENT_CHARACTER))
            }
        }
    }
}

/// Characters that can be in a line: not those that control a terminal.
fn character(found: char) -> Option<Key> {
    (found == '\t' || !found.is_control()).then_some(Key::Character(found))
}

fn control(byte: u8) -> Option<Key> {
    Some(match byte {
        b'\r' | b'\n' => Key::Enter,
        0x7f | 0x08 => Key::Backspace,
        1 => Key::Home,
        2 => Key::Left,
        4 => Key::EndOfInput,
        5 => Key::End,
        6 => Key::Right,
        11 => Key::DeleteToEnd,
        14 => Key::Down,
        16 => Key::Up,
        21 => Key::DeleteToStart,
        23 => Key::DeleteWord,
        26 => Key::Suspend,
        _ => return None,
    })
}

/// The key of a control sequence (ECMA-48 §5.4), as xterm and its kin send it.
fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    let is_word = parameters == b"1;5" || parameters == b"1;3";
    Some(match (last, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if is_word => Key::WordRight,
        (b'D', _) if is_word => Key::WordLeft,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"3") => Key::Delete,
        _ => return None,
    })
}

const ESC: u8 = 0x1b;
/// Longer sequences are none of a key.
const SEQUENCE_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|byte| keys.next(*byte)).collect()
    }

    #[test]
    fn bytes_are_keys_and_unknown_ones_are_nothing() {
        let of = |character| Key::Character(character);
        for (bytes, wanted) in [
            (&b"a\r\n"[..], vec![of('a'), Key::Enter, Key::Enter]),
            ("ü👋\t".as_bytes(), vec![of('ü'), of('👋'), of('\t')]),
            (
                b"\x01\x05\x0b\x15\x17\x1a",
                vec![
                    Key::Home,
                    Key::End,
                    Key::DeleteToEnd,
                    Key::DeleteToStart,
                    Key::DeleteWord,
                    Key::Suspend,
                ],
            ),
            (
                b"\x1b[A\x1bOB\x1b[1;5D\x1b[3~\x1b[H\x1b[4~",
                vec![Key::Up, Key::Down, Key::WordLeft, Key::Delete, Key::Home, Key::End],
            ),
            (b"\x1b[200~x\x1b[201~", vec![of('x')]),
            (b"\x1b[?1;2cx\x07\x00\x1bzx", vec![of('x'), of('x')]),
            (b"\x1b\x1b[Cx", vec![Key::Right, of('x')]),
            (b"\xff\xc2\x9bx", vec![of('\u{fffd}'), of('x')]),
            (b"\xe4x", vec![of('\u{fffd}')]),
        ] {
            assert_eq!(keys(bytes), wanted, "{bytes:?}");
        }
        let endless = [&b"\x1b["[..], &[b'1'; 100], b"x"].concat();
        assert!(keys(&endless).contains(&of('x')), "a sequence has an end");
    }
}
