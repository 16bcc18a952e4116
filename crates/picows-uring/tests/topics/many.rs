//! Many subscribers, beside storms of subscriptions and subscribers that have stopped reading.

use super::*;
use rustix::process::{Resource, getrlimit, setrlimit};

const SUBSCRIBERS: usize = 2000;
const COUNT: u32 = 100;

/// Both ends of each connection are in this process.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit is raised to the hard one");
}

#[test]
fn two_thousand_subscribers_get_all_beside_storms_and_stopped_ones() {
    raise_descriptors();
    let hub = hub(0);
    let server = serve(workers(2), &hub);
    let mut steady: Vec<_> = (0..SUBSCRIBERS).map(|_| Client::upgrade(address(&server))).collect();
    steady.iter_mut().for_each(|client| client.send_text("sub t "));
    steady.iter_mut().for_each(|client| assert!(client.text().starts_with("new ")));
    let policies = ["close=65536", "oldest=8 missed", "latest", "close=1000000000"];
    let mut large = policies.map(|policy| {
        let mut client = Client::upgrade(address(&server));
        client.subscribe("large", policy);
        client
    });
    let stormy: Vec<_> = (0..4).map(|_| Client::upgrade(address(&server))).collect();
    std::thread::scope(|scope| {
        for mut client in stormy {
            scope.spawn(move || {
                for round in 0..100 {
                    let subject = ["t", ">", "large"][round % 3];
                    client.send_text(&format!("sub {subject} latest"));
                    client.send_text(&format!("unsub {subject}"));
                }
                client.send_text("say end");
                while client.receive().payload != b"end" {}
            });
        }
        for number in 0..COUNT {
            let published = hub.publish("t", Post::text(number.to_string())).unwrap();
            assert!(published.receivers >= SUBSCRIBERS && published.lost == 0, "{published:?}");
            flood(&hub, "large", 3, 64 << 10);
        }
        for client in &mut steady {
            assert_eq!(client.texts(COUNT as usize), numbers(0..=COUNT - 1));
        }
    });
    check_stopped(&mut large, 3 * COUNT as usize);
    drop((steady, large));
    common::eventually(&server, "all are gone", |stats| stats.connections == 0);
    assert_eq!((hub.topics(), hub.subscriptions(), hub.stats().behind), (0, 0, 0));
}

/// Each by its policy, now that they read.
fn check_stopped([close, oldest, latest, fast]: &mut [Client; 4], published: usize) {
    (0..published).for_each(|at| assert_eq!(number(&fast.receive().payload), at % 3));
    let mut at = 0;
    loop {
        let got = close.receive();
        if got.head.msg_type == MsgType::Close {
            break assert!(got.payload.ends_with(b"too slow for topic large"));
        }
        assert_eq!(number(&got.payload), at % 3, "no gap before the end");
        at += 1;
    }
    assert!(at < published);
    let (mut received, mut missed) = (0, 0);
    while received + missed < published {
        let got = oldest.receive();
        if got.head.msg_type == MsgType::Text {
            let text = String::from_utf8(got.payload).expect("text");
            let count = text.strip_prefix("missed Some(").and_then(|it| it.split(')').next());
            missed += count.expect(&text).parse::<usize>().expect("a number");
            continue;
        }
        assert_eq!(number(&got.payload), (received + missed) % 3);
        received += 1;
    }
    assert!(missed > 0);
    latest.send_text("counts");
    let mut received = 0;
    loop {
        let got = latest.receive();
        if got.head.msg_type == MsgType::Text {
            // What it holds back comes behind the answer.
            let text = String::from_utf8(got.payload).expect("text");
            let conflated = text.rsplit(' ').next().and_then(|it| it.parse().ok());
            let conflated: usize = conflated.expect("a number");
            let left = published - received - conflated;
            (0..left).for_each(|_| drop(latest.receive()));
            break assert!(conflated > 0);
        }
        received += 1;
    }
}
