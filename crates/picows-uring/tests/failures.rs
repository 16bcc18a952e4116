//! Applications that fail: an error or a panic costs one connection, and no other notices.

mod common;

use common::{Client, address, eventually, on_frame, workers};
use http::{HeaderValue, StatusCode, header};
use picows_uring::{
    CloseCode, EchoListener, Frame, Listener, ListenerError, ListenerResult, MsgType, Transport,
    Upgrade, UpgradeRequest, UpgradeResponse, select_subprotocol,
};

/// Does something forbidden in the callback that the path names.
struct Faulty {
    callback: String,
    fault: String,
}

impl Faulty {
    /// `/on_frame/panic`
    fn new(request: &UpgradeRequest) -> Self {
        let (callback, fault) = request.path()[1..].split_once('/').unwrap_or_default();
        Self { callback: callback.to_owned(), fault: fault.to_owned() }
    }

    /// Bytes to send: for a fault of the watermarks, more than a socket takes at once.
    fn much(&self) -> usize {
        if self.callback.ends_with("writing") { MORE_THAN_A_SOCKET_HOLDS } else { MUCH }
    }

    fn fail_in(&self, callback: &str) -> ListenerResult {
        if callback != self.callback {
            return Ok(());
        }
        match &*self.fault {
            "error" => Err("a secret".into()),
            "close" => Err(ListenerError::close(code(4321), "as you like")),
            // The second is a panic with a `String`.
            "panic" => panic!("on purpose"),
            "panic_with" => panic!("on purpose, in {callback}"),
            "panic_any" => std::panic::panic_any(7),
            other => unreachable!("{other}"),
        }
    }
}

impl Listener for Faulty {
    fn on_connected(&mut self, _: &Transport) -> ListenerResult {
        self.fail_in("on_connected")
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        if frame.payload() == b"much" {
            transport.send(MsgType::Binary, vec![0; self.much()]);
        }
        self.fail_in("on_frame")?;
        transport.send_like(frame, frame.payload());
        Ok(())
    }

    fn on_disconnected(&mut self, _: &Transport) {
        let _ = self.fail_in("on_disconnected");
    }

    fn pause_writing(&mut self, _: &Transport) {
        let _ = self.fail_in("pause_writing");
    }

    fn resume_writing(&mut self, _: &Transport) {
        let _ = self.fail_in("resume_writing");
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = self.fail_in("drop");
        }
    }
}

/// More than the high watermark.
const MUCH: usize = 100_000;
/// Both ends together grow to some 10 MiB (`tcp_wmem`, `tcp_rmem`).
const MORE_THAN_A_SOCKET_HOLDS: usize = 32 * 1024 * 1024;

fn code(code: u16) -> CloseCode {
    CloseCode::new(code).expect("it may be sent")
}

/// The panics of these tests are not worth a line each.
fn be_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_worker =
                std::thread::current().name().is_some_and(|it| it.starts_with("picows"));
            if !is_worker {
                loud(panic);
            }
        }));
    });
}

#[test]
fn a_fault_in_any_callback_costs_one_connection() {
    be_quiet();
    let server = workers(1).start(|request| Upgrade::accept(Faulty::new(request))).unwrap();
    let address = address(&server);
    let mut neighbours: Vec<_> = (0..100).map(|_| Client::upgrade(address)).collect();
    let internal = (CloseCode::INTERNAL_ERROR, "");
    let mut faults = 0;
    for (path, close) in [
        ("/on_connected/error", internal),
        ("/on_connected/panic", internal),
        ("/on_connected/close", (code(4321), "as you like")),
        ("/on_frame/error", internal),
        ("/on_frame/panic", internal),
        ("/on_frame/panic_with", internal),
        ("/on_frame/panic_any", internal),
        ("/on_frame/close", (code(4321), "as you like")),
        ("/pause_writing/panic", internal),
        ("/resume_writing/panic", internal),
        ("/on_disconnected/panic", (CloseCode::NORMAL, "bye")),
        ("/drop/panic", (CloseCode::NORMAL, "bye")),
    ] {
        let mut client = Client::upgrade_at(address, path);
        if !path.starts_with("/on_connected") {
            client.send_text("much");
            let much = if path.contains("writing") { MORE_THAN_A_SOCKET_HOLDS } else { MUCH };
            assert_eq!(client.receive().payload.len(), much, "{path}: what was queued arrives");
        }
        if path.contains("writing") {
            client.expect_text("much");
        }
        if close.1 == "bye" {
            client.expect_text("much");
            client.send_close(1000, "bye");
        }
        client.expect_close(close.0, close.1);
        client.expect_eof();
        faults += 1;
        eventually(&server, path, |stats| stats.listener_errors == faults);
        for neighbour in &mut neighbours {
            neighbour.echo(path.as_bytes());
        }
    }
    drop(neighbours);
    let stats = server.stop().unwrap();
    assert_eq!((stats.listener_errors, stats.upgraded), (faults, faults + 100));
}

#[test]
fn a_fault_with_every_worker_busy_costs_one_connection() {
    be_quiet();
    const CONNECTIONS: usize = 100;
    let server = workers(2).start(|request| Upgrade::accept(Faulty::new(request))).unwrap();
    let address = address(&server);
    let mut neighbours: Vec<_> = (0..CONNECTIONS).map(|_| Client::upgrade(address)).collect();
    let mut faulty: Vec<_> =
        (0..CONNECTIONS).map(|_| Client::upgrade_at(address, "/on_frame/panic")).collect();
    for (neighbour, faulty) in neighbours.iter_mut().zip(&mut faulty) {
        neighbour.send(MsgType::Binary, "before");
        faulty.send_text("now");
        neighbour.send(MsgType::Binary, "after");
    }
    for (neighbour, faulty) in neighbours.iter_mut().zip(&mut faulty) {
        faulty.expect_close(CloseCode::INTERNAL_ERROR, "");
        assert_eq!(neighbour.receive().payload, b"before");
        assert_eq!(neighbour.receive().payload, b"after");
    }
    drop((neighbours, faulty));
    assert_eq!(server.stop().unwrap().listener_errors, CONNECTIONS as u64);
}

#[test]
fn errors_of_on_frame_can_be_tolerated() {
    be_quiet();
    let server = workers(1)
        .disconnect_on_error(false)
        .start(|_| {
            Upgrade::accept(on_frame(|transport, frame| match frame.payload() {
                b"error" => Err("a secret".into()),
                b"panic" => panic!("on purpose"),
                b"close" => Err(ListenerError::close(CloseCode::TRY_AGAIN_LATER, "busy")),
                other => {
                    transport.send(MsgType::Text, other);
                    Ok(())
                }
            }))
        })
        .unwrap();
    let mut client = Client::upgrade(address(&server));
    for text in ["error", "panic", "error"] {
        client.send_text(text);
        client.send_text("still there?");
        client.expect_text("still there?");
    }
    client.send_text("close");
    client.expect_close(CloseCode::TRY_AGAIN_LATER, "busy");
    assert_eq!(server.stats().listener_errors, 4);
}

#[test]
fn only_on_frame_is_tolerated() {
    be_quiet();
    let server = workers(1)
        .disconnect_on_error(false)
        .start(|request| Upgrade::accept(Faulty::new(request)))
        .unwrap();
    let mut client = Client::upgrade_at(address(&server), "/on_connected/error");
    client.expect_close(CloseCode::INTERNAL_ERROR, "");
}

/// A router with everything that can go wrong in one, and what goes right.
fn route(request: &UpgradeRequest) -> Result<Upgrade, ListenerError> {
    let echo = Upgrade::accept(EchoListener);
    Ok(match request.path() {
        "/echo" => echo,
        "/error" => return Err("a secret".into()),
        "/panic" => panic!("a secret"),
        "/bad-subprotocol" => echo.with_subprotocol("never-offered"),
        "/101" => Upgrade::respond(UpgradeResponse::new(StatusCode::SWITCHING_PROTOCOLS)),
        "/negotiate" => match select_subprotocol(request, &["v2", "v1"]) {
            Some(name) => echo.with_subprotocol(name),
            None => echo,
        },
        "/cookie" => echo
            .with_header(header::SET_COOKIE, HeaderValue::from_static("session=1"))
            .with_header(header::SET_COOKIE, HeaderValue::from_static("theme=dark"))
            .with_header(header::UPGRADE, HeaderValue::from_static("nonsense")),
        "/healthz" => Upgrade::respond(UpgradeResponse::ok().with_body("fine\n")),
        "/moved" => {
            let moved = UpgradeResponse::new(StatusCode::FOUND);
            Upgrade::respond(moved).with_header(header::LOCATION, HeaderValue::from_static("/echo"))
        }
        "/large" => Upgrade::respond(UpgradeResponse::ok().with_body("x".repeat(1 << 20))),
        _ => Upgrade::not_found(),
    })
}

#[test]
fn a_failing_factory_is_a_500_that_tells_nothing() {
    be_quiet();
    let server = workers(1).start(route).unwrap();
    for (faults, path) in ["/error", "/panic", "/bad-subprotocol", "/101"].iter().enumerate() {
        let mut client = Client::connect(address(&server));
        let response = client.ask(path, "Sec-WebSocket-Protocol: v1\r\n");
        assert_eq!(response.status, 500, "{path}");
        assert_eq!(response.body, "internal server error\n");
        assert!(!format!("{response:?}").contains("secret"), "{response:?}");
        client.expect_eof();
        assert_eq!(server.stats().listener_errors, faults as u64 + 1, "{path}");
    }
    Client::upgrade_at(address(&server), "/echo").echo(b"it lives on");
}

#[test]
fn the_factory_answers_over_http_as_it_likes() {
    let server = workers(1).start(route).unwrap();
    for (path, status, body, name, value) in [
        ("/healthz", 200, "fine\n", "Content-Type", "text/plain; charset=utf-8"),
        ("/moved", 302, "", "Location", "/echo"),
        ("/nowhere", 404, "not found\n", "Content-Length", "10"),
        ("/large", 200, &*"x".repeat(1 << 20), "Content-Length", "1048576"),
    ] {
        for is_upgrade in [false, true] {
            let mut client = Client::connect(address(&server));
            let response = if is_upgrade {
                client.ask(path, "")
            } else {
                client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
                client.response()
            };
            assert_eq!((response.status, response.header(name)), (status, Some(value)), "{path}");
            assert_eq!(response.body, body, "{path}");
            assert_eq!(response.header("Connection"), Some("close"), "{path}");
            client.expect_eof();
        }
    }
    assert_eq!(server.stop().unwrap().upgraded, 0);
}

#[test]
fn a_plain_get_of_an_endpoint_names_the_fault() {
    let server = workers(1).start(route).unwrap();
    let mut client = Client::connect(address(&server));
    client.write(b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 400);
    assert_eq!(response.body, "no upgrade header: this is a WebSocket endpoint");
    client.expect_eof();
}

#[test]
fn the_subprotocol_is_the_servers_choice_of_what_is_offered() {
    let server = workers(1).start(route).unwrap();
    for (offered, chosen) in [
        ("Sec-WebSocket-Protocol: v1, v2\r\n", Some("v2")),
        ("Sec-WebSocket-Protocol: v0\r\nSec-WebSocket-Protocol: v1\r\n", Some("v1")),
        ("Sec-WebSocket-Protocol: V1\r\n", None),
        ("", None),
    ] {
        let mut client = Client::connect(address(&server));
        let response = client.ask("/negotiate", offered);
        let found = response.header("Sec-WebSocket-Protocol");
        assert_eq!((response.status, found), (101, chosen), "{offered}");
        client.echo(b"agreed");
    }
}

#[test]
fn the_listener_knows_the_subprotocol() {
    let server = workers(1)
        .start(|request| {
            let listener = on_frame(|transport, _| {
                transport.send_text(transport.subprotocol().unwrap_or("none"));
                Ok(())
            });
            match select_subprotocol(request, &["chat"]) {
                Some(name) => Upgrade::accept(listener).with_subprotocol(name),
                None => Upgrade::accept(listener),
            }
        })
        .unwrap();
    for (offered, known) in [("Sec-WebSocket-Protocol: chat\r\n", "chat"), ("", "none")] {
        let mut client = Client::connect(address(&server));
        client.ask("/", offered);
        client.send_text("which?");
        client.expect_text(known);
    }
}

#[test]
fn headers_are_added_to_the_upgrade_but_its_own_stay() {
    let server = workers(1).start(route).unwrap();
    let mut client = Client::connect(address(&server));
    let response = client.ask("/cookie", "");
    assert_eq!(response.status, 101);
    assert_eq!(response.header("Upgrade"), Some("websocket"));
    let text = format!("{response:?}");
    assert!(text.contains("Set-Cookie: session=1") && text.contains("Set-Cookie: theme=dark"));
    // The sample of RFC 6455 §1.3.
    assert_eq!(response.header("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.echo(b"with cookies");
}
