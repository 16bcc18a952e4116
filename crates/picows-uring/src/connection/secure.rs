//! Received bytes of a secure connection: records to plaintext, where they lie.
//!
//! What TLS itself is, is in the crate `picows-uring-tls`; what is sent is sealed in `session/secure.rs`.

use super::{Connection, Stage};
use crate::client::ConnectFault;
use crate::foreign;
use crate::foreign::log::{self, LogLine, log_limited, peer_field};
use crate::session::{SecureInput, SecureStage, SecureState, Session};
use crate::status::DisconnectCause;
use crate::tls::{
    Alert, Control, Facts, HandshakeError, Opened, RecordError, Step, TlsVersion as Version,
};
use picows_uring_proto::{Phase, TlsFacts, TlsInfo, TlsVersion};
use std::rc::Rc;

/// One of the layers of TLS of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// To the server.
    Inner,
    /// To a proxy on the way, around all else.
    Outer,
}

/// Outcome for the bytes at hand.
enum Progress {
    /// So many are done with.
    Consumed(usize),
    /// The turn has no more for this connection; so many are done with.
    BudgetSpent(usize),
    /// More of the peer is needed, or nothing: all are done with.
    Done,
}

impl Connection {
    /// Handles received bytes of a secure connection; see [`receive`](Self::receive).
    pub(super) fn receive_secure(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let session = Rc::clone(self.session());
        let Some(outer) = session.outer() else {
            return self.receive_layer(&session, session.secure()?, Layer::Inner, bytes);
        };
        // A record of the inner layer that the budget of an earlier turn did not cover comes first.
        let has_opened =
            session.secure().is_some_and(|it| !it.input.borrow().opened_stash.is_empty());
        if has_opened && self.receive_within(&session, Layer::Outer, &mut []).is_some() {
            return Some(0);
        }
        self.receive_layer(&session, outer, Layer::Outer, bytes)
    }

    /// Handles what a layer has opened: frames and heads, or the records of the layer in it.
    fn receive_within(
        &mut self,
        session: &Session,
        layer: Layer,
        bytes: &mut [u8],
    ) -> Option<usize> {
        match session.secure() {
            Some(inner) if layer == Layer::Outer => {
                self.receive_layer(session, inner, Layer::Inner, bytes)
            }
            _ => self.receive_plain(bytes),
        }
    }

    /// Handles received bytes of a layer; see [`receive`](Self::receive).
    fn receive_layer(
        &mut self,
        session: &Session,
        secure: &SecureState,
        layer: Layer,
        bytes: &mut [u8],
    ) -> Option<usize> {
        let mut start = 0;
        loop {
            if self.phase() > Phase::Open {
                self.discard(bytes.len() - start);
                return None;
            }
            let rest = &mut bytes[start..];
            let progress = if secure.is_handshaking() {
                self.receive_handshake(session, secure, rest)
            } else {
                self.receive_record(session, secure, layer, rest)
            };
            match progress {
                Progress::Consumed(count) => start += count,
                Progress::BudgetSpent(count) => return Some(start + count),
                Progress::Done => return None,
            }
        }
    }

    /// Takes a step of the handshake, with all bytes that are there.
    fn receive_handshake(
        &mut self,
        session: &Session,
        secure: &SecureState,
        bytes: &mut [u8],
    ) -> Progress {
        if bytes.is_empty() {
            return Progress::Done;
        }
        if !session.local.tls_steps.take() {
            return Progress::BudgetSpent(0);
        }
        let Some(mut handshake) = secure.take_handshake() else { return Progress::Done };
        let mut out = session.local.pool.buffer(0);
        // Guarded: it may call the application, which chooses certificates.
        let step = foreign::call(|| handshake.advance(bytes, &mut out))
            .unwrap_or_else(|panicked| Err(HandshakeError::Local(panicked.to_string())));
        let error = match step {
            Ok(Step::NeedsMore { .. }) => {
                secure.set_stage(SecureStage::Handshake(handshake));
                session.queue_sealed(out);
                return Progress::Done;
            }
            Ok(Step::Done { consumed, secure: open, facts }) => {
                secure.set_stage(SecureStage::Open(open));
                session.queue_sealed(out);
                self.handshake_done(session, secure, facts);
                return Progress::Consumed(consumed);
            }
            Err(error) => error,
        };
        self.handshake_failed(session, secure, error, out);
        Progress::Done
    }

    /// The connection is secure: HTTP comes next.
    fn handshake_done(&mut self, session: &Session, secure: &SecureState, facts: Facts) {
        let counters = &session.local.counters;
        counters.tls_handshakes.increment();
        if facts.info.resumed {
            counters.tls_resumed.increment();
        }
        log::debug!(peer = session.peer.logged(), version = %facts.info.version, cipher = facts.info.cipher,
            resumed = facts.info.resumed, "secure");
        secure.set_new_facts(plain_facts(facts));
        if let Stage::Response(connecting) = &self.stage {
            connecting.outcome.tls_done();
            session.take_tls_facts(true);
        }
        session.mark_dirty();
    }

    /// The handshake failed. `out` is what the peer is owed: an alert, or to plain HTTP an answer in clear.
    fn handshake_failed(
        &mut self,
        session: &Session,
        secure: &SecureState,
        error: HandshakeError,
        out: Vec<u8>,
    ) {
        let (local, peer) = (&session.local, session.peer.get());
        local.counters.tls_failed.increment();
        secure.set_stage(SecureStage::Ended);
        if !session.is_client {
            log_limited!(info, local, LogLine::TlsFailed, peer = peer_field(peer), %error);
        }
        self.end_secure(session, Layer::Inner, out, error);
    }

    /// TLS has failed: sends the alert in `out`, and nothing else any more.
    fn end_secure(&mut self, session: &Session, layer: Layer, out: Vec<u8>, error: HandshakeError) {
        session.drop_queue();
        match layer {
            Layer::Inner => session.queue_sealed(out),
            Layer::Outer => session.queue_wire(out),
        }
        session.set_cause(DisconnectCause::Tls(error.to_string()));
        let (rules, now) = (&session.config.conversation, session.local.now());
        session.conversation.borrow_mut().finish(rules, now);
        session.mark_dirty();
        self.report_tls_fault(layer, error);
    }

    /// Reports a fault of TLS to the future that awaits the connection.
    fn report_tls_fault(&mut self, layer: Layer, error: HandshakeError) {
        let Stage::Response(connecting) = &self.stage else { return };
        let fault = match (layer, &connecting.proxy) {
            (Layer::Outer, Some(proxy)) => proxy.fault(error),
            _ => ConnectFault::Tls(error),
        };
        self.report_fault(fault);
    }

    /// Handles what is opened already, or opens the next record.
    fn receive_record(
        &mut self,
        session: &Session,
        secure: &SecureState,
        layer: Layer,
        bytes: &mut [u8],
    ) -> Progress {
        let (opened, behind) = {
            let mut input = secure.input.borrow_mut();
            (std::mem::take(&mut input.opened), std::mem::take(&mut input.behind))
        };
        if !secure.input.borrow().opened_stash.is_empty() {
            return self.receive_opened_stash(session, secure, layer);
        }
        if opened > 0 {
            return self.receive_opened(session, (secure, layer), &mut bytes[..opened], 0, behind);
        }
        if bytes.is_empty() {
            return Progress::Done;
        }
        if !self.link.budget.has_left() {
            return Progress::BudgetSpent(0);
        }
        if !secure.input.borrow().stash.is_empty() {
            return self.complete_record(session, secure, layer, bytes);
        }
        let outcome = match secure.open() {
            Some(mut open) => open.next(bytes),
            None => return Progress::Done,
        };
        match outcome {
            Ok(Opened::Incomplete { .. }) => {
                self.keep_cut_record(session, secure, bytes);
                Progress::Done
            }
            Ok(Opened::Data { consumed, range }) => {
                self.link.budget.pay(1, 0);
                let behind = consumed - range.end;
                self.receive_opened(
                    session,
                    (secure, layer),
                    &mut bytes[..range.end],
                    range.start,
                    behind,
                )
            }
            Ok(Opened::Control { consumed, control }) => {
                self.link.budget.pay(1, 0);
                self.handle_control(session, secure, layer, control);
                Progress::Consumed(consumed)
            }
            Err(error) => {
                self.record_failed(session, secure, layer, error);
                Progress::Done
            }
        }
    }

    /// Handles plaintext, which `bytes` have from `start` on, with so many bytes of its record `behind` them.
    fn receive_opened(
        &mut self,
        session: &Session,
        (secure, layer): (&SecureState, Layer),
        bytes: &mut [u8],
        start: usize,
        behind: usize,
    ) -> Progress {
        let end = bytes.len();
        match self.receive_within(session, layer, &mut bytes[start..]) {
            None => Progress::Consumed(end + behind),
            Some(count) if start + count == end => Progress::BudgetSpent(end + behind),
            Some(count) => {
                let mut input = secure.input.borrow_mut();
                (input.opened, input.behind) = (end - start - count, behind);
                Progress::BudgetSpent(start + count)
            }
        }
    }

    /// The end of the piece has cut a record: copies what is there of it.
    fn keep_cut_record(&mut self, session: &Session, secure: &SecureState, bytes: &[u8]) {
        let pool = &session.local.pool;
        let mut stash = pool.stash();
        if stash.bytes_mut().try_reserve(bytes.len()).is_err() {
            pool.put_stash(stash);
            return session.out_of_memory();
        }
        stash.bytes_mut().extend_from_slice(bytes);
        pool.hold(&mut stash);
        let mut input = secure.input.borrow_mut();
        (input.stash, input.is_new) = (stash, true);
        drop(input);
        if !session.is_watched.get() {
            session.mark_dirty();
        }
    }

    /// Completes a record that was cut, as far as `bytes` go, and opens it.
    fn complete_record(
        &mut self,
        session: &Session,
        secure: &SecureState,
        layer: Layer,
        bytes: &[u8],
    ) -> Progress {
        let pool = &session.local.pool;
        let mut stash = std::mem::take(&mut secure.input.borrow_mut().stash);
        pool.unhold(&stash);
        let mut taken = 0;
        let outcome = loop {
            let outcome = match secure.open() {
                Some(mut open) => open.next(stash.bytes_mut()),
                None => break Err(RecordError::Broken),
            };
            let Ok(Opened::Incomplete { needed }) = outcome else { break outcome };
            let missing = needed.saturating_sub(stash.len()).min(bytes.len() - taken);
            if missing == 0 {
                break outcome;
            }
            if stash.bytes_mut().try_reserve(missing).is_err() {
                pool.put_stash(stash);
                session.out_of_memory();
                return Progress::Done;
            }
            stash.bytes_mut().extend_from_slice(&bytes[taken..taken + missing]);
            taken += missing;
        };
        self.link.budget.pay(1, 0);
        match outcome {
            Ok(Opened::Incomplete { .. }) => {
                pool.hold(&mut stash);
                secure.input.borrow_mut().stash = stash;
                return Progress::Done;
            }
            Ok(Opened::Data { range, .. }) => {
                pool.hold(&mut stash);
                let mut input = secure.input.borrow_mut();
                (input.stash, input.opened_stash) = (stash, range);
                return Progress::Consumed(taken);
            }
            Ok(Opened::Control { control, .. }) => {
                self.handle_control(session, secure, layer, control);
            }
            Err(error) => self.record_failed(session, secure, layer, error),
        }
        pool.put_stash(stash);
        Progress::Consumed(taken)
    }

    /// Handles the plaintext of a record that was completed.
    fn receive_opened_stash(
        &mut self,
        session: &Session,
        secure: &SecureState,
        layer: Layer,
    ) -> Progress {
        let pool = &session.local.pool;
        let SecureInput { mut stash, opened_stash: range, .. } = secure.input.take();
        pool.unhold(&stash);
        let end = range.end;
        let handled = self.receive_within(session, layer, &mut stash.bytes_mut()[range.clone()]);
        let Some(count) = handled else {
            pool.put_stash(stash);
            return Progress::Consumed(0);
        };
        if range.start + count == end {
            pool.put_stash(stash);
        } else {
            pool.hold(&mut stash);
            let mut input = secure.input.borrow_mut();
            (input.stash, input.opened_stash) = (stash, range.start + count..end);
        }
        Progress::BudgetSpent(0)
    }

    /// Handles a record without data.
    fn handle_control(
        &mut self,
        session: &Session,
        secure: &SecureState,
        layer: Layer,
        control: Control,
    ) {
        match control {
            Control::CloseNotify => {
                secure.is_peer_notified.set(true);
                self.end_of_stream();
            }
            Control::Alert(alert) => self.alert_received(session, secure, layer, alert),
            // Done already: a new key of the peer, a ticket. A key update that it asks for goes ahead of the
            // next data (RFC 8446 §4.6.3), one for all requests until then: answered one by one, a peer that
            // does not read could have us queue without end.
            _ => {}
        }
    }

    /// The peer has ended the connection over a fault.
    fn alert_received(
        &mut self,
        session: &Session,
        secure: &SecureState,
        layer: Layer,
        alert: Alert,
    ) {
        secure.set_stage(SecureStage::Ended);
        let error = HandshakeError::AlertReceived { alert };
        log::debug!(peer = session.peer.logged(), %error, "alert of TLS");
        session.drop_queue();
        session.set_cause(DisconnectCause::Tls(error.to_string()));
        // A client certificate is refused behind the handshake, from TLS 1.3 on.
        self.report_tls_fault(layer, error);
        session.conversation.borrow_mut().end();
        session.mark_dirty();
    }

    /// A record of the peer is none: it is owed an alert, and nothing else.
    fn record_failed(
        &mut self,
        session: &Session,
        secure: &SecureState,
        layer: Layer,
        error: RecordError,
    ) {
        let (local, peer) = (&session.local, session.peer.get());
        log_limited!(warn, local, LogLine::ProtocolError, peer = peer_field(peer), %error);
        local.counters.protocol_errors.increment();
        let mut out = local.pool.buffer(0);
        if let Some(mut open) = secure.open() {
            // Without a key nothing can be said.
            let _ = open.seal_alert(error.alert(), &mut out);
        }
        secure.set_stage(SecureStage::Ended);
        let error = HandshakeError::PeerMisbehaved(error.to_string());
        self.end_secure(session, layer, out, error);
    }
}

/// The facts that users see.
fn plain_facts(facts: Facts) -> TlsFacts {
    let version = match facts.info.version {
        Version::Tls12 => TlsVersion::Tls12,
        _ => TlsVersion::Tls13,
    };
    let mut info = TlsInfo::new(version, facts.info.cipher);
    (info.sni, info.alpn) = (facts.info.sni, facts.info.alpn);
    info.resumed = facts.info.resumed;
    TlsFacts { info, peer_certificates: facts.peer_certificates }
}
