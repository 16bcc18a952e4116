//! Chat rooms: `/ROOM?name=NAME`. What a member writes, all members of its room get.
//!
//! `cargo run --release -p examples --example chat`, and then in several terminals:
//!
//! ```text
//! websocat 'ws://127.0.0.1:9001/lobby?name=ann'
//! ```

#![allow(clippy::print_stdout, reason = "a program for people")]

use http::StatusCode;
use picows_uring::topics::{Hub, Post, SubscribeOptions};
use picows_uring::{
    CloseCode, Error, ListenerError, ListenerResult, Message, MessageListener, Messages, Server,
    Transport, Upgrade, UpgradeRequest, UpgradeResponse,
};

/// A member of a room.
struct Member {
    hub: Hub,
    room: String,
    name: String,
}

impl Member {
    fn publish(&self, text: &str) -> ListenerResult {
        self.hub.publish(&self.room, Post::text(format!("{} {text}", self.name)))?;
        Ok(())
    }
}

impl MessageListener for Member {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.hub.subscribe(transport, &self.room, SubscribeOptions::new())?.keep();
        self.publish("joined")
    }

    fn on_message(&mut self, _: &Transport, message: Message<'_>) -> ListenerResult {
        match message {
            Message::Text(text) => self.publish(&format!("says {text}")),
            Message::Binary(_) => {
                Err(ListenerError::close(CloseCode::UNSUPPORTED_DATA, "text only"))
            }
        }
    }

    fn on_disconnected(&mut self, _: &Transport) {
        let _ = self.publish("left");
    }
}

fn join(hub: &Hub, request: &UpgradeRequest) -> Upgrade {
    let Some(name) = request.query_value("name") else {
        return Upgrade::respond(UpgradeResponse::text(StatusCode::BAD_REQUEST, "name missing\n"));
    };
    let (hub, room) = (hub.clone(), request.path().trim_matches('/').to_owned());
    Upgrade::accept(Messages::new(Member { hub, room, name: name.into_owned() }))
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".into());
    let hub = Hub::new();
    let server = Server::builder().listen(address).start(move |request| join(&hub, request))?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?; // Until the process ends.
    Ok(())
}
