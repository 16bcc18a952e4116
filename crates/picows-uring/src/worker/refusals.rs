//! Connections for which there is no room: what operators need is answered all the same.
//!
//! Such a connection is heard out for a moment: a plain request, as of a health check, goes to the
//! factory; an upgrade is answered with 503, and so is silence. Their number is bounded, and the
//! oldest make room for newcomers: a peer that fills the limits cannot fill this.

use super::lane::Lane;
use super::{Accept, Worker};
use crate::admission::{AdmissionState, Refusal};
use crate::ring::{Ring, Token};
use crate::status::DisconnectCause;
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use picows_uring_proto::{Phase, UpgradeResponse};
use std::collections::VecDeque;
use std::time::Duration;

/// The refused connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// All of them, oldest first.
    open: VecDeque<Token>,
    /// Those whose request has not come, and some whose has, oldest first.
    silent: VecDeque<Token>,
}

impl Refusals {
    /// A connection has gone.
    pub(super) fn forget(&mut self, admission: AdmissionState, token: Token) {
        if let AdmissionState::Refused(_) = admission {
            self.open.retain(|it| *it != token);
            self.silent.retain(|it| *it != token);
        }
    }
}

impl<R: Ring> Worker<R> {
    /// Waits a moment for the request of a connection that is refused.
    pub(super) fn hear_out(&mut self, token: Token, refusal: Refusal) {
        self.drop_oldest_refused();
        self.answer_oldest_silent();
        let Some(Accept { refusals, .. }) = &mut self.accept else { return };
        refusals.open.push_back(token);
        refusals.silent.push_back(token);
        let Some(connection) = self.slots.get_mut(token) else { return };
        connection.admission = AdmissionState::Refused(refusal);
        let until = self.local.now.get() + SILENCE_MAX;
        connection.session().conversation.borrow_mut().expire(until);
    }

    /// Keeps the descriptors of refused connections within their bound, whatever those are at.
    fn drop_oldest_refused(&mut self) {
        let Some(Accept { refusals, .. }) = &mut self.accept else { return };
        if refusals.open.len() < REFUSED_MAX {
            return;
        }
        if let Some(oldest) = refusals.open.pop_front()
            && let Some(connection) = self.slots.get_mut(oldest)
        {
            connection.session().conversation.borrow_mut().end();
            connection.session().mark_dirty();
        }
    }

    /// Ends the wait for the request that has been waited for longest, if there are too many.
    fn answer_oldest_silent(&mut self) {
        let Self { accept: Some(Accept { refusals, .. }), slots, .. } = self else { return };
        if refusals.silent.len() < SILENT_MAX {
            return;
        }
        refusals
            .silent
            .retain(|token| slots.get_mut(*token).is_some_and(|it| it.phase() == Phase::Handshake));
        if refusals.silent.len() >= SILENT_MAX
            && let Some(oldest) = refusals.silent.pop_front()
            && let Some(mut lane) = self.lane(oldest)
        {
            lane.refuse_late();
        }
    }
}

impl<R: Ring> Lane<'_, R> {
    /// Answers a connection whose request, or the decision about it, is not waited for any longer,
    /// because it is refused, the server stops, or the decision is late. Returns whether it was one.
    pub(super) fn refuse_late(&mut self) -> bool {
        let connection = &mut *self.connection;
        let is_deciding = connection.is_deciding();
        if !is_deciding && !connection.awaits_request() {
            return false;
        }
        let session = connection.session();
        let response = match connection.admission {
            // The time for answers is over.
            _ if self.deadlines.is_drain_over() => return false,
            AdmissionState::Refused(refusal) => refusal.response(),
            _ if self.is_stopping => {
                session.set_cause(DisconnectCause::Stopped);
                let text = "server is shutting down\n";
                let mut response = UpgradeResponse::text(StatusCode::SERVICE_UNAVAILABLE, text);
                // Another server may be there already.
                response.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
            _ if is_deciding => {
                connection.decision_is_late();
                let text = "no decision in time\n";
                UpgradeResponse::text(StatusCode::SERVICE_UNAVAILABLE, text)
            }
            _ => return false,
        };
        connection.respond(&response);
        connection.forget_decision();
        connection.session().mark_dirty();
        // What has come meanwhile is of no use, but its end is.
        self.receive.deferred.resume(self.token);
        true
    }
}

/// Refused connections of a worker at a time, those that are being answered included. Each is a
/// descriptor, which a flood must not be able to use up.
const REFUSED_MAX: usize = 256;
/// Of those, the ones whose request is waited for. A health check is overtaken only by a flood that
/// brings as many connections between its connection and its request.
const SILENT_MAX: usize = 128;
/// How long the request of one is waited for: a health check sends it at once.
const SILENCE_MAX: Duration = Duration::from_secs(1);
