//! Memory that a server holds for its connections, and gives back.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Client, PATIENCE, address, eventually, masked, next, on_frame, workers};
use picows_uring::{
    CloseCode, EchoListener, FrameHead, ListenerResult, Message, MessageListener, Messages,
    MsgType, ServerHandle, Transport, Upgrade,
};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: usize = 1024 * 1024;

#[test]
fn a_burst_makes_buffers_more_and_calm_makes_them_fewer() {
    const CLIENTS: usize = 40;
    const BURST: usize = 60_000;
    // Of single receives, which a connection that has fallen behind makes: 16 KiB each, made with the
    // first and kept, as none of them comes back to go.
    const SINGLE_KEPT: u64 = 8;
    let (entered, entries) = channel();
    let (release, gate) = channel::<()>();
    let (entered, gate) = (Arc::new(Mutex::new(entered)), Arc::new(Mutex::new(gate)));
    let builder = workers(1).release_memory_after(Duration::from_millis(20));
    let server = builder
        .start(move |_| {
            let (entered, gate) = (Arc::clone(&entered), Arc::clone(&gate));
            Upgrade::accept(on_frame(move |transport, frame| {
                if frame.payload() == b"wait" {
                    entered.lock().unwrap().send(()).unwrap();
                    gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                }
                transport.send_like(frame, frame.payload());
                Ok(())
            }))
        })
        .unwrap();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::upgrade(address(&server))).collect();
    let mut calm = Client::upgrade(address(&server));
    calm.echo(b"hello");
    let least = server.stats();
    assert!(least.receive_buffers > 0);
    let quiet = least.receive_buffers + SINGLE_KEPT;
    // While the worker is held up, more arrives than its buffers can take.
    calm.send(MsgType::Text, b"wait");
    next(&entries);
    let frame = masked(FrameHead::new(MsgType::Binary), &[1; BURST]);
    clients.iter_mut().for_each(|client| client.write(&frame));
    release.send(()).unwrap();
    eventually(&server, "there are more buffers", |stats| stats.receive_buffers > quiet);
    clients.iter_mut().for_each(|client| assert_eq!(client.receive().payload.len(), BURST));
    assert_eq!(calm.receive().payload, b"wait");
    // A little traffic is enough, as buffers go when they come back from the kernel.
    let start = Instant::now();
    while server.stats().receive_buffers > quiet {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.stats());
        calm.echo(&[2; 30_000]);
    }
    eventually(&server, "the pool has shrunk", |stats| stats.pool_bytes < 256 * 1024);
    drop(clients);
    eventually(&server, "nothing is held", |stats| {
        stats.connections == 1 && stats.queue_bytes + stats.stash_bytes + stats.message_bytes == 0
    });
    drop(calm);
    server.stop().unwrap();
}

struct Count;

impl MessageListener for Count {
    fn on_message(&mut self, transport: &Transport, message: Message<'_>) -> ListenerResult {
        transport.send_text(message.payload().len().to_string());
        Ok(())
    }
}

#[test]
fn fragments_of_a_message_under_way_are_counted() {
    let server = workers(1).start(|_| Upgrade::accept(Messages::new(Count))).unwrap();
    let mut client = Client::upgrade(address(&server));
    let first = FrameHead::new(MsgType::Binary).with_fin(false);
    client.write(&masked(first, &[1; 100_000]));
    eventually(&server, "it is counted", |stats| stats.message_bytes >= 100_000);
    client.send(MsgType::Continuation, b"!");
    client.expect_text("100001");
    eventually(&server, "it is gone", |stats| stats.message_bytes == 0);
    client.write(&masked(first, &[1; 100_000]));
    eventually(&server, "the next is counted", |stats| stats.message_bytes >= 100_000);
    client.reset();
    eventually(&server, "it goes with the connection", |stats| stats.message_bytes == 0);
    server.stop().unwrap();
}

#[test]
fn messages_that_wait_for_a_task_are_counted() {
    let (release, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let server = workers(1)
        .start(move |_| {
            let gate = gate.lock().unwrap().take();
            Upgrade::accept_stream(async move |mut stream| {
                if let Some(gate) = gate {
                    let _ = gate.await;
                }
                while stream.next().await.is_some() {}
                Ok(())
            })
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    (0..3).for_each(|_| client.send(MsgType::Binary, [1; 10_000]));
    eventually(&server, "they are counted", |stats| stats.message_bytes >= 30_000);
    release.send(()).unwrap();
    eventually(&server, "they were taken", |stats| stats.message_bytes == 0);
    drop(client);
    server.stop().unwrap();
}

/// Sends all but the last byte of a frame of a MiB.
fn cut_frame(server: &ServerHandle) -> Client {
    let mut client = Client::upgrade(address(server));
    let frame = masked(FrameHead::new(MsgType::Binary), &vec![1; MIB]);
    client.write(&frame[..frame.len() - 1]);
    client
}

#[test]
fn beyond_the_memory_limit_the_largest_holder_gets_1013_and_others_are_served() {
    for count in [1, 3] {
        let server =
            workers(count).memory_limit(10 * MIB).start(|_| Upgrade::accept(EchoListener)).unwrap();
        let mut witness = Client::upgrade(address(&server));
        let frame = masked(FrameHead::new(MsgType::Binary), &vec![1; 5 * MIB]);
        let mut greedy = Client::upgrade(address(&server));
        greedy.write(&frame[..frame.len() - 1]);
        eventually(&server, "it is counted", |stats| stats.stash_bytes as usize >= 5 * MIB);
        let mut others: Vec<_> = (0..6).map(|_| cut_frame(&server)).collect();
        greedy.expect_close(CloseCode::TRY_AGAIN_LATER, "memory limit reached: try again later");
        for other in &mut others {
            other.write(&frame[frame.len() - 1..]);
            assert_eq!(other.receive().payload.len(), MIB);
        }
        witness.echo(b"still there?");
        drop((greedy, others));
        eventually(&server, "all is free again", |stats| stats.stash_bytes == 0);
        let stats = server.stats();
        assert_eq!((stats.memory_evictions, stats.protocol_errors), (1, 0), "{stats:?}");
        Client::upgrade(address(&server)).echo(b"newcomer");
        drop(witness);
        server.stop().unwrap();
    }
}

#[test]
fn servers_of_clones_have_limits_of_their_own() {
    let builder = workers(1).memory_limit(3 * MIB).max_connections(2);
    let servers = [builder.clone(), builder]
        .map(|builder| builder.start(|_| Upgrade::accept(EchoListener)).unwrap());
    // 2 MiB each, and 4 together.
    let clients = servers.each_ref().map(|server| [cut_frame(server), cut_frame(server)]);
    for server in &servers {
        eventually(server, "it holds both", |stats| stats.stash_bytes as usize >= 2 * MIB - 1000);
        assert_eq!(server.stats().memory_evictions, 0);
        assert_eq!(Client::connect(address(server)).ask("/", "").status, 503, "two are enough");
    }
    drop(clients);
    for server in servers {
        server.stop().unwrap();
    }
}

#[test]
fn messages_count_towards_the_memory_limit_and_go_with_their_connection() {
    let server = workers(1).memory_limit(MIB).start(|_| Upgrade::accept(Messages::new(Count)));
    let server = server.unwrap();
    let first = FrameHead::new(MsgType::Binary).with_fin(false);
    let mut small = Client::upgrade(address(&server));
    small.write(&masked(first, &[1; 100_000]));
    let mut large = Client::upgrade(address(&server));
    large.write(&masked(first, &[1; 600_000]));
    large.write(&masked(FrameHead::new(MsgType::Continuation).with_fin(false), &[1; 600_000]));
    large.expect_close(CloseCode::TRY_AGAIN_LATER, "memory limit reached: try again later");
    eventually(&server, "it is free", |stats| stats.message_bytes < 200_000);
    small.send(MsgType::Continuation, b"!");
    small.expect_text("100001");
    drop((small, large));
    server.stop().unwrap();
}

#[test]
fn messages_that_no_task_takes_are_dropped_with_their_connection() {
    let (release, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = Mutex::new(Some(gate));
    let server = workers(1)
        .memory_limit(50_000)
        .start(move |_| {
            let gate = gate.lock().unwrap().take().unwrap();
            Upgrade::accept_stream(async move |mut stream| {
                let _ = gate.await;
                assert_eq!(stream.next().await, None);
                Ok(())
            })
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    (0..6).for_each(|_| client.send(MsgType::Binary, [1; 10_000]));
    eventually(&server, "it is ended", |stats| stats.memory_evictions == 1);
    eventually(&server, "they are gone", |stats| stats.message_bytes == 0);
    release.send(()).unwrap();
    drop(client);
    assert_eq!(server.stop().unwrap().listener_errors, 0);
}
