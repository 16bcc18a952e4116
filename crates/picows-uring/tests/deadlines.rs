//! Deadlines on a real ring: a stall of a worker, or of a client's loop, is not the peer's fault.
//!
//! The rules are tested with a virtual clock in `worker/tests/deadlines.rs`. Here it is that the
//! kernel returns a backlog a little at a time.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{
    Client, address, close_payload, eventually, masked, next, patiently, upgrade_request,
};
use picows_uring::{
    CloseCode, Connect, DisconnectCause, EchoListener, Frame, FrameHead, Listener, ListenerResult,
    MsgType, ServerHandle, Transport, Upgrade,
};
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// More than the kernel returns at a time.
const PEERS: usize = 100;
const LIMIT: Duration = Duration::from_secs(1);

/// Holds its worker up at "stall" until the test says so.
struct Stalls {
    begun: Sender<()>,
    release: Arc<Mutex<Receiver<()>>>,
    causes: Sender<Option<DisconnectCause>>,
}

impl Listener for Stalls {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        match frame.payload() {
            b"stall" => {
                self.begun.send(())?;
                self.release.lock().unwrap().recv()?;
            }
            b"close" => drop(transport.send_close(CloseCode::NORMAL, "")),
            _ => {}
        }
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        // The test may have seen enough.
        let _ = self.causes.send(transport.disconnect_cause());
    }
}

struct Fixture {
    server: ServerHandle,
    begun: Receiver<()>,
    release: Sender<()>,
    causes: Receiver<Option<DisconnectCause>>,
}

impl Fixture {
    fn new() -> Self {
        let ((begun_in, begun), (release, release_out)) = (channel(), channel());
        let (causes_in, causes) = channel();
        let release_out = Arc::new(Mutex::new(release_out));
        let senders = Mutex::new((begun_in, causes_in));
        let builder = common::workers(1).handshake_timeout(LIMIT).close_timeout(LIMIT);
        let server = builder
            .start(move |_| {
                let (begun, causes) = senders.lock().unwrap().clone();
                let release = Arc::clone(&release_out);
                Upgrade::accept(Stalls { begun, release, causes })
            })
            .unwrap();
        Self { server, begun, release, causes }
    }

    /// Holds the worker up, in which `act` has its effect, for longer than the limit. `None` if this
    /// test was too slow itself.
    fn stalled(&self, since: Instant, blocker: &mut Client, act: impl FnOnce()) -> Option<()> {
        blocker.send_text("stall");
        next(&self.begun);
        act();
        let is_in_time = since.elapsed() < LIMIT;
        // The stall itself, which ends well after the limit.
        std::thread::sleep((LIMIT * 3 / 2).saturating_sub(since.elapsed()));
        self.release.send(()).unwrap();
        is_in_time.then_some(())
    }
}

#[test]
fn requests_that_came_in_time_are_answered_after_a_stall() {
    let fixture = Fixture::new();
    patiently("a try in which nobody was late", || {
        let mut blocker = Client::upgrade(address(&fixture.server));
        let since = Instant::now();
        let accepted = fixture.server.stats().accepted;
        let mut clients: Vec<_> =
            (0..PEERS).map(|_| Client::connect(address(&fixture.server))).collect();
        eventually(&fixture.server, "all are accepted", |stats| {
            stats.accepted == accepted + PEERS as u64
        });
        fixture.stalled(since, &mut blocker, || {
            clients.iter_mut().for_each(|it| it.write(upgrade_request("/", "").as_bytes()));
        })?;
        for client in &mut clients {
            assert_eq!(client.response().status, 101);
        }
        Some(())
    });
}

#[test]
fn close_frames_that_came_in_time_count_after_a_stall() {
    let fixture = Fixture::new();
    patiently("a try in which nobody was late", || {
        let mut blocker = Client::upgrade(address(&fixture.server));
        let mut clients: Vec<_> =
            (0..PEERS).map(|_| Client::upgrade(address(&fixture.server))).collect();
        let since = Instant::now();
        for client in &mut clients {
            client.send_text("close");
            client.expect_close(CloseCode::NORMAL, "");
        }
        let close = masked(FrameHead::new(MsgType::Close), &close_payload(1000, ""));
        let in_time = fixture.stalled(since, &mut blocker, || {
            clients.iter_mut().for_each(|client| client.write(&close));
        });
        let causes: Vec<_> = (0..PEERS).map(|_| next(&fixture.causes)).collect();
        in_time?;
        let closed = causes.iter().filter(|it| **it == Some(DisconnectCause::Closed)).count();
        assert_eq!(closed, PEERS, "the others: {causes:?}");
        Some(())
    });
}

/// A server that answers a request on command, and says when it has.
fn scripted(answer: Receiver<()>, answered: Sender<()>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = picows_uring_proto::AcceptKey::for_key(key);
        answer.recv().unwrap();
        let lines = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
        let text = format!("{lines}\r\nSec-WebSocket-Accept: {}\r\n\r\n", accept.as_str());
        stream.write_all(text.as_bytes()).unwrap();
        answered.send(()).unwrap();
        // Until the client goes.
        let _ = stream.read(&mut [0]);
    });
    url
}

#[test]
fn an_answer_that_came_in_time_opens_a_connection_after_a_stall_of_its_loop() {
    for limit in [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(4)] {
        let ((answer, told), (answered_in, answered)) = (channel(), channel());
        let url = scripted(told, answered_in);
        let outcome = common::run(async move {
            let since = Instant::now();
            let connect = Connect::new(url).handshake_timeout(limit).connect(EchoListener);
            let stall = picows_uring::spawn(async move {
                // Behind the request.
                tokio::time::sleep(limit / 3).await;
                answer.send(()).unwrap();
                answered.recv().unwrap();
                let is_in_time = since.elapsed() < limit;
                std::thread::sleep((limit * 3 / 2).saturating_sub(since.elapsed()));
                is_in_time
            });
            let outcome = connect.await.map(|transport| transport.abort());
            (outcome, stall.unwrap().await.unwrap())
        });
        let (outcome, is_in_time) = outcome.unwrap();
        if is_in_time {
            assert!(outcome.is_ok(), "{outcome:?}");
            return;
        }
    }
    panic!("too busy a machine");
}
