//! Echoes: sizes, kinds of address, and many connections at a time.

mod common;

use common::{Client, Got, SocketFolder, address, eventually, masked, noise, on_frame, workers};
use picows_uring::{
    EchoListener, FrameHead, ListenAddress, MsgType, Server, ServerBuilder, ServerHandle, Upgrade,
};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

fn echo(builder: ServerBuilder) -> ServerHandle {
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

#[test]
fn every_size_comes_back_whole() {
    const MIB: usize = 1 << 20;
    let server = echo(workers(1));
    let mut client = Client::upgrade(address(&server));
    // Around the lengths where the header grows (RFC 6455 §5.2), and where a pooled buffer, a
    // receive buffer and a send of one segment end.
    let around = [125, 1024, 4096, 16 * 1024, 64 * 1024, MIB];
    let sizes = around.iter().flat_map(|size| [size - 1, *size, size + 1]);
    for size in [0, 1].into_iter().chain(sizes).chain([127, 3 * MIB + 7, 8 * MIB]) {
        let payload = noise(size as u64, size);
        let bytes = masked(FrameHead::new(MsgType::Binary), &payload);
        let got = client.exchange(&bytes, 1);
        assert!(got == [Got::new(MsgType::Binary, payload)], "size {size}: got {got:?}");
    }
}

#[test]
fn frames_behind_the_request_are_not_lost() {
    let server = echo(workers(1));
    let mut client = Client::connect(address(&server));
    let mut bytes = common::upgrade_request("/", "").into_bytes();
    for text in ["one", "two"] {
        bytes.extend(masked(FrameHead::new(MsgType::Text), text.as_bytes()));
    }
    client.write(&bytes);
    assert_eq!(client.response().status, 101);
    client.expect_text("one");
    client.expect_text("two");
}

#[test]
fn a_burst_of_frames_comes_back_in_order() {
    const FRAMES: usize = 20_000;
    let server = echo(workers(1));
    let mut client = Client::upgrade(address(&server));
    let payload = |frame: usize| noise(frame as u64, frame % 300);
    let burst: Vec<u8> = (0..FRAMES)
        .flat_map(|frame| masked(FrameHead::new(MsgType::Binary), &payload(frame)))
        .collect();
    for (frame, got) in client.exchange(&burst, FRAMES).into_iter().enumerate() {
        assert_eq!(got, Got::new(MsgType::Binary, payload(frame)), "frame {frame}");
    }
    assert_eq!(server.stats().frames_received, FRAMES as u64);
}

#[test]
fn unix_socket() {
    let folder = SocketFolder::new("unix");
    let path = folder.socket();
    let (told, tells) = mpsc::channel();
    let server = Server::builder()
        .listen(format!("unix:{}", path.display()))
        .workers(2)
        .start(move |request| {
            assert_eq!(request.peer_addr(), None);
            let told = told.clone();
            Upgrade::accept(on_frame(move |transport, frame| {
                let _ = told.send((transport.peer_addr(), transport.local_addr()));
                transport.send_like(frame, frame.payload());
                Ok(())
            }))
        })
        .unwrap();
    assert_eq!(server.addresses(), [ListenAddress::Unix(path.clone())]);
    assert_eq!(server.local_addr(), None);
    for round in 0..10 {
        let mut client = Client::connect_unix(&path).upgraded();
        client.echo(&noise(round, 100_000));
        assert_eq!(common::next(&tells), (None, None), "a Unix socket has no such address");
    }
}

#[test]
fn ipv6() {
    if common::is_over_tls() {
        return;
    }
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // This machine has no IPv6.
    }
    let server = echo(Server::builder().listen("[::1]:0").workers(2));
    let address = address(&server);
    assert!(address.is_ipv6() && address.port() != 0);
    assert_eq!(server.addresses()[0].to_string(), format!("ws://[::1]:{}", address.port()));
    Client::upgrade(address).echo(b"six");
}

#[test]
fn an_inherited_socket_is_shared_by_the_workers() {
    if common::is_over_tls() {
        return;
    }
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = socket.local_addr().unwrap();
    let server = echo(Server::builder().listen_socket(socket).workers(2));
    assert_eq!(server.addresses(), [ListenAddress::Tcp(wanted)]);
    for _ in 0..20 {
        Client::upgrade(wanted).echo(b"inherited");
    }
}

#[test]
fn several_addresses_at_once() {
    if common::is_over_tls() {
        return;
    }
    let folder = SocketFolder::new("several");
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = echo(
        workers(2)
            .listen("127.0.0.1:0")
            .listen(format!("unix:{}", folder.socket().display()))
            .listen_socket(inherited),
    );
    let mut ports = Vec::new();
    for address in server.addresses() {
        match address {
            ListenAddress::Tcp(address) => {
                ports.push(address.port());
                Client::upgrade(*address).echo(b"over TCP");
            }
            ListenAddress::Unix(path) => Client::connect_unix(path).upgraded().echo(b"over Unix"),
            other => panic!("an address of a new kind: {other}"),
        }
    }
    ports.dedup();
    assert_eq!((server.addresses().len(), ports.len()), (4, 3));
    assert_eq!(server.stop().unwrap().upgraded, 4);
}

#[test]
fn addresses_and_request_are_known() {
    if common::is_over_tls() {
        return;
    }
    let (told, tells) = mpsc::channel();
    let server = workers(1)
        .start(move |_| {
            let told = told.clone();
            Upgrade::accept(on_frame(move |transport, _| {
                let request = transport.request().expect("it is kept by default");
                assert!(!transport.is_client_side() && !transport.is_secure());
                let target = request.target().to_owned();
                let _ = told.send((transport.peer_addr(), transport.local_addr(), target));
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade_at(address(&server), "/room?name=a%20b");
    client.send_text("who am I?");
    let (peer, local, target) = common::next(&tells);
    assert_eq!((peer, local), (Some(client.local_addr()), server.local_addr()));
    assert_eq!(target, "/room?name=a%20b");
}

#[test]
fn a_thousand_connections_on_two_workers() {
    const THREADS: usize = 4;
    const CONNECTIONS: usize = 250;
    const ROUNDS: usize = 6;
    let server = echo(workers(2));
    let address = address(&server);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || serve_yourself(address, thread * CONNECTIONS, CONNECTIONS, ROUNDS));
        }
    });
    eventually(&server, "all have gone", |stats| stats.connections == 0);
    let shares: Vec<_> = server.worker_stats().map(|stats| stats.upgraded).collect();
    assert_eq!(shares.iter().sum::<u64>(), (THREADS * CONNECTIONS) as u64);
    assert!(shares.iter().all(|share| *share > 0), "the kernel spreads them: {shares:?}");
    let stats = server.stop().unwrap();
    assert_eq!(stats.frames_received, (THREADS * CONNECTIONS * ROUNDS) as u64);
    assert_eq!(stats.frames_sent, stats.frames_received);
    assert_eq!((stats.protocol_errors, stats.listener_errors), (0, 0));
}

/// Opens connections, and checks what comes back on each of them in each round: all are sent to
/// before one is received from.
fn serve_yourself(address: SocketAddr, first: usize, connections: usize, rounds: usize) {
    const SIZES: [usize; 6] = [0, 7, 125, 126, 3_000, 30_000];
    let mut clients: Vec<_> = (0..connections).map(|_| Client::upgrade(address)).collect();
    let payload = |client: usize, round: usize| {
        noise((client * rounds + round) as u64, SIZES[(client + round) % SIZES.len()])
    };
    for round in 0..rounds {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(MsgType::Binary, payload(first + index, round));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let (got, wanted) = (client.receive(), payload(first + index, round));
            let client = first + index;
            assert!(got == Got::new(MsgType::Binary, wanted), "client {client}, round {round}");
        }
    }
}

#[test]
fn port_0_gives_all_workers_one_port() {
    let server = echo(workers(4));
    let address = address(&server);
    assert_ne!(address.port(), 0);
    assert_eq!(server.addresses().len(), 1);
    // The kernel spreads connections by a hash: with this many, no worker is left out.
    let mut clients: Vec<_> = (0..200).map(|_| Client::upgrade(address)).collect();
    clients.iter_mut().for_each(|client| client.echo(b"hello"));
    assert!(server.worker_stats().all(|stats| stats.connections > 0));
}
