//! The opening handshake of RFC 6455 §4, both sides: bytes in, values out.
//!
//! Owns no socket, clock or random generator: the runtime feeds what has arrived, draws the key,
//! and follows redirects. Extensions are carried and checked by name; of permessage-deflate, the
//! parameters are negotiated as well (`extensions.rs`).
//!
//! A server parses an [`UpgradeRequest`], shows it to its router, and only then calls
//! [`UpgradeRequest::validate_upgrade`], so that a plain GET can be answered too. A client builds
//! a [`ClientHandshake`], sends it, and gives it the answer to judge.

mod accept;
mod answer;
mod body;
mod client;
mod extensions;
mod forwarded;
mod head;
mod host;
pub(crate) mod http_date;
mod misuse;
mod origin;
mod parameters;
mod receiver;
mod refusal;
pub(crate) mod request;
mod request_body;
mod request_line;
mod response;
mod response_scanner;
mod retry_after;
pub(crate) mod scan;
mod status_line;
mod tls;
mod tunnel;
mod upgrade;
mod verify;

#[cfg(test)]
mod tests;

pub use accept::AcceptKey;
pub use answer::{UpgradeResponse, encode_continue, encode_switching_protocols};
pub use body::REJECTED_BODY_BYTES_MAX;
pub use client::ClientHandshake;
pub use extensions::DeflateFault;
pub use forwarded::TrustedProxies;
pub use head::HeadError;
pub use misuse::HandshakeMisuse;
pub use origin::{InvalidOrigin, OriginList, OriginPolicy};
pub use parameters::BasicCredentials;
pub use receiver::{HeadFault, HeadReceiver};
pub use refusal::{InvalidMessage, RejectedResponse, ResponseError};
pub use request::{RequestError, UpgradeRequest};
pub use request_line::is_head_request;
pub use response::{MessageFault, ResponseHead};
pub use response_scanner::INTERIM_RESPONSES_MAX;
use response_scanner::ResponseScanner;
pub use retry_after::RetryAfter;
use scan::HeadScanner;
pub use tls::{TlsFacts, TlsInfo, TlsVersion};
pub use tunnel::{
    ProxyCredentials, ProxyProtocol, SocksRefusal, Tunnel, TunnelError, TunnelMisuse, TunnelStep,
};
pub use upgrade::{UpgradeError, check_subprotocol, preferred_subprotocol, select_subprotocol};

/// Default for [`HeadLimits::head_bytes_max`]: twice the 8000 bytes that RFC 9112 §3 asks every
/// recipient to take for the request line alone, which leaves room for cookies.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Default for [`HeadLimits::headers_max`]: browsers send about fifteen, proxies add a few.
pub const HEADERS_MAX: usize = 128;

/// Ceiling of [`HeadLimits::head_bytes_max`]: a head is kept with 16-bit offsets into it, which
/// halves what an idle connection pays for its header table.
pub const HEAD_BYTES_CEILING: usize = u16::MAX as usize;

const _: () = assert!(HEAD_BYTES_MAX <= HEAD_BYTES_CEILING);

/// Bounds on a request or response head, beyond which it is refused.
///
/// ```
/// use picows_uring_proto::HeadLimits;
///
/// let limits = HeadLimits { headers_max: 32, ..HeadLimits::default() };
/// assert_eq!(limits.head_bytes_max, 16 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest head in bytes, first line and final empty line included. More than
    /// [`HEAD_BYTES_CEILING`] means [`HEAD_BYTES_CEILING`].
    pub head_bytes_max: usize,
    /// Most header lines.
    pub headers_max: usize,
}

impl HeadLimits {
    /// The longest head that is taken.
    fn head_bytes(&self) -> usize {
        self.head_bytes_max.min(HEAD_BYTES_CEILING)
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: HEAD_BYTES_MAX, headers_max: HEADERS_MAX }
    }
}
