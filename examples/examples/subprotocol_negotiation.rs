//! Two versions of a protocol on one port: the client offers, the server chooses (RFC 6455 §1.9).
//!
//! `cargo run --release -p examples --example subprotocol_negotiation`, and then:
//!
//! ```text
//! websocat --protocol v2.shout ws://127.0.0.1:9001
//! websocat --protocol v1.echo ws://127.0.0.1:9001
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use http::StatusCode;
use picows_uring::{
    Error, Frame, Listener, ListenerResult, MsgType, Server, Transport, Upgrade, UpgradeRequest,
    UpgradeResponse, select_subprotocol,
};

/// What we speak, the one we like best first.
const SUPPORTED: [&str; 2] = ["v2.shout", "v1.echo"];

fn negotiate(request: &UpgradeRequest) -> Upgrade {
    match select_subprotocol(request, &SUPPORTED) {
        Some(name) => Upgrade::accept(Versioned).with_subprotocol(name),
        // A client that offers nothing could be served as well; this server wants to be asked.
        None => Upgrade::respond(UpgradeResponse::text(
            StatusCode::BAD_REQUEST,
            format!("offer one of {}\n", SUPPORTED.join(", ")),
        )),
    }
}

struct Versioned;

impl Listener for Versioned {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() != MsgType::Text {
            return Ok(());
        }
        // Text that is not UTF-8 is an error, which ends the connection with CLOSE 1011.
        let text = frame.text()?;
        match transport.subprotocol() {
            Some("v2.shout") => transport.send_text(text.to_uppercase()),
            _ => transport.send_text(text),
        };
        Ok(())
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder().listen(address).start(negotiate)?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
