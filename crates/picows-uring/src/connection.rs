//! One connection, as its worker sees it: bytes to frames to the listener, and back to a queue.
//!
//! Does no I/O: the worker hands it received bytes and looks afterwards what it wants.

mod client;
mod ending;
mod eviction;
#[cfg(feature = "deflate")]
mod expanding;
mod kept_alive;
mod liveness;
mod pieces;
mod progress;
mod proxied;
mod receiving;
#[cfg(feature = "_tls")]
mod secure;
mod server;

use crate::admission::AdmissionState;
use crate::client::Connecting;
use crate::error::shown;
use crate::foreign;
use crate::foreign::log;
use crate::link::{LARGE_BYTES_MIN, Link};
use crate::listener::{Listener, ListenerResult};
use crate::local::Local;
use crate::session::Session;
use crate::status::DisconnectCause;
use crate::transport::Transport;
use picows_uring_proto::{
    Deflate, Frame, FrameAction, MsgType, NegotiatedDeflate, Phase, Receiver, Tick, TimerId,
};
use proxied::Proxied;
use server::{Deciding, Requests};
use std::rc::Rc;

/// The worker's part of a connection; the rest is its [`Session`].
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    stage: Stage,
    /// `None` before the handshake is done and after `on_disconnected`.
    listener: Option<Box<dyn Listener>>,
    /// The timer for the next deadline, and when it fires.
    pub(crate) timer: Option<(TimerId, Tick)>,
    pub(crate) link: Link,
    /// Which limits it counts against.
    pub(crate) admission: AdmissionState,
}

/// The kind of the peer's next bytes. It changes where bytes are received, and where a handshake
/// ends; handles end the conversation at any time, and the bytes behind that are discarded.
enum Stage {
    /// The header of a proxy that names the client, on a server.
    Proxied(Box<Proxied>),
    /// HTTP requests, on a server.
    Request(Requests),
    /// Whatever follows a request whose answer is awaited: it waits, too.
    Deciding(Box<Deciding>),
    /// The response to our request, on a client.
    Response(Box<Connecting>),
    /// Frames.
    Frames(Receiver),
    /// Frames that may be compressed.
    #[cfg(feature = "deflate")]
    Expanding(Box<expanding::Expanding>),
    /// Frames, of which the listener wants large ones in pieces.
    Pieces(Box<pieces::InPieces>),
    /// Bytes after the end, and how many came so far.
    Discard(u32),
}

impl Connection {
    fn new(session: Rc<Session>, stage: Stage) -> Self {
        let link = Link::new(&session);
        Self {
            transport: Transport::new(session),
            stage,
            listener: None,
            timer: None,
            link,
            admission: AdmissionState::Exempt,
        }
    }

    pub(crate) fn session(&self) -> &Rc<Session> {
        self.transport.session()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.session().conversation.borrow().phase()
    }

    /// Bytes of buffers that it holds on to.
    #[cfg(test)]
    pub(crate) fn owned_bytes(&self) -> usize {
        self.stash_capacity() + self.session().queue_capacity()
    }

    fn local(&self) -> &Rc<Local> {
        &self.session().local
    }

    /// Handles bytes that arrived: all of them, or as many as it says. The rest, if only of what the
    /// decoder has seen, is more than this connection's share of the turn, and wanted in the next.
    #[inline]
    pub(crate) fn receive(&mut self, bytes: &mut [u8]) -> Option<usize> {
        if self.phase() > Phase::Open {
            self.discard(bytes.len());
            return None;
        }
        #[cfg(feature = "_tls")]
        if self.link.is_secure() {
            return self.receive_secure(bytes);
        }
        self.receive_plain(bytes)
    }

    /// Handles bytes of the protocol; see [`receive`](Self::receive).
    #[inline]
    fn receive_plain(&mut self, bytes: &mut [u8]) -> Option<usize> {
        match &self.stage {
            Stage::Frames(_) => self.receive_frames(bytes),
            _ => self.receive_apart(bytes),
        }
    }

    /// The same in the stages that most connections spend no time in.
    #[inline(never)]
    fn receive_apart(&mut self, bytes: &mut [u8]) -> Option<usize> {
        match &self.stage {
            Stage::Frames(_) => self.receive_frames(bytes),
            #[cfg(feature = "deflate")]
            Stage::Expanding(_) => self.receive_compressed(bytes),
            Stage::Pieces(_) => self.receive_pieces(bytes),
            Stage::Request(_) => self.receive_request(bytes),
            Stage::Proxied(_) => self.receive_proxy_header(bytes),
            Stage::Deciding(_) => Some(0),
            Stage::Response(_) => self.receive_response(bytes),
            Stage::Discard(_) => None,
        }
    }

    /// What comes after the end is read only so that the peer, which may be in the middle of sending,
    /// gets to read our last bytes. A reset would take them away.
    fn discard(&mut self, count: usize) {
        let before = match self.stage {
            // The outcome of a handshake is left when the connection is closed, which is at once.
            Stage::Response(_) => return,
            Stage::Discard(count) => count,
            _ => 0,
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.release_memory();
        self.stage = Stage::Discard(before.saturating_add(count));
    }

    /// The handshake is done: frames come next.
    fn opened(&mut self, path: &str, subprotocol: Option<&str>) {
        let session = self.transport.session();
        log::info!(peer = session.peer.logged(), path = ?shown(path), "connected");
        session.opened();
        session.local.counters.upgraded.increment();
        if let Stage::Request(requests) = &self.stage {
            let took = session.local.now.get().duration_since(requests.since);
            session.local.counters.handshake_times.record(took);
        }
        if let Some(name) = subprotocol {
            session.set_subprotocol(name);
        }
        let role = session.conversation.borrow().role();
        self.stage = Stage::Frames(Receiver::new(role));
    }

    /// Calls `on_connected`.
    fn greet(&mut self, listener: Box<dyn Listener>) {
        self.listener = Some(listener);
        self.begin_pieces();
        self.call("on_connected", |listener, transport| listener.on_connected(transport));
    }

    /// Handles what follows the first `used` bytes, which the handshake has taken.
    fn receive_first_frames(&mut self, bytes: &mut [u8], used: usize) -> Option<usize> {
        if used < bytes.len() && self.phase() == Phase::Open {
            return self.receive_plain(&mut bytes[used..]).map(|count| used + count);
        }
        None
    }

    /// The receiver in the stage of frames.
    #[inline]
    fn receiver(&self) -> Option<&Receiver> {
        match &self.stage {
            Stage::Frames(receiver) => Some(receiver),
            _ => None,
        }
    }

    /// Whether what it receives may have to be expanded.
    pub(crate) const fn is_expanding(&self) -> bool {
        #[cfg(feature = "deflate")]
        return matches!(self.stage, Stage::Expanding(_));
        #[cfg(not(feature = "deflate"))]
        false
    }

    /// Compresses and expands messages from now on, as the handshake has agreed on.
    fn begin_deflate(&mut self, settings: &Deflate, agreed: &NegotiatedDeflate) {
        #[cfg(not(feature = "deflate"))]
        let _ = (settings, agreed);
        #[cfg(feature = "deflate")]
        self.begin_expanding(settings, agreed);
    }

    #[cfg(feature = "deflate")]
    fn begin_expanding(&mut self, settings: &Deflate, agreed: &NegotiatedDeflate) {
        let session = self.transport.session();
        session.begin_compressing(settings, agreed);
        let role = session.conversation.borrow().role();
        let receiver = Receiver::new(role);
        let expanding = expanding::Expanding::new(session, receiver, settings, agreed);
        self.stage = Stage::Expanding(expanding);
    }

    /// What it has had of its share in `turn`.
    pub(crate) fn spent(&self, turn: u32) -> usize {
        self.link.budget.spent(turn, &self.local().budget_rules)
    }

    /// Handles received bytes in the stage of frames; see [`receive`](Self::receive).
    fn receive_frames(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let Self { transport, stage, listener, link, .. } = self;
        let Stage::Frames(receiver) = stage else { return None };
        let mut callbacks = Callbacks { transport, listener };
        let session: &Session = transport.session();
        let (local, config) = (&*session.local, &*session.config);
        local.pool.lend(receiver.stash_mut());
        let (mut consumed, mut frames, mut has_delivered) = (0, 0, false);
        let (mut meter, mut is_over) = (link.budget.begin(), false);
        loop {
            match receiver.next(&config.frames, &mut bytes[consumed..]) {
                Ok(decoded) => {
                    consumed += decoded.consumed;
                    let Some(frame) = decoded.frame else { break };
                    let has_memory = frame.memory().is_some();
                    has_delivered = callbacks.handle(&frame, has_delivered);
                    if has_memory && receiver.stash().is_shared() {
                        // The listener keeps the frame, and with it the memory.
                        *receiver.stash_mut() = local.pool.stash();
                    }
                }
                Err(error) => {
                    callbacks.peer_misbehaved(error);
                    break;
                }
            }
            if session.conversation.borrow().phase() != Phase::Open {
                break;
            }
            frames += 1;
            if meter.is_over(frames, &local.budget_rules) {
                is_over = true;
                break;
            }
            if consumed == bytes.len() && receiver.needs_input() {
                break;
            }
        }
        callbacks.end_batch(has_delivered);
        link.budget.spend(frames, consumed, &meter);
        if consumed >= LARGE_BYTES_MIN {
            link.note_large(frames, consumed);
        }
        if receiver.is_under_way() && !session.is_watched.get() {
            session.mark_dirty();
        }
        // What `keep_cut` does, written out: the call takes eleven instructions more for each frame.
        let is_open = session.conversation.borrow().phase() == Phase::Open;
        let is_needed = is_open && receiver.is_collecting();
        local.pool.hold_or_take(receiver.stash_mut(), is_needed);
        // After the end of the conversation, the rest is of no use.
        (is_over && is_open).then_some(consumed)
    }

    /// Bytes of the memory in which a cut frame or head is collected.
    fn stash_capacity(&self) -> usize {
        match &self.stage {
            Stage::Request(requests) => requests.head.stash().capacity(),
            Stage::Response(connecting) => connecting.head.stash().capacity(),
            Stage::Frames(receiver) => receiver.stash().capacity(),
            #[cfg(feature = "deflate")]
            Stage::Expanding(expanding) => {
                expanding.receiver.stash().capacity() + expanding.memory()
            }
            Stage::Pieces(in_pieces) => in_pieces.receiver.stash().capacity(),
            Stage::Proxied(proxied) => proxied.collected.capacity(),
            Stage::Deciding(_) | Stage::Discard(_) => 0,
        }
    }

    /// Gives back the memory in which a cut frame or head is collected, with what is in it. A decision
    /// that is awaited is dropped.
    fn release_memory(&mut self) {
        self.session().release_record();
        let stash = match &mut self.stage {
            Stage::Request(requests) => requests.head.stash_mut(),
            Stage::Response(connecting) => connecting.head.stash_mut(),
            Stage::Frames(receiver) => receiver.stash_mut(),
            #[cfg(feature = "deflate")]
            Stage::Expanding(expanding) => {
                expanding.end();
                expanding.receiver.stash_mut()
            }
            Stage::Pieces(in_pieces) => in_pieces.receiver.stash_mut(),
            Stage::Proxied(_) => return self.stage = Stage::Discard(0),
            Stage::Deciding(_) => return self.forget_decision(),
            Stage::Discard(_) => return,
        };
        let pool = &self.transport.session().local.pool;
        pool.unhold(stash);
        pool.put_stash(std::mem::take(stash));
    }

    /// Whether a frame or message has begun that is not complete.
    #[inline]
    fn is_frame_under_way(&self) -> bool {
        match &self.stage {
            Stage::Frames(receiver) => receiver.is_under_way(),
            #[cfg(feature = "deflate")]
            Stage::Expanding(expanding) => expanding.receiver.is_under_way(),
            Stage::Pieces(in_pieces) => in_pieces.receiver.is_under_way(),
            _ => false,
        }
    }

    /// Notifies the listener to pause or to resume, if the queue has passed a watermark.
    #[inline]
    pub(crate) fn check_watermarks(&mut self) {
        let session = self.session();
        if session.is_paused.get() || session.owes_pause.get() {
            self.pause_or_resume();
        }
    }

    #[inline(never)]
    fn pause_or_resume(&mut self) {
        let session = self.session();
        if session.is_paused.get() {
            if session.buffered() <= session.low_watermark() {
                session.is_paused.set(false);
                self.call("resume_writing", |listener, transport| {
                    listener.resume_writing(transport);
                    Ok(())
                });
            }
        } else if session.owes_pause.take() {
            session.is_paused.set(true);
            if session.buffered() <= session.low_watermark() {
                // What was counted has left since: `resume_writing` comes right after.
                session.mark_dirty();
            }
            self.call("pause_writing", |listener, transport| {
                listener.pause_writing(transport);
                Ok(())
            });
        }
    }

    /// The listener, with what its callbacks need.
    #[inline]
    fn callbacks(&mut self) -> Callbacks<'_> {
        Callbacks { transport: &self.transport, listener: &mut self.listener }
    }

    /// Calls the listener. An error or a panic ends this connection, and nothing else.
    fn call(
        &mut self,
        callback: &'static str,
        call: impl FnOnce(&mut dyn Listener, &Transport) -> ListenerResult,
    ) {
        let _span = self.session().enter_span();
        self.callbacks().call(callback, call);
    }
}

/// Keeps what `receiver` has of a cut frame while the conversation is open, and gives the memory back
/// otherwise. Returns whether it is open.
#[inline]
fn keep_cut(session: &Session, receiver: &mut Receiver) -> bool {
    let is_open = session.conversation.borrow().phase() == Phase::Open;
    let is_needed = is_open && receiver.is_collecting();
    session.local.pool.hold_or_take(receiver.stash_mut(), is_needed);
    is_open
}

/// The listener and the handle that it gets, borrowed apart from what receives: a frame that is
/// handed out lies in the memory of the receiver.
struct Callbacks<'a> {
    transport: &'a Transport,
    listener: &'a mut Option<Box<dyn Listener>>,
}

impl Callbacks<'_> {
    fn session(&self) -> &Rc<Session> {
        self.transport.session()
    }

    /// Does with a frame what the conversation decides. Returns whether a batch is open then, of which
    /// the listener has had a frame; one was before if `is_open`. A batch ends in the same guard as its
    /// last frame, where that is known: a guard of its own costs more than the call.
    fn handle(&mut self, frame: &Frame<'_>, is_open: bool) -> bool {
        let session = self.session();
        // Here and not where frames are received, which has no register to spare.
        session.local.counters.count_received(frame);
        log::trace!(peer = session.peer.logged(), ?frame, "received");
        let rules = &session.config.conversation;
        let action = session.conversation.borrow_mut().handle_frame(rules, frame);
        match action {
            FrameAction::Deliver => {
                let is_close = frame.msg_type() == MsgType::Close;
                if is_close {
                    session.set_cause(DisconnectCause::Closed);
                } else if session.is_pong_expected() && self.consume_pong(frame) {
                    return is_open;
                }
                let is_last = frame.last_in_buffer();
                self.call("on_frame", |listener, transport| {
                    listener.on_frame(transport, frame)?;
                    if is_last { listener.on_batch_end(transport) } else { Ok(()) }
                });
                if is_close {
                    self.reply_to_close(frame);
                }
                return !is_last;
            }
            FrameAction::AnswerPing => session.answer_ping(frame.payload()),
            FrameAction::Ignore => {}
        }
        is_open
    }

    /// A batch of frames was handled, some of which the listener got, or none.
    #[inline(always)] // Most end in the guard of their last frame.
    fn end_batch(&mut self, has_delivered: bool) {
        if has_delivered {
            self.end_open_batch();
        }
    }

    #[inline(never)]
    fn end_open_batch(&mut self) {
        if self.session().conversation.borrow().may_send() || !self.has_failed() {
            self.call("on_batch_end", |listener, transport| listener.on_batch_end(transport));
        }
    }

    /// Whether a callback has ended the connection by its failure.
    #[cold]
    fn has_failed(&self) -> bool {
        matches!(self.session().cause(), Some(DisconnectCause::Listener(_)))
    }

    /// Calls the listener. An error or a panic ends this connection, and nothing else.
    #[inline(always)] // A dozen instructions of a frame.
    fn call(
        &mut self,
        callback: &'static str,
        call: impl FnOnce(&mut dyn Listener, &Transport) -> ListenerResult,
    ) {
        // Frames come often: the worker times those of a completion together.
        let is_rare = !matches!(callback, "on_frame" | "on_piece" | "on_batch_end");
        if is_rare {
            self.mark_callback("on_frame");
        }
        let Some(listener) = self.listener.as_deref_mut() else { return };
        let transport = self.transport;
        let outcome = foreign::call(|| call(listener, transport));
        if is_rare {
            self.mark_callback(callback);
        }
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.listener_failed(callback, error),
            Err(panicked) => self.listener_failed(callback, panicked.into()),
        }
    }

    /// The time since this was last called went into `callback`.
    fn mark_callback(&self, callback: &'static str) {
        let session = self.session();
        session.local.callback_timer.mark(session.token, callback);
    }
}
