//! Output of messages to standard output.
//!
//! Writing does not block: while the reader is slow, reading from the server is paused, which slows
//! the server down, and signals and timeouts are still handled.

use super::backlog::Backlog;
use super::format::Format;
use crate::stdio::Output;
use picows_uring::{CloseCode, Frame, Listener, ListenerError, ListenerResult, MsgType, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Listener that writes messages to standard output.
pub(super) struct Printer {
    out: &'static Output,
    format: Format,
    backlog: Arc<Backlog>,
    /// CLOSE was sent, and reading is not paused until it is answered.
    is_closing: Arc<AtomicBool>,
    /// Messages to be written, before CLOSE is sent.
    left: u64,
}

impl Printer {
    pub(super) fn new(
        out: &'static Output,
        format: Format,
        backlog: Arc<Backlog>,
        is_closing: Arc<AtomicBool>,
    ) -> Self {
        Self { out, format, backlog, is_closing, left: u64::MAX }
    }

    /// Writes at most so many messages, and then closes.
    pub(super) fn at_most(self, messages: Option<u64>) -> Self {
        Self { left: messages.unwrap_or(u64::MAX), ..self }
    }

    /// Counts a message, and writes it if it is wanted.
    fn receive(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if self.left == 0 {
            // What the server sent before it had our CLOSE.
            return Ok(());
        }
        let is_last = frame.fin() && self.left == 1;
        if is_last {
            self.is_closing.store(true, Ordering::SeqCst);
        }
        self.print(transport, frame)?;
        if frame.fin() {
            self.left -= 1;
        }
        if is_last {
            // Messages before it may have paused reading.
            transport.resume_reading();
            transport.send_close(CloseCode::NORMAL, "");
        }
        Ok(())
    }

    fn print(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let format = &mut self.format;
        let waiting = self.out.write(|queue| format.append(frame, queue)).map_err(|_| {
            // The command reports the cause with its exit status.
            ListenerError::close(CloseCode::GOING_AWAY, "")
        })?;
        if waiting > WAITING_MAX {
            self.slow_down(transport, waiting);
        }
        Ok(())
    }

    fn slow_down(&self, transport: &Transport, waiting: usize) {
        if self.is_closing.load(Ordering::SeqCst) {
            // A pause would delay the answer to CLOSE beyond its timeout.
            if waiting > CLOSING_WAITING_MAX {
                self.out.wait_below(CLOSING_WAITING_MAX / 2);
            }
        } else if !transport.is_reading_paused() {
            transport.pause_reading();
            let remote = transport.remote();
            self.out.when_below(WAITING_MAX / 2, move || {
                // A connection that has ended reads no more.
                let _ = remote.resume_reading();
            });
        }
    }
}

impl Listener for Printer {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        match frame.msg_type() {
            MsgType::Text | MsgType::Binary | MsgType::Continuation => {
                self.receive(transport, frame)
            }
            MsgType::Close | MsgType::Ping | MsgType::Pong => Ok(()),
        }
    }

    fn on_disconnected(&mut self, _: &Transport) {
        self.backlog.end();
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.backlog.set_congested(true);
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.backlog.set_congested(false);
    }
}

/// Bytes that keep a reader busy until reading from the server has resumed.
const WAITING_MAX: usize = 1 << 20;
/// Bytes that a server may have sent before it received our CLOSE.
const CLOSING_WAITING_MAX: usize = 64 << 20;
