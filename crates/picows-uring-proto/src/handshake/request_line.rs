//! The first line of a request: method, target, version (RFC 9112 §3).
//!
//! Knows nothing of headers, and only the methods and versions that a WebSocket may start with.

use super::RequestError;
use super::head::narrow;

/// Where the target lies in the head: `start <= path_start <= path_end <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) start: u16,
    pub(super) path_start: u16,
    /// Where the query starts, its question mark included, if there is one.
    pub(super) path_end: u16,
    pub(super) end: u16,
}

/// Refuses what can never become a GET request, as soon as that is sure.
///
/// The answer depends on the bytes alone and not on how they were split, so a method is only
/// judged when it has ended. Methods are compared by case (RFC 9110 §9.1).
pub(super) fn refuse_early(input: &[u8]) -> Result<(), RequestError> {
    if input.first() == Some(&TLS_HANDSHAKE) {
        return Err(RequestError::TlsClientHello);
    }
    let is_method_byte = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    let Some(method_length) = input.iter().position(|byte| !is_method_byte(byte)) else {
        let undecided = input.len() <= METHOD_BYTES_MAX;
        return if undecided { Ok(()) } else { Err(RequestError::MalformedRequestLine) };
    };
    if input.starts_with(METHOD_AND_SPACE) {
        return Ok(());
    }
    let (method, rest) = input.split_at(method_length);
    if matches!(method_length, 1..=METHOD_BYTES_MAX) && rest.starts_with(b" ") {
        let method = String::from_utf8_lossy(method).into_owned();
        return Err(RequestError::UnsupportedMethod { method });
    }
    Err(RequestError::MalformedRequestLine)
}

/// Takes a request line apart: a method, a target and a version with one space between them.
pub(super) fn parse_request_line(line: &[u8]) -> Result<Target, RequestError> {
    let after_method =
        line.strip_prefix(METHOD_AND_SPACE).ok_or(RequestError::MalformedRequestLine)?;
    let space = after_method.iter().position(|&byte| byte == b' ');
    let (target, version) = after_method.split_at(space.ok_or(RequestError::MalformedRequestLine)?);
    match &version[1..] {
        b"HTTP/1.1" => {}
        other if other.starts_with(b"HTTP/") && !other.contains(&b' ') => {
            return Err(RequestError::UnsupportedVersion);
        }
        _ => return Err(RequestError::MalformedRequestLine),
    }
    if target.is_empty() {
        return Err(RequestError::EmptyTarget);
    }
    let (path_start, path_end) = split_target(target).ok_or(RequestError::InvalidTarget)?;
    let in_head = |offset| narrow(METHOD_AND_SPACE.len() + offset);
    Ok(Target {
        start: in_head(0),
        path_start: in_head(path_start),
        path_end: in_head(path_end),
        end: in_head(target.len()),
    })
}

/// Where the path of a target starts and ends.
///
/// RFC 6455 §4.2.1, item 1, allows a path or an absolute URL. A fragment may be in neither
/// (RFC 6455 §3), and what is not visible ASCII would have had to be percent-encoded.
fn split_target(target: &[u8]) -> Option<(usize, usize)> {
    if !target.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
        return None;
    }
    let path_start = if target.starts_with(b"/") { 0 } else { authority_end(target)? };
    let query = target[path_start..].iter().position(|&byte| byte == b'?');
    Some((path_start, query.map_or(target.len(), |query| path_start + query)))
}

/// Where the authority of an absolute URL ends (RFC 9112 §3.2.2).
fn authority_end(target: &[u8]) -> Option<usize> {
    let has_scheme = |scheme: &&&[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let schemes: [&[u8]; 4] = [b"http://", b"https://", b"ws://", b"wss://"];
    let authority_start = schemes.iter().find(has_scheme)?.len();
    let authority = &target[authority_start..];
    let length = authority.iter().position(|&byte| byte == b'/' || byte == b'?');
    let length = length.unwrap_or(authority.len());
    (length > 0).then_some(authority_start + length)
}

/// What every request we take starts with.
const METHOD_AND_SPACE: &[u8] = b"GET ";

/// Longest registered method is `UPDATEREDIRECTREF` (RFC 4437 §6). More letters than that and no
/// space is no HTTP.
const METHOD_BYTES_MAX: usize = 17;

/// First byte of a TLS record that carries a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;
