//! Resident memory after a burst: it returns to the system, for every size of frame.
//!
//! A binary with one test, as it measures the whole process.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, PATIENCE, address, eventually, masked, workers};
use picows_uring::{EchoListener, FrameHead, MsgType, ServerHandle, Upgrade};
use std::time::{Duration, Instant};

const MIB: usize = 1024 * 1024;

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
    let builder = workers(1).release_memory_after(Duration::from_millis(100));
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    Client::upgrade(address(&server)).echo(b"hello");
    eventually(&server, "it is gone", |stats| stats.connections == 0);
    for has_traffic in [false, true] {
        for frame_bytes in [100, 1000, 16 * 1024, 100_000] {
            let before = resident();
            let queued = burst(&server, frame_bytes);
            let mut witness = has_traffic.then(|| Client::upgrade(address(&server)));
            let (limit, start) = (before + 24 * MIB, Instant::now());
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
