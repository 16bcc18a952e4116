//! From messages to standard output.
//!
//! Writing waits for whoever reads, and the connection with it: that is how a slow reader slows the
//! server down.

use picows_uring::{Frame, Listener, ListenerResult, MsgType, Transport};
use std::cell::Cell;
use std::io::{BufWriter, Write};
use std::rc::Rc;
use tokio::sync::Notify;

/// Writes what arrives.
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    is_binary: bool,
    pub(super) congestion: Rc<Congestion>,
}

/// Whether more is to be sent than the server takes.
#[derive(Debug, Default)]
pub(super) struct Congestion {
    is_on: Cell<bool>,
    changed: Notify,
}

impl Congestion {
    /// Waits until the server has taken most of it, or never will.
    pub(super) async fn over(&self) {
        while self.is_on.get() {
            self.changed.notified().await;
        }
    }

    fn set(&self, is_on: bool) {
        self.is_on.set(is_on);
        self.changed.notify_one();
    }
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, is_binary: bool) -> Self {
        Self { out: BufWriter::new(out), is_binary, congestion: Rc::default() }
    }

    fn print(&mut self, frame: &Frame<'_>) -> std::io::Result<()> {
        self.out.write_all(frame.payload())?;
        if frame.fin() && !self.is_binary {
            self.out.write_all(b"\n")?;
        }
        if frame.last_in_buffer() {
            self.out.flush()?;
        }
        Ok(())
    }
}

impl<W: Write> Listener for Printer<W> {
    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let outcome = match frame.msg_type() {
            MsgType::Text | MsgType::Binary | MsgType::Continuation => self.print(frame),
            MsgType::Close | MsgType::Ping | MsgType::Pong => self.out.flush(),
        };
        outcome.map_err(|error| format!("standard output cannot be written: {error}"))?;
        Ok(())
    }

    fn on_disconnected(&mut self, _: &Transport) {
        // Nobody is left to be told.
        let _ = self.out.flush();
        self.congestion.set(false);
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.congestion.set(true);
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.congestion.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(frames: &[Frame<'_>], is_binary: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, is_binary);
        for frame in frames {
            printer.print(frame).unwrap();
        }
        drop(printer);
        out
    }

    #[test]
    fn messages_are_lines_and_fragments_are_not() {
        let frames = [
            Frame::new(MsgType::Text, b"one"),
            Frame::new(MsgType::Text, b"tw").with_fin(false),
            Frame::new(MsgType::Continuation, b"o"),
        ];
        assert_eq!(printed(&frames, false), b"one\ntwo\n");
        assert_eq!(printed(&frames, true), b"onetwo");
    }
}
