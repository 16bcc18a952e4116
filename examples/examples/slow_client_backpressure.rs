//! A server whose clients may read slowly, or not at all: four endpoints, four answers to that.
//!
//! `cargo run --release -p examples --example slow_client_backpressure`, and then, with Ctrl-S in the
//! terminal of one to see what a client that does not read costs:
//!
//! ```text
//! websocat ws://127.0.0.1:9001/export
//! websocat ws://127.0.0.1:9001/quotes
//! websocat ws://127.0.0.1:9001/log
//! websocat ws://127.0.0.1:9001/import
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::{
    CloseCode, Error, Frame, Listener, ListenerResult, MsgType, QueuePolicy, SendStatus, Server,
    Transport, Upgrade, UpgradeRequest, spawn,
};
use std::time::Duration;

/// Sends a long file, every line of which matters: as fast as the client takes it.
struct Export {
    next: usize,
    is_paused: bool,
}

impl Export {
    fn pour(&mut self, transport: &Transport) {
        while self.next < LINES && !self.is_paused {
            let status = transport.send_text(line(self.next));
            self.next += 1;
            // `pause_writing` follows, and `resume_writing` when there is room again.
            self.is_paused = status == SendStatus::Congested;
        }
        if self.next == LINES {
            transport.send_close(CloseCode::NORMAL, "that was all");
        }
    }
}

impl Listener for Export {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.pour(transport);
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.is_paused = false;
        self.pour(transport);
    }
}

/// Sends prices, of each of which only the newest matters.
struct Quotes;

impl Listener for Quotes {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let transport = transport.clone();
        spawn(async move {
            let mut replaced = 0;
            for price in 0..PRICES {
                for instrument in 0..INSTRUMENTS {
                    let quote = format!("{instrument}: {price:>400}");
                    // One that still waits for the client gives its place to this one.
                    let status = transport.send_latest(instrument, MsgType::Text, quote);
                    replaced += usize::from(status == SendStatus::Replaced);
                }
                tokio::task::yield_now().await;
            }
            println!("{} quotes, {replaced} replaced", PRICES * INSTRUMENTS);
        })?;
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

/// Sends a log: a client that falls behind misses the oldest lines, and the gaps are counted.
struct Log;

impl Listener for Log {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let transport = transport.clone();
        spawn(async move {
            let mut gaps = 0;
            for number in 0..LINES {
                // The policy of the queue is in `main`.
                let status = transport.send_text(line(number));
                gaps += usize::from(status == SendStatus::DroppedOldest);
                tokio::task::yield_now().await;
            }
            println!("{LINES} lines, {gaps} times the oldest made room");
        })?;
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

/// Takes messages that take their time, one by one: the client is held back meanwhile.
struct Import;

impl Listener for Import {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            let text = frame.text()?.to_owned();
            transport.pause_reading();
            let transport = transport.clone();
            spawn(async move {
                store(&text).await;
                transport.send_text(format!("stored {text}"));
                transport.resume_reading();
            })?;
        }
        Ok(())
    }
}

/// Something slow. Meanwhile, all other connections are served.
async fn store(_: &str) {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

fn line(number: usize) -> String {
    format!("{number:>500}")
}

fn route(request: &UpgradeRequest) -> Upgrade {
    match request.path() {
        "/export" => Upgrade::accept(Export { next: 0, is_paused: false }),
        "/quotes" => Upgrade::accept(Quotes),
        "/log" => Upgrade::accept(Log),
        "/import" => Upgrade::accept(Import),
        _ => Upgrade::not_found(),
    }
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let server = Server::builder()
        .listen(address)
        .write_watermarks(64 * 1024, 16 * 1024)
        .max_queue_size(1024 * 1024, QueuePolicy::DropOldest)
        .start(route)?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}

const LINES: usize = 50_000;
const PRICES: u64 = 2500;
const INSTRUMENTS: u64 = 20;
