//! A worker that loses its ring, on the real kernel: the others live on without it.

use crate::ring::uring::tests::lose_ring;
use crate::{
    DisconnectCause, Driver, Error, Frame, Listener, ListenerResult, Server, ServerHandle,
    Transport, Upgrade, WorkerState,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Says which worker it is on, and loses the ring of that worker on request.
struct Victim(Sender<Option<DisconnectCause>>);

impl Listener for Victim {
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.payload() == b"fail" {
            lose_ring();
        }
        transport.send_text(std::thread::current().name().unwrap_or_default());
        Ok(())
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        let _ = self.0.send(transport.disconnect_cause());
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(server: &ServerHandle) -> Self {
        let stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn upgrade(mut self) -> std::io::Result<Self> {
        self.0.write_all(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        Ok(self)
    }

    /// Sends a text, and returns the name of the worker.
    fn ask(&mut self, text: &[u8]) -> std::io::Result<String> {
        self.0.write_all(&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0])?;
        self.0.write_all(text)?;
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        let mut name = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut name)?;
        Ok(String::from_utf8(name).unwrap())
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn start(workers: usize, dedicated: bool) -> (ServerHandle, Receiver<Option<DisconnectCause>>) {
    let (causes, told) = mpsc::channel();
    let builder = Server::builder().listen("127.0.0.1:0").workers(workers).dedicated(dedicated);
    let builder = builder.driver(Driver::IoUring);
    let builder = builder.max_connections(1000).max_per_address(1000);
    (builder.start(move |_| Upgrade::accept(Victim(causes.clone()))).unwrap(), told)
}

#[test]
fn a_worker_that_loses_its_ring_reports_and_the_others_serve_on() {
    for dedicated in [false, true] {
        let (server, told) = start(2, dedicated);
        let monitor = server.monitor();
        let mut clients: Vec<_> =
            (0..50).map(|_| Client::connect(&server).upgrade().unwrap()).collect();
        let of_first = |client: &mut Client| client.ask(b"who?").unwrap() == "picows-0";
        let (mut lost, mut kept): (Vec<_>, Vec<_>) =
            clients.drain(..).map(|mut it| (of_first(&mut it), it)).partition(|it| it.0);
        assert!(!lost.is_empty() && !kept.is_empty(), "the kernel spreads 50 connections");
        assert!(monitor.failed().is_none());
        // Whatever the last word of that worker was, its connections end.
        let _ = lost[0].1.ask(b"fail");
        for (_, client) in &mut lost {
            let mut rest = Vec::new();
            let _ = client.0.read_to_end(&mut rest);
            let cause = told.recv_timeout(PATIENCE).unwrap();
            assert_eq!(cause, Some(DisconnectCause::WorkerFailed));
        }
        until("the failure is told", || monitor.failed().is_some());
        let Some(Error::Worker { worker: 0, fault }) = monitor.failed() else { panic!() };
        assert!(fault.contains("its ring is lost"), "{fault}");
        let states: Vec<_> = monitor.workers().map(|worker| worker.state).collect();
        assert_eq!(states, [WorkerState::Failed(fault), WorkerState::Running]);
        assert!(monitor.is_running());
        for (_, client) in &mut kept {
            assert_eq!(client.ask(b"who?").unwrap(), "picows-1");
        }
        // No connection goes to the one that is gone.
        for _ in 0..50 {
            let mut client = Client::connect(&server).upgrade().unwrap();
            assert_eq!(client.ask(b"who?").unwrap(), "picows-1");
        }
        drop(kept);
        // A slot is free a little later than its connection: when its socket is closed.
        until("the rest have gone", || monitor.stats().slots == 0);
        let stats = monitor.stats();
        assert_eq!((stats.connections, stats.accepted), (0, stats.disconnected), "{stats:?}");
        let error = server.stop().unwrap_err().to_string();
        assert!(error.starts_with("worker 0 failed: its ring is lost"), "{error}");
        assert!(!monitor.is_running());
    }
}

#[test]
fn the_last_worker_takes_the_server_with_it() {
    let (server, _told) = start(1, false);
    let monitor = server.monitor();
    let mut client = Client::connect(&server).upgrade().unwrap();
    let _ = client.ask(b"fail");
    let error = server.join().unwrap_err().to_string();
    assert!(error.starts_with("worker 0 failed: its ring is lost"), "{error}");
    assert!(!monitor.is_running() && monitor.failed().is_some());
}
