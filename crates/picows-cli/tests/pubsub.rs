//! `picows pubsub`: topics, rights, positions, slow subscribers, signals, and a bus that is not there.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::topics::{Message, PubSub, http_status, http_status_at};
use common::{Running, eventually, folder, measure_into, run, unheard};
use picows_uring::topics::Position;
use picows_uring::{Backoff, CloseCode, Follow, Followed, ListenerResult, Transport};
use rustix::process::Signal;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const POSITIONS: &str = "Sec-WebSocket-Protocol: picows.pubsub.1\r\n";

#[test]
fn what_one_client_sends_all_subscribers_of_the_topic_get() {
    let server = PubSub::start("--workers 2");
    assert_eq!(server.rule, "publish all: every client may publish, as all addresses are loopback");
    let mut clients: Vec<_> = (0..4).map(|_| server.connect("/topic/rooms.lobby")).collect();
    let mut other = server.connect("/topic/rooms.other");
    clients[0].send_text("hello");
    clients[0].send_binary(&[0, 255]);
    for client in &mut clients {
        assert_eq!(client.next(), Message::Text("hello".to_owned()));
        assert_eq!(client.next(), Message::Binary(vec![0, 255]));
    }
    other.send_text("own");
    assert_eq!(other.next(), Message::Text("own".to_owned()), "nothing of the other topic");
}

#[test]
fn without_the_right_a_publication_is_answered_with_1008() {
    let server = PubSub::start("--publish none");
    assert_eq!(server.rule, "publish none: clients only subscribe");
    let mut client = server.connect("/topic/a?token=x");
    client.send_text("hello");
    let reason = "this server takes no publications of clients".to_owned();
    assert_eq!(client.next(), Message::Close(1008, reason));
}

#[test]
fn a_token_gives_the_right() {
    let folder = folder("pubsub-token");
    let file = folder.join("tokens");
    std::fs::write(&file, "sesame\nother\n").unwrap();
    let flags = format!("--publish token --publish-token-file {}", file.display());
    let server = PubSub::start(&flags);
    assert_eq!(server.rule, "publish token: clients with a token may publish");
    let mut subscriber = server.connect("/topic/a");
    for (target, header, text) in [
        ("/topic/a?token=sesame", "", "by query"),
        ("/topic/a", "Authorization: Bearer other\r\n", "by header"),
    ] {
        let mut publisher = server.connect_with(target, header);
        publisher.send_text(text);
        assert_eq!(subscriber.next(), Message::Text(text.to_owned()));
    }
    for (target, reason) in
        [("/topic/a?token=sesamee", "the token is wrong"), ("/topic/a", "a token is missing")]
    {
        let mut client = server.connect(target);
        client.send_text("no");
        let Message::Close(code, text) = client.next() else { panic!("{target}") };
        assert!(code == 1008 && text.starts_with(reason), "{code} {text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn tokens_are_read_again_on_sighup() {
    let folder = folder("pubsub-tokens");
    let file = folder.join("tokens");
    std::fs::write(&file, "old\n").unwrap();
    let flags = format!("--publish token --publish-token-file {}", file.display());
    let server = PubSub::start(&flags);
    let (mut subscriber, mut before) =
        (server.connect("/topic/a"), server.connect("/topic/a?token=old"));
    std::fs::write(&file, "new\n").unwrap();
    server.hang_up();
    // The signal is handled beside the clients.
    eventually("the new token gives the right", || {
        let mut client = server.connect("/topic/b?token=new");
        client.send_text("new");
        (client.next() == Message::Text("new".to_owned())).then_some(())
    });
    let mut client = server.connect("/topic/a?token=old");
    client.send_text("no");
    assert_eq!(client.next(), Message::Close(1008, "the token is wrong".to_owned()));
    // One that was there keeps its right.
    before.send_text("as before");
    assert_eq!(subscriber.next(), Message::Text("as before".to_owned()));
    std::fs::write(&file, "\n").unwrap();
    server.hang_up();
    let mut client = server.connect("/topic/a?token=new");
    client.send_text("the old ones stay");
    assert_eq!(subscriber.next(), Message::Text("the old ones stay".to_owned()));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn messages_have_positions_from_which_a_client_recovers() {
    let server = PubSub::start("--history 5");
    let mut client = server.connect_with("/topic/a", POSITIONS);
    let Message::Text(first) = client.next() else { panic!("the first message is text") };
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["recovered"], 0);
    let mut bare = server.connect("/topic/a");
    bare.send_text("one");
    let Message::Text(text) = client.next() else { panic!("text stays text") };
    let (position, payload) = text.split_once(' ').unwrap();
    assert_eq!(payload, "one");
    let (epoch, offset) = position.split_once(':').unwrap();
    let (epoch, offset) =
        (u64::from_str_radix(epoch, 16).unwrap(), u64::from_str_radix(offset, 16).unwrap());
    bare.send_binary(&[7]);
    let Message::Binary(bytes) = client.next() else { panic!("binary stays binary") };
    assert_eq!(bytes[..8], epoch.to_be_bytes());
    assert_eq!(bytes[8..16], (offset + 1).to_be_bytes());
    assert_eq!(bytes[16..], [7]);
    for text in ["two", "three"] {
        bare.send_text(text);
        assert!(matches!(client.next(), Message::Text(_)));
    }
    // From the first one: three were missed, and come before anything new.
    let mut back = server.connect_with(&format!("/topic/a?from={position}"), POSITIONS);
    let Message::Text(text) = back.next() else { panic!("the first message is text") };
    assert!(text.starts_with(r#"{"recovered":3,"position":"#), "{text}");
    assert_eq!(back.next(), Message::Binary(bytes));
    for text in ["two", "three"] {
        let Message::Text(message) = back.next() else { panic!("{text}") };
        assert_eq!(message.split_once(' ').unwrap().1, text);
    }
    // Without the subprotocol the past comes bare.
    let mut last = server.connect("/topic/a?last=2");
    assert_eq!(last.next(), Message::Text("two".to_owned()));
    assert_eq!(last.next(), Message::Text("three".to_owned()));
    // More than the history has, and another life of the topic: never a part.
    for number in 0..5 {
        bare.send_text(&number.to_string());
    }
    while client.next() != Message::Text(format!("{epoch:x}:{:x} 4", offset + 8)) {}
    for from in [position.to_owned(), format!("{:x}:1", epoch ^ 1)] {
        let mut lost = server.connect_with(&format!("/topic/a?from={from}"), POSITIONS);
        let Message::Text(text) = lost.next() else { panic!("{from}") };
        assert!(text.starts_with(r#"{"lost":true,"position":"#), "{text}");
        bare.send_text("new");
        let Message::Text(message) = lost.next() else { panic!("{from}") };
        assert!(message.ends_with(" new"), "nothing of the past: {message}");
    }
}

#[test]
fn subjects_with_wildcards_get_all_topics_that_match() {
    let server = PubSub::start("--history 5");
    let mut publishers: Vec<_> =
        ["a.x", "a.y", "b.x"].map(|topic| server.connect(&format!("/topic/{topic}"))).into();
    publishers[0].send_text("early");
    assert_eq!(publishers[0].next(), Message::Text("early".to_owned()));
    let mut bare = server.connect("/topic/a.*?last=1");
    assert_eq!(bare.next(), Message::Text("early".to_owned()));
    let mut all = server.connect_with("/topic/%3E", POSITIONS);
    let first = r#"{"recovered":0,"position":"0:0"}"#.to_owned();
    assert_eq!(all.next(), Message::Text(first));
    publishers[1].send_text("of y");
    assert_eq!(bare.next(), Message::Text("of y".to_owned()));
    let Message::Text(text) = all.next() else { panic!("text stays text") };
    let (position, rest) = text.split_once(' ').unwrap();
    assert_eq!(rest, "a.y of y");
    assert!(position.ends_with(":1"), "{position}");
    publishers[2].send_binary(&[1, 2]);
    let Message::Binary(bytes) = all.next() else { panic!("binary stays binary") };
    assert_eq!(bytes[8..], [0, 0, 0, 0, 0, 0, 0, 1, 3, b'b', b'.', b'x', 1, 2]);
    bare.send_text("to which?");
    let reason = "a subject with wildcards is no topic to publish to".to_owned();
    assert_eq!(bare.next(), Message::Close(1008, reason), "nothing of the other topics before it");
}

#[test]
fn a_topic_that_lingers_delivers_by_itself() {
    let server = PubSub::start("--linger 20ms --batch-max 3");
    let mut client = server.connect("/topic/a");
    for text in ["1", "2", "3", "4"] {
        client.send_text(text);
    }
    for text in ["1", "2", "3", "4"] {
        assert_eq!(client.next(), Message::Text(text.to_owned()));
    }
}

/// Follows a topic in a thread, until a message `end`. One `cut…` ends the connection.
fn follow(url: String, from: Option<Position>) -> (Receiver<String>, std::thread::JoinHandle<()>) {
    let (sender, events) = channel();
    let client = std::thread::spawn(move || {
        let follow = match from {
            None => Follow::new(url),
            Some(position) => Follow::new(url).resume_from(position),
        };
        let delay = Duration::from_millis(1);
        let reconnect = follow.reconnect().backoff(Backoff::default().initial(delay).max(delay));
        let on_event =
            move |transport: &Transport, event: Followed<'_>| handle(transport, event, &sender);
        picows_uring::run(async move { follow.run(reconnect, on_event).await }).unwrap().unwrap();
    });
    (events, client)
}

fn handle(transport: &Transport, event: Followed<'_>, events: &Sender<String>) -> ListenerResult {
    let text = match event {
        Followed::Message { payload, .. } => String::from_utf8(payload.to_vec())?,
        Followed::Recovered { .. } => "recovered".to_owned(),
        other => format!("{other:?}"),
    };
    events.send(text.clone())?;
    match &*text {
        "end" => drop(transport.send_close(CloseCode::NORMAL, "")),
        text if text.starts_with("cut") => return Err("cut by the test".into()),
        _ => {}
    }
    Ok(())
}

#[test]
fn our_client_comes_back_with_its_position_and_misses_nothing() {
    let server = PubSub::start("--history 100");
    let (events, client) = follow(format!("{}/topic/news?x=1", server.url), None);
    let next = || events.recv_timeout(Duration::from_secs(60)).unwrap();
    let first = next();
    assert!(first.starts_with("Began"), "{first}");
    let mut publisher = server.connect("/topic/news");
    for round in 0..20 {
        publisher.send_text(&format!("cut {round}"));
        publisher.send_text(&format!("behind {round}"));
        publisher.send_binary(format!("bytes {round}").as_bytes());
        assert_eq!(next(), format!("cut {round}"));
        assert_eq!(next(), "recovered", "{round}");
        assert_eq!(next(), format!("behind {round}"));
        assert_eq!(next(), format!("bytes {round}"), "once each, in order");
    }
    publisher.send_text("end");
    assert_eq!(next(), "end");
    client.join().unwrap();
}

#[test]
fn our_client_hears_that_publications_are_lost() {
    let server = PubSub::start("--history 100");
    let unknown = Position { epoch: 1, offset: 5 };
    let (events, client) = follow(format!("{}/topic/news", server.url), Some(unknown));
    let next = || events.recv_timeout(Duration::from_secs(60)).unwrap();
    let first = next();
    assert!(first.starts_with("Lost"), "{first}");
    let mut publisher = server.connect("/topic/news");
    for text in ["cut", "end"] {
        publisher.send_text(text);
    }
    assert_eq!([next(), next(), next()], ["cut", "recovered", "end"], "from the new position");
    client.join().unwrap();
}

#[test]
fn requests_that_cannot_be_are_answered_with_the_cause() {
    let server = PubSub::start("");
    for (target, header, status, part) in [
        ("/topic/a?from=1:2", "", 400, "subprotocol picows.pubsub.1"),
        ("/topic/a?from=x", POSITIONS, 400, "EPOCH:OFFSET"),
        ("/topic/a.%3E.b", "", 400, "a.>.b"),
        ("/topic/a.*?from=1:2", POSITIONS, 400, "wildcards"),
        ("/topic/", "", 400, "name"),
        ("/rooms/a", "", 404, "/topic/NAME"),
    ] {
        let (found, body) =
            http_status(&server, target, &format!("{}{header}", common::topics::UPGRADE));
        assert!(found == status && body.contains(part), "{target}: {found} {body}");
    }
    assert_eq!(http_status(&server, "/healthz", "").0, 200);
    assert_eq!(http_status(&server, "/readyz", "").0, 200);
}

#[test]
fn the_admin_address_has_metrics_and_probes() {
    let server = PubSub::start("--admin 127.0.0.1:0");
    let admin = server.admin.clone().unwrap();
    let mut client = server.connect("/topic/a");
    client.send_text("hello");
    assert_eq!(client.next(), Message::Text("hello".to_owned()));
    let (status, text) = http_status_at(&admin, "/metrics", "");
    assert_eq!(status, 200);
    for line in [
        "picows_connections 1",
        "picows_frames_total{direction=\"in\",opcode=\"text\"} 1",
        "picows_frames_total{direction=\"out\",opcode=\"text\"} 1",
        "picows_payload_bytes_total{direction=\"out\"} 5",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http_status_at(&admin, path, "").0, 200, "{path}");
    }
    assert_eq!(http_status(&server, "/metrics", "").0, 404, "not for clients");
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_with_1013() {
    let server = PubSub::start("--max-queue 64KiB");
    let mut slow = server.connect("/topic/a");
    let mut fast = server.connect("/topic/a");
    let payload = vec![1; 16 * 1024];
    let mut count = 0;
    while server.topic_counter("closed") == 0 {
        for _ in 0..16 {
            fast.send_binary(&payload);
            assert_eq!(fast.next(), Message::Binary(payload.clone()));
            count += 1;
        }
        assert!(count < 100_000, "the slow one is still there");
    }
    loop {
        match slow.next() {
            Message::Binary(bytes) => assert_eq!(bytes, payload),
            message => {
                assert_eq!(message, Message::Close(1013, "too slow for topic a".to_owned()));
                break;
            }
        }
    }
}

#[test]
fn latest_keeps_the_last_for_a_slow_subscriber() {
    let server = PubSub::start("--policy latest");
    let mut slow = server.connect("/topic/a");
    let mut fast = server.connect("/topic/a");
    // Until something is conflated for the one that does not read.
    let mut number: u32 = 0;
    while server.topic_counter("conflated") == 0 {
        for _ in 0..16 {
            let mut payload = vec![1; 64 * 1024];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            fast.send_binary(&payload);
            assert!(matches!(fast.next(), Message::Binary(_)));
            number += 1;
        }
    }
    let (mut last, mut received) = (None, 0);
    while last != Some(number - 1) {
        let Message::Binary(payload) = slow.next() else { panic!("it is not closed") };
        let found = u32::from_be_bytes(payload[..4].try_into().unwrap());
        assert!(last.is_none_or(|last| found > last), "in order");
        (last, received) = (Some(found), received + 1);
    }
    assert!(received < number, "{received} of {number}");
}

#[test]
fn sigterm_closes_all_subscribers_and_counts() {
    let server = PubSub::start("");
    let mut client = server.connect("/topic/a");
    client.send_text("x");
    assert_eq!(client.next(), Message::Text("x".to_owned()));
    let server = server.signal(Signal::TERM);
    assert!(matches!(client.next(), Message::Close(1001, _)));
    drop(client);
    let done = server.end();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let last = done.stdout.lines().last().unwrap();
    let json: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(
        (&json["topics"]["published"], &json["topics"]["delivered"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn wrong_flags_are_status_2() {
    for (flags, part) in [
        ("--publish token", "--publish-token-file FILE is missing"),
        ("--publish-token-file /nowhere --publish token", "/nowhere"),
        ("--publish-token-file /nowhere", "it is for --publish token"),
        ("--policy never", "drop-oldest"),
        ("--nats http://u:SECRET@h", "nats://HOST:4222"),
        ("--nats-prefix a", "--nats"),
    ] {
        let mut command = common::picows(["pubsub"].into_iter().chain(flags.split_whitespace()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let done = Running::start(&mut command).end();
        assert_eq!(done.code, 2, "{flags}: {}", done.stderr);
        assert!(done.stderr.contains(part) && !done.stderr.contains("SECRET"), "{}", done.stderr);
    }
}

#[test]
fn a_nats_server_that_is_not_there_is_named_and_local_topics_go_on() {
    let (_socket, address) = unheard();
    let server = PubSub::start(&format!("--nats nats://{address} --admin 127.0.0.1:0"));
    for authority in [server.authority(), server.admin.as_deref().unwrap()] {
        let (status, body) = http_status_at(authority, "/readyz", "");
        assert_eq!(status, 503);
        let names_it = body.contains(&address.to_string()) && body.contains("start nats-server");
        assert!(names_it, "{body}");
        assert_eq!(http_status_at(authority, "/healthz", "").0, 200);
    }
    let mut client = server.connect("/topic/a");
    client.send_text("local");
    assert_eq!(client.next(), Message::Text("local".to_owned()));
    let done = server.signal(Signal::TERM);
    drop(client);
    let done = done.end();
    assert!(done.stderr.contains("start nats-server"), "{}", done.stderr);
    assert_eq!(done.code, 0);
}

#[test]
fn the_load_finds_every_publication_delivered_in_order() {
    let quick = "load --mode fan-out --subscribers 50 --warmup 50ms --duration 300ms --json -";
    for (server_flags, flags) in [
        ("--workers 2", "--pipeline 16 --publishers 2"),
        ("--workers 1 --dedicated", "--rate 1000"),
        ("--workers 2 --deflate", "--deflate --payload json --pipeline 4"),
    ] {
        let server = PubSub::start(server_flags);
        let url = format!("{}/topic/load", server.url);
        let (done, json) = measure_into(&format!("{quick} {flags}"), &url, |done| {
            let mut json = done.json();
            json["latency_us"] = json["latency_all_us"].clone();
            json
        });
        assert_eq!(done.code, 0, "{flags}: {}", done.stderr);
        assert_eq!((&json["gaps"], &json["complete_subscribers"]), (&0.into(), &50.into()));
    }
}

#[test]
fn the_load_names_a_server_that_publishes_nothing() {
    let server = PubSub::start("--publish none");
    let quick = "load --mode fan-out --subscribers 5 --warmup 0s --duration 100ms";
    let done = run(quick, &format!("{}/topic/load", server.url));
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("1008") && done.stderr.contains("--publish all"),
        "{}",
        done.stderr
    );
}

#[test]
fn nodes_are_ready_while_nats_is_there() {
    let Some(mut nats) = common::topics::Nats::start() else { return };
    let server = PubSub::start(&format!("--nats {} --admin 127.0.0.1:0", nats.url));
    let ready = || {
        let probed = [server.authority(), server.admin.as_deref().unwrap()]
            .map(|authority| http_status_at(authority, "/readyz", ""));
        (probed[0].0 == probed[1].0).then_some(probed)
    };
    let wait_for = |status: u16| {
        eventually(&format!("/readyz is {status}"), || {
            ready().filter(|probed| probed[0].0 == status)
        })
    };
    wait_for(200);
    nats.kill();
    let probed = wait_for(503);
    assert!(probed.iter().all(|(_, reason)| reason.contains(&nats.url)), "{probed:?}");
    assert_eq!(http_status(&server, "/healthz", "").0, 200);
    nats.run();
    wait_for(200);
}

#[test]
fn nodes_share_their_topics_over_nats() {
    let Some(nats) = common::topics::Nats::start() else { return };
    let nodes: Vec<_> =
        (0..2).map(|_| PubSub::start(&format!("--nats {} --workers 1", nats.url))).collect();
    let mut clients: Vec<_> = nodes.iter().map(|node| node.connect("/topic/a")).collect();
    // A subscription reaches NATS a moment after the client has it.
    eventually("a publication reaches the other node", || {
        clients[0].send_text("probe");
        clients[1].try_next()
    });
    clients[0].send_text("end");
    while clients[1].next() != Message::Text("end".to_owned()) {}
    clients[1].send_text("back");
    assert_eq!(clients[1].next(), Message::Text("back".to_owned()));
    while clients[0].next() != Message::Text("back".to_owned()) {}
    assert_eq!(http_status(&nodes[0], "/readyz", "").0, 200);
}
