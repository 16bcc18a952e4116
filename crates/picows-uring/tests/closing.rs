//! The ends of a connection: who closes, with what, how long it may take, and what is reported.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{
    Client, Event, Got, PATIENCE, address, close_payload, next, on_frame, patiently, recorder,
    workers,
};
use picows_uring::{
    CloseCode, CloseFrame, CloseHandshake, Connect, DisconnectCause, EchoListener, FrameHead,
    ListenerResult, MsgType, PeerMisbehaved, Runtime, ServerBuilder, ServerHandle, Transport,
    Upgrade, UpgradeRequest,
};
use picows_uring_proto::{HeadLimits, encode_switching_protocols};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Obeys commands that come as text.
fn obey(transport: &Transport, frame: &picows_uring::Frame<'_>) -> ListenerResult {
    match (frame.msg_type(), frame.payload()) {
        (MsgType::Text, b"close") => drop(transport.send_close(CloseCode::GOING_AWAY, "bye")),
        (MsgType::Text, b"close empty") => drop(transport.send_close(None, "never seen")),
        (MsgType::Text, b"disconnect") => transport.disconnect(),
        (MsgType::Text, b"abort") => transport.abort(),
        (MsgType::Text, b"error") => return Err("as told".into()),
        (MsgType::Text, b"queue") => drop(transport.send(MsgType::Binary, vec![b'q'; QUEUED])),
        (MsgType::Text, b"queue, disconnect") => {
            transport.send(MsgType::Binary, vec![b'q'; QUEUED]);
            transport.disconnect();
            assert!(!transport.is_open());
            let late = transport.send_text("late");
            assert!(!late.is_queued(), "{late:?}");
            transport.disconnect();
        }
        (MsgType::Text, b"queue, abort") => {
            transport.send(MsgType::Binary, vec![b'q'; QUEUED]);
            transport.abort();
            transport.abort();
        }
        _ => {}
    }
    Ok(())
}

/// Much more than the kernel takes for a peer that does not read.
const QUEUED: usize = 16 << 20;

/// A server that obeys, and the events of its listeners.
fn start(builder: ServerBuilder) -> (ServerHandle, Receiver<Event>) {
    let (told, events) = mpsc::channel();
    let server = builder.start(move |_| Upgrade::accept(recorder(&told, obey))).unwrap();
    (server, events)
}

/// Drops the client, stops `server`, and returns the only end that was reported, which came last.
#[track_caller]
fn only_end(
    client: impl Sized,
    server: ServerHandle,
    events: Receiver<Event>,
) -> (Option<DisconnectCause>, CloseHandshake) {
    drop(client);
    server.stop().unwrap();
    let mut events: Vec<_> = events.into_iter().collect();
    let ends = events.iter().filter(|event| matches!(event, Event::Disconnected(..))).count();
    assert_eq!(ends, 1, "{events:?}");
    match events.pop() {
        Some(Event::Disconnected(cause, close)) => (cause, close),
        other => panic!("something came after the end: {other:?}"),
    }
}

/// The report of the end, when it comes.
#[track_caller]
fn until_the_end(events: &Receiver<Event>) -> Event {
    loop {
        let event = next(events);
        if matches!(event, Event::Disconnected(..)) {
            return event;
        }
    }
}

fn close_frame(code: u16, reason: &str) -> Option<CloseFrame> {
    Some(CloseFrame::new(CloseCode::new(code).expect("it may be sent"), reason))
}

#[test]
fn the_client_closes_first() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send_close(4000, "done");
    // RFC 6455 §5.5.1: the answer says what was received.
    assert_eq!(client.receive(), Got::new(MsgType::Close, close_payload(4000, "done")));
    // RFC 6455 §7.1.1: the server ends the stream first.
    client.expect_eof();
    let (cause, close) = only_end(client, server, events);
    assert_eq!(cause, Some(DisconnectCause::Closed));
    assert_eq!(
        (close.received, close.sent),
        (close_frame(4000, "done"), close_frame(4000, "done"))
    );
    assert!(close.received_first);
}

#[test]
fn the_client_closes_first_and_says_nothing() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send(MsgType::Close, "");
    assert_eq!(client.receive(), Got::new(MsgType::Close, ""));
    client.expect_eof();
    let (cause, close) = only_end(client, server, events);
    assert_eq!(cause, Some(DisconnectCause::Closed));
    assert_eq!(
        (close.received, close.sent),
        (Some(CloseFrame::empty()), Some(CloseFrame::empty()))
    );
}

#[test]
fn the_server_closes_first() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send_text("close");
    client.expect_close(CloseCode::GOING_AWAY, "bye");
    client.send_close(1000, "answered");
    client.expect_eof();
    let (cause, close) = only_end(client, server, events);
    assert_eq!(cause, Some(DisconnectCause::Closed));
    assert_eq!(
        (close.sent, close.received),
        (close_frame(1001, "bye"), close_frame(1000, "answered"))
    );
    assert!(!close.received_first);
}

#[test]
fn a_close_without_code_is_empty() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send_text("close empty");
    assert_eq!(client.receive(), Got::new(MsgType::Close, ""));
    client.send(MsgType::Close, "");
    client.expect_eof();
    assert_eq!(only_end(client, server, events).1.sent, Some(CloseFrame::empty()));
}

#[test]
fn frames_after_our_close_are_still_delivered() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send_text("close");
    client.expect_close(CloseCode::GOING_AWAY, "bye");
    client.send_text("on its way already");
    client.send_close(1001, "");
    client.expect_eof();
    drop(client);
    server.stop().unwrap();
    let events: Vec<_> = events.into_iter().collect();
    assert!(events.contains(&Event::Frame(MsgType::Text, b"on its way already".to_vec())));
}

#[test]
fn frames_after_the_peers_close_are_not_delivered() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    let mut bytes = common::masked(FrameHead::new(MsgType::Close), &close_payload(1000, ""));
    bytes.extend(common::masked(FrameHead::new(MsgType::Text), b"too late"));
    client.write(&bytes);
    client.expect_close(CloseCode::NORMAL, "");
    client.expect_eof();
    drop(client);
    server.stop().unwrap();
    let kinds: Vec<_> = events.into_iter().collect();
    assert_eq!(kinds.len(), 3, "connected, CLOSE, disconnected: {kinds:?}");
}

#[test]
fn closing_by_hand_is_left_to_the_listener() {
    thread_local!(static CLOSING: RefCell<Option<Transport>> = const { RefCell::new(None) });
    let (told, events) = mpsc::channel();
    let server = workers(1)
        .auto_close(false)
        .start(move |request| {
            if request.path() == "/helper" {
                return Upgrade::accept(on_frame(|_, _| {
                    let closing = CLOSING.take().ok_or("nobody is closing")?;
                    assert!(closing.is_open() && !closing.is_close_frame_sent());
                    closing.send_close(CloseCode::NORMAL, "by hand");
                    closing.disconnect();
                    Ok(())
                }));
            }
            Upgrade::accept(recorder(&told, |transport, _| {
                let close = transport.close_handshake();
                assert!(close.received_first && close.sent.is_none());
                CLOSING.set(Some(transport.clone()));
                transport.send_text("one more thing");
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_close(4000, "done");
    client.expect_text("one more thing");
    // Nothing is answered until it is done by hand: here, by another connection.
    let mut helper = Client::upgrade_at(address(&server), "/helper");
    helper.send_text("now");
    client.expect_close(CloseCode::NORMAL, "by hand");
    client.expect_eof();
    let (cause, close) = only_end((client, helper), server, events);
    assert_eq!(cause, Some(DisconnectCause::Closed));
    assert_eq!(close.received, close_frame(4000, "done"));
    assert_eq!(close.sent, close_frame(1000, "by hand"));
}

#[test]
fn disconnect_flushes_the_queue() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send_text("queue, disconnect");
    let got = client.receive();
    assert!(got.payload.len() == QUEUED && got.payload.iter().all(|byte| *byte == b'q'));
    client.expect_eof();
    let (cause, close) = only_end(client, server, events);
    assert_eq!(cause, Some(DisconnectCause::Application));
    assert_eq!(close, CloseHandshake::default());
}

#[test]
fn abort_drops_the_queue() {
    // Below the watermark, so that it is queued until the turn ends.
    let (server, events) = start(workers(1).write_watermarks(2 * QUEUED, 0));
    let mut client = Client::upgrade(address(&server));
    client.send_text("queue, abort");
    assert_eq!(client.read_to_end(), 0);
    assert_eq!(only_end(client, server, events).0, Some(DisconnectCause::Application));
}

#[test]
fn abort_drops_what_is_being_sent() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send_text("queue");
    // The listener hears of it after the send has begun, which cannot end: the peer does not read.
    client.send_text("abort");
    let end = until_the_end(&events);
    assert!(matches!(end, Event::Disconnected(Some(DisconnectCause::Application), _)), "{end:?}");
    common::eventually(&server, "it is gone", |stats| stats.slots == 0);
    let received = client.read_to_end();
    assert!(received < QUEUED, "{received}");
}

#[test]
fn a_peer_that_does_not_answer_close_is_dropped() {
    let (server, events) = start(workers(1).close_timeout(Duration::from_millis(200)));
    let mut client = Client::upgrade(address(&server));
    let start = Instant::now();
    client.send_text("close");
    client.expect_close(CloseCode::GOING_AWAY, "bye");
    client.expect_gone();
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    let (cause, close) = only_end(client, server, events);
    assert_eq!(cause, Some(DisconnectCause::TimedOut));
    assert_eq!((close.sent, close.received), (close_frame(1001, "bye"), None));
}

#[test]
fn a_peer_that_goes_without_answering_close_has_not_closed() {
    let (server, events) = start(workers(1));
    let mut client = Client::upgrade(address(&server));
    client.send_text("close");
    client.expect_close(CloseCode::GOING_AWAY, "bye");
    client.finish();
    client.expect_eof();
    assert_eq!(only_end(client, server, events).0, Some(DisconnectCause::EndOfStream));
}

#[test]
fn a_peer_that_does_not_take_what_is_flushed_is_dropped() {
    let (server, events) = start(workers(1).close_timeout(Duration::from_millis(200)));
    let mut client = Client::upgrade(address(&server));
    client.send_text("queue, disconnect");
    until_the_end(&events);
    common::eventually(&server, "it is gone", |stats| stats.slots == 0);
    assert!(client.read_to_end() < QUEUED);
}

#[test]
fn a_peer_that_keeps_its_side_open_is_dropped() {
    let (server, _events) = start(workers(1).close_timeout(Duration::from_millis(200)));
    let mut client = Client::upgrade(address(&server));
    client.send_close(1000, "");
    client.expect_close(CloseCode::NORMAL, "");
    client.expect_eof();
    // Our side is still open; the server does not wait for ever.
    common::eventually(&server, "it is gone", |stats| stats.slots == 0);
}

#[test]
fn each_end_has_its_cause() {
    type Act = fn(&mut Client);
    let misbehave: Act = |client| client.write(&[0x81, 0x00]);
    let ends: [(Act, DisconnectCause); 5] = [
        (|client| client.finish(), DisconnectCause::EndOfStream),
        (misbehave, DisconnectCause::PeerMisbehaved(PeerMisbehaved::UnmaskedFrame)),
        (|client| client.send_text("error"), DisconnectCause::Listener("as told".into())),
        (|client| client.send_text("disconnect"), DisconnectCause::Application),
        (|client| client.send_text("abort"), DisconnectCause::Application),
    ];
    for (act, wanted) in ends {
        let (server, events) = start(workers(1));
        let mut client = Client::upgrade(address(&server));
        act(&mut client);
        client.read_to_end();
        assert_eq!(only_end(client, server, events).0, Some(wanted));
    }
}

#[test]
fn a_reset_is_an_error_of_the_kernel() {
    let (server, events) = start(workers(1));
    let client = Client::upgrade(address(&server));
    assert_eq!(next(&events), Event::Connected);
    client.reset();
    common::eventually(&server, "it is gone", |stats| stats.slots == 0);
    let reset = DisconnectCause::Io(std::io::ErrorKind::ConnectionReset);
    assert_eq!(only_end((), server, events).0, Some(reset));
}

#[test]
fn no_end_is_told_where_nothing_began() {
    let (server, events) = start(workers(1));
    for request in
        ["", "GET / HTTP/1.1\r\n", "nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let mut client = Client::connect(address(&server));
        client.write(request.as_bytes());
        client.finish();
        client.read_to_end();
    }
    let stats = server.stop().unwrap();
    assert_eq!((stats.accepted, stats.disconnected, stats.upgraded), (4, 4, 0));
    assert_eq!(events.into_iter().count(), 0);
}

/// The clock of a worker stands still while it sleeps; tasks beside it act all the same.
#[test]
fn a_task_closes_a_connection_that_was_idle_for_long() {
    let timeout = Duration::from_millis(400);
    for spins in [Duration::ZERO, Duration::MAX] {
        patiently("an answer within the close timeout", || {
            let (url, server) = slow_to_answer_close(timeout / 4);
            let runtime = Runtime::builder().busy_poll(spins).build().unwrap();
            let closed = runtime.block_on(async move {
                let connect = Connect::new(url).close_timeout(timeout);
                let transport = connect.connect(EchoListener).await.unwrap();
                // The time itself is what is tested: nothing happens in it.
                tokio::time::sleep(timeout * 2).await;
                transport.send_close(CloseCode::NORMAL, "done");
                transport.wait_disconnected().await.unwrap();
                (transport.disconnect_cause(), transport.close_handshake().is_complete())
            });
            server.join().unwrap();
            (closed.unwrap() == (Some(DisconnectCause::Closed), true)).then_some(())
        });
    }
}

/// A server for one connection, which it closes a while after the client does; with its URL.
fn slow_to_answer_close(wait: Duration) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = Vec::new();
        let (request, _) = loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
            if let Some(parsed) = UpgradeRequest::parse(&request, &HeadLimits::default()).unwrap() {
                break parsed;
            }
        };
        let key = request.validate_upgrade().unwrap();
        let mut answer = Vec::new();
        encode_switching_protocols(&mut answer, &key, None, &http::HeaderMap::new());
        stream.write_all(&answer).unwrap();
        // CLOSE 1000 "done", masked.
        let mut close = [0; 2 + 4 + 6];
        stream.read_exact(&mut close).unwrap();
        stream.set_read_timeout(Some(wait)).unwrap();
        // The client waits for the answer, or has given up.
        if stream.read(&mut [0]).is_err() {
            let _ = stream.write_all(&[0x88, 0x02, 0x03, 0xE8]);
        }
    });
    (url, server)
}
