//! A handle of a connection for other threads.
//!
//! Posts to the worker that owns the connection, and wakes it if it sleeps. What is posted takes
//! effect in the worker's next turn, in the order in which one thread posted it.

use crate::foreign::Foreign;
use crate::mailbox::{Letter, Mailbox};
use crate::ring::Token;
use bytes::Bytes;
use picows_uring_proto::{ApiMisuse, CloseCode, CloseFrame, FrameHead, MsgType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
#[derive(Clone, Debug)]
pub struct RemoteTransport {
    mailbox: Arc<Mailbox>,
    token: Token,
    state: Arc<RemoteState>,
}

/// Nothing was sent, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The connection has ended.
    #[error("the connection has ended: make another one")]
    Disconnected,
    /// Other frames wait for the thread of the connection, and with this one they would be more bytes
    /// than its queue may hold
    /// ([`max_queue_size`](crate::ServerBuilder::max_queue_size)).
    #[error("the thread of the connection does not keep up: send less, or wait and try again")]
    Congested,
    /// The frame would break RFC 6455.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
}

/// What handles in other threads know of a connection.
#[derive(Debug)]
pub(crate) struct RemoteState {
    is_ended: AtomicBool,
    /// Bytes in letters that the worker has not read.
    posted: AtomicUsize,
    posted_max: usize,
}

impl RemoteState {
    pub(crate) fn new(posted_max: usize) -> Self {
        Self { is_ended: AtomicBool::new(false), posted: AtomicUsize::new(0), posted_max }
    }

    /// The worker has read a letter.
    pub(crate) fn read(&self, action: &RemoteAction) {
        self.posted.fetch_sub(action.bytes(), Ordering::Relaxed);
    }

    /// Counts a letter that is to be posted, if there is room for it.
    fn admit(&self, action: &RemoteAction) -> bool {
        let bytes = action.bytes();
        let admit = |posted: usize| {
            // Alone, it always gets through: what is too long for the queue is for the queue's
            // policy, and would never fit here however long somebody waits.
            let is_alone = posted == 0;
            let posted = posted.saturating_add(bytes);
            (bytes == 0 || is_alone || posted <= self.posted_max).then_some(posted)
        };
        self.posted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_ok()
    }

    pub(crate) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
    }
}

/// What a handle asks the worker to do with a connection.
#[derive(Debug)]
pub(crate) enum RemoteAction {
    Send(FrameHead, Foreign<Bytes>),
    SendLatest(u64, FrameHead, Foreign<Bytes>),
    Close(CloseFrame),
    ResumeReading,
    Disconnect,
    Abort,
}

impl RemoteAction {
    /// What it takes while it waits. The end of a connection always gets through, and costs nothing.
    fn bytes(&self) -> usize {
        match self {
            Self::Send(_, payload) | Self::SendLatest(_, _, payload) => {
                size_of::<Letter>() + payload.len()
            }
            Self::Close(_) | Self::ResumeReading | Self::Disconnect | Self::Abort => 0,
        }
    }
}

impl RemoteTransport {
    pub(crate) fn new(mailbox: Arc<Mailbox>, token: Token, state: Arc<RemoteState>) -> Self {
        Self { mailbox, token, state }
    }

    /// Sends a message of one frame. What becomes of it after it is queued is not told: use
    /// [`is_disconnected`](Self::is_disconnected) and the listener's `pause_writing`.
    ///
    /// # Errors
    ///
    /// When the connection has ended, the frame would break RFC 6455, or more waits to be read by the
    /// connection's thread than its queue may hold.
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
        self.post(RemoteAction::Send(head, Foreign::new(payload)))
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
        self.post(RemoteAction::SendLatest(key, FrameHead::new(msg_type), payload))
    }

    /// Sends CLOSE; see [`Transport::send_close`](crate::Transport::send_close).
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn send_close(
        &self,
        code: impl Into<Option<CloseCode>>,
        reason: &str,
    ) -> Result<(), RemoteError> {
        let frame = code.into().map_or_else(CloseFrame::empty, |it| CloseFrame::new(it, reason));
        self.post(RemoteAction::Close(frame))
    }

    /// Reads on after [`Transport::pause_reading`](crate::Transport::pause_reading): for a listener
    /// that hands what it receives to another thread, and pauses while that has enough.
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn resume_reading(&self) -> Result<(), RemoteError> {
        self.post(RemoteAction::ResumeReading)
    }

    /// Ends the connection once everything queued is sent; see
    /// [`Transport::disconnect`](crate::Transport::disconnect).
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn disconnect(&self) -> Result<(), RemoteError> {
        self.post(RemoteAction::Disconnect)
    }

    /// Ends the connection at once; see [`Transport::abort`](crate::Transport::abort).
    ///
    /// # Errors
    ///
    /// When the connection has ended.
    pub fn abort(&self) -> Result<(), RemoteError> {
        self.post(RemoteAction::Abort)
    }

    /// Whether the connection has ended. It may end right after this was asked.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.state.is_ended.load(Ordering::Acquire)
    }

    fn post(&self, action: RemoteAction) -> Result<(), RemoteError> {
        if self.is_disconnected() {
            return Err(RemoteError::Disconnected);
        }
        if !self.state.admit(&action) {
            return Err(RemoteError::Congested);
        }
        self.mailbox.post(Letter::Remote(self.token, action));
        Ok(())
    }
}
