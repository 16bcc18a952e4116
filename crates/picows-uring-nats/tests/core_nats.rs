//! Two nodes on core NATS: once each, in order, and what becomes of them when the server fails.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{Message, Nats, Node, eventually, has_server};
use picows_uring::topics::{History, Hub, Position, Post, TopicSettings};
use picows_uring_nats::{NatsBus, NatsStatus};
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn publications_reach_both_nodes_once_and_in_order() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let (a, b) = (Node::start(&nats.url()).connected(), Node::start(&nats.url()).connected());
    let (mut at_a, mut at_b) = (a.subscribe("/news.today"), b.subscribe("/news.today"));
    a.reach("news.today", &mut at_b);
    b.reach("news.today", &mut at_a);
    // What `reach` of the other node has published.
    a.publish("news.today", "begin");
    while at_a.text() != "begin" {}
    while at_b.text() != "begin" {}
    for number in 0..500 {
        a.publish("news.today", &format!("a {number}"));
    }
    for number in 0..500 {
        assert_eq!(at_a.text(), format!("a {number}"));
        assert_eq!(at_b.text(), format!("a {number}"));
    }
    b.hub.publish("news.today", Post::binary(vec![0, 255]).key(7).header("kind", "x")).unwrap();
    for peer in [&mut at_a, &mut at_b] {
        assert_eq!(peer.next(), Message::Binary(vec![0, 255]));
    }
    assert_eq!((a.bus.stats().unsent, a.bus.stats().gaps), (0, 0));
}

#[test]
fn a_node_gets_only_what_it_has_subscribers_for() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let (a, b) = (Node::start(&nats.url()).connected(), Node::start(&nats.url()).connected());
    let mut loud = b.subscribe("/loud");
    a.reach("loud", &mut loud);
    let before = b.bus.stats().received;
    for _ in 0..100 {
        a.publish("quiet", "not for b");
    }
    a.publish("loud", "for b");
    assert_eq!(loud.text(), "for b");
    assert_eq!(b.bus.stats().received, before + 1);
    // With its last subscriber the subscription at NATS ends as well.
    drop(loud);
    eventually("the subscriber is gone", || (b.hub.subscriptions() == 0).then_some(()));
    let mut other = b.subscribe("/other");
    a.reach("other", &mut other);
    let before = b.bus.stats().received;
    a.publish("loud", "for no one any more");
    a.publish("other", "for b");
    assert_eq!(other.text(), "for b");
    assert_eq!(b.bus.stats().received, before + 1);
}

#[test]
fn what_came_while_a_node_had_no_subscriber_is_lost_and_no_gap_for_new_ones() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let kept = || Hub::builder().settings(TopicSettings::new().history(History::last(100)));
    let a = Node::start(&nats.url()).connected();
    let b = Node::with(&nats.url(), kept(), |builder| builder).connected();
    let mut first = b.subscribe("/a");
    a.reach("a", &mut first);
    b.publish("a", "seen");
    assert_eq!(first.text(), "seen");
    let seen = b.hub.position("a").unwrap();
    let before = Position { offset: seen.offset - 1, ..seen };
    assert_eq!(b.subscribe(&format!("/a?from={before}")).text(), "recovered 1");
    drop(first);
    eventually("the subscribers are gone", || (b.hub.subscriptions() == 0).then_some(()));
    let mut other = b.subscribe("/other");
    a.reach("other", &mut other);
    for _ in 0..5 {
        a.publish("a", "missed by b");
    }
    // Behind them on the way.
    a.publish("other", "end");
    while other.text() != "end" {}
    // The new one is not closed for what came before it, and the history has a hole.
    let mut second = b.subscribe("/a");
    a.reach("a", &mut second);
    assert_eq!(b.subscribe(&format!("/a?from={before}")).text(), "lost");
    assert_eq!(b.hub.stats().closed, 0);
}

#[test]
fn patterns_span_nodes_and_other_programs_publish_too() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let (a, b) = (Node::start(&nats.url()).connected(), Node::start(&nats.url()).connected());
    let mut all = b.subscribe("/rooms.%3E".replace("%3E", ">").as_str());
    a.reach("rooms.one", &mut all);
    a.publish("rooms.two.deep", "hello");
    assert_eq!(all.text(), "hello");
    // A bare client of NATS, without our header.
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", nats.port)).unwrap();
    stream.write_all(b"CONNECT {}\r\nPUB picows.rooms.x 3\r\nraw\r\nPING\r\n").unwrap();
    assert_eq!(all.text(), "raw");
}

#[test]
fn a_server_killed_and_started_again_is_a_gap_and_local_topics_go_on() {
    if !has_server() {
        return;
    }
    let mut nats = Nats::start(&[]);
    let (a, b) = (Node::start(&nats.url()).connected(), Node::start(&nats.url()).connected());
    let mut strict = b.subscribe("/a");
    let mut notified = b.subscribe("/a?missed");
    a.reach("a", &mut strict);
    a.publish("a", "before");
    while notified.text() != "before" {}
    assert_eq!(strict.text(), "before");
    nats.kill();
    let lost =
        b.wait_status("the loss is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
    assert!(lost.to_string().contains(&nats.url()), "{lost}");
    a.wait_status("the loss is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
    assert!(!picows_uring::topics::Bus::is_ready(&*b.bus));
    // Topics of the process go on, and what does not reach the other node is counted.
    b.publish("a", "local");
    assert_eq!(strict.text(), "local");
    assert_eq!(notified.text(), "local");
    a.publish("a", "lost on the way");
    eventually("it is counted", || (a.bus.stats().unsent > 0).then_some(()));
    nats.run();
    assert_eq!(strict.next(), Message::Close(1013, "publications of topic a were lost".to_owned()));
    // The one that wants to know goes on, behind the notice.
    a.wait_status("it is back", |it| matches!(it, NatsStatus::Connected { .. }));
    let mut seen = Vec::new();
    eventually("a publication gets through", || {
        a.publish("a", "after");
        while let Some(message) = notified.try_next(Duration::from_millis(20)) {
            seen.push(message);
        }
        seen.contains(&Message::Text("after".to_owned())).then_some(())
    });
    assert_eq!(seen[0], Message::Text("missed a".to_owned()), "{seen:?}");
    assert!(b.bus.stats().gaps > 0 && b.bus.stats().reconnects == 1, "{:?}", b.bus.stats());
}

#[test]
fn a_server_that_stands_still_is_noticed_by_pings() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let quick = |builder: picows_uring_nats::NatsBusBuilder| {
        builder.options(
            NatsBus::connect_options()
                .ping_interval(Duration::from_millis(50))
                .connection_timeout(Duration::from_millis(500))
                .reconnect_delay_callback(|_| Duration::from_millis(20)),
        )
    };
    let a = Node::start(&nats.url()).connected();
    let b = Node::with(&nats.url(), Hub::builder(), quick).connected();
    let mut peer = b.subscribe("/a");
    a.reach("a", &mut peer);
    nats.signal(Signal::STOP);
    b.wait_status("the silence is seen", |it| matches!(it, NatsStatus::Disconnected { .. }));
    b.publish("a", "local");
    assert_eq!(peer.text(), "local");
    nats.signal(Signal::CONT);
    assert_eq!(peer.next(), Message::Close(1013, "publications of topic a were lost".to_owned()));
    b.wait_status("it is back", |it| matches!(it, NatsStatus::Connected { .. }));
    let mut peer = b.subscribe("/a");
    a.reach("a", &mut peer);
}

#[test]
fn a_server_that_is_not_there_is_named_with_the_cure_until_it_comes() {
    if !has_server() {
        return;
    }
    let mut nats = Nats::start(&[]);
    nats.kill();
    let a = Node::start(&nats.url());
    let status = a.wait_status("an attempt fails", |it| {
        matches!(it, NatsStatus::Connecting { error: Some(_), .. })
    });
    let text = status.to_string();
    assert!(text.contains(&nats.url()) && text.contains("start nats-server"), "{text}");
    let mut peer = a.subscribe("/a");
    a.publish("a", "local");
    assert_eq!(peer.text(), "local");
    assert_eq!(a.hub.stats().bus_errors, 1);
    let mut notified = a.subscribe("/a?missed");
    nats.run();
    // It was subscribed before the server came, so it may have missed something.
    assert_eq!(peer.next(), Message::Close(1013, "publications of topic a were lost".to_owned()));
    let a = a.connected();
    let b = Node::start(&nats.url()).connected();
    eventually("a publication gets through", || {
        b.publish("a", "from b");
        let message = notified.try_next(Duration::from_millis(20));
        (message == Some(Message::Text("from b".to_owned()))).then_some(())
    });
    drop(a);
}

#[test]
fn a_subject_without_room_is_a_gap_and_the_others_go_on() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let small = |builder: picows_uring_nats::NatsBusBuilder| {
        builder.options(NatsBus::connect_options().subscription_capacity(1))
    };
    let a = Node::start(&nats.url()).connected();
    let b = Node::with(&nats.url(), Hub::builder(), small).connected();
    let (mut slow, mut other) = (b.subscribe("/slow"), b.subscribe("/other"));
    a.reach("slow", &mut slow);
    a.reach("other", &mut other);
    // More than there is room for, of which NATS hands over many at once.
    eventually("a message finds no room", || {
        for _ in 0..1000 {
            a.publish("slow", "x");
        }
        (b.bus.stats().gaps > 0).then_some(())
    });
    loop {
        match slow.next() {
            Message::Text(_) => {}
            message => {
                let reason = "publications of topic slow were lost".to_owned();
                assert_eq!(message, Message::Close(1013, reason));
                break;
            }
        }
    }
    a.publish("other", "goes on");
    while other.text() != "goes on" {}
}

#[test]
fn closing_hands_over_what_is_queued() {
    if !has_server() {
        return;
    }
    let nats = Nats::start(&[]);
    let (a, b) = (Node::start(&nats.url()).connected(), Node::start(&nats.url()).connected());
    let mut peer = b.subscribe("/a");
    a.reach("a", &mut peer);
    for number in 0..1000 {
        a.publish("a", &number.to_string());
    }
    assert!(a.bus.close(Duration::from_secs(30)));
    for number in 0..1000 {
        assert_eq!(peer.text(), number.to_string());
    }
    a.wait_status("it is closed", |it| *it == NatsStatus::Closed);
}

#[test]
fn three_nodes_share_topics_and_know_of_each_others_subscribers() {
    if !has_server() {
        return;
    }
    let mut nats = Nats::start(&[]);
    let nodes: Vec<_> = (0..3).map(|_| Node::start(&nats.url()).connected()).collect();
    let mut peers: Vec<_> = nodes.iter().map(|node| node.subscribe("/room")).collect();
    let mut extra = nodes[0].subscribe("/room");
    for node in &nodes {
        let all = || (node.hub.subscribers_everywhere("room") == 4).then_some(());
        eventually("each node counts all", all);
    }
    for (from, node) in nodes.iter().enumerate() {
        for (_, peer) in peers.iter_mut().enumerate().filter(|(to, _)| *to != from) {
            node.reach("room", peer);
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        node.publish("room", &format!("from {index}"));
        // Each gets it once, and nothing behind it before.
        let end = format!("from {index}");
        for peer in peers.iter_mut().chain([&mut extra]) {
            while peer.text() != end {}
        }
    }
    drop(extra);
    for node in &nodes {
        let three = || (node.hub.subscribers_everywhere("room") == 3).then_some(());
        eventually("one has gone", three);
    }
    nats.kill();
    nats.run();
    // The topics of all are shared again.
    for node in &nodes {
        // Behind the gap that the reconnect is: who subscribes from now on has none.
        eventually("it is connected again", || (node.bus.stats().gaps > 0).then_some(()));
    }
    let mut again: Vec<_> = nodes.iter().map(|node| node.subscribe("/again")).collect();
    for (from, node) in nodes.iter().enumerate() {
        for (_, peer) in again.iter_mut().enumerate().filter(|(to, _)| *to != from) {
            node.reach("again", peer);
        }
    }
}
