//! Two servers that share their topics over NATS: a subscriber of one gets what the other publishes.
//!
//! ```sh
//! nats-server -a 127.0.0.1 -p 4222 &
//! cargo run -p picows-uring-nats --example two_nodes -- nats://127.0.0.1:4222
//! ```
//!
//! Then, in two other terminals, what one sends arrives at both:
//!
//! ```sh
//! picows connect ws://127.0.0.1:9011/
//! picows connect ws://127.0.0.1:9012/
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use picows_uring::topics::{Hub, Post, SubscribeOptions};
use picows_uring::{
    ListenerResult, Message, MessageListener, Messages, Server, ServerHandle, Transport, Upgrade,
};
use picows_uring_nats::NatsBus;
use std::error::Error;

/// Publishes what a client sends to the one room that there is, on all nodes.
struct Room(Hub);

impl MessageListener for Room {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.0.subscribe(transport, ROOM, SubscribeOptions::new())?.keep();
        Ok(())
    }

    fn on_message(&mut self, _: &Transport, message: Message<'_>) -> ListenerResult {
        self.0.publish(ROOM, Post::new(message.msg_type(), message.payload().to_vec()))?;
        Ok(())
    }
}

/// A node: usually a process of its own, on another machine.
fn node(nats: &str, address: &str) -> Result<ServerHandle, Box<dyn Error>> {
    let bus = NatsBus::builder(nats).on_status(|status| println!("{status}")).build()?;
    let hub = Hub::new();
    hub.attach(bus)?;
    let room = move |_: &_| Upgrade::accept(Messages::new(Room(hub.clone())));
    Ok(Server::builder().listen(address).workers(1).start(room)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let nats = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let nodes = [node(&nats, "127.0.0.1:9011")?, node(&nats, "127.0.0.1:9012")?];
    for node in &nodes {
        println!("listening on {}", node.addresses()[0]);
    }
    for node in nodes {
        node.join()?;
    }
    Ok(())
}

const ROOM: &str = "rooms.lobby";
