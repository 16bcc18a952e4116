//! Connections as streams of messages and sinks.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod scripted;

use futures_util::stream::FusedStream;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use picows_uring::{
    CloseCode, CloseFrame, Connect, DisconnectCause, EchoListener, Frame, Listener, ListenerError,
    ListenerResult, MsgType, OwnedMessage, PeerMisbehaved, SendError, Server, ServerHandle,
    StreamOptions, Transport, Upgrade, WhenFull, WsStream,
};
use scripted::{PATIENCE, Peer, run, serve, until};
use std::io::Read;
use std::time::Duration;
use tokio::time::timeout;

/// Runs a task, which is polled when it is woken and at no other time.
fn run_task<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
    run(async { picows_uring::spawn(future).unwrap().await.unwrap() }).unwrap()
}

fn serving(make: impl Fn() -> Upgrade + Send + Sync + 'static) -> (ServerHandle, String) {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).close_timeout(2 * PATIENCE);
    let server = builder
        .handshake_timeout(PATIENCE)
        .start(move |request| match request.path() {
            "/echo" => Upgrade::accept(EchoListener),
            _ => make(),
        })
        .unwrap();
    let url = server.addresses()[0].to_string();
    (server, url)
}

fn echo_server() -> (ServerHandle, String) {
    serving(|| {
        Upgrade::accept_stream(async |mut stream| {
            while let Some(message) = stream.next().await {
                stream.send(message).await?;
            }
            Ok(())
        })
    })
}

/// A server that sends bytes after the upgrade and ends its side, and waits for the client to go.
fn sends(bytes: Vec<u8>) -> String {
    let address = serve(move |_, mut peer: Peer| {
        let answer = peer.request().accepted("");
        peer.write(answer.as_bytes());
        peer.write(&bytes);
        let _ = peer.stream.shutdown(std::net::Shutdown::Write);
        peer.read_to_end();
    });
    format!("ws://{address}/")
}

#[test]
fn messages_of_every_kind_and_size_come_back() {
    let (server, url) = echo_server();
    run_task(async move {
        let mut stream = Connect::new(url).stream().await.unwrap();
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 8 << 20] {
            let bytes: Vec<u8> = (0..size).map(|index: usize| (index % 251) as u8).collect();
            for message in [OwnedMessage::from(bytes), OwnedMessage::from("x".repeat(size))] {
                stream.send(message.clone()).await.unwrap();
                assert_eq!(stream.next().await, Some(message));
            }
        }
        stream.close().await;
        assert!(stream.transport().close_handshake().is_complete());
        assert_eq!(stream.next().await, None);
        assert_eq!(stream.next().await, None, "and stays at its end");
        assert!(stream.is_terminated());
        assert_eq!(stream.send("late").await, Err(SendError::Closed));
    });
    let stats = server.stop().unwrap();
    assert_eq!((stats.protocol_errors, stats.listener_errors), (0, 0));
}

#[test]
fn it_is_a_stream_and_a_sink_of_futures() {
    fn check<
        S: Stream<Item = OwnedMessage> + Sink<OwnedMessage, Error = SendError> + FusedStream,
    >(
        _: &S,
    ) {
    }
    let (server, url) = echo_server();
    run_task(async move {
        let stream = Connect::new(url).stream().await.unwrap();
        check(&stream);
        let (mut sink, source) = stream.split();
        let numbers: Vec<_> =
            (0..1000).map(|number| OwnedMessage::from(number.to_string())).collect();
        let sent = numbers.clone();
        let sending = async {
            sink.send_all(&mut futures_util::stream::iter(sent).map(Ok)).await.unwrap();
            sink.flush().await.unwrap();
        };
        let (received, ()) =
            futures_util::future::join(source.take(1000).collect::<Vec<_>>(), sending).await;
        assert_eq!(received, numbers);
    });
    server.stop().unwrap();
}

#[test]
fn fragments_are_joined_and_control_frames_between_them_are_not_lost_rfc6455_5_4() {
    let mut wire = b"\x01\x03Hel\x8a\x04pong\x00\x00\x80\x02lo".to_vec(); // With a PONG inside.
    wire.extend_from_slice(b"\x02\x01\x01\x80\x01\x02\x81\x02\xc3\xbc");
    wire.extend_from_slice(b"\x88\x05\x03\xe8bye");
    run_task(async move {
        let stream = Connect::new(sends(wire)).stream().await.unwrap();
        let transport = stream.transport().clone();
        let heard: Vec<_> = stream.collect().await;
        let wanted: [OwnedMessage; 4] = [
            OwnedMessage::Pong("pong".into()),
            "Hello".into(),
            OwnedMessage::Binary([1, 2][..].to_vec().into()),
            "ü".into(),
        ];
        assert_eq!(heard, wanted);
        assert_eq!(transport.disconnect_cause(), Some(DisconnectCause::Closed));
        let close = transport.close_handshake();
        assert_eq!(close.received, Some(CloseFrame::new(CloseCode::NORMAL, "bye")));
    });
}

#[test]
fn messages_have_a_limit_and_text_is_utf8_rfc6455_8_1() {
    for (wire, error, code) in [
        (&b"\x82\x65"[..], PeerMisbehaved::MessageTooLarge, CloseCode::MESSAGE_TOO_BIG),
        (b"\x02\x32", PeerMisbehaved::MessageTooLarge, CloseCode::MESSAGE_TOO_BIG),
        (b"\x81\x02\xc3\x28", PeerMisbehaved::InvalidUtf8, CloseCode::INVALID_PAYLOAD),
    ] {
        let mut wire = wire.to_vec();
        match wire[..2] {
            [0x82, len] => wire.extend(vec![0; usize::from(len)]),
            [0x02, len] => {
                // 50 bytes, 50 more, and one too many.
                wire.extend(vec![0; usize::from(len)]);
                wire.extend_from_slice(&[0x00, len]);
                wire.extend(vec![0; usize::from(len)]);
                wire.extend_from_slice(&[0x80, 1, 0]);
            }
            _ => {}
        }
        run_task(async move {
            let options = StreamOptions::default().max_message_size(100);
            let connect = Connect::new(sends(wire));
            let mut stream = connect.stream_with(options).await.unwrap();
            assert_eq!(stream.next().await, None);
            let transport = stream.transport();
            let cause = DisconnectCause::PeerMisbehaved(error);
            assert_eq!(transport.disconnect_cause(), Some(cause.clone()));
            assert_eq!(transport.wait_disconnected().await, Err(cause));
            assert_eq!(transport.close_handshake().sent.unwrap().code(), Some(code));
        });
    }
}

/// Sends numbered messages until it has to stop, as fast as it may.
struct Flood {
    next: usize,
    count: usize,
    is_paused: bool,
}

const FLOOD_BYTES: usize = 1024;

impl Flood {
    fn go(&mut self, transport: &Transport) {
        while self.next < self.count && !self.is_paused {
            let mut payload = vec![0; FLOOD_BYTES];
            payload[..8].copy_from_slice(&self.next.to_le_bytes());
            self.next += 1;
            if transport.send(MsgType::Binary, &payload) == picows_uring::SendStatus::Congested {
                break;
            }
        }
    }
}

impl Listener for Flood {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        self.go(transport);
        Ok(())
    }

    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        Ok(())
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.is_paused = true;
    }

    fn resume_writing(&mut self, transport: &Transport) {
        self.is_paused = false;
        self.go(transport);
    }
}

fn flood_server(count: usize) -> (ServerHandle, String) {
    serving(move || Upgrade::accept(Flood { next: 0, count, is_paused: false }))
}

fn number(message: &OwnedMessage) -> usize {
    usize::from_le_bytes(message.as_bytes()[..8].try_into().unwrap())
}

fn queued(stream: &WsStream) -> usize {
    stream.size_hint().0
}

/// Has our worker and that of the server take many turns: far more than what has arrived is worth.
async fn take_turns(url: &str) {
    let url = format!("{}/echo", url.trim_end_matches('/'));
    let beside = Connect::new(url).connect(EchoListener).await.unwrap();
    beside.measure_roundtrip_time(100).await.unwrap();
    beside.disconnect();
}

/// Waits until the peer is held back and all that had arrived by then is queued, and returns how
/// much that is.
async fn stalled(stream: &WsStream, url: &str) -> usize {
    until("it is held back", || stream.transport().is_reading_paused().then_some(())).await;
    take_turns(url).await;
    queued(stream)
}

#[test]
fn a_full_queue_holds_the_peer_back_and_loses_nothing() {
    const COUNT: usize = 60_000;
    let (server, url) = flood_server(COUNT);
    run_task(async move {
        let options = StreamOptions::default().max_messages(100);
        let mut stream = Connect::new(&*url).stream_with(options).await.unwrap();
        let waiting = stalled(&stream, &url).await;
        assert!((100..10_000).contains(&waiting), "{waiting} of {COUNT} messages are queued");
        assert!(stream.transport().is_reading_paused());
        for wanted in 0..COUNT {
            let message = timeout(PATIENCE, stream.next()).await.expect("it goes on").unwrap();
            assert_eq!((number(&message), message.len()), (wanted, FLOOD_BYTES));
            if wanted == COUNT / 2 {
                // Not only the first time.
                let waiting = stalled(&stream, &url).await;
                assert!(waiting < 10_000, "{waiting} of {COUNT} messages are queued");
            }
        }
        assert_eq!(stream.dropped(), 0);
        stream.close().await;
    });
    server.stop().unwrap();
}

#[test]
fn closing_reads_past_a_full_queue() {
    let (server, url) = flood_server(60_000);
    run_task(async move {
        let options = StreamOptions::default().max_messages(100);
        let connect = Connect::new(&*url).close_timeout(2 * PATIENCE);
        let mut stream = connect.stream_with(options).await.unwrap();
        let waiting = stalled(&stream, &url).await;
        let closing = stream.close_with(CloseCode::GOING_AWAY, "enough");
        timeout(PATIENCE, closing).await.expect("it need not wait for the close timeout");
        assert!(stream.transport().close_handshake().is_complete());
        // What had arrived before can still be had.
        assert_eq!(stream.count().await, waiting);
    });
    server.stop().unwrap();
}

#[test]
fn messages_are_dropped_where_that_is_asked_for() {
    const COUNT: usize = 5_000;
    for policy in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let (server, url) = flood_server(COUNT);
        run_task(async move {
            let options = StreamOptions::default().max_messages(10).when_full(policy);
            let mut stream = Connect::new(url).stream_with(options).await.unwrap();
            let is_over = || (stream.dropped() >= (COUNT - 10) as u64).then_some(());
            until("most are dropped", is_over).await;
            assert_eq!(queued(&stream), 10);
            let first = if policy == WhenFull::DropOldest { COUNT - 10 } else { 0 };
            for wanted in first..first + 10 {
                assert_eq!(number(&stream.try_next().unwrap()), wanted);
            }
            assert_eq!(stream.try_next(), None);
        });
        server.stop().unwrap();
    }
}

#[test]
fn a_dropped_next_loses_nothing() {
    const COUNT: usize = 20_000;
    let (server, url) = flood_server(COUNT);
    run_task(async move {
        let mut stream = Connect::new(url).stream().await.unwrap();
        let (mut wanted, mut dropped) = (0, 0);
        while wanted < COUNT {
            let message = match stream.next().now_or_never() {
                Some(message) => message,
                None if dropped % 2 == 0 => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                    continue;
                }
                None => {
                    dropped += 1;
                    timeout(PATIENCE, stream.next()).await.expect("it is woken")
                }
            };
            assert_eq!(number(&message.unwrap()), wanted);
            wanted += 1;
        }
        assert!(dropped > 0);
    });
    server.stop().unwrap();
}

#[test]
fn sending_waits_for_a_peer_that_does_not_read() {
    const COUNT: usize = 2_000;
    let (reading, may_read) = std::sync::mpsc::channel::<()>();
    let may_read = std::sync::Mutex::new(may_read);
    let (told, received) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let address = serve(move |_, mut peer| {
        let answer = peer.request().accepted("");
        peer.write(answer.as_bytes());
        may_read.lock().unwrap().recv().unwrap();
        told.lock().unwrap().send(peer.read_to_end().len()).unwrap();
    });
    run_task(async move {
        let connect = Connect::new(format!("ws://{address}/")).write_watermarks(100_000, 20_000);
        let mut stream = connect.stream().await.unwrap();
        let payload = vec![7_u8; 10_000];
        let mut sent = 0;
        // Until the kernel takes no more, and the queue is full. Should it only be late, the peer
        // has read nothing all the same.
        while timeout(Duration::from_millis(200), stream.send(payload.clone())).await.is_ok() {
            sent += 1;
            let buffered = stream.transport().buffered_amount();
            assert!(buffered <= 100_000 + 10_014, "{buffered}");
        }
        assert!(sent < COUNT, "{sent}");
        assert!(stream.flush().now_or_never().is_none());
        reading.send(()).unwrap();
        for _ in sent..COUNT {
            timeout(PATIENCE, stream.send(payload.clone())).await.expect("it goes on").unwrap();
        }
        stream.flush().await.unwrap();
        assert_eq!(stream.transport().buffered_amount(), 0);
        stream.transport().disconnect();
        stream.transport().wait_disconnected().await.unwrap();
        assert_eq!(SinkExt::flush(&mut stream).await, Err(SendError::Closed));
    });
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), COUNT * (10_000 + 8));
}

/// How the client sees a connection end whose handler does `how`.
fn end_of(how: fn(WsStream) -> Result<WsStream, ListenerError>) -> (Option<CloseFrame>, u64) {
    let (server, url) =
        serving(move || Upgrade::accept_stream(async move |stream| how(stream).map(drop)));
    let close = run_task(async move {
        let mut stream = Connect::new(url).stream().await.unwrap();
        assert_eq!(timeout(PATIENCE, stream.next()).await.unwrap(), None);
        stream.transport().close_handshake().received
    });
    (close, server.stop().unwrap().listener_errors)
}

#[test]
fn a_handler_ends_its_connection_as_a_callback_does() {
    let normal = Some(CloseFrame::new(CloseCode::NORMAL, ""));
    assert_eq!(end_of(Ok), (normal, 0));
    let failed = Some(CloseFrame::new(CloseCode::INTERNAL_ERROR, ""));
    assert_eq!(end_of(|_| Err("no such thing".into())), (failed.clone(), 1));
    let told = Some(CloseFrame::new(CloseCode::POLICY_VIOLATION, "go away"));
    assert_eq!(
        end_of(|_| Err(ListenerError::close(CloseCode::POLICY_VIOLATION, "go away"))),
        (told, 1)
    );
    assert_eq!(end_of(|_| panic!("of the handler, on purpose")).0, failed);
}

#[test]
fn a_dropped_stream_says_goodbye_at_once() {
    let (server, url) = serving(|| {
        Upgrade::accept_stream(async |stream| {
            drop(stream);
            std::future::pending().await
        })
    });
    run_task(async move {
        let mut stream = Connect::new(url).stream().await.unwrap();
        assert_eq!(timeout(PATIENCE, stream.next()).await.unwrap(), None);
        let close = stream.transport().close_handshake();
        assert_eq!(close.received.unwrap().code(), Some(CloseCode::NORMAL));
    });
    server.stop().unwrap();
}

#[test]
fn a_dedicated_worker_answers_500() {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).dedicated(true);
    let server = builder.start(|_| Upgrade::accept_stream(async |_| Ok(()))).unwrap();
    let error = scripted::refused(Connect::new(server.addresses()[0].to_string()));
    assert_eq!(error.response().unwrap().status().as_u16(), 500);
    assert_eq!(server.stop().unwrap().listener_errors, 1);
}

#[test]
fn a_peer_that_disappears_ends_the_stream() {
    let address = serve(|number, mut peer| {
        let answer = peer.request().accepted("");
        peer.write(answer.as_bytes());
        peer.write(b"\x81\x02hi");
        if number == 1 {
            // Once it has arrived: the reset would overtake it otherwise.
            peer.stream.read_exact(&mut [0]).unwrap();
            peer.reset();
        }
    });
    for cause in
        [DisconnectCause::EndOfStream, DisconnectCause::Io(std::io::ErrorKind::ConnectionReset)]
    {
        run_task(async move {
            let mut stream = Connect::new(format!("ws://{address}/")).stream().await.unwrap();
            assert_eq!(stream.next().await, Some("hi".into()));
            if cause != DisconnectCause::EndOfStream {
                stream.send("it has arrived").await.unwrap();
            }
            assert_eq!(stream.next().await, None);
            assert_eq!(stream.transport().disconnect_cause(), Some(cause));
            assert_eq!(stream.transport().wait_disconnected().await, Ok(()));
        });
    }
}

#[test]
fn a_client_that_goes_away_while_nobody_reads_is_noticed_when_somebody_does() {
    let (server, url) = flood_server(60_000);
    run_task(async move {
        let options = StreamOptions::default().max_messages(10);
        let mut stream = Connect::new(&*url).stream_with(options).await.unwrap();
        stalled(&stream, &url).await;
        stream.transport().abort();
        let taken = timeout(PATIENCE, async {
            let mut taken = 0;
            while let Some(message) = stream.next().await {
                assert_eq!(number(&message), taken);
                taken += 1;
            }
            taken
        });
        assert!(taken.await.unwrap() >= 10);
    });
    server.stop().unwrap();
}

#[test]
fn many_streams_share_a_thread() {
    let (server, url) = echo_server();
    run_task(async move {
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let connecting = Connect::new(&*url).handshake_timeout(PATIENCE).stream();
                let exchange = async move {
                    let mut stream = connecting.await.unwrap();
                    for round in 0..20 {
                        let message = OwnedMessage::from(format!("{number} {round}"));
                        stream.send(message.clone()).await.unwrap();
                        assert_eq!(stream.next().await, Some(message));
                    }
                    stream.close().await;
                };
                picows_uring::spawn(exchange).unwrap()
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    server.stop().unwrap();
}

/// Pauses at each frame, and has a task resume.
struct Stutter {
    heard: usize,
    count: usize,
}

impl Listener for Stutter {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        assert_eq!(number(&OwnedMessage::from(frame.payload())), self.heard);
        self.heard += 1;
        if self.heard == self.count {
            transport.send_close(CloseCode::NORMAL, "");
            return Ok(());
        }
        transport.pause_reading();
        match self.heard % 4 {
            // At once, before the send was submitted; and later, when it may have been.
            0 => transport.resume_reading(),
            _ => {
                let transport = transport.clone();
                picows_uring::spawn(async move {
                    tokio::task::yield_now().await;
                    transport.resume_reading();
                })?;
            }
        }
        Ok(())
    }
}

#[test]
fn reading_can_be_paused_and_resumed_at_any_time() {
    const COUNT: usize = 30_000;
    let (server, url) = flood_server(COUNT);
    run_task(async move {
        let transport =
            Connect::new(url).connect(Stutter { heard: 0, count: COUNT }).await.unwrap();
        timeout(PATIENCE, transport.wait_disconnected()).await.expect("it goes on").unwrap();
        assert!(transport.close_handshake().is_complete());
    });
    server.stop().unwrap();
}

#[test]
fn a_paused_connection_can_be_ended() {
    let (server, url) = serving(|| Upgrade::accept(EchoListener));
    for end in [Transport::disconnect, Transport::abort] {
        let url = url.clone();
        run_task(async move {
            let connect = Connect::new(&*url).close_timeout(2 * PATIENCE);
            let transport = connect.connect(EchoListener).await.unwrap();
            transport.pause_reading();
            transport.pause_reading();
            assert!(transport.is_reading_paused());
            // Until the kernel has been told.
            take_turns(&url).await;
            end(&transport);
            timeout(PATIENCE, transport.wait_disconnected()).await.unwrap().unwrap();
        });
    }
    server.stop().unwrap();
}
