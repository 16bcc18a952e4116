//! The rules of RFC 6455 §4.2.1, and the choice of a subprotocol.

use http::StatusCode;

use super::super::{
    HandshakeMisuse, UpgradeError, UpgradeResponse, check_subprotocol, select_subprotocol,
};
use super::{SAMPLE_ACCEPT, SAMPLE_REQUEST, get, parsed};

/// A good handshake in header lines, to be bent by a test.
const GOOD: [&str; 4] = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

/// Judges the good handshake after the line called `name` has been replaced by `lines`.
fn judge(name: &str, lines: &[&str]) -> Result<String, UpgradeError> {
    let kept = GOOD.iter().filter(|line| !line.starts_with(&format!("{name}:")));
    let lines: Vec<_> = kept.chain(lines).map(|line| format!("{line}\r\n")).collect();
    let request = parsed(&get(lines.concat().as_bytes()));
    request.validate_upgrade().map(|accept| accept.to_string())
}

#[test]
fn sample_of_rfc_6455_section_1_3_is_accepted() {
    let accept = parsed(SAMPLE_REQUEST).validate_upgrade().unwrap();
    assert_eq!(accept.as_str(), SAMPLE_ACCEPT);
}

#[test]
fn upgrade_is_a_list_in_any_case() {
    for line in ["Upgrade: WebSocket", "UPGRADE:WEBSOCKET", "Upgrade: h2c, websocket"] {
        assert_eq!(judge("Upgrade", &[line]), Ok(SAMPLE_ACCEPT.into()), "{line}");
    }
    assert!(judge("Upgrade", &["Upgrade: h2c", "Upgrade: websocket"]).is_ok());
    assert_eq!(judge("Upgrade", &[]), Err(UpgradeError::MissingUpgrade));
    for line in ["Upgrade: ", "Upgrade: h2c", "Upgrade: websocket2", "Upgrade: websocket/13"] {
        assert_eq!(judge("Upgrade", &[line]), Err(UpgradeError::InvalidUpgrade), "{line}");
    }
}

#[test]
fn connection_is_a_list_as_firefox_sends_it() {
    for line in ["Connection: keep-alive, Upgrade", "connection: upgrade", "Connection: ,UPGRADE,"]
    {
        assert_eq!(judge("Connection", &[line]), Ok(SAMPLE_ACCEPT.into()), "{line}");
    }
    assert!(judge("Connection", &["Connection: keep-alive", "Connection: upgrade"]).is_ok());
    assert_eq!(judge("Connection", &[]), Err(UpgradeError::MissingConnection));
    for line in ["Connection: close", "Connection: keep-alive Upgrade", "Connection: upgrades"] {
        assert_eq!(judge("Connection", &[line]), Err(UpgradeError::InvalidConnection), "{line}");
    }
}

#[test]
fn only_version_13_is_spoken() {
    let name = "Sec-WebSocket-Version";
    for version in ["12", "8", "7", "0", "013", "13, 8", "", "\u{e9}"] {
        let error = judge(name, &[&format!("{name}: {version}")]).unwrap_err();
        assert_eq!(error, UpgradeError::UnsupportedVersion, "{version:?}");
        assert_eq!(error.status(), StatusCode::UPGRADE_REQUIRED);
    }
    assert_eq!(judge(name, &[]), Err(UpgradeError::MissingVersion));
    let twice = judge(name, &["Sec-WebSocket-Version: 13", "sec-websocket-version: 13"]);
    assert_eq!(twice, Err(UpgradeError::RepeatedVersion));
}

#[test]
fn the_key_is_the_base64_of_16_bytes_and_there_once() {
    let name = "Sec-WebSocket-Key";
    assert_eq!(judge(name, &[]), Err(UpgradeError::MissingKey));
    let key = GOOD[2];
    assert_eq!(judge(name, &[key, key]), Err(UpgradeError::RepeatedKey));
    for key in ["", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZQ==garbage", "dGhlIHNhbXBsZSBub25j\u{e9}=="] {
        let line = format!("{name}: {key}");
        assert_eq!(judge(name, &[&line]), Err(UpgradeError::InvalidKey), "{key:?}");
    }
}

#[test]
fn host_names_the_server() {
    // RFC 6455 §4.2.1, item 2.
    let lines: String = GOOD.iter().map(|line| format!("{line}\r\n")).collect();
    let judge = |first: &str| parsed(format!("{first}{lines}\r\n").as_bytes()).validate_upgrade();
    assert_eq!(judge("GET / HTTP/1.1\r\nHost:\r\n"), Err(UpgradeError::EmptyHost));
    assert!(judge("GET ws://a/ HTTP/1.1\r\nHost:\r\n").is_ok(), "the target does");
}

#[test]
fn a_handshake_is_a_get_of_http_1_1() {
    // RFC 6455 §4.1, items 1 and 2; RFC 9110 §7.8.
    let lines: String = GOOD.iter().map(|line| format!("{line}\r\n")).collect();
    for (first, fault) in [
        ("HEAD / HTTP/1.1", UpgradeError::NotGet),
        ("HEAD / HTTP/1.0", UpgradeError::NotGet),
        ("GET / HTTP/1.0", UpgradeError::NotHttp11),
    ] {
        let request = parsed(format!("{first}\r\nHost: a\r\n{lines}\r\n").as_bytes());
        assert!(!request.is_upgrade(), "{first}");
        assert_eq!(request.validate_upgrade(), Err(fault), "{first}");
    }
    let refusal = UpgradeResponse::from(UpgradeError::NotGet);
    assert_eq!(
        (refusal.status.as_u16(), &refusal.headers["allow"]),
        (405, &"GET".parse().unwrap())
    );
    // One that does not even try gets the same answer as a plain GET.
    let head = parsed(b"HEAD / HTTP/1.0\r\n\r\n");
    assert_eq!(head.validate_upgrade(), Err(UpgradeError::MissingUpgrade));
}

#[test]
fn every_other_fault_is_a_400_with_a_text_of_its_own() {
    use UpgradeError as E;
    let faults = [
        E::MissingUpgrade,
        E::InvalidUpgrade,
        E::MissingConnection,
        E::InvalidConnection,
        E::MissingVersion,
        E::RepeatedVersion,
        E::MissingKey,
        E::RepeatedKey,
        E::InvalidKey,
        E::EmptyHost,
        E::NotHttp11,
    ];
    let texts: std::collections::HashSet<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), faults.len());
    assert!(faults.iter().all(|fault| fault.status() == StatusCode::BAD_REQUEST));
}

#[test]
fn a_bad_handshake_is_still_told_from_a_plain_get() {
    assert!(parsed(&get(b"Upgrade: websocket\r\nConnection: x, upgrade\r\n")).is_upgrade());
    assert!(!parsed(&get(b"Upgrade: websocket\r\n")).is_upgrade());
    assert!(!parsed(&get(b"")).is_upgrade());
}

#[test]
fn the_order_of_the_server_decides() {
    let request =
        parsed(&get(b"Sec-WebSocket-Protocol: superchat\r\nSec-WebSocket-Protocol: chat\r\n"));
    let select = |supported: &[&str]| select_subprotocol(&request, supported);
    assert_eq!(select(&["chat", "superchat"]).as_deref(), Some("chat"));
    assert_eq!(select(&["mqtt", "superchat"]).as_deref(), Some("superchat"));
    assert_eq!(select(&["mqtt", "Chat"]), None);
    assert_eq!(select(&[]), None);
}

#[test]
fn a_subprotocol_that_was_not_offered_cannot_be_chosen() {
    let request = parsed(SAMPLE_REQUEST);
    assert_eq!(check_subprotocol(&request, "superchat"), Ok(()));
    for subprotocol in ["mqtt", "CHAT", "chat, superchat", "", "chat\r\nX: y"] {
        let misuse = HandshakeMisuse::SubprotocolNotOffered { subprotocol: subprotocol.into() };
        assert_eq!(check_subprotocol(&request, subprotocol), Err(misuse));
    }
}
