//! Resident memory after a burst: it returns to the system, for every size of frame.
//!
//! A binary of its own, whose tests run one after the other, as they measure the whole process.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, PATIENCE, address, eventually, masked, noise, patiently, workers};
use picows_uring::{
    Driver, EchoListener, Frame, FrameHead, Listener, ListenerResult, MsgType, ServerHandle,
    Transport, Upgrade, UpgradeRequest,
};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

const MIB: usize = 1024 * 1024;
/// Held by the test that measures.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes of memory that this process has.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Has clients send `CLIENTS * EACH` bytes in frames of this size, read nothing, and leave. Returns
/// how much was queued.
fn burst(server: &ServerHandle, frame_bytes: usize) -> u64 {
    const CLIENTS: usize = 4;
    const EACH: usize = 24 * MIB;
    let frame = masked(FrameHead::new(MsgType::Binary), &vec![1; frame_bytes]);
    let chunk = frame.repeat((64 * 1024 / frame.len()).max(1));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::upgrade(address(server))).collect();
    for client in &mut clients {
        for _ in 0..EACH / chunk.len() {
            client.write(&chunk);
        }
    }
    // Some of it is in the buffers of the sockets.
    eventually(server, "most of it is queued", |stats| stats.queue_bytes as usize >= 60 * MIB);
    server.stats().queue_bytes
}

#[test]
fn memory_of_a_burst_returns_to_the_system_with_and_without_traffic() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let builder = workers(1).release_memory_after(Duration::from_millis(100));
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    Client::upgrade(address(&server)).echo(b"hello");
    eventually(&server, "it is gone", |stats| stats.connections == 0);
    for has_traffic in [false, true] {
        for frame_bytes in [100, 1000, 16 * 1024, 100_000] {
            let before = resident();
            let queued = burst(&server, frame_bytes);
            let mut witness = has_traffic.then(|| Client::upgrade(address(&server)));
            let (limit, start) = (before + 16 * MIB, Instant::now());
            while resident() > limit {
                if let Some(witness) = &mut witness {
                    witness.echo(&[2; 1000]);
                }
                assert!(
                    start.elapsed() < PATIENCE,
                    "frames of {frame_bytes} bytes, traffic: {has_traffic}: {} MiB before, {} MiB \
                     now, {} MiB were queued; {:?}",
                    before / MIB,
                    resident() / MIB,
                    queued as usize / MIB,
                    server.stats()
                );
                // Bounds the polling; no result depends on it.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    server.stop().unwrap();
}

/// Holds listeners up while it is closed.
#[derive(Default)]
struct Gate {
    lock: RwLock<()>,
    /// Small blocks that stay: what is freed between them is not at the end of its heap.
    pins: Mutex<Vec<Vec<u8>>>,
    frames: AtomicUsize,
}

/// Of 10 kB each.
const FRAMES_PER_PIN: usize = 8;

/// Waits at each frame for a gate, and sends nothing.
struct Waits(Arc<Gate>);

impl Listener for Waits {
    fn on_frame(&mut self, _: &Transport, _: &Frame<'_>) -> ListenerResult {
        drop(self.0.lock.read().unwrap());
        // Some for each receive buffer. One for each frame took as much memory as the buffers.
        if self.0.frames.fetch_add(1, Ordering::Relaxed).is_multiple_of(FRAMES_PER_PIN) {
            self.0.pins.lock().unwrap().push(vec![1; 100]);
        }
        Ok(())
    }
}

/// Fills a socket as far as there is room, up to a MiB, in frames of 10 kB, from where it was in one.
fn fill(socket: &mut TcpStream, sent: &mut usize) {
    let frame = masked(FrameHead::new(MsgType::Binary), &[1; 10_000]);
    let mut filled = 0;
    while filled < MIB
        && let Ok(count) = socket.write(&frame[*sent..])
    {
        *sent = (*sent + count) % frame.len();
        filled += count;
    }
}

/// Has more receive buffers made, until most that two workers may have are there: what has arrived while
/// a worker had no time lies in them.
fn grow_receive_buffers(server: &ServerHandle, gate: &Gate, fillers: Vec<TcpStream>) {
    let mut sockets: Vec<_> = fillers.into_iter().map(|socket| (socket, 0)).collect();
    // One worker may shrink again before the other has grown.
    let mut most = [0; 2];
    patiently("receive buffers", || {
        let closed = gate.lock.write().unwrap();
        let turns: Vec<_> = server.worker_stats().map(|stats| stats.turns).collect();
        sockets.iter_mut().for_each(|(socket, sent)| fill(socket, sent));
        drop(closed);
        // Open until each worker has taken a turn: one that is woken may find it closed again.
        patiently("turns", || {
            server.worker_stats().zip(&turns).all(|(now, then)| now.turns > *then).then_some(())
        });
        for (most, stats) in most.iter_mut().zip(server.worker_stats()) {
            *most = stats.receive_buffers.max(*most);
        }
        (most.iter().sum::<u64>() >= 2 * 60).then_some(())
    });
}

/// As many clients as it takes to fill all receive buffers of two workers.
fn fillers(server: &ServerHandle) -> Vec<TcpStream> {
    // On epoll, a turn takes no more than 256 KiB from each.
    let is_epoll = server.monitor().workers().any(|worker| worker.driver == Driver::Epoll);
    let count = if is_epoll { 400 } else { 160 };
    (0..count).map(|_| filler(server)).collect()
}

fn filler(server: &ServerHandle) -> TcpStream {
    let socket = TcpStream::connect(address(server)).unwrap();
    let mut client = Client::over(socket.try_clone().unwrap());
    assert_eq!(client.ask("/waits", "").status, 101);
    socket.set_nonblocking(true).unwrap();
    socket
}

#[test]
fn pages_of_receive_buffers_that_have_grown_return_without_traffic() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let gate = Arc::<Gate>::default();
    let behind = Arc::clone(&gate);
    // With a limit, the allocator maps large blocks only: buffers lie in its heaps, among the rest.
    let builder =
        workers(2).release_memory_after(Duration::from_millis(100)).memory_limit(1024 * MIB);
    let factory = move |request: &UpgradeRequest| match request.path() {
        "/waits" => Upgrade::accept(Waits(Arc::clone(&behind))),
        _ => Upgrade::accept(EchoListener),
    };
    let server = builder.start(factory).unwrap();
    Client::upgrade(address(&server)).echo(b"hello");
    // What connections take beside is there before and after.
    let fillers = fillers(&server);
    let before = resident();
    grow_receive_buffers(&server, &gate, fillers);
    eventually(&server, "all but the first few have no pages", |_| resident() < before + 16 * MIB);
    // The buffers are there all the same, and bring what is received.
    let payload = noise(1, 300_000);
    let mut clients: Vec<_> = (0..20).map(|_| Client::upgrade(address(&server))).collect();
    for _ in 0..5 {
        clients.iter_mut().for_each(|client| client.echo(&payload));
    }
    server.stop().unwrap();
}

/// Allocates large blocks with small ones between them, and frees the large ones. Returns the bytes
/// that stay resident.
fn left_by_large_blocks() -> usize {
    let before = resident();
    let blocks: Vec<_> = (0..8).map(|_| (vec![1_u8; 4 * MIB], vec![1_u8; 100_000])).collect();
    let (large, small): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
    assert!(resident() >= before + 30 * MIB);
    drop(large);
    let left = resident().saturating_sub(before);
    drop(small);
    left
}

#[test]
#[cfg(target_env = "gnu")]
fn large_blocks_return_to_the_system_when_they_are_freed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = workers(1).memory_limit(128 * MIB).start(|_| Upgrade::accept(EchoListener));
    let server = server.unwrap();
    // The first round is what glibc would learn a larger threshold from.
    for round in 0..3 {
        let left = left_by_large_blocks();
        assert!(left < 8 * MIB, "round {round}: {left} bytes are left");
    }
    server.stop().unwrap();
}
