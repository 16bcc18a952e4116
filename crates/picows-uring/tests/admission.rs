//! Admission: limits of connections, of connections of one address, and of handshakes.

mod common;

use common::{Client, Response, SocketFolder, address, eventually, patiently, workers};
use picows_uring::{EchoListener, Server, ServerBuilder, ServerHandle, Upgrade};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn echo(builder: ServerBuilder) -> ServerHandle {
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

/// A client that comes from another address of the loopback.
fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Client {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((source, 0))).expect("all of 127/8 is ours");
    connect(&socket, &address).expect("the server accepts");
    Client::over(TcpStream::from(socket))
}

#[track_caller]
fn expect_refused(mut client: Client, text: &str) {
    let response: Response = client.ask("/", "");
    assert_eq!((response.status, &*response.body), (503, text));
    assert_eq!(response.header("Connection"), Some("close"));
    assert_eq!(response.header("Retry-After"), None);
    client.expect_eof();
}

const OF_ADDRESS: &str = "too many connections from your address\n";

#[test]
fn each_address_has_its_share_of_all_workers_together() {
    let (one, other) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    let server = echo(workers(2).max_per_address(3));
    let address = address(&server);
    let upgrade = |source| connect_from(source, address).upgraded();
    let mut inside: Vec<_> = (0..3).map(|_| upgrade(one)).collect();
    for refused in 1..=10 {
        expect_refused(connect_from(one, address), OF_ADDRESS);
        let stats = server.stats();
        assert_eq!((stats.refused, stats.refused_by_address), (refused, refused));
    }
    inside.extend((0..3).map(|_| upgrade(other)));
    expect_refused(connect_from(other, address), OF_ADDRESS);
    inside.iter_mut().for_each(|client| client.echo(b"still served"));
    // A client that goes makes room for its neighbours, and for no other.
    for _ in 0..5 {
        drop(inside.remove(0));
        eventually(&server, "it has gone", |stats| stats.slots == 5);
        expect_refused(connect_from(other, address), OF_ADDRESS);
        eventually(&server, "the refused has gone", |stats| stats.slots == 5);
        inside.insert(2, upgrade(one));
    }
    inside.iter_mut().for_each(|client| client.echo(b"served"));
}

#[test]
fn an_ipv4_address_is_the_same_on_an_ipv6_socket() {
    let both = TcpListener::bind("[::]:0").unwrap();
    let port = both.local_addr().unwrap().port();
    let builder = Server::builder().listen("127.0.0.1:0").listen_socket(both).workers(1);
    let server = echo(builder.max_per_address(1));
    let mut mapped = Client::connect((Ipv4Addr::LOCALHOST, port).into()).upgraded();
    expect_refused(Client::connect(address(&server)), OF_ADDRESS);
    let mut six = Client::connect(SocketAddr::new("::1".parse().unwrap(), port)).upgraded();
    mapped.echo(b"one of each");
    six.echo(b"one of each");
}

#[test]
fn unix_sockets_have_no_address() {
    let folder = SocketFolder::new("admission");
    let path = folder.socket();
    let builder = Server::builder().listen(format!("unix:{}", path.display())).workers(1);
    let _server = echo(builder.max_per_address(1));
    let mut clients: Vec<_> = (0..5).map(|_| Client::connect_unix(&path).upgraded()).collect();
    clients.iter_mut().for_each(|client| client.echo(b"here"));
}

#[test]
fn handshakes_in_progress_are_limited_and_connections_are_not() {
    const LIMIT: usize = 3;
    const FULL: &str = "too many handshakes in progress\n";
    let server = echo(workers(2).max_handshakes(LIMIT).handshake_timeout(None));
    let address = address(&server);
    let mut done: Vec<_> = (0..4 * LIMIT).map(|_| Client::upgrade(address)).collect();
    let mut silent: Vec<_> = (0..LIMIT).map(|_| Client::connect(address)).collect();
    // Counted when it is clear whether there is room, unlike `connections` not only for a while:
    // with every refusal, and with every connection that is let in.
    let open = (4 * LIMIT + LIMIT) as u64;
    let accepted = |count| eventually(&server, "it is accepted", |stats| stats.accepted == count);
    accepted(open);
    expect_refused(Client::connect(address), FULL);
    // One that completes its handshake makes room, one that is answered over HTTP, and one that goes.
    let mut first = silent.remove(0).upgraded();
    first.echo(b"done");
    silent.push(Client::connect(address));
    accepted(open + 2);
    expect_refused(Client::connect(address), FULL);
    let mut second = silent.remove(0);
    second.write(b"nonsense\r\n\r\n");
    assert_eq!(second.response().status, 400);
    silent.push(Client::connect(address));
    accepted(open + 4);
    expect_refused(Client::connect(address), FULL);
    drop((second, silent.remove(0)));
    eventually(&server, "both have gone", |stats| stats.slots == open);
    done.push(Client::upgrade(address));
    done.iter_mut().for_each(|client| client.echo(b"served all the while"));
    let stats = server.stats();
    assert_eq!((stats.refused, stats.refused_by_handshakes), (3, 3));
}

#[test]
fn silent_clients_give_their_places_up_when_their_time_is_over() {
    let timeout = Duration::from_millis(100);
    let server = echo(workers(1).max_handshakes(5).handshake_timeout(timeout));
    let mut silent: Vec<_> = (0..5).map(|_| Client::connect(address(&server))).collect();
    silent.iter_mut().for_each(Client::expect_gone);
    eventually(&server, "all are gone", |stats| stats.slots == 0);
    patiently("room", || Client::try_upgrade(address(&server))).echo(b"there is room");
}

#[test]
fn a_crowd_that_is_refused_takes_a_bounded_number_of_descriptors() {
    const CROWD: usize = 300;
    let server = echo(workers(1).max_per_address(1));
    let mut first = Client::upgrade(address(&server));
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Client::connect(address(&server))).collect();
    eventually(&server, "all are refused", |stats| stats.refused == CROWD as u64);
    // They keep their connections open, and say nothing: the oldest make room.
    eventually(&server, "the oldest have made room", |stats| stats.slots <= 257);
    let told = crowd.iter_mut().filter_map(|client| (client.read_to_end() > 0).then_some(()));
    let told = told.count();
    assert!((1..=CROWD).contains(&told), "{told} were told");
    first.echo(b"served");
}
