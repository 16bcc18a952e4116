//! Common part of request and response heads: the bytes as received, and where each header lies
//! in them.
//!
//! Knows nothing of request lines, status lines or what any header means.

use crate::debug_with_text;
use std::fmt;
use std::ops::Range;

/// A complete head, owned by two allocations whatever the number of headers.
///
/// Invariant: every field lies inside `raw`, its name is a token, its value has no control byte
/// but tab.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Head {
    raw: Box<[u8]>,
    fields: Box<[Field]>,
}

/// The place of one header in the head.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Field {
    name_start: u16,
    name_end: u16,
    value_start: u16,
    value_end: u16,
}

/// A fault of a head, of either side.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The head does not end within [`HeadLimits::head_bytes_max`](crate::HeadLimits).
    #[error("HTTP head is longer than {head_bytes_max} bytes")]
    TooLarge {
        /// The limit that was passed.
        head_bytes_max: usize,
    },
    /// There are more headers than [`HeadLimits::headers_max`](crate::HeadLimits).
    #[error("HTTP head has more than {headers_max} headers")]
    TooManyHeaders {
        /// The limit that was passed.
        headers_max: usize,
    },
    /// A line ends with LF alone.
    #[error("HTTP head has a line feed without its carriage return: lines end with CRLF")]
    BareLineFeed,
    /// A line starts with white space: a continuation of the one before, which RFC 9112 §5.2
    /// forbids.
    #[error("obsolete folded HTTP header")]
    FoldedHeader,
    /// A line has no colon.
    #[error("malformed HTTP header: no colon")]
    MissingColon,
    /// A name is empty, or has a byte that is none of a token (RFC 9110 §5.6.2), such as a space
    /// before the colon.
    #[error("invalid HTTP header name")]
    InvalidHeaderName,
    /// A value has a control byte other than tab.
    #[error("invalid HTTP header value: it has a control character")]
    InvalidHeaderValue,
}

debug_with_text! { HeadError: TooLarge, TooManyHeaders, BareLineFeed, FoldedHeader, MissingColon, InvalidHeaderName, InvalidHeaderValue }

impl Head {
    /// Parses the headers of `raw`, a head that [`HeadScanner`](super::HeadScanner) found: it ends
    /// with its first empty line, and every LF in it follows a CR.
    pub(super) fn parse(raw: &[u8], headers_max: usize) -> Result<Self, HeadError> {
        let block_start = first_line(raw).len() + 2;
        let block = raw.get(block_start..).unwrap_or_default();
        let line_count = block.iter().filter(|&&byte| byte == b'\n').count().saturating_sub(1);
        if line_count > headers_max {
            return Err(HeadError::TooManyHeaders { headers_max });
        }
        let mut found = vec![httparse::EMPTY_HEADER; line_count];
        let Ok(httparse::Status::Complete((_, headers))) =
            httparse::parse_headers(block, &mut found)
        else {
            // A fault that only the fast parser sees cannot be; a test compares the two.
            return Err(first_fault(block).unwrap_or(HeadError::InvalidHeaderName));
        };
        let fields = headers.iter().map(|header| Field::locate(raw, header)).collect();
        Ok(Self { raw: raw.into(), fields })
    }

    /// Takes from `raw`, all there is of a head, every header that can be read, up to
    /// `headers_max`: lines may end with LF alone, and what is no header is passed over. The last
    /// line is too, unless it is ended: it may be cut off.
    pub(super) fn parse_leniently(raw: &[u8], headers_max: usize) -> Self {
        let mut fields = Vec::new();
        let mut start = 0;
        for line in raw.split_inclusive(|&byte| byte == b'\n') {
            let is_header = start > 0 && line.ends_with(b"\n") && fields.len() < headers_max;
            fields.extend(is_header.then(|| Field::in_line(start, line)).flatten());
            start += line.len();
        }
        Self { raw: raw.into(), fields: fields.into() }
    }

    /// The ASCII text at `range`; empty when there is none.
    /// All of it, as it was received.
    pub(super) const fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(super) fn text(&self, range: Range<u16>) -> &str {
        str::from_utf8(self.bytes(range)).unwrap_or_default()
    }

    /// The bytes at `range`; empty when it is not inside the head.
    pub(super) fn bytes(&self, range: Range<u16>) -> &[u8] {
        self.raw.get(usize::from(range.start)..usize::from(range.end)).unwrap_or_default()
    }

    /// Names and values in the order received.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            let name = self.text(field.name_start..field.name_end);
            (name, self.bytes(field.value_start..field.value_end))
        })
    }

    /// The values of every header called `name`, in any case.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers().filter(move |(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the first header called `name`.
    pub(super) fn value(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the only header called `name`; `None` when there is none or more than one.
    pub(super) fn only_value<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Whether the list that all headers called `name` make up has `token` in it, in any case.
    pub(super) fn lists(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(list_elements)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Names only: values may be credentials, and debug output ends in logs.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers().map(|(name, _)| name)).finish()
    }
}

impl Field {
    /// Finds name and value in `line`, which starts at `line_start`; `None` when it is no header.
    fn in_line(line_start: usize, line: &[u8]) -> Option<Self> {
        let colon = line.iter().position(|&byte| byte == b':')?;
        // RFC 9112 §5.1 forbids white space before the colon, and has proxies remove it.
        let name = line[..colon].trim_ascii_end();
        let value = line[colon + 1..].trim_ascii();
        if !is_token(name) || !value.iter().copied().all(is_value_byte) {
            return None;
        }
        Some(Self::new(line_start, name.len(), line_start + offset_in(line, value), value.len()))
    }

    /// Turns slices of `raw` into offsets.
    fn locate(raw: &[u8], header: &httparse::Header<'_>) -> Self {
        let name_start = offset_in(raw, header.name.as_bytes());
        let value_start = offset_in(raw, header.value);
        Self::new(name_start, header.name.len(), value_start, header.value.len())
    }

    /// An empty value lies nowhere: not even inside the head, as far as `httparse` knows. It is put
    /// behind the name, so that equal heads are equal.
    fn new(name_start: usize, name_len: usize, value_start: usize, value_len: usize) -> Self {
        let name_end = name_start + name_len;
        let value_start = if value_len == 0 { name_end } else { value_start };
        Self {
            name_start: narrow(name_start),
            name_end: narrow(name_end),
            value_start: narrow(value_start),
            value_end: narrow(value_start + value_len),
        }
    }
}

/// The first line of a head, without its line end.
pub(super) fn first_line(raw: &[u8]) -> &[u8] {
    let end = raw.windows(2).position(|pair| pair == b"\r\n");
    &raw[..end.unwrap_or(raw.len())]
}

/// The elements of a comma-separated list (RFC 9110 §5.6.1); empty ones are skipped, as it asks.
pub(super) fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// The names in a `Sec-WebSocket-Extensions` value (RFC 6455 §9.1), or `None` when it is
/// malformed. A comma inside a quoted parameter ends nothing; empty elements are skipped.
pub(super) fn extension_names(value: &[u8]) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in value.iter().copied().chain([b',']).enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if at == value.len() || !quoted => {
                let element = value[start..at].trim_ascii();
                if !element.is_empty() {
                    names.push(extension_name(element)?);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    (!quoted).then_some(names)
}

/// The name of one extension, which its parameters follow after a semicolon.
fn extension_name(element: &[u8]) -> Option<&str> {
    let name = element.split(|&byte| byte == b';').next()?.trim_ascii();
    if is_token(name) { str::from_utf8(name).ok() } else { None }
}

/// Whether `bytes` is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `byte` may stand in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `byte` may stand in a header value or a reason phrase: tab, what is visible, and
/// anything from 0x80 up, which RFC 9110 §5.5 has us carry without understanding it.
pub(super) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Names the fault of the first bad line of a header block.
///
/// The slow and obvious judge of what `httparse` has already refused, which does not say enough.
fn first_fault(block: &[u8]) -> Option<HeadError> {
    let lines = block.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r"));
    lines.map_while(|line| line.filter(|line| !line.is_empty())).find_map(line_fault)
}

fn line_fault(line: &[u8]) -> Option<HeadError> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Some(HeadError::FoldedHeader);
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Some(HeadError::MissingColon);
    };
    if !is_token(&line[..colon]) {
        return Some(HeadError::InvalidHeaderName);
    }
    if !line[colon + 1..].iter().copied().all(is_value_byte) {
        return Some(HeadError::InvalidHeaderValue);
    }
    None
}

/// How far `part`, a slice of `whole`, is from its start.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

/// Never saturates: a head is at most `HEAD_BYTES_CEILING` long.
pub(super) fn narrow(offset: usize) -> u16 {
    u16::try_from(offset).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(value: &[u8]) -> Option<Vec<&str>> {
        extension_names(value)
    }

    #[test]
    fn extension_names_respect_quotes() {
        assert_eq!(names(b"a"), Some(vec!["a"]));
        assert_eq!(names(b"a; x=1 , b;y=\"1,c\\\",d\";z,e"), Some(vec!["a", "b", "e"]));
        assert_eq!(names(b" ,a,, b,"), Some(vec!["a", "b"]));
        assert_eq!(names(b""), Some(vec![]));
        assert_eq!(names(b"a; x=\"open, b"), None);
        assert_eq!(names(b"a; x=\"open\\\""), None);
    }

    #[test]
    fn an_extension_without_a_token_for_a_name_is_malformed() {
        for value in [&b"; x=1"[..], b"a b", b"\"a\"", b"a,;", b"\xe4"] {
            assert_eq!(names(value), None, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn a_list_skips_empty_elements_and_white_space() {
        let elements: Vec<_> = list_elements(b" , a,\tb ,,c d ,").collect();
        assert_eq!(elements, [&b"a"[..], b"b", b"c d"]);
    }

    #[test]
    fn debug_output_shows_no_values() {
        let head = Head::parse(b"X\r\nCookie: secret\r\n\r\n", 9).unwrap();
        assert_eq!(format!("{head:?}"), r#"["Cookie"]"#);
    }

    /// A block that looks like headers often enough to be worth judging.
    fn block() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            8 => proptest::sample::select(b"aZ9-:: \t\"(,;=".to_vec()),
            2 => any::<u8>().prop_filter("no line feed", |&byte| byte != b'\n'),
        ];
        let line = proptest::collection::vec(byte, 1..12);
        proptest::collection::vec(line, 0..4).prop_map(|lines| {
            let mut block = Vec::new();
            for line in lines {
                block.extend_from_slice(&line);
                block.extend_from_slice(b"\r\n");
            }
            block.extend_from_slice(b"\r\n");
            block
        })
    }

    proptest! {
        #[test]
        fn the_slow_judge_and_the_fast_parser_agree(block in block()) {
            let raw = [b"X\r\n", &block[..]].concat();
            let fast = Head::parse(&raw, usize::MAX);
            if let Ok(head) = &fast {
                prop_assert!(*head == Head::parse_leniently(&raw, usize::MAX));
            }
            prop_assert_eq!(fast.err(), first_fault(&block));
        }

        #[test]
        fn values_are_trimmed_and_found_where_they_are(
            name in "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,9}",
            value in proptest::collection::vec(prop_oneof![0x21_u8..0x7f, 0x80_u8..], 0..9),
            before in "[ \t]{0,3}",
            after in "[ \t]{0,3}",
        ) {
            let mut raw = format!("X\r\nfirst:1\r\n{name}:{before}").into_bytes();
            raw.extend_from_slice(&value);
            raw.extend_from_slice(after.as_bytes());
            raw.extend_from_slice(b"\r\n\r\n");
            let head = Head::parse(&raw, 2).unwrap();
            let all: Vec<_> = head.headers().collect();
            prop_assert_eq!(all, [("first", &b"1"[..]), (&name, &value)]);
        }
    }
}
