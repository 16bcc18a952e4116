//! Bounds on what a peer may cost us, each with its reason.
//!
//! Numbers only: who checks them stands beside the check.

/// Longest frame header: 2 fixed + 8 length + 4 key bytes (RFC 6455 §5.2).
pub const FRAME_HEADER_BYTES_MAX: usize = 2 + 8 + 4;

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Longest close reason: a control payload less the two bytes of the code (RFC 6455 §5.5.1).
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;

/// Largest frame that is accepted unless configured otherwise: 10 MiB, as in picows.
pub const FRAME_PAYLOAD_BYTES_DEFAULT: u64 = 10 * 1024 * 1024;

/// Largest message that is joined unless configured otherwise: a message may be as large in
/// fragments as in one frame.
pub const MESSAGE_BYTES_DEFAULT: usize = FRAME_PAYLOAD_BYTES_DEFAULT as usize;

/// Largest length that a header can claim: the most significant bit must be 0 (RFC 6455 §5.2).
pub const FRAME_PAYLOAD_BYTES_CLAIM_MAX: u64 = i64::MAX as u64;

/// Rules for the frames of one peer that are the same for many connections.
///
/// Shared by reference, so that a connection does not carry a copy.
///
/// ```
/// use picows_uring_proto::FrameRules;
///
/// let rules = FrameRules { payload_bytes_max: 64 * 1024, ..FrameRules::default() };
/// assert!(!rules.validate_text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRules {
    /// Largest payload of a data frame, in bytes; a larger one is refused with 1009 as soon as its
    /// header is there, before any memory is taken. Default: 10 MiB. Does not concern control
    /// frames, whose bound is 125 bytes.
    pub payload_bytes_max: u64,
    /// RSV bits that an application or an extension gave a meaning to, as the bits 4 (RSV1),
    /// 2 (RSV2) and 1 (RSV3). Default: none, so that every RSV bit is a protocol error
    /// (RFC 6455 §5.2).
    pub rsv_allowed: u8,
    /// Whether text must be UTF-8, across fragments and before a frame is complete
    /// (RFC 6455 §8.1). Default: off at this level, as in picows; a listener that reads text
    /// through [`Frame::text`](crate::Frame::text) gets the error either way.
    pub validate_text: bool,
    /// Whether the order of fragments is the application's: data frames come in any order, and each is
    /// returned as it is (RFC 6455 §5.4 is not checked). For tests, proxies, and extensions that give
    /// RSV bits a meaning. Text is not validated then, as no message has a beginning. Default: off.
    pub any_order: bool,
    /// Whether RSV1 marks compressed messages (RFC 7692 §6): it is allowed on the first frame of a
    /// message then, and the decoder leaves the text of such a message unchecked, as it has yet to
    /// be expanded. Default: off.
    pub compressed: bool,
}

impl Default for FrameRules {
    fn default() -> Self {
        Self {
            payload_bytes_max: FRAME_PAYLOAD_BYTES_DEFAULT,
            rsv_allowed: 0,
            validate_text: false,
            any_order: false,
            compressed: false,
        }
    }
}

const _: () = assert!(FRAME_PAYLOAD_BYTES_DEFAULT < FRAME_PAYLOAD_BYTES_CLAIM_MAX);
const _: () = assert!(FRAME_HEADER_BYTES_MAX <= u8::MAX as usize);
