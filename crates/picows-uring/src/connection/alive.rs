//! Whether the peer is still there: what the verdicts of the protocol crate lead to.

use super::{Connection, panic_error};
use crate::session::Session;
use crate::transport::DisconnectCause;
use picows_uring_proto::{CloseCode, Frame, Phase, Tick, Verdict};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

impl Connection {
    /// Pings, or gives up, if that is due.
    pub(super) fn check_liveness(&mut self, session: &Session, now: Tick, has_backlog: bool) {
        let rules = &session.config.liveness;
        let verdict = session
            .liveness
            .borrow_mut()
            .as_deref_mut()
            .and_then(|liveness| liveness.handle_timeout(rules, now, has_backlog));
        match verdict {
            None => {}
            Some(Verdict::Ping) => self.ping(session, now),
            Some(Verdict::Silent) => {
                let reply = rules.auto_ping.map(|ping| ping.reply_timeout).unwrap_or_default();
                let reason = format!("no pong within {reply:?}");
                tracing::info!(peer = ?session.peer, %reason, "peer is silent: closing");
                session.set_cause(DisconnectCause::PingTimedOut);
                let rules = &session.config.conversation;
                let close =
                    session.conversation.borrow_mut().give_up(rules, now, &reason, SILENT_LINGER);
                session.queue_close(close);
            }
            Some(Verdict::Idle) => self.end_politely(session, "idle for too long"),
            Some(Verdict::Expired) => self.end_politely(session, "please reconnect"),
        }
    }

    /// Sends the ping of a round trip that a task wants measured.
    #[inline]
    pub(crate) fn measure_roundtrip(&mut self, clock: impl FnOnce() -> Tick) {
        let session = self.session();
        if session.roundtrip.borrow().as_ref().is_some_and(|roundtrip| roundtrip.is_wanted())
            && self.phase() == Phase::Open
        {
            self.ping_for_roundtrip(clock());
        }
    }

    fn ping_for_roundtrip(&mut self, now: Tick) {
        if let Some(roundtrip) = self.session().roundtrip.borrow_mut().as_deref_mut() {
            roundtrip.ping_sent(now);
        }
        self.call("send_user_specific_ping", |listener, transport| {
            listener.send_user_specific_ping(transport)
        });
    }

    fn ping(&mut self, session: &Session, now: Tick) {
        tracing::debug!(peer = ?session.peer, "pinging");
        self.call("send_user_specific_ping", |listener, transport| {
            listener.send_user_specific_ping(transport)
        });
        if let Some(liveness) = session.liveness.borrow_mut().as_deref_mut() {
            liveness.ping_queued(now, session.buffered());
        }
    }

    /// Asks the listener whether `frame` answers the ping; if so, the frame is done with.
    pub(super) fn consume_pong(&mut self, frame: &Frame<'_>) -> bool {
        let Some(listener) = self.listener.as_deref_mut() else { return false };
        let transport = &self.transport;
        let asked =
            catch_unwind(AssertUnwindSafe(|| listener.is_user_specific_pong(transport, frame)));
        match asked.unwrap_or_else(|panic| Err(panic_error(panic))) {
            Ok(is_pong) => {
                if is_pong {
                    self.session().pong_received();
                }
                is_pong
            }
            Err(error) => {
                self.listener_failed("is_user_specific_pong", error);
                true
            }
        }
    }

    /// CLOSE 1001; the peer has the close timeout to answer.
    fn end_politely(&self, session: &Session, reason: &str) {
        tracing::info!(peer = ?session.peer, reason, "closing");
        session.set_cause(DisconnectCause::TimedOut);
        self.transport.send_close(CloseCode::GOING_AWAY, reason);
        if !session.config.conversation.auto_close {
            self.transport.disconnect();
        }
    }
}

/// How long a silent peer has to take our CLOSE: as in picows, just long enough for one that was
/// only slow.
const SILENT_LINGER: Duration = Duration::from_millis(10);
