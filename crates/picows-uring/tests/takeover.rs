//! Taking over from a server that stops: connected clients are answered, on every kind of socket.

mod common;

use common::{Client, PATIENCE, SocketFolder, address, upgrade_request, workers};
use picows_uring::{EchoListener, Error, Server, ServerBuilder, ServerHandle, Upgrade};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// More than a worker accepts in one turn of a slow machine.
const CLIENTS: usize = 200;

fn echo(builder: ServerBuilder) -> ServerHandle {
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

/// Connects clients while `server` runs, has it stop, and lets each send the rest of its request: all
/// get an answer, be it from this server or from `next`.
fn expect_answers(
    server: ServerHandle,
    next: Option<ServerHandle>,
    mut connect: impl FnMut() -> Client,
) {
    let request = upgrade_request("/", "");
    let (front, back) = request.as_bytes().split_at(60);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect()).collect();
    for client in clients.iter_mut().step_by(2) {
        client.write(front);
    }
    let stopping = thread::spawn(move || server.stop());
    for (index, client) in clients.iter_mut().enumerate() {
        // It may have been told already that it is too late, and is read all the same.
        let _ = client.try_write(if index % 2 == 0 { back } else { request.as_bytes() });
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let status = client.response().status;
        assert!([101, 503].contains(&status), "client {index}: {status}");
    }
    drop(clients);
    let stats = stopping.join().expect("no panic").expect("it stops");
    assert_eq!((stats.connections, stats.slots), (0, 0));
    if let Some(next) = next {
        next.stop().expect("it stops");
    }
}

#[test]
fn on_a_port_of_its_own() {
    let server = echo(workers(2));
    let address = address(&server);
    expect_answers(server, None, || Client::connect(address));
}

#[test]
fn on_a_shared_port() {
    let server = echo(workers(2).share_port(true));
    let address = address(&server);
    let next = echo(Server::builder().listen(address.to_string()).workers(2).share_port(true));
    expect_answers(server, Some(next), || Client::connect(address));
}

#[test]
fn on_an_inherited_socket() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let start = || {
        let copy = socket.try_clone().unwrap();
        echo(Server::builder().listen_socket(copy).workers(1))
    };
    expect_answers(start(), Some(start()), || Client::connect(address));
}

#[test]
fn on_a_unix_socket() {
    let folder = SocketFolder::new("takeover");
    let path = folder.socket();
    let server = echo(Server::builder().listen(format!("unix:{}", path.display())).workers(2));
    expect_answers(server, None, || Client::connect_unix(&path));
}

/// Clients that connect all the time, while one server after the other takes the port over: some come
/// when a socket is about to be closed, and none is reset.
#[test]
fn on_a_shared_port_while_clients_connect() {
    const TAKEOVERS: usize = 3;
    let start = |at: &str| echo(Server::builder().listen(at).workers(1).share_port(true));
    let mut server = start("127.0.0.1:0");
    let address = address(&server);
    let is_over = AtomicBool::new(false);
    let (tried, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // One that is late gets 503: it is answered.
                    let is_answered = TcpStream::connect(address).is_ok_and(|mut stream| {
                        stream.set_read_timeout(Some(PATIENCE)).unwrap();
                        let _ = stream.write_all(upgrade_request("/", "").as_bytes());
                        let mut start = [0; 9];
                        stream.read_exact(&mut start).is_ok() && start == *b"HTTP/1.1 "
                    });
                    tried.fetch_add(1, Ordering::Relaxed);
                    lost.fetch_add(usize::from(!is_answered), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..TAKEOVERS {
            let before = tried.load(Ordering::Relaxed);
            let next = start(&address.to_string());
            while tried.load(Ordering::Relaxed) < before + 50 {
                thread::yield_now();
            }
            std::mem::replace(&mut server, next).stop().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (tried, lost) = (tried.into_inner(), lost.into_inner());
    assert_eq!(lost, 0, "of {tried} clients in {TAKEOVERS} takeovers");
}

/// The server that is taken over from serves on when the next refuses its address.
#[test]
fn an_address_that_the_next_refuses_stays_with_the_first() {
    let folder = SocketFolder::new("takeover-refused");
    let path = folder.socket();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let first = echo(Server::builder().listen_socket(socket).workers(1).takeover(&path));
    let next = || Server::builder().workers(1).takeover(&path);
    for check in [(|_| Err("not here".to_owned())) as fn(&_) -> _, |_| panic!("not here")] {
        let refused = next().check_address(check).start(|_| Upgrade::accept(EchoListener));
        let Err(Error::Address { address: at, fault }) = refused else { panic!("{refused:?}") };
        assert_eq!(at, format!("ws://{address}"));
        assert!(fault.contains("not here"), "{fault}");
    }
    assert_eq!(first.monitor().successor(), None);
    let mut client = Client::connect(address);
    client.write(upgrade_request("/", "").as_bytes());
    assert_eq!(client.response().status, 101);
    drop(client);
    let second = echo(next().check_address(|_| Ok(())));
    first.join().expect("it was taken over from");
    assert_eq!(second.local_addr(), Some(address));
    second.stop().expect("it stops");
}
