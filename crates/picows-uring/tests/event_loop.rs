//! Hosted workers in each loop: what applications do there is the same in tokio-uring's and in tokio's.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, address, connect_to, eventually, next, noise, on_frame, workers};
use picows_uring::{
    CloseCode, ConnectError, Driver, EchoListener, Error, EventLoop, Runtime, ServerBuilder,
    Upgrade, probe, spawn,
};
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::net::UdpSocket;

/// The loops that the driver of this run allows.
fn loops() -> Vec<EventLoop> {
    if is_on_epoll() {
        return vec![EventLoop::Auto, EventLoop::Tokio];
    }
    vec![EventLoop::Auto, EventLoop::TokioUring, EventLoop::Tokio]
}

/// Whether the workers of this process are on epoll.
fn is_on_epoll() -> bool {
    let runtime = Runtime::builder().build().unwrap();
    runtime.driver() == Driver::Epoll
}

/// A server of one worker for each loop.
fn servers() -> impl Iterator<Item = (EventLoop, ServerBuilder)> {
    loops().into_iter().map(|event_loop| (event_loop, workers(1).event_loop(event_loop)))
}

#[test]
fn messages_of_all_sizes_are_echoed() {
    for (event_loop, builder) in servers() {
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let mut client = Client::upgrade(address(&server));
        for len in [0, 1, 125, 126, 4096, 65_536, 300_000] {
            client.echo(&noise(len as u64, len));
        }
        client.send_close(1000, "");
        client.expect_close(CloseCode::NORMAL, "");
        eventually(&server, "it is gone", |stats| stats.connections == 0);
        server.stop().unwrap_or_else(|error| panic!("{event_loop}: {error}"));
    }
}

#[test]
fn a_callback_starts_tasks_with_timers_and_sockets_of_tokio() {
    for (_, builder) in servers() {
        let server = builder.start(|_| {
            Upgrade::accept(on_frame(|transport, _| {
                let transport = transport.clone();
                spawn(async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    let to = socket.local_addr().unwrap();
                    socket.send_to(b"bytes", to).await.unwrap();
                    let mut got = [0; 5];
                    socket.recv(&mut got).await.unwrap();
                    transport.send_text(std::str::from_utf8(&got).unwrap());
                })?;
                Ok(())
            }))
        });
        let server = server.unwrap();
        let mut client = Client::upgrade(address(&server));
        for _ in 0..10 {
            client.send_text("go");
            client.expect_text("bytes");
        }
        // It would be waited for.
        drop(client);
        server.stop().unwrap();
    }
}

#[test]
fn other_threads_post_to_workers_and_stop_them() {
    for (_, builder) in servers() {
        let (sender, remotes) = channel();
        let server = builder.start(move |_| {
            let sender = sender.clone();
            Upgrade::accept(on_frame(move |transport, _| Ok(sender.send(transport.remote())?)))
        });
        let server = server.unwrap();
        let mut client = Client::upgrade(address(&server));
        client.send_text("who posts to me?");
        let remote = next(&remotes);
        for number in 0..100 {
            remote.send_text(number.to_string()).unwrap();
            client.expect_text(&number.to_string());
        }
        let stopping = std::thread::spawn(|| server.stop());
        client.expect_close(CloseCode::GOING_AWAY, "server is shutting down");
        client.send_close(1001, "");
        stopping.join().unwrap().unwrap();
    }
}

#[test]
fn clients_connect_in_each_loop_spin_in_it_and_leave_it() {
    let server = workers(1).start(|_| Upgrade::accept(EchoListener)).unwrap();
    for event_loop in loops() {
        for busy_poll in [Duration::ZERO, Duration::from_micros(50)] {
            let runtime = Runtime::builder().event_loop(event_loop).busy_poll(busy_poll);
            let done = runtime.build().unwrap().block_on(async {
                let transport = connect_to(&server).connect(EchoListener).await.unwrap();
                transport.measure_roundtrip_time(3).await.unwrap();
                transport.disconnect();
                transport.wait_disconnected().await.unwrap();
            });
            done.unwrap_or_else(|error| panic!("{event_loop}: {error}"));
        }
        let runtime = Runtime::builder().event_loop(event_loop).build().unwrap();
        let listener = on_frame(|transport, _| {
            transport.disconnect();
            Ok(())
        });
        let transport = runtime.run_dedicated(async {
            let transport = connect_to(&server).connect(listener).await?;
            transport.send_text("once");
            Ok::<_, ConnectError>(transport)
        });
        assert!(transport.unwrap().unwrap().is_disconnected());
    }
    server.stop().unwrap();
}

#[test]
fn a_loop_with_a_ring_needs_the_driver_io_uring() {
    let builder = workers(2).driver(Driver::Epoll).event_loop(EventLoop::TokioUring);
    let of_server = builder.start(|_| Upgrade::accept(EchoListener)).map(drop);
    let runtime = Runtime::builder().driver(Driver::Epoll).event_loop(EventLoop::TokioUring);
    for outcome in [of_server, runtime.build().map(drop)] {
        let Err(Error::Config { setting: "event_loop", fault }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(fault.ends_with("use auto or tokio"), "{fault}");
    }
}

/// The loop without a ring makes fewer calls for a lone message, and locks less memory: one ring.
#[test]
fn the_loop_of_tokio_has_no_ring_of_its_own() {
    if probe(Driver::IoUring).is_err() {
        return;
    }
    let rings = |event_loop| {
        let builder = workers(1).driver(Driver::IoUring).event_loop(event_loop);
        let before = rings_of_this_process();
        let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
        let rings = rings_of_this_process() - before;
        server.stop().unwrap();
        rings
    };
    // In a process of its own: other tests of this one have rings as well.
    if std::env::var_os(CHILD).is_some() {
        assert_eq!((rings(EventLoop::Tokio), rings(EventLoop::TokioUring)), (1, 2));
        return;
    }
    let done = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_loop_of_tokio_has_no_ring_of_its_own", "--test-threads", "1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// Descriptors of io_uring.
fn rings_of_this_process() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let names = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    names.filter(|name| name.to_string_lossy().contains("[io_uring]")).count()
}

const CHILD: &str = "PICOWS_TEST_EVENT_LOOP_CHILD";
