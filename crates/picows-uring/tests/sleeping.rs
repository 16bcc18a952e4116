//! Dedicated workers whose sleep gathers completions, or has the kernel poll network devices.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, address, eventually, noise, workers};
use picows_uring::{CloseCode, Driver, EchoListener, Error, ServerBuilder, Upgrade, probe};
use std::time::Duration;

/// Dedicated workers on io_uring with either setting; none where io_uring cannot be had.
fn builders() -> Vec<ServerBuilder> {
    if probe(Driver::IoUring).is_err() {
        return Vec::new();
    }
    let builder = || workers(1).driver(Driver::IoUring).dedicated(true);
    let micros = Duration::from_micros;
    let all = [builder().min_wait(micros(20)), builder().napi_busy_poll(micros(20))];
    // An old kernel refuses what it has not, by name.
    let can = |builder: &ServerBuilder| match builder.clone().start(|_| Upgrade::not_found()) {
        Ok(server) => server.stop().is_ok(),
        Err(Error::Config { setting: "min_wait" | "napi_busy_poll", .. }) => false,
        Err(error) => panic!("{error}"),
    };
    all.into_iter().filter(can).collect()
}

#[test]
fn messages_are_echoed_by_workers_that_gather_or_poll_devices() {
    for builder in builders() {
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let mut clients: Vec<_> = (0..30).map(|_| Client::upgrade(address(&server))).collect();
        for round in 0..10 {
            for (seed, client) in clients.iter_mut().enumerate() {
                client.echo(&noise(seed as u64, 100 * round));
            }
        }
        let mut last = clients.pop().unwrap();
        drop(clients);
        eventually(&server, "the others are gone", |stats| stats.connections == 1);
        last.send_close(1000, "");
        last.expect_close(CloseCode::NORMAL, "");
        server.stop().unwrap();
    }
}

/// A deadline is a completion as well, and so is a stop, by the eventfd.
#[test]
fn an_idle_worker_sleeps_until_its_deadline() {
    for builder in builders() {
        let timeout = Duration::from_millis(50);
        let builder = builder.handshake_timeout(timeout);
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let mut silent = Client::connect(address(&server));
        silent.read_to_end();
        // Far fewer than the least times in it: an idle worker does not wake up for each.
        let sleeps = server.stats().sleeps;
        assert!(sleeps < 50, "{sleeps} sleeps");
        server.stop().unwrap();
    }
}

#[test]
fn the_driver_epoll_refuses_them_by_name() {
    let micros = Duration::from_micros(20);
    let builder = || workers(2).driver(Driver::Epoll).dedicated(true);
    for (name, builder) in [
        ("min_wait", builder().min_wait(micros)),
        ("napi_busy_poll", builder().napi_busy_poll(micros)),
    ] {
        match builder.start(|_| Upgrade::accept(EchoListener)) {
            Err(Error::Config { setting, fault }) => {
                assert_eq!(setting, name);
                assert!(fault.starts_with("only io_uring has it"), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }
}
