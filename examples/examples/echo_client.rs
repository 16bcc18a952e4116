//! Connects to an echo server, and checks that everything comes back as it was sent.
//!
//! cargo run --release -p examples --example echo_client -- ws://127.0.0.1:9001/ 5 65536
//!
//! Sends text and binary messages of the sizes given (or of some that matter), one at a time, then
//! a ping, and closes. Ends with status 1 when an echo is wrong.

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{
    CloseCode, CloseFrame, Connect, Frame, Listener, ListenerResult, MsgType, Transport, run,
};
use std::error::Error;
use std::time::Duration;

/// Sends messages one after the other, each when the one before has come back.
struct Echoes {
    /// What is still to be sent, the next one last.
    messages: Vec<(MsgType, Vec<u8>)>,
    /// What has to come next.
    expected: Option<(MsgType, Vec<u8>)>,
}

impl Echoes {
    fn new(sizes: &[usize]) -> Self {
        let mut messages = vec![(MsgType::Ping, b"are you there".to_vec())];
        for size in sizes {
            let bytes = (0..*size).map(|index| (index % 251) as u8).collect();
            let text = "0123456789abcdef".bytes().cycle().take(*size).collect();
            messages.extend([(MsgType::Binary, bytes), (MsgType::Text, text)]);
        }
        messages.reverse();
        Self { messages, expected: None }
    }

    fn send_next(&mut self, transport: &Transport) {
        let Some((msg_type, payload)) = self.messages.pop() else {
            transport.send_close(CloseCode::NORMAL, "done");
            return;
        };
        transport.send(msg_type, &payload);
        let answer = if msg_type == MsgType::Ping { MsgType::Pong } else { msg_type };
        self.expected = Some((answer, payload));
    }
}

impl Listener for Echoes {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.send_next(transport);
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Close {
            return Ok(());
        }
        let Some((msg_type, payload)) = self.expected.take() else {
            return Err(format!("{frame:?} answers nothing").into());
        };
        if frame.msg_type() != msg_type || frame.payload() != payload {
            return Err(format!("{frame:?} is no echo of {} bytes", payload.len()).into());
        }
        println!("{msg_type:?} of {} bytes: as it was sent", payload.len());
        self.send_next(transport);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let mut sizes = arguments.map(|size| size.parse()).collect::<Result<Vec<usize>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![0, 125, 126, 65_535, 65_536, 1 << 20];
    }

    run(async {
        let transport = Connect::new(url)
            .handshake_timeout(Duration::from_secs(10))
            .connect(Echoes::new(&sizes))
            .await?;
        // An error of the listener comes out here.
        transport.wait_disconnected().await?;

        let close = transport.close_handshake();
        match close.received.as_ref().and_then(CloseFrame::code) {
            Some(CloseCode::NORMAL) if !close.received_first => Ok(()),
            _ => Err(format!("not closed: {close:?}, {:?}", transport.disconnect_cause()).into()),
        }
    })?
}
