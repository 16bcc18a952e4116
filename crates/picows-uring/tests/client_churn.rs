//! Connecting and closing again and again leaves nothing behind.
//!
//! One test: it counts what belongs to the whole process.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod patience;

use patience::{run, until};
use picows_uring::{CloseCode, Connect, EchoListener, Server, Upgrade};
use std::time::Duration;

/// How many connections are made and closed; `PICOWS_CHURN` asks for more.
const CYCLES: usize = 2_000;
/// Connections at once.
const ABREAST: usize = 10;
/// What allocators and counters may keep.
const GROWTH_BYTES_MAX: usize = 2 * 1024 * 1024;

#[test]
fn memory_and_descriptors_stay_flat_over_many_connections() {
    let cycles = std::env::var("PICOWS_CHURN").map_or(CYCLES, |text| text.parse().unwrap());
    let builder = Server::builder().listen("127.0.0.1:0").workers(1);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    run(async move {
        let descriptors = count_descriptors();
        let is_flat = || count_descriptors() <= descriptors;
        // Memory that is kept for the next connection is there after a few.
        churn(&url, cycles / 4).await;
        let resident = resident_bytes();
        churn(&url, cycles).await;
        until("descriptors", || is_flat().then_some(())).await;
        let grown = resident_bytes().saturating_sub(resident);
        assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more over {cycles} connections");

        // Those that are given up leave no more than those that are closed.
        for _ in 0..cycles / 10 {
            let connecting = Connect::new(&*url).connect(EchoListener);
            if let Ok(opened) = tokio::time::timeout(Duration::ZERO, connecting).await {
                opened.unwrap().abort();
            }
        }
        until("descriptors of dropped futures", || is_flat().then_some(())).await;
    })
    .unwrap();
    let stats = server.stop().unwrap();
    assert!(stats.upgraded >= (cycles + cycles / 4) as u64);
    assert_eq!((stats.connections, stats.slots, stats.protocol_errors), (0, 0, 0));
}

async fn churn(url: &str, count: usize) {
    let tasks: Vec<_> = (0..ABREAST)
        .map(|_| {
            let url = url.to_owned();
            let cycles = async move {
                for number in 0..count / ABREAST {
                    let transport = Connect::new(&*url).connect(EchoListener).await.unwrap();
                    match number % 3 {
                        0 => transport.disconnect(),
                        1 => transport.abort(),
                        _ => drop(transport.send_close(CloseCode::NORMAL, "")),
                    }
                    transport.wait_disconnected().await.unwrap();
                }
            };
            picows_uring::spawn(cycles).unwrap()
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn count_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}
