//! Whether a server's answer opens the WebSocket that was asked for (RFC 6455 §4.1).
//!
//! Does not parse HTTP and keeps nothing: `response` does the one, `refusal` the other.

use http::StatusCode;

use super::head::{Framing, extension_names};
use super::refusal::{RejectedResponse, ResponseError};
use super::{ClientHandshake, HeadLimits, HeadScanner, ResponseHead};

/// The variant of `ResponseError` that names a fault of a 101.
type Fault = fn(Box<RejectedResponse>) -> ResponseError;

impl ClientHandshake {
    /// Returns the head of the answer and its length in bytes when it opens the connection, or
    /// `None` until more bytes arrive. What follows the head is the first frames.
    ///
    /// Searches `input` from its start; [`Self::parse_response_with`] does not when called again.
    pub fn parse_response(
        &self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        self.parse_response_with(&mut HeadScanner::new(), input, limits)
    }

    /// The same as [`Self::parse_response`], for a buffer that grows: `scanner` remembers how far
    /// it has been searched.
    ///
    /// The status is judged first: a refusal may well have a body. No 1xx but the 101 is skipped,
    /// since we ask for none.
    pub fn parse_response_with(
        &self,
        scanner: &mut HeadScanner,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        let parsed = ResponseHead::parse_with(scanner, input, limits)
            .map_err(|message| ResponseError::InvalidMessage(Box::new(message)))?;
        let Some((head, length)) = parsed else {
            return Ok(None);
        };
        let rejected = |head| Box::new(RejectedResponse::new(head, &input[length..]));
        if head.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(match redirect_location(&head) {
                Some(location) => ResponseError::Redirect { location, response: rejected(head) },
                None => ResponseError::InvalidStatus(rejected(head)),
            });
        }
        match self.verify(&head) {
            Ok(()) => Ok(Some((head, length))),
            Err(fault) => Err(fault(rejected(head))),
        }
    }

    /// Checks the headers of a 101.
    fn verify(&self, response: &ResponseHead) -> Result<(), Fault> {
        let head = response.head();
        match head.framing() {
            Framing::NoBody => {}
            Framing::TransferEncoding => return Err(ResponseError::TransferEncoding),
            Framing::ContentLength => return Err(ResponseError::ContentLength),
        }
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
