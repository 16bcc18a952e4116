//! A connection in a thread of its own, and the rest of the program beside it.
//!
//! cargo run --release -p examples --example echo_client_threaded -- ws://127.0.0.1:9001/ 10

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{
    CloseCode, Connect, Frame, Listener, ListenerResult, MsgType, RemoteTransport, Transport, run,
};
use std::error::Error;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Events that the connection's thread sends to the others.
enum Event {
    Connected(RemoteTransport),
    Message(String),
}

/// Forwards received messages.
struct Forward(Sender<Event>);

impl Listener for Forward {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        // A handle that may go to other threads, unlike `transport`.
        self.0.send(Event::Connected(transport.remote()))?;
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            self.0.send(Event::Message(frame.text()?.to_owned()))?;
        }
        Ok(())
    }
}

/// The rest of the program: blocking, if it likes.
fn talk(events: &Receiver<Event>, count: usize) -> Result<(), Box<dyn Error>> {
    let Event::Connected(remote) = events.recv()? else {
        return Err("a message before the connection".into());
    };
    for number in 0..count {
        remote.send(MsgType::Text, format!("message {number}"))?;
    }
    for number in 0..count {
        match events.recv()? {
            Event::Message(text) if text == format!("message {number}") => println!("{text}"),
            _ => return Err(format!("message {number} did not come back").into()),
        }
    }
    remote.send_close(CloseCode::NORMAL, "")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001/".to_owned());
    let count = arguments.next().map_or(Ok(10), |count| count.parse())?;

    let (sender, events) = channel();
    let connection = std::thread::spawn(move || -> Result<(), String> {
        let outcome = run(async {
            let transport = Connect::new(url).connect(Forward(sender)).await?;
            transport.wait_disconnected().await?;
            Ok::<(), Box<dyn Error>>(())
        });
        outcome.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    });
    // When the connection ends early, its sender is dropped, and `recv` returns an error.
    let talked = talk(&events, count);
    connection.join().map_err(|_| "the connection's thread panicked")??;
    talked
}
