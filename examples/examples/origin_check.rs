//! A server for the pages of one site: a browser names the page that opens a WebSocket, and sends the
//! cookies of the server along whichever it is, so that is what keeps other sites out.
//!
//! `cargo run --release -p examples --example origin_check`, and then:
//!
//! ```text
//! websocat --origin https://app.example.com ws://127.0.0.1:9001
//! websocat --origin https://evil.example ws://127.0.0.1:9001
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{EchoListener, OriginPolicy, Server, Upgrade};

/// The pages that may connect: scheme, host and port, as a browser spells them (RFC 6454 §6.1).
const ORIGINS: [&str; 2] = ["https://app.example.com", "http://localhost:8080"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder()
        .listen(address)
        // Requests without Origin pass: no browser sends them, so they carry no stranger's cookies.
        .origins(OriginPolicy::list(ORIGINS)?)
        .start(|_request| Upgrade::accept(EchoListener))?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
