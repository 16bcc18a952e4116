//! Takeover of listening sockets by another process, which is another server of this one here.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod common;

use common::{
    Client, PATIENCE, SocketFolder, address, eventually, is_over_tls, patiently, upgrade_request,
    workers,
};
use picows_uring::{
    CloseCode, Driver, EchoListener, Error, ListenAddress, Server, ServerBuilder, ServerHandle,
    Upgrade, probe,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind,
    connect, listen, recv, send, socket_with,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// A folder with the path of the takeover.
fn folder(test: &str) -> (SocketFolder, PathBuf) {
    let folder = SocketFolder::new(test);
    let path = folder.socket().with_file_name("takeover");
    (folder, path)
}

fn echo(builder: ServerBuilder) -> ServerHandle {
    try_echo(builder).expect("it starts")
}

fn try_echo(builder: ServerBuilder) -> Result<ServerHandle, Error> {
    builder.start(|_| Upgrade::accept(EchoListener))
}

/// Ends, with nothing left open.
fn expect_end(server: ServerHandle) {
    let stats = server.join().expect("no worker failed");
    assert_eq!((stats.connections, stats.refused), (0, 0));
}

fn expect_going_away(mut client: Client) {
    client.expect_close(CloseCode::GOING_AWAY, "server is shutting down");
    client.send_close(1001, "");
    client.expect_gone();
}

/// The fault of a takeover that fails.
#[track_caller]
fn fault(outcome: Result<ServerHandle, Error>) -> String {
    match outcome {
        Err(Error::Takeover { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// A process by hand.
fn by_hand(path: &Path) -> OwnedFd {
    let socket = unconnected();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

fn unconnected() -> OwnedFd {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap()
}

fn say(socket: &OwnedFd, text: &str) {
    send(socket, text.as_bytes(), SendFlags::NOSIGNAL).unwrap();
}

/// Its next message; empty at the end.
fn hear(socket: &OwnedFd) -> String {
    let mut bytes = [0; 1000];
    let (count, _) = recv(socket, &mut bytes[..], RecvFlags::empty()).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

/// Hears all that is offered.
fn hear_offer(socket: &OwnedFd) {
    while !hear(socket).ends_with(" end") {}
}

#[test]
fn the_next_server_accepts_and_this_one_drains() {
    let (_folder, path) = folder("next");
    let start = |count| echo(workers(count).takeover(&path));
    let mut server = start(1);
    let address = address(&server);
    assert_eq!((server.predecessor(), server.monitor().successor()), (None, None));
    // More workers than sockets, fewer, and as many.
    for count in [3, 1, 2, 2] {
        let mut open = Client::upgrade(address);
        let next = start(count);
        assert_eq!(next.addresses(), server.addresses());
        assert_eq!(next.predecessor(), Some(std::process::id()));
        let monitor = server.monitor();
        assert_eq!(monitor.successor(), Some(std::process::id()));
        assert!(monitor.not_ready().is_some());
        // Served until its CLOSE, and that was queued when the next one began.
        let _ = open.try_send(picows_uring::MsgType::Binary, b"x");
        while open.receive().head.msg_type != picows_uring::MsgType::Close {}
        let mut clients: Vec<_> = (0..20).map(|_| Client::upgrade(address)).collect();
        clients.iter_mut().for_each(|client| client.echo(b"the next"));
        drop((open, clients));
        eventually(&next, "they left", |stats| stats.upgraded == 20 && stats.connections == 0);
        expect_end(std::mem::replace(&mut server, next));
    }
    server.stop().expect("it stops");
    assert!(!path.exists(), "there is no next one to find it");
}

#[test]
fn no_client_is_refused_or_reset_while_servers_follow_each_other() {
    const TAKEOVERS: usize = 5;
    let (folder, path) = folder("follow");
    let unix = folder.socket();
    let start = || {
        let builder = workers(2).takeover(&path).listen(format!("unix:{}", unix.display()));
        echo(builder.drain_timeout(Duration::from_secs(20)))
    };
    let mut server = start();
    let address = address(&server);
    let is_over = AtomicBool::new(false);
    let tried = AtomicUsize::new(0);
    let is_upgraded = |mut client: Client| {
        let is_upgraded = client.ask("/", "").status == 101;
        tried.fetch_add(1, Ordering::Relaxed);
        is_upgraded
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (is_over, is_upgraded, unix) = (&is_over, &is_upgraded, &unix);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let client = match number {
                            0 if !is_over_tls() => Client::connect_unix(unix),
                            _ => Client::connect(address),
                        };
                        assert!(is_upgraded(client));
                    }
                })
            })
            .collect();
        let is_failed = || clients.iter().any(thread::ScopedJoinHandle::is_finished);
        for _ in 0..TAKEOVERS {
            let mut open: Vec<_> = (0..20).map(|_| Client::upgrade(address)).collect();
            open.iter_mut().for_each(|client| client.echo(b"before"));
            let next = start();
            open.into_iter().for_each(expect_going_away);
            let before = tried.load(Ordering::Relaxed);
            patiently("clients come", || {
                (is_failed() || tried.load(Ordering::Relaxed) > before + 20).then_some(())
            });
            expect_end(std::mem::replace(&mut server, next));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(unix.exists());
    server.stop().expect("it stops");
    assert!(!unix.exists() && !path.exists(), "the last one removes them");
}

#[test]
fn a_handshake_that_was_accepted_is_finished() {
    let (_folder, path) = folder("handshake");
    let start = || echo(workers(1).takeover(&path).handshake_timeout(None).drain_timeout(PATIENCE));
    let server = start();
    let (request, address) = (upgrade_request("/", ""), address(&server));
    let mut client = Client::connect(address);
    client.write(&request.as_bytes()[..60]);
    eventually(&server, "it is accepted", |stats| stats.accepted == 1);
    let next = start();
    client.write(&request.as_bytes()[60..]);
    assert_eq!(client.response().status, 101);
    expect_going_away(client);
    expect_end(server);
    next.stop().expect("it stops");
}

#[test]
fn a_server_that_fails_at_start_leaves_the_other_as_it_is() {
    let (_folder, path) = folder("fails");
    let start = || workers(2).takeover(&path);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let server = echo(start());
    let address = address(&server);
    let mut open = Client::upgrade(address);
    let text = taken.local_addr().expect("it is bound").to_string();
    let error = try_echo(start().listen(text)).expect_err("the address is in use");
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    let error = try_echo(start().workers(0)).expect_err("no workers");
    assert!(matches!(error, Error::Config { .. }), "{error}");
    // One that dies when it has the sockets.
    let dies = by_hand(&path);
    say(&dies, "picows-takeover 1 77 ask");
    hear_offer(&dies);
    drop(dies);
    // One that hangs, until another comes.
    let hangs = by_hand(&path);
    say(&hangs, "picows-takeover 1 78 ask");
    hear_offer(&hangs);
    open.echo(b"as before");
    Client::upgrade(address).echo(b"as before");
    assert!(server.monitor().successor().is_none());
    let next = echo(start());
    assert!(hear(&hangs).ends_with("refused another process that takes over has started since"));
    expect_going_away(open);
    expect_end(server);
    Client::upgrade(address).echo(b"the next");
    next.stop().expect("it stops");
}

#[test]
fn addresses_that_are_not_taken_are_closed_when_their_clients_are_accepted() {
    let (folder, path) = folder("closed");
    let unix = format!("unix:{}", folder.socket().display());
    let builder = workers(2).takeover(&path).listen("127.0.0.1:0").listen(&unix);
    let server = echo(builder.drain_timeout(PATIENCE));
    let [ListenAddress::Tcp(kept) | ListenAddress::Tls(kept), gone, _] = server.addresses() else {
        panic!("{:?}", server.addresses());
    };
    let (kept, gone) = (*kept, gone.to_string());
    let gone: SocketAddr = gone.split_once("://").unwrap().1.parse().unwrap();
    let clients: Vec<_> = (0..50).map(|_| Client::connect(gone)).collect();
    let next = echo(Server::builder().listen(kept.to_string()).takeover(&path).workers(2));
    for mut client in clients {
        assert_eq!(client.ask("/", "").status, 101);
    }
    expect_end(server);
    assert_eq!(next.local_addr(), Some(kept));
    assert!(TcpStream::connect(gone).is_err(), "it is closed");
    assert!(!folder.socket().exists());
    next.stop().expect("it stops");
}

#[test]
fn addresses_change_while_a_server_runs() {
    let (_folder, path) = folder("change");
    let mut server = echo(workers(2).takeover(&path));
    let added = server.listen("127.0.0.1:0").expect("a port is free").remove(0);
    let first = server.addresses()[0].clone();
    server.close_listener(&first).expect("it is listened on");
    let (ListenAddress::Tcp(address), ListenAddress::Tcp(first)) = (added, first) else { return };
    // What is offered to the next server keeps no socket open.
    let is_closed = || {
        let refused = TcpStream::connect_timeout(&first, Duration::from_secs(1)).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    };
    patiently("it is closed", is_closed);
    let builder = Server::builder().listen(address.to_string()).takeover(&path);
    let next = echo(builder.workers(1));
    expect_end(server);
    Client::over(TcpStream::connect(address).expect("it accepts")).upgraded().echo(b"added");
    next.stop().expect("it stops");
}

#[test]
fn inherited_sockets_go_along_in_place_of_the_default_and_beside_others() {
    if is_over_tls() {
        return;
    }
    let (folder, path) = folder("inherited");
    let unix = folder.socket();
    // What a parent keeps open.
    let (tcp, local) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&unix).unwrap());
    let address = tcp.local_addr().unwrap();
    let copy = || tcp.try_clone().unwrap();
    let start = |builder: ServerBuilder| echo(builder.workers(2).takeover(&path));
    let both = Server::builder().listen_socket(copy()).listen_socket(local.try_clone().unwrap());
    let mut server = start(both);
    let addresses = server.addresses().to_vec();
    assert_eq!(addresses.len(), 2);
    let named = format!("unix:{}", unix.display());
    for (builder, count) in [
        (Server::builder(), 2),
        (Server::builder().without_address(), 2),
        // Its own copy, its own settings, and a further address.
        (Server::builder().listen_socket(copy()), 2),
        (Server::builder().listen(&named), 2),
        (Server::builder().listen("127.0.0.1:0"), 3),
        (Server::builder().listen("127.0.0.1:0").listen(address.to_string()), 3),
    ] {
        let next = start(builder);
        assert_eq!(next.addresses().len(), count, "{:?}", next.addresses());
        assert!(addresses.iter().all(|it| next.addresses().contains(it)), "{:?}", next.addresses());
        expect_end(std::mem::replace(&mut server, next));
        assert!(unix.exists(), "it is the parent's");
        Client::upgrade(address).echo(b"by TCP");
        assert_eq!(Client::connect_unix(&unix).ask("/", "").status, 101);
    }
    server.stop().expect("it stops");
    assert!(unix.exists(), "it is the parent's");
}

#[test]
fn the_admin_address_goes_along() {
    let (_folder, path) = folder("admin");
    let start = || echo(workers(1).takeover(&path).admin("127.0.0.1:0"));
    let server = start();
    let address = server.admin_address().cloned();
    assert!(readiness(&server).starts_with("HTTP/1.1 200 "));
    let next = start();
    expect_end(server);
    assert_eq!(next.admin_address().cloned(), address);
    assert!(readiness(&next).starts_with("HTTP/1.1 200 "));
    next.stop().expect("it stops");
}

/// The answer of the admin address to `/readyz`.
fn readiness(server: &ServerHandle) -> String {
    let Some(ListenAddress::Tcp(address)) = server.admin_address() else { panic!("none") };
    let mut stream = TcpStream::connect(*address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_admin_address_is_not_shared_while_the_next_server_starts() {
    let (_folder, path) = folder("admin-start");
    let builder = || workers(1).takeover(&path).admin("127.0.0.1:0");
    let server = echo(builder());
    let (starts, started) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let goes = Mutex::new(goes);
    let builder = builder();
    let next = thread::spawn(move || {
        builder.start_local(move |_| {
            starts.send(()).unwrap();
            // Until the test drops the other end.
            let _ = goes.lock().unwrap().recv();
            |_: &_| Upgrade::accept(EchoListener)
        })
    });
    started.recv_timeout(PATIENCE).expect("it makes its worker");
    for _ in 0..50 {
        let text = readiness(&server);
        assert!(text.starts_with("HTTP/1.1 200 "), "the next one is not ready: {text}");
    }
    drop(go);
    let next = next.join().unwrap().expect("it starts");
    expect_end(server);
    next.stop().expect("it stops");
}

#[test]
fn a_server_on_one_driver_takes_over_from_one_on_the_other() {
    if probe(Driver::IoUring).is_err() {
        return;
    }
    let (_folder, path) = folder("drivers");
    let start = |driver| echo(workers(2).takeover(&path).driver(driver));
    let mut server = start(Driver::IoUring);
    let address = address(&server);
    for driver in [Driver::Epoll, Driver::IoUring, Driver::Epoll, Driver::IoUring] {
        let next = start(driver);
        for _ in 0..20 {
            Client::upgrade(address).echo(b"x");
        }
        expect_end(std::mem::replace(&mut server, next));
    }
    server.stop().expect("it stops");
}

#[test]
fn what_is_left_at_the_path_is_replaced_only_if_it_is_dead() {
    let (folder, path) = folder("left");
    // A socket without a process.
    let dead = unconnected();
    bind(&dead, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    drop(dead);
    echo(workers(1).takeover(&path)).stop().expect("it stops");
    // Another program's socket, of another kind.
    let other = UnixListener::bind(&path).unwrap();
    let text = fault(try_echo(workers(1).takeover(&path)));
    assert!(text.contains("another program"), "{text}");
    drop(other);
    std::fs::write(folder.socket(), "a file").unwrap();
    let text = fault(try_echo(workers(1).takeover(folder.socket())));
    assert!(text.contains("a file that is no socket"), "{text}");
    let text = fault(try_echo(workers(1).takeover(path.join("missing").join("t"))));
    assert!(text.contains("Not a directory") || text.contains("make it first"), "{text}");
}

#[test]
fn other_programs_and_versions_are_refused() {
    let (_folder, path) = folder("versions");
    for (answer, reason) in [
        ("picows-takeover 2 5 end", "version 2"),
        ("hello", "another program"),
        ("picows-takeover 1 5 end", "no sense"),
        ("picows-takeover 1 5 refused it is stopping: start again", "start again"),
        ("", "ended meanwhile"),
    ] {
        let other = unconnected();
        bind(&other, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&other, 1).unwrap();
        let answering = thread::spawn(move || {
            let asker = accept(&other).unwrap();
            assert_eq!(hear(&asker), format!("picows-takeover 1 {} ask", std::process::id()));
            if !answer.is_empty() {
                say(&asker, answer);
            }
        });
        let text = fault(try_echo(workers(1).takeover(&path)));
        assert!(text.contains(reason), "{text}");
        answering.join().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    let server = echo(workers(1).takeover(&path));
    for (ask, reason) in [
        ("picows-takeover 2 5 ask", "version 2"),
        ("GET / HTTP/1.1", "another program"),
        ("picows-takeover 1 5 taken", "no sense"),
    ] {
        let asker = by_hand(&path);
        say(&asker, ask);
        let answer = hear(&asker);
        assert!(answer.contains(" refused ") && answer.contains(reason), "{answer}");
        assert_eq!(hear(&asker), "");
    }
    Client::upgrade(address(&server)).echo(b"as before");
    server.stop().expect("it stops");
}

#[test]
fn a_server_that_offers_nothing_is_named() {
    let (_folder, path) = folder("nothing");
    let server = echo(workers(1));
    let builder = Server::builder().listen(address(&server).to_string()).takeover(&path);
    let text = fault(try_echo(builder.workers(1)));
    assert!(text.contains("no process answers there") && text.contains("is in use"), "{text}");
    assert!(!path.exists());
    server.stop().expect("it stops");
}

#[test]
fn a_server_that_stops_refuses() {
    let (_folder, path) = folder("stops");
    let server = echo(workers(1).takeover(&path));
    let asker = by_hand(&path);
    say(&asker, "picows-takeover 1 5 ask");
    hear_offer(&asker);
    server.stop().expect("it stops");
    assert!(hear(&asker).ends_with("refused it is stopping: start again"));
    assert!(!path.exists());
}

/// Asks again and again, and reads nothing, until the server has stopped to take the questions.
fn unread(path: &Path) -> OwnedFd {
    let asker = by_hand(path);
    let text = b"picows-takeover 1 5 ask";
    while send(&asker, text, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok() {}
    asker
}

#[test]
fn a_process_that_does_not_read_keeps_no_other_from_taking_over_and_no_server_from_stopping() {
    let (_folder, path) = folder("unread");
    let start = || echo(workers(1).takeover(&path));
    let server = start();
    let _first = unread(&path);
    let next = start();
    expect_end(server);
    let _second = unread(&path);
    next.stop().expect("it stops");
    assert!(!path.exists());
}

#[test]
fn the_path_is_for_processes_of_this_user() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder("mode");
    let server = echo(workers(1).takeover(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(UnixStream::connect(&path).is_err(), "it is no stream");
    server.stop().expect("it stops");
}
