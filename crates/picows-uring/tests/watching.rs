//! What other threads see of a server: workers that are blocked, turns that are slow, counters.

mod common;

use common::{Client, PATIENCE, address, eventually, on_frame, workers};
use picows_uring::{Upgrade, WorkerState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn a_worker_that_is_blocked_is_seen_while_it_is() {
    for dedicated in [false, true] {
        let gate = Arc::new(Mutex::new(()));
        let (inner, limit) = (Arc::clone(&gate), Duration::from_millis(20));
        let server = workers(2)
            .dedicated(dedicated)
            .slow_callback(limit)
            .start(move |_| {
                let gate = Arc::clone(&inner);
                Upgrade::accept(on_frame(move |transport, frame| {
                    // Poisoned if the test has failed, and then the worker is to end.
                    drop(gate.lock());
                    transport.send_like(frame, frame.payload());
                    Ok(())
                }))
            })
            .unwrap();
        let monitor = server.monitor();
        let mut client = Client::upgrade(address(&server));
        let held = gate.lock().unwrap();
        client.send_text("block");
        let start = Instant::now();
        let blocked = || {
            let times = monitor.workers().map(|worker| worker.turn_time.unwrap_or_default());
            times.filter(|time| *time > 2 * limit).count()
        };
        while blocked() == 0 {
            assert!(start.elapsed() < PATIENCE, "{:?}", monitor.workers().collect::<Vec<_>>());
            std::thread::yield_now();
        }
        assert_eq!(blocked(), 1, "the other one sleeps");
        assert_eq!(monitor.stats().slow_turns, 0, "the turn is not over");
        drop(held);
        client.expect_text("block");
        eventually(&server, "the slow turn is counted", |stats| stats.slow_turns > 0);
        let stats = server.stats();
        assert!(stats.slow_callbacks > 0 && stats.longest_turn_micros >= 40_000, "{stats:?}");
        assert_eq!(blocked(), 0);
        let by_worker: Vec<_> = monitor.workers().map(|worker| worker.stats.slow_turns).collect();
        assert!(by_worker.contains(&0), "only one was slow: {by_worker:?}");
        drop(client);
        server.stop().unwrap();
        assert!(monitor.workers().all(|worker| worker.state == WorkerState::Ended));
        assert!(monitor.workers().all(|worker| worker.turn_time.is_none()));
    }
}

#[test]
fn counters_are_read_by_any_thread_while_the_server_works() {
    const FRAMES: u64 = 2000;
    let server = workers(2)
        .start(|_| {
            Upgrade::accept(on_frame(|transport, frame| {
                transport.send_like(frame, frame.payload());
                Ok(())
            }))
        })
        .unwrap();
    let monitor = server.monitor();
    let address = address(&server);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::upgrade(address);
            (0..FRAMES).for_each(|_| client.echo(b"count me"));
        });
        let (mut seen, start) = (0, Instant::now());
        while seen < FRAMES {
            let stats = monitor.stats();
            assert!(stats.frames_received >= seen, "it only grows");
            seen = stats.frames_received;
            assert!(start.elapsed() < PATIENCE, "{stats:?}");
        }
    });
    eventually(&server, "the client has gone", |stats| stats.connections == 0);
    let stats = server.stop().unwrap();
    assert_eq!((stats.frames_received, stats.frames_sent), (FRAMES, FRAMES));
    assert_eq!(monitor.stats(), stats, "and they stay when the server has ended");
    let mut sum = picows_uring::Stats::default();
    monitor.workers().for_each(|worker| sum += worker.stats);
    assert_eq!(sum, stats);
}
