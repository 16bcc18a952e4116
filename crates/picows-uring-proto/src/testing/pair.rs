//! Two ends of a connection in memory, and a clock that the test moves.
//!
//! Knows no rule of the protocol: an [`End`] drives an [`Endpoint`](crate::Endpoint) as a
//! runtime does, and a [`Pair`] carries bytes between two of them, cut as a [`Delivery`] says.
//! The conversations are in `pair/`, each run at every split.

mod closing;
mod end;
mod handshakes;
mod messages;
mod opening;
mod rfc6455;

use crate::close::CloseFrame;
use crate::endpoint::EndpointRules as Rules;
use crate::frame::Role;
use crate::tick::Tick;
use end::{End, Event, Speak};
use std::time::Duration;

/// How the bytes of one direction arrive.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    /// All that is under way at once.
    Whole,
    ByteByByte,
    /// Whole, but cut after so many bytes since the pair was made.
    SplitAt(usize),
}

/// A client and a server with nothing but bytes between them.
struct Pair {
    client: End,
    server: End,
    now: Tick,
    delivery: Delivery,
    /// How many bytes have arrived at the client, and at the server.
    to_client: usize,
    to_server: usize,
}

impl Pair {
    /// A client that has its request ready and a server that waits for it.
    fn connecting(delivery: Delivery, rules: &Rules) -> Self {
        Self {
            client: End::new(Role::Client, rules, START),
            server: End::new(Role::Server, rules, START),
            now: START,
            delivery,
            to_client: 0,
            to_server: 0,
        }
    }

    /// Both ends after the handshake, which took no bytes.
    fn open(delivery: Delivery) -> Self {
        Self::open_with(delivery, &Rules::default())
    }

    fn open_with(delivery: Delivery, rules: &Rules) -> Self {
        let mut pair = Self::connecting(delivery, rules);
        pair.client.skip_handshake();
        pair.server.skip_handshake();
        pair
    }

    /// Carries bytes and ends of streams both ways until neither end has anything to say.
    fn deliver(&mut self) {
        loop {
            let to_server = self.client.take_wire();
            let to_client = self.server.take_wire();
            if to_server.is_empty() && to_client.is_empty() {
                let is_over = !self.server.see_end_of(&self.client, self.now)
                    && !self.client.see_end_of(&self.server, self.now);
                if is_over {
                    return;
                }
            }
            self.deliver_to_server(&to_server);
            self.deliver_to_client(&to_client);
        }
    }

    /// Lets bytes arrive at the server, from any writer.
    fn deliver_to_server(&mut self, bytes: &[u8]) {
        for piece in self.delivery.pieces(&mut self.to_server, bytes) {
            self.server.receive(self.now, piece);
        }
    }

    /// Lets bytes arrive at the client, from any writer.
    fn deliver_to_client(&mut self, bytes: &[u8]) {
        for piece in self.delivery.pieces(&mut self.to_client, bytes) {
            self.client.receive(self.now, piece);
        }
    }

    /// Moves the clock of both ends; nothing is carried meanwhile.
    fn advance(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }
}

impl Delivery {
    /// Cuts what arrives after `carried` bytes of the same direction, and counts it.
    fn pieces<'a>(self, carried: &mut usize, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let start = *carried;
        *carried += bytes.len();
        match self {
            Self::ByteByByte => bytes.chunks(1).collect(),
            Self::SplitAt(at) if start < at && at < *carried => {
                let (front, back) = bytes.split_at(at - start);
                vec![front, back]
            }
            Self::Whole | Self::SplitAt(_) if bytes.is_empty() => vec![],
            Self::Whole | Self::SplitAt(_) => vec![bytes],
        }
    }
}

/// Runs a conversation with every delivery, and checks that it makes no difference to either end:
/// not to what it saw, nor to what it said, nor to where it stands.
fn at_every_split(conversation: impl Fn(Delivery) -> Pair) -> Pair {
    let whole = conversation(Delivery::Whole);
    let bytes_max = whole.to_client.max(whole.to_server);
    let splits = (1..bytes_max).map(Delivery::SplitAt);
    for delivery in splits.chain([Delivery::ByteByByte]) {
        let pair = conversation(delivery);
        assert_eq!(pair.client.history(), whole.client.history(), "client, {delivery:?}");
        assert_eq!(pair.server.history(), whole.server.history(), "server, {delivery:?}");
    }
    whole
}

/// Not zero, so that a time since the origin is not mistaken for a duration.
const START: Tick = Tick::from_nanos(7_000_000_000);
