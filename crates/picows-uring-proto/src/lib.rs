//! The WebSocket protocol of picows-uring: everything that computes and nothing that waits.
//!
//! No clock, no thread, no socket: bytes and times are arguments, frames and steps are results.
//! That makes every rule testable without a kernel, and lets any runtime drive it.
//!
//! | part | what it does |
//! |---|---|
//! | [`UpgradeRequest`], [`ClientHandshake`] | HTTP, both sides (RFC 6455 §4) |
//! | [`Tunnel`], [`ProxyRules`] | the way through a proxy, and which one it is |
//! | [`Decoder`] | bytes in, checked and unmasked [`Frame`]s out (RFC 6455 §5) |
//! | [`MessageAssembler`] | frames in, [`Message`]s out (RFC 6455 §5.4) |
//! | [`FrameHead`], [`CloseFrame`] | frames out |
//! | [`Conversation`] | handshake, close handshake and end of a connection (RFC 6455 §7) |
//! | [`Liveness`] | pings, and when to give a peer up |
//! | [`Wheel`] | deadlines |
//! | [`Receiver`], [`Sender`] | the two halves of a connection: decoder, frame order and conversation joined |
//! | [`HeadReceiver`] | an HTTP head that arrives in pieces, both sides |
//! | [`Deflate`] | settings of permessage-deflate, and its negotiation (RFC 7692 §5, §7.1) |
//! | [`Endpoint`] | one whole end of an open connection |

mod assembler;
mod close;
mod conversation;
mod debug;
mod decoder;
mod encode;
mod endpoint;
mod error;
mod escape;
mod extension;
mod frame;
mod handshake;
mod header;
mod limits;
mod liveness;
mod mask;
mod misuse;
mod networks;
mod progress;
mod proxy_header;
mod proxy_rules;
mod reserve;
mod stash;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod testing;
mod tick;
mod utf8;
mod wheel;

/// Names that the crates and benchmarks of this project share. Not promised: semver does not cover
/// them, and any version may change or remove them.
#[doc(hidden)]
pub mod internal {
    pub use crate::debug_with_text;
    pub use crate::escape::{SHOWN_BYTES_MAX, SHOWN_TEXT_BYTES_MAX};
    #[cfg(feature = "deflate")]
    pub use crate::extension::compress_once;
    pub use crate::handshake::http_date::format as http_date;
    pub use crate::handshake::request::{basic_authorization, parse_request_with};
    pub use crate::handshake::scan::HeadScanner;
    pub use crate::utf8::{InvalidUtf8, Utf8Stream};

    pub mod mask {
        pub use crate::mask::{apply, apply_at, apply_shifted, copy_at};
    }
}

pub use assembler::{Assembled, Message, MessageAssembler};
pub use close::{CloseCode, CloseFrame, CloseHandshake, truncate_reason};
#[expect(deprecated)]
pub use conversation::Arrival;
pub use conversation::{Conversation, ConversationRules, FrameAction, Phase, Step};
pub use decoder::{Decoded, Decoder};
pub use encode::FrameHead;
pub use endpoint::{
    Endpoint, EndpointRules, FramePiece, Outgoing, Pieces, Received, Receiver, SendError, Sender,
};
pub use error::PeerMisbehaved;
pub use escape::Escaped;
#[cfg(feature = "deflate")]
pub use extension::{Compressed, Compression, Deflaters, Expanded, Expansion, Inflaters};
pub use extension::{Deflate, NegotiatedDeflate};
pub use frame::{Frame, MsgType, Role};
pub use handshake::*;
pub use header::Header;
pub use limits::{
    CLOSE_REASON_BYTES_MAX, CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX,
    FRAME_PAYLOAD_BYTES_CLAIM_MAX, FRAME_PAYLOAD_BYTES_DEFAULT, FrameRules, MESSAGE_BYTES_DEFAULT,
};
pub use liveness::{AutoPing, AutoPingStrategy, Liveness, LivenessRules, Verdict};
pub use misuse::ApiMisuse;
pub use networks::{InvalidNetwork, Networks};
pub use progress::{MESSAGE_RATE_MIN, Progress, ProgressRules, UnderWay};
pub use proxy_header::{PROXY_HEADER_BYTES_MAX, ProxyHeader, ProxyHeaderError};
pub use proxy_rules::{ProxyExemptions, ProxyRules, ProxyVariable};
pub use stash::Stash;
pub use tick::Tick;
pub use wheel::{TimerId, Wheel};
