//! The first line of an answer: as strict as RFC 9112 §4 for the 101, and for any other answer no
//! more than what it takes to know the status.

use http::StatusCode;

use super::MessageFault;
use super::head::{is_value_byte, narrow};

/// The first line of an answer, as far as it is known once its status is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusLine {
    pub(super) status: StatusCode,
    /// Where the version ends, which the line begins with.
    pub(super) version_end: u16,
    /// Where the status ends, and a reason may begin.
    pub(super) status_end: u16,
}

/// An answer of which no status can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoStatus;

impl StatusLine {
    /// Reads the start of a line: a version of HTTP, white space, three digits, and the byte that
    /// ends them. `None` until all of it is there; the rest of the line says nothing.
    pub(super) fn read(input: &[u8]) -> Result<Option<Self>, NoStatus> {
        let is_version_byte = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
        let Some(after_name) = input.get(NAME.len()..) else { return Ok(None) };
        let version = after_name.iter().take_while(|byte| is_version_byte(byte)).count();
        let after_version = &after_name[version..];
        if version > VERSION_BYTES_MAX || (version == 0 && !after_version.is_empty()) {
            return Err(NoStatus);
        }
        let spaces = after_version.iter().take_while(|byte| is_blank(**byte)).count();
        let code = &after_version[spaces..];
        if spaces > BLANKS_MAX || (spaces == 0 && !code.is_empty()) {
            return Err(NoStatus);
        }
        let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(end) = code.get(digits) else {
            return if digits > CODE_BYTES { Err(NoStatus) } else { Ok(None) };
        };
        if digits != CODE_BYTES || !(is_blank(*end) || matches!(end, b'\r' | b'\n')) {
            return Err(NoStatus);
        }
        let status = StatusCode::from_bytes(&code[..digits]).map_err(|_| NoStatus)?;
        let version_end = NAME.len() + version;
        let status_end = version_end + spaces + digits;
        Ok(Some(Self { status, version_end: narrow(version_end), status_end: narrow(status_end) }))
    }
}

/// Checks the whole line of a 101. The reason may be anything a header value may be, or nothing;
/// the space before it may be missing, as it is from servers that have no reason to give.
pub(super) fn check_strictly(line: &[u8]) -> Result<(), MessageFault> {
    let after_version = line.strip_prefix(b"HTTP/1.1").ok_or(MessageFault::UnsupportedVersion)?;
    let [b' ', _, _, _, rest @ ..] = after_version else {
        return Err(MessageFault::MalformedStatusLine);
    };
    let is_reason = rest.is_empty() || rest.starts_with(b" ");
    if is_reason && rest.iter().copied().all(is_value_byte) {
        Ok(())
    } else {
        Err(MessageFault::MalformedStatusLine)
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What every version begins with.
pub(super) const NAME: &[u8] = b"HTTP/";

/// Longest version: `1.1`, and room for odd ones.
const VERSION_BYTES_MAX: usize = 7;

/// Longest white space in front of the status: one, and room for odd servers.
const BLANKS_MAX: usize = 8;

/// Digits of a status (RFC 9110 §15).
const CODE_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_known_with_the_byte_behind_it() {
        for (line, status) in [
            ("HTTP/1.1 101 Switching Protocols\r\n", 101),
            ("HTTP/1.0 503 Service Unavailable\r\n", 503),
            ("HTTP/1.1 429\r\n", 429),
            ("HTTP/1.1 429\n", 429),
            ("HTTP/2 502 \r\n", 502),
            ("HTTP/1.1 \t 404\tNot Found\r\n", 404),
            ("HTTP/3.14159 999 X", 999),
        ] {
            let whole = StatusLine::read(line.as_bytes()).unwrap().unwrap();
            assert_eq!(whole.status.as_u16(), status, "{line:?}");
            let known = usize::from(whole.status_end) + 1;
            for cut in 0..line.len() {
                let wanted = (cut >= known).then_some(whole);
                assert_eq!(StatusLine::read(&line.as_bytes()[..cut]), Ok(wanted), "{line:?} {cut}");
            }
        }
    }

    #[test]
    fn a_line_without_a_status_is_refused() {
        for line in [
            "HTTP/1.1\r\n",
            "HTTP/1.1          ",
            "HTTP/ 200 OK",
            "HTTP/x",
            "HTTP/1.1 abc",
            "HTTP/1.1 10 X",
            "HTTP/1.1 1010",
            "HTTP/1.1 099 X",
            "HTTP/1.1 000 X",
            "HTTP/1.1 20x",
            "HTTP/1.1 200x",
            "HTTP/1.1 -99 X",
            "HTTP/11111111",
        ] {
            assert_eq!(StatusLine::read(line.as_bytes()), Err(NoStatus), "{line:?}");
        }
    }
}
