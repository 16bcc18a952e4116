//! A handle of a connection for other threads.
//!
//! Posts to the worker that owns the connection, and wakes it if it sleeps. What is posted takes
//! effect in the worker's next turn, in the order in which one thread posted it.

use crate::config::{Config, QueuePolicy};
use crate::foreign::Foreign;
use crate::mailbox::{Letter, Mailbox};
use crate::ring::Token;
use bytes::Bytes;
use picows_uring_proto::debug_with_text;
use picows_uring_proto::{ApiMisuse, CloseCode, CloseFrame, FrameHead, MsgType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
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

/// What handles in other threads know of a connection.
#[derive(Debug)]
pub(crate) struct RemoteState {
    is_ended: AtomicBool,
    /// Bytes in letters that the worker has not read.
    posted: AtomicUsize,
    posted_max: usize,
    /// A frame that cannot be posted ends the connection.
    closes: bool,
    /// What was posted of which one letter is enough ([`RemoteAction::flag`]): another would only
    /// take memory. An end takes effect once, and stays; anything else until the worker has read it.
    posted_once: AtomicU8,
}

impl RemoteState {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            is_ended: AtomicBool::new(false),
            posted: AtomicUsize::new(0),
            posted_max: config.queue_bytes_max.max(POSTED_BYTES_MIN),
            closes: config.queue_policy == QueuePolicy::Close,
            posted_once: AtomicU8::new(0),
        }
    }

    /// The worker has read a letter.
    pub(crate) fn read(&self, action: &RemoteAction) {
        self.posted.fetch_sub(action.bytes(), Ordering::Relaxed);
        if matches!(action, RemoteAction::ResumeReading) {
            // Before it takes effect, so that one that is posted from now on does once more.
            self.posted_once.fetch_and(!action.flag(), Ordering::AcqRel);
        }
    }

    /// Counts a frame that is to be posted, if there is room for it.
    fn admit(&self, bytes: usize) -> bool {
        let admit = |posted: usize| {
            // Alone, it always gets through: what is too long for the queue is for the queue's
            // policy, and would never fit here however long the caller waits.
            let is_alone = posted == 0;
            let posted = posted.saturating_add(bytes);
            (is_alone || posted <= self.posted_max).then_some(posted)
        };
        self.posted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_ok()
    }

    /// Whether none with `flag` was posted, or none waits.
    fn is_first(&self, flag: u8) -> bool {
        self.posted_once.fetch_or(flag, Ordering::AcqRel) & flag == 0
    }

    /// Whether the connection ends for a frame that could not be posted.
    fn is_full(&self) -> bool {
        self.posted_once.load(Ordering::Relaxed) & RemoteAction::QueueFull.flag() != 0
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
    /// Ends it, as a frame could not be posted.
    QueueFull,
}

impl RemoteAction {
    /// What it takes while it waits. An end always gets through: one letter of each waits at
    /// the most.
    fn bytes(&self) -> usize {
        match self {
            Self::Send(_, payload) | Self::SendLatest(_, _, payload) => {
                size_of::<Letter>() + payload.len()
            }
            Self::Close(_)
            | Self::ResumeReading
            | Self::Disconnect
            | Self::Abort
            | Self::QueueFull => 0,
        }
    }

    /// Its bit in [`RemoteState::posted_once`], if one letter of its kind is enough.
    const fn flag(&self) -> u8 {
        match self {
            Self::Send(..) | Self::SendLatest(..) => 0,
            Self::Close(_) => 1,
            Self::Disconnect => 2,
            Self::Abort => 4,
            Self::QueueFull => 8,
            Self::ResumeReading => 16,
        }
    }

    /// Whether the peer misses something without it.
    fn is_data(&self) -> bool {
        match self {
            Self::Send(head, _) | Self::SendLatest(_, head, _) => !head.msg_type.is_control(),
            _ => false,
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

    /// Sends CLOSE; see [`Transport::send_close`](crate::Transport::send_close). Does nothing when
    /// called again, here or on a clone.
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
        let (flag, bytes) = (action.flag(), action.bytes());
        if flag != 0 {
            if self.state.is_first(flag) {
                self.mailbox.post(Letter::Remote(self.token, action));
            }
            return Ok(());
        }
        // In one place under one policy: whatever was posted before is sent, and nothing after.
        if self.state.is_full() {
            return Err(RemoteError::QueueFull);
        }
        if self.state.admit(bytes) {
            self.mailbox.post(Letter::Remote(self.token, action));
            return Ok(());
        }
        if !self.state.closes || !action.is_data() {
            return Err(RemoteError::Congested);
        }
        if self.state.is_first(RemoteAction::QueueFull.flag()) {
            self.mailbox.post(Letter::Remote(self.token, RemoteAction::QueueFull));
        }
        Err(RemoteError::QueueFull)
    }
}

/// Bytes of letters that may wait for each connection at the least: what a busy sender posts while the
/// worker is in a long turn, or waits for a processor. That says nothing of the peer, so it is no less
/// where queues are short.
const POSTED_BYTES_MIN: usize = 16 * 1024 * 1024;
