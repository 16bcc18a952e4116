//! Requests as HTTP: what is read out of them and what is refused.

use http::StatusCode;

use super::super::{
    HEADERS_MAX, HeadError, HeadLimits, HeadScanner, RequestError, UpgradeRequest, UpgradeResponse,
};
use super::{GET, SAMPLE_REQUEST, get, parse, parsed, refused};

#[test]
fn sample_of_rfc_6455_section_1_2_is_read() {
    let request = parsed(SAMPLE_REQUEST);
    assert_eq!(
        (request.method(), request.target(), request.version()),
        ("GET", "/chat", "HTTP/1.1")
    );
    assert_eq!(request.header_str("HOST"), Some("server.example.com"));
    assert_eq!(request.header("sec-websocket-key"), Some(&b"dGhlIHNhbXBsZSBub25jZQ=="[..]));
    assert_eq!(request.header("Cookie"), None);
    assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    assert_eq!(request.extensions().count(), 0);
    assert_eq!(request.headers().count(), 7);
    assert!(request.is_upgrade());
}

#[test]
fn path_and_query_are_as_sent() {
    let cases = [
        ("/", "/", None),
        ("/chat?room=7&x=%2F?", "/chat", Some("room=7&x=%2F?")),
        ("/?", "/", Some("")),
        ("//a/../b", "//a/../b", None),
        // RFC 6455 §4.2.1, item 1, allows an absolute URL.
        ("http://example.com/chat?x", "/chat", Some("x")),
        ("WS://example.com:80", "/", None),
        ("https://example.com?x", "/", Some("x")),
    ];
    for (target, path, query) in cases {
        let request = parsed(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!((request.target(), request.path(), request.query()), (target, path, query));
    }
}

#[test]
fn values_are_trimmed_and_keep_bytes_from_0x80() {
    let request = parsed(&get(b"A: \t x y\xe9 \t\r\nB:\r\nC: \t \r\n"));
    let headers: Vec<_> = request.headers().skip(1).collect();
    assert_eq!(headers, [("A", &b"x y\xe9"[..]), ("B", b""), ("C", b"")]);
    assert_eq!(request.header_str("A"), None, "not UTF-8");
    assert_eq!(request.header_str("B"), Some(""));
}

#[test]
fn repeated_headers_are_all_there_in_order() {
    let request = parsed(&get(
        b"Sec-WebSocket-Protocol: b, ,a\r\nX: 1\r\nsec-websocket-protocol:c d,\xe9,e\r\n\
          Sec-WebSocket-Extensions: x; y\r\nx: 2\r\nSec-WebSocket-Extensions: z\r\n",
    ));
    assert_eq!(request.header_values("X").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(request.header("x"), Some(&b"1"[..]));
    let offered: Vec<_> = request.subprotocols().collect();
    assert_eq!(offered, ["b", "a", "e"], "what is no token is skipped");
    assert_eq!(request.extensions().collect::<Vec<_>>(), [&b"x; y"[..], b"z"]);
}

#[test]
fn every_split_point_gives_none_until_the_end_and_then_the_same() {
    let wire = [SAMPLE_REQUEST, b"\x81\x85"].concat();
    let whole = parsed(SAMPLE_REQUEST);
    for cut in 0..SAMPLE_REQUEST.len() {
        assert_eq!(parse(&wire[..cut]), Ok(None), "cut={cut}");
        let (mut scanner, limits) = (HeadScanner::new(), HeadLimits::default());
        assert_eq!(UpgradeRequest::parse_with(&mut scanner, &wire[..cut], &limits), Ok(None));
        let (request, length) =
            UpgradeRequest::parse_with(&mut scanner, &wire, &limits).unwrap().unwrap();
        assert_eq!((&request, length), (&whole, SAMPLE_REQUEST.len()), "cut={cut}");
    }
}

#[test]
fn bytes_after_the_head_are_not_consumed() {
    for glued in [&b"\x81\x80abcd"[..], b"\r\n", b"\n", b"GET / HTTP/1.1\r\n\r\n", &[0; 100_000]] {
        let wire = [SAMPLE_REQUEST, glued].concat();
        let (_, length) = UpgradeRequest::parse(&wire, &HeadLimits::default()).unwrap().unwrap();
        assert_eq!(&wire[length..], glued);
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    let lines: [&[u8]; 17] = [
        b"\r\n\r\nGET / HTTP/1.1",
        b"\rGET / HTTP/1.1",
        b"GET",
        b"GET ",
        b"GET /",
        b"GET / ",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1 x",
        b"GET /  HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET\t/\tHTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1.1\t",
        b"GET / HTTP/",
        b"GET / HTTP/1.10",
        b"GET / x",
        b"zzzz",
    ];
    for line in lines {
        let error = refused(&[line, b"\r\nHost: a\r\n\r\n"].concat());
        assert_eq!(error, RequestError::MalformedRequestLine, "{}", line.escape_ascii());
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        assert!(error.to_string().starts_with("malformed request line"));
    }
}

#[test]
fn other_methods_are_refused_by_name() {
    for method in ["POST", "OPTIONS", "PRI", "GETS", "get", "a1!", "UPDATEREDIRECTREF"] {
        let error = refused(format!("{method} / HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!(error, RequestError::UnsupportedMethod { method: method.into() });
        assert_eq!(error.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(error.to_string().contains(method));
        assert_eq!(UpgradeResponse::from(error).headers["allow"], "GET, HEAD");
    }
    let error = refused(b"AAAAAAAAAAAAAAAAAA");
    assert_eq!(
        (&error, error.status()),
        (&RequestError::MethodTooLong, StatusCode::NOT_IMPLEMENTED)
    );
}

#[test]
fn other_versions_are_refused() {
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2", "HTTP/2.0", "HTTP/3", "HTTP/9.9"] {
        let error = refused(format!("GET / {version}\r\n\r\n").as_bytes());
        assert_eq!(error, RequestError::UnsupportedVersion, "{version:?}");
        assert_eq!(error.status(), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    }
}

#[test]
fn an_empty_target_is_refused() {
    assert_eq!(refused(b"GET  HTTP/1.1\r\n\r\n"), RequestError::EmptyTarget);
}

#[test]
fn a_target_that_is_no_percent_encoded_path_is_refused() {
    let targets: [&[u8]; 14] = [
        b"http://user@a/",
        b"http://a:x/",
        b"http://:80/",
        b"http://[::1/",
        b"chat",
        b"*",
        b"example.com:80",
        b"ftp://a/",
        b"http:///a",
        b"http://?x",
        b"/a#b",
        b"/\x7f",
        b"/\xc3\xa9",
        b"/\0",
    ];
    for target in targets {
        let error = refused(&[b"GET ", target, b" HTTP/1.1\r\n\r\n"].concat());
        assert_eq!(error, RequestError::InvalidTarget, "{}", target.escape_ascii());
    }
    assert_eq!(refused(b"GET /\ra HTTP/1.1\r\n\r\n"), RequestError::InvalidTarget);
}

#[test]
fn what_can_never_be_a_get_is_refused_at_once() {
    // A ClientHello never has the empty line that a patient parser would wait for.
    for hello in [&b"\x16"[..], b"\x16\x03\x01\x02\x00\x01"] {
        assert_eq!(refused(hello), RequestError::TlsClientHello);
    }
    assert!(RequestError::TlsClientHello.to_string().contains("plain ws:// port"));
    for garbage in [&b"("[..], b"\0", b"\rG", b"\r\n\r", b"\x81\x80", b" ", b"GET/", b"\n"] {
        assert_eq!(refused(garbage), RequestError::MalformedRequestLine);
    }
    assert!(matches!(refused(b"POST "), RequestError::UnsupportedMethod { .. }));
    for undecided in
        [&b""[..], b"\r", b"\r\n", b"G", b"\r\nGET", b"HEAD", b"POST", b"AAAAAAAAAAAAAAAAA"]
    {
        assert_eq!(parse(undecided), Ok(None));
    }
}

#[test]
fn every_token_character_may_be_in_a_name() {
    // RFC 9110 §5.6.2.
    let name = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let request = parsed(&get(format!("{name}: x\r\n").as_bytes()));
    assert_eq!(request.header_str(name), Some("x"));
    for byte in name.bytes() {
        assert!(parse(&get(&[byte, b':', b'\r', b'\n'])).is_ok(), "{byte}");
    }
}

#[test]
fn malformed_headers_are_refused_by_fault() {
    let cases: [(&[u8], HeadError); 15] = [
        (b": x", HeadError::InvalidHeaderName),
        (b"A : x", HeadError::InvalidHeaderName),
        (b"A\t: x", HeadError::InvalidHeaderName),
        (b"A(: x", HeadError::InvalidHeaderName),
        (b"\xe9: x", HeadError::InvalidHeaderName),
        (b"A\0: x", HeadError::InvalidHeaderName),
        (b"A", HeadError::MissingColon),
        (b" A: x", HeadError::FoldedHeader),
        (b"A: x\r\n\tfolded: y", HeadError::FoldedHeader),
        (b"A: x\r\n ", HeadError::FoldedHeader),
        (b"A: \0", HeadError::InvalidHeaderValue),
        (b"A: x\x08y", HeadError::InvalidHeaderValue),
        (b"A: x\ry", HeadError::InvalidHeaderValue),
        (b"A: x\x7f", HeadError::InvalidHeaderValue),
        (b"A: x\ny", HeadError::BareLineFeed),
    ];
    for (line, fault) in cases {
        let error = refused(&get(&[line, b"\r\nB: y\r\n"].concat()));
        assert_eq!(error, RequestError::Head(fault), "{}", line.escape_ascii());
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }
}

#[test]
fn bare_line_feeds_are_refused_before_the_head_ends() {
    assert_eq!(refused(b"GET / HTTP/1.1\n"), RequestError::Head(HeadError::BareLineFeed));
}

#[test]
fn headers_are_counted() {
    let most = "A: x\r\n".repeat(HEADERS_MAX - 1);
    assert_eq!(parsed(&get(most.as_bytes())).headers().count(), HEADERS_MAX);
    let error = refused(&get(format!("{most}A: x\r\n").as_bytes()));
    assert_eq!(error, RequestError::Head(HeadError::TooManyHeaders { headers_max: 128 }));
    assert_eq!(error.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(error.to_string().contains("more than 128 headers"));
}

#[test]
fn long_heads_are_refused_complete_or_not() {
    let limits = HeadLimits { head_bytes_max: 64, ..HeadLimits::default() };
    let exact = get(format!("A: {}\r\n", "x".repeat(64 - EMPTY - 5)).as_bytes());
    assert_eq!(exact.len(), 64);
    let glued = [&exact[..], b"\x81\x80"].concat();
    let (_, length) = UpgradeRequest::parse(&glued, &limits).unwrap().unwrap();
    assert_eq!(length, 64);
    let long = get(format!("A: {}\r\n", "x".repeat(64 - EMPTY - 5 + 1)).as_bytes());
    for wire in [&long[..], &long[..64], &[long.clone(), vec![0; 99]].concat()] {
        let error = UpgradeRequest::parse(wire, &limits).unwrap_err();
        assert_eq!(error, RequestError::Head(HeadError::TooLarge { head_bytes_max: 64 }));
        assert_eq!(error.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    assert_eq!(UpgradeRequest::parse(&long[..63], &limits), Ok(None));
}

#[test]
fn a_head_of_the_default_limit_is_read_and_one_more_byte_is_not() {
    let filler = "x".repeat(16 * 1024 - EMPTY - 5);
    assert!(parse(&get(format!("A: {filler}\r\n").as_bytes())).unwrap().is_some());
    assert!(parse(&get(format!("A: {filler}x\r\n").as_bytes())).is_err());
}

#[test]
fn offsets_reach_to_the_ceiling() {
    let limits = HeadLimits { head_bytes_max: usize::MAX, headers_max: usize::MAX };
    let wire = get(format!("A: {}\r\nB: y\r\n", "x".repeat(65_535 - EMPTY - 5 - 6)).as_bytes());
    let (request, length) = UpgradeRequest::parse(&wire, &limits).unwrap().unwrap();
    assert_eq!((length, request.header_str("b")), (65_535, Some("y")));
}

#[test]
fn a_plain_zero_or_no_content_length_is_no_body() {
    for line in [&b""[..], b"Content-Length: 0\r\n", b"content-length:\t000\t\r\n"] {
        assert!(parse(&get(line)).is_ok(), "{}", line.escape_ascii());
    }
}

#[test]
fn any_other_content_length_is_refused() {
    let values =
        ["", "-1", "-0", "+0", "0, 0", "zero", "1", "01", "0x0", "0 0", "0\r\nContent-Length: 0"];
    for value in values {
        let error = refused(&get(format!("Content-Length: {value}\r\n").as_bytes()));
        assert!(
            matches!(error, RequestError::ContentLength | RequestError::InvalidContentLength),
            "{value:?}: {error}"
        );
        let is_number = ["1", "01"].contains(&value);
        let status = if is_number { 413 } else { 400 };
        assert_eq!(error.status().as_u16(), status, "{value:?}");
    }
}

#[test]
fn the_peer_address_is_carried() {
    let mut request = parsed(SAMPLE_REQUEST);
    assert_eq!(request.peer_addr(), None);
    let peer = "[::1]:4711".parse().unwrap();
    request.set_peer_addr(peer);
    assert_eq!(request.peer_addr(), Some(peer));
}

#[test]
fn converts_to_the_http_crate() {
    let mut request = parsed(&get(b"A: 1\r\nA: \xe9\r\n"));
    let peer: std::net::SocketAddr = "127.0.0.1:4711".parse().unwrap();
    request.set_peer_addr(peer);
    let converted = request.to_http().unwrap();
    assert_eq!((converted.method(), converted.uri().path()), (&http::Method::GET, "/"));
    let values: Vec<_> =
        converted.headers().get_all("a").iter().map(http::HeaderValue::as_bytes).collect();
    assert_eq!(values, [&b"1"[..], b"\xe9"]);
    assert_eq!(converted.extensions().get(), Some(&peer));
}

#[test]
fn debug_output_shows_neither_query_nor_values() {
    let request = parsed(b"GET /chat?token=secret HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n");
    let shown = format!("{request:?}");
    assert!(shown.contains("/chat") && shown.contains("Cookie"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

/// The length of a request without further headers.
const EMPTY: usize = GET.len() + 2;
