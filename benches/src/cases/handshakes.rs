//! Both sides of the handshake: requests read and answered, answers judged.

use super::Case;
use http::HeaderMap;
use picows_uring_proto::internal::{HeadScanner, parse_request_with};
use picows_uring_proto::{ClientHandshake, HeadLimits, UpgradeRequest, encode_switching_protocols};
use std::hint::black_box;

/// What a browser sends.
const REQUEST: &[u8] = b"GET /feed?symbol=btcusdt HTTP/1.1\r\n\
    Host: example.com:9001\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
    Upgrade: websocket\r\n\
    Origin: http://example.com:9001\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    vec![server_reads(), server_reads_pieces(), server_answers(), client_asks(), client_judges()]
}

fn server_reads() -> Case {
    let limits = HeadLimits::default();
    Case::new("handshake/server/read", move || {
        black_box(UpgradeRequest::parse(black_box(REQUEST), &limits).is_ok());
    })
}

/// The request comes in eight pieces, and each is looked at when it is there.
fn server_reads_pieces() -> Case {
    let limits = HeadLimits::default();
    Case::new("handshake/server/read-in-8-pieces", move || {
        let mut scanner = HeadScanner::new();
        for piece in 1..=8 {
            let input = black_box(&REQUEST[..REQUEST.len() * piece / 8]);
            black_box(parse_request_with(&mut scanner, input, &limits).is_ok());
        }
    })
}

fn server_answers() -> Case {
    let parsed = UpgradeRequest::parse(REQUEST, &HeadLimits::default());
    let (request, _) = parsed.ok().flatten().expect("the request is complete and well-formed");
    let (headers, mut out) = (HeaderMap::new(), Vec::with_capacity(512));
    Case::new("handshake/server/answer", move || {
        out.clear();
        let key = black_box(&request).validate_upgrade();
        encode_switching_protocols(&mut out, &key.expect("it asks for all"), None, &headers);
        black_box(&out);
    })
}

fn client_asks() -> Case {
    let mut out = Vec::with_capacity(512);
    Case::new("handshake/client/ask", move || {
        out.clear();
        handshake().encode(&mut out);
        black_box(&out);
    })
}

fn client_judges() -> Case {
    let (handshake, limits) = (handshake(), HeadLimits::default());
    let request = handshake.request().expect("our own request is well-formed");
    let key = request.validate_upgrade().expect("and complete");
    let mut answer = Vec::new();
    encode_switching_protocols(&mut answer, &key, None, &HeaderMap::new());
    Case::new("handshake/client/judge", move || {
        let judged = handshake.parse_response(black_box(&answer), &limits);
        black_box(judged.expect("it is ours"));
    })
}

fn handshake() -> ClientHandshake {
    ClientHandshake::new(black_box("example.com:9001"), "/feed?symbol=btcusdt", [7; 16])
        .expect("host and target are in order")
}
