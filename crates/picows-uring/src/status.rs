//! Outcomes of a send, of a connection and of a round trip: the types that all layers share.
//!
//! Decides nothing.

use crate::error::shown;
use picows_uring_proto::internal::debug_with_text;
use picows_uring_proto::{ApiMisuse, PeerMisbehaved};
use thiserror::Error;

/// The outcome of sending a frame.
///
/// Nothing needs to be done about it: a frame that is not queued is not owed to anybody. It is
/// there for senders who want to slow down, or to know.
///
/// ```
/// use picows_uring::{SendStatus, Transport};
///
/// /// Whether the producer of `text` may go on.
/// fn offer(transport: &Transport, text: &str) -> bool {
///     match transport.send_text(text) {
///         SendStatus::Queued => true,
///         // Sent, too: `resume_writing` follows when the peer has caught up.
///         SendStatus::Congested => false,
///         status => status.is_queued(),
///     }
/// }
/// # let _ = offer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendStatus {
    /// It is queued. A frame that is alone in its queue says nothing of the peer, however long it
    /// is: `pause_writing` follows if the socket leaves more of it than the high watermark.
    Queued,
    /// It is queued, and more than the high watermark is, which the socket does not take:
    /// `pause_writing` follows.
    Congested,
    /// It is queued in the place of an earlier frame with its key, which is not sent
    /// ([`Transport::send_latest`](crate::Transport::send_latest)).
    Replaced,
    /// It is queued, and to make room, older messages were dropped
    /// ([`QueuePolicy::DropOldest`](crate::QueuePolicy::DropOldest)). The queue is full, so
    /// `pause_writing` was called or follows, too.
    DroppedOldest,
    /// It is not queued: a CLOSE was sent before, or the connection is over.
    Closed,
    /// It is not queued: the queue is full, and the policy is to drop the newest frame, or nothing
    /// older can be dropped.
    Dropped,
    /// It is not queued: it would break RFC 6455.
    Refused(ApiMisuse),
}

impl SendStatus {
    /// Whether the frame will be sent.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        matches!(self, Self::Queued | Self::Congested | Self::Replaced | Self::DroppedOldest)
    }
}

/// The cause of a connection's end: the first thing that went wrong, or the close handshake.
///
/// [`Transport::disconnect_cause`](crate::Transport::disconnect_cause) has it from `on_disconnected` on. Its
/// text is meant for logs; the code and reason of a CLOSE are those of
/// [`Transport::close_handshake`](crate::Transport::close_handshake).
///
/// ```
/// use picows_uring::{DisconnectCause, Transport};
///
/// /// Whether it is worth connecting again at once.
/// fn is_passing(transport: &Transport) -> bool {
///     let cause = transport.disconnect_cause();
///     matches!(cause, Some(DisconnectCause::EndOfStream | DisconnectCause::Io(_)))
/// }
/// # let _ = is_passing;
/// ```
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// A close handshake, of either side's beginning.
    #[error("the connection was closed")]
    Closed,
    /// The application called [`Transport::disconnect`](crate::Transport::disconnect) or
    /// [`Transport::abort`](crate::Transport::abort).
    #[error("the application ended the connection")]
    Application,
    /// The peer ended the stream without CLOSE.
    #[error("the peer ended the connection without a close handshake")]
    EndOfStream,
    /// The stream of a secure connection ended without CLOSE and without the end that TLS has for it
    /// (close_notify): the peer is gone, or its bytes were cut off on their way.
    #[error(
        "the connection was cut off: the peer ended it without a close handshake, and TLS without its end"
    )]
    CutOff,
    /// TLS failed: a record was changed on its way, or the peer refused something by an alert.
    #[error("TLS failed: {}", shown(.0))]
    Tls(String),
    /// The peer broke RFC 6455 or passed a limit.
    #[error("protocol error: {0}")]
    PeerMisbehaved(#[from] PeerMisbehaved),
    /// The kernel reported an error, such as a reset.
    #[error("the connection broke: {0}")]
    Io(std::io::ErrorKind),
    /// The peer did not do its part in time: a handshake, an answer to CLOSE, taking what was
    /// queued.
    #[error("the peer did not do its part in time")]
    TimedOut,
    /// The peer did not answer a ping in time.
    #[error("the peer did not answer a ping in time")]
    PingTimedOut,
    /// A callback of the listener returned an error or panicked.
    #[error("the listener failed: {}", shown(.0))]
    Listener(String),
    /// More was queued than the limit.
    #[error("the peer did not read, and the send queue was full")]
    QueueFull,
    /// Publications of a topic that it subscribes to were lost on their way to its worker, and it has
    /// no other way to be told ([`topics`](crate::topics)).
    #[error("publications of a topic were lost on their way to the connection")]
    PublicationsLost,
    /// All connections together held more memory than
    /// [`memory_limit`](crate::ServerBuilder::memory_limit), and this one the most.
    #[error("all connections together held too much memory, and this one the most")]
    MemoryLimit,
    /// The process got no memory for what was received or sent: its own limits are tighter than
    /// [`memory_limit`](crate::ServerBuilder::memory_limit).
    #[error("there was no memory for what was received or sent")]
    OutOfMemory,
    /// A frame or message of the peer brought too little for
    /// [`message_timeout`](crate::ServerBuilder::message_timeout).
    #[error("a message of the peer was under way for too long and brought too little")]
    MessageTooSlow,
    /// The peer took nothing of what was queued for it for
    /// [`write_stall_timeout`](crate::ServerBuilder::write_stall_timeout).
    #[error("the peer took nothing of what was queued for it")]
    WriteStalled,
    /// The writer of a frame was dropped before its end
    /// ([`FrameWriter`](crate::FrameWriter)): no other frame could follow, not even CLOSE.
    #[error("a frame was begun and not written to its end")]
    FrameUnfinished,
    /// The server, or the loop, was stopped.
    #[error("the loop was stopped")]
    Stopped,
    /// The worker of the connection could not go on, or its loop was dropped.
    #[error("the worker of the connection ended before its time")]
    WorkerFailed,
}

/// A round trip could not be measured.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RoundtripError {
    /// The connection ended before all pongs had come.
    #[error("the connection ended while round trips were measured{}", tell(.0.as_ref()))]
    Disconnected(Option<DisconnectCause>),
    /// Another task is measuring on this connection.
    #[error("round trips are being measured on this connection already: wait for the other task")]
    Busy,
}

debug_with_text! { RoundtripError: Disconnected, Busy }

fn tell(cause: Option<&DisconnectCause>) -> String {
    cause.map_or_else(String::new, |cause| format!(": {cause}"))
}
