//! Echo of large frames piece by piece (`--pieces`).

use picows_uring::{
    EchoListener, Frame, FramePiece, FrameWriter, Listener, ListenerResult, SendStatus, Transport,
};

/// Echoes small frames whole, and of large ones each piece as it comes.
pub(super) struct Relay {
    frame_bytes_whole: u64,
    writer: Option<FrameWriter>,
}

impl Relay {
    pub(super) fn of_frames_above(bytes: u64) -> Self {
        Self { frame_bytes_whole: bytes, writer: None }
    }
}

impl Listener for Relay {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        EchoListener.on_frame(transport, frame)
    }

    fn pieces_of_frames_above(&self) -> Option<u64> {
        Some(self.frame_bytes_whole)
    }

    fn on_piece(&mut self, transport: &Transport, piece: &FramePiece<'_>) -> ListenerResult {
        if piece.offset() == 0 {
            self.writer = Some(transport.write_frame_like(piece)?);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if writer.write(piece.payload()) == SendStatus::Congested {
            // The client is to read before it sends more.
            transport.pause_reading();
        }
        if piece.is_last() {
            self.writer = None;
        }
        Ok(())
    }

    fn resume_writing(&mut self, transport: &Transport) {
        transport.resume_reading();
    }
}
