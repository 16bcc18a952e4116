//! A worker with one connection, a kernel played by hand and a clock moved by hand: what the rules
//! of the protocol crate lead to.

mod accepting;
#[cfg(feature = "deflate")]
mod at_once;
#[cfg(feature = "deflate")]
mod bombs;
mod budget;
mod deadlines;
mod failing;
mod flood;
mod foreign;
mod full;
mod greed;
mod in_place;
mod kept_alive;
mod large;
mod listening;
mod log;
mod measuring;
mod memory;
mod offers;
mod out_of_memory;
mod pings;
mod posts;
mod progress;
mod queue;
mod requests;
#[cfg(feature = "_tls")]
mod secure;
mod sending;
mod spans;
mod stopping;
mod turn_budget;
mod watching;

use super::*;
use crate::admission::Admission;
use crate::config::QueuePolicy;
use crate::health::{Counters, Stats};
use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::mailbox::Mailbox;
use crate::ring::{ListenerId, ReceiveResult, SendState};
use crate::status::DisconnectCause;
use crate::testing::ring::checked::Checked;
use crate::testing::ring::scripted::{ByHand, stall, stalled};
use crate::transport::Transport;
use crate::upgrade::{Factory, Upgrade};
use picows_uring_proto::{AutoPing, CloseCode, Frame, MsgType, Wheel};
use std::cell::RefCell;

const SECOND: Duration = Duration::from_secs(1);
/// Timers fire at the next granule.
const GRANULE: Duration = Wheel::GRANULARITY;

/// How the listener of a fixture behaves.
#[derive(Clone, Copy, Default)]
struct Manner {
    pings_as_text: bool,
    /// It is asked for pings, and sends none.
    pings_never: bool,
    ping_fails: bool,
    pong_panics: bool,
    going_away_takes: Duration,
    tells_pauses: bool,
}

thread_local! {
    /// What the listener saw, and its transport.
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static TRANSPORT: RefCell<Option<Transport>> = const { RefCell::new(None) };
}

fn see(what: impl Into<String>) {
    SEEN.with_borrow_mut(|seen| seen.push(what.into()));
}

fn seen() -> Vec<String> {
    SEEN.take()
}

struct Actor(Manner);

impl Listener for Actor {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        TRANSPORT.set(Some(transport.clone()));
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if let Some(millis) = frame.payload().strip_prefix(b"stall ") {
            stall(Duration::from_millis(std::str::from_utf8(millis)?.parse()?));
        }
        see(format!("{:?} {}", frame.msg_type(), String::from_utf8_lossy(frame.payload())));
        if frame.payload() == b"that was it" {
            transport.notify_user_specific_pong_received();
        }
        if frame.payload().len() > 1000 {
            transport.forward(frame);
        }
        if frame.payload() == b"work" {
            stall(Duration::from_micros(10));
        }
        if frame.payload() == b"close" {
            transport.send_close(CloseCode::NORMAL, "");
        }
        if frame.payload() == b"end the last" {
            self::transport().abort();
        }
        Ok(())
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        if self.0.ping_fails {
            return Err("no ping today".into());
        }
        if self.0.pings_never {
            see("asked for a ping");
        } else if self.0.pings_as_text {
            transport.send_text("ping");
        } else {
            transport.send_auto_ping();
        }
        Ok(())
    }

    fn is_user_specific_pong(
        &mut self,
        transport: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        see("asked");
        assert!(!self.0.pong_panics, "no pong today");
        Ok(transport.is_auto_pong(frame) || self.0.pings_as_text && frame.payload() == b"pong")
    }

    fn pause_writing(&mut self, _: &Transport) {
        if self.0.tells_pauses {
            see("pause");
        }
    }

    fn resume_writing(&mut self, _: &Transport) {
        if self.0.tells_pauses {
            see("resume");
        }
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        stall(self.0.going_away_takes);
        see(transport
            .disconnect_cause()
            .map_or_else(String::new, |it| format!("disconnected {}", name(&it))));
    }
}

/// For tests that count how often a worker is woken for something else.
fn without_looks(config: &mut Config) {
    (config.progress.message_timeout, config.progress.write_stall_timeout) = (None, None);
}

struct Fixture {
    worker: Worker<Checked<ByHand>>,
}

impl Fixture {
    /// A connection that was upgraded at 0 s, by a server that pings after 10 s and waits 5 s.
    fn new(manner: Manner, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.liveness.auto_ping = Some(AutoPing::new(10 * SECOND, 5 * SECOND));
        change(&mut config);
        let mut fixture = Self::listening(manner, config);
        fixture.join(7);
        fixture
    }

    /// A further connection, that is upgraded.
    fn join(&mut self, socket: i32) {
        self.worker.ring.connect(socket);
        self.turn();
        self.worker.ring.deliver_to(
            socket,
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        self.turn();
        assert!(self.worker.ring.sent.starts_with(b"HTTP/1.1 101"));
        self.worker.ring.sent.clear();
    }

    fn listening(manner: Manner, config: Config) -> Self {
        Self::listening_on(manner, config, &[3])
    }

    fn listening_on(manner: Manner, mut config: Config, sockets: &[i32]) -> Self {
        seen();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        config.admission = Some(Arc::default());
        let config = Arc::new(config);
        let local = Local::new(Arc::clone(&config), Arc::<Counters>::default(), mailbox);
        local.callback_timer.clock.set(stalled);
        local.budget_rules.clock.set(stalled);
        let factory: Arc<Factory> = Arc::new(move |_: &_| Ok(Upgrade::accept(Actor(manner))));
        let mut worker = Worker::new(Checked::<ByHand>::default(), local);
        let listening = Listening::new(config, factory);
        for socket in sockets {
            worker.listen(Socket(*socket), &listening);
        }
        Self { worker }
    }

    /// The accepting of a fixture that listens.
    fn accept(&mut self) -> &mut Accept {
        self.worker.accept.as_mut().unwrap()
    }

    /// What counts the connections of a fixture that listens.
    fn admission(&self) -> &Arc<Admission> {
        self.worker.local.config.admission.as_ref().unwrap()
    }

    /// Has `factory` answer the requests of connections that are accepted from now on.
    fn answer_with(&mut self, factory: Arc<Factory>) {
        self.accept().answer_with(&factory);
    }

    /// Takes turns until there is nothing to do.
    fn turn(&mut self) {
        while self.worker.turn().unwrap() == Turn::Busy {}
        self.worker.ring.gather();
    }

    /// Goes to a point in time, woken as the worker wants to be; returns how often that was.
    fn go(&mut self, to: Duration) -> usize {
        let mut wakes = 0;
        while let Some(wake) = self.worker.ring.deadline.filter(|wake| *wake <= to) {
            self.worker.ring.now = wake.max(self.worker.ring.now);
            self.turn();
            wakes += 1;
        }
        self.worker.ring.now = to;
        self.turn();
        wakes
    }

    fn deliver(&mut self, bytes: &[u8]) {
        self.worker.ring.deliver(bytes);
        self.turn();
    }

    /// A frame of the client, masked with zeros.
    fn say(&mut self, opcode: u8, payload: &[u8]) {
        self.deliver(&frame(opcode, payload));
    }

    /// The same on a socket.
    fn say_to(&mut self, socket: i32, opcode: u8, payload: &[u8]) {
        self.worker.ring.deliver_to(socket, &frame(opcode, payload));
        self.turn();
    }

    /// The short frames that were sent since the last call.
    fn heard(&mut self) -> Vec<(u8, Vec<u8>)> {
        let bytes = std::mem::take(&mut self.worker.ring.sent);
        let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
        while let [first, len, body @ ..] = rest {
            let (payload, after) = body.split_at(usize::from(*len));
            frames.push((first & 0xF, payload.to_vec()));
            rest = after;
        }
        frames
    }

    /// Waits for the ping at 10 s, and returns what it carries.
    fn ping(&mut self) -> Vec<u8> {
        self.ping_at(10 * SECOND + GRANULE)
    }

    /// Waits for a ping, and returns what it carries.
    fn ping_at(&mut self, time: Duration) -> Vec<u8> {
        self.go(time);
        let heard = self.heard();
        let [(PING, nonce)] = &heard[..] else { panic!("{heard:?}") };
        nonce.clone()
    }

    fn stats(&self) -> Stats {
        self.worker.local.counters.read()
    }

    fn is_gone(&self) -> bool {
        self.worker.ring.closed.contains(&Socket(7))
    }
}

/// A cause without its text.
fn name(cause: &DisconnectCause) -> String {
    match cause {
        DisconnectCause::Io(kind) => format!("Io({kind:?})"),
        other => format!("{other:?}").split('(').next().unwrap().to_owned(),
    }
}

/// A frame of a client, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

fn transport() -> Transport {
    TRANSPORT.with_borrow(|transport| transport.clone().unwrap())
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[test]
fn a_large_frame_that_came_in_pieces_is_sent_on_from_where_it_lies() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let mut frame = vec![0x82, 0xFE, 0x10, 0x00, 1, 2, 3, 4];
    frame.extend((0..0x1000).map(|index| b'a' ^ [1, 2, 3, 4][index % 4]));
    for _ in 0..3 {
        fixture.worker.ring.is_stuck = true;
        fixture.deliver(&frame[..100]);
        fixture.deliver(&frame[100..]);
        let parts = fixture.worker.ring.sending();
        let [header, payload] = parts[..] else { panic!("{} parts", parts.len()) };
        assert_eq!((header, payload), (&[0x82, 126, 0x10, 0][..], &[b'a'; 0x1000][..]));
        let place = payload.as_ptr();
        // What arrives meanwhile does not get its memory.
        fixture.deliver(&frame[..100]);
        fixture.deliver(&frame[100..]);
        fixture.worker.ring.unstick();
        fixture.turn();
        let sent = std::mem::take(&mut fixture.worker.ring.sent);
        assert_eq!(sent.len(), 2 * (4 + 0x1000));
        assert!(sent.chunks(4 + 0x1000).all(|it| it[4..].iter().all(|byte| *byte == b'a')));
        let free = [(); 2].map(|()| fixture.worker.local.pool.stash().into_memory().unwrap());
        assert!(free.iter().any(|memory| memory.as_ptr() == place), "back in the pool");
    }
}

#[test]
fn a_large_frame_that_came_whole_is_sent_on_from_where_it_lies() {
    let mut fixture = Fixture::new(Manner::default(), |_| {});
    let mut frame = vec![0x82, 0xFE, 0x14, 0x00, 1, 2, 3, 4];
    frame.extend((0..0x1400).map(|index| b'a' ^ [1, 2, 3, 4][index % 4]));
    let two = [&frame[..], &frame[..]].concat();
    fixture.worker.ring.is_stuck = true;
    fixture.deliver(&two);
    assert_eq!(fixture.worker.ring.lent(), 0, "it is given back, whatever is lent");
    let parts = fixture.worker.ring.sending();
    let [header, first, _, second] = parts[..] else { panic!("{} parts", parts.len()) };
    assert_eq!((header, first, second), (&[0x82, 126, 0x14, 0][..], &[b'a'; 0x1400][..], first));
    let distance = second.as_ptr().addr() - first.as_ptr().addr();
    assert_eq!(distance, frame.len(), "they lie as they came");
    // For a peer that has not taken the first, it is copied.
    fixture.deliver(&two);
    fixture.worker.ring.unstick();
    fixture.worker.ring.is_stuck = true;
    fixture.turn();
    let parts = fixture.worker.ring.sending();
    assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), 2 * (4 + 0x1400));
    assert!(parts.len() < 4, "{} parts", parts.len());
    fixture.worker.ring.unstick();
    fixture.turn();
    let sent = std::mem::take(&mut fixture.worker.ring.sent);
    assert_eq!(sent.len(), 4 * (4 + 0x1400));
    assert!(sent.chunks(4 + 0x1400).all(|it| it[4..].iter().all(|byte| *byte == b'a')));
    // Of another buffer than the one that is read from, nothing is lent.
    assert!(!fixture.worker.local.lent.is_lent());
}

#[test]
fn handshakes_and_drains_are_deadlines_of_the_same_wheel() {
    let mut fixture = Fixture::listening(Manner::default(), Config::default());
    fixture.worker.ring.connect(7);
    fixture.deliver(b"GET / HTT");
    fixture.go(5 * SECOND - GRANULE);
    assert!(!fixture.is_gone());
    fixture.go(5 * SECOND + GRANULE);
    assert!(fixture.is_gone());

    let mut fixture = Fixture::new(Manner::default(), |_| {});
    fixture.worker.stop(3 * SECOND);
    fixture.go(3 * SECOND - GRANULE);
    assert_eq!(fixture.heard().len(), 1);
    assert!(!fixture.is_gone());
    fixture.go(3 * SECOND + GRANULE);
    assert_eq!(seen(), ["disconnected Stopped"]);
}
