//! The client through proxies: of each kind, and such that refuse, stall or break their protocol.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod gate;
mod scripted;

use gate::{Gate, Rules};
use picows_uring::{
    Backoff, Connect, ConnectError, ConnectFault, ConnectStage, EchoListener, Frame, Listener,
    ListenerResult, Proxy, ProxyFault, Reconnect, Server, ServerHandle, Transport, TunnelError,
    Upgrade,
};
use scripted::{Heard, PATIENCE, Request, answers, connected, refused, run, serve, until};
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

const SCHEMES: [&str; 5] = ["http", "socks4", "socks4a", "socks5", "socks5h"];

fn echo_server() -> (ServerHandle, u16) {
    let builder = Server::builder().listen("127.0.0.1:0").workers(1).handshake_timeout(PATIENCE);
    let server = builder.start(|_| Upgrade::accept(EchoListener)).unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

fn proxy(url: &str) -> Proxy {
    Proxy::url(url).unwrap()
}

/// A client that sends a message once it is connected, and keeps the echo.
struct Greeter(Heard);

impl Listener for Greeter {
    fn on_connected(&mut self, transport: &Transport) -> ListenerResult {
        transport.send_text("hello");
        Ok(())
    }

    fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
        let heard = self.0.on_frame(transport, frame);
        transport.disconnect();
        heard
    }
}

/// Connects, and gets an echo.
#[track_caller]
fn echoes(connect: Connect) {
    let heard = Heard::default();
    let echo = run(async move {
        let transport = connect.connect(Greeter(heard.clone())).await?;
        let _ = transport.wait_disconnected().await;
        Ok::<_, ConnectError>(heard.0.borrow()[0].1.clone())
    });
    assert_eq!(echo.unwrap().unwrap(), b"hello");
}

/// The URL of a proxy that answers the first bytes of each connection with `answer`.
fn answering(scheme: &str, answer: &'static [u8]) -> String {
    let address = serve(move |_, mut peer| {
        peer.read_some();
        peer.write(answer);
        peer.read_to_end();
    });
    format!("{scheme}://{address}")
}

/// The fault of a tunnel, after checking that error texts have no credentials.
#[track_caller]
fn tunnel_fault(error: &ConnectError) -> &TunnelError {
    let text = format!("{error} {error:?} {:?}", error.fault());
    assert!(!text.contains(gate::USER) && !text.contains(gate::PASSWORD), "{text}");
    let ConnectFault::Proxy { fault: ProxyFault::Tunnel(fault), .. } = error.fault() else {
        panic!("{error:?}")
    };
    fault
}

#[test]
fn every_kind_of_proxy_leads_to_the_server() {
    let (server, port) = echo_server();
    for (scheme, protocol, host) in [
        ("http", "http", "localhost"),
        ("socks4", "socks4", "127.0.0.1"),
        ("socks4a", "socks4", "localhost"),
        ("socks5", "socks5", "127.0.0.1"),
        ("socks5h", "socks5", "localhost"),
    ] {
        let gate = Gate::new(Rules::default());
        let proxy = proxy(&gate.url(scheme, ""));
        echoes(Connect::new(format!("ws://localhost:{port}/")).proxy(proxy.clone()));
        let asked = gate.next();
        assert_eq!((asked.protocol, asked.port), (protocol, port), "{scheme}");
        // Which of its addresses a name has here first is the resolver's choice.
        let is_resolved = !asked.host.contains(|it: char| it.is_alphabetic());
        assert!(asked.host == host || host == "127.0.0.1" && is_resolved, "{scheme}: {asked:?}");
        let connect = Connect::new(format!("ws://127.0.0.1:{port}/")).proxy(proxy);
        connected(connect, |transport| {
            assert_eq!(transport.peer_addr(), Some(gate.address), "the peer is the proxy");
        });
        assert_eq!(gate.next().host, "127.0.0.1", "{scheme}");
        assert_eq!(gate.all(), []);
    }
    server.stop().unwrap();
}

#[test]
fn connect_has_brackets_around_an_ipv6_address_and_the_same_host_header() {
    let (server, port) = echo_server();
    let gate = Gate::new(Rules::default());
    let to = proxy(&gate.url("http", "")).header("X-Team", "feeds");
    echoes(Connect::new(format!("ws://[::1]:{port}/")).proxy(to));
    let wanted =
        format!("CONNECT [::1]:{port} HTTP/1.1\r\nHost: [::1]:{port}\r\nX-Team: feeds\r\n\r\n");
    assert_eq!(gate.next().head, wanted);
    let to = proxy(&gate.url("socks5", ""));
    echoes(Connect::new(format!("ws://[::1]:{port}/")).proxy(to));
    assert_eq!(gate.next().host, "::1");
    server.stop().unwrap();
}

#[test]
fn user_and_password_are_given_to_a_proxy_that_asks() {
    let (server, port) = echo_server();
    let url = format!("ws://localhost:{port}/");
    for closes in [false, true] {
        let gate = Gate::new(Rules { wants_password: true, closes });
        echoes(Connect::new(&*url).proxy(proxy(&gate.url("http", "USER:SECRET@"))));
        let (first, second) = (gate.next(), gate.next());
        assert!(!first.head.contains("Proxy-Authorization"), "{first:?}");
        assert!(second.head.contains(gate::BASIC), "{second:?}");
        assert_eq!(gate.all(), [], "once");
        // A header of the caller's own is there at once.
        let to = proxy(&gate.url("http", "")).header("Proxy-Authorization", gate::BASIC);
        echoes(Connect::new(&*url).proxy(to));
        assert!(gate.next().head.contains(gate::BASIC));
        assert_eq!(gate.all(), []);
    }
    let gate = Gate::new(Rules { wants_password: true, closes: false });
    echoes(Connect::new(&*url).proxy(proxy(&gate.url("socks5h", "USER:SECRET@"))));
    let asked = gate.next();
    assert_eq!((&*asked.user, &*asked.password), (gate::USER, gate::PASSWORD));
    echoes(Connect::new(&*url).proxy(proxy(&gate.url("socks4a", "joe@"))));
    assert_eq!(gate.next().user, "joe");
    // A proxy that wants none gets none.
    let gate = Gate::new(Rules::default());
    echoes(Connect::new(&*url).proxy(proxy(&gate.url("http", "USER:SECRET@"))));
    assert!(!gate.next().head.contains("Authorization"));
    echoes(Connect::new(&*url).proxy(proxy(&gate.url("socks5h", "USER:SECRET@"))));
    assert_eq!(gate.next().user, "");
    server.stop().unwrap();
}

#[test]
fn wrong_credentials_say_what_to_correct_and_are_not_tried_again() {
    for closes in [false, true] {
        let gate = Gate::new(Rules { wants_password: true, closes });
        for (scheme, credentials, word, requests) in [
            ("http", "", "give user and password in the proxy's URL", 1),
            ("http", "USER:SECRET2@", "it refused user and password", 2),
            ("socks5h", "", "give user and password in the proxy's URL", 0),
            ("socks5h", "USER:SECRET2@", "it refused user and password", 0),
        ] {
            let to = proxy(&gate.url(scheme, credentials));
            let error = refused(Connect::new("ws://localhost:9/?token=SECRET").proxy(to));
            tunnel_fault(&error);
            let text = error.to_string();
            assert!(text.contains(word) && !error.is_transient(), "{text}");
            assert!(text.contains(&format!("the proxy {scheme}://{}: ", gate.address)), "{text}");
            assert_eq!(gate.all().len(), requests, "{scheme} {credentials}");
            assert!(error.response().is_none(), "that is the server's");
        }
    }
}

#[test]
fn headers_for_the_proxy_and_for_the_server_reach_the_one_they_were_given_for() {
    let (seen, requests) = mpsc::channel::<Request>();
    let seen = Mutex::new(seen);
    let url = answers(move |request| {
        seen.lock().unwrap().send(request.clone()).unwrap();
        request.accepted("")
    });
    let gate = Gate::new(Rules { wants_password: true, closes: false });
    let to = proxy(&gate.url("http", "USER:SECRET@")).header("X-For-Proxy", "SECRET");
    let connect = Connect::new(url).header("Proxy-Authorization", "for the server");
    connected(connect.header("Authorization", "too").proxy(to), |_| ());
    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request.headers("proxy-authorization"), ["for the server"]);
    assert!(!request.0.contains("SECRET") && !request.0.contains(gate::BASIC), "{request:?}");
    for asked in [gate.next(), gate.next()] {
        assert!(asked.head.contains("X-For-Proxy: SECRET"), "{asked:?}");
        assert!(!asked.head.contains("for the server") && !asked.head.contains("too"), "{asked:?}");
        assert!(!asked.head.contains("Sec-WebSocket") && asked.head.starts_with("CONNECT "));
    }
}

#[test]
fn a_redirect_asks_the_rules_again() {
    let (seen, requests) = mpsc::channel::<Request>();
    let seen = Mutex::new(seen);
    let exempt = answers(move |request| {
        seen.lock().unwrap().send(request.clone()).unwrap();
        request.accepted("")
    });
    let location = exempt.clone();
    let proxied = answers(move |_| {
        format!("HTTP/1.1 302 X\r\nLocation: {location}there\r\nContent-Length: 0\r\n\r\n")
    });
    // By a name that only the proxy knows.
    let proxied = proxied.replacen("127.0.0.1", "server.test", 1);
    let gate = Gate::new(Rules { wants_password: true, closes: false });
    let to = proxy(&gate.url("http", "USER:SECRET@")).no_proxy(" 127.0.0.0/8 ");
    let exempt_address: SocketAddr = exempt[5..].trim_end_matches('/').parse().unwrap();
    connected(Connect::new(&*proxied).proxy(to), |transport| {
        assert_eq!(transport.peer_addr(), Some(exempt_address), "without the proxy");
    });
    let request = requests.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request.target(), "/there");
    assert_eq!(request.headers("proxy-authorization").len(), 0);
    assert!(!request.0.contains("SECRET"), "{request:?}");
    let asked = gate.all();
    assert!(asked.len() == 2 && asked.iter().all(|it| it.host == "server.test"), "{asked:?}");
    // And through the proxy where it is not exempt.
    let to = proxy(&gate.url("socks5h", "USER:SECRET@"));
    connected(Connect::new(proxied).proxy(to), |transport| {
        assert_eq!(transport.peer_addr(), Some(gate.address));
    });
    let asked: Vec<_> = gate.all().into_iter().map(|it| it.host).collect();
    assert_eq!(asked, ["server.test", "127.0.0.1"]);
}

#[test]
fn reconnecting_goes_through_the_proxy_each_time() {
    let gate = Gate::new(Rules::default());
    let busy = answers(|_| "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned());
    let url = gate.url("socks5h", "");
    let connect = move || Connect::new(&*busy).proxy(proxy(&url));
    let backoff = Backoff::default().initial(Duration::from_millis(1));
    let reconnect = Reconnect::new(connect).backoff(backoff).max_attempts(3);
    let error = run(reconnect.run(Heard::default)).unwrap().unwrap_err();
    assert_eq!(error.response().unwrap().status().as_u16(), 503, "the server's answer");
    assert_eq!(gate.all().len(), 3);
}

#[test]
fn a_refusal_says_whether_it_is_worth_another_try() {
    for (scheme, answer, is_transient, word) in [
        ("http", &b"HTTP/1.1 403 No\r\n\r\n"[..], false, "many proxies allow 443 only"),
        ("http", b"HTTP/1.1 405 No\r\n\r\n", false, "does not allow port 9"),
        ("http", b"HTTP/1.0 502 No\r\n\r\n", true, "it cannot reach the server"),
        ("http", b"HTTP/1.1 504 No\r\n\r\n", true, "it cannot reach the server"),
        ("socks4a", b"\0\x5b\0\0\0\0\0\0", true, "the proxy cannot reach the server"),
        ("socks5h", b"\x05\xff", false, "give user and password"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\nhello", false, "bytes follow its answer"),
        ("socks4a", b"\0\x5a\0\0\0\0\0\0x", false, "bytes follow its answer"),
        ("socks5h", b"\x05\0x", false, "bytes follow its answer"),
        ("http", b"<html>no</html>", false, "does not speak HTTP"),
        ("http", b"\x05\xff", false, "begins with socks5h://"),
        ("http", b"\x15\x03\x01\0\x02\x02\x46", false, "looks like TLS"),
        ("socks5", b"HTTP/1.1 400 Bad\r\n\r\n<html>", false, "begins with http://"),
        ("socks4", b"\x05\xff", false, "begins with socks5h://"),
        ("socks5h", b"\x15\x03\x01\0\x02\x02\x46", false, "looks like TLS"),
    ] {
        let url = answering(scheme, answer).replacen("://", "://USER@", 1);
        let url = if scheme.starts_with("socks4") { url } else { url.replacen('@', ":SECRET@", 1) };
        let error = refused(Connect::new("ws://127.0.0.1:9/").proxy(proxy(&url)));
        tunnel_fault(&error);
        assert!(error.to_string().contains(word), "{scheme}: {error}");
        assert_eq!(error.is_transient(), is_transient, "{error}");
    }
    let busy = answering("http", b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n");
    let error = refused(Connect::new("ws://127.0.0.1:9/").proxy(proxy(&busy)));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let address = serve(|_, mut peer| {
        peer.read_some();
        peer.write(b"HTTP/1.1 200 OK\r\nX: ");
        // Until the client goes.
        while peer.try_write(&[b'a'; 1000]) {}
    });
    let error = refused(Connect::new("ws://a/").proxy(proxy(&format!("http://{address}"))));
    assert!(matches!(tunnel_fault(&error), TunnelError::Head(_)), "{error:?}");
}

#[test]
fn a_proxy_that_ends_the_connection_is_told_from_a_server_that_does() {
    for scheme in SCHEMES {
        let address = serve(|_, mut peer| drop(peer.read_some()));
        let to = proxy(&format!("{scheme}://{address}"));
        let error = refused(Connect::new("ws://127.0.0.1:9/").proxy(to));
        let fault = tunnel_fault(&error);
        assert_eq!(*fault, TunnelError::Closed { in_answer: false }, "{scheme}");
        assert!(
            error.is_transient() && error.to_string().contains("before it answered"),
            "{error}"
        );
        // Orderly or not.
        let address = serve(|_, mut peer| {
            peer.read_some();
            peer.reset();
        });
        let to = proxy(&format!("{scheme}://{address}"));
        let error = refused(Connect::new("ws://127.0.0.1:9/").proxy(to));
        let ConnectFault::Proxy { fault: ProxyFault::Io(_), .. } = error.fault() else {
            panic!("{error:?}")
        };
        assert!(error.is_transient() && error.to_string().contains("connection to it broke"));
    }
    // The server's end comes through the tunnel.
    let gate = Gate::new(Rules::default());
    let address = serve(|_, mut peer| drop(peer.request()));
    let to = proxy(&gate.url("http", ""));
    let error = refused(Connect::new(format!("ws://{address}/")).proxy(to));
    assert!(matches!(error.fault(), ConnectFault::Disconnected(_)), "{error:?}");
}

#[test]
fn the_time_of_the_handshake_is_that_of_the_proxy_as_well() {
    for (scheme, part) in [
        ("http", &b""[..]),
        ("http", b"HTTP/1.1 200 OK\r\n"),
        ("http", b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\nContent-Length: 9\r\n\r\nx"),
        ("socks4", b"\0\x5a"),
        ("socks5", b""),
        ("socks5", b"\x05\0"),
        ("socks5h", b"\x05\0"),
    ] {
        let password = if scheme == "http" { "USER:SECRET@" } else { "" };
        let url = answering(scheme, part).replacen("://", &format!("://{password}"), 1);
        let connect = Connect::new("ws://127.0.0.1:9/").proxy(proxy(&url));
        let error = refused(connect.handshake_timeout(Duration::from_millis(50)));
        let fault = error.fault();
        let is_late = matches!(fault, ConnectFault::Timeout { stage: ConnectStage::Proxy, .. });
        assert!(is_late && error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("the way through the proxy took longer"), "{error}");
    }
}

#[test]
fn a_dropped_future_ends_the_connection_to_the_proxy() {
    let (report, ends) = mpsc::channel();
    let (asked, requests) = mpsc::channel();
    let (report, asked) = (Mutex::new(report), Mutex::new(asked));
    let address = serve(move |_, mut peer| {
        peer.read_some();
        asked.lock().unwrap().send(()).unwrap();
        peer.read_to_end();
        report.lock().unwrap().send(()).unwrap();
    });
    run(async move {
        let connect = Connect::new("ws://a/").proxy(proxy(&format!("http://{address}")));
        let mut silent = Box::pin(connect.connect(Heard::default()));
        until("the request", || {
            assert!(futures_util::FutureExt::now_or_never(&mut silent).is_none());
            requests.try_recv().ok()
        })
        .await;
        drop(silent);
        until("the end", || ends.try_recv().ok()).await;
    })
    .unwrap();
}

#[test]
fn what_cannot_be_asked_for_costs_no_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let to = |scheme: &str| proxy(&format!("{scheme}{address}"));
    let long = "x".repeat(256);
    for (url, to, word) in [
        ("ws://a/", to("http://").header("Host", "b"), "Host"),
        ("ws://a/", to("http://").header("a b", "c"), "a b"),
        ("ws://a/", to("http://U:SECRET@").header("Proxy-Authorization", "b"), "leave one out"),
        ("ws://a/", to("socks5h://").header("X", "y"), "SOCKS has no headers"),
        ("ws://a/", to("socks4a://U:SECRET@"), "SOCKS4 has a user and no password"),
        ("ws://[::1]/", to("socks4://"), "socks4a://"),
        ("ws://[::1]/", to("socks4a://"), "socks5://"),
        ("ws://a/", to(&format!("socks5h://{long}@")), "user is 256 bytes"),
        ("ws://a/", to(&format!("socks5h://u:{long}@")), "password is 256 bytes"),
        ("ws://a/", to("http://a%3Ab:SECRET@"), "colon"),
    ] {
        let error = refused(Connect::new(url).proxy(to));
        let ConnectFault::Proxy { fault: ProxyFault::Option(_), .. } = error.fault() else {
            panic!("{error:?}")
        };
        let text = format!("{error} {error:?}");
        assert!(text.contains(word) && !text.contains("SECRET"), "{text}");
        assert!(!error.is_transient());
    }
    listener.set_nonblocking(true).unwrap();
    let none = listener.accept().unwrap_err();
    assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
}
