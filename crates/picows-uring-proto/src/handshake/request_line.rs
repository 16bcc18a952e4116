//! The first line of a request: method, target, version (RFC 9112 §3), and what may stand before it.
//!
//! Knows nothing of headers, and only the methods that have no body and the versions that we speak.

use super::RequestError;
use super::head::{is_token_byte, narrow};
use super::host::is_valid_host;

/// A request line that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) version: Version,
}

/// The methods that are served: those that ask for something that is there and bring nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    /// GET without the body of its answer (RFC 9110 §9.3.2).
    Head,
}

/// The versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
}

/// The place of the target in the head: `start <= path_start <= path_end <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) start: u16,
    /// Where the authority of an absolute target starts; `path_start` if there is none.
    pub(super) authority_start: u16,
    pub(super) path_start: u16,
    /// Where the query starts, its question mark included, if there is one.
    pub(super) path_end: u16,
    pub(super) end: u16,
}

impl Method {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }

    /// The method whose name is all of `name`, compared by case (RFC 9110 §9.1).
    fn named(name: &[u8]) -> Option<Self> {
        [Self::Get, Self::Head].into_iter().find(|method| method.as_str().as_bytes() == name)
    }
}

/// The length of what comes before the request line: one empty line, which RFC 9112 §2.2 asks a
/// server to pass over, or nothing. `None` until that is sure.
pub(super) fn empty_line(input: &[u8]) -> Option<usize> {
    match input {
        [] | [b'\r'] => None,
        [b'\r', b'\n', ..] => Some(2),
        _ => Some(0),
    }
}

/// Whether the request that `input` starts with is a HEAD, good or bad: its answer has no body
/// (RFC 9110 §9.3.2), a refusal neither.
///
/// ```
/// assert!(picows_uring_proto::is_head_request(b"HEAD /x y"));
/// assert!(!picows_uring_proto::is_head_request(b"GET / HTTP/1.1"));
/// ```
#[must_use]
pub fn is_head_request(input: &[u8]) -> bool {
    empty_line(input).is_some_and(|start| input[start..].starts_with(b"HEAD "))
}

/// Refuses what can never become a request that is served, as soon as that is sure.
///
/// The answer depends on the bytes alone and not on how they were split, so a method is only
/// judged when it has ended.
pub(super) fn refuse_early(input: &[u8]) -> Result<(), RequestError> {
    if input.first() == Some(&TLS_HANDSHAKE) {
        return Err(RequestError::TlsClientHello);
    }
    let window = &input[..input.len().min(METHOD_BYTES_MAX + 1)];
    let Some(length) = window.iter().position(|&byte| !is_token_byte(byte)) else {
        let undecided = input.len() <= METHOD_BYTES_MAX;
        return if undecided { Ok(()) } else { Err(RequestError::MethodTooLong) };
    };
    let (method, rest) = input.split_at(length);
    if length == 0 || !rest.starts_with(b" ") {
        return Err(RequestError::MalformedRequestLine);
    }
    match Method::named(method) {
        Some(_) => Ok(()),
        None => Err(RequestError::UnsupportedMethod {
            method: String::from_utf8_lossy(method).into_owned(),
        }),
    }
}

/// Takes a request line apart: a method, a target and a version with one space between them.
pub(super) fn parse_request_line(line: &[u8]) -> Result<RequestLine, RequestError> {
    let malformed = RequestError::MalformedRequestLine;
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed);
    };
    let method_name = method;
    let method = Method::named(method).ok_or(malformed)?;
    let version = parse_version(version)?;
    if target.is_empty() {
        return Err(RequestError::EmptyTarget);
    }
    let [authority_start, path_start, path_end] =
        split_target(target).ok_or(RequestError::InvalidTarget)?;
    let in_head = |offset| narrow(method_name.len() + 1 + offset);
    let target = Target {
        start: in_head(0),
        authority_start: in_head(authority_start),
        path_start: in_head(path_start),
        path_end: in_head(path_end),
        end: in_head(target.len()),
    };
    Ok(RequestLine { method, target, version })
}

/// `HTTP/2` has no minor version in its name, and is one that we do not speak, too.
fn parse_version(version: &[u8]) -> Result<Version, RequestError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, minor @ ..]
            if major.is_ascii_digit()
                && matches!(minor, [] | [b'.', _])
                && minor.iter().skip(1).all(u8::is_ascii_digit) =>
        {
            Err(RequestError::UnsupportedVersion)
        }
        _ => Err(RequestError::MalformedRequestLine),
    }
}

/// Where the authority and the path of a target start, and where the path ends.
///
/// GET and HEAD have a path or an absolute URL (RFC 9112 §3.2, RFC 6455 §4.2.1, item 1); the forms
/// of CONNECT and OPTIONS are for those. A fragment may be in neither (RFC 6455 §3), and what is
/// not visible ASCII would have had to be percent-encoded.
fn split_target(target: &[u8]) -> Option<[usize; 3]> {
    if !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return None;
    }
    let [authority_start, path_start] =
        if target.starts_with(b"/") { [0, 0] } else { authority(target)? };
    let query = target[path_start..].iter().position(|&byte| byte == b'?');
    Some([authority_start, path_start, query.map_or(target.len(), |query| path_start + query)])
}

/// Where the authority of an absolute URL starts and ends (RFC 9112 §3.2.2). User information is an
/// error in it, and an empty host is one (RFC 9110 §4.2.1, §4.2.4).
fn authority(target: &[u8]) -> Option<[usize; 2]> {
    let has_scheme = |scheme: &&&[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let schemes: [&[u8]; 4] = [b"http://", b"https://", b"ws://", b"wss://"];
    let start = schemes.iter().find(has_scheme)?.len();
    let rest = &target[start..];
    let length = rest.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(rest.len());
    let authority = &rest[..length];
    let has_host = !authority.is_empty() && !authority.starts_with(b":");
    (has_host && is_valid_host(authority)).then_some([start, start + length])
}

/// Longest registered method is `UPDATEREDIRECTREF` (RFC 4437 §6). A longer one is answered with
/// 501, as RFC 9112 §3 asks for one that is longer than any that is implemented.
const METHOD_BYTES_MAX: usize = 17;

/// First byte of a TLS record that carries a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;
