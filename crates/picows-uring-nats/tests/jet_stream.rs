//! Nodes on JetStream: one order and one history for all, and what becomes of them when it fails.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Message, Nats, Node, eventually, has_server};
use picows_uring::topics::{History, Hub, HubBuilder, Position, TopicSettings};
use picows_uring_nats::{JetStream, NatsBus, NatsStatus};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn node(nats: &Nats, stream: JetStream) -> Node {
    Node::with(&nats.url(), kept(), |builder| builder.jet_stream(stream)).connected()
}

/// A hub that keeps 100 publications.
fn kept() -> HubBuilder {
    Hub::builder().settings(TopicSettings::new().history(History::last(100)))
}

fn stream() -> JetStream {
    JetStream::new("TOPICS").per_topic(1000)
}

/// The position of a topic once it is behind `before`.
fn position_behind(node: &Node, topic: &str, before: u64) -> Position {
    eventually("the position moves", || {
        node.hub.position(topic).filter(|position| position.offset > before)
    })
}

#[test]
fn all_nodes_have_one_order_and_the_same_positions() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&["-js"]);
    let (a, b) = (node(&nats, stream()), node(&nats, stream()));
    let (mut at_a, mut at_b) = (a.subscribe("/t"), b.subscribe("/t"));
    a.reach("t", &mut at_b);
    b.reach("t", &mut at_a);
    a.publish("t", "begin");
    while at_a.text() != "begin" {}
    while at_b.text() != "begin" {}
    for number in 0..200 {
        a.publish("t", &format!("a {number}"));
        b.publish("t", &format!("b {number}"));
    }
    let orders =
        [&mut at_a, &mut at_b].map(|peer| (0..400).map(|_| peer.text()).collect::<Vec<_>>());
    assert_eq!(orders[0], orders[1]);
    for node in ["a", "b"] {
        let own: Vec<_> = orders[0].iter().filter(|text| text.starts_with(node)).collect();
        let wanted: Vec<_> = (0..200).map(|number| format!("{node} {number}")).collect();
        assert!(own.into_iter().eq(wanted.iter()), "the order of a publisher stays");
    }
    eventually("the positions are the same", || {
        (a.hub.position("t") == b.hub.position("t")).then_some(())
    });
}

#[test]
fn a_position_of_one_node_recovers_on_another() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&["-js"]);
    let a = node(&nats, stream());
    let mut at_a = a.subscribe("/t");
    a.reach("t", &mut at_a);
    let before = a.hub.position("t").unwrap();
    for number in 0..5 {
        a.publish("t", &number.to_string());
        assert_eq!(at_a.text(), number.to_string());
    }
    // A node that was not there, and has none of it in memory.
    let b = node(&nats, stream());
    let mut at_b = b.subscribe(&format!("/t?from={before}"));
    assert_eq!(at_b.text(), "recovered 5");
    for number in 0..5 {
        assert_eq!(at_b.text(), number.to_string());
    }
    a.publish("t", "new");
    assert_eq!(at_b.text(), "new");
    let other = Position { epoch: before.epoch ^ 1, offset: 1 };
    assert_eq!(b.subscribe(&format!("/t?from={other}")).text(), "lost");
}

#[test]
fn a_server_started_again_is_no_gap_as_the_stream_has_all() {
    if !has_server() {
        return;
    }
    let mut nats = Nats::start(&["-js"]);
    let (a, b) = (node(&nats, stream()), node(&nats, stream()));
    let mut peer = b.subscribe("/t");
    a.reach("t", &mut peer);
    let before = position_behind(&b, "t", 0);
    nats.kill();
    for node in [&a, &b] {
        node.wait_status("the loss is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
    }
    nats.run();
    for node in [&a, &b] {
        node.wait_status("it is back", |it| matches!(it, NatsStatus::Connected { .. }));
    }
    a.publish("t", "after");
    assert_eq!(peer.text(), "after");
    let after = position_behind(&b, "t", before.offset);
    assert_eq!(after.epoch, before.epoch);
}

#[test]
fn a_stream_made_anew_is_another_epoch() {
    if !has_server() {
        return;
    }
    let mut nats = Nats::start(&["-js"]);
    // In memory, so that the stream is gone when the server is.
    let (a, b) = (node(&nats, stream().in_memory()), node(&nats, stream().in_memory()));
    let mut notified = b.subscribe("/t?missed");
    let mut peer = b.subscribe("/t");
    a.reach("t", &mut peer);
    for number in 0..50 {
        a.publish("t", &number.to_string());
        assert_eq!(peer.text(), number.to_string());
    }
    while notified.text() != "49" {}
    let before = b.hub.position("t").unwrap();
    nats.kill();
    for node in [&a, &b] {
        node.wait_status("the loss is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
    }
    nats.run();
    assert!(matches!(peer.next(), Message::Close(1013, _)));
    a.wait_status("it is back", |it| matches!(it, NatsStatus::Connected { .. }));
    let after = eventually("a publication of the new stream comes", || {
        a.publish("t", "after");
        b.hub.position("t").filter(|position| position.epoch != before.epoch)
    });
    // The one that wants to know goes on, behind the notice.
    assert_eq!(notified.text(), "missed t");
    let mut peer = b.subscribe("/t");
    a.publish("t", "end");
    while peer.text() != "end" {}
    while notified.text() != "end" {}
    assert!(after.offset < before.offset + 50, "{after} {before}");
    assert_eq!(b.subscribe(&format!("/t?from={before}")).text(), "lost");
}

#[test]
fn what_is_new_begins_behind_the_past() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&["-js"]);
    let a = node(&nats, stream());
    let mut at_a = a.subscribe("/t");
    a.reach("t", &mut at_a);
    for _ in 0..50 {
        a.publish("t", "old");
        assert_eq!(at_a.text(), "old");
    }
    let b = node(&nats, stream());
    let mut at_b = b.subscribe("/t");
    let first = eventually("a publication gets through", || {
        a.publish("t", "new");
        at_b.try_next(Duration::from_millis(20))
    });
    assert_eq!(first, Message::Text("new".to_owned()));
}

/// A node that connects again only when the gate is open.
fn gated(nats: &Nats, stream: JetStream) -> (Node, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&gate);
    let node = Node::with(&nats.url(), kept(), move |builder| {
        let options = NatsBus::connect_options().reconnect_to_server_callback(move |_, _| {
            let seen = Arc::clone(&seen);
            async move {
                while !seen.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                None
            }
        });
        builder.options(options).jet_stream(stream)
    });
    (node.connected(), gate)
}

#[test]
fn a_node_that_was_cut_off_gets_what_the_stream_kept_or_a_gap() {
    if !has_server() {
        return;
    }
    for (count, is_gap) in [(3, false), (20, true)] {
        let mut nats = Nats::start(&["-js"]);
        let stream = || JetStream::new("TOPICS").per_topic(10);
        let a = node(&nats, stream());
        let (b, gate) = gated(&nats, stream());
        let mut peer = b.subscribe("/t?missed");
        a.reach("t", &mut peer);
        gate.store(false, Ordering::SeqCst);
        nats.kill();
        a.wait_status("the loss is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
        nats.run();
        let a = a.connected();
        // It is there for a, and not for b.
        let mut at_a = a.subscribe("/t?missed");
        eventually("it has begun", || {
            a.publish("t", "begin");
            at_a.try_next(Duration::from_millis(20))
        });
        for number in 0..count {
            a.publish("t", &number.to_string());
            while at_a.text() != number.to_string() {}
        }
        gate.store(true, Ordering::SeqCst);
        a.publish("t", "end");
        let mut got = Vec::new();
        while got.last().map(String::as_str) != Some("end") {
            got.push(peer.text());
        }
        let all: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        if is_gap {
            assert_eq!(got[0], "missed t", "{got:?}");
            assert!(got.len() < all.len(), "{got:?}");
        } else {
            got.retain(|text| text != "begin" && text != "end");
            assert_eq!(got, all, "nothing is missing");
            assert_eq!(b.bus.stats().gaps, 0);
        }
    }
}

#[test]
fn a_server_that_stands_still_is_no_gap_as_the_stream_has_all() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&["-js"]);
    let a = node(&nats, stream());
    let quick = NatsBus::connect_options()
        .ping_interval(Duration::from_millis(50))
        .connection_timeout(Duration::from_millis(500))
        .reconnect_delay_callback(|_| Duration::from_millis(20));
    let b = Node::with(&nats.url(), kept(), |builder| builder.options(quick).jet_stream(stream()));
    let b = b.connected();
    let mut peer = b.subscribe("/t");
    a.reach("t", &mut peer);
    nats.signal(Signal::STOP);
    b.wait_status("the silence is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
    nats.signal(Signal::CONT);
    b.wait_status("it is back", |it| matches!(it, NatsStatus::Connected { .. }));
    a.publish("t", "after");
    assert_eq!(peer.text(), "after");
    assert_eq!(b.bus.stats().gaps, 0);
}

#[test]
fn a_server_without_jet_stream_is_named_with_the_cure() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let a = Node::with(&nats.url(), kept(), |builder| builder.jet_stream(stream()));
    let status =
        a.wait_status("the stream is missed", |it| matches!(it, NatsStatus::NoStream { .. }));
    let text = status.to_string();
    assert!(text.contains("TOPICS") && text.contains("-js"), "{text}");
    assert!(!picows_uring::topics::Bus::is_ready(&*a.bus));
}
