//! Random heads: nothing panics, splits change nothing, and what one side writes the other reads.

use http::StatusCode;
use proptest::prelude::*;

use super::super::{
    ClientHandshake, HeadLimits, HeadScanner, UpgradeRequest, UpgradeResponse,
    encode_switching_protocols,
};
use super::{SAMPLE_NONCE, SAMPLE_REQUEST};

/// Small, so that random input meets them.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 300, headers_max: 9 };

const TOKEN: &str = "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,9}";

/// A good head with a few bytes changed, or pieces of heads in any order.
fn almost_a_head() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let changed = changes.prop_map(|changes| {
        let mut wire = SAMPLE_REQUEST.to_vec();
        for (at, byte) in changes {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        wire
    });
    let pieces = prop::sample::select(vec![
        "GET ",
        "HTTP/1.1",
        " ",
        "/",
        "\r\n",
        "\r",
        "\n",
        "a: b\r\n",
        "Content-Length: 0\r\n",
        "HTTP/1.1 101 ",
        "HEAD ",
        "HTTP/1.0",
        "Host: a\r\n",
        "Expect: 100-continue\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n\r\n",
        ":",
        "\t",
        "x",
        "http://",
        "?",
        "\u{e9}",
        "Upgrade: websocket\r\n",
    ]);
    let pieced =
        proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![changed, pieced, proptest::collection::vec(any::<u8>(), 0..400)]
}

fn client() -> ClientHandshake {
    ClientHandshake::new("a", "/", SAMPLE_NONCE).unwrap()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_every_read_size_gives_the_same(
        wire in almost_a_head(),
        step in 1_usize..40,
    ) {
        let whole = UpgradeRequest::parse(&wire, &LIMITS);
        let mut scanner = HeadScanner::new();
        let mut dripped = Ok(None);
        for end in (0..wire.len()).step_by(step).chain([wire.len()]) {
            dripped = UpgradeRequest::parse_with(&mut scanner, &wire[..end], &LIMITS);
            if dripped != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(&dripped, &whole);
        if let Ok(Some((request, length))) = whole {
            prop_assert!(length <= wire.len());
            prop_assert!(request.path().starts_with('/'));
            let _ = (request.validate_upgrade(), request.to_http(), format!("{request:?}"));
        }
    }

    #[test]
    fn arbitrary_answers_never_panic_and_every_read_size_says_the_same(
        wire in almost_a_head(),
        prefix in prop::sample::select(vec![
            "",
            "HTTP/1.1 101 X\r\n",
            "HTTP/1.1 100 X\r\n\r\n",
            "HTTP/1.1 100\n\nHTTP/1.1 101 X\r\n",
            "HTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.0 503",
            "HTTP/1.0 302 X\nLocation: /\n",
            "HTTP/1.1 429 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]),
        step in 1_u8..40,
    ) {
        crate::testing::fuzzing::client_handshake(&[&[step], prefix.as_bytes(), &wire].concat());
    }

    #[test]
    fn a_server_reads_what_a_client_writes(
        host in "[a-z0-9.]{1,9}(:[0-9]{1,4})?",
        path in "/[a-zA-Z0-9%/._-]{0,20}",
        query in proptest::option::of("[a-z=&?/]{0,20}"),
        nonce: [u8; 16],
        subprotocols in proptest::collection::hash_set(TOKEN, 0..4),
        name in "x-[a-z]{1,9}",
        value in proptest::collection::vec(prop_oneof![0x21_u8..0x7f, 0x80_u8..], 0..20),
        frames in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let target = path.clone() + &query.as_ref().map_or(String::new(), |q| format!("?{q}"));
        let handshake = ClientHandshake::new(&host, &target, nonce)
            .and_then(|handshake| handshake.with_subprotocols(&subprotocols))
            .and_then(|handshake| handshake.with_header(&name, &value))
            .unwrap();
        let mut wire = Vec::new();
        handshake.encode(&mut wire);
        wire.extend_from_slice(&frames);
        let (request, length) =
            UpgradeRequest::parse(&wire, &HeadLimits::default()).unwrap().unwrap();
        prop_assert_eq!(&wire[length..], &frames);
        prop_assert_eq!((request.path(), request.query()), (&path[..], query.as_deref()));
        prop_assert_eq!(request.header_str("host"), Some(&host[..]));
        prop_assert_eq!(request.header(&name), Some(&value[..]));
        prop_assert!(request.subprotocols().eq(subprotocols.iter()));

        // And the client takes the answer.
        let accept = request.validate_upgrade().unwrap();
        let chosen = request.subprotocols().last();
        let extra = UpgradeResponse::new(StatusCode::SWITCHING_PROTOCOLS)
            .with_header(&name, &value)
            .unwrap();
        let mut answer = Vec::new();
        encode_switching_protocols(&mut answer, &accept, chosen, &extra.headers);
        answer.extend_from_slice(&frames);
        let (head, length) =
            handshake.parse_response(&answer, &HeadLimits::default()).unwrap().unwrap();
        prop_assert_eq!(&answer[length..], &frames);
        prop_assert_eq!(head.subprotocol(), chosen);
        prop_assert_eq!(head.header(&name), Some(&value[..]));
    }

    #[test]
    fn a_client_reads_the_refusal_a_server_writes(
        status in 200_u16..=999,
        body in proptest::collection::vec(any::<u8>(), 0..99),
        name in "x-[a-z]{1,9}",
    ) {
        prop_assume!(status != 204 && status != 304);
        let refusal = UpgradeResponse::text(StatusCode::from_u16(status).unwrap(), body.clone())
            .with_header(&name, "y")
            .unwrap();
        let mut wire = Vec::new();
        refusal.encode(&mut wire);
        let error = client().parse_response(&wire, &HeadLimits::default()).unwrap_err();
        let response = error.response().unwrap();
        prop_assert_eq!(response.head().status(), refusal.status);
        prop_assert_eq!(response.head().header_str(&name), Some("y"));
        prop_assert_eq!(response.head().header_str("connection"), Some("close"));
        prop_assert_eq!((response.body(), response.body_missing()), (&body[..], 0));
    }
}
