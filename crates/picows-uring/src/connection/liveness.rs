//! Liveness of the peer: what the verdicts of the protocol crate lead to.

use super::{Callbacks, Connection};
use crate::foreign::{self, log};
use crate::ring::Ring;
use crate::session::Session;
use crate::status::DisconnectCause;
use picows_uring_proto::{CloseCode, Frame, Tick, Verdict};
use std::rc::Rc;
use std::time::Duration;

impl Connection {
    /// Pings, or gives up, if that is due.
    pub(super) fn check_liveness(
        &mut self,
        session: &Session,
        ring: &impl Ring,
        seen: Tick,
        has_backlog: bool,
    ) {
        let (rules, now) = (&session.config.liveness, session.local.now());
        let ask = || session.liveness()?.handle_timeout(rules, seen, has_backlog);
        let mut verdict = ask();
        if matches!(verdict, Some(Verdict::Silent | Verdict::Idle)) {
            look_closer(session, ring, now);
            verdict = ask();
        }
        match verdict {
            None => {}
            Some(Verdict::Ping) => {
                log::debug!(peer = session.peer.logged(), "pinging");
                self.ping(session, ring, now);
            }
            Some(Verdict::Silent) => {
                let reply = rules.auto_ping.map(|ping| ping.reply_timeout).unwrap_or_default();
                let reason = format!("no pong within {reply:?}");
                log::info!(peer = session.peer.logged(), %reason, "peer is silent: closing");
                session.set_cause(DisconnectCause::PingTimedOut);
                let rules = &session.config.conversation;
                let close =
                    session.conversation.borrow_mut().give_up(rules, now, &reason, SILENT_LINGER);
                session.queue_close(close);
            }
            Some(Verdict::Idle) => {
                session.set_cause(DisconnectCause::TimedOut);
                self.end_politely(session, "idle for too long");
            }
            Some(Verdict::Expired) => self.end_politely(session, "please reconnect"),
        }
    }

    /// Sends the ping of a round trip that a task wants measured. An automatic ping that is under
    /// way is waited for: its pong might be taken for ours.
    #[inline]
    pub(crate) fn measure_roundtrip(&mut self, ring: &impl Ring) {
        if self.session().roundtrip().is_some() {
            self.measure(ring);
        }
    }

    #[cold]
    #[inline(never)]
    fn measure(&mut self, ring: &impl Ring) {
        let session = Rc::clone(self.session());
        let is_wanted = session.roundtrip().is_some_and(|it| it.is_wanted());
        let may_ping = session.conversation.borrow().may_send() && !session.is_liveness_pinging();
        if !is_wanted || !may_ping {
            return;
        }
        let now = Tick::ZERO + ring.now();
        // Before: the answer may be taken note of by a callback that the ping leads to.
        if let Some(mut roundtrip) = session.roundtrip() {
            roundtrip.ping_sent(now);
        }
        if !self.ping(&session, ring, now)
            && let Some(mut roundtrip) = session.roundtrip()
        {
            roundtrip.ping_refused();
        }
    }

    /// Has the listener send a ping, or sends one in its place. Returns whether there is one to be
    /// answered: what was never sent is not waited for.
    fn ping(&mut self, session: &Session, ring: &impl Ring, now: Tick) -> bool {
        session.begin_ping();
        self.call("send_user_specific_ping", |listener, transport| {
            listener.send_user_specific_ping(transport)
        });
        if !session.end_ping() {
            return false;
        }
        session.ping_queued(now, session.committed());
        look_at_outbox(session, ring, now);
        true
    }

    /// CLOSE 1001; the peer has the close timeout to answer.
    fn end_politely(&self, session: &Session, reason: &str) {
        log::info!(peer = session.peer.logged(), reason, "closing");
        self.transport.send_close(CloseCode::GOING_AWAY, reason);
        if !session.config.conversation.auto_close {
            self.transport.disconnect();
        }
    }
}

impl Callbacks<'_> {
    /// Asks the listener whether `frame` answers the ping; if so, the frame is done with.
    pub(super) fn consume_pong(&mut self, frame: &Frame<'_>) -> bool {
        if self.session().is_pong_of_ours(frame) {
            self.session().pong_received();
            return true;
        }
        let Some(listener) = self.listener.as_deref_mut() else { return false };
        let transport = self.transport;
        let asked = foreign::call(|| listener.is_user_specific_pong(transport, frame));
        match asked.unwrap_or_else(|panicked| Err(panicked.into())) {
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
}

/// Before a peer is given up: whether it is us, or the way to it, that is slow.
fn look_closer(session: &Session, ring: &impl Ring, now: Tick) {
    // After a stall of ours, the kernel brings what has arrived a little at a time.
    if session.socket.get().is_some_and(|socket| ring.unread(socket) > 0)
        && let Some(mut liveness) = session.liveness()
    {
        liveness.received(now);
    }
    look_at_outbox(session, ring, now);
}

/// Returns how much the peer has taken of what we sent.
fn look_at_outbox(session: &Session, ring: &impl Ring, now: Tick) {
    if let Some(mut liveness) = session.liveness()
        && let Some(send_state) = session.socket.get().and_then(|socket| ring.send_state(socket))
    {
        liveness.taken(now, send_state.taken, send_state.has_more);
    }
}

/// How long a silent peer has to take our CLOSE: as in picows, just long enough for one that was
/// only slow.
const SILENT_LINGER: Duration = Duration::from_millis(10);
