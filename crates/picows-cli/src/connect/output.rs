//! From messages to standard output.
//!
//! Writing waits for whoever reads, and the connection with it: that is how a slow reader slows the
//! server down.

use super::backlog::Backlog;
use picows_uring::{Frame, Listener, ListenerResult, MsgType, Transport};
use std::io::{BufWriter, Write};
use std::sync::Arc;

/// Writes what arrives.
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    is_binary: bool,
    backlog: Arc<Backlog>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, is_binary: bool, backlog: Arc<Backlog>) -> Self {
        Self { out: BufWriter::new(out), is_binary, backlog }
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
        self.backlog.end();
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.backlog.set_congested(true);
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.backlog.set_congested(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(frames: &[Frame<'_>], is_binary: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, is_binary, Arc::default());
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
