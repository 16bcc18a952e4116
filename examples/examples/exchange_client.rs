//! A client of an exchange: proves who it is, subscribes, prints messages, and connects again when the
//! connection is lost.
//!
//! `cargo run --release -p examples --example exchange_client -- ws://127.0.0.1:9001/feed KEY 10`

#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use picows_uring::{AutoPing, Backoff, Connect, ConnectError, Reconnect, run};
use std::error::Error;
use std::time::Duration;

const SUBSCRIBE: &str = r#"{"op":"subscribe","channel":"trades"}"#;

/// Prints `left` messages, over as many connections as it takes.
async fn print_trades(connect: Connect, mut left: usize) -> Result<(), ConnectError> {
    let backoff = Backoff::default().initial(Duration::from_millis(10));
    let mut reconnect =
        Reconnect::new(move || connect.clone()).backoff(backoff).on_connected(|transport| {
            transport.send_text(SUBSCRIBE);
        });
    loop {
        let mut stream = reconnect.stream().await?;
        while let Some(message) = stream.next().await {
            let Some(text) = message.as_text() else { continue };
            println!("{text}");
            left -= 1;
            if left == 0 {
                stream.close().await;
                return Ok(());
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, key, count] = &arguments[..] else {
        return Err("usage: exchange_client URL KEY COUNT".into());
    };
    let connect = Connect::new(url)
        .header("X-Api-Key", key)
        .auto_ping(AutoPing::new(Duration::from_secs(10), Duration::from_secs(5)));
    run(print_trades(connect, count.parse()?))??;
    Ok(())
}
