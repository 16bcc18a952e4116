//! Requests of bad intent: another one is smuggled past a proxy in front, and each form is refused, or
//! answered once, and what is behind it reaches no factory; what a client says of itself is too long, or
//! malformed.

mod common;

use common::{Client, address, upgrade_request, workers};
use picows_uring::{EchoListener, TrustedProxies, Upgrade, UpgradeResponse};
use std::sync::mpsc::channel;
use std::time::Duration;

/// The request that is smuggled.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// Heads with bodies, or what is taken for one, and the status of the only answer (RFC 9112 §11.2). What
/// stands behind the head is `HIDDEN`.
const FORMS: [(&str, &str); 33] = [
    // A body that is counted differently.
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\n\r\n", "413"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 34\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\nContent-Length: 34\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 34\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +34\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x22\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 4\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", "413"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\n\r\n", "405"),
    // One that ends differently.
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", "400"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", "4|5"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n", "4|5"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "4|5"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", "4|5"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "400",
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", "4|5"),
    ("GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    // A header that one reads and the other does not.
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 34\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\n Content-Length: 34\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer\0-Encoding: chunked\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "400"),
    // A target or a host that is understood differently.
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    // None of it: the next request of a pipeline is not served either, as the answer closes.
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200"),
];

#[test]
fn what_is_behind_a_request_reaches_no_factory() {
    if common::is_over_tls() {
        return;
    }
    let (paths, asked) = channel();
    let server = workers(1).start(move |request| {
        let _ = paths.send(request.path().to_owned());
        if request.is_upgrade() {
            return Upgrade::accept(EchoListener);
        }
        Upgrade::respond(UpgradeResponse::ok())
    });
    let server = server.expect("it starts");
    for (form, status) in FORMS {
        let whole = [form, HIDDEN].concat().into_bytes();
        for step in [whole.len(), 11] {
            let mut client = Client::connect(address(&server));
            for part in whole.chunks(step) {
                if client.try_write(part).is_err() {
                    break;
                }
            }
            let answer = client.response();
            let is_expected = match status {
                "4|5" => (400..600).contains(&answer.status),
                status => answer.status.to_string() == status,
            };
            assert!(is_expected, "{form:?}: {answer:?}");
            assert_eq!(answer.header("Connection"), Some("close"), "{form:?}");
            assert_eq!(client.read_to_end(), 0, "{form:?}: a second answer");
            let paths: Vec<_> = asked.try_iter().collect();
            let is_asked = status == "200";
            assert_eq!(paths.len(), usize::from(is_asked), "{form:?}: {paths:?}");
            assert!(!paths.iter().any(|path| path == "/hidden"), "{form:?}");
        }
    }
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

/// Headers and targets of the client's word that are too long, with the status of the answer.
fn oversized() -> Vec<(String, String)> {
    let long = "x".repeat(20_000);
    let many = (0..200).map(|number| format!("Cookie: c{number}=1\r\n")).collect();
    vec![
        (format!("/?{long}"), String::new()),
        ("/".to_owned(), format!("Cookie: session={long}\r\n")),
        ("/".to_owned(), many),
        ("/".to_owned(), format!("X-Forwarded-For: {}\r\n", "1.1.1.1,".repeat(2500))),
        ("/".to_owned(), format!("Forwarded: {}\r\n", "for=1.1.1.1,".repeat(2000))),
        ("/".to_owned(), format!("Authorization: Bearer {long}\r\n")),
        ("/".to_owned(), format!("Origin: https://{long}\r\n")),
    ]
}

#[test]
fn oversized_queries_cookies_and_forwarded_headers_reach_no_factory() {
    let trusted = TrustedProxies::by_x_forwarded_for("127.0.0.0/8".parse().expect("a network"));
    let (paths, asked) = channel();
    let server = workers(1).trusted_proxies(trusted).start(move |request| {
        let _ = paths.send(request.path().to_owned());
        Upgrade::accept(EchoListener)
    });
    let server = server.expect("it starts");
    let mut neighbour = Client::upgrade(address(&server));
    assert_eq!(asked.iter().next().as_deref(), Some("/"));
    for (target, lines) in oversized() {
        let mut client = Client::connect(address(&server));
        let _ = client.try_write(upgrade_request(&target, &lines).as_bytes());
        assert_eq!(client.response().status, 431, "{target:.20} {lines:.30}");
        assert_eq!(asked.try_iter().count(), 0);
    }
    neighbour.echo(b"still there?");
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn malformed_queries_cookies_and_forwarded_headers_are_what_is_left_of_them() {
    let trusted = TrustedProxies::by_forwarded("127.0.0.0/8".parse().expect("a network"));
    let (parts, seen) = channel();
    let server = workers(1).trusted_proxies(trusted).start(move |request| {
        let query = request.query_pairs().map(|(name, value)| format!("{name}={value}"));
        let cookies = request.cookies().map(|(name, value)| format!("{name}:{value}"));
        let client = request.peer_addr().map(|it| it.ip().to_string());
        let _ = parts.send((query.chain(cookies).collect::<Vec<_>>().join(" "), client));
        Upgrade::accept(EchoListener)
    });
    let server = server.expect("it starts");
    for (target, lines, left, client) in [
        ("/?a=%zz&=&&b=%ff&c", "", "a=%zz = b=\u{fffd} c=", "127.0.0.1"),
        ("/?%00=%0d%0aX:1", "", "\0=\r\nX:1", "127.0.0.1"),
        ("/", "Cookie: ;;=;a;=b; c=\"d; e==\r\n", "c:\"d e:=", "127.0.0.1"),
        ("/", "Cookie: a=\u{e4}\r\nCookie: b=1\r\n", "a:\u{e4} b:1", "127.0.0.1"),
        ("/", "Forwarded: for=\"1.1.1.1\r\n", "", "127.0.0.1"),
        ("/", "Forwarded: for=1.1.1.1, for=x, \r\n", "", "127.0.0.1"),
        ("/", "Forwarded: for=1.1.1.1, for=192.0.2.7\r\n", "", "192.0.2.7"),
        ("/", "Forwarded: for=\"[::1\"\r\nX-Forwarded-For: 1.1.1.1\r\n", "", "127.0.0.1"),
    ] {
        let answer = Client::connect(address(&server)).ask(target, lines);
        assert_eq!(answer.status, 101, "{target} {lines}");
        let (parts, from) = seen.recv().expect("the factory was asked");
        assert_eq!((&*parts, from.as_deref()), (left, Some(client)), "{target} {lines}");
    }
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}

#[test]
fn bytes_behind_an_upgrade_are_frames_and_no_request() {
    if common::is_over_tls() {
        return;
    }
    let (paths, asked) = channel();
    let server = workers(1).start(move |request| {
        let _ = paths.send(request.path().to_owned());
        Upgrade::accept(EchoListener)
    });
    let server = server.expect("it starts");
    let mut client = Client::connect(address(&server));
    client.write([upgrade_request("/", ""), HIDDEN.to_owned()].concat().as_bytes());
    assert_eq!(client.response().status, 101);
    // `G` is a frame with RSV bits, and unmasked.
    assert_eq!(client.receive().payload[..2], 1002_u16.to_be_bytes());
    client.read_to_end();
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["/"]);
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}
