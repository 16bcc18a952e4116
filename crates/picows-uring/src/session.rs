//! The part of a connection that handles and worker share: what is queued, and where it stands.
//!
//! It queues, and puts itself on the worker's list of connections to look at. It does no I/O, but for
//! two things: where a limit of the queue is met, the socket is offered what is queued (`outlet.rs`), and
//! a large frame of a caller that wants its buffer back goes there at once (`in_place.rs`).

mod append;
#[cfg(not(feature = "_tls"))]
mod clear;
#[cfg(feature = "deflate")]
mod compression;
mod conflation;
mod in_flight;
mod in_place;
mod limit;
mod outlet;
mod payload;
mod pinging;
mod publications;
mod queue;
mod rare_state;
mod reset;
pub(crate) mod roundtrip;
#[cfg(feature = "_tls")]
mod secure;
mod sender;
mod socket;
mod span;
mod writing;

use crate::config::Config;
use crate::foreign::log::{LogLine, log_limited};
use crate::foreign::{self, StateCell, StateMut};
use crate::identity::ConnectionId;
use crate::local::Local;
use crate::ring::{SendBatch, Socket, Token};
use crate::status::{DisconnectCause, SendStatus};
pub(crate) use conflation::COPY_BYTES_MAX;
use conflation::DroppableSlot;
use picows_uring_proto::{
    CloseCode, Frame, FrameHead, Liveness, MsgType, Phase, Role, Sender, Tick,
};
use pinging::Ping;
pub(crate) use publications::{Handed, RunCounts};
use rare_state::{RareState, join, wake_all};
#[cfg(feature = "_tls")]
pub(crate) use secure::{SecureInput, SecureStage, SecureState};
use sender::ConversationCell;
use socket::{PeerAddr, SocketCell};
use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// One connection, as its handles see it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) local: Rc<Local>,
    /// Of the server, or of this client connection.
    pub(crate) config: Arc<Config>,
    pub(crate) token: Token,
    pub(crate) conversation: ConversationCell,
    /// Bytes that wait for the end of the turn, or for the send in flight.
    queue: StateCell<Option<Box<SendBatch>>>,
    /// What waits behind the queue and may still be taken back.
    droppable: DroppableSlot,
    /// Buffered bytes up to which a frame is queued at once; 0 while droppable frames exist.
    append_max: Cell<u32>,
    /// The socket was offered what is queued, and has not taken all of it.
    is_offered: Cell<bool>,
    /// [`Local::polls`] when the send in flight began.
    sent_at: Cell<u8>,
    /// Bytes of the send in flight.
    in_flight: Cell<usize>,
    /// Bytes of memory that they keep from being freed; of more, as many as fit.
    in_flight_memory: Cell<u32>,
    /// Empty once the socket is closed.
    pub(crate) socket: SocketCell,
    is_dirty: Cell<bool>,
    pub(crate) is_client: bool,
    /// The listener has to pause.
    pub(crate) is_paused: Cell<bool>,
    /// A sender has learnt that `pause_writing` follows.
    pub(crate) owes_pause: Cell<bool>,
    /// No callback will follow.
    pub(crate) is_disconnected: Cell<bool>,
    ping: Cell<Ping>,
    /// The application does not want to be told what arrives.
    pub(crate) is_reading_paused: Cell<bool>,
    /// It is looked at from time to time whether the peer gets on.
    pub(crate) is_watched: Cell<bool>,
    /// Some of its subscriptions hold publications back.
    holds_publications: Cell<bool>,
    pub(crate) peer: PeerAddr,
    /// Made when the connection is open, if anybody wants to know whether the peer is there.
    heartbeat: OnceCell<Box<Heartbeat>>,
    /// Made when any of it is first needed.
    rare_state: OnceCell<Box<RareState>>,
}

/// Watches whether the peer is there.
#[derive(Debug)]
struct Heartbeat {
    liveness: StateCell<Liveness>,
    /// What the last ping of ours carried.
    ping_nonce: Cell<u64>,
    /// When the last ping was queued.
    pinged_at: Cell<Tick>,
    /// How long the last one that was answered took.
    last_roundtrip: Cell<Option<Duration>>,
}

/// What a session may take, with the two counts in front of it and what an allocator adds: each
/// byte is paid for by every idle connection. `docs/guides/memory.md` has the whole sum.
const SESSION_BYTES_MAX: usize = 144;
const _: () = assert!(size_of::<Session>() <= SESSION_BYTES_MAX);

impl Session {
    pub(crate) fn new(
        local: &Rc<Local>,
        config: &Arc<Config>,
        role: Role,
        token: Token,
        socket: Socket,
        peer: Option<SocketAddr>,
    ) -> Rc<Self> {
        let mut sender = Sender::new(role, &config.conversation, local.now());
        if config.frames.any_order {
            sender.allow_any_order();
        }
        Rc::new(Self {
            local: Rc::clone(local),
            config: Arc::clone(config),
            token,
            conversation: ConversationCell::new(sender),
            queue: StateCell::new(None),
            droppable: DroppableSlot::default(),
            append_max: Cell::new(limit::append_max(config, config.high_watermark, false)),
            is_offered: Cell::new(false),
            sent_at: Cell::new(0),
            in_flight: Cell::new(0),
            in_flight_memory: Cell::new(0),
            socket: SocketCell::new(socket),
            is_dirty: Cell::new(false),
            is_client: role == Role::Client,
            is_paused: Cell::new(false),
            owes_pause: Cell::new(false),
            is_disconnected: Cell::new(false),
            ping: Cell::default(),
            is_reading_paused: Cell::new(false),
            is_watched: Cell::new(false),
            peer: peer.into(),
            heartbeat: OnceCell::new(),
            holds_publications: Cell::new(false),
            rare_state: OnceCell::new(),
        })
    }

    /// Puts the connection on the list of those to look at before the turn ends.
    #[inline]
    pub(crate) fn mark_dirty(&self) {
        if !self.is_dirty.replace(true) {
            self.push_dirty();
        }
    }

    #[inline(never)] // Of the many places that mark a connection, a turn passes several.
    fn push_dirty(&self) {
        self.local.dirty.borrow_mut().push(self.token);
        self.local.wake();
    }

    /// The connection is being looked at.
    pub(crate) fn clear_dirty(&self) {
        self.is_dirty.set(false);
    }

    /// The connection is open: its liveness is watched from now on.
    pub(crate) fn opened(&self) {
        self.conversation.borrow_mut().opened();
        let (rules, now) = (&self.config.liveness, self.local.now());
        if rules.is_on() {
            let lifetime = rules.lifetime.map(|lifetime| {
                let cut = self.config.lifetime_jitter * self.local.keys.borrow_mut().fraction();
                let seconds = lifetime.as_secs_f64() * (1.0 - cut);
                Duration::try_from_secs_f64(seconds).unwrap_or(lifetime)
            });
            let liveness = StateCell::new(Liveness::new(rules, now, lifetime));
            self.heartbeat.get_or_init(|| {
                Box::new(Heartbeat {
                    liveness,
                    ping_nonce: Cell::new(0),
                    pinged_at: Cell::new(now),
                    last_roundtrip: Cell::new(None),
                })
            });
        }
        self.mark_dirty();
    }

    /// Sends the ping that is matched with its pong by what it carries.
    pub(crate) fn send_auto_ping(&self) -> SendStatus {
        let nonce = self.local.keys.borrow_mut().next_nonce();
        self.ping_nonce().set(nonce);
        self.send(FrameHead::new(MsgType::Ping), &nonce.to_be_bytes())
    }

    fn ping_nonce(&self) -> &Cell<u64> {
        match self.heartbeat.get() {
            Some(heartbeat) => &heartbeat.ping_nonce,
            None => &self.rare_state().ping_nonce,
        }
    }

    /// Whether `frame` answers the last ping of [`send_auto_ping`](Self::send_auto_ping).
    pub(crate) fn is_auto_pong(&self, frame: &Frame<'_>) -> bool {
        frame.msg_type() == MsgType::Pong
            && frame.payload() == self.ping_nonce().get().to_be_bytes()
    }

    /// Whether the answer to a ping is awaited, by whomever.
    #[inline]
    pub(crate) fn is_pong_expected(&self) -> bool {
        self.is_liveness_pinging() || self.roundtrip().is_some_and(|round| round.is_pong_expected())
    }

    /// Whether the answer to a ping is awaited that has a deadline.
    pub(crate) fn is_liveness_pinging(&self) -> bool {
        self.liveness().is_some_and(|liveness| liveness.is_pong_expected())
    }

    /// The answer to a ping is here. Harmless when none was awaited.
    pub(crate) fn pong_received(&self) {
        if !self.is_pong_expected() {
            return;
        }
        let now = self.local.now();
        let mut took = None;
        if let Some(heartbeat) = self.heartbeat.get() {
            let was_awaited = heartbeat.liveness.borrow().is_pong_expected();
            took = heartbeat.liveness.borrow_mut().pong_received(now);
            if was_awaited {
                self.note_roundtrip(heartbeat, now);
            }
        }
        // The next ping may be due before the timer that is armed, or have waited for this one.
        self.mark_dirty();
        let measured = self.roundtrip().and_then(|roundtrip| roundtrip.time_since_ping(now));
        if let Some(took) = measured.or(took) {
            self.local.counters.roundtrips.record(took);
        }
        let waiting = self.roundtrip().and_then(|mut roundtrip| roundtrip.pong_received(now));
        foreign::wake(waiting);
    }

    /// A ping was queued that has a deadline, with `bytes_ahead` bytes in the queue up to its end.
    pub(crate) fn ping_queued(&self, now: Tick, bytes_ahead: usize) {
        if let Some(heartbeat) = self.heartbeat.get() {
            heartbeat.pinged_at.set(now);
            heartbeat.liveness.borrow_mut().ping_queued(now, bytes_ahead);
        }
    }

    fn note_roundtrip(&self, heartbeat: &Heartbeat, now: Tick) {
        let roundtrip = now.duration_since(heartbeat.pinged_at.get());
        heartbeat.last_roundtrip.set(Some(roundtrip));
        if let Some(remote) = self.rare_state.get().and_then(|it| it.remote.get()) {
            remote.set_roundtrip(roundtrip);
        }
    }

    /// How long the last ping that has a deadline took to be answered.
    pub(crate) fn last_roundtrip(&self) -> Option<Duration> {
        self.heartbeat.get()?.last_roundtrip.get()
    }

    /// The name of the connection in this process.
    pub(crate) fn id(&self) -> ConnectionId {
        ConnectionId::new(self.local.worker, self.token)
    }

    /// Holds automatic pings back, or no longer.
    pub(crate) fn hold_liveness(&self, hold: bool) {
        let Some(mut liveness) = self.liveness() else { return };
        liveness.hold(hold);
        drop(liveness);
        self.mark_dirty();
    }

    /// When the connection next wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        let conversation = self.conversation.borrow();
        let watched = self
            .liveness()
            .filter(|_| conversation.phase() == Phase::Open && !conversation.is_closing())
            .and_then(|liveness| liveness.poll_timeout(&self.config.liveness));
        conversation.poll_timeout().into_iter().chain(watched).min()
    }

    /// Wakes `waker` when the connection is over.
    pub(crate) fn wait(&self, waker: &Waker) {
        join(&self.rare_state().waiters, waker);
    }

    /// Wakes `waker` when the queue has drained to the low watermark or less, each time once, and
    /// when the connection is over.
    pub(crate) fn wait_drained(&self, waker: &Waker) {
        join(&self.rare_state().drain_waiters, waker);
    }

    /// The kernel took something: wakes the futures that wait for it.
    #[inline]
    pub(crate) fn wake_drain_waiters(&self) {
        let Some(rare_state) = self.rare_state.get() else { return };
        let is_waited_for = rare_state.drain_waiters.borrow().is_some();
        if is_waited_for && self.buffered() <= self.low_watermark() {
            wake_all(&rare_state.drain_waiters);
        }
    }

    /// Sends CLOSE in the worker's next turn, unless something else ends the connection before.
    pub(crate) fn on_stream_dropped(&self) {
        self.rare_state().is_abandoned.set(true);
        self.mark_dirty();
    }

    /// There is no memory for bytes of the connection: ends it with CLOSE 1013.
    #[cold]
    pub(crate) fn out_of_memory(&self) {
        self.local.counters.allocation_failures.increment();
        log_limited!(warn, self.local, LogLine::OutOfMemory, peer = self.peer.logged());
        let code = CloseCode::TRY_AGAIN_LATER;
        self.fail(DisconnectCause::OutOfMemory, code, "out of memory: try again later");
    }

    /// Ends the connection with CLOSE, if one may still be sent.
    pub(crate) fn fail(&self, cause: DisconnectCause, code: CloseCode, reason: &str) {
        self.set_cause(cause);
        let (rules, now) = (&self.config.conversation, self.local.now());
        let close = self.conversation.borrow_mut().fail(rules, now, code, reason);
        self.queue_close(close);
    }

    /// Wakes every future that waits: the connection is over.
    pub(crate) fn ended(&self) {
        let Some(rare_state) = self.rare_state.get() else { return };
        if let Some(remote) = rare_state.remote.get() {
            remote.end();
        }
        self.end_subscriptions();
        // A handle that outlives its connection keeps no history.
        #[cfg(feature = "deflate")]
        self.end_compressing();
        let waiting = self.roundtrip().and_then(|mut roundtrip| roundtrip.take_waker());
        foreign::wake(waiting);
        wake_all(&rare_state.waiters);
        wake_all(&rare_state.drain_waiters);
    }

    /// Records why the connection ends, unless something was recorded before.
    pub(crate) fn set_cause(&self, cause: DisconnectCause) {
        self.rare_state().cause.borrow_mut().get_or_insert_with(|| Box::new(cause));
    }

    /// Why the connection ends, as far as that is known.
    pub(crate) fn cause(&self) -> Option<DisconnectCause> {
        self.rare_state.get()?.cause.borrow().as_deref().cloned()
    }

    /// Something about the cause of the end, as far as that is known.
    pub(crate) fn ask_cause<T>(&self, ask: impl FnOnce(&DisconnectCause) -> T) -> Option<T> {
        self.rare_state.get()?.cause.borrow().as_deref().map(ask)
    }

    /// Whether a deadline of the conversation has ended it.
    pub(crate) fn has_timed_out(&self) -> bool {
        matches!(self.cause(), Some(DisconnectCause::TimedOut))
    }

    /// What watches whether the peer is there, if anybody wants that.
    #[inline]
    pub(crate) fn liveness(&self) -> Option<StateMut<'_, Liveness>> {
        self.heartbeat.get().map(|heartbeat| heartbeat.liveness.borrow_mut())
    }

    fn rare_state(&self) -> &RareState {
        self.rare_state.get_or_init(Box::default)
    }
}
