//! Tests of the handshake as its callers see it; what one file does alone is tested there.

mod answer;
mod client;
mod extensions;
mod interim;
mod random;
mod refusal;
mod request;
mod response;
mod rules;
mod upgrade;

use super::{HeadLimits, RequestError, UpgradeRequest};

/// The client's handshake of RFC 6455 §1.2.
const SAMPLE_REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// What the key of RFC 6455 §1.3 decodes to.
const SAMPLE_NONCE: [u8; 16] = *b"the sample nonce";

/// The answer to it.
const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A GET with `Host: a` and these header lines, each ended with CRLF.
fn get(header_lines: &[u8]) -> Vec<u8> {
    [GET, header_lines, b"\r\n"].concat()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n";

fn parse(wire: &[u8]) -> Result<Option<UpgradeRequest>, RequestError> {
    let parsed = UpgradeRequest::parse(wire, &HeadLimits::default())?;
    Ok(parsed.map(|(request, _)| request))
}

fn parsed(wire: &[u8]) -> UpgradeRequest {
    parse(wire).unwrap().unwrap()
}

fn refused(wire: &[u8]) -> RequestError {
    parse(wire).unwrap_err()
}
