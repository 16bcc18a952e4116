//! Rare state of a connection: what few have, or each only for a moment. Kept apart, so that an
//! idle one does not pay for it.

use super::Session;
use crate::command::RemoteState;
use crate::config::QueuePolicy;
use crate::foreign::log::ConnectionSpan;
use crate::foreign::{self, Foreign, StateCell, StateMut};
use crate::session::roundtrip::Roundtrip;
use crate::status::DisconnectCause;
use picows_uring_proto::{ResponseHead, UpgradeRequest};
use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::{fmt, io};

/// The parts of a session that are made when they are first needed, all together.
#[derive(Default)]
pub(super) struct RareState {
    pub(super) request: OnceCell<Box<UpgradeRequest>>,
    pub(super) subprotocol: OnceCell<Box<str>>,
    /// The server's answer, on the client's side.
    pub(super) response: OnceCell<Box<ResponseHead>>,
    pub(super) cause: StateCell<Option<Box<DisconnectCause>>>,
    /// Why nothing can be sent any more, while what was received before is read.
    pub(super) send_error: Cell<Option<io::ErrorKind>>,
    /// Made when a subscriber of the log may want it.
    pub(super) span: OnceCell<ConnectionSpan>,
    /// A measurement that is under way.
    pub(super) roundtrip: StateCell<Option<Box<Roundtrip>>>,
    /// What the last ping of ours carried, where no measurement waits for its answer.
    pub(super) ping_nonce: Cell<u64>,
    /// The stream of this connection was dropped: a CLOSE is due.
    pub(super) is_abandoned: Cell<bool>,
    /// A proxy has connected, and its client does not count yet towards the limit of an address.
    pub(super) is_uncounted: Cell<bool>,
    /// Bytes of messages that the listener or a stream of ours holds.
    pub(super) message_bytes: Cell<usize>,
    /// Bytes of memory of the send in flight, of a connection that was evicted.
    pub(super) leaving: Cell<usize>,
    /// What messages are compressed with, where the peer has agreed on it.
    #[cfg(feature = "deflate")]
    pub(super) compressing: StateCell<Option<Box<super::compression::Compressing>>>,
    /// The frame that is sent in pieces.
    pub(super) writing: StateCell<Option<Box<super::writing::Writing>>>,
    /// It has subscriptions to topics.
    pub(super) is_subscribed: Cell<bool>,
    /// Watermarks of this connection alone, the high one first.
    pub(super) watermarks: Cell<Option<(usize, usize)>>,
    /// Tasks that wait for the end.
    pub(super) waiters: StateCell<Waiters>,
    /// Tasks that wait until less is queued.
    pub(super) drain_waiters: StateCell<Waiters>,
    /// What handles in other threads know of us; made with the first of them.
    pub(super) remote: OnceCell<Arc<RemoteState>>,
    #[cfg(feature = "_tls")]
    pub(super) secure: OnceCell<Box<super::SecureState>>,
    /// TLS to a proxy, around all else.
    #[cfg(feature = "_tls")]
    pub(super) outer: OnceCell<Box<super::SecureState>>,
}

impl Session {
    /// The measurement that is under way.
    #[inline]
    pub(crate) fn roundtrip(&self) -> Option<StateMut<'_, Roundtrip>> {
        let roundtrip = self.rare_state.get()?.roundtrip.borrow_mut();
        roundtrip.filter_map(Option::as_deref_mut)
    }

    /// Begins a measurement, or ends it.
    pub(crate) fn set_roundtrip(&self, roundtrip: Option<Roundtrip>) {
        // What was there has a waker, which is dropped when the cell is free again.
        drop(self.rare_state().roundtrip.replace(roundtrip.map(Box::new)));
    }

    /// Whether the stream of this connection was dropped since this was last asked.
    #[inline]
    pub(crate) fn take_abandoned(&self) -> bool {
        self.rare_state.get().is_some_and(|rare_state| rare_state.is_abandoned.take())
    }

    /// Bytes of memory that it holds towards the memory limit, its stash aside.
    pub(crate) fn held_bytes(&self) -> usize {
        let messages = self.rare_state.get().map_or(0, |rare_state| rare_state.message_bytes.get());
        let held = self.queue_memory() + self.in_flight_memory.get() as usize + messages;
        #[cfg(feature = "deflate")]
        let held = held + self.history_bytes();
        held + self.posted_bytes()
    }

    /// Bytes that other threads have posted to it, and that its worker has not read.
    pub(crate) fn posted_bytes(&self) -> usize {
        let remote = self.rare_state.get().and_then(|rare_state| rare_state.remote.get());
        remote.map_or(0, |remote| remote.posted())
    }

    /// Whether messages are compressed.
    pub(super) fn is_compressing(&self) -> bool {
        #[cfg(feature = "deflate")]
        return self.rare_state.get().is_some_and(|it| it.compressing.borrow().is_some());
        #[cfg(not(feature = "deflate"))]
        false
    }

    /// Queued bytes above which the listener is to pause.
    pub(crate) fn high_watermark(&self) -> usize {
        self.watermarks().map_or(self.config.high_watermark, |(high, _)| high)
    }

    /// Queued bytes at or below which a paused listener is to resume.
    pub(crate) fn low_watermark(&self) -> usize {
        self.watermarks().map_or(self.config.low_watermark, |(_, low)| low)
    }

    fn watermarks(&self) -> Option<(usize, usize)> {
        self.rare_state.get().and_then(|rare_state| rare_state.watermarks.get())
    }

    /// Sets watermarks for this connection alone. What is queued is judged by them at once.
    pub(crate) fn set_watermarks(&self, high: usize, low: usize) {
        self.rare_state().watermarks.set(Some((high, low)));
        self.renew_append_max();
        if self.buffered() > high && !self.is_paused.get() {
            self.owes_pause.set(true);
        }
        self.wake_drain_waiters();
        self.mark_dirty();
    }

    /// A listener or stream of ours holds `after` bytes of messages now, instead of `before`.
    pub(crate) fn count_message_bytes(&self, before: usize, after: usize) {
        let messages = &self.rare_state().message_bytes;
        messages.set((messages.get() + after).saturating_sub(before));
    }

    /// What is in flight counts no more; returns how many bytes of memory that are.
    pub(crate) fn leave(&self) -> usize {
        let bytes = self.in_flight_memory.take() as usize;
        self.rare_state().leaving.set(bytes);
        bytes
    }

    /// The last send in flight is over: returns what [`leave`](Self::leave) did.
    pub(crate) fn left(&self) -> usize {
        self.rare_state.get().map_or(0, |rare_state| rare_state.leaving.take())
    }

    /// Says whether the peer is a proxy whose client does not count yet.
    pub(crate) fn is_uncounted_proxy(&self, is_uncounted: bool) {
        self.rare_state().is_uncounted.set(is_uncounted);
    }

    /// Whether the client does not count towards the limit of an address.
    pub(crate) fn is_uncounted(&self) -> bool {
        self.rare_state.get().is_some_and(|rare_state| rare_state.is_uncounted.get())
    }

    /// The address that counts towards a limit.
    pub(crate) fn counted_addr(&self) -> Option<SocketAddr> {
        self.peer.get().filter(|_| !self.is_uncounted())
    }

    pub(crate) fn request(&self) -> Option<&UpgradeRequest> {
        self.rare_state.get()?.request.get().map(|request| &**request)
    }

    pub(crate) fn set_request(&self, request: Box<UpgradeRequest>) {
        let _ = self.rare_state().request.set(request);
    }

    pub(crate) fn response(&self) -> Option<&ResponseHead> {
        self.rare_state.get()?.response.get().map(|response| &**response)
    }

    pub(crate) fn set_response(&self, response: ResponseHead) {
        let _ = self.rare_state().response.set(Box::new(response));
    }

    pub(crate) fn subprotocol(&self) -> Option<&str> {
        self.rare_state.get()?.subprotocol.get().map(|name| &**name)
    }

    pub(crate) fn set_subprotocol(&self, name: impl Into<Box<str>>) {
        let _ = self.rare_state().subprotocol.set(name.into());
    }

    /// What handles in other threads know of us.
    pub(crate) fn remote(&self) -> &Arc<RemoteState> {
        self.rare_state().remote.get_or_init(|| {
            let state = Arc::new(RemoteState::new(
                self.config.queue_bytes_max,
                self.config.queue_policy == QueuePolicy::Close,
            ));
            if self.is_disconnected.get() {
                state.end();
            }
            if let Some(roundtrip) = self.last_roundtrip() {
                state.set_roundtrip(roundtrip);
            }
            state
        })
    }
}

impl fmt::Debug for RareState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RareState").field("cause", &self.cause).finish_non_exhaustive()
    }
}

/// Boxed twice: most sessions have none.
pub(super) type Waiters = Option<Box<Vec<Foreign<Waker>>>>;

pub(super) fn join(waiters: &StateCell<Waiters>, waker: &Waker) {
    // Cloned before anything is borrowed, and dropped after that where it waits already.
    let waker = Foreign::new(waker.clone());
    let mut waiters = waiters.borrow_mut();
    let waiters = waiters.get_or_insert_default();
    if !waiters.iter().any(|waiting| waiting.will_wake(&waker)) {
        waiters.push(waker);
    }
}

pub(super) fn wake_all(waiters: &StateCell<Waiters>) {
    foreign::wake(waiters.take().into_iter().flat_map(|waiters| waiters.into_iter()));
}
