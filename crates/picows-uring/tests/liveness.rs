//! Automatic pings and round trips, both ends ours, on a real ring.
//!
//! The rules themselves are tested with a virtual clock in the protocol crate; no test here
//! depends on how fast it runs.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{PATIENCE, next, run, uninterrupted};
use picows_uring::{
    AutoPing, AutoPingStrategy, CloseCode, Connect, DisconnectCause, EchoListener, Frame,
    FrameHead, Listener, ListenerError, ListenerResult, MsgType, RoundtripError, Server,
    ServerBuilder, ServerHandle, Transport, Upgrade,
};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const SOON: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_secs(3600);

fn start(
    builder: ServerBuilder,
    listener: impl Fn() -> Box<dyn Listener> + Send + Sync + 'static,
) -> (ServerHandle, String) {
    let builder = builder.listen("127.0.0.1:0").workers(1);
    let server = builder.start(move |_| Upgrade::accept_boxed(listener())).unwrap();
    let url = server.addresses()[0].to_string();
    (server, url)
}

fn server() -> ServerBuilder {
    Server::builder()
}

/// Pings all the time, and leaves even a machine that is very busy the time to answer: a periodic
/// ping does not wait for its reply timeout, which may be as long as the idle timeout.
fn ping_often() -> AutoPing {
    AutoPing::new(SOON * 20, SOON * 20).with_strategy(AutoPingStrategy::Periodic)
}

/// Reports to a test what happened to a connection.
struct Witness(Sender<String>);

impl Listener for Witness {
    fn on_frame(&mut self, _: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let payload = String::from_utf8_lossy(frame.payload());
        self.0.send(format!("{:?} {payload}", frame.msg_type()))?;
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let cause = transport.disconnect_cause();
        self.0.send(format!("disconnected {cause:?}")).unwrap();
    }
}

fn witness() -> (impl Fn() -> Box<dyn Listener> + Send + Sync, Receiver<String>) {
    let (sender, receiver) = channel();
    let sender = std::sync::Mutex::new(sender);
    (move || Box::new(Witness(sender.lock().unwrap().clone())) as Box<dyn Listener>, receiver)
}

/// A client that records what arrives, and answers nothing by itself.
#[derive(Default)]
struct Recorder {
    types: Vec<MsgType>,
    close: Option<(CloseCode, String)>,
    pongs_left: usize,
}

impl Listener for Recorder {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.types.push(frame.msg_type());
        match frame.msg_type() {
            MsgType::Ping if self.pongs_left > 0 => {
                self.pongs_left -= 1;
                transport.send_pong(frame.payload());
                if self.pongs_left == 0 {
                    transport.send_close(CloseCode::NORMAL, "enough");
                }
            }
            MsgType::Close => {
                let reason = frame.close_reason().unwrap_or_default().to_owned();
                self.close = frame.close_code().map(|code| (code, reason));
            }
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_peer_that_answers_is_pinged_again_and_again() {
    let (listener, seen) = witness();
    let (server, url) = start(server().auto_ping(ping_often()), listener);
    run(async move {
        let recorder = Rc::new(RefCell::new(Recorder { pongs_left: 2, ..Recorder::default() }));
        let connect = Connect::new(url).auto_pong(false);
        let transport = connect.connect(Rc::clone(&recorder)).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        let pings = recorder.borrow().types.iter().filter(|it| **it == MsgType::Ping).count();
        assert!(pings >= 2, "{pings}");
    })
    .unwrap();
    let told = next(&seen);
    assert!(told.starts_with("Close"), "the pongs are consumed: {told}");
    server.stop().unwrap();
}

/// Has a message under way for ever, between whose fragments its pings would stand.
struct Endless(Sender<bool>);

impl Listener for Endless {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_frame(FrameHead::new(MsgType::Text).with_fin(false), b"first part");
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        self.0.send(transport.send_text("ping").is_queued())?;
        Ok(())
    }
}

#[test]
fn a_listener_whose_ping_is_refused_keeps_a_peer_that_answers_ours() {
    let (sender, queued) = channel();
    let sender = std::sync::Mutex::new(sender);
    let (server, url) = start(server().auto_ping(ping_often()), move || {
        Box::new(Endless(sender.lock().unwrap().clone()))
    });
    run(async move {
        let recorder = Rc::new(RefCell::new(Recorder { pongs_left: 2, ..Recorder::default() }));
        let connect = Connect::new(url).auto_pong(false);
        let transport = connect.connect(Rc::clone(&recorder)).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        let recorder = recorder.borrow();
        let expected = [MsgType::Text, MsgType::Ping, MsgType::Ping, MsgType::Close];
        assert_eq!(recorder.types, expected);
        assert_eq!(recorder.close.as_ref().unwrap().0, CloseCode::NORMAL, "our own, answered");
    })
    .unwrap();
    assert!(!next(&queued) && !next(&queued), "a message between two fragments");
    server.stop().unwrap();
}

#[test]
fn a_peer_that_does_not_answer_gets_a_ping_a_close_and_the_end() {
    let (listener, seen) = witness();
    let (server, url) = start(server().auto_ping(AutoPing::new(SOON, SOON)), listener);
    run(async move {
        let recorder = Rc::new(RefCell::new(Recorder::default()));
        let connect = Connect::new(url).auto_pong(false).auto_close(false);
        let transport = connect.connect(Rc::clone(&recorder)).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        let recorder = recorder.borrow();
        assert_eq!(recorder.types, [MsgType::Ping, MsgType::Close]);
        let (code, reason) = recorder.close.clone().unwrap();
        assert_eq!(code, CloseCode::GOING_AWAY);
        assert!(reason.contains("50ms"), "{reason}");
    })
    .unwrap();
    assert_eq!(next(&seen), format!("disconnected {:?}", Some(DisconnectCause::PingTimedOut)));
    assert_eq!(server.stop().unwrap().disconnected, 1);
    assert!(seen.recv().is_err(), "told once");
}

#[test]
fn the_client_finds_a_server_that_does_not_answer() {
    let (listener, _seen) = witness();
    let (server, url) = start(server().auto_pong(false), listener);
    run(async move {
        let connect = Connect::new(url).auto_ping(AutoPing::new(SOON, SOON));
        let transport = connect.connect(EchoListener).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        assert_eq!(transport.disconnect_cause(), Some(DisconnectCause::PingTimedOut));
    })
    .unwrap();
    server.stop().unwrap();
}

/// Pings as text, as exchanges do; `NOTIFY` finds the pong only while handling it.
struct TextPing<const NOTIFY: bool>(Sender<String>);

impl<const NOTIFY: bool> Listener for TextPing<NOTIFY> {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if NOTIFY && frame.payload() == b"pong" {
            transport.notify_user_specific_pong_received();
        }
        self.0.send(String::from_utf8_lossy(frame.payload()).into_owned())?;
        Ok(())
    }

    fn send_user_specific_ping(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text("ping");
        Ok(())
    }

    fn is_user_specific_pong(
        &mut self,
        _: &Transport,
        frame: &Frame<'_>,
    ) -> Result<bool, ListenerError> {
        Ok(!NOTIFY && frame.payload() == b"pong")
    }
}

/// Answers `ping` with `pong`, a few times, and says something else as well.
struct TextPong(usize);

impl Listener for TextPong {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.payload() == b"ping" {
            transport.send_text("pong");
            transport.send_text("news");
            self.0 -= 1;
            if self.0 == 0 {
                transport.send_close(CloseCode::NORMAL, "");
            }
        }
        Ok(())
    }
}

fn text_pings<const NOTIFY: bool>() -> Vec<String> {
    let (sender, seen) = channel();
    let sender = std::sync::Mutex::new(sender);
    let (server, url) = start(server().auto_ping(ping_often()), move || {
        Box::new(TextPing::<NOTIFY>(sender.lock().unwrap().clone()))
    });
    run(async move {
        let transport = Connect::new(url).connect(TextPong(2)).await.unwrap();
        transport.wait_disconnected().await.unwrap();
    })
    .unwrap();
    server.stop().unwrap();
    seen.iter().filter(|text| text == "pong" || text == "news").collect()
}

#[test]
fn a_text_pong_is_consumed_and_other_text_is_not() {
    let seen = text_pings::<false>();
    assert!(seen.contains(&"news".to_owned()) && !seen.contains(&"pong".to_owned()), "{seen:?}");
}

#[test]
fn a_listener_may_say_that_it_was_the_pong() {
    let seen = text_pings::<true>();
    assert!(seen.contains(&"news".to_owned()) && seen.contains(&"pong".to_owned()), "{seen:?}");
}

struct BadPing;

impl Listener for BadPing {
    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }

    fn send_user_specific_ping(&mut self, _: &Transport) -> ListenerResult {
        Err("no ping today".into())
    }
}

#[test]
fn an_error_of_the_listeners_ping_closes_with_1011() {
    let (server, url) = start(server().auto_ping(AutoPing::new(SOON, SOON)), || Box::new(BadPing));
    run(async move {
        let recorder = Rc::new(RefCell::new(Recorder::default()));
        let transport = Connect::new(url).connect(Rc::clone(&recorder)).await.unwrap();
        transport.wait_disconnected().await.unwrap();
        let close = recorder.borrow().close.clone();
        assert_eq!(close, Some((CloseCode::INTERNAL_ERROR, String::new())));
    })
    .unwrap();
    assert_eq!(server.stop().unwrap().listener_errors, 1);
}

#[test]
fn round_trips_are_measured_beside_automatic_pings() {
    for auto_ping in [None, Some(ping_often()), Some(AutoPing::new(NEVER, NEVER))] {
        let (server, url) = start(server(), || Box::new(EchoListener));
        run(async move {
            let connect = Connect::new(url).auto_ping(auto_ping);
            let transport = connect.connect(EchoListener).await.unwrap();
            for _ in 0..2 {
                let durations = transport.measure_roundtrip_time(5).await.unwrap();
                assert_eq!(durations.len(), 5);
                assert!(durations.iter().all(|it| *it > Duration::ZERO && *it < NEVER));
            }
            let other = transport.clone();
            let task = picows_uring::spawn(async move { other.measure_roundtrip_time(1000).await });
            let task = task.unwrap();
            assert!(task.await.unwrap().is_ok());
            transport.disconnect();
        })
        .unwrap();
        server.stop().unwrap();
    }
}

#[test]
fn a_disconnect_ends_a_measurement() {
    let (server, url) = start(server().auto_pong(false), || Box::new(TextPong(1)));
    run(async move {
        let transport = Connect::new(url).connect(EchoListener).await.unwrap();
        let measured = transport.clone();
        let task =
            picows_uring::spawn(async move { measured.measure_roundtrip_time(5).await }).unwrap();
        // Runs after the task has begun, as it was spawned later.
        let (first, second) = (transport.clone(), transport.clone());
        let busy = picows_uring::spawn(async move {
            let busy = first.measure_roundtrip_time(1).await;
            second.abort();
            busy
        });
        assert_eq!(busy.unwrap().await.unwrap(), Err(RoundtripError::Busy));
        assert!(matches!(task.await.unwrap(), Err(RoundtripError::Disconnected(_))));
        assert!(matches!(
            transport.measure_roundtrip_time(1).await,
            Err(RoundtripError::Disconnected(_))
        ));
    })
    .unwrap();
    server.stop().unwrap();
}

#[test]
fn idle_connections_and_old_ones_are_ended() {
    for (builder, reason) in [
        (server().idle_timeout(SOON), "idle for too long"),
        (server().max_lifetime(SOON, 0.5), "please reconnect"),
    ] {
        let (listener, _seen) = witness();
        let (server, url) = start(builder, listener);
        run(async move {
            let recorder = Rc::new(RefCell::new(Recorder::default()));
            let transport = Connect::new(url).connect(Rc::clone(&recorder)).await.unwrap();
            transport.wait_disconnected().await.unwrap();
            let close = recorder.borrow().close.clone();
            assert_eq!(close, Some((CloseCode::GOING_AWAY, reason.to_owned())));
        })
        .unwrap();
        server.stop().unwrap();
    }
}

#[test]
fn pings_whose_pongs_are_not_read_cost_little_and_the_last_is_answered_rfc6455_5_5_3() {
    let (listener, _seen) = witness();
    let queue = picows_uring::QueuePolicy::Close;
    let (server, url) = start(server().max_queue_size(128 * 1024, queue), listener);
    let mut peer = TcpStream::connect(url.strip_prefix("ws://").unwrap()).unwrap();
    peer.write_all(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    .unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    // Pings of 125 bytes, masked with a key of zeros: far more than sockets and queue hold.
    let ping = |byte| [[0x89, 0x80 | 125, 0, 0, 0, 0].as_slice(), &[byte; 125]].concat();
    let pings = ping(7).repeat(500);
    for _ in 0..400 {
        peer.write_all(&pings).unwrap();
    }
    peer.write_all(&ping(8)).unwrap();
    // Only now does it read, and finds the answer to the last one.
    let (mut heard, mut buffer, mut tail) = (0, vec![0; 1 << 16], Vec::new());
    while !tail.ends_with(&[8; 125]) {
        let count = uninterrupted(|| peer.read(&mut buffer)).unwrap();
        assert!(count > 0, "the connection has ended");
        heard += count;
        tail.extend_from_slice(&buffer[..count]);
        tail.drain(..tail.len().saturating_sub(125));
    }
    assert!(heard < 400 * 500 * 127, "every ping was answered, so the test shows nothing");
    server.stop_within(Duration::ZERO).unwrap();
}
