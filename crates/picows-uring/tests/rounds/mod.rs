//! A client that exchanges messages with an echo server, one after the other.

use picows_uring::{CloseCode, Frame, Listener, ListenerResult, MsgType, Transport};

/// Sends the same message so many times, checks each echo, and sends CLOSE.
pub(crate) struct Rounds {
    pub(crate) payload: Vec<u8>,
    pub(crate) left: usize,
}

impl Listener for Rounds {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send(MsgType::Binary, &self.payload);
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Close {
            return Ok(());
        }
        let len = frame.payload().len();
        assert!(frame.payload() == self.payload, "{len} bytes of {}", self.payload.len());
        self.left -= 1;
        if self.left == 0 {
            transport.send_close(CloseCode::NORMAL, "done");
        } else {
            transport.send(MsgType::Binary, &self.payload);
        }
        Ok(())
    }
}
