//! A relay: each client is connected with a server behind it, which gets the path and query of its request.
//!
//! `cargo run --release -p examples --example relay_to_upstream -- 127.0.0.1:9001 ws://127.0.0.1:9002`

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{Connect, Server, SpawnError, Upgrade, relay, spawn};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:9001".into());
    let upstream = arguments.next().unwrap_or("ws://127.0.0.1:9002".into());
    let server = Server::builder().listen(address).start(move |request| {
        let (near, far) = relay();
        let connect = Connect::new(format!("{upstream}{}", request.target()));
        // Without a connection, `far` is dropped, and the client gets CLOSE 1014.
        spawn(connect.connect(far))?;
        Ok::<_, SpawnError>(Upgrade::accept(near))
    })?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?; // Until the process ends.
    Ok(())
}
