//! The client's side of the handshake: from the answer's first bytes to `on_connected`.
//!
//! What the answer has to say is decided in the protocol crate.

use super::Connection;
use crate::client::{ConnectFault, Opening};
use crate::error::shown;
use crate::foreign::{self, log};
use crate::transport::Transport;
use picows_uring_proto::{RejectedResponse, ResponseError, ResponseHead};
use std::io;
use std::rc::Rc;

impl Connection {
    /// Begins the handshake: queues the request.
    pub(crate) fn open(&mut self, opening: Opening) {
        let session = self.session();
        opening.outcome.attach(session);
        session.queue_raw(REQUEST_BYTES_USUAL, |out| opening.handshake.encode(out));
        let mut request = opening.request.clone();
        if let Some(peer) = session.peer.get() {
            request.set_peer_addr(peer);
        }
        session.set_request(request);
        session.set_opening(Box::new(opening));
    }

    /// Bytes of the answer arrived, perhaps with the first frames behind it.
    pub(super) fn receive_response(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let limits = self.session().config.head;
        let mut opening = self.session().take_opening()?;
        if let Some(missing) = opening.outcome.extend_body(bytes) {
            self.session().set_opening(opening);
            if missing == 0 {
                self.opening_failed(None);
            }
            return None;
        }
        let before = self.stash.len();
        let mut stash = self.take_stash();
        if stash.try_extend(bytes).is_err() {
            self.session().out_of_memory();
            self.session().set_opening(opening);
            self.opening_failed(Some(io::ErrorKind::OutOfMemory.into()));
            return None;
        }
        let head = stash.bytes_mut();
        match opening.handshake.parse_response_with(&mut opening.scanner, head, &limits) {
            Ok(Some((response, used))) => {
                self.shared().pool.put_stash(stash);
                self.opened(*opening, response);
                return self.receive_first_frames(bytes, used.saturating_sub(before));
            }
            Ok(None) => {
                let Opening { handshake, scanner, outcome, .. } = &*opening;
                outcome.unfinished(|| handshake.cut_response(scanner, head, &limits));
                self.session().set_opening(opening);
                self.keep_stash(stash);
            }
            Err(error) => {
                let is_followed =
                    opening.follows_redirects && matches!(error, ResponseError::Redirect { .. });
                let missing = error.response().map_or(0, RejectedResponse::body_missing);
                opening.outcome.reject(error);
                self.session().set_opening(opening);
                self.shared().pool.put_stash(stash);
                if missing == 0 || is_followed {
                    self.opening_failed(None);
                }
            }
        }
        None
    }

    fn opened(&mut self, opening: Opening, response: ResponseHead) {
        let session = Rc::clone(self.session());
        let (Some(request), Some(make)) = (session.request(), opening.make.take()) else {
            return opening.outcome.set(Err(ConnectFault::Disconnected(None)));
        };
        log::info!(peer = ?session.peer, path = ?shown(request.path()), "connected");
        session.opened();
        session.shared.counters.upgraded.increment();
        if let Some(name) = response.subprotocol() {
            session.set_subprotocol(name);
        }
        let make = make.into_inner();
        let outcome = match foreign::call(|| make(request, &response)) {
            Ok(listener) => {
                self.listener = Some(listener);
                session.set_response(response);
                self.call("on_connected", |listener, transport| listener.on_connected(transport));
                Ok(Transport::new(Rc::clone(&session)))
            }
            Err(panicked) => {
                let text = panicked.to_string();
                self.listener_failed("connect_with", panicked.into());
                Err(ConnectFault::Listener(text))
            }
        };
        opening.outcome.set(outcome);
        session.touch();
    }

    /// There will be no connection: ends it, and tells whoever waits why.
    pub(super) fn opening_failed(&mut self, cause: Option<io::Error>) {
        let Some(opening) = self.session().take_opening() else { return };
        let limits = self.session().config.head;
        // More of the head may have arrived than when its status was first known.
        let cut = || opening.handshake.cut_response(&opening.scanner, self.stash.bytes(), &limits);
        let rejected = opening.outcome.rejection(cut);
        let fault = match rejected {
            Some(error) => ConnectFault::Response(error),
            None => ConnectFault::Disconnected(cause),
        };
        log::debug!(peer = ?self.session().peer, error = %fault, "not connected");
        self.session().conversation.borrow_mut().end();
        self.session().touch();
        opening.outcome.set(Err(fault));
    }
}

/// Room for a request with a few headers; it grows if need be.
const REQUEST_BYTES_USUAL: usize = 512;
