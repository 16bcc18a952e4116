//! Connections that were accepted, or upgraded, elsewhere and handed over to a server.

mod common;

use common::{Client, Event, masked, next, recorder, upgrade_request};
use http::Request;
use picows_uring::{
    CloseCode, EchoListener, Error, FrameHead, ListenerError, MsgType, Networks, Server,
    ServerBuilder, ServerHandle, Upgrade, UpgradeRequest, UpgradeResponse,
};
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

fn without_address() -> ServerBuilder {
    Server::builder().without_address().workers(2)
}

fn echo(builder: ServerBuilder) -> ServerHandle {
    builder.start(|_| Upgrade::accept(EchoListener)).expect("it starts")
}

fn end(server: ServerHandle) {
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

/// A client, and the other end of its connection.
fn accepted() -> (Client, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("it is listened on");
    (Client::over(client), listener.accept().expect("a client has connected").0)
}

fn upgrade() -> Request<()> {
    Request::get("/chat?room=7")
        .header("Host", "localhost")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Version", "13")
        .header("Cookie", "session=31d4")
        .body(())
        .expect("a request")
}

#[test]
fn what_was_read_of_a_connection_comes_first() {
    let server = echo(without_address());
    assert!(server.addresses().is_empty());
    let request = upgrade_request("/", "");
    let frame = masked(FrameHead::new(MsgType::Binary), b"early");
    let whole = [request.as_bytes(), &frame].concat();
    for read in [0, 10, request.len(), request.len() + 3, whole.len()] {
        for is_nonblocking in [false, true] {
            let (mut client, socket) = accepted();
            socket.set_nonblocking(is_nonblocking).expect("it is a socket");
            client.write(&whole[read..]);
            server.adopt(socket, &whole[..read]).expect("it is connected");
            assert_eq!(client.response().status, 101, "{read}");
            assert_eq!(client.receive().payload, b"early");
            client.echo(b"and later");
        }
    }
    assert_eq!(server.stats().accepted, 10);
    let counts: Vec<_> = server.worker_stats().map(|stats| stats.accepted).collect();
    assert_eq!(counts, [5, 5], "workers get them in turn");
    end(server);
}

#[test]
fn limits_and_plain_requests_are_as_on_an_address() {
    let server = without_address().workers(1).max_connections(1).start(|request| {
        if request.is_upgrade() {
            return Upgrade::accept(EchoListener);
        }
        Upgrade::respond(UpgradeResponse::ok().with_body("fine"))
    });
    let server = server.expect("it starts");
    let (mut first, socket) = accepted();
    server.adopt(socket, upgrade_request("/", "")).expect("it is connected");
    assert_eq!(first.response().status, 101);
    let (mut second, socket) = accepted();
    server.adopt(socket, upgrade_request("/", "")).expect("it is connected");
    assert_eq!(second.response().status, 503);
    let (mut check, socket) = accepted();
    server.adopt(socket, "GET / HTTP/1.0\r\n\r\n").expect("it is connected");
    assert_eq!(check.response().body, "fine");
    end(server);
}

#[test]
fn an_upgraded_connection_begins_with_its_frames() {
    let (events, seen) = channel();
    let server = without_address().start(move |request: &UpgradeRequest| {
        assert_eq!((request.path(), request.cookie("session")), ("/chat", Some("31d4")));
        assert!(request.peer_addr().is_some());
        let listener = recorder(&events, |transport, frame| {
            assert_eq!(transport.request().map(UpgradeRequest::query), Some(Some("room=7")));
            transport.send(frame.msg_type(), frame.payload());
            Ok(())
        });
        Upgrade::accept(listener)
    });
    let server = server.expect("it starts");
    let frame = masked(FrameHead::new(MsgType::Binary), b"early");
    let mut open = Vec::new();
    for read in [0, 3, frame.len()] {
        let (mut client, socket) = accepted();
        client.write(&frame[read..]);
        server.adopt_upgraded(socket, &upgrade(), &frame[..read]).expect("it is connected");
        assert_eq!(client.receive().payload, b"early", "no answer of HTTP comes before");
        assert_eq!(next(&seen), Event::Connected);
        assert_eq!(next(&seen), Event::Frame(MsgType::Binary, b"early".to_vec()));
        open.push(client);
    }
    end(server);
}

#[test]
fn an_upgraded_connection_may_be_decided_on_later_or_be_refused() {
    let server = without_address().workers(1).start(|request| match request.path() {
        "/later" => Upgrade::later(async {
            tokio::task::yield_now().await;
            Upgrade::accept(EchoListener)
        }),
        "/never" => Upgrade::later(std::future::pending::<Upgrade>()),
        "/error" => Upgrade::later(async { Err::<Upgrade, ListenerError>("no database".into()) }),
        _ => Upgrade::not_found(),
    });
    let server = server.expect("it starts");
    let adopt = |path: &str| {
        let (client, socket) = accepted();
        let (mut parts, ()) = upgrade().into_parts();
        parts.uri = path.parse().expect("a path");
        let request = Request::from_parts(parts, ());
        server.adopt_upgraded(socket, &request, "").expect("it is connected");
        client
    };
    adopt("/later").echo(b"accepted");
    adopt("/").expect_close(CloseCode::POLICY_VIOLATION, "refused");
    adopt("/error").expect_close(CloseCode::INTERNAL_ERROR, "");
    let mut waiting = adopt("/never");
    let stopped = std::thread::spawn(|| server.stop_within(Duration::from_secs(1)));
    waiting.expect_close(CloseCode::TRY_AGAIN_LATER, "");
    drop(waiting);
    stopped.join().expect("it does not panic").expect("no worker has failed");
}

#[test]
fn what_cannot_be_served_is_an_error_with_a_cure() {
    let server = echo(without_address());
    let file = File::open("/dev/null").expect("it is there");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    for (socket, text) in [
        (OwnedFd::from(file), "no socket"),
        (OwnedFd::from(listener), "not connected"),
        (OwnedFd::from(datagrams), "no stream socket"),
    ] {
        let error = server.adopt(socket, "").expect_err("it is none");
        assert!(matches!(error, Error::Socket { .. }), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for request in [
        Request::get("/").body(()).expect("a request"),
        Request::post("/").header("Host", "a").body(()).expect("a request"),
        Request::get("/").header("Host", "a").header("Content-Length", "5").body(()).expect("one"),
    ] {
        let (_client, socket) = accepted();
        let error = server.adopt_upgraded(socket, &request, "").expect_err("it is none");
        assert!(error.to_string().contains("none to upgrade"), "{error}");
    }
    assert_eq!(server.stats().accepted, 0);
    end(server);
}

#[test]
fn the_answer_of_another_server_proves_that_it_has_read_the_request() {
    let response = ServerHandle::switching_protocols(&upgrade()).expect("a good request");
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["connection"], "Upgrade");
}

#[test]
fn a_unix_socket_is_as_good() {
    let server = echo(without_address());
    let (ours, theirs) = UnixStream::pair().expect("a descriptor is left");
    server.adopt(theirs, "").expect("it is connected");
    let stream = TcpStream::from(OwnedFd::from(ours));
    Client::over(stream).upgraded().echo(b"over a pair");
    end(server);
}

/// As where another library has decrypted the stream: the pair of sockets has no address.
#[test]
fn a_pair_of_sockets_may_name_its_client() {
    let (sender, peers) = channel();
    let builder = without_address().proxy_protocol(Networks::default());
    let server = builder.start(move |request: &UpgradeRequest| {
        let _ = sender.send(request.peer_addr());
        Upgrade::accept(EchoListener)
    });
    let server = server.expect("it starts");
    let header = "PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n";
    for read in [0, 10, header.len()] {
        let (ours, theirs) = UnixStream::pair().expect("a descriptor is left");
        server.adopt(theirs, &header.as_bytes()[..read]).expect("it is connected");
        let mut client = Client::over(TcpStream::from(OwnedFd::from(ours)));
        client.write(&header.as_bytes()[read..]);
        client.upgraded().echo(b"of a client with an address");
        assert_eq!(next(&peers), Some("192.0.2.7:51000".parse().expect("an address")));
    }
    end(server);
}
