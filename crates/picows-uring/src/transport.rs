//! The handle of a connection: what a listener sends with, and asks.
//!
//! Never blocks: what is sent is queued, and leaves when the worker's turn ends, or before if it is
//! much.

mod facts;
mod in_place;

use crate::config::check_watermarks;
use crate::error::Error;
use crate::identity::ConnectionId;
use crate::prepared::Prepared;
use crate::remote::RemoteTransport;
use crate::ring;
use crate::session::{Session, roundtrip};
use crate::status::{DisconnectCause, RoundtripError, SendStatus};
use bytes::Bytes;
use picows_uring_proto::internal::debug_with_text;
use picows_uring_proto::{
    ApiMisuse, CloseCode, CloseFrame, CloseHandshake, Frame, FrameHead, MsgType, Phase,
};
use std::fmt;
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// A connection, from the point of view of the application.
///
/// A cheap handle (cloning it counts a reference) that belongs to the thread of its worker. It
/// stays valid after the connection has ended; sending then does nothing and says so
/// ([`SendStatus::Closed`]). Sending on another connection from a callback is allowed.
///
/// Frames that are queued in a callback, on any number of connections, leave when the worker has
/// handled its completions: one system call for all of them. Where more is queued than the high
/// watermark, by more than one frame, the socket is offered it at once.
///
/// ```
/// use picows_uring::{Frame, Listener, ListenerResult, SendStatus, Server, Transport, Upgrade};
///
/// struct Repeat(usize);
///
/// impl Listener for Repeat {
///     fn on_frame(&mut self, transport: &Transport, frame: &Frame<'_>) -> ListenerResult {
///         for _ in 0..self.0 {
///             if transport.send_like(frame, frame.payload()) != SendStatus::Queued {
///                 break; // The peer does not keep up, or the connection is over.
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let builder = Server::builder().listen("127.0.0.1:0").workers(1);
/// let server = builder.start(|_| Upgrade::accept(Repeat(3)))?;
/// # server.stop()?;
/// # Ok::<(), picows_uring::Error>(())
/// ```
#[derive(Clone)]
pub struct Transport {
    session: Rc<Session>,
}

debug_with_text! { DisconnectCause: Closed, Application, EndOfStream, CutOff, Tls, PeerMisbehaved, Io, TimedOut, PingTimedOut, Listener, QueueFull, PublicationsLost, MemoryLimit, MessageTooSlow, WriteStalled, OutOfMemory, FrameUnfinished, Stopped, WorkerFailed }

impl Transport {
    pub(crate) fn new(session: Rc<Session>) -> Self {
        Self { session }
    }

    pub(crate) fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// The connection's name in this process: for logs, and as a key in maps. No other connection has it,
    /// nor gets it later.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.session.id()
    }

    /// Sends a message of one frame: `payload` is copied once.
    ///
    /// Use [`send_text`](Self::send_text) where the type of the payload should see to it that text
    /// is UTF-8: here, it is not checked.
    ///
    /// CLOSE is refused: [`send_close`](Self::send_close) takes its code and reason.
    #[inline]
    pub fn send(&self, msg_type: MsgType, payload: impl AsRef<[u8]>) -> SendStatus {
        self.send_frame(FrameHead::new(msg_type), payload.as_ref())
    }

    /// Sends text.
    #[inline]
    pub fn send_text(&self, text: impl AsRef<str>) -> SendStatus {
        self.send_frame(FrameHead::new(MsgType::Text), text.as_ref().as_bytes())
    }

    /// Sends a frame with FIN and RSV bits of the caller's choice (fragments, extensions of its
    /// own); `payload` is copied once.
    ///
    /// Fragments have to come in the order of RFC 6455 §5.4: what would mix two messages is
    /// refused. [`send_fragments`](Self::send_fragments) and
    /// [`message_writer`](Self::message_writer) keep it by themselves.
    ///
    /// ```
    /// use picows_uring::{FrameHead, MsgType, Transport};
    ///
    /// fn send_in_two(transport: &Transport) {
    ///     transport.send_frame(FrameHead::new(MsgType::Text).with_fin(false), b"Hel");
    ///     transport.send_frame(FrameHead::new(MsgType::Continuation), b"lo");
    /// }
    /// ```
    #[inline]
    pub fn send_frame(&self, head: FrameHead, payload: &[u8]) -> SendStatus {
        if head.msg_type == MsgType::Close {
            return SendStatus::Refused(ApiMisuse::CloseThroughSend);
        }
        self.session.send(head, payload)
    }

    /// Sends `payload` in a frame with the type, FIN and RSV bits of `frame`.
    #[inline]
    pub fn send_like(&self, frame: &Frame<'_>, payload: &[u8]) -> SendStatus {
        let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin()).with_rsv(frame.rsv());
        self.send_frame(head, payload)
    }

    /// Sends `frame` on: its type, its FIN and RSV bits, and its payload. On this connection it is
    /// an echo, on another one of the same thread a relay.
    ///
    /// On the server's side, a large frame is not copied: it is sent from where it lies, which is the
    /// receive buffer, or the memory in which its pieces were collected.
    ///
    /// ```
    /// use picows_uring::{Frame, Listener, ListenerResult, Transport};
    ///
    /// /// Sends whatever arrives to another connection.
    /// struct Relay(Transport);
    ///
    /// impl Listener for Relay {
    ///     fn on_frame(&mut self, _from: &Transport, frame: &Frame<'_>) -> ListenerResult {
    ///         self.0.forward(frame);
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[inline]
    pub fn forward(&self, frame: &Frame<'_>) -> SendStatus {
        if frame.msg_type() == MsgType::Close {
            return SendStatus::Refused(ApiMisuse::CloseThroughSend);
        }
        let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin()).with_rsv(frame.rsv());
        self.session.forward(head, frame)
    }

    /// Sends a frame whose payload is kept by reference instead of copied, as for one message to
    /// many connections. Short payloads are copied all the same: it is cheaper.
    pub fn send_bytes(&self, head: FrameHead, payload: &Bytes) -> SendStatus {
        if head.msg_type == MsgType::Close {
            return SendStatus::Refused(ApiMisuse::CloseThroughSend);
        }
        self.session.send_shared(head, payload)
    }

    /// Sends a message that was encoded before, as to many connections: compressed where this
    /// connection has agreed on it with a window that covers it, else as it is.
    pub fn send_prepared(&self, prepared: &Prepared) -> SendStatus {
        self.session.send_prepared(prepared)
    }

    /// What was agreed on with the peer about permessage-deflate, while the connection is there;
    /// `None` where messages are not compressed.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn deflate(&self) -> Option<picows_uring_proto::NegotiatedDeflate> {
        self.session.negotiated_deflate()
    }

    /// Sends a frame whose payload is `buffer[payload_start..]`, without copying it: the header is
    /// written in front of it, into at least 14 bytes
    /// ([`FRAME_HEADER_BYTES_MAX`](crate::FRAME_HEADER_BYTES_MAX)) of room that the caller left.
    ///
    /// Less room, or a start past the end, is refused.
    ///
    /// ```
    /// use picows_uring::{FRAME_HEADER_BYTES_MAX, FrameHead, MsgType, Transport};
    ///
    /// fn send_zeros(transport: &Transport, count: usize) {
    ///     let buffer = vec![0; FRAME_HEADER_BYTES_MAX + count];
    ///     let head = FrameHead::new(MsgType::Binary);
    ///     transport.send_headroom(head, buffer, FRAME_HEADER_BYTES_MAX);
    /// }
    /// ```
    pub fn send_headroom(
        &self,
        head: FrameHead,
        buffer: Vec<u8>,
        payload_start: usize,
    ) -> SendStatus {
        if head.msg_type == MsgType::Close {
            return SendStatus::Refused(ApiMisuse::CloseThroughSend);
        }
        self.session.send_headroom(head, buffer, payload_start)
    }

    /// Sends a message of one frame that a later one with the same `key` may replace: what counts
    /// is the latest, as with the price of an instrument (its number is the key) or the state of a
    /// player. `payload` is copied once.
    ///
    /// A peer that keeps up gets every message. Only while it does not (an earlier send has not
    /// completed, or its socket has refused some of the first 64 KiB) does a message wait apart, and is
    /// replaced by the next with its key. So a peer that reads slowly gets fewer messages, each of
    /// them new, and has at most one of every key waiting, whatever the
    /// [`QueuePolicy`](crate::QueuePolicy).
    ///
    /// The new message takes the place of the old one: one key that changes all the time neither
    /// starves nor holds up the others. It overtakes what was queued between the two, other keys
    /// and messages without a key; where their order matters, do not use keys.
    ///
    /// Control frames and fragments are refused.
    ///
    /// ```
    /// use picows_uring::{MsgType, Transport};
    ///
    /// fn quote(transport: &Transport, instrument: u64, price: f64) {
    ///     transport.send_latest(instrument, MsgType::Text, price.to_string());
    /// }
    /// ```
    pub fn send_latest(
        &self,
        key: u64,
        msg_type: MsgType,
        payload: impl AsRef<[u8]>,
    ) -> SendStatus {
        self.session.send_latest_copied(key, FrameHead::new(msg_type), payload.as_ref())
    }

    /// [`send_latest`](Self::send_latest), of a payload that is kept by reference instead of
    /// copied, and with RSV bits of the caller's choice; see [`send_bytes`](Self::send_bytes).
    pub fn send_latest_bytes(&self, key: u64, head: FrameHead, payload: &Bytes) -> SendStatus {
        self.session.send_latest(key, head, payload)
    }

    /// Sends a PING of at most 125 bytes (RFC 6455 §5.5.2).
    pub fn send_ping(&self, payload: impl AsRef<[u8]>) -> SendStatus {
        self.send(MsgType::Ping, payload)
    }

    /// Sends a PONG of at most 125 bytes (RFC 6455 §5.5.3). PING is answered without it, unless
    /// automatic pongs are off.
    pub fn send_pong(&self, payload: impl AsRef<[u8]>) -> SendStatus {
        self.send(MsgType::Pong, payload)
    }

    /// Sends CLOSE; nothing can be sent after it. Does nothing when called again.
    ///
    /// `code` is a [`CloseCode`], or `None` for a CLOSE without a payload. A `reason` of more than
    /// 123 bytes is cut between characters (RFC 6455 §5.5.1), and without a code it is left out.
    ///
    /// The connection ends when the peer has answered, or when the close timeout is over.
    ///
    /// ```
    /// use picows_uring::{CloseCode, Transport};
    ///
    /// fn close_politely(transport: &Transport) {
    ///     transport.send_close(CloseCode::NORMAL, "bye");
    /// }
    /// ```
    pub fn send_close(
        &self,
        code: impl Into<Option<CloseCode>>,
        reason: impl AsRef<str>,
    ) -> SendStatus {
        let frame = match code.into() {
            Some(code) => CloseFrame::new(code, reason.as_ref()),
            None => CloseFrame::empty(),
        };
        self.send_close_frame(frame)
    }

    pub(crate) fn send_close_frame(&self, frame: CloseFrame) -> SendStatus {
        self.session.catch_up();
        let local = &self.session.local;
        let (rules, now) = (&self.session.config.conversation, local.now());
        if self.session.is_writing() {
            return SendStatus::Refused(ApiMisuse::FrameUnderWay);
        }
        if !self.session.conversation.borrow_mut().send_close(rules, now, frame.clone()) {
            return SendStatus::Closed;
        }
        self.session.queue_close(Some(frame));
        SendStatus::Queued
    }

    /// Ends the connection once everything queued has been sent, without a close handshake unless
    /// [`send_close`](Self::send_close) was called before. A peer that does not read is given the
    /// close timeout. May be called any number of times.
    pub fn disconnect(&self) {
        self.session.catch_up();
        let local = &self.session.local;
        let (rules, now) = (&self.session.config.conversation, local.now());
        self.session.set_cause(DisconnectCause::Application);
        self.session.conversation.borrow_mut().finish(rules, now);
        self.session.mark_dirty();
    }

    /// Ends the connection at once; what is queued is dropped. May be called any number of times.
    ///
    /// `on_disconnected` follows after the current callback.
    pub fn abort(&self) {
        if !self.session.is_disconnected.get() {
            self.session.set_cause(DisconnectCause::Application);
            self.session.conversation.borrow_mut().end();
            self.session.drop_queue();
            self.session.mark_dirty();
        }
    }

    /// Stops reading: the buffers of the kernel fill, and TCP holds the peer back.
    ///
    /// What had arrived in memory by then is still delivered, so a few more frames may come: the
    /// rest of the receive buffer, and of others that the kernel had filled already. While reading
    /// is paused nothing is known of the peer, neither pings, nor CLOSE, nor that it has gone,
    /// unless sending to it fails. A connection whose CLOSE was sent needs reading to be resumed
    /// for the answer, or waits for the close timeout. May be called any number of times.
    pub fn pause_reading(&self) {
        if !self.session.is_reading_paused.replace(true) {
            self.session.mark_dirty();
        }
    }

    /// Reads on. Does nothing if reading is not paused.
    pub fn resume_reading(&self) {
        if self.session.is_reading_paused.replace(false) {
            self.session.mark_dirty();
        }
    }

    /// Whether reading is paused.
    #[must_use]
    pub fn is_reading_paused(&self) -> bool {
        self.session.is_reading_paused.get()
    }

    /// Sets other watermarks for this connection than those of the settings (`write_watermarks`), while
    /// it is open: unsent bytes above which its listener pauses, and at or below which it is to
    /// resume. What is queued already is judged by them in the worker's next turn.
    ///
    /// # Errors
    ///
    /// When the low one is above the high one, or the high one above `max_queue_size`.
    pub fn set_write_watermarks(&self, high: usize, low: usize) -> Result<(), Error> {
        check_watermarks(high, low)?;
        let max = self.session.config.queue_bytes_max;
        if high > max {
            let fault =
                format!("high {high} is above max_queue_size, which is {max}: use that or less");
            return Err(Error::Config { setting: "write_watermarks", fault });
        }
        self.session.set_watermarks(high, low);
        Ok(())
    }

    /// Takes over the pause that a send has announced ([`SendStatus::Congested`]): whether the caller has
    /// to stop sending from now on. If so, `pause_writing` is not called for it, and `resume_writing`
    /// follows. For code that sends in a loop outside of a turn, calls
    /// [`Embedded::flush`](crate::Embedded::flush) and has to know at once.
    #[must_use]
    pub fn take_pause(&self) -> bool {
        let session = &self.session;
        if !session.owes_pause.take() || session.buffered() <= session.high_watermark() {
            return false;
        }
        session.is_paused.set(true);
        session.mark_dirty();
        true
    }

    /// Waits until the connection is over. Any number of tasks may wait; dropping the future loses
    /// nothing.
    ///
    /// # Errors
    ///
    /// When the connection ended because the peer broke the protocol, or a callback of the listener
    /// failed. A peer that closes or disappears is no error;
    /// [`disconnect_cause`](Self::disconnect_cause) knows how it was.
    pub async fn wait_disconnected(&self) -> Result<(), DisconnectCause> {
        poll_fn(|context| {
            if self.is_disconnected() {
                return Poll::Ready(());
            }
            self.session.wait(context.waker());
            Poll::Pending
        })
        .await;
        match self.disconnect_cause() {
            Some(cause @ (DisconnectCause::PeerMisbehaved(_) | DisconnectCause::Listener(_))) => {
                Err(cause)
            }
            _ => Ok(()),
        }
    }

    /// Measures how long `rounds` pings take to be answered, one after the other. Automatic pings
    /// are held back meanwhile. Dropping the future ends the measurement.
    ///
    /// The pings are those of the listener
    /// ([`send_user_specific_ping`](crate::Listener::send_user_specific_ping)).
    ///
    /// # Errors
    ///
    /// When the connection ends before all pongs have come, or another task is measuring.
    pub async fn measure_roundtrip_time(
        &self,
        rounds: usize,
    ) -> Result<Vec<Duration>, RoundtripError> {
        roundtrip::measure(&self.session, rounds).await
    }

    /// How long the last automatic ping took to be answered, from when it was queued until its pong was
    /// handled; `None` before the first, and where
    /// [`auto_ping`](crate::ServerBuilder::auto_ping) is off.
    #[must_use]
    pub fn last_roundtrip(&self) -> Option<Duration> {
        self.session.last_roundtrip()
    }

    /// Sends a PING that carries a number, which [`is_auto_pong`](Self::is_auto_pong) looks for:
    /// what automatic pings are by default.
    pub fn send_auto_ping(&self) -> SendStatus {
        self.session.send_auto_ping()
    }

    /// Whether `frame` is the PONG that answers the last [`send_auto_ping`](Self::send_auto_ping).
    #[must_use]
    pub fn is_auto_pong(&self, frame: &Frame<'_>) -> bool {
        self.session.is_auto_pong(frame)
    }

    /// Says that the frame being handled answers the last ping, for listeners that find out only
    /// while they handle it. Harmless when no answer is awaited.
    pub fn notify_user_specific_pong_received(&self) {
        self.session.pong_received();
    }

    /// A handle for other threads.
    #[must_use]
    pub fn remote(&self) -> RemoteTransport {
        let session = &self.session;
        let state = Arc::clone(session.remote());
        let mailbox = Arc::clone(&session.local.mailbox);
        RemoteTransport::new(session.id(), mailbox, session.token, state)
    }

    /// Bytes that were queued, frame headers included, and whose send has not completed: the sum of
    /// [`queued_amount`](Self::queued_amount) and [`in_flight_amount`](Self::in_flight_amount).
    ///
    /// What the kernel has taken is not ours any more, and not counted: it may still be in the
    /// buffer of the socket, on its way, or in front of a peer that does not read. To learn what
    /// the peer has handled, have it say so, or ping it.
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.session.buffered()
    }

    /// Bytes that wait for the end of the turn, or for the send in flight to complete. Part of them
    /// may still be dropped or replaced, if there are keys or the policy says so.
    #[must_use]
    pub fn queued_amount(&self) -> usize {
        self.session.queued()
    }

    /// Bytes of the send in flight, of which there is one at a time: they were given to the kernel,
    /// and it has not said how many of them it took. It reports when it has taken all, or can take
    /// no more.
    #[must_use]
    pub fn in_flight_amount(&self) -> usize {
        self.session.in_flight()
    }

    /// Whether our CLOSE was sent (or queued), so that nothing can follow.
    #[must_use]
    pub fn is_close_frame_sent(&self) -> bool {
        self.session.conversation.borrow().is_close_sent()
    }

    /// Whether the connection is over: `on_disconnected` was called or is about to be.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.session.is_disconnected.get()
    }

    /// What is known of the close handshake: which CLOSE was sent, which was received, and which
    /// came first.
    #[must_use]
    pub fn close_handshake(&self) -> CloseHandshake {
        self.session.conversation.borrow().close_handshake().cloned().unwrap_or_default()
    }

    /// Why the connection ended, or is about to; `None` while it is open.
    #[must_use]
    pub fn disconnect_cause(&self) -> Option<DisconnectCause> {
        self.session.cause()
    }

    /// Whether PINGs of the peer are answered by themselves.
    pub(crate) fn answers_pings(&self) -> bool {
        self.session.config.conversation.auto_pong
    }

    /// Whether the handshake is done and no end is under way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.conversation.borrow().phase() == Phase::Open
    }

    /// Lends the socket for setting options; `None` when it is closed, or there is none. Do not read,
    /// write or close it.
    pub fn with_socket<T>(&self, use_socket: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        // The worker that closes sockets is on this thread, so this one lives until we return.
        let socket = self.session.socket.get().filter(|socket| !socket.is_stream())?;
        Some(use_socket(ring::borrow(&socket)))
    }
}

/// Two handles are equal if they are of the same connection.
impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.session, &other.session)
    }
}

impl Eq for Transport {}

impl Hash for Transport {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("id", &self.id())
            .field("peer_addr", &self.peer_addr())
            .field("phase", &self.session.conversation.borrow().phase())
            .field("buffered_amount", &self.buffered_amount())
            .finish_non_exhaustive()
    }
}
