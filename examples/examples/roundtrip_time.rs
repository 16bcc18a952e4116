//! Measures how long a WebSocket server takes to answer pings.
//!
//! cargo run --release -p examples --example roundtrip_time -- ws://127.0.0.1:9001/ 10
//!
//! Prints the shortest, the median and the longest of 10 rounds. See docs/guides/roundtrip.md.

#![allow(clippy::print_stdout, reason = "a program that is to be tried out")]

use picows_uring::{CloseCode, Connect, Frame, Listener, ListenerResult, Transport};
use std::error::Error;
use std::time::Duration;

/// Wants nothing but pongs, and those do not come here.
struct Quiet;

impl Listener for Quiet {
    fn on_frame(&mut self, _transport: &Transport, _frame: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

async fn measure(url: String, rounds: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let transport = Connect::new(url).connect(Quiet).await?;
    let mut durations = transport.measure_roundtrip_time(rounds).await?;
    transport.send_close(CloseCode::NORMAL, "measured");
    transport.wait_disconnected().await?;
    durations.sort_unstable();
    Ok(durations)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: roundtrip_time URL [ROUNDS]")?;
    let rounds = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let durations = picows_uring::run(measure(url, rounds))??;
    for (name, index) in
        [("shortest", 0), ("median", rounds / 2), ("longest", rounds.saturating_sub(1))]
    {
        println!("{name} of {rounds}: {:?}", durations.get(index).ok_or("no rounds")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use picows_uring::{EchoListener, Server, Upgrade};

    #[test]
    fn every_round_is_measured() {
        let builder = Server::builder().listen("127.0.0.1:0").workers(1);
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let url = server.addresses()[0].to_string();
        let durations = picows_uring::run(measure(url, 20)).unwrap().unwrap();
        assert_eq!(durations.len(), 20);
        assert!(durations[0] > Duration::ZERO && durations.is_sorted());
        let stats = server.stop().unwrap();
        assert_eq!(stats.frames_received, 21, "twenty PINGs and a CLOSE");
    }
}
