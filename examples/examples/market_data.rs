//! Quotes: lines `SYMBOL PRICE` of standard input go to the clients at `/SYMBOL`. Each gets the last price
//! at once, and then the newest that it is fast enough to read. The end of the input ends the server.
//!
//! `cargo run --release -p examples --example market_data`, and then in another terminal:
//!
//! ```text
//! websocat ws://127.0.0.1:9001/SAP
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use picows_uring::topics::{
    History, Hub, Post, SlowPolicy, Start, SubscribeOptions, TopicName, TopicSettings,
};
use picows_uring::{Frame, Listener, ListenerResult, Server, Transport, Upgrade, UpgradeRequest};
use std::error::Error;

/// A client of one symbol.
struct Reader {
    hub: Hub,
    symbol: String,
}

impl Listener for Reader {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let options = SubscribeOptions::new().start(Start::Last(1)).policy(SlowPolicy::latest());
        self.hub.subscribe(transport, &self.symbol, options)?.keep();
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

fn read(hub: &Hub, request: &UpgradeRequest) -> Upgrade {
    let symbol = request.path().trim_start_matches('/').to_owned();
    if TopicName::check(&symbol).is_err() {
        return Upgrade::not_found();
    }
    Upgrade::accept(Reader { hub: hub.clone(), symbol })
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let newest = TopicSettings::new().history(History::last(1));
    let quotes = Hub::builder().settings(newest).build()?;
    let hub = quotes.clone();
    let server = Server::builder().listen(address).start(move |request| read(&hub, request))?;
    println!("listening on {}", server.addresses()[0]);
    for line in std::io::stdin().lines() {
        if let Some((symbol, price)) = line?.split_once(' ') {
            quotes.publish(symbol, Post::text(price.to_owned()))?;
        }
    }
    server.stop()?; // CLOSE 1001 for each client.
    Ok(())
}
