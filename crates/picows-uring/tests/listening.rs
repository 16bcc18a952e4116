//! Several listening sockets of one server: closing one, which leaves its connections.

mod common;

use common::{Client, SocketFolder, own_loopback, patiently, upgrade_request, workers};
use picows_uring::{
    CloseCode, EchoListener, Error, ListenAddress, ServerBuilder, ServerHandle, Upgrade,
};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

fn echo(builder: ServerBuilder) -> ServerHandle {
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

fn tcp(address: &ListenAddress) -> SocketAddr {
    match address {
        ListenAddress::Tcp(address) => *address,
        other => panic!("{other}"),
    }
}

/// Waits until no worker listens on `address`: each closes its socket by itself, and until the last
/// has, a connection to it may be refused, served or reset.
fn expect_closed(address: SocketAddr) {
    patiently("nothing listens there", || match TcpStream::connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(()),
        _ => None,
    });
}

#[test]
fn connections_and_handshakes_of_a_closed_socket_go_on() {
    let mut server = echo(own_loopback(40).listen("127.0.0.1:0").workers(2));
    let [first, second] = [0, 1].map(|index| server.addresses()[index].clone());
    let mut open: Vec<_> = (0..10).map(|_| Client::connect(tcp(&first)).upgraded()).collect();
    let request = upgrade_request("/", "");
    let (front, back) = request.as_bytes().split_at(60);
    let mut handshakes: Vec<_> = (0..10).map(|_| Client::connect(tcp(&first))).collect();
    handshakes.iter_mut().for_each(|client| client.write(front));
    server.close_listener(&first).expect("it is listened on");
    assert_eq!(server.addresses(), std::slice::from_ref(&second));
    expect_closed(tcp(&first));
    for client in &mut handshakes {
        client.write(back);
        assert_eq!(client.response().status, 101);
    }
    open.iter_mut().chain(&mut handshakes).for_each(|client| client.echo(b"still here"));
    Client::connect(tcp(&second)).upgraded().echo(b"and here");
    let error = server.close_listener(&first).expect_err("it is closed");
    assert!(matches!(error, Error::Address { .. }), "{error:?}");
    assert!(error.to_string().contains(&second.to_string()), "{error}");
    drop((open, handshakes));
    server.stop().expect("it stops");
}

#[test]
fn servers_of_clones_accept_from_the_socket_that_they_share() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = socket.local_addr().expect("it is bound");
    let builder = picows_uring::Server::builder().listen_socket(socket).workers(1);
    let (first, second) = (echo(builder.clone()), echo(builder));
    assert_eq!([first.local_addr(), second.local_addr()], [Some(address); 2]);
    first.stop().expect("no worker has failed");
    Client::over(TcpStream::connect(address).expect("it accepts")).upgraded().echo(b"the second");
    second.stop().expect("no worker has failed");
}

#[test]
fn a_server_goes_on_without_an_address() {
    let mut server = echo(own_loopback(41).workers(1));
    let address = server.addresses()[0].clone();
    let mut client = Client::connect(tcp(&address)).upgraded();
    server.close_listener(&address).expect("it is listened on");
    expect_closed(tcp(&address));
    // The port is free.
    drop(TcpListener::bind(tcp(&address)).expect("it is free"));
    client.echo(b"still here");
    let error = server.close_listener(&address).expect_err("it is closed");
    assert!(error.to_string().contains("nothing any more"), "{error}");
    let stopped = std::thread::spawn(move || server.stop());
    client.expect_close(CloseCode::GOING_AWAY, "server is shutting down");
    drop(client);
    stopped.join().expect("no panic").expect("it stops");
}

#[test]
fn the_path_of_a_unix_socket_goes_at_once() {
    let folder = SocketFolder::new("listening");
    let path = folder.socket();
    let mut server = echo(workers(2).listen(format!("unix:{}", path.display())));
    let mut open = Client::connect_unix(&path).upgraded();
    let address = server.addresses()[1].clone();
    assert_eq!(address, ListenAddress::Unix(path.clone()));
    server.close_listener(&address).expect("it is listened on");
    assert!(!path.exists());
    let error = UnixStream::connect(&path).expect_err("there is no path");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    open.echo(b"still here");
    drop(open);
    server.stop().expect("it stops");
}

#[test]
fn clients_that_had_connected_are_answered() {
    // Of a shared socket, whose backlog goes with the last copy of it.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut server = echo(picows_uring::Server::builder().listen_socket(socket).workers(2));
    let request = upgrade_request("/", "");
    let mut clients: Vec<_> = (0..200).map(|_| Client::connect(address)).collect();
    let listening = server.addresses()[0].clone();
    server.close_listener(&listening).expect("it is listened on");
    for client in &mut clients {
        client.write(request.as_bytes());
    }
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().status, 101, "client {index}");
    }
    drop(clients);
    server.stop().expect("it stops");
}
