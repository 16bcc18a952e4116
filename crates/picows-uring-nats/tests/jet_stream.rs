//! Nodes on JetStream: one order and one history for all, and what becomes of them when it fails.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Message, Nats, Node, eventually, has_server};
use picows_uring::topics::{History, Hub, HubBuilder, Position, TopicSettings};
use picows_uring_nats::{JetStream, NatsStatus};

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
