//! Check of a server's answer: does it open the WebSocket that was asked for (RFC 6455 §4.1)?
//!
//! Does not parse HTTP and keeps nothing: `response` does the one, `refusal` the other.

use http::StatusCode;

use super::head::extension_names;
use super::refusal::{RejectedResponse, ResponseError};
use super::response::FinalResponse;
use super::{ClientHandshake, HeadLimits, ResponseHead, ResponseScanner};

/// The variant of `ResponseError` that names a fault of a 101.
type Fault = fn(Box<RejectedResponse>) -> ResponseError;

impl ClientHandshake {
    /// Returns the head of the answer and where it ends when it opens the connection, or `None`
    /// until more bytes arrive. What follows the head is the first frames.
    ///
    /// Searches `input` from its start; a [`HeadReceiver`](crate::HeadReceiver) does not when more
    /// arrives.
    pub fn parse_response(
        &self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        self.parse_response_with(&mut ResponseScanner::new(), input, limits)
    }

    /// The same as [`Self::parse_response`], for a buffer that grows: `scanner` remembers how far
    /// it has been searched.
    ///
    /// Interim responses (1xx) in front of the final one are passed over, up to
    /// [`INTERIM_RESPONSES_MAX`](crate::INTERIM_RESPONSES_MAX) of them (RFC 9110 §15.2). The status
    /// is judged first: a refusal may well have a body, and need not be well-formed.
    pub(super) fn parse_response_with(
        &self,
        scanner: &mut ResponseScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        let parsed = ResponseHead::parse_with(scanner, input, limits)
            .map_err(|message| ResponseError::InvalidMessage(Box::new(message)))?;
        match parsed {
            None => Ok(None),
            Some(FinalResponse { head, head_end: None }) => Err(refusal_without_end(head)),
            Some(FinalResponse { head, head_end: Some(end) }) => {
                self.judge(head, &input[end..]).map(|head| Some((head, end)))
            }
        }
    }

    /// The refusal that `input` begins, when no more of it is to come: its head did not end, but
    /// its status is there. `None` for anything else, a 101 included.
    pub(super) fn cut_response(
        &self,
        scanner: &ResponseScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Option<ResponseError> {
        let cut = ResponseHead::parse_cut(scanner, input, limits)?;
        Some(refusal_without_end(cut.head))
    }

    /// Judges an answer whose head is complete; `rest` is what followed it so far.
    fn judge(&self, head: ResponseHead, rest: &[u8]) -> Result<ResponseHead, ResponseError> {
        let rejected = |head| Box::new(RejectedResponse::new(head, rest));
        if head.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match self.verify(&head) {
                Ok(()) => match self.judge_deflate(&head) {
                    Ok(_) => Ok(head),
                    Err(fault) => {
                        Err(ResponseError::InvalidDeflate { fault, response: rejected(head) })
                    }
                },
                Err(fault) => Err(fault(rejected(head))),
            };
        }
        Err(match redirect_location(&head) {
            Some(location) => ResponseError::Redirect { location, response: rejected(head) },
            None => ResponseError::InvalidStatus(rejected(head)),
        })
    }

    /// Checks the headers of a 101. `Content-Length` and `Transfer-Encoding` say nothing: no 1xx
    /// has a body, whatever its headers say (RFC 9112 §6.3, rule 1).
    fn verify(&self, response: &ResponseHead) -> Result<(), Fault> {
        let head = response.head();
        let upgrade = head.only_value("upgrade").unwrap_or_default();
        // Not a list here: a second protocol would sit on top of, or below, the frames we read.
        if !upgrade.eq_ignore_ascii_case(b"websocket") {
            return Err(ResponseError::InvalidUpgrade);
        }
        if !head.lists("connection", "upgrade") {
            return Err(ResponseError::InvalidConnection);
        }
        let accept = head.only_value("sec-websocket-accept");
        if accept != Some(self.accept().as_str().as_bytes()) {
            return Err(ResponseError::InvalidAccept);
        }
        if !response.extensions().all(|value| self.offers_all_extensions(value)) {
            return Err(ResponseError::InvalidExtensions);
        }
        let mut subprotocols = response.header_values("sec-websocket-protocol");
        match (subprotocols.next(), subprotocols.next()) {
            (None, _) => Ok(()),
            (Some(chosen), None) if self.offers_subprotocol(chosen) => Ok(()),
            // Not offered, or more than one (RFC 6455 §11.3.4).
            _ => Err(ResponseError::InvalidSubprotocol),
        }
    }

    fn offers_all_extensions(&self, value: &[u8]) -> bool {
        extension_names(value)
            .is_some_and(|names| names.iter().all(|name| self.offers_extension(name)))
    }
}

/// A redirect is none then: where it leads may be in what is missing.
fn refusal_without_end(head: ResponseHead) -> ResponseError {
    ResponseError::InvalidStatus(Box::new(RejectedResponse::without_body(head)))
}

/// Where a redirect leads. A redirect that does not say so is an ordinary refusal.
fn redirect_location(head: &ResponseHead) -> Option<String> {
    let is_redirect = matches!(
        head.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return None;
    }
    head.header_str("location").filter(|location| !location.is_empty()).map(str::to_owned)
}
