//! An output stream with a queue and a thread of its own, so that a reader that stops blocks no
//! other thread.
//!
//! Knows bytes and lines only. Dropped lines are counted, and reported once the stream is read
//! again.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// An output stream. Any thread may write to it; only `wait_below` and `flush` block.
pub(crate) struct Output {
    shared: Arc<Shared>,
}

/// Way of reporting dropped lines, given their number.
pub(crate) enum Notice {
    /// As a line of the stream itself, in their place.
    Inline(Box<dyn Fn(u64) -> String + Send>),
    /// By a function: programs read this stream.
    Elsewhere(Box<dyn Fn(u64) + Send>),
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queued: Vec<u8>,
    /// Bytes that the stream's thread has taken and not written.
    writing: usize,
    /// Dropped lines that are not reported so far.
    dropped: u64,
    /// Lines dropped since the start.
    dropped_total: u64,
    /// Whether the last write failed.
    is_failing: bool,
    /// The first failure.
    failure: Option<(io::ErrorKind, String)>,
    /// Called once at most that many bytes are queued, or the stream has failed.
    when_below: Option<(usize, Hook)>,
    when_failed: Option<Hook>,
    /// Whether the thread could not be started.
    is_dead: bool,
    /// Whether all waiting has ended, as the process is about to end.
    is_released: bool,
}

type Hook = Box<dyn FnOnce() + Send>;

impl Output {
    /// Starts the stream's thread, with this name.
    pub(crate) fn start(name: &str, stream: impl Write + Send + 'static, notice: Notice) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let writer = Writer { shared: Arc::clone(&shared), stream, notice, is_cut: false };
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || writer.run());
        if let Err(error) = started {
            let mut state = shared.lock();
            state.fail(&error);
            state.is_dead = true;
        }
        Self { shared }
    }

    /// Queues a line, or drops and counts it if more than [`LINES_BYTES_MAX`] are queued.
    pub(crate) fn line(&self, line: &str) {
        let mut state = self.shared.lock();
        if state.is_dead || state.bytes() + line.len() >= LINES_BYTES_MAX {
            state.drop_lines(1);
        } else {
            state.queued.extend_from_slice(line.as_bytes());
            state.queued.push(b'\n');
        }
        self.shared.changed.notify_all();
    }

    /// Queues `text` if the queue is empty, and otherwise drops it without counting it: for text
    /// that is soon out of date, such as a progress bar.
    pub(crate) fn write_if_idle(&self, text: &str) {
        let mut state = self.shared.lock();
        if state.bytes() == 0 && !state.is_dead {
            state.queued.extend_from_slice(text.as_bytes());
            self.shared.changed.notify_all();
        }
    }

    /// Queues `text` if it fits into the queue.
    pub(crate) fn write_unless_behind(&self, text: &str) {
        let mut state = self.shared.lock();
        if state.bytes() + text.len() < LINES_BYTES_MAX && !state.is_dead {
            state.queued.extend_from_slice(text.as_bytes());
            self.shared.changed.notify_all();
        }
    }

    /// Lets `fill` append to the queue, without a limit, and returns the number of queued bytes, by
    /// which the caller slows down.
    ///
    /// # Errors
    ///
    /// When bytes were lost because the stream could not be written.
    pub(crate) fn write(&self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if let Some(failure) = state.failure() {
            return Err(failure);
        }
        fill(&mut state.queued);
        self.shared.changed.notify_all();
        Ok(state.bytes())
    }

    /// Calls `hook` once at most `bytes` are queued, or the stream has failed: at once if that is
    /// so already, otherwise on the thread of the stream. One hook at a time.
    pub(crate) fn when_below(&self, bytes: usize, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if state.bytes() <= bytes || state.is_failing {
            drop(state);
            return hook();
        }
        state.when_below = Some((bytes, Box::new(hook)));
    }

    /// Calls `hook` when the stream fails for the first time.
    pub(crate) fn when_failed(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if state.failure.is_some() {
            drop(state);
            return hook();
        }
        state.when_failed = Some(Box::new(hook));
    }

    /// Waits until at most `bytes` are queued, the stream has failed, or
    /// [`release`](Self::release).
    pub(crate) fn wait_below(&self, bytes: usize) {
        let mut state = self.shared.lock();
        while state.bytes() > bytes && !state.is_failing && !state.is_released {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends all waiting for this stream, now and later.
    pub(crate) fn release(&self) {
        self.shared.lock().is_released = true;
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written, for at most `limit`.
    ///
    /// # Errors
    ///
    /// When bytes were lost because the stream could not be written, or is not read.
    pub(crate) fn flush(&self, limit: Option<Duration>) -> io::Result<()> {
        let end = limit.map(|limit| Instant::now() + limit);
        let mut state = self.shared.lock();
        while state.bytes() > 0 || (state.dropped > 0 && !state.is_failing) {
            let Some(end) = end else {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!("{} bytes are left, and it is not read", state.bytes());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.failure().map_or(Ok(()), Err)
    }

    /// Returns the first failure of the stream, if there was one.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.shared.lock().failure()
    }

    /// Returns the number of lines dropped so far.
    pub(crate) fn dropped_lines(&self) -> u64 {
        self.shared.lock().dropped_total
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Shared {
    /// Locks the state, which is consistent even after a panic of a thread that held the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bytes(&self) -> usize {
        self.queued.len() + self.writing
    }

    fn drop_lines(&mut self, count: u64) {
        self.dropped += count;
        self.dropped_total += count;
    }

    fn failure(&self) -> Option<io::Error> {
        self.failure.as_ref().map(|(kind, text)| io::Error::new(*kind, text.clone()))
    }

    fn fail(&mut self, error: &io::Error) {
        self.is_failing = true;
        self.failure.get_or_insert_with(|| (error.kind(), error.to_string()));
    }

    /// Takes the hooks that are due. The caller calls them without the lock.
    fn take_hooks(&mut self) -> impl Iterator<Item = Hook> + use<> {
        let bytes = self.bytes();
        let is_failing = self.is_failing;
        let below = self.when_below.take_if(|(limit, _)| bytes <= *limit || is_failing);
        let failed = if is_failing { self.when_failed.take() } else { None };
        below.map(|(_, hook)| hook).into_iter().chain(failed)
    }
}

/// The thread of a stream, which writes the queue.
struct Writer<W> {
    shared: Arc<Shared>,
    stream: W,
    notice: Notice,
    /// Whether the last written bytes end inside a line whose rest is lost.
    is_cut: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let dropped = self.next_batch(&mut batch);
            // A notice by function waits until the stream is known to be read again.
            if dropped > 0
                && let Notice::Inline(notice) = &self.notice
            {
                batch.extend_from_slice(notice(dropped).as_bytes());
            }
            if self.is_cut {
                batch.insert(0, b'\n');
            }
            self.shared.lock().writing = batch.len();
            self.write(&batch, dropped);
        }
    }

    /// Waits for bytes to write. Returns the number of lines dropped behind them.
    fn next_batch(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        let mut state = self.shared.lock();
        // A failed stream is tried again with the next line, not with a notice alone.
        while state.queued.is_empty() && (state.dropped == 0 || state.is_failing) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(batch, &mut state.queued);
        state.writing = batch.len();
        std::mem::take(&mut state.dropped)
    }

    /// Writes `batch`, in pieces that show its progress. If a part of it fails, the `dropped` lines
    /// behind it count as lost, too.
    fn write(&mut self, batch: &[u8], dropped: u64) {
        let mut written = 0;
        while written < batch.len() {
            let end = batch.len().min(written + PIECE_BYTES_MAX);
            match self.stream.write(&batch[written..end]) {
                Ok(count) if count > 0 => written += count,
                Ok(_) => {
                    return self.lose(&batch[written..], dropped, &io::ErrorKind::WriteZero.into());
                }
                Err(error) => {
                    self.is_cut = written > 0 && batch[written - 1] != b'\n';
                    return self.lose(&batch[written..], dropped, &error);
                }
            }
            let mut state = self.shared.lock();
            state.writing = batch.len() - written;
            state.is_failing = false;
            self.after(state);
        }
        self.is_cut = false;
        if dropped > 0
            && let Notice::Elsewhere(notice) = &self.notice
        {
            notice(dropped);
        }
        // A flush may be waiting for the notice.
        self.after(self.shared.lock());
    }

    /// Counts `rest` as lost: the stream has failed.
    fn lose(&self, rest: &[u8], dropped: u64, error: &io::Error) {
        let lines = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        let is_inline = matches!(self.notice, Notice::Inline(_));
        let mut state = self.shared.lock();
        state.writing = 0;
        // The notice itself is no dropped line, and becomes due again.
        state.dropped += dropped;
        state.drop_lines(lines - u64::from(is_inline && dropped > 0));
        state.fail(error);
        self.after(state);
    }

    fn after(&self, mut state: MutexGuard<'_, State>) {
        let hooks = state.take_hooks();
        self.shared.changed.notify_all();
        drop(state);
        hooks.for_each(|hook| hook());
    }
}

/// Most bytes of queued lines: a few seconds of a busy log, and little memory.
pub(crate) const LINES_BYTES_MAX: usize = 256 * 1024;
/// The capacity of a pipe: progress is visible after each piece.
const PIECE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
