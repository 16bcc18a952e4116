//! A worker on a ring played by hand, for benchmarks that count instructions.
//!
//! Not part of the library: compiled for tests, and with the feature `fuzzing`. What is counted is
//! the way of a byte through the worker, its sessions and the protocol; the ring under it does next
//! to nothing.

use crate::config::Config;
use crate::health::Counters;
use crate::listener::EchoListener;
use crate::local::{HostKind, Hosting, Local};
use crate::mailbox::Mailbox;
use crate::prepared::Prepared;
use crate::ring::{ReceiveResult, Socket};
use crate::testing::ring::scripted::{ByHand, stalled};
use crate::topics::{Hub, Post, SubscribeOptions, TopicError};
use crate::transport::Transport;
use crate::upgrade::{Factory, Upgrade};
use crate::worker::{Listening, Turn, Worker};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// A worker with the listener [`EchoListener`].
pub struct MeasuredWorker {
    worker: Worker<ByHand>,
}

impl MeasuredWorker {
    /// A worker that listens and has no connection.
    ///
    /// # Errors
    ///
    /// When there is no descriptor for an eventfd.
    pub fn new() -> std::io::Result<Self> {
        Self::with_config(Config::default())
    }

    /// A worker whose connections compress, where their requests offer it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(feature = "deflate")]
    pub fn compressing(settings: crate::Deflate) -> std::io::Result<Self> {
        Self::with_config(Config { deflate: Some(settings), ..Config::default() })
    }

    fn with_config(config: Config) -> std::io::Result<Self> {
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        let config = Arc::new(Config { admission: Some(Arc::default()), ..config });
        let local = Local::new(Arc::clone(&config), Arc::<Counters>::default(), mailbox);
        // Callgrind cannot run what reads the clocks of the kernel.
        local.callback_timer.clock.set(stalled);
        local.budget_rules.clock.set(stalled);
        let factory: Arc<Factory> = Arc::new(|_: &_| Ok(Upgrade::accept(EchoListener)));
        let ring = ByHand::default().with_spare_buffers();
        let mut worker = Worker::new(ring, local);
        worker.listen(Socket(LISTENER), &Listening::new(config, factory));
        Ok(Self { worker })
    }

    /// Takes turns until there is nothing to do, and returns how many bytes have left meanwhile.
    pub fn turn(&mut self) -> usize {
        while matches!(self.worker.turn(), Ok(Turn::Busy)) {}
        let count = self.worker.ring.sent.len();
        self.worker.ring.sent.clear();
        self.worker.ring.closed.clear();
        count
    }

    /// Accepts a connection as `socket`, and returns the length of the answer to `request`.
    pub fn open(&mut self, socket: i32, request: &[u8]) -> usize {
        self.worker.ring.connect(socket);
        self.turn();
        self.deliver(socket, request);
        self.turn()
    }

    /// The peer ends the stream of `socket`, which is closed.
    pub fn end(&mut self, socket: i32) {
        self.worker.ring.end_of(Socket(socket), ReceiveResult::EndOfStream);
        self.turn();
    }

    /// Bytes arrive on `socket`, for the next turn.
    pub fn deliver(&mut self, socket: i32, bytes: &[u8]) {
        self.worker.ring.deliver_to(socket, bytes);
    }

    /// Sends a message on every connection, for the next turn.
    pub fn send_to_all(&mut self, message: &Prepared) {
        for connection in self.worker.connections() {
            connection.session().send_prepared(message);
        }
    }

    /// Subscribes every connection to a topic.
    ///
    /// # Errors
    ///
    /// As [`Hub::subscribe`].
    pub fn subscribe_all(&mut self, hub: &Hub, topic: &str) -> Result<(), TopicError> {
        for connection in self.worker.connections() {
            let transport = Transport::new(Rc::clone(connection.session()));
            hub.subscribe(&transport, topic, SubscribeOptions::new())?.keep();
        }
        Ok(())
    }

    /// Publishes on the thread of the worker, for the next turn.
    ///
    /// # Errors
    ///
    /// As [`Hub::publish`].
    pub fn publish(&mut self, hub: &Hub, topic: &str, post: Post) -> Result<(), TopicError> {
        let _hosting = Hosting::begin(&self.worker.local, HostKind::Embedded);
        hub.publish(topic, post).map(drop)
    }

    /// The socket of a connection that sends alone takes all of it at once.
    pub fn allow_send_now(&mut self) {
        self.worker.ring.room.push_back(Ok(usize::MAX));
    }
}

impl fmt::Debug for MeasuredWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeasuredWorker").finish_non_exhaustive()
    }
}

const LISTENER: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "deflate")]
    fn it_sends_a_message_to_all_as_each_has_agreed() {
        let mut worker = MeasuredWorker::compressing(crate::Deflate::new()).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        assert!(worker.open(7, format!("{request}\r\n").as_bytes()) > 100);
        assert!(worker.open(8, format!("{request}{offer}\r\n").as_bytes()) > 100);
        let text = "the same to all, ".repeat(50);
        let message = Prepared::new(crate::MsgType::Text, &text).unwrap();
        worker.send_to_all(&message);
        let plain = 2 * (text.len() + 4);
        // Both are compressed or plain, but for the one of a connection that has not agreed.
        assert!(worker.turn() < plain, "one compresses it by itself");
        worker.send_to_all(&message.deflate(12));
        let sent = worker.turn();
        assert!(sent > text.len() + 4 && sent < text.len() + 4 + 100, "{sent} bytes");
    }

    #[test]
    fn it_delivers_what_is_published_in_a_turn_at_once() {
        let (mut worker, hub) = (MeasuredWorker::new().unwrap(), Hub::new());
        let request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        (7..9).for_each(|socket| assert!(worker.open(socket, request.as_bytes()) > 100));
        worker.subscribe_all(&hub, "t").unwrap();
        (0..3).for_each(|_| worker.publish(&hub, "t", Post::text("abc")).unwrap());
        assert_eq!(worker.turn(), 2 * 3 * 5);
    }

    #[test]
    fn it_upgrades_echoes_and_ends() {
        let mut worker = MeasuredWorker::new().unwrap();
        for _ in 0..3 {
            let answer = worker.open(
                7,
                b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            );
            assert!(answer > 100, "{answer} bytes");
            for _ in 0..2 {
                worker.deliver(7, &[0x82, 0x81, 0, 0, 0, 0, b'a']);
                worker.allow_send_now();
                assert_eq!(worker.turn(), 3);
            }
            worker.end(7);
        }
    }
}
