//! A connection as a `Stream` of owned messages and a `Sink`: the listener, turned around.
//!
//! A listener queues what arrives, and a task takes it from there. That is a choice and has its
//! price: a copy of each message, and a wake-up of the task for the messages of a turn. What the
//! worker does, and what a listener costs, stays the same.

mod inbox;
mod message;

use crate::foreign::log::{self, LogLine, log_limited, peer_field};
use crate::foreign::{self, Foreign, StateCell};
use crate::listener::{ListenerError, ListenerResult};
use crate::local;
use crate::status::{DisconnectCause, SendStatus};
use crate::task::{Guarded, SpawnError};
use crate::transport::Transport;
use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use inbox::Inbox;
use picows_uring_proto::internal::debug_with_text;
use picows_uring_proto::{ApiMisuse, CloseCode, FrameHead, MsgType};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use thiserror::Error;

pub(crate) use inbox::StreamListener;
pub use message::OwnedMessage;

/// A connection to be read with `next().await` and written with `send(…).await`.
///
/// Made by [`Connect::stream`](crate::Connect::stream) and
/// [`Upgrade::accept_stream`](crate::Upgrade::accept_stream). It is a `futures` `Stream` and
/// `Sink`, so what works with these works with it; [`next`](Self::next), [`send`](Self::send) and
/// [`close`](Self::close) need no such crate.
///
/// It yields messages, joined from their fragments, and `None` after the disconnect;
/// [`transport`](Self::transport) then knows how it came about. Pings are answered before, and
/// CLOSE too. What was not taken is queued up to a bound; what happens beyond is chosen with
/// [`StreamOptions::when_full`]. Each of the futures may be dropped before it is done, and nothing
/// is lost.
///
/// Dropped, it sends CLOSE 1000, and 1011 when that is because of a panic.
///
/// ```
/// use picows_uring::{Connect, OwnedMessage, Server, Upgrade};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let server = builder.start(|_| {
///     Upgrade::accept_stream(async |mut stream| {
///         while let Some(message) = stream.next().await {
///             stream.send(message).await?;
///         }
///         Ok(())
///     })
/// })?;
/// let url = server.addresses()[0].to_string();
/// picows_uring::run(async move {
///     let mut stream = Connect::new(url).stream().await?;
///     stream.send("hello").await?;
///     assert_eq!(stream.next().await, Some(OwnedMessage::Text("hello".into())));
///     stream.close().await;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })??;
/// # Ok(())
/// # }
/// ```
pub struct WsStream {
    transport: Transport,
    inbox: Rc<StateCell<Inbox>>,
    /// More was queued to be sent than the high watermark, and not yet less than the low one.
    is_congested: bool,
}

/// The options by which a [`WsStream`] queues what was not taken yet.
///
/// ```
/// use picows_uring::{StreamOptions, WhenFull};
///
/// // Only the newest prices count.
/// let options = StreamOptions::default().max_messages(16).when_full(WhenFull::DropOldest);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "options do nothing until they are given to a stream"]
pub struct StreamOptions {
    messages_max: usize,
    bytes_max: usize,
    message_bytes_max: usize,
    when_full: WhenFull,
}

/// The policy for a [`WsStream`] whose queue is full; see [`StreamOptions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Reading is paused until half of the queue was taken, and TCP holds the peer back. What had
    /// arrived by then is queued all the same. The default.
    #[default]
    PauseReading,
    /// The message that was queued first is dropped.
    DropOldest,
    /// The message that arrives is dropped.
    DropNewest,
}

/// The reason why a message was not sent.
///
/// ```
/// use picows_uring::{SendError, WsStream};
///
/// /// Sends a price, unless the peer is too slow for it.
/// async fn send_price(stream: &mut WsStream, price: &str) -> Result<(), SendError> {
///     match stream.send(price).await {
///         Err(SendError::Full) => Ok(()),
///         outcome => outcome,
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is over, or about to be: a CLOSE was sent, or it broke.
    #[error("the connection is closed: connect again")]
    Closed,
    /// The queue is full, and the policy is to drop the newest frame.
    #[error("the queue is full: wait for `ready`, or allow more with max_queue_size")]
    Full,
    /// It would break RFC 6455.
    #[error(transparent)]
    Misuse(#[from] ApiMisuse),
}

debug_with_text! { SendError: Closed, Full, Misuse }

impl WsStream {
    pub(crate) fn new(transport: Transport, inbox: Rc<StateCell<Inbox>>) -> Self {
        Self { transport, inbox, is_congested: false }
    }

    /// The connection, to send past the queue of messages, and to ask. It outlives the stream.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Waits for the next message; `None` after the disconnect.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<OwnedMessage> {
        poll_fn(|context| self.poll_message(context)).await
    }

    /// Takes the next message if there is one already.
    pub fn try_next(&mut self) -> Option<OwnedMessage> {
        self.inbox.borrow_mut().take(&self.transport)
    }

    /// Waits while more is queued than the high watermark, and queues a message. It leaves when the
    /// task waits next; [`flush`](Self::flush) waits until the kernel took it.
    ///
    /// # Errors
    ///
    /// When the connection is over, or the message would break RFC 6455.
    pub async fn send(&mut self, message: impl Into<OwnedMessage>) -> Result<(), SendError> {
        poll_fn(|context| self.poll_sendable(context)).await?;
        self.queue(message.into())
    }

    /// Waits until the kernel took everything that was queued.
    ///
    /// # Errors
    ///
    /// When the connection is over.
    pub async fn flush(&mut self) -> Result<(), SendError> {
        poll_fn(|context| self.poll_drained(context)).await
    }

    /// Sends CLOSE and waits for the end; see [`close_with`](Self::close_with).
    pub async fn close(&mut self) {
        self.close_with(CloseCode::NORMAL, "").await;
    }

    /// Sends CLOSE with a code and a reason, and waits until the connection is over. Messages that
    /// arrived before can still be taken; those that arrive after are dropped.
    ///
    /// When the future is dropped, CLOSE has been sent all the same.
    pub async fn close_with(&mut self, code: CloseCode, reason: &str) {
        self.send_last_close(code, reason);
        poll_fn(|context| self.poll_ended(context)).await;
    }

    /// Messages that were dropped because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inbox.borrow().dropped
    }

    fn poll_message(&self, context: &Context<'_>) -> Poll<Option<OwnedMessage>> {
        let mut inbox = self.inbox.borrow_mut();
        match inbox.take(&self.transport) {
            Some(message) => return Poll::Ready(Some(message)),
            None if inbox.is_ended => return Poll::Ready(None),
            None => drop(inbox),
        }
        // Neither cloned nor dropped while the inbox is borrowed: both run code of an executor.
        let waker = Foreign::new(context.waker().clone());
        let replaced = self.inbox.borrow_mut().reader.replace(waker);
        drop(replaced);
        Poll::Pending
    }

    fn poll_sendable(&mut self, context: &Context<'_>) -> Poll<Result<(), SendError>> {
        let session = self.transport.session();
        if !session.conversation.borrow().may_send() {
            return Poll::Ready(Err(SendError::Closed));
        }
        let (high, low) = (session.high_watermark(), session.low_watermark());
        let limit = if self.is_congested { low } else { high };
        self.is_congested = session.buffered() > limit;
        if self.is_congested {
            session.wait_drained(context.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_drained(&self, context: &Context<'_>) -> Poll<Result<(), SendError>> {
        if self.transport.is_disconnected() {
            return Poll::Ready(Err(SendError::Closed));
        }
        let session = self.transport.session();
        if session.buffered() == 0 {
            return Poll::Ready(Ok(()));
        }
        session.wait_drained(context.waker());
        Poll::Pending
    }

    fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        if self.transport.is_disconnected() {
            return Poll::Ready(());
        }
        self.transport.session().wait(context.waker());
        Poll::Pending
    }

    fn queue(&self, message: OwnedMessage) -> Result<(), SendError> {
        let status = match message {
            OwnedMessage::Text(text) => {
                let head = FrameHead::new(MsgType::Text);
                self.transport.send_bytes(head, &Bytes::from(text))
            }
            OwnedMessage::Binary(bytes) => {
                self.transport.send_bytes(FrameHead::new(MsgType::Binary), &bytes)
            }
            OwnedMessage::Ping(payload) => self.transport.send_ping(payload),
            OwnedMessage::Pong(payload) => self.transport.send_pong(payload),
        };
        match status {
            SendStatus::Queued
            | SendStatus::Congested
            | SendStatus::Replaced
            | SendStatus::DroppedOldest => Ok(()),
            SendStatus::Closed => Err(SendError::Closed),
            SendStatus::Dropped => Err(SendError::Full),
            SendStatus::Refused(misuse) => Err(misuse.into()),
        }
    }

    /// Sends CLOSE. The answer has to be read, whatever is in front of it.
    fn send_last_close(&self, code: CloseCode, reason: &str) {
        self.inbox.borrow_mut().is_discarding = true;
        self.transport.send_close(code, reason);
        self.transport.resume_reading();
        if !self.transport.session().config.conversation.auto_close {
            // No caller is left to do it by hand.
            self.transport.disconnect();
        }
    }
}

impl Drop for WsStream {
    fn drop(&mut self) {
        let reader = self.inbox.borrow_mut().abandon(&self.transport);
        drop(reader);
        if self.transport.is_disconnected() {
            return;
        }
        if std::thread::panicking() {
            self.send_last_close(CloseCode::INTERNAL_ERROR, "");
        } else {
            // Not now: the handler that ends here may return an error, which says more.
            self.transport.session().on_stream_dropped();
            self.transport.resume_reading();
        }
    }
}

impl Stream for WsStream {
    type Item = OwnedMessage;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OwnedMessage>> {
        self.poll_message(context)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let inbox = self.inbox.borrow();
        (inbox.len(), inbox.is_ended.then_some(inbox.len()))
    }
}

impl FusedStream for WsStream {
    fn is_terminated(&self) -> bool {
        let inbox = self.inbox.borrow();
        inbox.is_ended && inbox.len() == 0
    }
}

/// `poll_ready` waits while more is queued than the high watermark, `poll_flush` until the kernel
/// has taken everything, and `poll_close` sends CLOSE and waits for the end.
impl Sink<OwnedMessage> for WsStream {
    type Error = SendError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        self.poll_sendable(context)
    }

    fn start_send(self: Pin<&mut Self>, message: OwnedMessage) -> Result<(), SendError> {
        self.queue(message)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_drained(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.send_last_close(CloseCode::NORMAL, "");
        self.poll_ended(context).map(Ok)
    }
}

impl fmt::Debug for WsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsStream")
            .field("transport", &self.transport)
            .field("queued_messages", &self.inbox.borrow().len())
            .finish_non_exhaustive()
    }
}

impl StreamOptions {
    /// Messages that may wait to be taken. Default: 256.
    pub fn max_messages(mut self, count: usize) -> Self {
        self.messages_max = count.max(1);
        self
    }

    /// Bytes of messages that may wait to be taken. The message that passes it is still queued.
    /// Default: 1 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes.max(1);
        self
    }

    /// Largest message that is accepted, all fragments together; beyond, the connection is closed
    /// with 1009. Default: 10 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// What happens when the queue is full. Default: [`WhenFull::PauseReading`].
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            messages_max: MESSAGES_MAX,
            bytes_max: BYTES_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
            when_full: WhenFull::default(),
        }
    }
}

/// A listener that starts `handler` as a task once the connection is open.
///
/// # Errors
///
/// When no loop runs on this thread to run a task.
pub(crate) fn handled_by<F>(
    options: StreamOptions,
    handler: F,
) -> Result<StreamListener, SpawnError>
where
    F: AsyncFnOnce(WsStream) -> ListenerResult + 'static,
{
    if local::current().is_none() {
        return Err(SpawnError);
    }
    Ok(StreamListener::starting(options, |stream| {
        if local::current().is_none() {
            return Err(SpawnError);
        }
        let transport = stream.transport().clone();
        drop(tokio::task::spawn_local(async move {
            let handled = Guarded::new(async move { handler(stream).await });
            match handled.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => handler_failed(&transport, &error, false),
                Err(panicked) => handler_failed(&transport, &panicked.into(), true),
            }
        }));
        Ok(())
    }))
}

/// An error of a handler, or a panic, ends its connection as one of a callback does.
fn handler_failed(transport: &Transport, error: &ListenerError, is_panic: bool) {
    let (session, error_text) = (transport.session(), foreign::text(error));
    if transport.is_disconnected() && !is_panic {
        log::debug!(
            peer = session.peer.logged(),
            error = error_text,
            "handler failed after the disconnect"
        );
        return;
    }
    let (local, peer) = (&session.local, session.peer.get());
    log_limited!(error, local, LogLine::HandlerFailed, peer = peer_field(peer), error = error_text);
    local.counters.listener_errors.increment();
    let (code, reason) = error.close_code_and_reason();
    session.fail(DisconnectCause::Listener(error_text), code, reason);
}

/// Enough that a task that is woken once a turn does not stop the connection.
const MESSAGES_MAX: usize = 256;
const BYTES_MAX: usize = 1024 * 1024;
/// As for frames.
const MESSAGE_BYTES_MAX: usize = picows_uring_proto::MESSAGE_BYTES_DEFAULT;
