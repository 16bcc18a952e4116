//! From messages to standard output.
//!
//! Writing does not wait: a reader that is slow has reading from the server paused, and so slows it
//! down, while signals and timeouts are obeyed.

use super::backlog::Backlog;
use super::format::Format;
use crate::stdio::Output;
use picows_uring::{CloseCode, Frame, Listener, ListenerError, ListenerResult, MsgType, Transport};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes what arrives.
pub(super) struct Printer {
    out: &'static Output,
    format: Format,
    backlog: Arc<Backlog>,
    /// CLOSE was sent, and what arrives until it is answered is read without a pause.
    is_closing: Arc<AtomicBool>,
}

impl Printer {
    pub(super) fn new(
        out: &'static Output,
        format: Format,
        backlog: Arc<Backlog>,
        is_closing: Arc<AtomicBool>,
    ) -> Self {
        Self { out, format, backlog, is_closing }
    }

    fn print(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let format = &mut self.format;
        let waiting = self.out.write(|queue| format.append(frame, queue)).map_err(|_| {
            // The status of the command says why.
            ListenerError::close(CloseCode::GOING_AWAY, "")
        })?;
        if waiting > WAITING_MAX {
            self.slow_down(transport, waiting);
        }
        Ok(())
    }

    fn slow_down(&self, transport: &Transport, waiting: usize) {
        if self.is_closing.load(Ordering::SeqCst) {
            // A pause would have the answer to CLOSE come too late.
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
            MsgType::Text | MsgType::Binary | MsgType::Continuation => self.print(transport, frame),
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

/// Enough to keep a reader busy while the server is asked for more.
const WAITING_MAX: usize = 1 << 20;
/// What a server may have sent before it got our CLOSE, or may still send.
const CLOSING_WAITING_MAX: usize = 64 << 20;
