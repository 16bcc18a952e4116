//! Requests and responses as C sees them.

use crate::status::{Failure, pwu_status};
use crate::types::{Sized0, pwu_header, pwu_str};
use picows_uring::{ResponseHead, Transport, UpgradeRequest};
use std::net::SocketAddr;
use std::ptr;

/// A request to upgrade, or a plain one.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_request {
    /// sizeof(pwu_request), set by the caller of pwu_get_request.
    pub size: usize,
    /// GET or HEAD.
    pub method: pwu_str,
    /// Path and query, as sent.
    pub target: pwu_str,
    /// HTTP/1.1 or HTTP/1.0.
    pub version: pwu_str,
    /// The whole head, as it was received.
    pub raw_head: pwu_str,
    /// Address and port of the peer; empty on a Unix socket.
    pub peer: pwu_str,
    /// The headers, in the order received.
    pub headers: *const pwu_header,
    /// How many.
    pub count: usize,
}

// SAFETY: the size is first, and all fields are integers and pointers.
unsafe impl Sized0 for pwu_request {
    const DEFAULT: Self = Self {
        size: 0,
        method: pwu_str::EMPTY,
        target: pwu_str::EMPTY,
        version: pwu_str::EMPTY,
        raw_head: pwu_str::EMPTY,
        peer: pwu_str::EMPTY,
        headers: ptr::null(),
        count: 0,
    };
}

/// The answer of a server that agreed to upgrade.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_response {
    /// sizeof(pwu_response), set by the caller of pwu_get_response.
    pub size: usize,
    /// 101.
    pub status: u16,
    /// The whole head, as it was received.
    pub raw_head: pwu_str,
    /// The subprotocol that the server chose; empty for none.
    pub subprotocol: pwu_str,
    /// The headers, in the order received.
    pub headers: *const pwu_header,
    /// How many.
    pub count: usize,
}

// SAFETY: the size is first, and all fields are integers and pointers.
unsafe impl Sized0 for pwu_response {
    const DEFAULT: Self = Self {
        size: 0,
        status: 0,
        raw_head: pwu_str::EMPTY,
        subprotocol: pwu_str::EMPTY,
        headers: ptr::null(),
        count: 0,
    };
}

/// Heads of a connection as they are lent to C; points into the transport, which keeps them.
pub(crate) struct Heads {
    peer: String,
    request: Vec<pwu_header>,
    response: Vec<pwu_header>,
}

impl Heads {
    pub(crate) fn of(transport: &Transport) -> Self {
        Self {
            peer: shown_peer(transport.peer_addr()),
            request: transport.request().map_or_else(Vec::new, |it| lent(it.headers())),
            response: transport.response().map_or_else(Vec::new, |it| lent(it.headers())),
        }
    }

    pub(crate) fn request(&self, transport: &Transport) -> Result<pwu_request, Failure> {
        let request = transport.request().ok_or_else(|| {
            let text = "the connection has not kept its request: set keep_request";
            Failure::new(pwu_status::PWU_INVALID, text)
        })?;
        Ok(request_of(request, &self.peer, &self.request))
    }

    pub(crate) fn response(&self, transport: &Transport) -> Result<pwu_response, Failure> {
        let response: &ResponseHead = transport.response().ok_or_else(|| {
            let text = "a connection of a server has no response: ask that of a client";
            Failure::new(pwu_status::PWU_INVALID, text)
        })?;
        Ok(pwu_response {
            size: size_of::<pwu_response>(),
            status: response.status().as_u16(),
            raw_head: pwu_str::of(response.raw_head()),
            subprotocol: response
                .subprotocol()
                .map_or(pwu_str::EMPTY, |it| pwu_str::of(it.as_bytes())),
            headers: self.response.as_ptr(),
            count: self.response.len(),
        })
    }
}

/// Calls `with` with a request as C sees it.
pub(crate) fn with_request<T>(request: &UpgradeRequest, with: impl FnOnce(&pwu_request) -> T) -> T {
    let (peer, headers) = (shown_peer(request.peer_addr()), lent(request.headers()));
    with(&request_of(request, &peer, &headers))
}

fn request_of(request: &UpgradeRequest, peer: &str, headers: &[pwu_header]) -> pwu_request {
    pwu_request {
        size: size_of::<pwu_request>(),
        method: pwu_str::of(request.method().as_bytes()),
        target: pwu_str::of(request.target().as_bytes()),
        version: pwu_str::of(request.version().as_bytes()),
        raw_head: pwu_str::of(request.raw_head()),
        peer: pwu_str::of(peer.as_bytes()),
        headers: headers.as_ptr(),
        count: headers.len(),
    }
}

fn shown_peer(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(String::new, |peer| peer.to_string())
}

fn lent<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<pwu_header> {
    let lend = |(name, value): (&str, &[u8])| pwu_header {
        name: pwu_str::of(name.as_bytes()),
        value: pwu_str::of(value),
    };
    headers.map(lend).collect()
}
