//! Redirects to another origin: what was given for the first one does not go there unasked.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

mod scripted;

use picows_uring::{Backoff, Connect, ConnectError, ConnectFault, Reconnect, RedirectKeeps};
use scripted::{Heard, PATIENCE, Request, answers, connected, refused, run};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// A server whose requests can be looked at.
fn observed(
    answer: impl Fn(&Request) -> String + Send + Sync + 'static,
) -> (String, mpsc::Receiver<Request>) {
    let (seen, requests) = mpsc::channel();
    let seen = Mutex::new(seen);
    let url = answers(move |request| {
        let _ = seen.lock().unwrap().send(request.clone());
        answer(request)
    });
    (url, requests)
}

/// Leads to `to`, first within its own origin.
fn leading_to(to: &str) -> (String, mpsc::Receiver<Request>) {
    let location = to.to_owned();
    observed(move |request| {
        let location = if request.target() == "/here" { &location } else { "/here" };
        format!("HTTP/1.1 307 Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    })
}

/// With secrets in every place that has room for one.
fn with_secrets(url: &str) -> Connect {
    Connect::new(format!("{url}?token=SECRET-0"))
        .header("Authorization", "Bearer SECRET-1")
        .header("Cookie", "a=SECRET-2")
        .header("X-Api-Key", "SECRET-3")
        .header("X-Auth-Token", "SECRET-4")
        .header("Host", "virtual.example")
        .header("User-Agent", "test")
        .subprotocol("bearer.SECRET-5")
}

/// All requests that have arrived, of which there is one.
fn arrived(requests: &mpsc::Receiver<Request>) -> Vec<Request> {
    let first = requests.recv_timeout(PATIENCE).unwrap();
    [first].into_iter().chain(requests.try_iter()).collect()
}

fn expect_another_origin(error: &ConnectError, names: &str) {
    assert!(matches!(error.fault(), ConnectFault::Redirect { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("another origin") && text.contains("redirect_keeps(…)"), "{text}");
    assert!(text.contains(names) && !text.contains("SECRET"), "{text}");
    assert_eq!(error.response().unwrap().status().as_u16(), 307);
    assert!(!error.is_transient());
}

#[test]
fn another_origin_is_not_asked_when_anything_was_given_for_the_first() {
    let (there, asked) = observed(|request| request.accepted(""));
    let (from, first) = leading_to(&there);
    let error = refused(with_secrets(&format!("{from}x")));
    let names = "(Authorization, Cookie, X-Api-Key, X-Auth-Token, subprotocol offers)";
    expect_another_origin(&error, names);
    assert_eq!(arrived(&first).len(), 2);
    // A single one is enough.
    for (connect, name) in [
        (Connect::new(&*from).header("x-trace", "1"), "(x-trace)"),
        (Connect::new(&*from).subprotocol("chat"), "(subprotocol offers)"),
    ] {
        expect_another_origin(&refused(connect), name);
        let first = arrived(&first);
        assert_eq!(first.len(), 2, "within its origin a redirect is followed");
        assert_eq!(first[0].headers("x-trace"), first[1].headers("x-trace"));
        let offers = "sec-websocket-protocol";
        assert_eq!(first[0].headers(offers), first[1].headers(offers));
    }
    assert_eq!(asked.try_iter().count(), 0);
}

#[test]
fn with_nothing_given_redirects_lead_anywhere() {
    let (there, asked) = observed(|request| request.accepted(""));
    let (from, _) = leading_to(&there);
    let connect = Connect::new(from).header("Host", "virtual.example").header("User-Agent", "test");
    connected(connect, |_| ());
    let asked = arrived(&asked);
    let own = there.trim_start_matches("ws://").trim_end_matches('/');
    assert_eq!(asked[0].headers("host"), [own], "the other host is told its own name");
    assert_eq!(asked[0].headers("user-agent"), ["test"]);
}

#[test]
fn what_follows_is_what_was_said() {
    use RedirectKeeps::{Headers, HeadersAndSubprotocols, Nothing, Subprotocols};
    for (keeps, headers, subprotocols) in
        [(Nothing, 0, 0), (Headers, 4, 0), (Subprotocols, 0, 1), (HeadersAndSubprotocols, 4, 1)]
    {
        let (there, asked) = observed(|request| request.accepted(""));
        let (from, first) = leading_to(&there);
        connected(with_secrets(&from).redirect_keeps(keeps), |_| ());
        for request in arrived(&first) {
            assert_eq!(
                request.0.matches("SECRET").count(),
                5 + usize::from(request.target() != "/here")
            );
        }
        for request in arrived(&asked) {
            let offers = request.headers("sec-websocket-protocol");
            assert_eq!(offers.len(), subprotocols, "{keeps:?}\n{request:?}");
            let secrets = request.0.matches("SECRET").count();
            assert_eq!(secrets, headers + subprotocols, "{keeps:?}\n{request:?}");
            assert_ne!(request.headers("host"), ["virtual.example"]);
        }
    }
}

#[test]
fn what_was_left_out_does_not_come_back() {
    // There and back: the second origin may lead anywhere, also to a trap of the first.
    let (first_seen, first_requests) = mpsc::channel();
    let first_seen = Mutex::new(first_seen);
    let first_url = std::sync::Arc::new(Mutex::new(String::new()));
    let back = std::sync::Arc::clone(&first_url);
    let there = answers(move |_| {
        let location = back.lock().unwrap().clone() + "back";
        format!("HTTP/1.1 302 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
    });
    let first = answers(move |request| {
        first_seen.lock().unwrap().send(request.clone()).unwrap();
        match request.target() {
            "/back" => request.accepted(""),
            _ => format!("HTTP/1.1 302 X\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n"),
        }
    });
    first_url.lock().unwrap().clone_from(&first);
    connected(with_secrets(&first).redirect_keeps(RedirectKeeps::Nothing), |_| ());
    let requests = arrived(&first_requests);
    assert!(requests[0].0.contains("SECRET"));
    assert!(!requests[1].0.contains("SECRET"), "{:?}", requests[1]);
}

#[test]
fn reconnecting_begins_with_the_first_origin_and_what_was_given_for_it() {
    let (there, asked) = observed(|_| "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned());
    let (from, first) = leading_to(&there);
    let connect = move || with_secrets(&from).redirect_keeps(RedirectKeeps::Nothing);
    let backoff = Backoff::default().initial(Duration::from_millis(1));
    let reconnect = Reconnect::new(connect).backoff(backoff).max_attempts(3);
    assert!(run(reconnect.run(Heard::default)).unwrap().is_err());
    let (first, asked) = (arrived(&first), arrived(&asked));
    assert_eq!((first.len(), asked.len()), (6, 3));
    assert!(first.iter().all(|request| request.headers("x-api-key") == ["SECRET-3"]));
    assert!(!asked.iter().any(|request| request.0.contains("SECRET")));
}

#[test]
fn tls_on_the_same_host_is_the_same_origin_and_less_security_is_none() {
    // Nothing listens on the default ports here, so what counts is which error it is.
    let to = |location: &'static str| {
        let (url, _requests) = observed(move |_| {
            format!("HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
        });
        refused(with_secrets(&url))
    };
    // From another port than 80.
    expect_another_origin(&to("wss://127.0.0.1/"), "X-Api-Key");
    expect_another_origin(&to("ws://localhost/"), "X-Api-Key");
    let error = to("ws+unix:/run/picows.sock");
    assert!(error.to_string().contains("has to be ws or wss"), "{error}");
}
