//! Answers as a client judges them.

use http::StatusCode;

use super::super::{
    ClientHandshake, HeadError, HeadLimits, InvalidMessage, MessageFault, REJECTED_BODY_BYTES_MAX,
    RejectedResponse, ResponseError, ResponseHead, ResponseScanner,
};
use super::{SAMPLE_ACCEPT, SAMPLE_NONCE};

/// The server's handshake of RFC 6455 §1.2.
const SAMPLE_RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat\r\n\r\n";

fn handshake() -> ClientHandshake {
    ClientHandshake::new("server.example.com", "/chat", SAMPLE_NONCE)
        .and_then(|handshake| handshake.with_subprotocols(["chat", "superchat"]))
        .and_then(|handshake| {
            handshake.with_extension("permessage-deflate; server_max_window_bits")
        })
        .unwrap()
}

fn judge(wire: &[u8]) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
    handshake().parse_response(wire, &HeadLimits::default())
}

fn accepted(wire: &[u8]) -> ResponseHead {
    judge(wire).unwrap().unwrap().0
}

/// A good 101, without subprotocol, after the line called `name` has been replaced by `lines`.
fn bent(name: &str, lines: &[u8]) -> Vec<u8> {
    let good = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        &format!("Sec-WebSocket-Accept: {SAMPLE_ACCEPT}"),
    ];
    let mut wire = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
    for line in good.iter().filter(|line| !line.starts_with(&format!("{name}:"))) {
        wire.extend_from_slice(format!("{line}\r\n").as_bytes());
    }
    [&wire[..], lines, b"\r\n"].concat()
}

fn refused(wire: &[u8]) -> ResponseError {
    judge(wire).unwrap_err()
}

fn invalid_message(wire: &[u8]) -> InvalidMessage {
    match refused(wire) {
        ResponseError::InvalidMessage(message) => *message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sample_of_rfc_6455_section_1_2_is_accepted() {
    let head = accepted(SAMPLE_RESPONSE);
    assert_eq!(head.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!((head.version(), head.reason()), ("HTTP/1.1", "Switching Protocols".into()));
    assert_eq!(head.header_str("CONNECTION"), Some("Upgrade"));
    assert_eq!(head.subprotocol(), Some("chat"));
    assert_eq!(head.headers().count(), 4);
    assert_eq!(head.extensions().count(), 0);
}

#[test]
fn every_split_point_gives_none_until_the_end_and_then_the_same() {
    let wire = [SAMPLE_RESPONSE, b"\x81\x00"].concat();
    let whole = accepted(SAMPLE_RESPONSE);
    for cut in 0..SAMPLE_RESPONSE.len() {
        assert_eq!(judge(&wire[..cut]), Ok(None), "cut={cut}");
        let (mut scanner, limits) = (ResponseScanner::new(), HeadLimits::default());
        let handshake = handshake();
        assert_eq!(handshake.parse_response_with(&mut scanner, &wire[..cut], &limits), Ok(None));
        let parsed = handshake.parse_response_with(&mut scanner, &wire, &limits).unwrap().unwrap();
        assert_eq!(parsed, (whole.clone(), SAMPLE_RESPONSE.len()), "cut={cut}");
    }
}

#[test]
fn bytes_after_the_head_are_the_first_frames() {
    let wire = [SAMPLE_RESPONSE, b"\x81\x00"].concat();
    let (_, length) = judge(&wire).unwrap().unwrap();
    assert_eq!(&wire[length..], b"\x81\x00");
}

#[test]
fn any_reason_will_do() {
    for (reason, shown) in
        [(&b" null"[..], "null"), (b" ", ""), (b"", ""), (b" d\xe9j\t!", "d\u{fffd}j\t!")]
    {
        let good = bent("", b"");
        let headers = good.strip_prefix(b"HTTP/1.1 101 Switching Protocols").unwrap();
        let wire = [b"HTTP/1.1 101", reason, headers].concat();
        assert_eq!(accepted(&wire).reason(), shown);
    }
}

#[test]
fn names_and_tokens_have_no_case_and_connection_is_a_list() {
    assert!(judge(&bent("Upgrade", b"uPGRADE: WebSocket\r\n")).is_ok());
    assert!(judge(&bent("Connection", b"Connection: keep-alive, upgrade\r\n")).is_ok());
    assert!(judge(&bent("Connection", b"Connection: x\r\nConnection: Upgrade\r\n")).is_ok());
    let head = accepted(&bent("", b"Content-Length: 0\r\nX: \x80\r\n"));
    assert_eq!(head.header("x"), Some(&b"\x80"[..]));
}

#[test]
fn bad_status_lines_are_no_message() {
    let cases: [(&[u8], MessageFault, Option<u16>); 9] = [
        (b"HTTP/1.1 101 bad\x01reason", MessageFault::MalformedStatusLine, Some(101)),
        (b"HTTP/1.1 101 bad\x7f", MessageFault::MalformedStatusLine, Some(101)),
        (b"HTTP/1.1 abc Switching", MessageFault::MalformedStatusLine, None),
        (b"HTTP/1.1 1010 Switching", MessageFault::MalformedStatusLine, None),
        (b"HTTP/1.1 099 X", MessageFault::MalformedStatusLine, None),
        (b"HTTP/1.1  101 X", MessageFault::MalformedStatusLine, Some(101)),
        (b"HTTP/1.1", MessageFault::MalformedStatusLine, None),
        (b"HTTP/1.0 101 X", MessageFault::UnsupportedVersion, Some(101)),
        (b"HTTP/2 101", MessageFault::UnsupportedVersion, Some(101)),
    ];
    for (line, fault, status) in cases {
        let head = [line, b"\r\nUpgrade: websocket\r\n\r\n"].concat();
        let message = invalid_message(&[&head[..], b"body"].concat());
        let shown = line.escape_ascii();
        assert_eq!(
            (message.fault, message.status.map(|it| it.as_u16())),
            (fault, status),
            "{shown}"
        );
        assert_eq!((&message.head[..], &message.body[..]), (&head[..], &b"body"[..]));
    }
}

#[test]
fn what_is_no_http_is_an_error_at_once() {
    assert_eq!(invalid_message(b"NOT-HTTP").fault, MessageFault::NotHttp);
    assert_eq!(invalid_message(b"\r\n\r\n").fault, MessageFault::NotHttp);
    assert_eq!(invalid_message(b"\x15\x03\x01\x00\x02\x02").fault, MessageFault::Tls);
    assert_eq!(invalid_message(b"NOT-HTTP").head, b"NOT-HTTP");
    assert_eq!(refused(b"x").response(), None);
}

#[test]
fn malformed_headers_are_no_message_but_tell_the_status() {
    let cases: [(&[u8], HeadError); 6] = [
        (b"no colon", HeadError::MissingColon),
        (b"A: x\r\n folded", HeadError::FoldedHeader),
        (b"A : x", HeadError::InvalidHeaderName),
        (b"A(: x", HeadError::InvalidHeaderName),
        (b"A: \0", HeadError::InvalidHeaderValue),
        (b"A: x\ry", HeadError::InvalidHeaderValue),
    ];
    for (line, fault) in cases {
        let wire = bent("", &[line, b"\r\n"].concat());
        let message = invalid_message(&wire);
        assert_eq!(message.fault, MessageFault::Head(fault), "{}", line.escape_ascii());
        assert_eq!(message.status, Some(StatusCode::SWITCHING_PROTOCOLS));
        assert_eq!(message.head, wire);
    }
}

#[test]
fn large_heads_are_refused_complete_or_not() {
    let wire = bent("", &[b"X: ".to_vec(), vec![b'x'; 16 * 1024], b"\r\n".to_vec()].concat());
    for wire in [&wire[..], &wire[..16 * 1024]] {
        let message = invalid_message(wire);
        let fault = HeadError::TooLarge { head_bytes_max: 16 * 1024 };
        assert_eq!(message.fault, MessageFault::Head(fault));
        assert_eq!((message.head.len(), message.body.len()), (16 * 1024, 0));
    }
    let many = invalid_message(&bent("", &b"A: x\r\n".repeat(126)));
    assert_eq!(many.fault, MessageFault::Head(HeadError::TooManyHeaders { headers_max: 128 }));
    assert!(judge(&bent("", &b"A: x\r\n".repeat(125))).is_ok());
}

#[test]
fn another_status_is_judged_before_how_its_body_is_framed() {
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 4", "Content-Length: x"] {
        let wire = format!("HTTP/1.1 400 Bad Request\r\n{framing}\r\nX: y\r\n\r\noops");
        let ResponseError::InvalidStatus(response) = refused(wire.as_bytes()) else {
            panic!("{framing}");
        };
        assert_eq!(response.head().status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.head().header_str("x"), Some("y"));
        assert_eq!(response.body(), b"oops");
    }
}

#[test]
fn the_body_of_a_refusal_is_capped() {
    let mut wire = b"HTTP/1.1 500 Oops\r\n\r\n".to_vec();
    wire.resize(wire.len() + 3 * REJECTED_BODY_BYTES_MAX, b'x');
    let mut error = refused(&wire);
    let response = error.response_mut().unwrap();
    assert_eq!(response.body().len(), REJECTED_BODY_BYTES_MAX);
    response.extend_body(b"more");
    assert_eq!(response.body().len(), REJECTED_BODY_BYTES_MAX);
}

#[test]
fn the_rest_of_a_refusals_body_can_be_waited_for() {
    let missing = |head: &str| {
        let error = refused(format!("{head}\r\n\r\nab").as_bytes());
        error.response().map(RejectedResponse::body_missing).unwrap()
    };
    assert_eq!(missing("HTTP/1.1 404 X\r\nContent-Length: 5"), 3);
    assert_eq!(missing("HTTP/1.1 404 X\r\nContent-Length: 1"), 0);
    assert_eq!(missing("HTTP/1.1 404 X"), REJECTED_BODY_BYTES_MAX - 2);
    assert_eq!(missing("HTTP/1.1 204 X\r\nContent-Length: 5"), 0);
    assert_eq!(missing("HTTP/1.1 101 X"), 0);
}

#[test]
fn redirects_carry_where_to() {
    for status in [301, 302, 303, 307, 308] {
        let wire =
            format!("HTTP/1.1 {status} X\r\nLocation: /other?x\r\nContent-Length: 2\r\n\r\nhi");
        let ResponseError::Redirect { location, response } = refused(wire.as_bytes()) else {
            panic!("{status}");
        };
        assert_eq!((&location[..], response.body()), ("/other?x", &b"hi"[..]));
        assert_eq!(response.head().status().as_u16(), status);
    }
    let nowhere = ["301 X", "301 X\r\nLocation:", "300 X\r\nLocation: /", "304 X\r\nLocation: /"];
    for head in nowhere {
        let error = refused(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
        assert!(matches!(error, ResponseError::InvalidStatus(_)), "{head}");
    }
}

#[test]
fn a_101_has_no_body_whatever_its_headers_say_rfc9112_6_3() {
    for field in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Content-Length: 5",
        "Content-Length: invalid",
        "Content-Length:",
        "Content-Length: 0\r\nContent-Length: 7",
        "Content-Length: 5\r\nTransfer-Encoding: gzip, chunked",
    ] {
        let answer = bent("", format!("{field}\r\n").as_bytes());
        let wire = [&answer[..], b"\x81\x00"].concat();
        let (_, length) = judge(&wire).unwrap().unwrap();
        assert_eq!(length, answer.len(), "the first frames follow: {field}");
    }
}

#[test]
fn upgrade_is_websocket_and_nothing_else() {
    let lines: [&[u8]; 5] = [
        b"",
        b"Upgrade: not-websocket\r\n",
        b"Upgrade: websocket, h2c\r\n",
        b"Upgrade: websocket\r\nUpgrade: websocket\r\n",
        b"Upgrade:\r\n",
    ];
    for lines in lines {
        let error = refused(&bent("Upgrade", lines));
        assert!(matches!(error, ResponseError::InvalidUpgrade(_)), "{}", lines.escape_ascii());
    }
    let shown = refused(&bent("Upgrade", b"Upgrade: not-websocket\r\n")).to_string();
    assert_eq!(shown, "invalid upgrade header: \"not-websocket\"");
    assert_eq!(refused(&bent("Upgrade", b"")).to_string(), "invalid upgrade header: missing");
}

#[test]
fn connection_lists_upgrade() {
    for lines in [&b""[..], b"Connection: close\r\n", b"Connection: upgrades\r\n"] {
        let error = refused(&bent("Connection", lines));
        assert!(matches!(error, ResponseError::InvalidConnection(_)), "{}", lines.escape_ascii());
    }
}

#[test]
fn accept_answers_our_key_once() {
    let name = "Sec-WebSocket-Accept";
    let right = format!("{name}: {SAMPLE_ACCEPT}\r\n");
    let wrong = [
        String::new(),
        format!("{name}: \r\n"),
        right.replace('s', "S"),
        right.replace('=', ""),
        format!("{right}{right}"),
    ];
    for lines in wrong {
        let error = refused(&bent(name, lines.as_bytes()));
        assert!(matches!(error, ResponseError::InvalidAccept(_)), "{lines}");
        assert!(error.to_string().starts_with("invalid sec-websocket-accept"));
        assert_eq!(error.response().unwrap().head().status(), StatusCode::SWITCHING_PROTOCOLS);
    }
}

#[test]
fn only_an_offered_subprotocol_is_taken_and_none_is_fine() {
    let with = |value: &str| bent("", format!("Sec-WebSocket-Protocol: {value}\r\n").as_bytes());
    assert_eq!(accepted(&bent("", b"")).subprotocol(), None);
    assert_eq!(accepted(&with("superchat")).subprotocol(), Some("superchat"));
    for value in ["mqtt", "Chat", "chat, superchat", "", "chat\r\nSec-WebSocket-Protocol: chat"] {
        let error = refused(&with(value));
        assert!(matches!(error, ResponseError::InvalidSubprotocol(_)), "{value}");
    }
}

#[test]
fn only_offered_extensions_are_taken() {
    let with = |value: &str| bent("", format!("Sec-WebSocket-Extensions: {value}\r\n").as_bytes());
    for value in ["permessage-deflate", "permessage-deflate; x=\",foo\"", ""] {
        let head = accepted(&with(value));
        assert_eq!(head.extensions().collect::<Vec<_>>(), [value.as_bytes()]);
    }
    for value in [
        "foo",
        "permessage-deflate, foo",
        "permessage-deflate; x=\"",
        "; x",
        "permessage-deflate\r\nSec-WebSocket-Extensions: foo",
    ] {
        let error = refused(&with(value));
        assert!(matches!(error, ResponseError::InvalidExtensions(_)), "{value}");
    }
}

#[test]
fn error_texts_are_short_and_escaped() {
    let error = refused(&bent("Upgrade", &[b"Upgrade: \x9b", &[b'x'; 9000][..], b"\r\n"].concat()));
    let text = error.to_string();
    assert!(
        text.starts_with("invalid upgrade header: \"\\x9bxxx") && text.ends_with("\"..."),
        "{text}"
    );
    assert!(text.len() < 128);
    assert!(format!("{error:?}").len() < 512);
}
