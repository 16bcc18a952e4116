//! Close codes, and the record of who closed with what.
//!
//! What follows from a CLOSE (answer, shut down, wait) is decided in `conversation.rs`.

use crate::limits::CLOSE_REASON_BYTES_MAX;
use crate::misuse::ApiMisuse;
use std::fmt;

/// A status code that may stand in a CLOSE frame (RFC 6455 §7.4).
///
/// Only codes that may appear on the wire can be made: 1000–1003, 1007–1014 (1012–1014 are from
/// the IANA registry) and 3000–4999. So 1005, 1006 and 1015, which say what *was not* received,
/// have no value here: an empty CLOSE is `None`.
///
/// ```
/// use picows_uring_proto::CloseCode;
///
/// assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
/// assert_eq!(CloseCode::new(4321).map(CloseCode::get), Some(4321));
/// assert_eq!(CloseCode::new(1006), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the endpoint goes away: a server that stops, a page that is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: data of a type that the endpoint cannot accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: data that does not fit its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy of the endpoint is violated; the general refusal.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: a client misses an extension that the server did not negotiate.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the endpoint met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded; try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from upstream.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code, or `None` when it may not appear on the wire.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for CloseCode {
    type Error = ApiMisuse;

    fn try_from(code: u16) -> Result<Self, ApiMisuse> {
        Self::new(code).ok_or(ApiMisuse::InvalidCloseCode(code))
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

/// The content of one CLOSE frame.
///
/// ```
/// use picows_uring_proto::{CloseCode, CloseFrame};
///
/// let bye = CloseFrame::new(CloseCode::NORMAL, "bye");
/// assert_eq!(bye.reason(), "bye");
/// assert_eq!(CloseFrame::empty().code(), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CloseFrame {
    code: Option<CloseCode>,
    reason: Box<str>,
}

impl CloseFrame {
    /// A CLOSE with `code` and `reason`; a reason of more than 123 bytes is cut at the last
    /// character that fits (RFC 6455 §5.5.1).
    #[must_use]
    pub fn new(code: CloseCode, reason: &str) -> Self {
        Self { code: Some(code), reason: truncate_reason(reason).into() }
    }

    /// A CLOSE without a payload.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The code; `None` for a CLOSE without a payload.
    #[must_use]
    pub fn code(&self) -> Option<CloseCode> {
        self.code
    }

    /// The reason; empty when none was given.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The part of `reason` that fits into a CLOSE frame, cut between characters.
#[must_use]
pub fn truncate_reason(reason: &str) -> &str {
    let mut end = reason.len().min(CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

/// Both halves of a close handshake, as far as it went.
///
/// ```
/// use picows_uring_proto::CloseHandshake;
///
/// let open = CloseHandshake::default();
/// assert!(open.sent.is_none() && open.received.is_none() && !open.received_first);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseHandshake {
    /// The CLOSE that was sent.
    pub sent: Option<CloseFrame>,
    /// The CLOSE that was received.
    pub received: Option<CloseFrame>,
    /// Whether the peer's CLOSE came before ours went out: the peer began it.
    pub received_first: bool,
}

impl CloseHandshake {
    /// Whether each side has sent its CLOSE.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sent.is_some() && self.received.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wire_codes_exist_rfc6455_7_4() {
        for code in 0..=u16::MAX {
            let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(CloseCode::new(code).is_some(), valid, "code {code}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "я".repeat(100); // Two bytes each: 123 falls into the middle of one.
        let cut = CloseFrame::new(CloseCode::NORMAL, &reason);
        assert_eq!(cut.reason().len(), 122);
        assert_eq!(truncate_reason("short"), "short");
    }
}
