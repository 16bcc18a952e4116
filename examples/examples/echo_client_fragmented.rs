//! A message sent in fragments, with a PING between two of them, and read back whole.
//!
//! `cargo run --release -p examples --example echo_client_fragmented`, with `echo_server` running.
//! A URL may be given.

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{
    CloseCode, Connect, Frame, ListenerResult, Message, MessageListener, Messages, MsgType,
    Transport, run,
};
use std::error::Error;

struct Client;

impl MessageListener for Client {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        // Pieces that are all there are sent in one go. They may cut a character.
        transport.send_fragments(MsgType::Text, "Здравствуй, мир".as_bytes().chunks(7));
        // A writer takes pieces that come later.
        let mut writer = transport.message_writer(MsgType::Binary);
        writer.write([1, 2, 3]);
        transport.send_ping("between two fragments");
        writer.finish([4, 5]);
        Ok(())
    }

    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        match message {
            Message::Text(text) => println!("text: {text}"),
            Message::Binary(bytes) => {
                println!("binary: {bytes:?}");
                transport.send_close(CloseCode::NORMAL, "done");
            }
        }
        Ok(())
    }

    fn on_control(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Pong {
            println!("pong: {}", frame.text()?);
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or("ws://127.0.0.1:9001".into());
    run(async move {
        // A message of more than 1 MiB, all fragments together, would be answered with CLOSE 1009.
        let listener = Messages::new(Client).max_message_size(1 << 20);
        let transport = Connect::new(url).connect(listener).await?;
        transport.wait_disconnected().await?;
        Ok(())
    })?
}
