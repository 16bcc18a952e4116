//! An HTTP head that arrives in pieces: of a request, or of the answer to one.
//!
//! Collects what has arrived of it, within the limit, and returns how many bytes of the last piece
//! belong to it. What follows is the first frames, or a body, and left to the caller.

use super::refusal::InvalidMessage;
use super::response::FinalResponse;
use super::{
    ClientHandshake, HeadLimits, HeadScanner, RequestError, ResponseError, ResponseHead,
    ResponseScanner, UpgradeRequest, is_head_request,
};
use crate::stash::Stash;
use std::fmt;

/// Receives one head: of a request, where `H` is [`UpgradeRequest`], or of an answer, where it is
/// [`ResponseHead`].
///
/// A head that lies whole in the first piece is parsed where it lies and takes no memory here.
///
/// ```
/// use picows_uring_proto::{HeadLimits, HeadReceiver};
///
/// let (mut receiver, limits) = (HeadReceiver::of_request(), HeadLimits::default());
/// assert!(receiver.receive_request(b"GET /chat HTT", &limits)?.is_none());
/// let piece = b"P/1.1\r\nHost: example.com\r\n\r\n\x81\x80";
/// let (request, used) = receiver.receive_request(piece, &limits)?.expect("the head is complete");
/// assert_eq!(request.path(), "/chat");
/// assert_eq!(piece[used..], *b"\x81\x80"); // The first frame.
/// # Ok::<(), picows_uring_proto::HeadFault<picows_uring_proto::RequestError>>(())
/// ```
#[derive(Debug)]
pub struct HeadReceiver<H: ReceivedHead> {
    scanner: H::Scanner,
    /// The pieces so far.
    collected: Stash,
}

/// The kinds of heads: no other can be added, as the trait cannot be named from outside.
pub trait ReceivedHead {
    /// Remembers how much of the bytes so far was searched.
    type Scanner: fmt::Debug;
}

impl ReceivedHead for UpgradeRequest {
    type Scanner = HeadScanner;
}

impl ReceivedHead for ResponseHead {
    type Scanner = ResponseScanner;
}

/// The reason why a head was not received.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault<E> {
    /// There is no memory for another piece.
    #[error("out of memory for a head")]
    OutOfMemory,
    /// It was refused.
    #[error(transparent)]
    Refused(E),
}

impl HeadReceiver<UpgradeRequest> {
    /// A receiver of a request, before its first byte.
    #[must_use]
    pub const fn of_request() -> Self {
        Self { scanner: HeadScanner::new(), collected: Stash::new() }
    }

    /// Takes the next bytes, and returns the request when it is complete, with the number of
    /// bytes of `input` that belong to it.
    ///
    /// # Errors
    ///
    /// When the request is refused: the answer is made of the error.
    pub fn receive_request(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(UpgradeRequest, usize)>, HeadFault<RequestError>> {
        self.receive(input, |scanner, head| UpgradeRequest::parse_with(scanner, head, limits))
    }

    /// Whether the request that was refused with `input` is a HEAD, whose answer has no body.
    #[must_use]
    pub fn is_head_request(&self, input: &[u8]) -> bool {
        is_head_request(if self.collected.is_empty() { input } else { self.collected.bytes() })
    }
}

impl HeadReceiver<ResponseHead> {
    /// A receiver of an answer, before its first byte.
    #[must_use]
    pub const fn of_response() -> Self {
        Self { scanner: ResponseScanner::new(), collected: Stash::new() }
    }

    /// Takes the next bytes, and returns the answer to `handshake` when it is complete and opens a
    /// connection, with the number of bytes of `input` that belong to it.
    ///
    /// # Errors
    ///
    /// When the answer is another one.
    pub fn receive_response(
        &mut self,
        handshake: &ClientHandshake,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(ResponseHead, usize)>, HeadFault<ResponseError>> {
        self.receive(input, |scanner, head| handshake.parse_response_with(scanner, head, limits))
    }

    /// Takes the next bytes, and returns the final answer to any request, whatever its status.
    pub(super) fn receive_final(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(FinalResponse, usize)>, HeadFault<InvalidMessage>> {
        self.receive(input, |scanner, collected| {
            let found = ResponseHead::parse_with(scanner, collected, limits)?;
            Ok(found.map(|found| {
                let head_end = found.head_end.unwrap_or(collected.len());
                (found, head_end)
            }))
        })
    }

    /// The refusal that has arrived, when no more of it is to come: its head did not end, but its
    /// status is there. `None` for anything else, a 101 included.
    #[must_use]
    pub fn cut_response(
        &self,
        handshake: &ClientHandshake,
        limits: &HeadLimits,
    ) -> Option<ResponseError> {
        handshake.cut_response(&self.scanner, self.collected.bytes(), limits)
    }
}

impl<H: ReceivedHead> HeadReceiver<H> {
    /// The memory in which pieces are collected.
    #[must_use]
    pub const fn stash(&self) -> &Stash {
        &self.collected
    }

    /// The same, to lend memory from a pool to it. Its bytes are those of the head.
    pub const fn stash_mut(&mut self) -> &mut Stash {
        &mut self.collected
    }

    /// Returns what `parse` makes of all pieces, and how much of the last one it used.
    fn receive<T, E>(
        &mut self,
        input: &[u8],
        parse: impl FnOnce(&mut H::Scanner, &[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<Option<(T, usize)>, HeadFault<E>> {
        let before = self.collected.len();
        if before > 0 {
            self.collect(input)?;
        }
        let head = if before > 0 { self.collected.bytes() } else { input };
        match parse(&mut self.scanner, head).map_err(HeadFault::Refused)? {
            Some((head, used)) => {
                self.collected.clear();
                // It was not complete before these bytes.
                Ok(Some((head, used.saturating_sub(before))))
            }
            None => {
                if before == 0 {
                    self.collect(input)?;
                }
                Ok(None)
            }
        }
    }

    fn collect<E>(&mut self, input: &[u8]) -> Result<(), HeadFault<E>> {
        self.collected.try_extend(input).map_err(|_| HeadFault::OutOfMemory)
    }
}

/// The name of the variant, and its text.
impl<E: fmt::Display> fmt::Debug for HeadFault<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = match self {
            Self::OutOfMemory => "OutOfMemory",
            Self::Refused(_) => "Refused",
        };
        write!(f, "{variant}({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::MessageFault;

    const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\nHost: example.com\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const FRAMES: &[u8] = b"\x81\x00\x82\x00";

    fn handshake() -> ClientHandshake {
        ClientHandshake::new("example.com", "/chat", *b"the sample nonce").unwrap()
    }

    /// The pieces of `wire`, cut at `at` and then after each byte of `then` bytes.
    fn pieces(wire: &[u8], at: usize, then: usize) -> Vec<&[u8]> {
        let (front, back) = wire.split_at(at);
        let (middle, rest) = back.split_at(then.min(back.len()));
        [front].into_iter().chain(middle.chunks(1)).chain([rest]).collect()
    }

    #[test]
    fn a_request_is_received_at_every_cut_and_what_follows_is_left() {
        let wire = [REQUEST, FRAMES].concat();
        let limits = HeadLimits::default();
        for (at, then) in (0..=REQUEST.len()).flat_map(|at| [0, 1, 3].map(|then| (at, then))) {
            let mut receiver = HeadReceiver::of_request();
            let (mut passed, mut found) = (0, None);
            for piece in pieces(&wire, at, then) {
                if let Some((request, used)) = receiver.receive_request(piece, &limits).unwrap() {
                    assert_eq!(request.path(), "/chat");
                    found = Some(passed + used);
                    break;
                }
                passed += piece.len();
                assert_eq!(receiver.stash().bytes(), &wire[..passed]);
            }
            assert_eq!(found, Some(REQUEST.len()), "at={at} then={then}");
            assert!(receiver.stash().is_empty());
        }
    }

    #[test]
    fn an_answer_is_received_at_every_cut_and_what_follows_is_left() {
        let wire = [ANSWER, FRAMES].concat();
        let limits = HeadLimits::default();
        for at in 0..=ANSWER.len() {
            let mut receiver = HeadReceiver::of_response();
            let (mut passed, mut found) = (0, None);
            for piece in pieces(&wire, at, 2) {
                let received = receiver.receive_response(&handshake(), piece, &limits).unwrap();
                if let Some((response, used)) = received {
                    assert_eq!(response.status(), http::StatusCode::SWITCHING_PROTOCOLS);
                    found = Some(passed + used);
                    break;
                }
                passed += piece.len();
            }
            assert_eq!(found, Some(ANSWER.len()), "at={at}");
        }
    }

    #[test]
    fn a_head_in_one_piece_takes_no_memory() {
        let mut receiver = HeadReceiver::of_request();
        let received = receiver.receive_request(REQUEST, &HeadLimits::default());
        assert!(received.unwrap().is_some());
        assert_eq!(receiver.stash().capacity(), 0);
    }

    #[test]
    fn lent_memory_is_used() {
        let mut receiver = HeadReceiver::of_request();
        *receiver.stash_mut() = Stash::with_memory(Vec::with_capacity(4096).into());
        assert!(receiver.receive_request(b"GET", &HeadLimits::default()).unwrap().is_none());
        assert_eq!((receiver.stash().capacity(), receiver.stash().bytes()), (4096, &b"GET"[..]));
    }

    #[test]
    fn a_head_is_refused_at_its_limit_however_it_comes() {
        let limits = HeadLimits { head_bytes_max: 20, ..HeadLimits::default() };
        let wire = b"GET /chat HTTP/1.1\r\nHost: example.com";
        for step in [1, 7, wire.len()] {
            let mut receiver = HeadReceiver::of_request();
            let mut received = wire.chunks(step).map(|it| receiver.receive_request(it, &limits));
            let error = received.find_map(Result::err);
            assert!(matches!(error, Some(HeadFault::Refused(RequestError::Head(_)))), "{error:?}");
        }
    }

    #[test]
    fn a_refused_head_request_is_known_for_one_however_it_comes() {
        let limits = HeadLimits { head_bytes_max: 20, ..HeadLimits::default() };
        for (method, is_head) in [("HEAD", true), ("GET", false)] {
            let wire = format!("{method} / HTTP/1.1\r\nHost: example.com");
            for step in [7, wire.len()] {
                let mut receiver = HeadReceiver::of_request();
                let refused = wire
                    .as_bytes()
                    .chunks(step)
                    .find(|piece| receiver.receive_request(piece, &limits).is_err());
                assert_eq!(receiver.is_head_request(refused.unwrap()), is_head, "{method} {step}");
            }
        }
    }

    #[test]
    fn faults_show_their_text() {
        let refused = HeadFault::Refused(RequestError::EmptyTarget);
        assert_eq!(refused.to_string(), RequestError::EmptyTarget.to_string());
        assert_eq!(format!("{refused:?}"), format!("Refused({refused})"));
        let full = HeadFault::<RequestError>::OutOfMemory;
        assert_eq!(format!("{full:?}"), "OutOfMemory(out of memory for a head)");
    }

    #[test]
    fn a_cut_answer_is_known_as_far_as_it_came() {
        let limits = HeadLimits::default();
        let mut receiver = HeadReceiver::of_response();
        for piece in [&b"HTTP/1.1 503 Bu"[..], b"sy\r\nRetry-"] {
            assert_eq!(receiver.receive_response(&handshake(), piece, &limits), Ok(None));
        }
        let cut = receiver.cut_response(&handshake(), &limits).unwrap();
        assert_eq!(cut.response().unwrap().head().status().as_u16(), 503);
        let mut receiver = HeadReceiver::of_response();
        let refused = receiver.receive_response(&handshake(), b"SSH-2.0", &limits);
        let Err(HeadFault::Refused(ResponseError::InvalidMessage(message))) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(message.fault, MessageFault::NotHttp);
        assert_eq!(receiver.cut_response(&handshake(), &limits), None);
    }
}
