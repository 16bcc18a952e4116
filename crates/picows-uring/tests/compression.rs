//! permessage-deflate between sockets: what is agreed on, sent, counted, bounded.

#![cfg(feature = "deflate")]

mod common;

use common::{Client, address, eventually, masked, noise, on_frame, workers};
use picows_uring::{
    ApiMisuse, CloseCode, Deflate, EchoListener, Error, FrameHead, ListenerResult, Message,
    MessageListener, Messages, MsgType, NegotiatedDeflate, Prepared, QueuePolicy, SendStatus,
    ServerBuilder, ServerHandle, Transport, Upgrade, UpgradeRequest, run,
};
use picows_uring_proto::{
    Compressed, Compression, Deflaters, Expansion, Frame, FrameRules, Inflaters, Receiver, Role,
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// Text that compresses, another for each number.
fn quote(number: usize) -> String {
    format!(
        r#"{{"channel":"book","symbol":"BTC-USD","bid":{},"sequence":{number}}}"#,
        number * 7919
    )
    .repeat(1 + number % 9)
}

fn echo_server(deflate: Deflate) -> ServerHandle {
    let server = workers(1).deflate(deflate).validate_text(true);
    server.start(|_| Upgrade::accept(EchoListener)).expect("a server")
}

/// The next frame is CLOSE with this code.
fn expect_code(client: &mut Client, code: CloseCode) {
    let got = client.receive();
    let is_close = got.head.msg_type == MsgType::Close;
    assert!(is_close && got.payload.starts_with(&code.get().to_be_bytes()), "{got:?}");
}

/// A raw client that has agreed on deflate with 12 bits both ways.
struct Peer {
    client: Client,
    compression: Compression,
    deflaters: Deflaters,
    receiver: Receiver,
    expansion: Expansion,
    inflaters: Inflaters,
}

impl Peer {
    fn new(server: &ServerHandle) -> Self {
        Self::with_offer(server, OFFER, "permessage-deflate; client_max_window_bits=12")
    }

    /// One that offers something else, and gets the answer `wanted`.
    fn with_offer(server: &ServerHandle, offer: &str, wanted: &str) -> Self {
        let mut client = Client::connect(address(server));
        let answer = client.ask("/", offer);
        assert_eq!(answer.header("Sec-WebSocket-Extensions"), Some(wanted));
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{offer}\r\n");
        let limits = picows_uring_proto::HeadLimits::default();
        let request = UpgradeRequest::parse(head.as_bytes(), &limits);
        let (agreed, _) = Deflate::new()
            .accept(&request.expect("a request").expect("whole").0)
            .expect("an offer");
        Self {
            client,
            // What the server receives is what this end sends.
            compression: Compression::new(
                &Deflate::new().window_bits(agreed.peer_window_bits),
                &agreed_of_peer(agreed),
            ),
            deflaters: Deflaters::new(1),
            receiver: Receiver::new(Role::Client),
            expansion: Expansion::new(&Deflate::new(), &agreed),
            inflaters: Inflaters::new(1),
        }
    }

    fn send(&mut self, head: FrameHead, payload: &[u8]) {
        let compressed = self.compression.compress(&mut self.deflaters, head, payload);
        let wire = match compressed.expect("memory") {
            Compressed::Plain => masked(head, payload),
            Compressed::Frame(head, payload) => masked(head, payload),
        };
        self.client.write(&wire);
    }

    /// The next frame: whether it was compressed, and its text.
    fn receive(&mut self) -> (bool, Vec<u8>) {
        let got = self.client.receive();
        let mut wire = Vec::new();
        got.head.append(&mut wire, &got.payload, None);
        let rules = FrameRules::default();
        let Self { receiver, expansion, inflaters, .. } = self;
        let (decoded, _) =
            receiver.next_expanded(&rules, expansion, inflaters, &mut wire).expect("deflate");
        let frame: Frame<'_> = decoded.frame.expect("a whole frame");
        (got.head.rsv == 4, frame.payload().to_vec())
    }
}

/// What was agreed on, from the point of view of the other end.
fn agreed_of_peer(agreed: NegotiatedDeflate) -> NegotiatedDeflate {
    let mut other = agreed;
    (other.window_bits, other.peer_window_bits) = (agreed.peer_window_bits, agreed.window_bits);
    (other.context_takeover, other.peer_context_takeover) =
        (agreed.peer_context_takeover, agreed.context_takeover);
    other
}

#[test]
fn our_client_and_our_server_agree_and_exchange_messages() {
    for (server, client, windows) in [
        (Deflate::new(), Deflate::new(), (12, 12)),
        (Deflate::new(), Deflate::new().peer_window_bits(9), (12, 9)),
        (Deflate::new().peer_window_bits(8), Deflate::new(), (8, 15)),
        (Deflate::new().context_takeover(false), Deflate::new().context_takeover(false), (12, 12)),
    ] {
        let server = echo_server(server.threshold(0));
        let connect = common::connect_to(&server);
        run(async move {
            let connect = connect.deflate(client.threshold(0));
            let mut stream = connect.stream().await.expect("it connects");
            let agreed = stream.transport().deflate().expect("the server agrees");
            assert_eq!(agreed.window_bits, windows.0, "{agreed:?}");
            for number in 0..200 {
                stream.send(quote(number)).await.expect("it is open");
                let message = stream.next().await.expect("an echo");
                assert_eq!(message.as_text(), Some(quote(number).as_str()));
            }
            stream.close().await;
        })
        .expect("a runtime");
        let stats = server.stats();
        assert!(stats.bytes_after_expansion > stats.bytes_before_expansion, "{stats:?}");
        assert!(stats.bytes_before_compression > stats.bytes_after_compression, "{stats:?}");
        eventually(&server, "the history is gone", |stats| stats.history_bytes == 0);
    }
}

#[test]
fn a_listener_sees_plain_frames_of_every_kind() {
    let server = echo_server(Deflate::new());
    let mut peer = Peer::new(&server);
    for number in 1..50 {
        let text = quote(number);
        peer.send(FrameHead::new(MsgType::Text), text.as_bytes());
        let (is_compressed, echo) = peer.receive();
        assert_eq!((is_compressed, &echo[..]), (text.len() >= 64, text.as_bytes()));
    }
    // Fragments come back as fragments, and a PING between them is answered.
    let text = quote(3);
    peer.send(FrameHead::new(MsgType::Text).with_fin(false), text.as_bytes());
    peer.send(FrameHead::new(MsgType::Ping), b"ping");
    peer.send(FrameHead::new(MsgType::Continuation), text.as_bytes());
    assert_eq!(peer.receive().1, text.as_bytes());
    assert_eq!(peer.receive(), (false, b"ping".to_vec()));
    assert_eq!(peer.receive().1, text.as_bytes());
    // Far beyond a receive buffer, compressed and not.
    for payload in [noise(1, 700_000), vec![b'x'; 3_000_000]] {
        peer.send(FrameHead::new(MsgType::Binary), &payload);
        assert!(peer.receive().1 == payload);
    }
}

#[test]
fn a_client_that_allows_no_limit_may_refer_to_32_kib_of_earlier_messages() {
    let server = echo_server(Deflate::new());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    // As Firefox and Safari offer it: nothing is said of the client's side.
    let mut peer = Peer::with_offer(&server, offer, "permessage-deflate");
    let hex = |noise: &[u8]| noise.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let first = hex(&noise(7, 15_500)).into_bytes();
    peer.send(FrameHead::new(MsgType::Binary), &first);
    assert!(peer.receive().1 == first);
    for number in 0..8 {
        let mut part = first[number * 100..][..900].to_vec();
        part.extend(quote(number).bytes());
        let head = FrameHead::new(MsgType::Binary);
        let compressed = peer.compression.compress(&mut peer.deflaters, head, &part);
        let Compressed::Frame(head, data) = compressed.expect("memory") else {
            panic!("it shrinks")
        };
        // By itself it would be 450: a digit has 4 bits.
        assert!(data.len() < 400, "it refers to the first message: {} bytes", data.len());
        peer.client.write(&masked(head, data));
        assert!(peer.receive().1 == part);
    }
}

#[test]
fn without_an_offer_or_by_the_factory_nothing_is_compressed() {
    let server = workers(1).deflate(Deflate::new());
    let server = server.start(|request| {
        let upgrade = Upgrade::accept(EchoListener);
        if request.path() == "/plain" { upgrade.without_deflate() } else { upgrade }
    });
    let server = server.expect("a server");
    for (path, offer) in [("/", ""), ("/plain", OFFER)] {
        let mut client = Client::connect(address(&server));
        let answer = client.ask(path, offer);
        assert_eq!((answer.status, answer.header("Sec-WebSocket-Extensions")), (101, None));
        client.echo(quote(8).as_bytes());
        client.write(&masked(FrameHead::new(MsgType::Text).with_rsv(4), b"\x00"));
        expect_code(&mut client, CloseCode::PROTOCOL_ERROR);
    }
    let mut client = Client::connect(address(&server));
    let answer = client.ask("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    assert_eq!(answer.header("Sec-WebSocket-Extensions"), Some("permessage-deflate"));
}

#[test]
fn rsv1_is_not_the_applications() {
    let server = workers(1).deflate(Deflate::new()).start(|_| {
        Upgrade::accept(on_frame(|transport, frame| {
            let head = FrameHead::new(MsgType::Text);
            let refused = transport.send_frame(head.with_rsv(4), frame.payload());
            assert_eq!(refused, SendStatus::Refused(ApiMisuse::RsvOfDeflate));
            transport.send_frame(head.compressed(false), frame.payload());
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut peer = Peer::new(&server);
    peer.send(FrameHead::new(MsgType::Text), quote(8).as_bytes());
    assert_eq!(peer.receive(), (false, quote(8).into_bytes()));
    let refused = |builder: ServerBuilder, name: &str| {
        let error = builder.start(|_| Upgrade::not_found()).map(drop).expect_err("a wrong setting");
        assert!(matches!(error, Error::Config { setting, .. } if setting == name), "{error}");
    };
    refused(workers(1).deflate(Deflate::new()).allow_rsv(4), "allow_rsv");
    refused(workers(1).deflate(Deflate::new()).any_order(true), "any_order");
    refused(workers(1).deflate(Deflate::new().level(0)), "deflate");
    refused(workers(1).deflate(Deflate::new().window_bits(16)), "deflate");
}

#[test]
fn bombs_and_broken_data_end_their_connection_only() {
    let server = workers(1).deflate(Deflate::new()).max_frame_size(1 << 20);
    let server = server.start(|_| Upgrade::accept(EchoListener)).expect("a server");
    let mut neighbour = Peer::new(&server);
    let bomb = {
        let mut peer = Peer::new(&server);
        let head = FrameHead::new(MsgType::Binary);
        let zeros = vec![0; 1 << 26];
        match peer.compression.compress(&mut peer.deflaters, head, &zeros).expect("memory") {
            Compressed::Frame(head, payload) => masked(head, payload),
            Compressed::Plain => panic!("zeros shrink"),
        }
    };
    assert!(bomb.len() < 1 << 19);
    for _ in 0..5 {
        let mut peer = Peer::new(&server);
        peer.client.write(&bomb);
        expect_code(&mut peer.client, CloseCode::MESSAGE_TOO_BIG);
        let mut peer = Peer::new(&server);
        peer.client.write(&masked(FrameHead::new(MsgType::Text).with_rsv(4), b"\xff\xff"));
        expect_code(&mut peer.client, CloseCode::INVALID_PAYLOAD);
        neighbour.send(FrameHead::new(MsgType::Text), quote(1).as_bytes());
        assert_eq!(neighbour.receive().1, quote(1).as_bytes());
    }
}

#[test]
fn a_prepared_message_is_for_compressed_and_plain_peers_alike() {
    let prepared = Prepared::new(MsgType::Text, quote(8)).expect("text").deflate(12);
    let long = Prepared::new(MsgType::Binary, noise(1, 5000)).expect("bytes").deflate(12);
    let server = workers(1).deflate(Deflate::new()).start(move |_| {
        let (prepared, long) = (prepared.clone(), long.clone());
        Upgrade::accept(on_frame(move |transport, frame| {
            transport.send_prepared(&prepared);
            transport.send_frame(FrameHead::new(MsgType::Text), frame.payload());
            transport.send_prepared(&long);
            transport.send_prepared(&prepared);
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut peer = Peer::new(&server);
    let mut plain = Client::upgrade(address(&server));
    for number in 0..60 {
        let text = quote(number);
        peer.send(FrameHead::new(MsgType::Text), text.as_bytes());
        assert_eq!(peer.receive(), (true, quote(8).into_bytes()));
        assert_eq!(peer.receive().1, text.as_bytes());
        assert_eq!(peer.receive(), (false, noise(1, 5000)));
        assert_eq!(peer.receive(), (true, quote(8).into_bytes()));
        plain.send_text(&text);
        plain.expect_text(&quote(8));
        plain.expect_text(&text);
        assert_eq!(plain.receive().payload, noise(1, 5000));
        plain.expect_text(&quote(8));
    }
    assert!(Prepared::new(MsgType::Text, b"\xff").is_err());
    assert!(Prepared::new(MsgType::Continuation, b"").is_err());
}

#[test]
fn what_is_dropped_or_replaced_is_not_referred_to() {
    // Each frame is answered with many, of which a client that does not read gets some.
    const ANSWERS: usize = 40_000;
    let text = |number: usize| {
        let noise = noise(number as u64 + 1, 150);
        let hex: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}{}", quote(number))
    };
    let server = workers(1)
        .deflate(Deflate::new())
        .write_watermarks(16 * 1024, 4 * 1024)
        .max_queue_size(64 * 1024, QueuePolicy::DropOldest);
    let server = server.start(move |_| {
        Upgrade::accept(on_frame(move |transport, _| {
            for number in 0..ANSWERS {
                if number % 3 == 0 {
                    transport.send_latest(number as u64 % 5, MsgType::Text, text(number));
                } else {
                    transport.send(MsgType::Text, text(number));
                }
            }
            transport.send(MsgType::Text, "the end");
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut peer = Peer::new(&server);
    peer.client.send_text("go");
    eventually(&server, "some are dropped", |stats| {
        stats.frames_dropped > 0 && stats.frames_conflated > 0
    });
    let mut compressed = 0;
    loop {
        let (is_compressed, received) = peer.receive();
        compressed += usize::from(is_compressed);
        if received == b"the end" {
            break;
        }
        let received = String::from_utf8(received).expect("what was sent, and not rubbish");
        let number = received.rsplit_once(':').and_then(|(_, end)| end.strip_suffix('}'));
        let number: usize = number.expect("a number").parse().expect("a number");
        assert_eq!(received, text(number));
    }
    assert!(compressed > 10, "{compressed}");
}

#[test]
fn prepared_messages_that_wait_are_not_compressed_again() {
    // They shrink, and no more of them fit into the socket than of noise.
    let text = |number: usize| {
        let noise = noise(number as u64 + 1, 150);
        let hex: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{number:06} {hex}")
    };
    let server = workers(1)
        .deflate(Deflate::new())
        .write_watermarks(16 * 1024, 4 * 1024)
        .max_queue_size(64 * 1024, QueuePolicy::DropOldest);
    let prepare =
        |number| Prepared::new(MsgType::Text, text(number)).expect("a message").deflate(12);
    let prepared: Vec<_> = (0..50).map(prepare).collect();
    let server = server.start(move |_| {
        let prepared = prepared.clone();
        Upgrade::accept(on_frame(move |transport, _| {
            for number in 0..40_000 {
                transport.send_prepared(&prepared[number % prepared.len()]);
            }
            transport.send(MsgType::Text, "the end");
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut peer = Peer::new(&server);
    peer.client.send_text("go");
    eventually(&server, "some are dropped", |stats| stats.frames_dropped > 0);
    let mut received = 0;
    loop {
        let (is_compressed, message) = peer.receive();
        if message == b"the end" {
            break;
        }
        let number = String::from_utf8_lossy(&message[..6]).parse().expect("a number");
        assert!(is_compressed && message == text(number).as_bytes());
        received += 1;
    }
    assert!(received > 10, "{received}");
    let stats = server.stats();
    assert_eq!(stats.bytes_before_compression, 0, "none by its connection: {stats:?}");
}

#[test]
fn history_is_held_memory_and_counted() {
    let server = echo_server(Deflate::new());
    let mut peers: Vec<_> = (0..20).map(|_| Peer::new(&server)).collect();
    for peer in &mut peers {
        for number in 0..40 {
            peer.send(FrameHead::new(MsgType::Text), quote(number).as_bytes());
            assert_eq!(peer.receive().1, quote(number).as_bytes());
        }
    }
    // A window of 4 KiB both ways for each.
    eventually(&server, "it is counted", |stats| stats.history_bytes == 20 * 2 * 4096);
    peers.truncate(5);
    eventually(&server, "it is given back", |stats| stats.history_bytes == 5 * 2 * 4096);
    drop(peers);
    eventually(&server, "all of it is", |stats| stats.history_bytes == 0);
}

/// Many peers send messages of megabytes in some kilobytes, in fragments without end and whole.
#[test]
fn bombs_of_many_connections_stay_within_the_memory_limit() {
    const LIMIT: usize = 8 << 20;
    let server = workers(1)
        .deflate(Deflate::new())
        .max_frame_size(1 << 20)
        .memory_limit(Some(LIMIT))
        .start(|request: &UpgradeRequest| match request.path() {
            "/echo" => Upgrade::accept(EchoListener),
            _ => Upgrade::accept(Messages::new(Ignore).max_message_size(64 << 20)),
        })
        .expect("a server");
    let mut neighbour = Client::upgrade_at(address(&server), "/echo");
    let mut peers: Vec<_> = (0..60).map(|_| Peer::new(&server)).collect();
    let zeros = vec![0; 1 << 20];
    let mut ended = 0;
    for round in 0..3 {
        let msg_type = if round == 0 { MsgType::Binary } else { MsgType::Continuation };
        let head = FrameHead::new(msg_type).with_fin(false);
        peers.retain_mut(|peer| {
            let Peer { client, compression, deflaters, .. } = peer;
            let data = compression.compress(deflaters, head, &zeros).expect("memory");
            let Compressed::Frame(head, data) = data else { panic!("it shrinks") };
            assert!(data.len() < 5000, "{} bytes", data.len());
            let is_there = client.try_write(&masked(head, data)).is_ok();
            ended += usize::from(!is_there);
            is_there
        });
        neighbour.echo(b"served meanwhile");
        let stats = server.stats();
        let held =
            stats.queue_bytes + stats.stash_bytes + stats.message_bytes + stats.history_bytes;
        // Between two looks at the limit, two frames at the most are expanded behind it: those that were
        // deferred have a share of their own. Each may double the buffer of its message, of 2 MiB.
        assert!(held as usize <= LIMIT + (4 << 20), "{held} bytes: {stats:?}");
    }
    eventually(&server, "some are ended", |stats| stats.memory_evictions > 0);
    // A whole one beyond the limit of a frame.
    let mut peer = Peer::new(&server);
    peer.send(FrameHead::new(MsgType::Binary), &vec![0; (1 << 20) + 1]);
    expect_code(&mut peer.client, CloseCode::MESSAGE_TOO_BIG);
    neighbour.echo(b"and afterwards");
    drop((peers, ended));
}

struct Ignore;

impl MessageListener for Ignore {
    fn on_message(&mut self, _: &Transport, _: Message<'_>) -> ListenerResult {
        Ok(())
    }
}

#[test]
fn publications_are_compressed_once_and_go_to_each_as_it_agreed() {
    use picows_uring::topics::{Hub, Post, SubscribeOptions};
    let hub = Hub::builder().deflate(12).build().expect("valid settings");
    let topics = hub.clone();
    let server = workers(1).deflate(Deflate::new()).start(move |_| {
        let hub = topics.clone();
        Upgrade::accept(on_frame(move |transport, _| {
            hub.subscribe(transport, "t", SubscribeOptions::new())?.keep();
            transport.send_text("in");
            Ok(())
        }))
    });
    let server = server.expect("a server");
    let mut peers: Vec<_> = (0..2).map(|_| Peer::new(&server)).collect();
    let mut plain = Client::upgrade(address(&server));
    for peer in &mut peers {
        peer.send(FrameHead::new(MsgType::Text), b"subscribe");
        assert_eq!(peer.receive().1, b"in");
    }
    plain.send_text("subscribe");
    plain.expect_text("in");
    for number in 0..40 {
        hub.publish("t", Post::text(quote(number))).expect("it is published");
    }
    for number in 0..40 {
        for peer in &mut peers {
            let (is_compressed, text) = peer.receive();
            assert_eq!(String::from_utf8_lossy(&text), quote(number));
            // One that is short does not shrink.
            assert!(is_compressed || text.len() < 100, "{number}: {} bytes", text.len());
        }
        plain.expect_text(&quote(number));
    }
    let stats = server.stats();
    let compressed_here = stats.bytes_before_compression;
    assert!(compressed_here < 1000, "by the hub, not for each connection: {stats:?}");
}
