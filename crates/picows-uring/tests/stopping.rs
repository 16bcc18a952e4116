//! Starting and stopping: what a server leaves behind, and what keeps it from starting.

mod common;

use bytes::Bytes;
use common::{
    Client, Event, PATIENCE, SocketFolder, address, eventually, on_frame, own_loopback, patiently,
    recorder, workers,
};
use picows_uring::{
    CloseCode, EchoListener, Error, FrameHead, MsgType, Server, ServerBuilder, ServerHandle,
    Upgrade,
};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

fn echo(builder: ServerBuilder) -> ServerHandle {
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

const REASON: &str = "server is shutting down";

#[test]
fn stop_closes_every_connection_with_1001() {
    const CLIENTS: usize = 100;
    let server = echo(own_loopback(1).workers(2).drain_timeout(PATIENCE));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::upgrade(address(&server))).collect();
    clients.iter_mut().for_each(|client| client.echo(b"before"));
    let mut half = Client::connect(address(&server));
    half.write(b"GET / HTTP/1.1\r\n");
    eventually(&server, "the last is accepted", |stats| stats.connections == CLIENTS as u64 + 1);
    let address = address(&server);
    let stopping = thread::spawn(move || server.stop());
    for client in &mut clients {
        client.expect_close(CloseCode::GOING_AWAY, REASON);
    }
    assert_eq!(half.response().status, 503);
    half.expect_eof();
    for mut client in clients {
        client.send_close(1001, "");
        client.expect_eof();
    }
    drop(half);
    let stats = stopping.join().unwrap().unwrap();
    assert_eq!((stats.connections, stats.slots), (0, 0));
    assert_eq!((stats.upgraded, stats.disconnected), (CLIENTS as u64, CLIENTS as u64 + 1));
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
}

#[test]
fn goodbyes_are_spread_over_a_while() {
    const CLIENTS: usize = 20;
    let builder = workers(2).drain_timeout(PATIENCE).drain_spread(Duration::from_millis(400));
    let server = echo(builder);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::upgrade(address(&server))).collect();
    let start = Instant::now();
    let stopping = thread::spawn(move || server.stop());
    let mut waits: Vec<_> = thread::scope(|scope| {
        let wait = |client: &mut Client| {
            client.expect_close(CloseCode::GOING_AWAY, REASON);
            start.elapsed()
        };
        let waiting: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || wait(client))).collect();
        waiting.into_iter().map(|it| it.join().unwrap()).collect()
    });
    waits.sort();
    // However busy the machine is, no CLOSE comes too early.
    assert!(waits[CLIENTS - 1] >= Duration::from_millis(300), "{waits:?}");
    drop(clients);
    stopping.join().unwrap().unwrap();
}

#[test]
fn stop_sends_what_was_queued_first() {
    let server = echo(workers(1).drain_timeout(PATIENCE));
    let mut client = Client::upgrade(address(&server));
    client.send(MsgType::Binary, vec![b'x'; 8 << 20]);
    eventually(&server, "it is queued", |stats| stats.frames_sent == 1);
    let stopping = thread::spawn(move || server.stop());
    assert_eq!(client.receive().payload.len(), 8 << 20);
    client.expect_close(CloseCode::GOING_AWAY, REASON);
    client.send_close(1001, "");
    client.expect_eof();
    drop(client);
    stopping.join().unwrap().unwrap();
}

#[test]
fn who_does_not_answer_is_dropped_after_the_drain_timeout() {
    let drain = Duration::from_millis(200);
    // Only the time to drain ends the wait.
    let server = echo(workers(2).drain_timeout(drain).close_timeout(2 * PATIENCE));
    let mut clients: Vec<_> = (0..20).map(|_| Client::upgrade(address(&server))).collect();
    let start = Instant::now();
    let stats = server.stop().unwrap();
    let waited = start.elapsed();
    assert!(waited >= drain && waited < PATIENCE, "{waited:?}");
    assert_eq!((stats.connections, stats.disconnected), (0, 20));
    for client in &mut clients {
        client.expect_close(CloseCode::GOING_AWAY, REASON);
        client.expect_gone();
    }
}

/// Its clock stood still while it slept: the time to drain is counted from the stop all the same.
#[test]
fn a_server_that_was_idle_for_long_still_drains() {
    let drain = Duration::from_millis(500);
    for dedicated in [false, true] {
        patiently("an answer within the time to drain", || {
            let (told, events) = mpsc::channel();
            let builder = workers(1).drain_timeout(drain).dedicated(dedicated);
            let listener = move |_: &_| Upgrade::accept(recorder(&told, |_, _| Ok(())));
            let server = builder.start(listener).unwrap();
            let mut client = Client::upgrade(address(&server));
            assert!(client.is_silent(drain * 2));
            let stopping = thread::spawn(move || server.stop());
            client.expect_close(CloseCode::GOING_AWAY, REASON);
            client.is_silent(drain / 5);
            let _ = client.try_send(MsgType::Close, &1001_u16.to_be_bytes());
            client.expect_gone();
            drop(client);
            stopping.join().unwrap().unwrap();
            let is_answered =
                |event| matches!(event, Event::Disconnected(_, close) if close.is_complete());
            events.into_iter().any(is_answered).then_some(())
        });
    }
}

#[test]
fn a_stopper_stops_from_another_thread_and_may_lose_its_patience() {
    let server = echo(workers(2).drain_timeout(PATIENCE));
    let address = address(&server);
    let stopper = server.stopper();
    let (ended, ends) = mpsc::channel();
    let joining = thread::spawn(move || {
        let outcome = server.join();
        ended.send(()).unwrap();
        outcome
    });
    let mut silent = Client::upgrade(address);
    silent.echo(b"served meanwhile");
    thread::spawn({
        let stopper = stopper.clone();
        move || stopper.stop()
    });
    silent.expect_close(CloseCode::GOING_AWAY, REASON);
    assert!(ends.try_recv().is_err(), "it waits for the answer");
    stopper.stop_within(Duration::ZERO);
    silent.expect_gone();
    assert_eq!(joining.join().unwrap().unwrap().disconnected, 1);
    stopper.stop(); // Long over: harmless.
}

#[test]
fn dropping_the_handle_drops_the_server() {
    let server = echo(own_loopback(2).workers(2).drain_timeout(PATIENCE));
    let address = address(&server);
    let mut clients: Vec<_> = (0..10).map(|_| Client::upgrade(address)).collect();
    clients.iter_mut().for_each(|client| client.echo(b"before"));
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < PATIENCE, "nobody is waited for");
    for client in &mut clients {
        client.read_to_end();
    }
    assert!(TcpStream::connect(address).is_err());
    // The port is free at once.
    echo(Server::builder().listen(address.to_string()).workers(2)).stop().unwrap();
}

/// Sends and receives are in flight on every connection, of clients that read and of others that do
/// not: their buffers are the kernel's until it has let go of them.
#[test]
fn dropping_the_handle_in_the_middle_of_traffic_is_clean() {
    const CLIENTS: usize = 12;
    for dedicated in [false, true] {
        let server = echo(workers(2).dedicated(dedicated));
        let clients: Vec<_> = (0..CLIENTS).map(|_| Client::upgrade(address(&server))).collect();
        thread::scope(|scope| {
            for (number, mut client) in clients.into_iter().enumerate() {
                scope.spawn(move || {
                    let payload = vec![number as u8; 10_000];
                    while client.try_send(MsgType::Binary, &payload).is_ok() {
                        // Every third does not read what comes back, until nothing more is taken.
                        if number % 3 > 0 && client.try_receive().is_err() {
                            break;
                        }
                    }
                    client.read_to_end();
                });
            }
            let enough = 20 * CLIENTS as u64;
            eventually(&server, "there is traffic", |stats| stats.frames_received > enough);
            let monitor = server.monitor();
            drop(server);
            let stats = monitor.stats();
            assert_eq!((stats.connections, stats.slots), (0, 0), "{stats:?}");
        });
    }
}

/// What is sent by reference is read by the kernel until the send has completed.
#[test]
fn a_server_that_is_dropped_lets_go_of_what_it_was_sending() {
    let payload = Bytes::from(vec![7; 32 << 20]);
    let sent = payload.clone();
    let server = workers(1)
        .start(move |_| {
            let sent = sent.clone();
            Upgrade::accept(on_frame(move |transport, _| {
                transport.send_bytes(FrameHead::new(MsgType::Binary), &sent);
                Ok(())
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    client.send_text("send me more than fits");
    eventually(&server, "it is being sent", |stats| stats.frames_sent == 1);
    drop(server);
    assert!(payload.is_unique(), "nobody holds on to it");
    assert!(client.read_to_end() < payload.len());
}

#[test]
fn the_path_of_a_unix_socket_goes_with_the_server() {
    let folder = SocketFolder::new("stop");
    let path = folder.socket();
    let listen = format!("unix:{}", path.display());
    let start = || echo(Server::builder().listen(&listen).workers(1));
    start().stop().unwrap();
    assert!(!path.exists());
    drop(start());
    assert!(!path.exists());
    // One that was left behind is replaced, and one that is in use is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = start();
    Client::connect_unix(&path).upgraded().echo(b"replaced");
    let second = Server::builder().listen(&listen).workers(1);
    let error = second.start(|_| Upgrade::accept(EchoListener)).unwrap_err().to_string();
    assert!(error.contains(&listen) && error.contains("something else listens there"), "{error}");
    Client::connect_unix(&path).upgraded().echo(b"still there");
    drop(server);
    // And one that another process has made since is left alone.
    let server = start();
    std::fs::remove_file(&path).unwrap();
    let _somebody = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_cure() {
    for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let server = echo(workers(first));
        let address = address(&server);
        let error = start_at(address, second, false).expect_err("it is in use");
        let Error::Listen { address: named, source } = &error else { panic!("{error}") };
        assert_eq!(*named, address.to_string());
        assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("stop it, choose another port"), "{error}");
        Client::upgrade(address).echo(b"the first is still there");
    }
}

#[test]
fn a_port_can_be_shared_if_both_want_to() {
    if common::is_over_tls() {
        return;
    }
    let server = echo(workers(1).share_port(true));
    let address = address(&server);
    assert!(start_at(address, 2, false).is_err(), "only one of them wants to");
    let second = start_at(address, 1, true).unwrap();
    let mut clients: Vec<_> = (0..100).map(|_| Client::upgrade(address)).collect();
    clients.iter_mut().for_each(|client| client.echo(b"whoever"));
    let shares = [server.stats().connections, second.stats().connections];
    assert!(shares.iter().sum::<u64>() == 100 && !shares.contains(&0), "{shares:?}");
    // A server is replaced without a gap.
    drop(clients);
    server.stop().unwrap();
    (0..100).for_each(|_| Client::upgrade(address).echo(b"the second"));
}

fn start_at(address: SocketAddr, workers: usize, share: bool) -> Result<ServerHandle, Error> {
    Server::builder()
        .listen(address.to_string())
        .workers(workers)
        .share_port(share)
        .start(|_| Upgrade::accept(EchoListener))
}

#[test]
fn addresses_that_cannot_be_had_are_named() {
    let start = |builder: ServerBuilder| builder.start(|_| Upgrade::accept(EchoListener));
    for (builder, text) in [
        (
            workers(1).listen("nonsense"),
            "cannot listen on \"nonsense\": invalid socket address: write 127.0.0.1:9001, \
             [::1]:9001, localhost:9001 (port 0 for any free one) or unix:/run/picows.sock",
        ),
        (
            workers(1).listen("unix:"),
            "cannot listen on \"unix:\": the path is missing: write unix:/run/picows.sock",
        ),
    ] {
        assert_eq!(start(builder).unwrap_err().to_string(), text);
    }
    // TEST-NET-1 (RFC 5737) has no hosts.
    for (listen, cure) in [
        ("192.0.2.1:0", "no interface of this machine has that address"),
        ("unix:/no/such/folder/p.sock", "the folder of the Unix socket does not exist"),
    ] {
        let error = start(workers(1).listen(listen)).unwrap_err().to_string();
        assert!(error.contains(listen.trim_end_matches(":0")) && error.contains(cure), "{error}");
    }
}

#[test]
fn an_inherited_socket_has_to_listen() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listening.local_addr().unwrap()).unwrap();
    let builder = Server::builder().listen_socket(connected).workers(1);
    let error = builder.start(|_| Upgrade::accept(EchoListener)).unwrap_err().to_string();
    assert!(error.contains("call listen(2) before handing it over"), "{error}");
}
