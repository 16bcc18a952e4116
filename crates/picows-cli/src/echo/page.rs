//! The page that the echo server answers to browsers: it connects back and shows what comes.

use picows_uring::{Upgrade, UpgradeRequest, UpgradeResponse};

/// The answer to a browser that opens the address of the server.
pub(super) fn answer(request: &UpgradeRequest) -> Option<Upgrade> {
    // A faulty upgrade is refused with its fault.
    let is_websocket = |name: &str| {
        let start = name.as_bytes().get(..WEBSOCKET.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(WEBSOCKET))
    };
    let means_upgrade = request.headers().any(|(name, _)| is_websocket(name));
    if request.is_upgrade() || means_upgrade || request.path() != "/" {
        return None;
    }
    let response = UpgradeResponse::ok().with_body(PAGE);
    let response = response.with_header("Content-Type", "text/html; charset=utf-8").ok()?;
    let response = response.with_header("Content-Security-Policy", POLICY).ok()?;
    Some(Upgrade::respond(response))
}

/// Headers of handshakes begin with it, in any case.
const WEBSOCKET: &[u8] = b"Sec-WebSocket-";
/// One file, without anything from elsewhere.
const PAGE: &str = include_str!("page.html");
/// What the page needs: the scripts and styles in it, and its own server.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
