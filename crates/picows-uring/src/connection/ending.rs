//! Ends of a connection: by the peer, the listener, the socket, a deadline, or the server.
//!
//! What the peer is owed for each is decided in the protocol crate.

use super::{Callbacks, Connection};
use crate::foreign;
use crate::foreign::log::{self, LogLine, log_limited};
use crate::health::EndCause;
use crate::listener::{Listener, ListenerError};
use crate::ring::Ring;
use crate::session::Session;
use crate::status::DisconnectCause;
use picows_uring_proto::{CloseCode, Frame, PeerMisbehaved, Phase, Tick};
use std::io;
use std::rc::Rc;

impl Connection {
    /// Sends CLOSE, if the stream of this connection was dropped.
    #[inline]
    pub(crate) fn check_abandoned(&self) {
        if self.session().take_abandoned() {
            self.close_abandoned();
        }
    }

    #[cold]
    #[inline(never)]
    fn close_abandoned(&self) {
        self.transport.send_close(CloseCode::NORMAL, "");
        if !self.session().config.conversation.auto_close {
            self.transport.disconnect();
        }
    }

    /// The peer ended its side of the stream.
    pub(crate) fn end_of_stream(&mut self) {
        if let Some(kind) = self.session().send_error() {
            return self.io_failed(&kind.into());
        }
        let session = self.session();
        if !self.end_after_answers() {
            session.set_cause(end_of_stream_cause(session));
        }
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
        log::debug!(peer = session.peer.logged(), %error, "connection broken");
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
        let (phase, is_kept) = (self.phase(), self.is_between_requests());
        if session.conversation.borrow_mut().handle_timeout(seen) && !is_kept {
            log::info!(peer = session.peer.logged(), ?phase, "timed out: dropping");
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

    /// Nothing more will be delivered: notifies the listener, once, and drops it.
    pub(crate) fn disconnected(&mut self) {
        if self.session().is_disconnected.replace(true) {
            return;
        }
        let _span = self.session().enter_span();
        // First, as what has arrived of an answer may say why.
        self.connect_failed(None);
        self.release_memory();
        if self.listener.is_some() {
            self.dismiss_listener();
        }
        self.session().ended();
    }

    /// How it has ended, for the counters: the kind of cause, and the code of the first CLOSE.
    pub(crate) fn end(&self) -> (EndCause, Option<CloseCode>) {
        let session = self.session();
        let cause = session.ask_cause(end_cause).unwrap_or(EndCause::Http);
        let conversation = session.conversation.borrow();
        let code = conversation.close_handshake().and_then(|close| {
            let first = if close.received_first { &close.received } else { &close.sent };
            first.as_ref()?.code()
        });
        (cause, code)
    }

    fn dismiss_listener(&mut self) {
        log::info!(
            peer = self.session().peer.logged(),
            cause = self.session().cause().map(tracing::field::display),
            "disconnected"
        );
        self.call("on_disconnected", |listener, transport| {
            listener.on_disconnected(transport);
            Ok(())
        });
        if let Some(listener) = self.listener.take() {
            self.callbacks().drop_listener(listener);
        }
    }
}

/// The kind of a cause, without its details.
fn end_cause(cause: &DisconnectCause) -> EndCause {
    match cause {
        DisconnectCause::Closed => EndCause::Closed,
        DisconnectCause::Application => EndCause::Application,
        DisconnectCause::EndOfStream => EndCause::EndOfStream,
        DisconnectCause::CutOff => EndCause::CutOff,
        DisconnectCause::Tls(_) => EndCause::Tls,
        DisconnectCause::PeerMisbehaved(_) => EndCause::ProtocolError,
        DisconnectCause::Io(_) => EndCause::Io,
        DisconnectCause::TimedOut => EndCause::TimedOut,
        DisconnectCause::PingTimedOut => EndCause::PingTimedOut,
        DisconnectCause::Listener(_) => EndCause::Listener,
        DisconnectCause::QueueFull => EndCause::QueueFull,
        DisconnectCause::PublicationsLost => EndCause::PublicationsLost,
        DisconnectCause::FrameUnfinished => EndCause::FrameUnfinished,
        DisconnectCause::MemoryLimit => EndCause::MemoryLimit,
        DisconnectCause::OutOfMemory => EndCause::OutOfMemory,
        DisconnectCause::MessageTooSlow => EndCause::MessageTooSlow,
        DisconnectCause::WriteStalled => EndCause::WriteStalled,
        DisconnectCause::Stopped => EndCause::Stopped,
        DisconnectCause::WorkerFailed => EndCause::WorkerFailed,
    }
}

/// What it means that the peer has ended its side of the stream.
fn end_of_stream_cause(session: &Session) -> DisconnectCause {
    #[cfg(feature = "_tls")]
    if session.secure().or(session.outer()).is_some_and(|layer| !layer.is_peer_notified.get()) {
        return DisconnectCause::CutOff;
    }
    let _ = session;
    DisconnectCause::EndOfStream
}

impl Callbacks<'_> {
    /// The listener has seen the peer's CLOSE: answers it, unless it was answered already.
    pub(super) fn reply_to_close(&self, frame: &Frame<'_>) {
        let session = self.session();
        let (rules, now) = (&session.config.conversation, session.local.now());
        let reply = session.conversation.borrow_mut().close_reply(rules, now, frame);
        session.queue_close(reply);
    }

    /// The peer broke the protocol, or passed a limit.
    pub(super) fn peer_misbehaved(&self, error: PeerMisbehaved) {
        let session = self.session();
        if error == PeerMisbehaved::OutOfMemory {
            return session.out_of_memory();
        }
        log_limited!(warn, session.local, LogLine::ProtocolError, peer = session.peer.logged(), %error);
        session.local.counters.protocol_errors.increment();
        session.set_cause(DisconnectCause::PeerMisbehaved(error));
        let (rules, now) = (&session.config.conversation, session.local.now());
        let close = session.conversation.borrow_mut().peer_misbehaved(rules, now, error);
        session.queue_close(close);
    }

    /// A callback returned an error, or panicked.
    #[cold]
    pub(super) fn listener_failed(&self, callback: &'static str, error: ListenerError) {
        if let Some(error) = error.peer_misbehaved() {
            return self.peer_misbehaved(error);
        }
        let session = self.session();
        let local = &session.local;
        let text = foreign::text(&error);
        log_limited!(
            error,
            local,
            LogLine::ListenerFailed,
            peer = session.peer.logged(),
            callback,
            error = text
        );
        local.counters.listener_errors.increment();
        let is_tolerated = matches!(callback, "on_frame" | "on_piece")
            && !session.config.disconnect_on_error
            && !error.is_close();
        if is_tolerated {
            return;
        }
        session.set_cause(DisconnectCause::Listener(text));
        let (code, reason) = error.close_code_and_reason();
        let (rules, now) = (&session.config.conversation, local.now());
        let close = session.conversation.borrow_mut().fail(rules, now, code, reason);
        session.queue_close(close);
    }

    /// Drops a listener, which may panic once more.
    pub(super) fn drop_listener(&self, listener: Box<dyn Listener>) {
        let outcome = foreign::call(|| drop(listener));
        self.mark_callback("drop");
        if let Err(panicked) = outcome {
            self.listener_failed("drop", panicked.into());
        }
    }
}
