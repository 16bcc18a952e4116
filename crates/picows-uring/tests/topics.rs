//! Topics on the real kernel: order, recovery, subjects, filters, and slow subscribers.

mod common;
#[path = "topics/desk.rs"]
mod desk;
#[path = "topics/hosts.rs"]
mod hosts;
#[path = "topics/many.rs"]
mod many;
#[cfg(all(feature = "deflate", feature = "_tls"))]
#[path = "topics/secure.rs"]
mod secure;

use common::{Client, address, workers};
use desk::serve;
use picows_uring::topics::{History, Hub, Post, TopicSettings};
use picows_uring::{CloseCode, MsgType, ServerBuilder};

fn hub(history: usize) -> Hub {
    let settings = TopicSettings::new().history(History::last(history));
    Hub::builder().settings(settings).build().expect("valid settings")
}

/// Publishes the numbers of a range.
fn publish_all(hub: &Hub, topic: &str, range: std::ops::RangeInclusive<u32>) {
    for number in range {
        hub.publish(topic, Post::text(number.to_string())).expect("it is published");
    }
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn all_members_of_a_room_get_the_same_order_over_two_workers() {
    for dedicated in [false, true] {
        all_get_the_same_order(workers(2).dedicated(dedicated));
    }
}

fn all_get_the_same_order(builder: ServerBuilder) {
    const COUNT: u32 = 300;
    let hub = hub(0);
    let server = serve(builder, &hub);
    let mut members: Vec<_> = (0..8).map(|_| Client::upgrade(address(&server))).collect();
    for member in &mut members {
        assert!(member.subscribe("room.1", "").starts_with("new "));
    }
    assert_eq!((hub.subscribers("room.1"), hub.topics()), (8, 1));
    // Two members, mostly of different workers, and a thread of its own.
    for number in 0..COUNT {
        members[0].send_text(&format!("pub room.1 a{number}"));
        members[1].send_text(&format!("pub room.1 b{number}"));
        let post = Post::text(format!("c{number}"));
        let published = hub.publish("room.1", post).expect("it is published");
        assert_eq!((published.receivers, published.lost), (8, 0));
    }
    let all: Vec<_> = members.iter_mut().map(|member| member.texts(3 * COUNT as usize)).collect();
    for other in &all[1..] {
        assert_eq!(other, &all[0], "one order for all");
    }
    for sender in ["a", "b", "c"] {
        let own: Vec<_> = all[0].iter().filter_map(|it| it.strip_prefix(sender)).collect();
        assert_eq!(own, numbers(0..=COUNT - 1), "the order of {sender} is kept");
    }
    drop(members);
    common::eventually(&server, "all are gone", |stats| stats.connections == 0);
    assert_eq!((hub.topics(), hub.subscriptions()), (0, 0), "nothing is left");
}

#[test]
fn direct_sends_and_publications_leave_in_the_order_of_the_calls() {
    let hub = hub(0);
    let server = serve(workers(1), &hub);
    let mut client = Client::upgrade(address(&server));
    client.subscribe("t", "");
    for large in [1, 750_000] {
        client.send_text(&format!("between t {large}"));
        assert_eq!(client.receive().payload.len(), large);
        assert_eq!(client.texts(2), ["2", "3"]);
    }
}

#[test]
fn recovery_after_a_new_connection_is_complete_or_lost() {
    let hub = hub(5);
    let server = serve(workers(2), &hub);
    let mut client = Client::upgrade(address(&server));
    client.subscribe("t", "positions");
    publish_all(&hub, "t", 1..=3);
    let last = client.texts(3).pop().unwrap();
    let position = last.split(' ').next().unwrap().to_owned();
    drop(client);
    publish_all(&hub, "t", 4..=8);

    let mut client = Client::upgrade(address(&server));
    let present = hub.position("t").unwrap();
    assert_eq!(
        client.subscribe("t", &format!("from={position}")),
        format!("recovered 5 {present}")
    );
    hub.publish("t", Post::text("9")).unwrap();
    assert_eq!(client.texts(6), numbers(4..=9));

    let (mut late, present) = (Client::upgrade(address(&server)), hub.position("t").unwrap());
    assert_eq!(late.subscribe("t", &format!("from={position}")), format!("lost {present}"));
    assert_eq!(late.subscribe("t", "from=1:1"), format!("lost {present}"), "another epoch");
    let future = format!("{:x}:{:x}", present.epoch, present.offset + 1);
    assert_eq!(late.subscribe("t", &format!("from={future}")), format!("lost {present}"));
    assert_eq!(late.subscribe("t", &format!("from={present}")), format!("recovered 0 {present}"));
    assert!(late.subscribe("t", "last=2").starts_with("recovered 2 "));
    assert_eq!(late.texts(2), numbers(8..=9));
}

#[test]
fn between_history_and_what_is_live_nothing_is_missing_or_twice() {
    const COUNT: usize = 10_000;
    let hub = hub(COUNT);
    let server = serve(workers(2), &hub);
    let topic = hub.topic("t").unwrap();
    let start = topic.position();
    let mut clients: Vec<_> = (0..6).map(|_| Client::upgrade(address(&server))).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=COUNT {
                topic.publish(Post::text(number.to_string())).unwrap();
            }
        });
        for client in &mut clients {
            scope.spawn(move || {
                let answer = client.subscribe("t", &format!("from={start}"));
                assert!(answer.starts_with("recovered "), "{answer}");
                for number in 1..=COUNT {
                    assert_eq!(client.text(), number.to_string());
                }
            });
        }
    });
}

#[test]
fn subjects_with_wildcards_get_topics_that_come_before_and_after() {
    let hub = hub(2);
    let server = serve(workers(2), &hub);
    publish_all(&hub, "a.early", 1..=3);
    let mut clients: Vec<_> = (0..2).map(|_| Client::upgrade(address(&server))).collect();
    assert_eq!(clients[0].subscribe("a.*", "last=1"), "recovered 1 0:0");
    assert_eq!(clients[0].text(), "3");
    assert_eq!(clients[1].subscribe("a.>", ""), "new 0:0");
    for (topic, receivers) in [("a.early", 2), ("a.late", 2), ("a.b.c", 1), ("b", 0), ("a", 0)] {
        let published = hub.publish(topic, Post::text(topic)).unwrap();
        assert_eq!(published.receivers, receivers, "{topic}");
        assert_eq!(hub.subscribers(topic), receivers, "{topic}");
    }
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts
    };
    assert_eq!(sorted(clients[0].texts(2)), ["a.early", "a.late"]);
    assert_eq!(sorted(clients[1].texts(3)), ["a.b.c", "a.early", "a.late"]);
}

#[test]
fn filters_and_the_one_that_is_left_out() {
    let hub = hub(0);
    let server = serve(workers(2), &hub);
    let mut clients: Vec<_> = (0..3).map(|_| Client::upgrade(address(&server))).collect();
    clients[0].subscribe("t", "");
    clients[1].subscribe("t", "contains=7");
    clients[2].subscribe("t", "");
    clients[2].send_text("others t mine");
    assert_eq!(clients[0].text(), "mine");
    for text in numbers(1..=20) {
        hub.publish("t", Post::text(text.clone()).header("length", &text)).unwrap();
    }
    assert_eq!(clients[0].texts(20), numbers(1..=20));
    assert_eq!(clients[2].texts(20), numbers(1..=20), "not its own");
    assert_eq!(clients[1].texts(2), ["7", "17"]);
}

#[test]
fn behind_unsubscribing_nothing_comes() {
    let hub = hub(0);
    let server = serve(workers(1), &hub);
    let mut client = Client::upgrade(address(&server));
    client.subscribe("t", "");
    // All in one turn, or in several: what is published behind `unsub` does not come.
    let head = picows_uring::FrameHead::new(MsgType::Text);
    let commands = ["pub t 1", "unsub t", "pub t 2", "sub t", "pub t 3", "say end"];
    let frames: Vec<_> =
        commands.iter().flat_map(|it| common::masked(head, it.as_bytes())).collect();
    client.write(&frames);
    let texts = client.texts(3);
    assert!(texts[0].starts_with("new "), "{texts:?}: the first was not sent yet");
    assert_eq!(texts[1..], ["3", "end"]);
    assert_eq!(hub.subscriptions(), 1);
}

/// Publishes so much that the socket of a peer that does not read refuses some, one publication after
/// the other.
fn flood(hub: &Hub, topic: &str, count: usize, len: usize) {
    for number in 0..count {
        let mut payload = format!("{number} ").into_bytes();
        payload.resize(len, b'x');
        let published = hub.publish(topic, Post::binary(payload)).expect("it is published");
        assert_eq!(published.lost, 0);
    }
}

/// The number in front of a payload.
fn number(payload: &[u8]) -> usize {
    let digits = payload.split(|byte| *byte == b' ').next().unwrap_or_default();
    let digits = str::from_utf8(digits).expect("digits");
    digits.parse().expect("a number")
}

#[test]
fn a_slow_subscriber_is_closed_and_the_reason_names_the_topic() {
    let hub = hub(0);
    let server = serve(workers(1), &hub);
    let mut slow = Client::upgrade(address(&server));
    let mut fast = Client::upgrade(address(&server));
    slow.subscribe("quotes.de", "close=200000");
    fast.subscribe("quotes.de", "close=200000000");
    flood(&hub, "quotes.de", 300, 64 << 10);
    for expected in 0..300 {
        assert_eq!(number(&fast.receive().payload), expected);
    }
    let mut expected = 0;
    loop {
        let got = slow.receive();
        if got.head.msg_type == MsgType::Close {
            let close = common::close_payload(
                CloseCode::TRY_AGAIN_LATER.get(),
                "too slow for topic quotes.de",
            );
            assert_eq!(got.payload, close);
            break;
        }
        assert_eq!(number(&got.payload), expected, "no gap before it");
        expected += 1;
    }
    assert!(expected < 300);
    assert_eq!(hub.stats().closed, 1);
}

#[test]
fn the_oldest_are_dropped_and_counted_for_each_subscriber() {
    let hub = hub(0);
    let server = serve(workers(2), &hub);
    let mut slow = Client::upgrade(address(&server));
    let mut fast = Client::upgrade(address(&server));
    slow.subscribe("t", "oldest=10 missed");
    fast.subscribe("t", "");
    flood(&hub, "t", 300, 64 << 10);
    for expected in 0..300 {
        assert_eq!(number(&fast.receive().payload), expected);
    }
    let (mut received, mut missed, mut next) = (0, 0, 0);
    while received + missed < 300 {
        let got = slow.receive();
        if got.head.msg_type == MsgType::Text {
            let text = String::from_utf8(got.payload).unwrap();
            let count = text.strip_prefix("missed Some(").and_then(|it| it.strip_suffix(") of t"));
            let count: usize = count.expect(&text).parse().unwrap();
            (missed, next) = (missed + count, next + count);
            continue;
        }
        assert_eq!(number(&got.payload), next, "what is missing was reported before");
        (received, next) = (received + 1, next + 1);
    }
    slow.send_text("counts");
    assert_eq!(slow.text(), format!("dropped {missed} conflated 0"));
    assert!(missed > 0, "the socket has refused some");
    let stats = hub.stats();
    assert_eq!((stats.dropped, stats.delivered), (missed as u64, 600 - missed as u64));
}

#[test]
fn the_latest_is_what_a_slow_subscriber_gets() {
    let hub = hub(0);
    let server = serve(workers(1), &hub);
    let mut slow = Client::upgrade(address(&server));
    let mut fast = Client::upgrade(address(&server));
    slow.subscribe("t.*", "latest");
    fast.subscribe("t.*", "");
    for topic in ["t.a", "t.b"] {
        flood(&hub, topic, 300, 64 << 10);
    }
    (0..600).for_each(|_| drop(fast.receive()));
    let (mut last, mut received) = ([0, 0], 0);
    // The last of both, whatever was left out before.
    while last != [299, 299] {
        let payload = slow.receive().payload;
        received += 1;
        let number = number(&payload);
        let topic = usize::from(last[0] == 299);
        assert!(number >= last[topic], "{number} behind {last:?}");
        last[topic] = number;
    }
    slow.send_text("counts");
    assert_eq!(slow.text(), format!("dropped 0 conflated {}", 600 - received));
    assert!(received < 600);
}

#[test]
fn publishing_reports_receivers_and_the_congested_apart() {
    for policy in ["oldest=4", "latest"] {
        let hub = hub(0);
        let server = serve(workers(1), &hub);
        let mut slow = Client::upgrade(address(&server));
        let mut readers = [(); 2].map(|()| Client::upgrade(address(&server)));
        slow.subscribe("t", policy);
        readers.iter_mut().for_each(|it| drop(it.subscribe("t", "close=1000000000")));
        for expected in 0..300 {
            let mut payload = format!("{expected} ").into_bytes();
            payload.resize(64 << 10, b'x');
            let published = hub.publish("t", Post::binary(payload)).unwrap();
            assert_eq!((published.receivers, published.lost), (3, 0));
            // They have it, once, and are not behind: only the other one is.
            assert!(published.congested <= 1, "{published:?}");
            readers.iter_mut().for_each(|it| assert_eq!(number(&it.receive().payload), expected));
        }
        let published = hub.publish("t", Post::binary("300 ")).unwrap();
        assert_eq!((published.receivers, published.congested), (3, 1), "{policy}");
        readers.iter_mut().for_each(|it| assert_eq!(number(&it.receive().payload), 300));
        let (mut received, mut last) = (0, None);
        while last != Some(300) {
            let next = number(&slow.receive().payload);
            assert!(last.is_none_or(|last| next > last), "{next} behind {last:?}");
            (received, last) = (received + 1, Some(next));
        }
        let stats = hub.stats();
        assert_eq!(received + stats.dropped + stats.conflated, 301, "{policy}");
        assert_eq!(stats.delivered, 2 * 301 + received);
    }
}

#[test]
fn nothing_is_lost_in_a_storm_of_subscriptions() {
    let hub = hub(0);
    let server = serve(workers(2), &hub);
    let mut steady: Vec<_> = (0..4).map(|_| Client::upgrade(address(&server))).collect();
    steady.iter_mut().for_each(|it| drop(it.subscribe("t", "")));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = Client::upgrade(address(&server));
            scope.spawn(move || {
                for round in 0..200 {
                    client.send_text(if round % 3 == 0 { "sub *" } else { "sub t" });
                    client.send_text(if round % 3 == 0 { "unsub *" } else { "unsub t" });
                }
                client.send_text("say end");
                while client.text() != "end" {}
            });
        }
        for number in 0..2000 {
            hub.publish("t", Post::text(number.to_string())).unwrap();
        }
    });
    for client in &mut steady {
        assert_eq!(client.texts(2000), numbers(0..=1999));
    }
    assert_eq!(hub.subscriptions(), 4);
    drop(steady);
    common::eventually(&server, "all are gone", |stats| stats.connections == 0);
    assert_eq!((hub.topics(), hub.subscriptions()), (0, 0));
}
