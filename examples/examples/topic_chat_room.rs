//! Chat rooms with history: who comes back with the position of the last message gets what was said
//! meanwhile.
//!
//! `cargo run --release -p examples --example topic_chat_room`, and then in several terminals:
//!
//! ```text
//! websocat ws://127.0.0.1:9001/room/lobby
//! websocat 'ws://127.0.0.1:9001/room/lobby?from=5f3a000000000001:2'
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use http::StatusCode;
use picows_uring::topics::{
    Format, History, Hub, Post, Publication, Recovery, Start, SubscribeOptions, Subscription,
    TopicName, TopicSettings,
};
use picows_uring::{
    ApiMisuse, Frame, Listener, ListenerResult, MsgType, Prepared, Server, Transport, Upgrade,
    UpgradeRequest, UpgradeResponse,
};
use std::error::Error;
use std::time::Duration;

/// A member of a room.
struct Member {
    hub: Hub,
    topic: String,
    start: Start,
    format: Format,
    subscription: Option<Subscription>,
}

impl Listener for Member {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        let options = SubscribeOptions::new().start(self.start).format(self.format.clone());
        // Before the first message, and before anybody else's.
        let options = options.on_start(|transport, recovery| {
            transport.send_text(match recovery {
                Recovery::Recovered { count, .. } => format!("{count} messages so far"),
                _ => "too much was said meanwhile, or nothing".to_owned(),
            });
        });
        self.subscription = Some(self.hub.subscribe(transport, &self.topic, options)?);
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.msg_type() == MsgType::Text {
            self.hub.publish(&self.topic, Post::text(frame.text()?.to_owned()))?;
        }
        Ok(())
    }
}

/// Each message with its position, with which its reader can come back.
fn with_position(publication: &Publication) -> Result<Prepared, ApiMisuse> {
    let position = publication.position().to_string();
    Prepared::new(MsgType::Text, [position.as_bytes(), b" ", publication.payload()].concat())
}

/// The room and the start that a request asks for.
fn wanted(request: &UpgradeRequest) -> Option<(String, Start)> {
    let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
    let topic = format!("rooms.{}", path.strip_prefix("/room/")?);
    TopicName::check(&topic).ok()?;
    let start = match query.strip_prefix("from=") {
        Some(position) => Start::From(position.parse().ok()?),
        None => Start::Last(50),
    };
    Some((topic, start))
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let history = History::last(1000).age(Duration::from_secs(24 * 60 * 60));
    let hub = Hub::builder().settings(TopicSettings::new().history(history)).build()?;
    // One for all, so that a worker makes each message once.
    let format = Format::new(with_position);
    let server = Server::builder().listen(address).start(move |request| {
        let Some((topic, start)) = wanted(request) else {
            let response = UpgradeResponse::new(StatusCode::NOT_FOUND);
            return Upgrade::respond(response.with_body("rooms are at /room/NAME\n"));
        };
        let (hub, format) = (hub.clone(), format.clone());
        Upgrade::accept(Member { hub, topic, start, format, subscription: None })
    })?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?; // Until the process ends.
    Ok(())
}
