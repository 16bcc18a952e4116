//! Requests by which another one is smuggled past a proxy in front: each form is refused, or answered
//! once, and what is behind it reaches no factory.

mod common;

use common::{Client, address, workers};
use picows_uring::{EchoListener, Upgrade, UpgradeResponse};
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
    client.write([common::upgrade_request("/", ""), HIDDEN.to_owned()].concat().as_bytes());
    assert_eq!(client.response().status, 101);
    // `G` is a frame with RSV bits, and unmasked.
    assert_eq!(client.receive().payload[..2], 1002_u16.to_be_bytes());
    client.read_to_end();
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["/"]);
    server.stop_within(Duration::ZERO).expect("no worker has failed");
}
