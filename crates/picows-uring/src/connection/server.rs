//! The server's side of the handshake: from the first bytes to the listener's `on_connected`.
//!
//! What HTTP and RFC 6455 §4.2 demand is decided in the protocol crate; here it is put in order.

use super::proxied::Proxied;
use super::{Connection, Stage};
use crate::admission::{AdmissionState, Refusal};
use crate::foreign;
use crate::foreign::log::{self, LogLine, log_limited, peer_field};
use crate::listener::{Listener, ListenerError};
use crate::session::{COPY_BYTES_MAX, Session};
use crate::status::DisconnectCause;
use crate::upgrade::{Answer, Decision, Later, Made, SharedFactory, Upgrade};
use bytes::Bytes;
use http::header::{DATE, SEC_WEBSOCKET_EXTENSIONS};
use http::{HeaderMap, StatusCode};
use picows_uring_proto::internal::http_date;
use picows_uring_proto::{
    AcceptKey, CloseCode, Deflate, HeadFault, HeadReceiver, NegotiatedDeflate, Phase, RequestError,
    Tick, UpgradeRequest, UpgradeResponse, check_subprotocol, encode_continue,
    encode_switching_protocols,
};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

/// The stage of a connection whose request is awaited.
pub(super) struct Requests {
    /// Receives the head of the request.
    pub(super) head: HeadReceiver<UpgradeRequest>,
    /// When the connection was accepted, or this request began.
    pub(super) since: Tick,
    /// Requests before it that were answered.
    pub(super) answered: u8,
    factory: SharedFactory,
}

/// The stage of a connection whose request is complete, and whose answer is awaited.
pub(super) struct Deciding {
    request: UpgradeRequest,
    decision: Decision,
    answered: Answered,
}

/// Who has answered the client that its request is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    NotYet,
    /// Another server, with a 101.
    Elsewhere,
}

impl Connection {
    /// An accepted connection, whose requests `factory` answers.
    pub(crate) fn accepted(session: Rc<Session>, factory: SharedFactory) -> Self {
        let peer = session.peer.get();
        if session.config.is_trusted_proxy(peer) {
            session.is_uncounted_proxy(true);
        }
        let stage = if session.config.sends_proxy_header(peer) {
            Stage::Proxied(Box::new(Proxied { collected: Vec::new(), factory }))
        } else {
            Self::requests(&session, factory)
        };
        Self::new(session, stage)
    }

    /// The stage of a connection whose request is awaited, perhaps within TLS.
    pub(super) fn requests(session: &Session, factory: SharedFactory) -> Stage {
        #[cfg(feature = "_tls")]
        if let Some(tls) = &session.config.tls {
            let begun = crate::tls::Handshake::server(tls);
            if let Err(error) = &begun {
                let (local, peer) = (&session.local, session.peer.get());
                log_limited!(error, local, LogLine::TlsFailed, peer = peer_field(peer), %error);
                local.counters.tls_failed.increment();
                session.conversation.borrow_mut().end();
            }
            session.begin_secure(begun.ok());
        }
        let since = session.local.now.get();
        Stage::Request(Requests { head: HeadReceiver::of_request(), since, answered: 0, factory })
    }

    /// Whether it is of a server, and its request is not complete.
    pub(crate) fn awaits_request(&self) -> bool {
        matches!(self.stage, Stage::Request(_)) && self.phase() == Phase::Handshake
    }

    /// Bytes of the request arrived, perhaps with the first frames behind it.
    pub(super) fn receive_request(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let Stage::Request(Requests { head, since, answered, .. }) = &mut self.stage else {
            return None;
        };
        let session = self.transport.session();
        if *answered > 0 && head.stash().is_empty() {
            *since = session.local.now.get();
        }
        let (pool, limits) = (&session.local.pool, &session.config.head);
        pool.lend(head.stash_mut());
        let received = head.receive_request(bytes, limits);
        let is_head = received.is_err() && head.is_head_request(bytes);
        pool.hold_or_take(head.stash_mut(), matches!(received, Ok(None)));
        match received {
            Ok(Some((request, used))) => {
                self.answer(request, used == bytes.len());
                if self.is_deciding() {
                    return (used < bytes.len()).then_some(used);
                }
                return self.receive_first_frames(bytes, used);
            }
            Ok(None) => {}
            Err(HeadFault::Refused(error)) => self.refuse_request(error, is_head),
            Err(HeadFault::OutOfMemory) => session.out_of_memory(),
        }
        None
    }

    /// Answers a request that is none, or none that is served.
    fn refuse_request(&self, error: RequestError, is_head: bool) {
        log::debug!(peer = self.session().peer.logged(), %error, "bad request");
        self.respond_to(&error.into(), is_head);
    }

    /// Answers a complete request, behind which nothing has come if it `is_last`.
    fn answer(&mut self, mut request: UpgradeRequest, is_last: bool) {
        let Stage::Request(Requests { factory, .. }) = &self.stage else { return };
        let factory = Rc::clone(factory);
        if let AdmissionState::Refused(refusal) = self.admission
            && request.is_upgrade()
        {
            return self.respond(&refusal.response());
        }
        let probe = self.session().config.probe.clone();
        if let Some(response) = probe.and_then(|probe| probe.answer(&request)) {
            return self.answer_probe(&request, &response, is_last);
        }
        if self.session().config.judges_source()
            && let Some(refusal) = self.refuse_source(&request)
        {
            return self.respond(&refusal);
        }
        if let Some(peer) = self.session().peer.get() {
            request.set_peer_addr(peer);
        }
        #[cfg(feature = "_tls")]
        if let Some(facts) = self.session().take_tls_facts(self.session().config.keep_request) {
            request.set_tls(facts);
        }
        let made =
            foreign::call(|| factory(&request)).unwrap_or_else(|panicked| Err(panicked.into()));
        self.callbacks().mark_callback("factory");
        self.carry_out(request, made, Answered::NotYet);
    }

    /// Asks the factory about a request that another server has answered with 101.
    pub(crate) fn answer_upgraded(&mut self, mut request: UpgradeRequest) {
        let Stage::Request(Requests { factory, .. }) = &self.stage else { return };
        let factory = Rc::clone(factory);
        if let Some(peer) = self.session().peer.get() {
            request.set_peer_addr(peer);
        }
        let made = if let AdmissionState::Refused(refusal) = self.admission {
            Ok(Upgrade::respond(refusal.response()))
        } else {
            foreign::call(|| factory(&request)).unwrap_or_else(|panicked| Err(panicked.into()))
        };
        self.callbacks().mark_callback("factory");
        self.carry_out(request, made, Answered::Elsewhere);
    }

    /// Ends a connection whose client takes it for accepted.
    fn refuse_upgraded(&mut self, made: Made) {
        match made {
            Ok(Upgrade { answer: Answer::Fail(error) }) | Err(error) => {
                self.factory_error(&error);
                self.close_upgraded(CloseCode::INTERNAL_ERROR, "");
            }
            Ok(other) => {
                self.close_upgraded(CloseCode::POLICY_VIOLATION, "refused");
                foreign::discard(other);
            }
        }
    }

    /// Ends a connection that another server has upgraded, with CLOSE.
    fn close_upgraded(&self, code: CloseCode, reason: &str) {
        let session = self.session();
        session.opened();
        session.fail(DisconnectCause::Closed, code, reason);
    }

    /// The refusal of a request by where it comes from: from which client, behind a proxy, and from which
    /// site.
    #[cold]
    fn refuse_source(&self, request: &UpgradeRequest) -> Option<UpgradeResponse> {
        let (session, is_upgrade) = (self.session(), request.is_upgrade());
        if session.config.has_proxies()
            && let Err(refusal) = self.admit_client(request, is_upgrade)
        {
            return Some(refusal.response());
        }
        if !is_upgrade || session.config.origins.allows(request) {
            return None;
        }
        log::debug!(peer = session.peer.logged(), "refused by its origin");
        let text = "this site may not connect: its Origin is not allowed\n";
        Some(UpgradeResponse::text(StatusCode::FORBIDDEN, text))
    }

    /// Finds out who the client is that a proxy has sent a request of, and counts a connection of it,
    /// where one is asked for.
    fn admit_client(&self, request: &UpgradeRequest, is_upgrade: bool) -> Result<(), Refusal> {
        let session = self.session();
        if let (Some(proxies), Some(peer)) = (&session.config.trusted_proxies, session.peer.get()) {
            let client = proxies.client_of(request, peer.ip());
            if client != peer.ip().to_canonical() {
                // Its port is not known.
                session.name_peer(SocketAddr::new(client, 0));
            }
        }
        let is_counted = self.admission == AdmissionState::Handshaking && is_upgrade;
        if !is_counted || !session.is_uncounted() {
            return Ok(());
        }
        session.config.admit_client(session.peer.get()).inspect_err(|refusal| {
            let counters = &session.local.counters;
            counters.refused.increment();
            counters.refused_by_address.increment();
            let refused = counters.refused.get();
            let (peer, limit) = (session.peer.get(), refusal.setting());
            log_limited!(
                warn,
                session.local,
                LogLine::Refused,
                peer = peer_field(peer),
                limit,
                refused
            );
        })?;
        session.is_uncounted_proxy(false);
        Ok(())
    }

    /// Answers a request as the factory has decided.
    fn carry_out(&mut self, request: UpgradeRequest, made: Made, answered: Answered) {
        let is_head = request.method() == "HEAD";
        match made {
            Ok(Upgrade { answer: Answer::Later(later) }) => {
                self.decide_later(request, later, answered);
            }
            Ok(Upgrade { answer: Answer::Accept { listener, headers, .. } })
                if answered == Answered::Elsewhere =>
            {
                self.open(request, None, None, listener);
                discard_headers(headers);
            }
            made if answered == Answered::Elsewhere => self.refuse_upgraded(made),
            Ok(Upgrade {
                answer: Answer::Accept { listener, headers, subprotocol, declines_deflate },
            }) => {
                match (self.admission, request.validate_upgrade()) {
                    // A factory that accepts what is no upgrade has no plain answer.
                    (AdmissionState::Refused(refusal), _) => {
                        self.respond_to(&refusal.response(), is_head);
                        self.callbacks().drop_listener(listener);
                    }
                    (_, Ok(key)) => {
                        let chosen = (&headers, subprotocol, declines_deflate);
                        self.accept(request, &key, listener, chosen);
                    }
                    (_, Err(error)) => {
                        log::debug!(peer = self.session().peer.logged(), %error, "bad upgrade request");
                        self.respond_to(&error.into(), is_head);
                        self.callbacks().drop_listener(listener);
                    }
                }
                discard_headers(headers);
            }
            Ok(Upgrade { answer: Answer::Respond(response) })
                if response.status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                self.respond_to(&response, is_head);
                discard(response);
            }
            Ok(Upgrade { answer: Answer::Fail(error) }) | Err(error) => {
                self.factory_failed(&error, is_head);
            }
            Ok(Upgrade { answer: Answer::Respond(response) }) => {
                self.factory_failed(&"101 is answered with Upgrade::accept".into(), is_head);
                discard(response);
            }
        }
    }

    /// Waits for the answer to a request.
    fn decide_later(&mut self, request: UpgradeRequest, later: Later, answered: Answered) {
        match Decision::begin(later, self.session()) {
            Ok(decision) => {
                let deciding = Deciding { request, decision, answered };
                self.stage = Stage::Deciding(Box::new(deciding));
            }
            Err(error) if answered == Answered::Elsewhere => {
                self.refuse_upgraded(Err(error.into()));
            }
            Err(error) => self.factory_failed(&error.into(), request.method() == "HEAD"),
        }
    }

    /// Whether a request is complete, and its answer awaited.
    pub(crate) fn is_deciding(&self) -> bool {
        matches!(self.stage, Stage::Deciding(_))
    }

    /// Answers a request whose answer was awaited, if it is there. Returns whether it was.
    pub(crate) fn take_decision(&mut self) -> bool {
        let Stage::Deciding(deciding) = &self.stage else { return false };
        let Some(made) = deciding.decision.take() else { return false };
        if let Stage::Deciding(deciding) = std::mem::replace(&mut self.stage, Stage::Discard(0)) {
            let Deciding { request, answered, .. } = *deciding;
            self.carry_out(request, made, answered);
            self.callbacks().mark_callback("later");
        }
        true
    }

    /// Drops a decision that is awaited.
    pub(crate) fn forget_decision(&mut self) {
        if self.is_deciding() {
            self.stage = Stage::Discard(0);
        }
    }

    /// The answer to a request did not come in time.
    pub(crate) fn decision_is_late(&self) {
        let (local, peer) = (self.local(), self.session().peer.get());
        log_limited!(warn, local, LogLine::DecisionLate, peer = peer_field(peer));
        local.counters.listener_errors.increment();
    }

    fn accept(
        &mut self,
        request: UpgradeRequest,
        key: &AcceptKey,
        listener: Box<dyn Listener>,
        (headers, subprotocol, declines_deflate): (&HeaderMap, Option<String>, bool),
    ) {
        if let Some(name) = &subprotocol
            && let Err(misuse) = check_subprotocol(&request, name)
        {
            self.factory_failed(&misuse.into(), false);
            return self.callbacks().drop_listener(listener);
        }
        let session = self.session();
        let is_answered = declines_deflate || headers.contains_key(SEC_WEBSOCKET_EXTENSIONS);
        let deflate = session.config.deflate().filter(|_| !is_answered);
        let deflate = deflate.and_then(|settings| Some((settings, settings.accept(&request)?)));
        session.queue_raw(HEAD_BYTES_USUAL, |out| {
            if request.expects_continue() {
                encode_continue(out); // RFC 9110 §7.8: before the 101.
            }
            encode_switching_protocols(out, key, subprotocol.as_deref(), headers);
            if let Some((_, (_, answer))) = &deflate {
                // In front of the empty line that ends the head.
                out.truncate(out.len() - 2);
                let line = format!("Sec-WebSocket-Extensions: {answer}\r\n\r\n");
                out.extend_from_slice(line.as_bytes());
            }
        });
        let deflate = deflate.map(|(settings, (agreed, _))| (settings, agreed));
        self.open(request, subprotocol, deflate, listener);
    }

    /// Opens a connection whose client has its 101, or gets it.
    fn open(
        &mut self,
        request: UpgradeRequest,
        subprotocol: Option<String>,
        deflate: Option<(Deflate, NegotiatedDeflate)>,
        listener: Box<dyn Listener>,
    ) {
        self.opened(request.path(), subprotocol.as_deref());
        if let Some((settings, agreed)) = deflate {
            self.begin_deflate(&settings, &agreed);
        }
        let session = self.session();
        if session.config.keep_request {
            session.set_request(Box::new(request));
        }
        // What the callback sends may take the answer along.
        self.leave_handshakes();
        self.greet(listener);
    }

    /// Counts no longer as a handshake in progress. Before the answer leaves, as the client that has
    /// it may count on the room for another.
    pub(crate) fn leave_handshakes(&mut self) {
        if self.admission == AdmissionState::Handshaking {
            self.admission = AdmissionState::Upgraded;
            self.session().config.handshake_ended();
        }
    }

    /// The application failed: the peer is not told how.
    fn factory_failed(&self, error: &ListenerError, is_head: bool) {
        self.factory_error(error);
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        self.respond_to(&UpgradeResponse::text(status, "internal server error\n"), is_head);
    }

    /// Logs and counts an error of the factory.
    fn factory_error(&self, error: &ListenerError) {
        let (local, peer) = (self.local(), self.session().peer.get());
        let text = foreign::text(error);
        log_limited!(error, local, LogLine::FactoryFailed, peer = peer_field(peer), error = text);
        local.counters.listener_errors.increment();
    }

    /// Sends an HTTP response that ends the connection, whatever was asked.
    pub(crate) fn respond(&self, response: &UpgradeResponse) {
        match &self.stage {
            Stage::Deciding(it) if it.answered == Answered::Elsewhere => {
                self.close_upgraded(CloseCode::TRY_AGAIN_LATER, "");
            }
            Stage::Deciding(it) => self.respond_to(response, it.request.method() == "HEAD"),
            _ => self.respond_to(response, false),
        }
    }

    /// Sends the response to a request, which ends the connection; to a HEAD without its body.
    pub(super) fn respond_to(&self, response: &UpgradeResponse, is_head: bool) {
        self.queue_response(response, is_head, UpgradeResponse::encode_head);
        let session = self.session();
        let (rules, now) = (&session.config.conversation, session.local.now());
        session.conversation.borrow_mut().finish(rules, now);
    }

    /// Queues the response to a request, whose head `encode_head` writes.
    pub(super) fn queue_response(
        &self,
        response: &UpgradeResponse,
        is_head: bool,
        encode_head: fn(&UpgradeResponse, &mut Vec<u8>),
    ) {
        let session = self.session();
        log::debug!(peer = session.peer.logged(), status = %response.status, "answered over HTTP");
        let body = response.body_sent().filter(|_| !is_head);
        let copied = body.filter(|body| body.len() <= COPY_BYTES_MAX);
        let copied_bytes = copied.map_or(0, Bytes::len);
        session.queue_last(HEAD_BYTES_USUAL + copied_bytes, |out| {
            encode_head(response, out);
            if !response.headers.contains_key(DATE) {
                // In front of the empty line that ends the head (RFC 9110 §6.6.1).
                out.truncate(out.len() - 2);
                out.extend_from_slice(format!("Date: {}\r\n\r\n", date_now()).as_bytes());
            }
            out.extend_from_slice(copied.map_or(b"", |body| body));
        });
        if let (Some(body), None) = (body, copied) {
            session.queue_reference(body);
        }
    }
}

/// Lets go of what the factory made; it may refer to memory whose owners are the application's.
fn discard(response: UpgradeResponse) {
    discard_headers(response.headers);
    foreign::discard(response.body);
}

fn discard_headers(headers: HeaderMap) {
    foreign::discard_each(headers.into_iter().map(|(_, value)| value));
}

/// The date of now, as HTTP has it; the first second of 1970 by a clock that is before it.
fn date_now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    http_date(since.map_or(0, |since| since.as_secs()))
}

/// Room for the head of a response with a few headers; it grows if need be.
const HEAD_BYTES_USUAL: usize = 512;
