//! HTTP CONNECT (RFC 9110 §9.3.6), with Basic authentication (RFC 7617) when the proxy asks for it.
//!
//! The credentials go out behind a 407 only: a proxy that wants none does not get them.

use super::super::answer::{header, push_header, push_line};
use super::super::receiver::HeadFault;
use super::super::refusal::InvalidMessage;
use super::super::request::basic_authorization;
use super::super::response::FinalResponse;
use super::super::{
    HandshakeMisuse, HeadError, HeadLimits, HeadReceiver, MessageFault, ResponseHead,
};
use super::error::offered_schemes;
use super::{ProxyCredentials, ProxyProtocol, TunnelError, TunnelMisuse, TunnelStep};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, StatusCode};
use std::fmt;

/// The opening of a tunnel through an HTTP proxy.
pub(super) struct HttpConnect {
    authority: String,
    port: u16,
    headers: HeaderMap,
    /// The value of `Proxy-Authorization`, for a 407.
    basic: Option<String>,
    /// The 407 was there.
    is_challenged: bool,
    state: State,
    receiver: HeadReceiver<ResponseHead>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The request is to be sent; on a connection on which a 407 was received, or on a new one.
    Unsent { is_reused: bool },
    /// Nothing of the answer is there.
    Asked { is_reused: bool },
    /// The head of the answer has begun.
    Answering,
    /// So much of the body of the 407 is to be passed over.
    Skipping(usize),
}

impl HttpConnect {
    pub(super) fn new(authority: String, port: u16) -> Self {
        Self {
            authority,
            port,
            headers: HeaderMap::new(),
            basic: None,
            is_challenged: false,
            state: State::Unsent { is_reused: false },
            receiver: HeadReceiver::of_response(),
        }
    }

    pub(super) fn add_header(&mut self, name: &str, value: &[u8]) -> Result<(), TunnelMisuse> {
        let (parsed, value) = header(name, value)?;
        if RESERVED.contains(&parsed) {
            return Err(HandshakeMisuse::ReservedHeader { name: name.to_owned() }.into());
        }
        if parsed == PROXY_AUTHORIZATION && self.basic.is_some() {
            return Err(TunnelMisuse::TwoCredentials);
        }
        self.headers.append(parsed, value);
        Ok(())
    }

    pub(super) fn set_credentials(
        &mut self,
        credentials: &ProxyCredentials,
    ) -> Result<(), TunnelMisuse> {
        let ProxyCredentials { user, password } = credentials;
        if user.contains(':') {
            return Err(TunnelMisuse::ColonInUser);
        }
        if self.headers.contains_key(PROXY_AUTHORIZATION) {
            return Err(TunnelMisuse::TwoCredentials);
        }
        self.basic = Some(basic_authorization(user, password));
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self, out: &mut Vec<u8>) {
        let State::Unsent { is_reused } = self.state else { return };
        out.extend_from_slice(b"CONNECT ");
        out.extend_from_slice(self.authority.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        push_line(out, "Host", self.authority.as_bytes());
        if let Some(basic) = self.basic.as_ref().filter(|_| self.is_challenged) {
            push_line(out, "Proxy-Authorization", basic.as_bytes());
        }
        for (name, value) in &self.headers {
            push_header(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        self.state = State::Asked { is_reused };
    }

    pub(super) fn handle_input(&mut self, input: &[u8]) -> Result<Option<TunnelStep>, TunnelError> {
        if input.is_empty() {
            return Ok(None);
        }
        if let State::Skipping(left) = self.state {
            return Ok(self.skip(left, input.len()));
        }
        self.state = State::Answering;
        let limits = HeadLimits::default();
        let received =
            self.receiver.receive_final(input, &limits).map_err(|fault| match fault {
                HeadFault::OutOfMemory => TunnelError::OutOfMemory,
                HeadFault::Refused(message) => not_http(&message),
            })?;
        let Some((FinalResponse { head, head_end }, used)) = received else { return Ok(None) };
        let rest = input.len().saturating_sub(used);
        let status = head.status();
        if status.is_success() {
            // The lengths that a 2xx has mean nothing (RFC 9110 §9.3.6).
            return match head_end {
                None => {
                    let head_bytes_max = limits.head_bytes_max;
                    Err(HeadError::TooLarge { head_bytes_max }.into())
                }
                Some(_) if rest > 0 => Err(TunnelError::ExtraBytes),
                Some(_) => Ok(Some(TunnelStep::Open)),
            };
        }
        if status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(TunnelError::Refused { response: Box::new(head), port: self.port });
        }
        let has_basic = offered_schemes(&head).any(|it| it.eq_ignore_ascii_case("basic"));
        let is_answered = self.is_challenged || self.headers.contains_key(PROXY_AUTHORIZATION);
        if is_answered || self.basic.is_none() || !has_basic {
            let had_credentials = is_answered;
            return Err(TunnelError::Unauthorized { response: Box::new(head), had_credentials });
        }
        self.is_challenged = true;
        self.receiver = HeadReceiver::of_response();
        match skippable_body(&head).filter(|_| head_end.is_some()) {
            Some(length) => Ok(self.skip(length, rest)),
            None => Ok(Some(self.begin_again())),
        }
    }

    pub(super) fn handle_end(&mut self) -> Result<TunnelStep, TunnelError> {
        match self.state {
            State::Skipping(_)
            | State::Unsent { is_reused: true }
            | State::Asked { is_reused: true } => Ok(self.begin_again()),
            State::Answering => Err(TunnelError::Closed { in_answer: true }),
            State::Unsent { is_reused: false } | State::Asked { is_reused: false } => {
                Err(TunnelError::Closed { in_answer: false })
            }
        }
    }

    /// Passes over `arrived` of the `left` bytes of a body, and asks again behind it.
    fn skip(&mut self, left: usize, arrived: usize) -> Option<TunnelStep> {
        match left.checked_sub(arrived) {
            // There is more than the body; which answer that begins is not known.
            None => return Some(self.begin_again()),
            Some(0) => self.state = State::Unsent { is_reused: true },
            Some(left) => self.state = State::Skipping(left),
        }
        None
    }

    fn begin_again(&mut self) -> TunnelStep {
        self.state = State::Unsent { is_reused: false };
        TunnelStep::Reconnect
    }
}

/// Names of headers only: values may be credentials, and debug output ends in logs.
impl fmt::Debug for HttpConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnect")
            .field("authority", &self.authority)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The length of the body of a 407, if another request can follow it on the connection.
fn skippable_body(head: &ResponseHead) -> Option<usize> {
    let lists = |name: &str, token: &str| head.head().lists(name, token);
    if head.version() != "HTTP/1.1"
        || lists("connection", "close")
        || lists("proxy-connection", "close")
        || head.header("transfer-encoding").is_some()
    {
        return None;
    }
    let length = str::from_utf8(head.head().only_value("content-length")?).ok()?;
    let is_number = length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.parse().ok().filter(|_| is_number)?;
    (length <= BODY_SKIPPED_BYTES_MAX).then_some(length)
}

/// Why an answer that is no HTTP response is none.
fn not_http(message: &InvalidMessage) -> TunnelError {
    let spoken = ProxyProtocol::Http;
    match message.fault {
        MessageFault::Tls | MessageFault::NotHttp => TunnelError::WrongProtocol {
            spoken,
            // HTTP is spoken, and a page alone is none.
            looks_like: message
                .head
                .first()
                .and_then(|&first| ProxyProtocol::of_answer(first))
                .filter(|it| *it != ProxyProtocol::Http),
        },
        MessageFault::Head(fault) => fault.into(),
        MessageFault::MalformedStatusLine => TunnelError::Malformed("malformed HTTP status line"),
        MessageFault::UnsupportedVersion => TunnelError::Malformed("unsupported HTTP version"),
        MessageFault::TooManyInterim { .. } => TunnelError::Malformed("too many interim responses"),
    }
}

/// Headers that the request has already, or that would announce a body.
const RESERVED: [HeaderName; 5] = [HOST, CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Longest body of a 407 that is passed over for the connection's sake: a page of text.
const BODY_SKIPPED_BYTES_MAX: usize = 64 * 1024;
