//! One connection, as its worker sees it: bytes to frames to the listener, and back to a queue.
//!
//! Does no I/O: the worker hands it what arrived and looks afterwards what it wants.

mod client;
mod collect;
mod eviction;
mod liveness;
mod progress;
mod server;

use crate::admission::AdmissionState;
use crate::client::Connecting;
use crate::error::shown;
use crate::foreign;
use crate::foreign::log::{self, LogLine, log_limited};
use crate::link::{InputState, Link};
use crate::listener::{Listener, ListenerError, ListenerResult};
use crate::local::Local;
use crate::ring::Ring;
use crate::session::Session;
use crate::status::DisconnectCause;
use crate::transport::Transport;
use picows_uring_proto::{
    CloseCode, Decoder, Frame, FrameAction, MsgType, PeerMisbehaved, Phase, Stash, Tick, TimerId,
};
use server::Requests;
use std::io;
use std::rc::Rc;

/// What only the worker touches of a connection; the rest is its [`Session`].
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    stage: Stage,
    /// `None` before the handshake is done and after `on_disconnected`.
    listener: Option<Box<dyn Listener>>,
    /// The part of a frame, or of a head, that has arrived; without memory most of the time.
    stash: Stash,
    /// The timer for the next deadline, and when it fires.
    pub(crate) timer: Option<(TimerId, Tick)>,
    pub(crate) link: Link,
    /// Which limits it counts against.
    pub(crate) admission: AdmissionState,
}

/// What the next bytes of the peer are. It changes where bytes are received, and where a handshake
/// ends; handles end the conversation at any time, and the bytes behind that are discarded.
enum Stage {
    /// HTTP requests, on a server.
    Request(Requests),
    /// The response to our request, on a client.
    Response(Box<Connecting>),
    /// Frames.
    Frames(Decoder),
    /// Bytes after the end, and how many came so far.
    Discard(u32),
}

impl Connection {
    fn new(session: Rc<Session>, stage: Stage) -> Self {
        Self {
            transport: Transport::new(session),
            stage,
            listener: None,
            stash: Stash::new(),
            timer: None,
            link: Link::default(),
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
        self.stash.capacity() + self.session().queue_capacity()
    }

    /// Whether anything that could still arrive is worth receiving, and wanted now.
    pub(crate) fn wants_receive(&self) -> bool {
        let session = self.session();
        // What comes after the end is not the application's, so a pause does not hold it back.
        let is_paused = session.is_reading_paused.get() && self.phase() <= Phase::Open;
        !matches!(self.stage, Stage::Discard(DISCARD_BYTES_MAX..))
            && !is_paused
            && self.link.input != InputState::Deferred
            && !session.conversation.borrow().is_peer_gone()
    }

    /// Says goodbye, if nobody has the stream of this connection any more.
    pub(crate) fn check_abandoned(&self) {
        if self.session().take_abandoned() {
            self.transport.send_close(CloseCode::NORMAL, "");
            if !self.session().config.conversation.auto_close {
                self.transport.disconnect();
            }
        }
    }

    fn local(&self) -> &Rc<Local> {
        &self.session().local
    }

    /// Handles bytes that arrived: all of them, or as many as it says. The rest, if only of what the
    /// decoder has seen, is more than this connection's share of the turn, and wanted in the next.
    #[inline]
    pub(crate) fn receive(&mut self, turn: u32, bytes: &mut [u8]) -> Option<usize> {
        if !self.link.budget.renew(turn, &self.transport.session().local.budget_rules) {
            return Some(0);
        }
        if self.phase() > Phase::Open {
            self.discard(bytes.len());
            return None;
        }
        match &self.stage {
            Stage::Frames(_) => self.receive_frames(bytes),
            Stage::Request(_) => self.receive_request(bytes),
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
            Stage::Request(_) | Stage::Frames(_) => 0,
            Stage::Discard(count) => count,
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.stage = Stage::Discard(before.saturating_add(count));
    }

    /// The handshake is done: frames come next.
    fn opened(&mut self, path: &str, subprotocol: Option<&str>) {
        let session = self.transport.session();
        log::info!(peer = ?session.peer, path = ?shown(path), "connected");
        session.opened();
        session.local.counters.upgraded.increment();
        if let Some(name) = subprotocol {
            session.set_subprotocol(name);
        }
        let role = session.conversation.borrow().role();
        self.stage = Stage::Frames(Decoder::new(role));
    }

    /// Calls `on_connected`.
    fn greet(&mut self, listener: Box<dyn Listener>) {
        self.listener = Some(listener);
        self.call("on_connected", |listener, transport| listener.on_connected(transport));
    }

    /// Handles what follows the first `used` bytes, which the handshake has taken.
    fn receive_first_frames(&mut self, bytes: &mut [u8], used: usize) -> Option<usize> {
        if used < bytes.len() && self.phase() == Phase::Open {
            return self.receive_frames(&mut bytes[used..]).map(|count| used + count);
        }
        None
    }

    /// Returns the decoder in the stage of frames.
    #[inline]
    fn decoder(&self) -> Option<&Decoder> {
        match &self.stage {
            Stage::Frames(decoder) => Some(decoder),
            _ => None,
        }
    }

    /// What it has had of its share in `turn`.
    pub(crate) fn spent(&self, turn: u32) -> usize {
        self.link.budget.spent(turn, &self.local().budget_rules)
    }

    fn receive_frames(&mut self, bytes: &mut [u8]) -> Option<usize> {
        // Counted without a lock, unlike the settings, which all workers share.
        let session = Rc::clone(self.session());
        let (local, config) = (&session.local, &session.config);
        let mut stash = self.take_stash();
        let (mut consumed, mut frames) = (0, 0);
        let (mut meter, mut is_over) = (self.link.budget.begin(), false);
        while let Stage::Frames(decoder) = &mut self.stage {
            let input = &mut bytes[consumed..];
            match decoder.next_frame(&config.frames, &mut stash, input) {
                Ok(decoded) => {
                    consumed += decoded.consumed;
                    let Some(frame) = decoded.frame else { break };
                    local.counters.frames_received.increment();
                    let has_memory = frame.memory().is_some();
                    self.dispatch(&frame);
                    if has_memory && stash.is_shared() {
                        // Who keeps the frame keeps its memory.
                        stash = local.pool.stash();
                    }
                }
                Err(error) => {
                    self.peer_misbehaved(error);
                    break;
                }
            }
            if self.phase() != Phase::Open {
                break;
            }
            frames += 1;
            if meter.is_over(frames, &local.budget_rules) {
                is_over = true;
                break;
            }
            if consumed == bytes.len() && !self.wants_stash() {
                break; // Asking once more would tell the same.
            }
        }
        self.link.budget.spend(frames, consumed, &meter);
        if self.is_frame_under_way() && !session.is_watched.get() {
            session.mark_dirty();
        }
        self.put_away(stash);
        // After the end of the conversation, nobody wants the rest.
        (is_over && self.phase() == Phase::Open).then_some(consumed)
    }

    /// What has arrived of the frame or head under way, or an empty stash.
    #[inline]
    fn take_stash(&mut self) -> Stash {
        let pool = &self.transport.session().local.pool;
        let stash = std::mem::take(&mut self.stash);
        if stash.capacity() == 0 {
            return pool.stash();
        }
        pool.unhold(&stash);
        stash
    }

    /// Keeps what has arrived until the rest is here.
    fn keep_stash(&mut self, mut stash: Stash) {
        self.local().pool.hold(&mut stash);
        self.stash = stash;
    }

    /// Keeps what has arrived of a frame, if anybody wants the rest.
    fn put_away(&mut self, stash: Stash) {
        let is_wanted = self.wants_stash() && !stash.is_empty();
        if is_wanted && self.phase() == Phase::Open {
            self.keep_stash(stash);
        } else {
            self.local().pool.put_stash(stash);
        }
    }

    #[inline]
    fn wants_stash(&self) -> bool {
        self.decoder().is_some_and(Decoder::wants_stash)
    }

    /// Whether a frame or message has begun that is not complete.
    #[inline]
    fn is_frame_under_way(&self) -> bool {
        self.decoder().is_some_and(Decoder::is_under_way)
    }

    fn dispatch(&mut self, frame: &Frame<'_>) {
        let session = self.session();
        log::trace!(peer = ?session.peer, ?frame, "received");
        let rules = &session.config.conversation;
        let arrival = session.conversation.borrow_mut().handle_frame(rules, frame);
        match arrival {
            FrameAction::Deliver => {
                let is_close = frame.msg_type() == MsgType::Close;
                if is_close {
                    self.session().set_cause(DisconnectCause::Closed);
                } else if self.session().is_pong_expected() && self.consume_pong(frame) {
                    return;
                }
                self.call("on_frame", |listener, transport| listener.on_frame(transport, frame));
                if is_close {
                    self.after_close(frame);
                }
            }
            FrameAction::AnswerPing => self.session().answer_ping(frame.payload()),
            FrameAction::Ignore => {}
        }
    }

    /// The listener has seen the peer's CLOSE: answers it, if it did not.
    fn after_close(&mut self, frame: &Frame<'_>) {
        let session = self.session();
        let (rules, now) = (&session.config.conversation, session.local.now());
        let reply = session.conversation.borrow_mut().close_reply(rules, now, frame);
        session.queue_close(reply);
    }

    fn peer_misbehaved(&self, error: PeerMisbehaved) {
        let session = self.session();
        if error == PeerMisbehaved::OutOfMemory {
            return session.out_of_memory();
        }
        log_limited!(warn, session.local, LogLine::ProtocolError, peer = ?session.peer, %error);
        session.local.counters.protocol_errors.increment();
        session.set_cause(DisconnectCause::PeerMisbehaved(error));
        let (rules, now) = (&session.config.conversation, session.local.now());
        let close = session.conversation.borrow_mut().peer_misbehaved(rules, now, error);
        session.queue_close(close);
    }

    /// The peer ended its side of the stream.
    pub(crate) fn end_of_stream(&mut self) {
        if let Some(kind) = self.session().send_error() {
            return self.io_failed(&kind.into());
        }
        let session = self.session();
        session.set_cause(DisconnectCause::EndOfStream);
        let (rules, now) = (&session.config.conversation, session.local.now());
        session.conversation.borrow_mut().end_of_stream(rules, now);
        session.mark_dirty();
    }

    /// A send failed.
    pub(crate) fn send_failed(&mut self, error: &io::Error) {
        if !self.session().reads_on_after(error) {
            self.io_failed(error);
        }
    }

    /// The kernel reported an error of the socket.
    pub(crate) fn io_failed(&mut self, error: &io::Error) {
        let session = self.session();
        log::debug!(peer = ?session.peer, %error, "connection broken");
        session.set_cause(DisconnectCause::Io(error.kind()));
        session.conversation.borrow_mut().end();
        session.mark_dirty();
        self.connect_failed(Some(io::Error::new(error.kind(), error.to_string())));
    }

    /// Does what was due at `seen`, and has its timer armed again. All input that had arrived by then
    /// was handled, but for a connection that does not read, and for one that always has more
    /// (`has_backlog`).
    pub(crate) fn handle_timeout(&mut self, ring: &impl Ring, seen: Tick, has_backlog: bool) {
        let session = Rc::clone(self.session());
        let phase = self.phase();
        if session.conversation.borrow_mut().handle_timeout(seen) {
            log::info!(peer = ?session.peer, ?phase, "timed out: dropping");
            let broken = session.send_error().map(DisconnectCause::Io);
            session.set_cause(broken.unwrap_or(DisconnectCause::TimedOut));
        }
        // A peer that is to answer our CLOSE has a deadline for that, and no ping can follow it.
        if self.phase() == Phase::Open && !session.conversation.borrow().is_closing() {
            self.check_liveness(&session, ring, seen, has_backlog);
        }
        session.mark_dirty();
    }

    /// The server waits no longer: ends it at once, or as of `at` when its input was handled.
    pub(crate) fn stop(&self, at: Option<Tick>) {
        let session = self.session();
        session.set_cause(DisconnectCause::Stopped);
        match at {
            Some(at) => session.conversation.borrow_mut().expire(at),
            None => session.conversation.borrow_mut().end(),
        }
        session.mark_dirty();
    }

    /// Tells the listener to pause or to resume, if the queue has passed a watermark.
    pub(crate) fn check_watermarks(&mut self) {
        let session = self.session();
        let buffered = session.buffered();
        if session.is_paused.get() {
            if buffered <= session.low_watermark() {
                session.is_paused.set(false);
                self.call("resume_writing", |listener, transport| {
                    listener.resume_writing(transport);
                    Ok(())
                });
            }
        } else if session.owes_pause.take() {
            session.is_paused.set(true);
            if buffered <= session.low_watermark() {
                // What was counted has left since: `resume_writing` comes right after.
                session.mark_dirty();
            }
            self.call("pause_writing", |listener, transport| {
                listener.pause_writing(transport);
                Ok(())
            });
        }
    }

    /// Nothing more will be delivered: tells the listener, once, and lets it go.
    pub(crate) fn disconnected(&mut self) {
        if self.session().is_disconnected.replace(true) {
            return;
        }
        // First, as what has arrived of an answer may say why.
        self.connect_failed(None);
        if self.stash.capacity() > 0 {
            let stash = self.take_stash();
            self.local().pool.put_stash(stash);
        }
        if self.listener.is_some() {
            self.dismiss_listener();
        }
        self.session().ended();
    }

    fn dismiss_listener(&mut self) {
        log::info!(
            peer = ?self.session().peer,
            cause = self.session().cause().map(tracing::field::display),
            "disconnected"
        );
        self.call("on_disconnected", |listener, transport| {
            listener.on_disconnected(transport);
            Ok(())
        });
        if let Some(listener) = self.listener.take() {
            self.drop_listener(listener);
        }
    }

    /// Lets a listener go, which may panic once more.
    fn drop_listener(&self, listener: Box<dyn Listener>) {
        let outcome = foreign::call(|| drop(listener));
        self.mark_callback("drop");
        if let Err(panicked) = outcome {
            self.listener_failed("drop", panicked.into());
        }
    }

    /// Calls the listener. An error or a panic ends this connection, and nothing else.
    #[inline(always)] // A dozen instructions of a frame.
    fn call(
        &mut self,
        callback: &'static str,
        call: impl FnOnce(&mut dyn Listener, &Transport) -> ListenerResult,
    ) {
        // Frames come often: the worker times those of a completion together.
        let is_rare = callback != "on_frame";
        if is_rare {
            self.mark_callback("on_frame");
        }
        let Some(listener) = self.listener.as_deref_mut() else { return };
        let transport = &self.transport;
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

    #[cold]
    fn listener_failed(&self, callback: &'static str, error: ListenerError) {
        if let Some(error) = error.peer_misbehaved() {
            return self.peer_misbehaved(error);
        }
        let session = self.session();
        let local = &session.local;
        let text = foreign::text(&error);
        log_limited!(error, local, LogLine::ListenerFailed, peer = ?session.peer, callback, error = text);
        local.counters.listener_errors.increment();
        let is_tolerated =
            callback == "on_frame" && !session.config.disconnect_on_error && !error.is_close();
        if is_tolerated {
            return;
        }
        session.set_cause(DisconnectCause::Listener(text));
        let (code, reason) = error.close_code_and_reason();
        let (rules, now) = (&session.config.conversation, local.now());
        let close = session.conversation.borrow_mut().fail(rules, now, code, reason);
        session.queue_close(close);
    }
}

/// How much a peer may send after the end before we let it wait: more than is on its way in the
/// buffers of most networks.
const DISCARD_BYTES_MAX: u32 = 8 * 1024 * 1024;
