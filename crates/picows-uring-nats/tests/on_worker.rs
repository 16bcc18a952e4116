//! A bus on the loop of a worker: the same as on a thread of its own, and what becomes of it when the loop ends.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Message, Nats, Node, eventually, has_server};
use picows_uring::topics::{Bus, Hub};
use picows_uring::{EventLoop, ServerBuilder};
use picows_uring_nats::{JetStream, NatsBus, NatsBusBuilder, NatsStatus};
use std::path::Path;
use std::time::Duration;

/// Servers with a loop of each kind, and one without.
const SERVERS: [fn(ServerBuilder) -> ServerBuilder; 3] = [
    |builder| builder,
    |builder| builder.event_loop(EventLoop::Tokio),
    |builder| builder.dedicated(true),
];

/// Whether this process has a thread for a bus.
fn has_thread() -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.flatten().any(|task| name_of(&task.path()) == "picows-nats")
}

fn name_of(task: &Path) -> String {
    // It may end meanwhile.
    std::fs::read_to_string(task.join("comm")).unwrap_or_default().trim_end().to_owned()
}

/// One test, as it looks at the threads of the process.
#[test]
fn a_bus_is_served_by_a_worker_and_by_a_thread_once_that_has_ended() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    publications_come_and_go(&nats, SERVERS[0]);
    publications_come_and_go(&nats, SERVERS[1]);
    assert!(!has_thread(), "all was done by workers");
    a_loop_that_ends_is_a_gap_and_no_end(&nats, |builder| builder);
    let stream = Nats::start(&["-js"]);
    a_loop_that_ends_is_a_gap_and_no_end(&stream, |builder| {
        builder.jet_stream(JetStream::new("moved").in_memory())
    });
    publications_come_and_go(&nats, SERVERS[2]);
    a_killed_server_is_found_again();
    a_bus_is_served_once();
}

fn publications_come_and_go(nats: &Nats, set_up: fn(ServerBuilder) -> ServerBuilder) {
    let a = Node::on_worker(&nats.url(), set_up).connected();
    let b = Node::on_worker(&nats.url(), set_up).connected();
    let (mut at_a, mut at_b) = (a.subscribe("/news"), b.subscribe("/news"));
    a.reach("news", &mut at_b);
    b.reach("news", &mut at_a);
    a.publish("news", "begin");
    while at_a.text() != "begin" {}
    while at_b.text() != "begin" {}
    for number in 0..500 {
        a.publish("news", &format!("a {number}"));
    }
    for number in 0..500 {
        assert_eq!(at_a.text(), format!("a {number}"));
        assert_eq!(at_b.text(), format!("a {number}"));
    }
    assert_eq!((a.bus.stats().unsent, b.bus.stats().gaps), (0, 0));
    assert!(b.bus.close(Duration::from_secs(10)));
    b.wait_status("it has ended", |it| matches!(it, NatsStatus::Closed));
    assert!(!b.bus.is_ready());
    assert!(b.bus.serve_here().is_err(), "it was served");
}

/// What other nodes sent meanwhile is a gap, and what they send behind it comes.
fn a_loop_that_ends_is_a_gap_and_no_end(
    nats: &Nats,
    set_up: impl Fn(NatsBusBuilder) -> NatsBusBuilder,
) {
    let a = Node::with(&nats.url(), Hub::builder(), &set_up).connected();
    let (b, host) = Node::with_guest(&nats.url(), &set_up);
    let b = b.connected();
    let mut first = b.subscribe("/a");
    a.reach("a", &mut first);
    let before = b.bus.stats();
    host.stop_within(Duration::ZERO).unwrap();
    assert_eq!(first.next(), Message::Close(1013, "publications of topic a were lost".to_owned()));
    b.wait_status("the thread connects", |it| matches!(it, NatsStatus::Connected { .. }));
    let after = b.bus.stats();
    assert_eq!(after.reconnects, before.reconnects + 1);
    assert_eq!(after.gaps, before.gaps + 1);
    let mut second = b.subscribe("/a");
    a.reach("a", &mut second);
    b.publish("a", "from b");
    assert_eq!(second.text(), "from b");
}

fn a_killed_server_is_found_again() {
    let mut nats = Nats::start(&[]);
    let a = Node::start(&nats.url()).connected();
    let b = Node::on_worker(&nats.url(), SERVERS[1]).connected();
    let mut peer = b.subscribe("/a");
    a.reach("a", &mut peer);
    nats.kill();
    b.wait_status("the loss is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
    nats.run();
    assert_eq!(peer.next(), Message::Close(1013, "publications of topic a were lost".to_owned()));
    b.wait_status("it is back", |it| matches!(it, NatsStatus::Connected { .. }));
    let mut peer = b.subscribe("/a");
    a.reach("a", &mut peer);
}

fn a_bus_is_served_once() {
    let bus = NatsBus::builder("nats://127.0.0.1:1").on_worker().build().unwrap();
    assert!(bus.serve_here().is_err(), "for no hub");
    let hub = Hub::new();
    hub.attach(bus.clone()).unwrap();
    assert!(Hub::new().attach(bus.clone()).is_err(), "it has one");
    assert!(!bus.wait_connected(Duration::ZERO));
    bus.serve_here().unwrap();
    assert!(bus.serve_here().is_err(), "twice");
    eventually("a thread serves it, as there is no worker", || has_thread().then_some(()));
    bus.close(Duration::from_secs(10));
}
