//! The line that is edited, its history, and the part of it that a terminal shows.

use super::keys::Key;
use unicode_width::UnicodeWidthChar;

/// A line with a cursor, and the lines before it.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: Vec<char>,
    /// Characters in front of the cursor.
    cursor: usize,
    history: Vec<String>,
    /// The line of the history that is shown; behind the last one for the new line.
    shown: usize,
    /// The new line, while one of the history is shown.
    draft: Vec<char>,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= CHARACTERS_MAX
    }

    /// Takes the line, which is part of the history then. A new one begins.
    pub(super) fn take(&mut self) -> String {
        let text: String = std::mem::take(&mut self.text).into_iter().collect();
        self.cursor = 0;
        self.draft.clear();
        if !text.is_empty() && self.history.last() != Some(&text) {
            if self.history.len() == HISTORY_LINES_MAX {
                self.history.remove(0);
            }
            self.history.push(text.clone());
        }
        self.shown = self.history.len();
        text
    }

    pub(super) fn edit(&mut self, key: Key) {
        match key {
            Key::Character(character) if !self.is_full() => {
                self.text.insert(self.cursor, character);
                self.cursor += 1;
            }
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::EndOfInput | Key::Delete if self.cursor < self.text.len() => {
                self.text.remove(self.cursor);
            }
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(self.text.len()),
            Key::WordLeft => self.cursor = self.word_start(),
            Key::WordRight => self.cursor = self.word_end(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.text.len(),
            Key::Up => self.show(self.shown.saturating_sub(1)),
            Key::Down => self.show((self.shown + 1).min(self.history.len())),
            Key::DeleteToStart => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            Key::DeleteToEnd => self.text.truncate(self.cursor),
            Key::DeleteWord => {
                let start = self.word_start();
                self.text.drain(start..self.cursor);
                self.cursor = start;
            }
            _ => {}
        }
    }

    /// Shows a line of the history, or the new one again.
    fn show(&mut self, index: usize) {
        if index == self.shown {
            return;
        }
        if self.shown == self.history.len() {
            self.draft = std::mem::take(&mut self.text);
        }
        self.shown = index;
        self.text = match self.history.get(index) {
            Some(line) => line.chars().collect(),
            None => std::mem::take(&mut self.draft),
        };
        self.cursor = self.text.len();
    }

    fn word_start(&self) -> usize {
        let before = &self.text[..self.cursor];
        let end = before.iter().rposition(|it| !it.is_whitespace()).map_or(0, |at| at + 1);
        before[..end].iter().rposition(|it| it.is_whitespace()).map_or(0, |at| at + 1)
    }

    fn word_end(&self) -> usize {
        let behind = &self.text[self.cursor..];
        let start = behind.iter().position(|it| !it.is_whitespace()).unwrap_or(behind.len());
        let length = behind[start..].iter().position(|it| it.is_whitespace());
        self.cursor + start + length.unwrap_or(behind.len() - start)
    }
}

/// Returns the part of a line that fits into so many columns with its cursor, and the column of the cursor.
pub(super) fn view(line: &Line, columns: usize) -> (String, usize) {
    let (before, behind) = line.text.split_at(line.cursor);
    let mut cursor_column = 0;
    // A column is left for the cursor.
    let fits = |character: &&char| {
        cursor_column += width(**character);
        cursor_column < columns.max(1)
    };
    let count = before.iter().rev().take_while(fits).count();
    let before = &before[before.len() - count..];
    let cursor_column: usize = before.iter().copied().map(width).sum();
    let mut used = cursor_column;
    let behind = behind.iter().take_while(|character| {
        used += width(**character);
        used <= columns
    });
    (shown(before.iter().chain(behind).copied()), cursor_column)
}

/// Shows characters, tabs included, each in its place.
pub(super) fn shown(text: impl Iterator<Item = char>) -> String {
    let mut shown = String::new();
    for character in text {
        match character {
            '\t' => shown.push_str("^I"),
            character => shown.push(character),
        }
    }
    shown
}

fn width(character: char) -> usize {
    if character == '\t' { 2 } else { character.width().unwrap_or(0) }
}

const HISTORY_LINES_MAX: usize = 1000;
/// Longer lines are for pipes.
pub(super) const CHARACTERS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let mut line = Line::default();
        text.chars().for_each(|it| line.edit(Key::Character(it)));
        line
    }

    fn text(line: &Line) -> String {
        line.text.iter().collect()
    }

    #[test]
    fn keys_edit_at_the_cursor() {
        use Key::{
            Backspace, Character, Delete, DeleteToEnd, DeleteToStart, DeleteWord, End, EndOfInput,
            Home, Left, Right, WordLeft, WordRight,
        };
        for (start, keys, wanted) in [
            ("helo", &[Left, Character('l')][..], "hello"),
            ("hello", &[Home, Right, Delete], "hllo"),
            ("hello", &[Home, EndOfInput, End, Backspace], "ell"),
            ("one two  three", &[DeleteWord], "one two  "),
            ("one two  three", &[WordLeft, DeleteWord], "one three"),
            ("one two", &[WordLeft, DeleteToStart], "two"),
            ("one two", &[Home, WordRight, DeleteToEnd], "one"),
            ("ab", &[Left, Left, Left, Backspace, Right, Right, Right, Delete], "ab"),
            ("grüße 👋", &[Backspace, Backspace], "grüße"),
        ] {
            let mut line = line(start);
            keys.iter().for_each(|key| line.edit(*key));
            assert_eq!(text(&line), wanted, "{start} {keys:?}");
        }
    }

    #[test]
    fn the_history_keeps_the_new_line() {
        let mut line = line("one");
        assert_eq!(line.take(), "one");
        for (typed, lines) in [("two", 2), ("two", 2), ("", 2)] {
            typed.chars().for_each(|it| line.edit(Key::Character(it)));
            assert_eq!((line.take().as_str(), line.history.len()), (typed, lines));
        }
        line.edit(Key::Character('n'));
        for (key, wanted) in [
            (Key::Up, "two"),
            (Key::Up, "one"),
            (Key::Up, "one"),
            (Key::Down, "two"),
            (Key::Down, "n"),
            (Key::Down, "n"),
        ] {
            line.edit(key);
            assert_eq!(text(&line), wanted, "{key:?}");
        }
        (0..HISTORY_LINES_MAX + 5).for_each(|number| {
            line.text = number.to_string().chars().collect();
            line.take();
        });
        assert_eq!(line.history.len(), HISTORY_LINES_MAX);
    }

    #[test]
    fn a_long_line_is_shown_around_its_cursor_and_fits() {
        let mut line = line("0123456789日本\tend");
        for columns in 0..40 {
            for _ in 0..20 {
                line.edit(Key::Left);
                let (text, cursor) = view(&line, columns);
                let used: usize = text.chars().map(width).sum();
                assert!(
                    used <= columns && cursor <= columns.saturating_sub(1),
                    "{columns}: {text}"
                );
            }
            line.edit(Key::End);
        }
        assert_eq!(view(&line, 5), ("end".to_owned(), 3));
    }
}
