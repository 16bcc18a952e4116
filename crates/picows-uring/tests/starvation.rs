//! Connections that send empty frames without end to a listener that is slow at each, beside others
//! of the same worker: these are served, and new ones get in.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, address, patiently, workers};
use picows_uring::{
    EchoListener, Frame, FrameHead, Listener, ListenerResult, MsgType, ServerHandle, Transport,
    Upgrade, UpgradeRequest,
};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the listener works for a frame.
const WORK: Duration = Duration::from_micros(10);
/// What a connection may have handled in a turn.
const SHARE: u64 = 1024;

/// Counts frames of the flood, and works for each.
struct Works(Arc<AtomicU64>);

impl Listener for Works {
    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        self.0.fetch_add(1, Ordering::Relaxed);
        let begin = Instant::now();
        while begin.elapsed() < WORK {}
        Ok(())
    }
}

/// One worker, with a path that is flooded and one that echoes.
struct Scene {
    server: ServerHandle,
    handled: Arc<AtomicU64>,
}

impl Scene {
    fn new() -> Self {
        let handled = Arc::<AtomicU64>::default();
        let count = Arc::clone(&handled);
        let builder = workers(1);
        let factory = move |request: &UpgradeRequest| match request.path() {
            "/work" => Upgrade::accept(Works(Arc::clone(&count))),
            _ => Upgrade::accept(EchoListener),
        };
        Self { server: builder.start(factory).unwrap(), handled }
    }

    fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// A flood that is on: so much of it was handled that every flooder can have had its share.
    fn flood(&self, flooders: usize) -> Flood {
        let flood = Flood::begin(address(&self.server), flooders);
        let enough = SHARE * flooders as u64;
        patiently("the flood is on", || (self.handled() >= enough).then_some(()));
        flood
    }
}

/// Connections that send empty frames, as many as the server takes.
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn begin(address: SocketAddr, count: usize) -> Self {
        let sockets: Vec<_> = (0..count).map(|_| flooder(address)).collect();
        let is_over = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || send_without_end(sockets, &is_over)
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// An upgraded connection that does not wait for room.
fn flooder(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let mut client = Client::over(stream.try_clone().unwrap());
    assert_eq!(client.ask("/work", "").status, 101);
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Fills the sockets whenever there is room, each from where it was in the frame.
fn send_without_end(sockets: Vec<TcpStream>, is_over: &AtomicBool) {
    let frame = common::masked(FrameHead::new(MsgType::Binary), b"");
    let frames = frame.repeat(10_000);
    let mut sockets: Vec<_> = sockets.into_iter().map(|socket| (socket, 0)).collect();
    while !is_over.load(Ordering::Relaxed) {
        let mut is_full = true;
        for (socket, offset) in &mut sockets {
            if let Ok(count) = socket.write(&frames[*offset..]) {
                *offset = (*offset + count) % frame.len();
                is_full = false;
            }
        }
        if is_full {
            // Bounds the polling; no result depends on it.
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A neighbour has its answer within one share of the flood, however many flooders there are. Counted
/// in what was handled of the flood, and for most round trips: of some, this process may be late to
/// read the answer.
fn a_neighbour_is_served_beside(flooders: usize) {
    const TRIPS: usize = 40;
    let scene = Scene::new();
    let mut neighbour = Client::upgrade(address(&scene.server));
    let _flood = scene.flood(flooders);
    let mut between: Vec<_> = (0..TRIPS)
        .map(|_| {
            let before = scene.handled();
            neighbour.echo(b"here");
            scene.handled() - before
        })
        .collect();
    between.sort_unstable();
    let bound = SHARE;
    let stats = scene.server.stats();
    assert!(between[TRIPS / 2] <= bound, "frames of the flood: {between:?}; {stats:?}");
}

#[test]
fn a_neighbour_of_16_flooders_is_served() {
    a_neighbour_is_served_beside(16);
}

#[test]
fn a_neighbour_of_64_flooders_is_served() {
    a_neighbour_is_served_beside(64);
}

#[test]
fn clients_that_come_while_64_flood_are_upgraded_and_served() {
    let scene = Scene::new();
    let _flood = scene.flood(64);
    let newcomers: Vec<_> = (0..10).map(|_| Client::connect(address(&scene.server))).collect();
    let newcomers = newcomers.into_iter().map(Client::upgraded);
    newcomers.for_each(|mut newcomer| newcomer.echo(b"here as well"));
}

#[test]
fn flooders_are_all_served() {
    let scene = Scene::new();
    let flood = scene.flood(16);
    let last: Vec<_> = (0..4).map(|_| Client::upgrade(address(&scene.server))).collect();
    let before = scene.handled();
    last.into_iter().for_each(|mut client| client.echo(b"beside"));
    // The flood goes on behind them.
    patiently("more of the flood", || (scene.handled() > before + 16 * SHARE).then_some(()));
    drop(flood);
}
