//! Body of a request: how its head announces it (RFC 9112 §6), and what is owed to the peer then.
//!
//! No request that is served has a body. Where the RFC has the recipient refuse the framing itself,
//! the status is 400; where the framing is good, it says why there is no taking the body.

use super::RequestError;
use super::head::{Head, list_elements};
use super::request_line::Version;

/// Refuses a request with a body, and one whose end two recipients might see in two places.
pub(super) fn refuse_body(head: &Head, version: Version) -> Result<(), RequestError> {
    let has_length = head.value("content-length").is_some();
    if head.value("transfer-encoding").is_some() {
        return Err(transfer_encoding(head, version, has_length));
    }
    if !has_length {
        return Ok(());
    }
    // RFC 9112 §6.3: anything but one decimal number cannot be recovered from. A list of equal ones
    // may be taken, and is not: no client sends that on purpose.
    match head.only_value("content-length") {
        Some(digits) if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) => {
            Err(RequestError::InvalidContentLength)
        }
        None => Err(RequestError::InvalidContentLength),
        Some(digits) if digits.iter().all(|&digit| digit == b'0') => Ok(()),
        Some(_) => Err(RequestError::ContentLength),
    }
}

/// What is wrong with a request that has a `Transfer-Encoding`.
fn transfer_encoding(head: &Head, version: Version, has_length: bool) -> RequestError {
    if has_length {
        return RequestError::ConflictingLength;
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings = || head.values("transfer-encoding").flat_map(list_elements);
    let (count, last) = (codings().count(), codings().last());
    // RFC 9112 §6.1: HTTP/1.0 has no transfer codings, and the end of such a message is unknown.
    // §6.3: nor where one ends whose last coding is another, §6.1: and chunked comes once.
    let is_faulty = version == Version::Http10
        || !last.is_some_and(is_chunked)
        || codings().take(count - 1).any(is_chunked);
    match count {
        _ if is_faulty => RequestError::InvalidTransferEncoding,
        1 => RequestError::TransferEncoding,
        _ => RequestError::UnknownTransferCoding,
    }
}
