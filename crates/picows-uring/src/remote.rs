//! A handle of a connection for other threads.
//!
//! Posts to the worker that owns the connection, and wakes it if it sleeps. What is posted takes
//! effect in the worker's next turn, in the order in which one thread posted it.

use crate::command::{Command, ConnectionCommand, RemoteState};
use crate::foreign::Foreign;
use crate::identity::ConnectionId;
use crate::mailbox::Mailbox;
use crate::ring::Token;
use bytes::Bytes;
use picows_uring_proto::internal::debug_with_text;
use picows_uring_proto::{ApiMisuse, CloseCode, CloseFrame, FrameHead, MsgType};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use thiserror::Error;

/// A connection, as another thread sees it. Cheap to clone; made by
/// [`Transport::remote`](crate::Transport::remote).
///
/// Payloads go by reference: a [`Bytes`] is not copied on its way to the worker, nor, on the
/// server's side, on its way to the kernel.
///
/// ```
/// use picows_uring::{MsgType, RemoteTransport};
///
/// fn tick_every_second(remote: RemoteTransport) {
///     std::thread::spawn(move || {
///         while remote.send(MsgType::Text, "tick").is_ok() {
///             std::thread::sleep(std::time::Duration::from_secs(1));
///         }
///     });
/// }
/// ```
#[derive(Clone)]
pub struct RemoteTransport {
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    token: Token,
    state: Arc<RemoteState>,
}

/// Nothing was sent, and why: what a [`RemoteTransport`] returns on any thread.
///
/// ```
/// use picows_uring::{RemoteError, RemoteTransport};
///
/// /// Whether this peer is still worth sending to.
/// fn notify(peer: &RemoteTransport) -> bool {
///     match peer.send_text("news") {
///         Ok(()) => true,
///         Err(RemoteError::Congested) => true, // This one is left out.
///         Err(_) => false,
///     }
/// }
/// # let _ = notify;
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The connection has ended.
    #[error("the connection has ended: make another one")]
    Disconnected,
    /// Other frames wait for the thread of the connection, and with this one they would be more bytes
    /// than may: 16 MiB, or what the queue of the connection may hold
    /// ([`max_queue_size`](crate::ServerBuilder::max_queue_size)), whichever is more. The frame is
    /// dropped, as by the policy of the queue. Under
    /// [`QueuePolicy::Close`](crate::QueuePolicy::Close) only control frames are.
    #[error("the thread of the connection does not keep up: send less, or wait and try again")]
    Congested,
    /// As [`Congested`](Self::Congested), and the policy of the queue is
    /// [`QueuePolicy::Close`](crate::QueuePolicy::Close): so that there is no gap in what arrives,
    /// the connection ends with CLOSE 1008 after all that was posted before, and
    /// [`DisconnectCause::QueueFull`](crate::DisconnectCause::QueueFull). Nothing more is taken.
    #[error(
        "more was posted than may wait for the thread of the connection, which is closed for it: \
         send less, or allow more with max_queue_size"
    )]
    QueueFull,
    /// The frame would break RFC 6455.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
}

debug_with_text! { RemoteError: Disconnected, Congested, QueueFull, Misuse }

impl RemoteTransport {
    pub(crate) fn new(
        id: ConnectionId,
        mailbox: Arc<Mailbox>,
        token: Token,
        state: Arc<RemoteState>,
    ) -> Self {
        Self { id, mailbox, token, state }
    }

    /// The connection's name in this process, which is that of
    /// [`Transport::id`](crate::Transport::id).
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// How long the last automatic ping took to be answered; see
    /// [`Transport::last_roundtrip`](crate::Transport::last_roundtrip).
    #[must_use]
    pub fn last_roundtrip(&self) -> Option<Duration> {
        self.state.last_roundtrip()
    }

    /// Sends text, which is copied; [`send`](Self::send) takes a [`Bytes`] as it is.
    ///
    /// # Errors
    ///
    /// See [`send`](Self::send).
    pub fn send_text(&self, text: impl AsRef<str>) -> Result<(), RemoteError> {
        self.send(MsgType::Text, Bytes::copy_from_slice(text.as_ref().as_bytes()))
    }

    /// Sends a message of one frame. What becomes of it after it is queued is not told: use
    /// [`is_disconnected`](Self::is_disconnected) and the listener's `pause_writing`.
    ///
    /// # Errors
    ///
    /// When the connection has ended, the frame would break RFC 6455, or too much waits to be read by
    /// the connection's thread ([`Congested`](RemoteError::Congested),
    /// [`QueueFull`](RemoteError::QueueFull)). A peer that reads is no worse off for a worker that
    /// has not had its turn: what was posted is judged by the policy of its queue only then, after the
    /// socket was offered it.
    pub fn send(&self, msg_type: MsgType, payload: impl Into<Bytes>) -> Result<(), RemoteError> {
        self.send_frame(FrameHead::new(msg_type), payload)
    }

    /// [`send`](Self::send), with FIN and RSV bits of the caller's choice.
    ///
    /// # Errors
    ///
    /// See [`send`](Self::send).
    pub fn send_frame(
        &self,
        head: FrameHead,
        payload: impl Into<Bytes>,
    ) -> Result<(), RemoteError> {
        let payload = payload.into();
        if head.msg_type == MsgType::Close {
            return Err(ApiMisuse::CloseThroughSend.into());
        }
        head.check(payload.len())?;
        self.post(ConnectionCommand::Send(head, Foreign::new(payload)))
    }

    /// Sends a message that a later one with the same `key` may replace; see
    /// [`Transport::send_latest`](crate::Transport::send_latest). What is posted is handed over in
    /// the worker's next turn, and nothing is replaced before.
    ///
    /// # Errors
    ///
    /// When the connection has ended, `msg_type` is neither TEXT nor BINARY, or too much waits.
    pub fn send_latest(
        &self,
        key: u64,
        msg_type: MsgType,
        payload: impl Into<Bytes>,
    ) -> Result<(), RemoteError> {
        if !matches!(msg_type, MsgType::Text | MsgType::Binary) {
            return Err(ApiMisuse::KeyOfFragment.into());
        }
        let payload = Foreign::new(payload.into());
        self.post(ConnectionCommand::SendLatest(key, FrameHead::new(msg_type), payload))
    }

    /// Sends CLOSE; see [`Transport::send_close`](crate::Transport::send_close). Does nothing when
    /// called again, here or on a clone.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn send_close(
        &self,
        code: impl Into<Option<CloseCode>>,
        reason: impl AsRef<str>,
    ) -> Result<(), RemoteError> {
        let close = |code| CloseFrame::new(code, reason.as_ref());
        let frame = code.into().map_or_else(CloseFrame::empty, close);
        self.post(ConnectionCommand::Close(frame))
    }

    /// Reads on after [`Transport::pause_reading`](crate::Transport::pause_reading): for a listener
    /// that hands what it receives to another thread, and pauses while that has enough.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn resume_reading(&self) -> Result<(), RemoteError> {
        self.post(ConnectionCommand::ResumeReading)
    }

    /// Ends the connection once everything queued is sent; see
    /// [`Transport::disconnect`](crate::Transport::disconnect).
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn disconnect(&self) -> Result<(), RemoteError> {
        self.post(ConnectionCommand::Disconnect)
    }

    /// Ends the connection at once; see [`Transport::abort`](crate::Transport::abort).
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn abort(&self) -> Result<(), RemoteError> {
        self.post(ConnectionCommand::Abort)
    }

    /// Whether the connection has ended. It may end right after this was asked.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.state.is_ended.load(Ordering::Acquire)
    }

    fn post(&self, action: ConnectionCommand) -> Result<(), RemoteError> {
        if self.is_disconnected() {
            return Err(RemoteError::Disconnected);
        }
        let (flag, bytes) = (action.flag(), action.bytes());
        if flag != 0 {
            if self.state.is_first(flag) {
                self.mailbox.post(Command::Connection(self.token, action));
            }
            return Ok(());
        }
        // In one place under one policy: whatever was posted before is sent, and nothing after.
        if self.state.is_full() {
            return Err(RemoteError::QueueFull);
        }
        if self.state.admit(bytes) {
            self.mailbox.post_payload(Command::Connection(self.token, action), bytes);
            return Ok(());
        }
        if !self.state.closes || !action.is_data() {
            return Err(RemoteError::Congested);
        }
        if self.state.is_first(ConnectionCommand::QueueFull.flag()) {
            self.mailbox.post(Command::Connection(self.token, ConnectionCommand::QueueFull));
        }
        Err(RemoteError::QueueFull)
    }
}

/// Two handles are equal if they are of the same connection.
impl PartialEq for RemoteTransport {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for RemoteTransport {}

impl Hash for RemoteTransport {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for RemoteTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTransport")
            .field("id", &self.id)
            .field("is_disconnected", &self.is_disconnected())
            .finish_non_exhaustive()
    }
}
