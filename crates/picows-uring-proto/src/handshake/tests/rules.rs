//! Rules of HTTP for every request (RFC 9112 §2 to §6, RFC 9110 §7.2, §7.8, §10.1.1): each on a
//! plain GET, on a HEAD and on an upgrade, cut at every byte.

use super::super::{
    HeadLimits, HeadScanner, RequestError, UpgradeRequest, UpgradeResponse, encode_continue,
};

/// The answer to a request: 200 if it reaches the application.
fn status(parsed: Result<Option<UpgradeRequest>, RequestError>) -> Option<u16> {
    match parsed {
        Ok(request) => request.map(|_| 200),
        Err(error) => Some(UpgradeResponse::from(error).status.as_u16()),
    }
}

/// Parses `wire` as it comes in two pieces, and byte by byte: the answer has to be the same, and what
/// follows the request is not touched.
#[track_caller]
fn status_at_every_cut(wire: &[u8]) -> u16 {
    let limits = HeadLimits::default();
    let parse = |scanner: &mut HeadScanner, bytes: &[u8]| {
        let parsed = UpgradeRequest::parse_with(scanner, bytes, &limits);
        status(parsed.map(|request| {
            request.map(|(request, length)| {
                assert_eq!(length, wire.len(), "{}", wire.escape_ascii());
                request
            })
        }))
    };
    let whole = parse(&mut HeadScanner::new(), wire);
    let mut drip = HeadScanner::new();
    let dripped = (0..=wire.len()).find_map(|end| parse(&mut drip, &wire[..end]));
    assert_eq!(dripped, whole, "byte by byte: {}", wire.escape_ascii());
    for cut in 0..wire.len() {
        let mut scanner = HeadScanner::new();
        let pieces = parse(&mut scanner, &wire[..cut]).or_else(|| parse(&mut scanner, wire));
        assert_eq!(pieces, whole, "cut={cut}: {}", wire.escape_ascii());
    }
    whole.unwrap_or_else(|| panic!("not complete: {}", wire.escape_ascii()))
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// Each case is what follows the method in the request line, and header lines.
#[track_caller]
fn assert_statuses(cases: &[(&[u8], u16)]) {
    for (lines, expected) in cases {
        for method in ["GET", "HEAD"] {
            for rest in ["", UPGRADE] {
                let wire = [method.as_bytes(), b" ", lines, b"\r\n", rest.as_bytes(), b"\r\n"];
                let wire = wire.concat();
                let status = status_at_every_cut(&wire);
                assert_eq!(status, *expected, "{}", wire.escape_ascii());
            }
        }
    }
}

/// RFC 9112 §2.2: a server SHOULD ignore at least one empty line before the request line: one is
#[test]
fn an_empty_line_in_front_rfc9112_2_2() {
    for rest in ["", UPGRADE] {
        let wire = format!("\r\nGET / HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
        assert_eq!(status_at_every_cut(wire.as_bytes()), 200);
        for front in ["\r\n\r\n", "\n", "\r", "\r\r\n", " \r\n", "\r\n\n", "\r\n "] {
            assert_eq!(status_at_every_cut(format!("{front}{wire}").as_bytes()), 400, "{front:?}");
        }
    }
}

/// RFC 9112 §2.2: a bare CR MUST be invalid, and so MUST be white space before the first header; a
/// bare LF MAY be taken, and is not
#[test]
fn line_ends_rfc9112_2_2() {
    assert_statuses(&[
        (b"/ HTTP/1.1\r\nHost: a\r\nX: a\rb", 400),
        (b"/ HTTP/1.1\r\nHost: a\rX: a", 400),
        (b"/ HTTP/1.1\rHost: a", 400),
        (b"/a\rb HTTP/1.1\r\nHost: a", 400),
        (b"/ HTTP/1.1\nHost: a", 400),
        (b"/ HTTP/1.1\r\nHost: a\nX: b", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\r\nX: b", 400),
        (b"/ HTTP/1.1\r\n Host: a", 400),
        (b"/ HTTP/1.1\r\n\tX: b\r\nHost: a", 400),
        (b"/ HTTP/1.1\r\n \r\nHost: a", 400),
    ]);
}

/// RFC 9112 §2.3: HTTP/1.1 and 1.0 are spoken; another version SHOULD get 505, and what is none 400
#[test]
fn versions_rfc9112_2_3() {
    assert_statuses(&[
        (b"/ HTTP/1.1\r\nHost: a", 200),
        (b"/ HTTP/1.0\r\nHost: a", 200),
        (b"/ HTTP/1.0\r\nX: b", 200),
        (b"/ HTTP/0.9\r\nHost: a", 505),
        (b"/ HTTP/1.2\r\nHost: a", 505),
        (b"/ HTTP/2.0\r\nHost: a", 505),
        (b"/ HTTP/3\r\nHost: a", 505),
        (b"/ HTTP/1.\r\nHost: a", 400),
        (b"/ HTTP/11\r\nHost: a", 400),
        (b"/ HTTP/1.1.1\r\nHost: a", 400),
        (b"/ HTTP /1.1\r\nHost: a", 400),
        (b"/ HTTPS/1.1\r\nHost: a", 400),
        (b"/ http/1.1\r\nHost: a", 400),
        (b"/\r\nHost: a", 400),
    ]);
}

/// RFC 9112 §3: an invalid request line SHOULD get 400: one space between its parts, none around
#[test]
fn the_request_line_rfc9112_3() {
    assert_statuses(&[
        (b" / HTTP/1.1\r\nHost: a", 400),
        (b"/  HTTP/1.1\r\nHost: a", 400),
        (b"/ HTTP/1.1 \r\nHost: a", 400),
        (b"/\tHTTP/1.1\r\nHost: a", 400),
        (b"/ x HTTP/1.1\r\nHost: a", 400),
        (b"/\x0bHTTP/1.1\r\nHost: a", 400),
    ]);
}

/// RFC 9112 §3.1: a method that is known and not allowed SHOULD get 405, one longer than any 501, and
/// what is no token is none
#[test]
fn methods_rfc9112_3_1() {
    for (method, expected) in [
        ("POST", 405),
        ("PUT", 405),
        ("DELETE", 405),
        ("OPTIONS", 405),
        ("CONNECT", 405),
        ("TRACE", 405),
        ("PATCH", 405),
        ("PRI", 405),
        ("get", 405),
        ("GET,HEAD", 400),
        ("G(T", 400),
        ("G\u{e9}T", 400),
        ("AAAAAAAAAAAAAAAAAA", 501),
        ("", 400),
    ] {
        for rest in ["", UPGRADE] {
            let wire = format!("{method} / HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
            assert_eq!(status_at_every_cut(wire.as_bytes()), expected, "{method:?}");
        }
    }
}

/// RFC 9112 §3.2: a path MUST be taken, and an absolute URL MUST be; the other forms are for other
/// methods, and what is invalid SHOULD get 400
#[test]
fn targets_rfc9112_3_2() {
    assert_statuses(&[
        (b"/a?b HTTP/1.1\r\nHost: a", 200),
        (b"http://a/b?c HTTP/1.1\r\nHost: a", 200),
        (b"HTTP://a HTTP/1.1\r\nHost: other", 200),
        (b"wss://[::1]:443/ HTTP/1.1\r\nHost: a", 200),
        (b"a:80 HTTP/1.1\r\nHost: a", 400),
        (b"* HTTP/1.1\r\nHost: a", 400),
        (b"a HTTP/1.1\r\nHost: a", 400),
        (b"?a HTTP/1.1\r\nHost: a", 400),
        (b"ftp://a/ HTTP/1.1\r\nHost: a", 400),
        (b"http:/a HTTP/1.1\r\nHost: a", 400),
        (b"http:///a HTTP/1.1\r\nHost: a", 400),
        (b"http://a@b/ HTTP/1.1\r\nHost: a", 400),
        (b"http://a:b/ HTTP/1.1\r\nHost: a", 400),
        (b"/a#b HTTP/1.1\r\nHost: a", 400),
        (b"/\xc3\xa9 HTTP/1.1\r\nHost: a", 400),
        (b"/\0 HTTP/1.1\r\nHost: a", 400),
        (b"/\x7f HTTP/1.1\r\nHost: a", 400),
    ]);
}

/// RFC 9112 §3.2: HTTP/1.1 without Host, more than one, or one that is invalid MUST get 400
#[test]
fn hosts_rfc9112_3_2() {
    assert_statuses(&[
        (b"/ HTTP/1.1", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: b", 400),
        (b"/ HTTP/1.0\r\nHost: a\r\nHost: b", 400),
        (b"/ HTTP/1.1\r\nHost: a b", 400),
        (b"/ HTTP/1.1\r\nHost: a, b", 400),
        (b"/ HTTP/1.1\r\nHost: a/b", 400),
        (b"/ HTTP/1.1\r\nHost: a@b", 400),
        (b"/ HTTP/1.1\r\nHost: a:port", 400),
        (b"/ HTTP/1.0\r\nHost: a:port", 400),
        (b"/ HTTP/1.1\r\nHost: [::1", 400),
        (b"/ HTTP/1.1\r\nHost: \xff", 400),
        (b"http://a/ HTTP/1.1", 400),
        (b"http://a/ HTTP/1.1\r\nHost: b\r\nHost: c", 400),
        (b"/ HTTP/1.1\r\nHost:a:80\t", 200),
        (b"/ HTTP/1.1\r\nHost: [::1]:80", 200),
        (b"/ HTTP/1.1\r\nHost:", 200),
    ]);
}

/// RFC 9112 §3.2.2: the host of an absolute target MUST replace that of Host
#[test]
fn the_host_of_the_target_wins_rfc9112_3_2_2() {
    for (wire, host) in [
        (&b"GET http://a:80/x HTTP/1.1\r\nHost: b\r\n\r\n"[..], Some("a:80")),
        (b"GET ws://[::1] HTTP/1.1\r\nHost: b\r\n\r\n", Some("[::1]")),
        (b"GET http://a?x HTTP/1.0\r\n\r\n", Some("a")),
        (b"GET /http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Some("b")),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", Some("")),
        (b"GET / HTTP/1.0\r\n\r\n", None),
    ] {
        assert_eq!(super::parsed(wire).host(), host, "{}", wire.escape_ascii());
    }
}

/// RFC 9112 §5: a name is a token; white space before the colon MUST get 400, a folded line too, and a
/// value with a control character is invalid
#[test]
fn headers_rfc9112_5() {
    assert_statuses(&[
        (b"/ HTTP/1.1\r\nHost : a", 400),
        (b"/ HTTP/1.1\r\nHost\t: a", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX : b", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\n: b", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX(: b", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX\xe9: b", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX\0: b", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: b\r\n c", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: b\0", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: \x1b[31m", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: b\x7f", 400),
        (b"/ HTTP/1.1\r\nHost: a\r\nX:\t b \t", 200),
        (b"/ HTTP/1.1\r\nHost: a\r\nX: \xe9", 200),
        (b"/ HTTP/1.1\r\nHost: a\r\nX:", 200),
    ]);
}

/// RFC 9112 §6: lengths that conflict or are invalid, and codings whose last is not chunked, MUST get
/// 400; an unknown coding SHOULD get 501; and no body is taken: 413, 411 if its length is unknown
#[test]
fn bodies_rfc9112_6() {
    assert_statuses(&[
        (b"/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0", 200),
        (b"/ HTTP/1.0\r\nContent-Length: 000", 200),
        (b"/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5", 413),
        (b"/ HTTP/1.0\r\nContent-Length: 5", 413),
        (b"/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999999", 413),
        (b"/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", 411),
        (b"/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , CHUNKED ,", 411),
        (b"/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 501),
        (b"/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501),
    ]);
    let faults: [&[u8]; 24] = [
        b"Content-Length:",
        b"Content-Length: -0",
        b"Content-Length: +0",
        b"Content-Length: 0x0",
        b"Content-Length: 0 0",
        b"Content-Length: 0, 0",
        b"Content-Length: 5, 5",
        b"Content-Length: 0\r\nContent-Length: 0",
        b"Content-Length: 0\r\ncontent-length: 5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nTransfer-Encoding:",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: chunked;a=b",
        b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding: chunked\x0b",
    ];
    for fault in faults {
        assert_statuses(&[(&[b"/ HTTP/1.1\r\nHost: a\r\n", fault].concat(), 400)]);
        assert_statuses(&[(&[b"/ HTTP/1.0\r\nHost: a\r\n", fault].concat(), 400)]);
    }
    assert_statuses(&[(b"/ HTTP/1.0\r\nTransfer-Encoding: chunked", 400)]);
}

/// RFC 9110 §10.1.1: in HTTP/1.0, 100-continue MUST be ignored; another expectation MAY get 417
#[test]
fn expectations_rfc9110_10_1_1() {
    assert_statuses(&[
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue", 200),
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect: , 100-Continue,\r\nExpect: 100-CONTINUE", 200),
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect:", 200),
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect: 200-ok", 417),
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x", 417),
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue;a", 417),
        (b"/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: y=\"z\"", 417),
    ]);
    let expects = |wire: &[u8]| super::parsed(wire).expects_continue();
    assert!(expects(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n"));
    assert!(!expects(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!expects(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n"), "HTTP/1.0 has no 1xx");
}

/// RFC 9110 §9.3.2: the answer to a HEAD MUST NOT have a body, a refusal neither, and SHOULD have the
/// headers of that to a GET
#[test]
fn the_answer_to_a_head_has_no_body_rfc9110_9_3_2() {
    use super::super::is_head_request;
    for head in [&b"HEAD / HTTP/1.1\r\n\r\n"[..], b"HEAD ", b"\r\nHEAD x", b"HEAD / HTTP/2\r\n\r\n"]
    {
        assert!(is_head_request(head));
    }
    for other in [&b""[..], b"\r", b"\r\n\r\nHEAD ", b"HEAD", b"HEADS / ", b"head / ", b"GET / "] {
        assert!(!is_head_request(other));
    }
    for response in [
        UpgradeResponse::ok().with_body("fine"),
        UpgradeResponse::from(RequestError::MissingHost),
        UpgradeResponse::new(http::StatusCode::NO_CONTENT).with_body("ignored"),
        UpgradeResponse::new(http::StatusCode::SWITCHING_PROTOCOLS),
    ] {
        let (mut whole, mut head) = (Vec::new(), Vec::new());
        response.encode(&mut whole);
        response.encode_head(&mut head);
        let end = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(head, whole[..end]);
    }
    let mut interim = Vec::new();
    encode_continue(&mut interim);
    assert_eq!(interim, b"HTTP/1.1 100 Continue\r\n\r\n");
}
