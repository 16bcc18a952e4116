//! The opening handshake (RFC 6455 §4), and URLs as far as they reach us.

use super::*;
use crate::handshake::{
    ClientHandshake, HandshakeMisuse, HeadLimits, UpgradeRequest, select_subprotocol,
};

/// The request that our client says.
fn request() -> String {
    let mut pair = Pair::connecting(Delivery::Whole, &Rules::default());
    String::from_utf8(pair.said_by(Role::Client)).unwrap()
}

/// What our server answers to a request, and whether it is connected then.
fn answer_to(request: &str) -> (String, bool) {
    let mut pair = at_every_split(|delivery| {
        let mut pair = Pair::connecting(delivery, &Rules::default());
        pair.said_by(Role::Client);
        pair.deliver_to_server(request.as_bytes());
        pair
    });
    let is_connected = pair.server.events().contains(&Event::Connected);
    (String::from_utf8(pair.said_by(Role::Server)).unwrap(), is_connected)
}

/// Whether our client takes the answer of our server after `old` was replaced in it.
fn client_takes(old: &str, new: &str) -> bool {
    let pair = at_every_split(|delivery| {
        let mut pair = Pair::connecting(delivery, &Rules::default());
        let request = pair.said_by(Role::Client);
        pair.deliver_to_server(&request);
        let answer = String::from_utf8(pair.said_by(Role::Server)).unwrap();
        assert!(answer.contains(old), "{answer}");
        pair.deliver_to_client(answer.replacen(old, new, 1).as_bytes());
        pair
    });
    match pair.client.events() {
        [Event::Connected] => true,
        [Event::Refused(_)] => false,
        events => panic!("{events:?}"),
    }
}

/// What our server answers to our client's request after `old` was replaced in it.
#[track_caller]
fn answer_to_changed(old: &str, new: &str) -> (String, bool) {
    let request = request();
    assert!(request.contains(old), "{request}");
    answer_to(&request.replacen(old, new, 1))
}

#[track_caller]
fn assert_refused(old: &str, new: &str, status: &str) {
    let (answer, is_connected) = answer_to_changed(old, new);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{old} → {new}: {answer}");
    assert!(!is_connected);
}

/// §4.1: the client MUST send a GET request of at least HTTP/1.1 for the resource name
#[test]
fn the_request_is_a_get_of_http_1_1_rfc6455_4_1() {
    assert!(request().starts_with("GET /chat HTTP/1.1\r\n"));
}

/// §4.1: the request MUST contain Host, Upgrade with websocket, Connection with Upgrade, and version 13
#[test]
fn the_request_has_the_headers_of_the_handshake_rfc6455_4_1() {
    let request = request();
    for line in [
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
    ] {
        assert_eq!(request.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}");
    }
}

/// §4.1: the request MUST contain one Sec-WebSocket-Key, the base64 of 16 bytes
#[test]
fn the_key_is_the_base64_of_its_nonce_rfc6455_4_1() {
    let key = "\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"; // §1.3: "the sample nonce".
    assert_eq!(request().matches(key).count(), 1);
}

/// §4.1: offered subprotocols MUST be tokens, and MUST all be unique
#[test]
fn offered_subprotocols_are_unique_tokens_rfc6455_4_1() {
    let offer = |names: &[&str]| {
        let handshake = ClientHandshake::new("a", "/", [0; 16]).unwrap();
        handshake.with_subprotocols(names.iter().copied()).map(|_| ())
    };
    assert_eq!(offer(&["chat", "superchat"]), Ok(()));
    for bad in ["", "a b", "a,b", "ü", "a\r\nb", "\"a\""] {
        assert!(
            matches!(offer(&[bad]), Err(HandshakeMisuse::InvalidSubprotocol { .. })),
            "{bad:?}"
        );
    }
    assert!(offer(&["chat", "chat"]).is_err());
}

/// §4.1: the client MUST wait for the response before it sends any further data
#[test]
fn nothing_is_sent_before_the_response_rfc6455_4_1() {
    let mut pair = Pair::connecting(Delivery::Whole, &Rules::default());
    let request = pair.said_by(Role::Client);
    pair.client.sender().send_text("too early");
    pair.client.sender().send_close_frame(&CloseFrame::empty());
    assert_eq!(pair.said_by(Role::Client), b"");
    pair.deliver_to_server(&request);
    pair.deliver();
    pair.client.sender().send_text("now");
    pair.deliver();
    assert_eq!(pair.server.texts(), ["now"]);
}

/// §4.1: without Upgrade: websocket in the response, the client MUST fail the connection
#[test]
fn a_response_without_upgrade_fails_rfc6455_4_1() {
    for new in ["", "Upgrade: h2c\r\n", "Upgrade: websocket2\r\n"] {
        assert!(!client_takes("Upgrade: websocket\r\n", new), "{new}");
    }
    assert!(client_takes("Upgrade: websocket\r\n", "UPGRADE: WebSocket\r\n"));
}

/// §4.1: without the token Upgrade in the Connection of the response, the client MUST fail the connection
#[test]
fn a_response_without_connection_fails_rfc6455_4_1() {
    for new in ["", "Connection: close\r\n", "Connection: upgrades\r\n"] {
        assert!(!client_takes("Connection: Upgrade\r\n", new), "{new}");
    }
    assert!(client_takes("Connection: Upgrade\r\n", "Connection: keep-alive, UPGRADE\r\n"));
}

/// §4.1: without the right Sec-WebSocket-Accept, the client MUST fail the connection
#[test]
fn a_response_with_another_accept_fails_rfc6455_4_1() {
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"; // §1.3
    let name = "Sec-WebSocket-Accept";
    for new in [
        String::new(),
        format!("{name}:\r\n"),
        format!("{name}: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        format!("{name}: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        format!("{accept}{accept}"),
    ] {
        assert!(!client_takes(accept, &new), "{new}");
    }
    assert!(client_takes(accept, accept));
}

/// §4.1: a response with an extension that was not offered MUST fail the connection
#[test]
fn a_response_with_an_extension_that_was_not_offered_fails_rfc6455_4_1() {
    assert!(!client_takes("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"));
}

/// §4.1: a response with a subprotocol that was not offered MUST fail the connection
#[test]
fn a_response_with_a_subprotocol_that_was_not_offered_fails_rfc6455_4_1() {
    assert!(!client_takes("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"));
}

/// §4.1: a response with a status other than 101 MUST NOT open the connection
#[test]
fn another_status_opens_nothing_rfc6455_4_1() {
    for status in ["200 OK", "401 Unauthorized", "302 Found", "500 Oops"] {
        assert!(!client_takes("101 Switching Protocols", status), "{status}");
    }
}

/// §4.2.1: a request that is no GET of HTTP/1.1 or later MUST get an HTTP error and no connection
#[test]
fn a_request_by_another_method_is_refused_rfc6455_4_2_1() {
    assert_refused("GET ", "POST ", "405");
    assert_refused("GET ", "HEAD ", "405");
    assert_refused("HTTP/1.1", "HTTP/1.0", "400");
    assert_refused("HTTP/1.1", "HTTP/2.0", "505");
}

/// §4.2.1: a request without Host, Upgrade, Connection or a key of 16 bytes MUST get an HTTP error
#[test]
fn a_request_that_misses_a_header_is_refused_rfc6455_4_2_1() {
    for (line, wrong) in [
        ("Host: server.example.com\r\n", "Host: a\r\nHost: b\r\n"),
        ("Upgrade: websocket\r\n", "Upgrade: h2c\r\n"),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Key: c2hvcnQ=\r\n"),
    ] {
        assert_refused(line, "", "400");
        assert_refused(line, wrong, "400");
    }
}

/// §4.2.1: header names, websocket and Upgrade MUST be matched without regard to case
#[test]
fn case_does_not_matter_rfc6455_4_2_1() {
    for (old, new) in [
        ("Upgrade: websocket", "uPGRADE: WebSocket"),
        ("Connection: Upgrade", "connection: keep-alive, upgrade"),
        ("Sec-WebSocket-Key", "SEC-WEBSOCKET-KEY"),
    ] {
        assert!(answer_to_changed(old, new).1, "{new}");
    }
}

/// §4.2.2: the server MUST answer 101 with Upgrade, Connection and the accept value of the key
#[test]
fn the_response_has_the_headers_of_the_handshake_rfc6455_4_2_2() {
    let (answer, is_connected) = answer_to(&request());
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && is_connected);
    for line in [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", // §1.3
    ] {
        assert_eq!(answer.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line}");
    }
}

/// §4.2.2: another version MUST be refused, with 426 and the version that is understood (§4.4)
#[test]
fn another_version_gets_the_right_one_rfc6455_4_2_2() {
    let (answer, is_connected) = answer_to_changed("Version: 13", "Version: 14");
    assert!(answer.starts_with("HTTP/1.1 426 ") && !is_connected, "{answer}");
    assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
    assert_refused("Sec-WebSocket-Version: 13\r\n", "", "400");
}

/// §4.2.2: the server MUST choose a subprotocol that the client offered, or none
#[test]
fn the_subprotocol_is_one_that_was_offered_rfc6455_4_2_2() {
    let offers = request().replacen("\r\n\r\n", "\r\nSec-WebSocket-Protocol: a, b\r\n\r\n", 1);
    let limits = HeadLimits::default();
    let parsed = UpgradeRequest::parse(offers.as_bytes(), &limits).unwrap().unwrap().0;
    assert_eq!(select_subprotocol(&parsed, &["c", "b"]).as_deref(), Some("b"));
    assert_eq!(select_subprotocol(&parsed, &["c"]), None);
    let (answer, is_connected) = answer_to(&offers);
    assert!(is_connected && !answer.contains("Sec-WebSocket-Protocol"), "none was chosen");
}

/// §4.2.2: the server MUST NOT answer with an extension that was not asked for; we speak none
#[test]
fn no_extension_is_answered_rfc6455_4_2_2() {
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let (answer, is_connected) = answer_to(&request().replacen("\r\n\r\n", offer, 1));
    assert!(is_connected && !answer.contains("Sec-WebSocket-Extensions"));
}

/// §11.3.1: Sec-WebSocket-Key MUST NOT appear more than once in a request
#[test]
fn two_keys_are_refused_rfc6455_11_3_1() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_refused(key, &[key, key].concat(), "400");
}

/// §11.3.5: Sec-WebSocket-Version MUST NOT appear more than once in a request
#[test]
fn two_versions_are_refused_rfc6455_11_3_5() {
    let version = "Sec-WebSocket-Version: 13\r\n";
    assert_refused(version, &[version, "Sec-WebSocket-Version: 8\r\n"].concat(), "400");
}

/// §11.3.4: Sec-WebSocket-Protocol MUST NOT appear more than once in a response
#[test]
fn two_subprotocols_in_a_response_fail_rfc6455_11_3_4() {
    let twice = "\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n\r\n";
    assert!(!client_takes("\r\n\r\n", twice));
}
