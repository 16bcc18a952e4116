//! The request of a client, as bytes.

use super::super::{ClientHandshake, HandshakeMisuse};
use super::{SAMPLE_ACCEPT, SAMPLE_NONCE, parsed};

fn handshake() -> ClientHandshake {
    ClientHandshake::new("example.com:8080", "/chat?room=7", SAMPLE_NONCE).unwrap()
}

fn encoded(handshake: &ClientHandshake) -> String {
    let mut out = Vec::new();
    handshake.encode(&mut out);
    String::from_utf8(out).unwrap()
}

const PLAIN: &str = "GET /chat?room=7 HTTP/1.1\r\nHost: example.com:8080\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

#[test]
fn request_has_what_rfc_6455_section_4_1_asks_and_no_more() {
    assert_eq!(encoded(&handshake()), format!("{PLAIN}\r\n"));
}

#[test]
fn offers_are_lists_in_the_order_given() {
    let handshake = handshake()
        .with_subprotocols(["superchat", "chat"])
        .and_then(|handshake| handshake.with_subprotocols(["mqtt"]))
        .and_then(|handshake| handshake.with_extension("permessage-deflate; x=\"1,2\""))
        .and_then(|handshake| handshake.with_extension("other"))
        .unwrap();
    let text = format!(
        "{PLAIN}Sec-WebSocket-Protocol: superchat, chat, mqtt\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; x=\"1,2\", other\r\n\r\n"
    );
    assert_eq!(encoded(&handshake), text);
}

#[test]
fn a_server_accepts_it_and_it_is_kept_as_a_server_sees_it() {
    let handshake = handshake().with_header("X-Key", "a").unwrap();
    let request = handshake.request().unwrap();
    assert_eq!(request, parsed(encoded(&handshake).as_bytes()));
    assert_eq!(request.target(), "/chat?room=7");
    assert_eq!(request.header_str("x-key"), Some("a"));
    assert_eq!(request.validate_upgrade().unwrap().as_str(), SAMPLE_ACCEPT);
}

#[test]
fn an_oversized_request_cannot_be_kept_but_does_not_panic() {
    let handshake = handshake().with_header("X", "x".repeat(70_000)).unwrap();
    assert!(handshake.request().is_err());
}

#[test]
fn a_host_of_the_caller_replaces_ours() {
    let handshake = handshake().with_header("host", "other").unwrap();
    assert_eq!(encoded(&handshake), format!("{}\r\n", PLAIN.replace("example.com:8080", "other")));
}

#[test]
fn what_the_handshake_is_made_of_cannot_be_replaced() {
    let names = [
        "Upgrade",
        "connection",
        "Sec-WebSocket-Key",
        "sec-websocket-version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Accept",
        "Content-Length",
        "Transfer-Encoding",
    ];
    for name in names {
        let misuse = HandshakeMisuse::ReservedHeader { name: name.into() };
        assert_eq!(handshake().with_header(name, "0").unwrap_err(), misuse);
    }
}

#[test]
fn nothing_can_split_the_request() {
    let evil = "a\r\nX: y";
    let new = |host, target| ClientHandshake::new(host, target, SAMPLE_NONCE).map(|_| ());
    for host in ["", evil, "a b", "a/b", "user@a", "a,b", "\u{e9}"] {
        let misuse = HandshakeMisuse::InvalidHost { host: host.into() };
        assert_eq!(new(host, "/"), Err(misuse.clone()));
        let overridden = handshake().with_header("Host", host).unwrap_err();
        let no_value = HandshakeMisuse::InvalidHeaderValue { name: "Host".into() };
        assert!(overridden == misuse || (host == evil && overridden == no_value), "{host:?}");
    }
    for target in ["", "chat", "/a b", "/a#b", "/\r\n", "/\u{e9}", "http://a/"] {
        let misuse = HandshakeMisuse::InvalidTarget { target: target.into() };
        assert_eq!(new("[::1]:80", target), Err(misuse));
    }
    for subprotocol in ["", evil, "a b", "a,b", "\u{e9}"] {
        let misuse = HandshakeMisuse::InvalidSubprotocol { subprotocol: subprotocol.into() };
        assert_eq!(handshake().with_subprotocols([subprotocol]).unwrap_err(), misuse);
    }
    for extension in ["", ",", evil, "; x", "a; x=\"open", "a\u{e9}"] {
        let misuse = HandshakeMisuse::InvalidExtension { extension: extension.into() };
        assert_eq!(handshake().with_extension(extension).unwrap_err(), misuse);
    }
    assert!(handshake().with_header("X", evil).is_err());
}

#[test]
fn a_subprotocol_is_offered_once() {
    let misuse = HandshakeMisuse::RepeatedSubprotocol { subprotocol: "chat".into() };
    assert_eq!(handshake().with_subprotocols(["chat", "chat"]).unwrap_err(), misuse);
}

#[test]
fn debug_output_shows_neither_query_nor_values() {
    let handshake = ClientHandshake::new("a", "/chat?token=secret", SAMPLE_NONCE)
        .and_then(|handshake| handshake.with_header("Authorization", "secret"))
        .unwrap();
    let shown = format!("{handshake:?}");
    assert!(shown.contains("/chat") && shown.contains("authorization"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}
