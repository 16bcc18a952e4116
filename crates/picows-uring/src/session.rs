//! The part of a connection that handles and worker share: what is queued, and where it stands.
//!
//! Does no I/O: it queues, and puts itself on the worker's list of connections to look at.

use crate::client::Recruit;
use crate::config::{Config, QueuePolicy};
use crate::counters::Counters;
use crate::keys::KeySource;
use crate::mailbox::Mailbox;
use crate::pool::Pool;
use crate::remote::RemoteState;
use crate::ring::{Segment, SendBatch, Socket, Token};
use crate::roundtrip::Roundtrip;
use crate::transport::{DisconnectCause, SendStatus};
use bytes::Bytes;
use picows_uring_proto::{
    ApiMisuse, CloseCode, CloseFrame, Conversation, FRAME_HEADER_BYTES_MAX, Frame, FrameHead,
    Liveness, MsgType, Phase, ResponseHead, Role, Tick, UpgradeRequest,
};
use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// What all connections of a worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) pool: Pool,
    /// The time of the current turn, or of the last one.
    pub(crate) now: Cell<Tick>,
    /// When the last turn was over, while the worker waits for the next.
    pub(crate) idle_since: Cell<Option<Instant>>,
    /// Connections that want to be looked at before the turn ends.
    pub(crate) dirty: RefCell<Vec<Token>>,
    /// Masks frames of clients, and makes the nonces of their handshakes.
    pub(crate) keys: RefCell<KeySource>,
    /// Sockets that were connected and wait to be taken in.
    pub(crate) recruits: RefCell<Vec<Recruit>>,
    /// Wakes the worker's task, for whoever queues something while it waits.
    pub(crate) waker: RefCell<Option<Waker>>,
}

impl Shared {
    pub(crate) fn new(
        config: Arc<Config>,
        counters: Arc<Counters>,
        mailbox: Arc<Mailbox>,
    ) -> Rc<Self> {
        Rc::new(Self {
            config,
            counters,
            mailbox,
            pool: Pool::default(),
            now: Cell::new(Tick::ZERO),
            idle_since: Cell::new(None),
            dirty: RefCell::default(),
            keys: RefCell::default(),
            recruits: RefCell::default(),
            waker: RefCell::default(),
        })
    }
}

impl Shared {
    /// The time, also for a task that runs while the worker waits.
    pub(crate) fn now(&self) -> Tick {
        match self.idle_since.get() {
            Some(since) => self.now.get() + since.elapsed(),
            None => self.now.get(),
        }
    }

    /// Has the worker take its turn, if it waits.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether something is there for the worker that its ring does not know of.
    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.borrow().is_empty() || !self.recruits.borrow().is_empty()
    }
}

/// One connection, as its handles see it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Rc<Shared>,
    /// Of the server, or of this client connection.
    pub(crate) config: Arc<Config>,
    pub(crate) token: Token,
    pub(crate) conversation: RefCell<Conversation>,
    /// Bytes that wait for the end of the turn, or for the send in flight.
    queue: RefCell<Option<Box<SendBatch>>>,
    /// Bytes of the send in flight.
    pub(crate) in_flight: Cell<usize>,
    /// `None` once the socket is closed.
    pub(crate) socket: Cell<Option<Socket>>,
    is_dirty: Cell<bool>,
    pub(crate) is_client: bool,
    /// A fragmented message of ours is under way.
    is_message_open: Cell<bool>,
    /// The listener was told to pause.
    pub(crate) is_paused: Cell<bool>,
    /// A sender was told that `pause_writing` follows.
    pub(crate) owes_pause: Cell<bool>,
    /// No callback will follow.
    pub(crate) is_disconnected: Cell<bool>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) request: OnceCell<Box<UpgradeRequest>>,
    pub(crate) subprotocol: OnceCell<Box<str>>,
    pub(crate) cause: RefCell<Option<Box<DisconnectCause>>>,
    /// The server's answer, on the client's side.
    pub(crate) response: OnceCell<Box<ResponseHead>>,
    /// Watches whether the peer is there, if anybody wants that.
    pub(crate) liveness: RefCell<Option<Box<Liveness>>>,
    /// A measurement that is under way.
    pub(crate) roundtrip: RefCell<Option<Box<Roundtrip>>>,
    /// The listener is sending a ping: it is queued even where other frames are not, or the peer
    /// would be expected to answer what it was never asked.
    pub(crate) is_pinging: Cell<bool>,
    /// What the last ping of ours carried.
    ping_nonce: Cell<u64>,
    /// Tasks that wait for the end.
    waiters: RefCell<Waiters>,
    /// Tasks that wait until less is queued.
    drain_waiters: RefCell<Waiters>,
    /// The application does not want to be told what arrives.
    pub(crate) is_reading_paused: Cell<bool>,
    /// Nobody has the stream of this connection any more: say goodbye.
    pub(crate) is_abandoned: Cell<bool>,
    /// What handles in other threads know of us; made with the first of them.
    pub(crate) remote: OnceCell<Arc<RemoteState>>,
}

impl Session {
    pub(crate) fn new(
        shared: &Rc<Shared>,
        config: &Arc<Config>,
        role: Role,
        token: Token,
        socket: Socket,
        peer: Option<SocketAddr>,
    ) -> Rc<Self> {
        let conversation = Conversation::new(role, &config.conversation, shared.now.get());
        Rc::new(Self {
            shared: Rc::clone(shared),
            config: Arc::clone(config),
            token,
            conversation: RefCell::new(conversation),
            queue: RefCell::new(None),
            in_flight: Cell::new(0),
            socket: Cell::new(Some(socket)),
            is_dirty: Cell::new(false),
            is_client: role == Role::Client,
            is_message_open: Cell::new(false),
            is_paused: Cell::new(false),
            owes_pause: Cell::new(false),
            is_disconnected: Cell::new(false),
            peer,
            request: OnceCell::new(),
            subprotocol: OnceCell::new(),
            cause: RefCell::new(None),
            response: OnceCell::new(),
            liveness: RefCell::new(None),
            roundtrip: RefCell::new(None),
            is_pinging: Cell::new(false),
            ping_nonce: Cell::new(0),
            waiters: RefCell::new(None),
            drain_waiters: RefCell::new(None),
            is_reading_paused: Cell::new(false),
            is_abandoned: Cell::new(false),
            remote: OnceCell::new(),
        })
    }

    /// Puts the connection on the list of those to look at before the turn ends.
    #[inline]
    pub(crate) fn touch(&self) {
        if !self.is_dirty.replace(true) {
            self.enlist();
        }
    }

    fn enlist(&self) {
        self.shared.dirty.borrow_mut().push(self.token);
        self.shared.wake();
    }

    /// The connection is being looked at.
    pub(crate) fn untouch(&self) {
        self.is_dirty.set(false);
    }

    /// Bytes that were queued and that the kernel has not taken.
    pub(crate) fn buffered(&self) -> usize {
        self.in_flight.get() + self.queued()
    }

    /// Bytes that wait for the next send.
    pub(crate) fn queued(&self) -> usize {
        self.queue.borrow().as_ref().map_or(0, |queue| queue.len())
    }

    /// Whether there is a queue at all, and how long its buffers are.
    #[cfg(test)]
    pub(crate) fn queue_capacity(&self) -> usize {
        self.queue.borrow().as_ref().map_or(0, |queue| size_of_val(&**queue) + queue.len())
    }

    /// Queues a frame whose payload is copied.
    #[inline]
    pub(crate) fn send(&self, head: FrameHead, payload: &[u8]) -> SendStatus {
        self.queue_frame(head, payload.len(), |queue, pool, key| {
            let len = FRAME_HEADER_BYTES_MAX + payload.len();
            queue.append(len, || pool.buffer(len), |out| head.append(out, payload, key));
        })
    }

    /// Queues a frame whose payload is kept by reference, if it need not be masked.
    pub(crate) fn send_shared(&self, head: FrameHead, payload: &Bytes) -> SendStatus {
        if payload.len() <= COPY_BYTES_MAX {
            return self.send(head, payload);
        }
        self.queue_frame(head, payload.len(), |queue, pool, key| {
            if key.is_some() {
                let len = FRAME_HEADER_BYTES_MAX + payload.len();
                queue.append(len, || pool.buffer(len), |out| head.append(out, payload, key));
                return;
            }
            let len = FRAME_HEADER_BYTES_MAX;
            let append = |out: &mut Vec<u8>| head.append_header(out, payload.len(), key);
            queue.append(len, || pool.buffer(len), append);
            queue.push(Segment::Shared(payload.clone()));
        })
    }

    /// Queues a frame whose header is written in front of its payload.
    pub(crate) fn send_headroom(
        &self,
        head: FrameHead,
        mut buffer: Vec<u8>,
        payload_start: usize,
    ) -> SendStatus {
        let payload_len = buffer.len().saturating_sub(payload_start);
        // Checked before anything is counted: what is refused was not sent.
        if payload_start < FRAME_HEADER_BYTES_MAX {
            return SendStatus::Refused(ApiMisuse::HeadroomTooSmall(payload_start));
        }
        if payload_start > buffer.len() {
            let len = buffer.len();
            return SendStatus::Refused(ApiMisuse::HeadroomPastEnd { start: payload_start, len });
        }
        self.queue_frame(head, payload_len, |queue, _, key| {
            if let Ok(start) = head.prepend(&mut buffer, payload_start, key) {
                queue.push(Segment::Owned { bytes: buffer, start });
            }
        })
    }

    /// Checks whether a frame may be queued, lets `append` do so, and keeps the books.
    #[inline]
    fn queue_frame(
        &self,
        head: FrameHead,
        payload_len: usize,
        append: impl FnOnce(&mut SendBatch, &Pool, Option<[u8; 4]>),
    ) -> SendStatus {
        if let Err(misuse) = head.check(payload_len) {
            return SendStatus::Refused(misuse);
        }
        if !self.conversation.borrow().may_send() {
            return SendStatus::Closed;
        }
        let is_message_open = match head.check_order(self.is_message_open.get()) {
            Ok(is_message_open) => is_message_open,
            Err(misuse) => return SendStatus::Refused(misuse),
        };
        let config = &self.config;
        let buffered = self.buffered() + FRAME_HEADER_BYTES_MAX + payload_len;
        if buffered > config.queue_bytes_max {
            // Control frames are never dropped, so they have some room of their own; a peer that
            // fills even that, with pings whose pongs it does not read, is not served.
            if !head.msg_type.is_control() && !self.is_pinging.get() {
                // Without one of its fragments, a message would arrive with a hole.
                let is_begun = head.msg_type == MsgType::Continuation;
                let policy = if is_begun { QueuePolicy::Close } else { config.queue_policy };
                return self.queue_full(policy);
            }
            if buffered > config.queue_bytes_max.saturating_add(CONTROL_QUEUE_BYTES) {
                return self.queue_full(QueuePolicy::Close);
            }
        }
        self.is_message_open.set(is_message_open);
        append(self.open_queue().as_mut(), &self.shared.pool, self.mask_key());
        self.shared.counters.frames_sent.increment();
        self.touch();
        if buffered <= config.high_watermark {
            return SendStatus::Queued;
        }
        if !self.is_paused.get() {
            self.owes_pause.set(true);
        }
        SendStatus::Congested
    }

    #[cold]
    fn queue_full(&self, policy: QueuePolicy) -> SendStatus {
        match policy {
            QueuePolicy::DropNewest => {
                self.shared.counters.frames_dropped.increment();
                SendStatus::Dropped
            }
            QueuePolicy::Close => {
                let limit = self.config.queue_bytes_max;
                tracing::warn!(peer = ?self.peer, limit, "send queue full: closing");
                self.set_cause(DisconnectCause::QueueFull);
                let (rules, now) = (&self.config.conversation, self.shared.now());
                let code = CloseCode::POLICY_VIOLATION;
                let close =
                    self.conversation.borrow_mut().fail(rules, now, code, "send queue full");
                self.queue_close(close);
                SendStatus::Closed
            }
        }
    }

    /// Queues a CLOSE that the conversation has recorded as sent, and has the connection looked
    /// at in any case.
    pub(crate) fn queue_close(&self, close: Option<CloseFrame>) {
        if let Some(close) = close {
            let pool = &self.shared.pool;
            let fresh = || pool.buffer(CLOSE_FRAME_BYTES_MAX);
            let key = self.mask_key();
            let write = |out: &mut Vec<u8>| close.append(out, key);
            self.open_queue().append(CLOSE_FRAME_BYTES_MAX, fresh, write);
            self.shared.counters.frames_sent.increment();
        }
        self.touch();
    }

    /// Queues bytes that are no frame: HTTP.
    pub(crate) fn queue_raw(&self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let pool = &self.shared.pool;
        self.open_queue().append(len, || pool.buffer(len), write);
        self.touch();
    }

    /// Takes what is queued, to be sent.
    pub(crate) fn take_queue(&self) -> Option<Box<SendBatch>> {
        self.queue.borrow_mut().take()
    }

    /// Puts what a send left over in front of what was queued since.
    pub(crate) fn put_back(&self, mut rest: Box<SendBatch>) {
        let mut queue = self.queue.borrow_mut();
        if let Some(mut later) = queue.take() {
            rest.extend(&mut later);
            self.shared.pool.put_batch(later);
        }
        *queue = Some(rest);
    }

    /// Drops what is queued.
    pub(crate) fn drop_queue(&self) {
        if let Some(queue) = self.take_queue() {
            self.shared.pool.put_batch(queue);
        }
    }

    /// The connection is open: its liveness is watched from now on.
    pub(crate) fn opened(&self) {
        self.conversation.borrow_mut().opened();
        let (rules, now) = (&self.config.liveness, self.shared.now.get());
        if rules.is_on() {
            let lifetime = rules.lifetime.map(|lifetime| {
                let cut = self.config.lifetime_jitter * self.shared.keys.borrow_mut().fraction();
                let seconds = lifetime.as_secs_f64() * (1.0 - cut);
                Duration::try_from_secs_f64(seconds).unwrap_or(lifetime)
            });
            let liveness = Liveness::new(rules, now, lifetime);
            *self.liveness.borrow_mut() = Some(Box::new(liveness));
        }
        self.touch();
    }

    /// Something arrived.
    #[inline]
    pub(crate) fn heard(&self) {
        if let Some(liveness) = self.liveness.borrow_mut().as_deref_mut() {
            liveness.received(self.shared.now.get());
        }
    }

    /// The kernel took `count` bytes of the queue.
    #[inline]
    pub(crate) fn sent(&self, count: usize) {
        if let Some(liveness) = self.liveness.borrow_mut().as_deref_mut() {
            liveness.sent(self.shared.now.get(), count);
        }
    }

    /// Sends the ping that is matched with its pong by what it carries.
    pub(crate) fn send_auto_ping(&self) -> SendStatus {
        let nonce = self.shared.keys.borrow_mut().next_nonce();
        self.ping_nonce.set(nonce);
        self.send(FrameHead::new(MsgType::Ping), &nonce.to_be_bytes())
    }

    /// Whether `frame` answers the last ping of [`send_auto_ping`](Self::send_auto_ping).
    pub(crate) fn is_auto_pong(&self, frame: &Frame<'_>) -> bool {
        frame.msg_type() == MsgType::Pong && frame.payload() == self.ping_nonce.get().to_be_bytes()
    }

    /// Whether the answer to a ping is awaited, by whomever.
    #[inline]
    pub(crate) fn is_pong_expected(&self) -> bool {
        self.is_liveness_pinging()
            || self.roundtrip.borrow().as_ref().is_some_and(|round| round.is_pong_expected())
    }

    /// Whether the answer to a ping is awaited that has a deadline.
    pub(crate) fn is_liveness_pinging(&self) -> bool {
        self.liveness.borrow().as_ref().is_some_and(|liveness| liveness.is_pong_expected())
    }

    /// The answer to a ping is here. Harmless when none was awaited.
    pub(crate) fn pong_received(&self) {
        if !self.is_pong_expected() {
            return;
        }
        let now = self.shared.now();
        if let Some(liveness) = self.liveness.borrow_mut().as_deref_mut() {
            liveness.pong_received(now);
        }
        // The next ping may be due before the timer that is armed, or have waited for this one.
        self.touch();
        if let Some(roundtrip) = self.roundtrip.borrow_mut().as_deref_mut() {
            roundtrip.pong_received(now);
        }
    }

    /// Holds automatic pings back, or no longer.
    pub(crate) fn hold_liveness(&self, hold: bool) {
        if let Some(liveness) = self.liveness.borrow_mut().as_deref_mut() {
            liveness.hold(hold);
            self.touch();
        }
    }

    /// When the connection next wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let conversation = self.conversation.borrow();
        let liveness = self.liveness.borrow();
        let watched = liveness
            .as_ref()
            .filter(|_| conversation.phase() == Phase::Open && !conversation.is_closing())
            .and_then(|liveness| liveness.poll_timeout(&self.config.liveness));
        conversation.poll_timeout().into_iter().chain(watched).min()
    }

    /// Wakes `waker` when the connection is over.
    pub(crate) fn wait(&self, waker: &Waker) {
        join(&mut self.waiters.borrow_mut(), waker);
    }

    /// Wakes `waker` when the queue has drained to the low watermark or less, each time once, and
    /// when the connection is over.
    pub(crate) fn wait_drained(&self, waker: &Waker) {
        join(&mut self.drain_waiters.borrow_mut(), waker);
    }

    /// The kernel took something: tells those who wait for it.
    #[inline]
    pub(crate) fn drained(&self) {
        let is_waited_for = self.drain_waiters.borrow().is_some();
        if is_waited_for && self.buffered() <= self.config.low_watermark {
            wake_all(&self.drain_waiters);
        }
    }

    /// Says goodbye in the worker's next turn, unless something else ends the connection before.
    pub(crate) fn abandon(&self) {
        self.is_abandoned.set(true);
        self.touch();
    }

    /// Ends the connection with CLOSE, if one may still be sent.
    pub(crate) fn fail(&self, cause: DisconnectCause, code: CloseCode, reason: &str) {
        self.set_cause(cause);
        let (rules, now) = (&self.config.conversation, self.shared.now());
        let close = self.conversation.borrow_mut().fail(rules, now, code, reason);
        self.queue_close(close);
    }

    /// Tells everybody who waits that the connection is over.
    pub(crate) fn ended(&self) {
        if let Some(remote) = self.remote.get() {
            remote.end();
        }
        if let Some(roundtrip) = self.roundtrip.borrow_mut().as_deref_mut() {
            roundtrip.wake();
        }
        wake_all(&self.waiters);
        wake_all(&self.drain_waiters);
    }

    /// Records why the connection ends, unless something was recorded before.
    pub(crate) fn set_cause(&self, cause: DisconnectCause) {
        self.cause.borrow_mut().get_or_insert_with(|| Box::new(cause));
    }

    /// The key of the next frame, if frames are masked (RFC 6455 §5.3).
    #[inline]
    fn mask_key(&self) -> Option<[u8; 4]> {
        self.is_client.then(|| self.shared.keys.borrow_mut().next_key())
    }

    fn open_queue(&self) -> std::cell::RefMut<'_, Box<SendBatch>> {
        std::cell::RefMut::map(self.queue.borrow_mut(), |queue| {
            queue.get_or_insert_with(|| self.shared.pool.batch())
        })
    }
}

/// Boxed twice: most sessions have none, and each byte of a session counts.
type Waiters = Option<Box<Vec<Waker>>>;

fn join(waiters: &mut Waiters, waker: &Waker) {
    let waiters = waiters.get_or_insert_default();
    waiters.retain(|waiting| !waiting.will_wake(waker));
    waiters.push(waker.clone());
}

fn wake_all(waiters: &RefCell<Waiters>) {
    for waker in waiters.take().into_iter().flat_map(|waiters| waiters.into_iter()) {
        waker.wake();
    }
}

/// Up to here, copying a payload is cheaper than a segment of its own.
const COPY_BYTES_MAX: usize = 1024;
/// Queued bytes that control frames may have beyond the limit of the queue.
const CONTROL_QUEUE_BYTES: usize = 64 * 1024;
const CLOSE_FRAME_BYTES_MAX: usize =
    FRAME_HEADER_BYTES_MAX + picows_uring_proto::CONTROL_PAYLOAD_BYTES_MAX;
