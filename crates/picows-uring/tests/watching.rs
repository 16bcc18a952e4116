//! Views of a server from other threads: workers that are blocked, turns that are slow, counters.

mod common;

use common::{Client, PATIENCE, address, eventually, on_frame, patiently, workers};
use picows_uring::{Driver, Error, RingFault, Upgrade, WorkerState, probe};
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
        let index = server.worker_stats().position(|stats| stats.connections == 1).unwrap();
        let stats = || server.worker_stats().nth(index).unwrap();
        // Where the machine is busy, any turn may be long for a moment.
        let blocked = |wanted: [bool; 2]| {
            patiently("who is blocked", || {
                let times = monitor.workers().map(|worker| worker.turn_time.unwrap_or_default());
                times.map(|time| time > 2 * limit).eq(wanted).then_some(())
            });
        };
        blocked([index == 0, index == 1]);
        let before = stats();
        blocked([index == 0, index == 1]);
        assert_eq!(stats(), before, "the turn is not over, and not counted");
        drop(held);
        client.expect_text("block");
        patiently("the slow turn is counted", || {
            let now = stats();
            let is_slow = now.slow_turns > before.slow_turns;
            (is_slow && now.slow_callbacks > before.slow_callbacks).then_some(())
        });
        assert!(stats().longest_turn_micros >= 40_000, "{:?}", stats());
        blocked([false, false]);
        drop(client);
        server.stop().unwrap();
        assert!(monitor.workers().all(|worker| worker.state == WorkerState::Ended));
        assert!(monitor.workers().all(|worker| worker.turn_time.is_none()));
    }
}

#[test]
fn counters_are_read_by_any_thread_while_the_server_works() {
    const FRAMES: u64 = 500;
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
            std::thread::yield_now();
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

#[test]
fn tasks_of_any_runtime_wait_for_the_end() {
    let server = workers(2).start(|_| Upgrade::not_found()).unwrap();
    let (stopper, monitor) = (server.stopper(), server.monitor());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let stats = runtime.block_on(async {
        let waiting = [tokio::spawn(server.stopped()), tokio::spawn(server.stopped())];
        // Both tasks wait before anything ends.
        tokio::task::yield_now().await;
        assert!(monitor.is_running() && !waiting[0].is_finished());
        stopper.stop();
        for task in waiting {
            task.await.unwrap().unwrap();
        }
        // Once more, when all is over.
        monitor.stopped().await.unwrap()
    });
    assert!(!monitor.is_running());
    assert_eq!(stats, server.join().unwrap());
}

#[test]
fn a_driver_is_tried_out_before_there_is_a_server() {
    assert_eq!(probe(Driver::Epoll).unwrap(), Driver::Epoll);
    match probe(Driver::IoUring) {
        Ok(driver) => {
            assert_eq!(driver, Driver::IoUring);
            assert_eq!(probe(Driver::Auto).unwrap(), Driver::IoUring);
        }
        // Under a filter, as some runs of the tests are.
        Err(Error::Ring(error)) => {
            assert_eq!(error.fault(), RingFault::Forbidden, "{error}");
            assert_eq!(probe(Driver::Auto).unwrap(), Driver::Epoll);
        }
        Err(error) => panic!("{error}"),
    }
}
