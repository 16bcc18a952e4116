//! The client's side of the handshake: from the first bytes of the response to `on_connected`.
//!
//! What the response has to say is decided in the protocol crate.

use super::{Connection, Stage};
use crate::client::{ConnectFault, Connecting};
use crate::foreign::{self, log};
use crate::session::Session;
use crate::transport::Transport;
use picows_uring_proto::{HeadFault, MessageFault, RejectedResponse, ResponseError, ResponseHead};
use std::io;
use std::rc::Rc;
use std::time::Duration;

impl Connection {
    /// A connection of a client: attaches it to the future that awaits it, and queues the request.
    pub(crate) fn connected(session: Rc<Session>, connecting: Connecting) -> Self {
        connecting.outcome.attach(&session);
        #[cfg(feature = "_tls")]
        let mut connecting = connecting;
        #[cfg(feature = "_tls")]
        if let Some(proxy) = &mut connecting.proxy {
            proxy.begin(&session);
        }
        #[cfg(feature = "_tls")]
        if let Some(tls) = connecting.tls.take() {
            session.begin_secure(Some(tls.handshake));
            session.queue_sealed(tls.hello);
        }
        session.queue_raw(REQUEST_BYTES_USUAL, |out| connecting.handshake.encode(out));
        let mut request = connecting.request.clone();
        if let Some(peer) = session.peer.get() {
            request.set_peer_addr(peer);
        }
        session.set_request(request);
        Self::new(session, Stage::Response(Box::new(connecting)))
    }

    /// Receives bytes of the response, perhaps with the first frames behind it.
    pub(super) fn receive_response(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let Stage::Response(connecting) = &mut self.stage else { return None };
        let Connecting { handshake, head, outcome, .. } = &mut **connecting;
        if let Some(missing) = outcome.extend_body(bytes) {
            if missing == 0 {
                self.connect_failed(None);
            }
            return None;
        }
        let session = self.transport.session();
        let (pool, limits) = (&session.local.pool, &session.config.head);
        pool.lend(head.stash_mut());
        let received = head.receive_response(handshake, bytes, limits);
        pool.hold_or_take(head.stash_mut(), matches!(received, Ok(None)));
        match received {
            Ok(Some((response, used))) => {
                self.response_accepted(response);
                return self.receive_first_frames(bytes, used);
            }
            Ok(None) => outcome.unfinished(|| head.cut_response(handshake, limits)),
            Err(HeadFault::Refused(error)) if !session.is_secure() && is_tls(&error) => {
                self.refuse_answer(ConnectFault::TlsExpected);
            }
            Err(HeadFault::Refused(error)) => {
                let is_redirect = matches!(error, ResponseError::Redirect { .. });
                let is_followed = connecting.follows_redirects && is_redirect;
                let missing = error.response().map_or(0, RejectedResponse::body_missing);
                connecting.outcome.reject(error);
                if missing == 0 || is_followed {
                    self.connect_failed(None);
                } else {
                    self.await_body();
                }
            }
            Err(HeadFault::OutOfMemory) => {
                session.out_of_memory();
                self.connect_failed(Some(io::ErrorKind::OutOfMemory.into()));
            }
        }
        None
    }

    /// Bounds the wait for the body of an answer that is no upgrade: the end of one without a length is
    /// the end of the connection, which a server that means to keep it does not bring about.
    fn await_body(&self) {
        let session = self.session();
        let until = session.local.now() + BODY_WAIT;
        session.conversation.borrow_mut().expire(until);
        session.mark_dirty();
    }

    /// The server has switched protocols.
    fn response_accepted(&mut self, response: ResponseHead) {
        let session = Rc::clone(self.session());
        let Some(connecting) = self.take_connecting() else { return };
        let (Some(request), Some(make)) = (session.request(), connecting.make.take()) else {
            session.conversation.borrow_mut().end();
            session.mark_dirty();
            return connecting.outcome.set(Err(ConnectFault::Disconnected(None)));
        };
        self.opened(request.path(), response.subprotocol());
        if let (Some(settings), Some(agreed)) =
            (session.config.deflate(), connecting.handshake.negotiated_deflate(&response))
        {
            self.begin_deflate(&settings, &agreed);
        }
        let make = make.into_inner();
        let outcome = match foreign::call(|| make(request, &response)) {
            Ok(listener) => {
                session.set_response(response);
                self.greet(listener);
                Ok(Transport::new(Rc::clone(&session)))
            }
            Err(panicked) => {
                let text = panicked.to_string();
                self.callbacks().listener_failed("connect_with", panicked.into());
                Err(ConnectFault::Listener(text))
            }
        };
        connecting.outcome.set(outcome);
        self.callbacks().mark_callback("outcome");
        session.mark_dirty();
    }

    /// Ends a connection whose handshake is not done, and reports why to the future that awaits it.
    pub(super) fn connect_failed(&mut self, cause: Option<io::Error>) {
        let Stage::Response(connecting) = &self.stage else { return };
        let limits = self.session().config.head;
        let Connecting { handshake, head, outcome, .. } = &**connecting;
        // More of the head may have arrived than when its status was first known.
        let cut = || head.cut_response(handshake, &limits);
        let fault = match outcome.rejection(cut) {
            Some(error) => ConnectFault::Response(error),
            None => ConnectFault::Disconnected(cause),
        };
        log::debug!(peer = self.session().peer.logged(), error = %fault, "not connected");
        self.session().conversation.borrow_mut().end();
        self.session().mark_dirty();
        if let Some(connecting) = self.take_connecting() {
            connecting.outcome.set(Err(fault));
        }
    }

    /// What comes from the server is no answer: ends the connection.
    fn refuse_answer(&mut self, fault: ConnectFault) {
        self.session().conversation.borrow_mut().end();
        self.session().mark_dirty();
        self.report_fault(fault);
    }

    /// Reports a fault to the future that awaits the connection.
    pub(super) fn report_fault(&mut self, fault: ConnectFault) {
        log::debug!(peer = self.session().peer.logged(), error = %fault, "not connected");
        if let Some(connecting) = self.take_connecting() {
            connecting.outcome.set(Err(fault));
        }
    }

    /// Leaves the stage in which the response is awaited.
    fn take_connecting(&mut self) -> Option<Box<Connecting>> {
        if !matches!(self.stage, Stage::Response(_)) {
            return None;
        }
        self.release_memory();
        match std::mem::replace(&mut self.stage, Stage::Discard(0)) {
            Stage::Response(connecting) => Some(connecting),
            _ => None,
        }
    }
}

/// Whether the answer is a record of TLS.
fn is_tls(error: &ResponseError) -> bool {
    matches!(error, ResponseError::InvalidMessage(message) if message.fault == MessageFault::Tls)
}

/// How long the body of an answer that is no upgrade is waited for: it serves the error's text, which
/// is not worth a long wait.
const BODY_WAIT: Duration = Duration::from_millis(500);
/// Room for a request with a few headers; it grows if need be.
const REQUEST_BYTES_USUAL: usize = 512;
