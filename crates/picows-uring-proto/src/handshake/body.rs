//! The start of the body of a refusal: how much of it is worth waiting for, and chunks taken apart.
//!
//! Nothing is read on the connection behind it, so what is malformed is shown as it came.

use http::StatusCode;

use super::ResponseHead;
use super::head::list_elements;

/// How much of the body of a refused answer is kept: enough for an error page's text.
pub const REJECTED_BODY_BYTES_MAX: usize = 4 * 1024;

/// The first part of a body, as far as it has arrived.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Body {
    framing: Framing,
    /// Received bytes, at most `REJECTED_BODY_BYTES_MAX`; without its chunks' framing in `content`.
    raw: Vec<u8>,
    content: Option<Vec<u8>>,
    is_complete: bool,
}

/// The framing of a body, by which its end is known (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// There is none: what follows is something else.
    None,
    Chunked,
    /// By its length; without one, by the end of the connection.
    Length(usize),
}

impl Body {
    /// The body of an answer whose head is complete; `arrived` is what followed it so far.
    pub(super) fn after(head: &ResponseHead, arrived: &[u8]) -> Self {
        let framing = Framing::of(head);
        let mut body = Self { framing, raw: Vec::new(), content: None, is_complete: false };
        match framing {
            // It may say more about what this is.
            Framing::None => body.raw.extend_from_slice(capped(arrived)),
            Framing::Chunked | Framing::Length(_) => body.extend(arrived),
        }
        body
    }

    /// That of an answer whose head did not end.
    pub(super) const fn none() -> Self {
        Self { framing: Framing::None, raw: Vec::new(), content: None, is_complete: true }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.content.as_deref().unwrap_or(&self.raw)
    }

    /// How many more bytes there may be and are worth waiting for.
    pub(super) fn missing(&self) -> usize {
        let length = match self.framing {
            Framing::None => 0,
            Framing::Chunked if self.is_complete => 0,
            Framing::Chunked => REJECTED_BODY_BYTES_MAX,
            Framing::Length(length) => length.min(REJECTED_BODY_BYTES_MAX),
        };
        length.saturating_sub(self.raw.len())
    }

    pub(super) fn extend(&mut self, more: &[u8]) {
        let wanted = self.missing().min(more.len());
        self.raw.extend_from_slice(&more[..wanted]);
        if self.framing == Framing::Chunked {
            (self.content, self.is_complete) = match dechunk(&self.raw) {
                Ok((content, is_complete)) => (Some(content), is_complete),
                Err(NotChunked) => (None, false),
            };
        }
    }
}

impl Framing {
    fn of(head: &ResponseHead) -> Self {
        let status = head.status();
        if status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return Self::None;
        }
        let codings = head.header_values("transfer-encoding").flat_map(list_elements);
        match codings.last() {
            Some(last) if last.eq_ignore_ascii_case(b"chunked") => return Self::Chunked,
            Some(_) => return Self::Length(usize::MAX),
            None => {}
        }
        let announced = head.header_str("content-length").and_then(|text| text.parse().ok());
        Self::Length(announced.unwrap_or(usize::MAX))
    }
}

/// The error of a body that was announced as chunked and does not begin with a chunk.
struct NotChunked;

/// Takes chunks apart (RFC 9112 §7.1): what they hold, and whether the last one is there. Anything
/// that is none ends it.
fn dechunk(raw: &[u8]) -> Result<(Vec<u8>, bool), NotChunked> {
    let (mut content, mut rest) = (Vec::new(), raw);
    while let Some(line_end) = rest.iter().position(|&byte| byte == b'\n') {
        let size = rest[..line_end].split(|&byte| byte == b';').next().unwrap_or_default();
        let size = str::from_utf8(size.trim_ascii()).ok();
        let size = size.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(size) = size else {
            return if content.is_empty() { Err(NotChunked) } else { Ok((content, true)) };
        };
        if size == 0 {
            return Ok((content, true));
        }
        let data = &rest[line_end + 1..];
        content.extend_from_slice(&data[..size.min(data.len())]);
        rest = data.get(size..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    let is_size = rest.first().is_none_or(u8::is_ascii_hexdigit);
    if content.is_empty() && !is_size { Err(NotChunked) } else { Ok((content, false)) }
}

fn capped(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(REJECTED_BODY_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_taken_apart_wherever_they_are_cut_rfc9112_7_1() {
        let raw = b"5\r\nslow \r\n5;name=value\r\ndown.\r\n0\r\nTrailer: x\r\n\r\n";
        let end = raw.len() - b"Trailer: x\r\n\r\n".len();
        for cut in 0..=raw.len() {
            let (content, is_complete) = dechunk(&raw[..cut]).unwrap_or_else(|_| panic!("{cut}"));
            assert!(b"slow down.".starts_with(&content[..]), "{cut}");
            assert_eq!(is_complete, cut >= end, "{cut}");
            assert!(!is_complete || content == b"slow down.", "{cut}");
        }
        assert_eq!(dechunk(b"3\nbad0\n").unwrap_or_default(), (b"bad".to_vec(), true));
    }

    #[test]
    fn what_is_not_chunked_is_shown_as_it_is() {
        assert!(dechunk(b"<html>\r\n").is_err());
        assert!(dechunk(b"-1\r\n").is_err());
        assert!(dechunk(b"ffffffffffffffffff\r\nx").is_err());
        // A chunk that is longer than what there is, as far as numbers go.
        assert_eq!(dechunk(b"ffffffffffffffff\r\nx").unwrap_or_default(), (b"x".to_vec(), false));
        assert_eq!(dechunk(b"1\r\nx\r\nnonsense\r\n").unwrap_or_default(), (b"x".to_vec(), true));
    }
}
