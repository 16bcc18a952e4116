//! The smallest server: every message comes back.
//!
//! `cargo run --release -p examples --example echo_server`, and then, in another terminal,
//! `websocat ws://127.0.0.1:9001`. An address to listen on may be given.

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{Error, Frame, Listener, ListenerResult, Server, Transport, Upgrade};

/// Made for each connection; what it has to remember of one would be its fields.
struct Echo;

impl Listener for Echo {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        // The frame is lent for the time of the call. What is sent is queued, and leaves when this
        // returns. PING and CLOSE are answered without us.
        transport.forward(frame);
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder().listen(address).start(|_request| Upgrade::accept(Echo))?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?; // Until the process ends.
    Ok(())
}
