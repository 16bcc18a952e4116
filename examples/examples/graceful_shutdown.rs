//! A server that ends well: on SIGINT (Ctrl-C) or SIGTERM, each connection gets CLOSE 1001, what was
//! queued still leaves, and connections that have not closed after ten seconds are dropped. A second signal
//! drops them at once.
//!
//! `cargo run --release -p examples --example graceful_shutdown`

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{EchoListener, Server, Upgrade};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before the server starts, so that no signal is missed.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder()
        .listen(address)
        .drain_timeout(Duration::from_secs(10))
        // Not all of them at once: they may all come back.
        .drain_spread(Duration::from_secs(2))
        .start(|_request| Upgrade::accept(EchoListener))?;
    println!("listening on {}", server.addresses()[0]);

    // The server has threads of its own: this one has nothing to do but wait.
    signals.forever().next();

    println!("closing {} connections", server.stats().connections);
    let stopper = server.stopper();
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            stopper.stop_within(Duration::ZERO);
        }
    });
    // Returns when the last connection is gone.
    let stats = server.stop()?;
    println!("served {} connections, {} frames", stats.upgraded, stats.frames_received);
    Ok(())
}
