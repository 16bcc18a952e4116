//! Hosts of a worker on the scripted ring, in tokio's own loop and dedicated; and of one on
//! io_uring in that loop.

use super::*;
use crate::command::Command;
use crate::config::Config;
use crate::health::Counters;
use crate::listener::EchoListener;
use crate::local::Local;
use crate::mailbox::Mailbox;
use crate::ring::Socket;
use crate::testing::ring::scripted::ByHand;
use crate::upgrade::{Factory, Upgrade};
use crate::worker::Listening;
use crate::{Connect, Runtime, Server};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// For a test that would wait forever.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that listens, and has taken its first turns.
fn worker(ring: ByHand) -> Worker<ByHand> {
    let mailbox = Arc::new(Mailbox::new(ring.signal()));
    let config = Arc::new(Config { admission: Some(Arc::default()), ..Config::default() });
    let local = Local::new(Arc::clone(&config), Arc::<Counters>::default(), mailbox);
    let factory: Arc<Factory> = Arc::new(|_: &_| Ok(Upgrade::accept(EchoListener)));
    let mut worker = Worker::new(ring, local);
    worker.listen(Socket(3), &Listening::new(config, factory));
    settle(&mut worker);
    worker
}

fn settle(worker: &mut Worker<ByHand>) {
    while worker.turn().unwrap() == Turn::Busy {}
}

/// With a connection that is open and whose peer does not answer any more.
fn with_silent_peer(ring: ByHand) -> Worker<ByHand> {
    let mut worker = worker(ring);
    worker.ring.connect(7);
    settle(&mut worker);
    worker.ring.deliver_to(
        7,
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    settle(&mut worker);
    assert!(worker.ring.sent.starts_with(b"HTTP/1.1 101"));
    worker
}

fn host(worker: Worker<ByHand>, mode: WaitMode) -> Host<ByHand> {
    Host::new(worker, mode, BusyPoll::default())
}

/// Runs `worker` to its end in a loop of tokio.
fn drive_to_end(worker: Worker<ByHand>) -> Worker<ByHand> {
    let kind = EventLoop::Auto.kind_for(&worker.ring).unwrap();
    assert_eq!(kind, LoopKind::Tokio, "no io_uring, also not for the loop");
    let event_loop = Loop::new(kind).unwrap();
    let driven = event_loop.block_on(async {
        tokio::time::timeout(PATIENCE, drive(worker, BusyPoll::default())).await
    });
    driven.expect("something ended each sleep").unwrap()
}

#[test]
fn work_that_came_before_the_sleep_prevents_it() {
    for mode in [WaitMode::Hosted, WaitMode::Dedicated] {
        let mut host = host(worker(ByHand::default()), mode);
        host.worker.local.mailbox.post(Command::LookAtMemory);
        assert!(!host.before_sleep(), "mail");
        host.turn().unwrap();
        host.worker.ring.connect(7);
        assert!(!host.before_sleep(), "a completion");
        assert!(!host.worker.ring.sleep.has_signals);
        assert_eq!(host.worker.local.counters.read().sleeps, 0);
        // Awake, it need not be woken.
        host.worker.local.mailbox.post(Command::LookAtMemory);
        assert!(rustix::io::read(host.worker.ring.signal(), &mut [0; 8]).is_err());
    }
}

#[test]
fn what_comes_during_the_sleep_ends_it() {
    for mode in [WaitMode::Hosted, WaitMode::Dedicated] {
        let mut host = host(worker(ByHand::default()), mode);
        assert!(host.before_sleep());
        assert_eq!(host.worker.ring.sleep.has_signals, mode == WaitMode::Hosted);
        host.worker.local.mailbox.post(Command::LookAtMemory);
        assert!(rustix::io::read(host.worker.ring.signal(), &mut [0; 8]).is_ok());
        host.after_sleep();
        assert!(!host.worker.ring.sleep.has_signals);
        assert_eq!(host.worker.local.counters.read().sleeps, 1);
    }
}

#[test]
fn what_came_before_signals_were_on_is_seen() {
    let mut host = host(worker(ByHand::default()), WaitMode::Hosted);
    host.worker.ring.sleep.connects_before_signals = Some(7);
    assert!(!host.before_sleep(), "it was not signalled");
    assert!(!host.worker.ring.sleep.has_signals);
}

#[test]
fn a_post_of_another_thread_wakes_a_hosted_worker() {
    let worker = worker(ByHand::default());
    let (mailbox, counters) =
        (Arc::clone(&worker.local.mailbox), Arc::clone(&worker.local.counters));
    let poster = std::thread::spawn(move || {
        while counters.read().sleeps == 0 {
            std::thread::yield_now();
        }
        mailbox.post(Command::Stop { drain: SECOND });
    });
    drive_to_end(worker);
    poster.join().unwrap();
}

#[test]
fn a_dedicated_worker_sleeps_in_its_ring() {
    let worker = with_silent_peer(ByHand::default());
    let counters = Arc::clone(&worker.local.counters);
    worker.local.mailbox.post(Command::Stop { drain: SECOND });
    run_dedicated(worker, BusyPoll::default()).unwrap();
    let stats = counters.read();
    assert!((1..100).contains(&stats.sleeps), "{} sleeps", stats.sleeps);
    assert!(stats.ring_enters > stats.sleeps, "each is a call, as each turn is");
}

#[test]
fn a_worker_that_cannot_wait_ends_with_the_error() {
    let mut worker = worker(ByHand::default());
    worker.ring.sleep.is_lost = true;
    let mailbox = Arc::clone(&worker.local.mailbox);
    let error = run_dedicated(worker, BusyPoll::default()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    assert!(mailbox.before_sleep(), "awake to the end");
}

#[test]
fn tokios_own_loop_hosts_workers_on_io_uring() {
    let server = Server::builder().listen("127.0.0.1:0").workers(1).event_loop(EventLoop::Tokio);
    let server = server.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let url = server.addresses()[0].to_string();
    let runtime = Runtime::builder().event_loop(EventLoop::Tokio).build().unwrap();
    let connected = runtime.block_on(async {
        let task = crate::spawn(async { tokio::time::sleep(Duration::from_micros(1)).await });
        task.unwrap().await.unwrap();
        let transport = Connect::new(url).connect(EchoListener).await.unwrap();
        transport.measure_roundtrip_time(1).await.unwrap();
        transport.disconnect();
        transport.wait_disconnected().await
    });
    connected.unwrap().unwrap();
}
