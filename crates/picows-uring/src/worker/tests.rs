//! A worker with one connection, a kernel played by hand and a clock moved by hand: what the rules
//! of the protocol crate lead to.

mod accepting;
mod failing;
mod memory;
mod queue;
mod shares;
mod watching;

use super::*;
use crate::config::{Config, QueuePolicy};
use crate::counters::{Counters, Stats};
use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::mailbox::Mailbox;
use crate::remote::RemoteError;
use crate::ring::Outbox;
use crate::ring::by_hand::{ByHand, stall, stalled};
use crate::server::Upgrade;
use crate::transport::{DisconnectCause, Transport};
use picows_uring_proto::{AutoPing, AutoPingStrategy, CloseCode, Frame, MsgType};
use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const SECOND: Duration = Duration::from_secs(1);
/// Timers fire at the next granule.
const GRANULE: Duration = Wheel::GRANULARITY;

/// How the listener of a stage behaves.
#[derive(Clone, Copy, Default)]
struct Manner {
    pings_as_text: bool,
    ping_fails: bool,
    pong_panics: bool,
    farewell_takes: Duration,
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
        if frame.payload() == b"end the last" {
            self::transport().abort();
        }
        Ok(())
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        if self.0.ping_fails {
            return Err("no ping today".into());
        }
        if self.0.pings_as_text {
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
        stall(self.0.farewell_takes);
        see(transport
            .disconnect_cause()
            .map_or_else(String::new, |it| format!("disconnected {it:?}")));
    }
}

struct Stage {
    worker: Worker<ByHand>,
}

impl Stage {
    /// A connection that was upgraded at 0 s, by a server that pings after 10 s and waits 5 s.
    fn new(manner: Manner, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.liveness.auto_ping = Some(AutoPing::new(10 * SECOND, 5 * SECOND));
        change(&mut config);
        let mut stage = Self::listening(manner, config);
        stage.worker.ring.connect(7);
        stage.turn();
        stage.deliver(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        assert!(stage.worker.ring.sent.starts_with(b"HTTP/1.1 101"));
        stage.worker.ring.sent.clear();
        stage
    }

    fn listening(manner: Manner, config: Config) -> Self {
        Self::listening_on(manner, config, &[3])
    }

    fn listening_on(manner: Manner, config: Config, listeners: &[i32]) -> Self {
        seen();
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let mailbox = Arc::new(Mailbox::new(Arc::new(event)));
        let shared = Shared::new(Arc::new(config), Arc::<Counters>::default(), mailbox);
        shared.watch.clock.set(stalled);
        let factory: Arc<Factory> = Arc::new(move |_: &_| Ok(Upgrade::accept(Actor(manner))));
        let gauge = Arc::<Gauge>::default();
        let listeners = listeners.iter().copied().map(Socket).collect();
        let worker = Worker::new(ByHand::default(), shared, factory, gauge, listeners);
        Self { worker }
    }

    /// Takes turns until there is nothing to do.
    fn turn(&mut self) {
        while self.worker.turn().unwrap() == Turn::Busy {}
    }

    /// Goes to a point in time, woken as the worker wants to be; tells how often that was.
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
        let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.deliver(&frame);
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

    /// Waits for the ping at 10 s, and tells what it carries.
    fn ping(&mut self) -> Vec<u8> {
        self.go(10 * SECOND + GRANULE);
        let heard = self.heard();
        let [(PING, nonce)] = &heard[..] else { panic!("{heard:?}") };
        nonce.clone()
    }

    fn stats(&self) -> Stats {
        self.worker.shared.counters.read()
    }

    fn is_gone(&self) -> bool {
        self.worker.ring.closed == [Socket(7)]
    }
}

fn transport() -> Transport {
    TRANSPORT.with_borrow(|transport| transport.clone().unwrap())
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[test]
fn only_the_pong_with_the_number_of_the_ping_counts() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let mut wrong = stage.ping();
    wrong[0] ^= 1;
    stage.say(PONG, &wrong);
    stage.say(PONG, b"");
    let told = seen();
    assert_eq!(told.iter().filter(|it| *it == "asked").count(), 2);
    assert_eq!(told.iter().filter(|it| it.starts_with("Pong")).count(), 2, "{told:?}");
    // A peer that says something is there, but the answer is still owed.
    stage.go(15 * SECOND);
    assert!(stage.heard().is_empty());
    stage.go(15 * SECOND + 3 * GRANULE);
    let [(CLOSE, payload)] = &stage.heard()[..] else { panic!() };
    assert_eq!(payload[..2], 1001_u16.to_be_bytes());
    assert_eq!(payload[2..], *b"no pong within 5s");
    stage.go(15 * SECOND + Duration::from_millis(20));
    assert!(stage.is_gone(), "aborted shortly after");
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn the_right_pong_is_consumed_and_the_next_ping_carries_another_number() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let nonce = stage.ping();
    stage.say(PONG, &nonce);
    assert_eq!(seen(), ["asked"]);
    stage.go(20 * SECOND + 3 * GRANULE);
    let [(PING, again)] = &stage.heard()[..] else { panic!() };
    assert_ne!(*again, nonce);
    stage.say(PONG, &nonce);
    assert_eq!(seen().len(), 2, "an old pong is a frame like any other");
    let again = again.clone();
    stage.say(PONG, &again);
    assert_eq!(seen(), ["asked"]);
}

#[test]
fn nobody_is_asked_while_no_pong_is_awaited() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    stage.say(PONG, b"hello");
    stage.say(TEXT, b"that was it");
    assert_eq!(seen(), ["Pong hello", "Text that was it"], "and to notify is harmless");
    stage.go(9 * SECOND);
    assert!(stage.heard().is_empty());
}

#[test]
fn a_pong_found_while_it_is_handled_counts() {
    let mut stage = Stage::new(Manner { pings_as_text: true, ..Manner::default() }, |_| {});
    stage.go(10 * SECOND + GRANULE);
    assert_eq!(stage.heard(), [(TEXT, b"ping".to_vec())]);
    stage.say(TEXT, b"that was it");
    assert_eq!(seen(), ["asked", "Text that was it"]);
    stage.go(19 * SECOND);
    assert!(stage.heard().is_empty() && !stage.is_gone());
}

#[test]
fn failing_callbacks_of_the_cycle_close_with_1011_and_are_told_once() {
    for manner in [
        Manner { ping_fails: true, ..Manner::default() },
        Manner { pong_panics: true, ..Manner::default() },
    ] {
        let mut stage = Stage::new(manner, |_| {});
        stage.go(10 * SECOND + GRANULE);
        stage.say(TEXT, b"hello");
        let heard = stage.heard();
        let (opcode, payload) = heard.last().unwrap();
        assert_eq!((*opcode, &payload[..]), (CLOSE, &1011_u16.to_be_bytes()[..]));
        stage.go(3600 * SECOND);
        assert!(stage.is_gone() && stage.heard().is_empty());
        let told = seen();
        assert_eq!(told.iter().filter(|it| it.starts_with("disconnected Listener")).count(), 1);
        assert!(!told.contains(&"Text hello".into()), "{told:?}");
    }
}

#[test]
fn a_disconnect_at_any_point_of_the_cycle_is_told_once_and_leaves_nothing() {
    type Act = fn(&mut Stage);
    let points: [(&str, Act); 6] = [
        ("before the ping", |_| {}),
        ("the ping is queued", |stage| {
            stage.worker.ring.is_stuck = true;
            transport().send_text("held up");
            stage.go(10 * SECOND + GRANULE);
        }),
        ("the ping has left", |stage| drop(stage.ping())),
        ("answered", |stage| {
            let nonce = stage.ping();
            stage.say(PONG, &nonce);
        }),
        ("the second ping", |stage| {
            let nonce = stage.ping();
            stage.say(PONG, &nonce);
            stage.go(20 * SECOND + 3 * GRANULE);
        }),
        ("given up", |stage| {
            stage.ping();
            stage.go(15 * SECOND + 2 * GRANULE);
            assert!(!stage.is_gone());
        }),
    ];
    let ends: [(&str, Act); 6] = [
        ("end of stream", |stage| stage.worker.ring.end(Received::EndOfStream)),
        ("reset", |stage| {
            let error = io::Error::from_raw_os_error(libc::ECONNRESET);
            stage.worker.ring.end(Received::Failed(error));
        }),
        ("abort", |_| transport().abort()),
        ("disconnect", |_| transport().disconnect()),
        ("CLOSE of the peer", |stage| stage.say(CLOSE, &1000_u16.to_be_bytes())),
        ("CLOSE of ours", |_| {
            transport().send_close(CloseCode::NORMAL, "");
        }),
    ];
    for (point, reach) in points {
        for (end, make) in ends {
            let mut stage = Stage::new(Manner::default(), |_| {});
            reach(&mut stage);
            make(&mut stage);
            stage.turn();
            let wakes = stage.go(3600 * SECOND);
            let told = seen();
            let count = told.iter().filter(|it| it.starts_with("disconnected")).count();
            assert_eq!(count, 1, "{end}, {point}: {told:?}");
            assert!(stage.is_gone(), "{end}, {point}");
            assert_eq!(stage.worker.slots.len(), 0, "{end}, {point}");
            assert!(stage.worker.wheel.is_empty(), "{end}, {point}");
            assert!(wakes <= 6, "{end}, {point}: {wakes} wake-ups");
        }
    }
}

#[test]
fn a_close_that_is_under_way_has_a_deadline_of_its_own() {
    let mut stage = Stage::new(Manner::default(), |config| {
        config.liveness.auto_ping = Some(AutoPing::new(2 * SECOND, SECOND));
    });
    stage.worker.ring.now = SECOND;
    stage.turn();
    transport().send_close(CloseCode::NORMAL, "bye");
    stage.turn();
    assert_eq!(stage.heard().len(), 1);
    stage.go(5 * SECOND);
    assert!(stage.heard().is_empty() && !stage.is_gone(), "no ping follows a CLOSE");
    stage.go(6 * SECOND + GRANULE);
    assert!(stage.is_gone());
    assert_eq!(seen(), ["disconnected TimedOut"]);
}

#[test]
fn an_idle_connection_is_told_once_and_wakes_nobody_until_its_close_is_due() {
    for (change, reason, cause) in [
        (
            (|config| config.liveness.idle_timeout = Some(10 * SECOND)) as fn(&mut Config),
            "idle for too long",
            DisconnectCause::TimedOut,
        ),
        (
            |config| {
                config.liveness.lifetime = Some(10 * SECOND);
                config.lifetime_jitter = 0.0;
            },
            "please reconnect",
            DisconnectCause::Closed,
        ),
    ] {
        let mut stage = Stage::new(Manner::default(), |config| {
            config.liveness.auto_ping = None;
            change(config);
        });
        assert_eq!(stage.go(10 * SECOND + GRANULE), 2, "one for the handshake that was in time");
        let heard = stage.heard();
        assert!(heard.len() == 1 && heard[0].1.ends_with(reason.as_bytes()), "{heard:?}");
        assert_eq!(stage.go(14 * SECOND), 0, "{reason}");
        stage.say(CLOSE, &heard[0].1);
        assert_eq!(seen().last(), Some(&format!("disconnected {cause:?}")));
    }
}

#[test]
fn a_peer_that_takes_what_waits_for_it_is_not_silent() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    stage.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    stage.go(14 * SECOND);
    for second in 14..60 {
        // The send has not completed, but the kernel knows better.
        stage.worker.ring.outbox = Some(Outbox { taken: second * 1000, has_more: true });
        stage.go(SECOND * second as u32);
        assert!(!stage.is_gone(), "{second}");
    }
    // It has all arrived, the ping with it, and now an answer is owed.
    stage.worker.ring.unstick();
    stage.worker.ring.outbox = Some(Outbox { taken: 1 << 20, has_more: false });
    stage.turn();
    stage.go(64 * SECOND);
    assert!(!stage.is_gone());
    stage.go(66 * SECOND);
    assert!(stage.is_gone());
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_within_idle_and_reply_timeout() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    stage.worker.ring.is_stuck = true;
    stage.worker.ring.outbox = Some(Outbox { taken: 1000, has_more: true });
    transport().send(MsgType::Binary, vec![0; 1 << 20]);
    stage.go(15 * SECOND - GRANULE);
    assert!(seen().is_empty());
    stage.go(15 * SECOND + 3 * GRANULE + Duration::from_millis(10));
    assert!(stage.is_gone(), "whatever is queued");
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
}

#[test]
fn bytes_that_wait_in_the_kernel_are_no_silence() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let nonce = stage.ping();
    stage.worker.ring.has_unread = true;
    stage.go(19 * SECOND);
    assert!(seen().is_empty() && stage.heard().is_empty());
    stage.worker.ring.has_unread = false;
    stage.say(PONG, &nonce);
    stage.go(28 * SECOND);
    assert_eq!(seen(), ["asked"]);
}

#[test]
fn while_reading_is_paused_a_pong_that_waits_to_be_read_counts_and_none_does_not() {
    for answers in [true, false] {
        let mut stage = Stage::new(Manner::default(), |_| {});
        transport().pause_reading();
        stage.turn();
        let nonce = stage.ping();
        stage.worker.ring.has_unread = answers;
        stage.go(60 * SECOND);
        assert_eq!(stage.is_gone(), !answers);
        if answers {
            stage.worker.ring.has_unread = false;
            transport().resume_reading();
            stage.turn();
            stage.say(PONG, &nonce);
            assert_eq!(seen(), ["asked"]);
            stage.go(69 * SECOND);
            assert!(!stage.is_gone());
        }
    }
}

#[test]
fn a_ping_is_queued_where_other_frames_are_dropped() {
    let mut stage = Stage::new(Manner { pings_as_text: true, ..Manner::default() }, |config| {
        config.queue_bytes_max = 100_000;
        config.queue_policy = QueuePolicy::DropNewest;
    });
    stage.worker.ring.is_stuck = true;
    transport().send(MsgType::Binary, vec![0; 99_980]);
    assert!(!transport().send_text("no room").is_queued());
    stage.go(12 * SECOND);
    stage.worker.ring.unstick();
    stage.turn();
    assert!(stage.worker.ring.sent.ends_with(b"\x81\x04ping"));
}

#[test]
fn a_measurement_waits_for_the_ping_that_is_under_way_and_holds_back_the_next() {
    let mut stage = Stage::new(Manner { pings_as_text: true, ..Manner::default() }, |_| {});
    stage.go(10 * SECOND + GRANULE);
    assert_eq!(stage.heard().len(), 1);
    let transport = transport();
    let mut context = Context::from_waker(Waker::noop());
    let mut measuring = pin!(transport.measure_roundtrip_time(2));
    assert!(measuring.as_mut().poll(&mut context).is_pending());
    stage.turn();
    assert!(stage.heard().is_empty(), "that pong could be taken for ours");
    stage.worker.ring.now = 12 * SECOND;
    stage.say(TEXT, b"pong");
    for round in 1..=2 {
        assert_eq!(stage.heard().len(), 1, "round {round}");
        stage.worker.ring.now += SECOND * round;
        stage.say(TEXT, b"pong");
        let polled = measuring.as_mut().poll(&mut context);
        stage.turn();
        if let Poll::Ready(durations) = polled {
            assert_eq!(durations.unwrap(), [SECOND, 2 * SECOND]);
        }
    }
    assert!(stage.heard().is_empty());
}

#[test]
fn a_measurement_does_not_keep_a_dead_peer() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let transport = transport();
    let mut context = Context::from_waker(Waker::noop());
    let mut measuring = pin!(transport.measure_roundtrip_time(3));
    assert!(measuring.as_mut().poll(&mut context).is_pending());
    stage.go(SECOND);
    assert_eq!(stage.heard().len(), 1);
    stage.go(7 * SECOND);
    assert_eq!(seen(), ["disconnected PingTimedOut"]);
    assert!(matches!(measuring.as_mut().poll(&mut context), Poll::Ready(Err(_))));
}

#[test]
fn a_measurement_that_is_dropped_gives_automatic_pings_back() {
    let mut stage = Stage::new(Manner::default(), |config| {
        let ping = AutoPing::new(10 * SECOND, 5 * SECOND);
        config.liveness.auto_ping = Some(ping.with_strategy(AutoPingStrategy::Periodic));
    });
    let transport = transport();
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut measuring = pin!(transport.measure_roundtrip_time(usize::MAX));
        for second in 1..=25 {
            assert!(measuring.as_mut().poll(&mut context).is_pending());
            stage.go(SECOND * second);
            let heard = stage.heard();
            let [(PING, nonce)] = &heard[..] else { panic!("{heard:?} at {second}") };
            stage.say(PONG, nonce);
        }
    }
    stage.go(26 * SECOND);
    assert_eq!(stage.heard().len(), 1, "one was due long ago");
}

#[test]
fn a_large_frame_that_came_in_pieces_is_sent_on_from_where_it_lies() {
    let mut stage = Stage::new(Manner::default(), |_| {});
    let mut frame = vec![0x82, 0xFE, 0x10, 0x00, 1, 2, 3, 4];
    frame.extend((0..0x1000).map(|index| b'a' ^ [1, 2, 3, 4][index % 4]));
    for _ in 0..3 {
        stage.worker.ring.is_stuck = true;
        stage.deliver(&frame[..100]);
        stage.deliver(&frame[100..]);
        let parts = stage.worker.ring.sending();
        let [header, payload] = parts[..] else { panic!("{} parts", parts.len()) };
        assert_eq!((header, payload), (&[0x82, 126, 0x10, 0][..], &[b'a'; 0x1000][..]));
        let place = payload.as_ptr();
        // What arrives meanwhile does not get its memory.
        stage.deliver(&frame[..100]);
        stage.deliver(&frame[100..]);
        stage.worker.ring.unstick();
        stage.turn();
        let sent = std::mem::take(&mut stage.worker.ring.sent);
        assert_eq!(sent.len(), 2 * (4 + 0x1000));
        assert!(sent.chunks(4 + 0x1000).all(|it| it[4..].iter().all(|byte| *byte == b'a')));
        let free = [(); 2].map(|()| stage.worker.shared.pool.stash().into_memory().unwrap());
        assert!(free.iter().any(|memory| memory.as_ptr() == place), "back in the pool");
    }
}

#[test]
fn other_threads_post_no_more_than_the_queue_may_hold() {
    let mut stage = Stage::new(Manner::default(), |config| {
        (config.queue_bytes_max, config.liveness.auto_ping) = (10_000, None);
    });
    let remote = transport().remote();
    for _ in 0..3 {
        let posted = (0..100).take_while(|_| remote.send(MsgType::Binary, vec![1; 1000]).is_ok());
        assert_eq!(posted.count(), 9, "letters count for more than their payloads");
        assert_eq!(remote.send(MsgType::Text, "more"), Ok(()));
        assert_eq!(remote.send(MsgType::Binary, vec![1; 1000]), Err(RemoteError::Congested));
        stage.turn();
    }
    assert_eq!(stage.stats().frames_sent, 3 * 10);
    while remote.send(MsgType::Text, "full").is_ok() {}
    assert_eq!(remote.send_close(CloseCode::NORMAL, "the end gets through"), Ok(()));
    stage.turn();
    assert!(transport().is_close_frame_sent());
}

#[test]
fn handshakes_and_drains_are_deadlines_of_the_same_wheel() {
    let mut stage = Stage::listening(Manner::default(), Config::default());
    stage.worker.ring.connect(7);
    stage.deliver(b"GET / HTT");
    stage.go(5 * SECOND - GRANULE);
    assert!(!stage.is_gone());
    stage.go(5 * SECOND + GRANULE);
    assert!(stage.is_gone());

    let mut stage = Stage::new(Manner::default(), |_| {});
    stage.worker.stop(3 * SECOND);
    stage.go(3 * SECOND - GRANULE);
    assert_eq!(stage.heard().len(), 1);
    assert!(!stage.is_gone());
    stage.go(3 * SECOND + GRANULE);
    assert_eq!(seen(), ["disconnected Stopped"]);
}
