//! Connections of operators that outlive a request: of what probes answer, and of nothing else.
//!
//! Between two requests such a connection is still in its handshake: it counts as one, and the handshake
//! timeout bounds it. What a factory answers ends the connection, as it may speak of what follows.

use super::server::Requests;
use super::{Connection, Stage};
use crate::admission::AdmissionState;
use picows_uring_proto::{HeadReceiver, Phase, UpgradeRequest, UpgradeResponse};

impl Connection {
    /// Answers a request in the place of the factory. Another may follow, unless bytes have come behind
    /// this one (`is_last` is not set): they were sent without waiting for the answer, and of a client that
    /// does so nothing more is read.
    pub(super) fn answer_probe(
        &mut self,
        request: &UpgradeRequest,
        response: &UpgradeResponse,
        is_last: bool,
    ) {
        let is_head = request.method() == "HEAD";
        if !is_last || !request.keeps_connection() || !self.may_be_kept() {
            return self.respond_to(response, is_head);
        }
        self.queue_response(response, is_head, UpgradeResponse::encode_kept_head);
        let session = self.transport.session();
        let (rules, now) = (&session.config.conversation, session.local.now());
        session.conversation.borrow_mut().await_request(rules, now);
        if let Stage::Request(requests) = &mut self.stage {
            requests.head = HeadReceiver::of_request();
            requests.answered += 1;
        }
    }

    /// Whether there is room for a connection that waits for a further request.
    fn may_be_kept(&self) -> bool {
        let Stage::Request(Requests { answered, .. }) = &self.stage else { return false };
        let (session, config) = (self.session(), &self.session().config);
        let limits = config.admission_limits();
        let is_full = config.admission.as_ref().is_some_and(|it| it.full(&limits).is_some());
        *answered < ANSWERED_MAX
            && self.admission == AdmissionState::Handshaking
            && !is_full
            && session.buffered() <= UNREAD_BYTES_MAX
    }

    /// Whether a request was answered and nothing of a further one has come.
    pub(super) fn is_between_requests(&self) -> bool {
        self.has_answered()
            && matches!(&self.stage, Stage::Request(requests) if requests.head.stash().is_empty())
    }

    /// Whether a request was answered, and a further one is awaited.
    fn has_answered(&self) -> bool {
        matches!(&self.stage, Stage::Request(requests) if requests.answered > 0)
            && self.phase() == Phase::Handshake
    }

    /// Ends a connection that is between requests, once its answer has left: the server stops.
    pub(crate) fn end_between_requests(&self) {
        if self.is_between_requests() {
            self.finish_answers();
        }
    }

    /// The peer sends nothing more: answers that it has still to get leave. Returns whether it had any.
    pub(super) fn end_after_answers(&self) -> bool {
        let has_answered = self.has_answered();
        if has_answered {
            self.finish_answers();
        }
        has_answered
    }

    fn finish_answers(&self) {
        let session = self.session();
        let (rules, now) = (&session.config.conversation, session.local.now());
        session.conversation.borrow_mut().finish(rules, now);
    }
}

/// Requests after which a connection ends all the same, so that balancers spread their probes anew.
const ANSWERED_MAX: u8 = 99;
/// Bytes of earlier answers that may wait to be sent: less than one of `/metrics`, and more than what ends a
/// handshake of TLS.
const UNREAD_BYTES_MAX: usize = 16 * 1024;
