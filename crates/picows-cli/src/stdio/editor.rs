//! Line editor at a terminal: keys in, lines out, and the output of the command above the line.
//!
//! Knows no connection. Drawing and output share a lock, so that output never lands inside the line that is edited.

mod keys;
mod line;

use super::descriptor::{Descriptor, Input};
use keys::{Key, Keys};
use line::{Line, view};
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use rustix::termios::{tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGCONT, SIGWINCH};
use signal_hook::iterator::Signals;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The editor of this process, once it has one.
static EDITOR: OnceLock<Editor> = OnceLock::new();

/// An editor of lines on standard input and output.
struct Editor {
    /// The terminal's settings before, which hold again at the end.
    saved: Termios,
    /// Until the end. Beside the lock, which an end does not wait for.
    is_active: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Line,
    /// The line is on the terminal.
    is_drawn: bool,
    /// Output ended inside a line, which has to be continued before the line can be drawn.
    is_output_cut: bool,
}

/// Starts the editor if standard input and output are a terminal that can draw a line again.
///
/// # Errors
///
/// When the terminal cannot be set.
pub(crate) fn start_editor() -> io::Result<Option<Lines>> {
    let is_dumb = std::env::var_os("TERM").is_none_or(|it| it.is_empty() || it == "dumb");
    if is_dumb || !super::in_is_terminal() || !super::out_is_terminal() {
        return Ok(None);
    }
    let saved = tcgetattr(io::stdin())?;
    let state = Mutex::default();
    if EDITOR.set(Editor { saved, is_active: AtomicBool::new(true), state }).is_err() {
        return Ok(None);
    }
    let Some(editor) = EDITOR.get() else { return Ok(None) };
    editor.resume()?;
    // A shell sets the terminal when the command goes on, and its width may change.
    let mut signals = Signals::new([SIGCONT, SIGWINCH])?;
    let follow = move || {
        for _ in signals.forever() {
            let _ = editor.resume();
        }
    };
    thread::Builder::new().name("picows-terminal".to_owned()).spawn(follow)?;
    let lines = Lines { editor, keys: Keys::default(), unread: VecDeque::new(), ready: Vec::new() };
    Ok(Some(lines))
}

/// Ends the editor, if there is one: the terminal is as it was. Blocks for a moment at most, and is
/// harmless when repeated.
pub(crate) fn end_editor() {
    if let Some(editor) = EDITOR.get() {
        editor.end();
    }
}

impl Editor {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the terminal, and draws the line again.
    fn resume(&self) -> io::Result<()> {
        let mut state = self.lock();
        if !self.is_active() {
            return Ok(());
        }
        let mut raw = self.saved.clone();
        // Keys that raise signals stay: Ctrl-C and Ctrl-\. Before Ctrl-Z stops anything, the terminal is given back.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        raw.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        if !self.is_active() {
            // The end came meanwhile.
            return Ok(tcsetattr(io::stdin(), OptionalActions::Now, &self.saved)?);
        }
        self.draw(&mut state);
        Ok(())
    }

    fn is_active(&self) -> bool {
        self.is_active.load(Ordering::SeqCst)
    }

    fn draw(&self, state: &mut State) {
        if !self.is_active() || state.is_output_cut {
            return;
        }
        let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { super::COLUMNS } else { columns };
        let (text, cursor) = view(&state.line, columns.saturating_sub(PROMPT.len() + 1));
        let cursor = cursor + PROMPT.len();
        print(&format!("{CLEAR}{PROMPT}{text}\r\x1b[{cursor}C"));
        state.is_drawn = true;
    }

    fn end(&self) {
        let mut is_drawn = self.is_active.swap(false, Ordering::SeqCst);
        let limit = Instant::now() + ERASE_LIMIT;
        while is_drawn && Instant::now() < limit {
            // A thread that has the lock draws nothing more, but may wait for a terminal that is stopped.
            match self.state.try_lock() {
                Ok(mut state) => {
                    state.erase();
                    is_drawn = false;
                }
                Err(_) => thread::sleep(ERASE_RETRY),
            }
        }
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.saved);
    }

    /// Stops the processes that the terminal would stop without an editor. It is as it was meanwhile: not each
    /// shell sets it.
    fn suspend(&self) -> io::Result<()> {
        if tcgetpgrp(io::stdin()) != Ok(getpgrp()) {
            // Not the terminal of this session: it stops nothing.
            return Ok(());
        }
        let mut state = self.lock();
        state.erase();
        tcsetattr(io::stdin(), OptionalActions::Now, &self.saved)?;
        kill_current_process_group(Signal::TSTP)?;
        // Any thread of this process may take the signal, and stops the others then. The kernel ignores it where
        // no shell could have the process go on.
        thread::sleep(STOP_LIMIT);
        drop(state);
        self.resume()
    }

    /// Writes output of the command above the line.
    fn write_above(
        &self,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut state = self.lock();
        state.erase();
        let outcome = write(bytes);
        if let Ok(count) = &outcome
            && let Some(last) = bytes[..*count].last()
        {
            state.is_output_cut = *last != b'\n';
        }
        self.draw(&mut state);
        outcome
    }

    /// Obeys a key.
    fn press(&self, key: Key) -> Pressed {
        let mut state = self.lock();
        match key {
            Key::Enter => {
                state.erase();
                let text = state.line.take();
                if !state.is_output_cut {
                    print(&format!("{PROMPT}{}\n", line::shown(text.chars())));
                }
                self.draw(&mut state);
                Pressed::Line(text)
            }
            Key::EndOfInput if state.line.is_empty() => Pressed::End,
            Key::Suspend => Pressed::Suspend,
            Key::Character(_) if state.line.is_full() => Pressed::TooMuch,
            key => {
                state.line.edit(key);
                Pressed::Nothing
            }
        }
    }
}

impl State {
    fn erase(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            print(CLEAR);
        }
    }
}

/// Writes to the terminal itself; output that fails is reported by the stream.
fn print(text: &str) {
    let _ = Descriptor(io::stdout()).write_all(text.as_bytes());
}

/// What a key led to.
enum Pressed {
    Nothing,
    Line(String),
    Suspend,
    End,
    /// The line takes no more, and a part of it is not what the user wants to send.
    TooMuch,
}

/// The edited lines, as bytes with line ends.
pub(crate) struct Lines {
    editor: &'static Editor,
    keys: Keys,
    unread: VecDeque<u8>,
    ready: Vec<u8>,
}

impl Lines {
    /// Returns the next line; `None` at the end of the input.
    fn next_line(&mut self) -> io::Result<Option<String>> {
        loop {
            while let Some(byte) = self.unread.pop_front() {
                let pressed = self.keys.next(byte).map(|key| self.editor.press(key));
                match pressed {
                    Some(Pressed::Line(line)) => return Ok(Some(line)),
                    Some(Pressed::Suspend) => self.editor.suspend()?,
                    Some(Pressed::End) => return Ok(None),
                    Some(Pressed::TooMuch) => return Err(too_long()),
                    Some(Pressed::Nothing) | None => {}
                }
            }
            // Once for all keys that came together, such as a paste.
            self.editor.draw(&mut self.editor.lock());
            let mut piece = [0; 4096];
            match Input(io::stdin()).read(&mut piece)? {
                // Ctrl-D is a key here, so this is no end that the user wants.
                0 => {
                    let text = "the terminal has hung up";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
                count => self.unread.extend(&piece[..count]),
            }
        }
    }
}

fn too_long() -> io::Error {
    let limit = line::CHARACTERS_MAX;
    io::Error::other(format!("a line is over {limit} characters: send it through a pipe"))
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            match self.next_line()? {
                Some(line) => self.ready = (line + "\n").into_bytes(),
                None => {
                    self.editor.end();
                    return Ok(0);
                }
            }
        }
        let count = self.ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }
}

/// An output stream whose bytes appear above the line of the editor, if there is one.
pub(super) struct Above<T> {
    pub(super) stream: Descriptor<T>,
    pub(super) is_terminal: bool,
}

impl<T: AsFd> Write for Above<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match EDITOR.get() {
            Some(editor) if self.is_terminal => {
                editor.write_above(bytes, |bytes| self.stream.write(bytes))
            }
            _ => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PROMPT: &str = "> ";
/// Wait for the lock at the end: a draw takes microseconds.
const ERASE_LIMIT: Duration = Duration::from_millis(100);
const ERASE_RETRY: Duration = Duration::from_millis(1);
/// Within this time a stop has begun, unless the kernel ignores it.
const STOP_LIMIT: Duration = Duration::from_millis(500);
/// A special character of a terminal that no key has (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;
/// Clears the line of the cursor, and goes to its start.
const CLEAR: &str = "\r\x1b[K";
