//! Shared parts of the tests: a client that hides nothing (`client.rs`), servers, listeners, bytes.
//!
//! Blocking sockets with a generous timeout: a test waits for what it expects and never sleeps
//! instead.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this module")]

mod client;
#[path = "../patience/mod.rs"]
mod patience;
#[cfg(feature = "_tls")]
#[path = "../common/secure.rs"]
pub(crate) mod secure;

pub(crate) use client::{Client, Got, Response};
pub(crate) use patience::*;

use picows_uring::{
    CloseHandshake, Connect, DisconnectCause, Frame, FrameHead, Listener, ListenerResult, MsgType,
    Server, ServerBuilder, ServerHandle, Stats, Transport,
};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// A server description: any free port of the loopback, and this many workers.
pub(crate) fn workers(count: usize) -> ServerBuilder {
    secured(Server::builder().listen("127.0.0.1:0").workers(count))
}

/// A server description with a loopback address of this process' own, `number` apart from others:
/// no other server gets its port, and no client leaves from it, while no socket listens there.
pub(crate) fn own_loopback(number: u8) -> ServerBuilder {
    let [.., high, low] = std::process::id().to_be_bytes();
    secured(Server::builder().listen(format!("127.{}.{high}.{low}:0", 100 + number)))
}

/// Has a server speak TLS, and its clients with it, where the variable `PICOWS_TEST_TLS` is set
/// (`scripts/test --tls`).
fn secured(builder: ServerBuilder) -> ServerBuilder {
    #[cfg(feature = "_tls")]
    if secure::is_wanted() {
        return builder.tls(secure::server());
    }
    builder
}

/// Whether the tests run over TLS: those that speak HTTP by themselves then have nothing to do.
pub(crate) fn is_over_tls() -> bool {
    #[cfg(feature = "_tls")]
    return secure::is_wanted();
    #[cfg(not(feature = "_tls"))]
    false
}

/// A connection of our client to `server`, which it trusts.
pub(crate) fn connect_to(server: &ServerHandle) -> Connect {
    let connect = Connect::new(server.addresses()[0].to_string());
    #[cfg(feature = "_tls")]
    if secure::is_wanted() {
        return connect.tls(&secure::client());
    }
    connect
}

/// Where `server` listens.
pub(crate) fn address(server: &ServerHandle) -> SocketAddr {
    server.local_addr().expect("it listens on TCP")
}

/// Waits until the counters of `server` are as wanted.
#[track_caller]
pub(crate) fn eventually(server: &ServerHandle, what: &str, holds: impl Fn(&Stats) -> bool) {
    let start = Instant::now();
    loop {
        let stats = server.stats();
        if holds(&stats) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}: {stats:?}");
        // Bounds the polling; no result depends on it.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a channel brings next.
#[track_caller]
pub(crate) fn next<T: Debug>(events: &Receiver<T>) -> T {
    events.recv_timeout(PATIENCE).expect("an event comes in time")
}

/// A path for a Unix socket, in a folder that goes with it. Short, as such paths have to be.
pub(crate) struct SocketFolder(PathBuf);

impl SocketFolder {
    pub(crate) fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("picows-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written to");
        Self(folder)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("p.sock")
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes that look random, different for each seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A frame as a client sends it.
pub(crate) fn masked(head: FrameHead, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    head.append(&mut out, payload, Some([0x37, 0xFA, 0x21, 0x3D]));
    out
}

/// The payload of a CLOSE.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// A valid request, with further header lines.
pub(crate) fn upgrade_request(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

/// A listener that is a function of frames.
pub(crate) fn on_frame<F>(on_frame: F) -> impl Listener
where
    F: FnMut(&Transport, &Frame<'_>) -> ListenerResult,
{
    OnFrame(on_frame)
}

struct OnFrame<F>(F);

impl<F> Listener for OnFrame<F>
where
    F: FnMut(&Transport, &Frame<'_>) -> ListenerResult,
{
    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        (self.0)(transport, frame)
    }
}

/// An event of a [`recorder`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connected,
    Frame(MsgType, Vec<u8>),
    Paused,
    Resumed,
    Disconnected(Option<DisconnectCause>, CloseHandshake),
}

/// A listener that reports its events to a channel, and does something with each frame.
pub(crate) fn recorder<F>(events: &Sender<Event>, on_frame: F) -> impl Listener + use<F>
where
    F: FnMut(&Transport, &Frame<'_>) -> ListenerResult,
{
    Recorder { events: events.clone(), on_frame }
}

struct Recorder<F> {
    events: Sender<Event>,
    on_frame: F,
}

impl<F> Recorder<F> {
    fn tell(&self, event: Event) {
        // The test may have seen enough.
        let _ = self.events.send(event);
    }
}

impl<F> Listener for Recorder<F>
where
    F: FnMut(&Transport, &Frame<'_>) -> ListenerResult,
{
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.tell(Event::Connected);
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        self.tell(Event::Frame(frame.msg_type(), frame.payload().to_vec()));
        (self.on_frame)(transport, frame)
    }

    fn on_disconnected(&mut self, transport: &Transport) {
        assert!(transport.is_disconnected());
        let (cause, close) = (transport.disconnect_cause(), transport.close_handshake());
        self.tell(Event::Disconnected(cause, close));
    }

    fn pause_writing(&mut self, _: &Transport) {
        self.tell(Event::Paused);
    }

    fn resume_writing(&mut self, _: &Transport) {
        self.tell(Event::Resumed);
    }
}
