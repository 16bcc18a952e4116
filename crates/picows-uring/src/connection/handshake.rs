//! The server's side of the handshake: from the first bytes to the listener's `on_connected`.
//!
//! What HTTP and RFC 6455 §4.2 demand is decided in the protocol crate; here it is put in order.

use super::Connection;
use crate::error::shown;
use crate::foreign;
use crate::listener::{Listener, ListenerError};
use crate::log;
use crate::log_limit::{LogLine, log_limited};
use crate::server::{Answer, Factory, Upgrade};
use crate::session::Session;
use http::{HeaderMap, StatusCode};
use picows_uring_proto::{
    AcceptKey, Phase, UpgradeRequest, UpgradeResponse, check_subprotocol,
    encode_switching_protocols,
};

impl Connection {
    /// Bytes of the request arrived, perhaps with the first frames behind it.
    pub(super) fn receive_head(&mut self, factory: &Factory, bytes: &mut [u8]) -> Option<usize> {
        let limits = self.session().config.head;
        if self.stash.is_empty() {
            match UpgradeRequest::parse_with(&mut self.scanner, bytes, &limits) {
                Ok(Some((request, used))) => {
                    self.answer(factory, request);
                    return self.receive_first_frames(bytes, used);
                }
                Ok(None) => {
                    let mut stash = self.take_stash();
                    stash.bytes_mut().extend_from_slice(bytes);
                    self.keep_stash(stash);
                }
                Err(error) => self.respond(&error.into()),
            }
            return None;
        }
        let before = self.stash.len();
        let mut stash = self.take_stash();
        let head = stash.bytes_mut();
        head.extend_from_slice(bytes);
        match UpgradeRequest::parse_with(&mut self.scanner, head, &limits) {
            Ok(Some((request, used))) => {
                self.shared().pool.put_stash(stash);
                self.answer(factory, request);
                // It was not complete before these bytes.
                return self.receive_first_frames(bytes, used.saturating_sub(before));
            }
            Ok(None) => self.keep_stash(stash),
            Err(error) => {
                self.shared().pool.put_stash(stash);
                self.respond(&error.into());
            }
        }
        None
    }

    /// Handles what follows the first `used` bytes, which the handshake has taken.
    pub(super) fn receive_first_frames(&mut self, bytes: &mut [u8], used: usize) -> Option<usize> {
        if used < bytes.len() && self.phase() == Phase::Open {
            return self.receive_frames(&mut bytes[used..]).map(|count| used + count);
        }
        None
    }

    /// Answers a complete request.
    fn answer(&mut self, factory: &Factory, mut request: UpgradeRequest) {
        if let Some(peer) = self.session().peer.get() {
            request.set_peer_addr(peer);
        }
        let made =
            foreign::call(|| factory(&request)).unwrap_or_else(|panicked| Err(panicked.into()));
        self.passed("factory");
        match made {
            Ok(Upgrade { answer: Answer::Accept { listener, headers, subprotocol } }) => {
                match request.validate_upgrade() {
                    Ok(key) => self.accept(request, &key, listener, &headers, subprotocol),
                    Err(error) => {
                        log::debug!(peer = ?self.session().peer, %error, "bad upgrade request");
                        self.respond(&error.into());
                        self.drop_listener(listener);
                    }
                }
                discard_headers(headers);
            }
            Ok(Upgrade { answer: Answer::Respond(response) })
                if response.status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                self.respond(&response);
                discard(response);
            }
            Ok(Upgrade { answer: Answer::Fail(error) }) | Err(error) => {
                self.factory_failed(&error);
            }
            Ok(Upgrade { answer: Answer::Respond(response) }) => {
                self.factory_failed(&"101 is answered with Upgrade::accept".into());
                discard(response);
            }
        }
    }

    fn accept(
        &mut self,
        request: UpgradeRequest,
        key: &AcceptKey,
        listener: Box<dyn Listener>,
        headers: &HeaderMap,
        subprotocol: Option<String>,
    ) {
        if let Some(name) = &subprotocol
            && let Err(misuse) = check_subprotocol(&request, name)
        {
            self.factory_failed(&misuse.into());
            return self.drop_listener(listener);
        }
        let session = self.session();
        session.queue_raw(HEAD_BYTES_USUAL, |out| {
            encode_switching_protocols(out, key, subprotocol.as_deref(), headers);
        });
        log::info!(peer = ?session.peer, path = ?shown(request.path()), "connected");
        session.opened();
        session.shared.counters.upgraded.increment();
        if let Some(name) = subprotocol {
            session.set_subprotocol(name);
        }
        if session.config.keep_request {
            session.set_request(Box::new(request));
        }
        self.listener = Some(listener);
        self.call("on_connected", |listener, transport| listener.on_connected(transport));
    }

    /// The application failed: the peer is not told how.
    fn factory_failed(&self, error: &ListenerError) {
        let (shared, peer) = (self.shared(), self.session().peer.get());
        let text = foreign::text(error);
        log_limited!(error, shared, LogLine::FactoryFailed, ?peer, error = text);
        shared.counters.listener_errors.increment();
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        self.respond(&UpgradeResponse::text(status, "internal server error\n"));
    }

    /// Sends an HTTP response that ends the connection.
    pub(crate) fn respond(&self, response: &UpgradeResponse) {
        refuse(self.session(), response);
    }
}

/// Sends an HTTP response that ends the connection.
fn refuse(session: &Session, response: &UpgradeResponse) {
    log::debug!(peer = ?session.peer, status = %response.status, "answered over HTTP");
    session.queue_raw(HEAD_BYTES_USUAL + response.body.len(), |out| response.encode(out));
    let (rules, now) = (&session.config.conversation, session.shared.now());
    session.conversation.borrow_mut().finish(rules, now);
}

/// Lets go of what the factory made; it may refer to memory whose owners are the application's.
fn discard(response: UpgradeResponse) {
    discard_headers(response.headers);
    foreign::discard(response.body);
}

fn discard_headers(headers: HeaderMap) {
    foreign::discard_each(headers.into_iter().map(|(_, value)| value));
}

/// Room for the head of a response with a few headers; it grows if need be.
const HEAD_BYTES_USUAL: usize = 512;
