//! Answers of a server, as bytes.

use http::{HeaderMap, HeaderValue, StatusCode};

use super::super::{
    AcceptKey, HandshakeMisuse, HeadError, RequestError, UpgradeError, UpgradeResponse,
    encode_switching_protocols,
};
use super::SAMPLE_ACCEPT;

fn encoded(response: &UpgradeResponse) -> String {
    let mut out = b"kept ".to_vec();
    response.encode(&mut out);
    String::from_utf8(out).unwrap().strip_prefix("kept ").unwrap().to_owned()
}

fn switching(subprotocol: Option<&str>, extra: &UpgradeResponse) -> String {
    let accept = AcceptKey::for_key("dGhlIHNhbXBsZSBub25jZQ==");
    let mut out = Vec::new();
    encode_switching_protocols(&mut out, &accept, subprotocol, &extra.headers);
    String::from_utf8(out).unwrap()
}

const PLAIN_101: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

#[test]
fn ok_is_an_empty_plain_text() {
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(encoded(&UpgradeResponse::ok()), text);
    assert!(UpgradeResponse::ok().body.is_empty());
}

#[test]
fn a_content_type_replaces_the_one_before_and_other_names_repeat() {
    let response = UpgradeResponse::text(StatusCode::IM_A_TEAPOT, "\u{2615}")
        .with_header("content-type", "text/html")
        .and_then(|response| response.with_header("Set-Cookie", "a=1"))
        .and_then(|response| response.with_header("set-cookie", "b=2"))
        .unwrap();
    let text = "HTTP/1.1 418 I'm a teapot\r\nContent-Type: text/html\r\nSet-Cookie: a=1\r\n\
        Set-Cookie: b=2\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\u{2615}";
    assert_eq!(encoded(&response), text);
}

#[test]
fn the_connection_is_closed_and_the_length_is_ours_whatever_the_headers_say() {
    let mut response = UpgradeResponse::new(StatusCode::FORBIDDEN).with_body("no");
    response.headers.append("connection", HeaderValue::from_static("keep-alive"));
    response.headers.append("connection", HeaderValue::from_static("x"));
    response.headers.append("content-length", HeaderValue::from_static("99"));
    response.headers.append("transfer-encoding", HeaderValue::from_static("chunked"));
    let text = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    assert_eq!(encoded(&response), text);
}

#[test]
fn statuses_without_a_body_have_none() {
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
        let text = encoded(&UpgradeResponse::new(status).with_body("ignored"));
        assert!(text.ends_with("\r\nConnection: close\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-Length"), "{text}");
    }
}

#[test]
fn a_101_that_the_application_made_up_is_not_sent() {
    for status in [StatusCode::SWITCHING_PROTOCOLS, StatusCode::CONTINUE] {
        let text = encoded(&UpgradeResponse::new(status));
        assert!(text.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{text}");
    }
}

#[test]
fn a_status_without_a_reason_keeps_the_space() {
    let text = encoded(&UpgradeResponse::new(StatusCode::from_u16(799).unwrap()));
    assert!(text.starts_with("HTTP/1.1 799 \r\n"), "{text}");
}

#[test]
fn headers_cannot_split_the_answer() {
    let response = UpgradeResponse::ok;
    for value in ["a\r\nX: y", "a\n", "\r", "a\0", "\x7f"] {
        let misuse = HandshakeMisuse::InvalidHeaderValue { name: "A".into() };
        assert_eq!(response().with_header("A", value), Err(misuse), "{value:?}");
    }
    for name in ["", "A:", "A B", "A\r\n", "\u{e9}"] {
        let misuse = HandshakeMisuse::InvalidHeaderName { name: name.into() };
        assert_eq!(response().with_header(name, "a"), Err(misuse), "{name:?}");
    }
    assert!(response().with_header("A", b"\xe9").is_ok(), "bytes from 0x80 are kept");
}

#[test]
fn the_101_has_what_rfc_6455_section_4_2_2_asks() {
    assert!(PLAIN_101.contains(SAMPLE_ACCEPT));
    let none = UpgradeResponse::new(StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(switching(None, &none), format!("{PLAIN_101}\r\n"));
    let with = format!("{PLAIN_101}Sec-WebSocket-Protocol: chat\r\n\r\n");
    assert_eq!(switching(Some("chat"), &none), with);
}

#[test]
fn the_101_takes_extra_headers_but_none_of_its_own_again() {
    let mut extra = UpgradeResponse::new(StatusCode::SWITCHING_PROTOCOLS);
    let names = [
        "upgrade",
        "connection",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "content-length",
        "transfer-encoding",
        "x-served-by",
    ];
    for name in names {
        extra.headers.append(name, HeaderValue::from_static("0"));
    }
    assert_eq!(switching(None, &extra), format!("{PLAIN_101}X-Served-By: 0\r\n\r\n"));
}

#[test]
fn a_subprotocol_cannot_split_the_101() {
    let none = UpgradeResponse { headers: HeaderMap::new(), ..UpgradeResponse::ok() };
    for subprotocol in ["chat\r\nX: y", "", "a b", "a,b"] {
        assert_eq!(switching(Some(subprotocol), &none), format!("{PLAIN_101}\r\n"));
    }
}

#[test]
fn a_refused_request_gets_the_reason() {
    let response = UpgradeResponse::from(RequestError::ContentLength);
    assert_eq!(response.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(response.body, RequestError::ContentLength.to_string());
    assert_eq!(response.headers["content-type"], "text/plain; charset=utf-8");
    let error = RequestError::Head(HeadError::TooLarge { head_bytes_max: 16384 });
    let text = encoded(&error.into());
    assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\nHTTP head is longer than 16384 bytes"), "{text}");
}

#[test]
fn a_refused_version_gets_the_right_one() {
    // RFC 6455 §4.4.
    let text = encoded(&UpgradeError::UnsupportedVersion.into());
    assert!(text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{text}");
    assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
    assert!(text.contains("\r\nUpgrade: websocket\r\n"), "{text}");
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    let other = UpgradeResponse::from(UpgradeError::MissingKey);
    assert_eq!(other.headers.len(), 1, "only the content type");
    assert_eq!(other.body, "no sec-websocket-key header");
}
