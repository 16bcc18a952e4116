//! Quotes of many instruments: one thread publishes, and each client gets those that it wants, as new
//! as it can read them.
//!
//! `cargo run --release -p examples --example topic_market_data`, and then, with Ctrl-S in the
//! terminal of one to see that it misses quotes and never gets an old one:
//!
//! ```text
//! websocat ws://127.0.0.1:9001/quotes.XETRA.SAP
//! websocat 'ws://127.0.0.1:9001/quotes.*.*'
//! websocat 'ws://127.0.0.1:9001/quotes.>?above=150'
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use http::StatusCode;
use picows_uring::topics::{
    History, Hub, Post, SlowPolicy, Start, SubscribeOptions, TopicError, TopicName, TopicSettings,
};
use picows_uring::{
    Frame, Listener, ListenerResult, Server, Transport, Upgrade, UpgradeRequest, UpgradeResponse,
};
use std::error::Error;
use std::time::Duration;

/// A client, with the instruments and the least price that it wants.
struct Reader {
    hub: Hub,
    subject: String,
    above: f64,
}

impl Listener for Reader {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let above = self.above;
        let options = SubscribeOptions::new()
            // The last quote of each instrument, and then the new ones.
            .start(Start::Last(1))
            // A client that is slow gets the latest of each instrument, not all that there were.
            .policy(SlowPolicy::latest())
            .filter(move |quote| {
                let price = quote.header("price").and_then(|price| price.parse::<f64>().ok());
                price.is_some_and(|price| price >= above)
            });
        // For as long as the connection.
        self.hub.subscribe(transport, &self.subject, options)?.keep();
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }
}

/// Publishes quotes for ever.
fn quote(hub: &Hub) -> Result<(), TopicError> {
    for tick in 0_u32.. {
        for (instrument, price) in INSTRUMENTS {
            let price = (price + f64::from(tick % 100) / 10.0).to_string();
            let text = format!(r#"{{"instrument":"{instrument}","price":{price}}}"#);
            let topic = format!("quotes.{instrument}");
            hub.publish(&topic, Post::text(text).header("price", &price))?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What a request asks for.
fn wanted(request: &UpgradeRequest) -> Option<(String, f64)> {
    let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
    let subject = path.strip_prefix('/')?.to_owned();
    TopicName::check_pattern(&subject).ok()?;
    let above = query.strip_prefix("above=").map_or(Ok(0.0), str::parse);
    Some((subject, above.ok()?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let last_value = TopicSettings::new().history(History::last(1));
    let hub = Hub::builder().settings_of("quotes.>", last_value).build()?;
    let readers = hub.clone();
    let server = Server::builder().listen(address).start(move |request| match wanted(request) {
        Some((subject, above)) => Upgrade::accept(Reader { hub: readers.clone(), subject, above }),
        None => Upgrade::respond(UpgradeResponse::new(StatusCode::BAD_REQUEST)),
    })?;
    println!("listening on {}", server.addresses()[0]);
    Ok(quote(&hub)?)
}

const INSTRUMENTS: [(&str, f64); 3] =
    [("XETRA.SAP", 180.0), ("XETRA.BAS", 45.0), ("NASDAQ.MSFT", 410.0)];
