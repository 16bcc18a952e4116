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

use http::StatusCode;
use picows_uring::{EchoListener, Error, Server, Upgrade, UpgradeRequest, UpgradeResponse};

/// The pages that may connect: scheme, host and port, as a browser spells them (RFC 6454 §6.1).
const ORIGINS: [&str; 2] = ["https://app.example.com", "http://localhost:8080"];

fn check(request: &UpgradeRequest) -> Upgrade {
    let mut origins = request.header_values("origin");
    let is_allowed = match (origins.next(), origins.next()) {
        // No browser: a program can send any Origin it likes, so it has to prove itself otherwise.
        (None, _) => true,
        (Some(origin), None) => ORIGINS.iter().any(|allowed| allowed.as_bytes() == origin),
        (Some(_), Some(_)) => false,
    };
    if is_allowed {
        Upgrade::accept(EchoListener)
    } else {
        Upgrade::respond(UpgradeResponse::text(StatusCode::FORBIDDEN, "not from this page\n"))
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder().listen(address).start(check)?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
