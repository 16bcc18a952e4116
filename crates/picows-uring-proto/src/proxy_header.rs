//! The PROXY protocol, versions 1 and 2: the address of a client, from the proxy in front.
//!
//! Bytes in, addresses out; which peers may send it is decided by the runtime.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::debug_with_text;

/// What a proxy says about a connection, in front of its first bytes.
///
/// ```
/// use picows_uring_proto::ProxyHeader;
///
/// let wire = b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\nGET / HTTP/1.1\r\n";
/// let (header, used) = ProxyHeader::parse(wire)?.expect("it is complete");
/// assert_eq!(header.source, Some("192.0.2.7:51000".parse()?));
/// assert_eq!(wire[used..], *b"GET / HTTP/1.1\r\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyHeader {
    /// The client; `None` for a connection of the proxy's own (LOCAL, as for its health checks), and
    /// for one whose address it does not know (UNKNOWN) or that is none of IP.
    pub source: Option<SocketAddr>,
    /// The address that the client has connected to; `None` as above.
    pub destination: Option<SocketAddr>,
}

/// The reason why bytes are no header of the PROXY protocol.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// The connection begins with something else.
    #[error("no header of the PROXY protocol: is the proxy set up to send one?")]
    Missing,
    /// A header of version 1 that is none.
    #[error("malformed header of the PROXY protocol, version 1")]
    Malformed,
    /// A header of version 1 is longer than 107 bytes, or one of version 2 than is taken.
    #[error("the header of the PROXY protocol is too long")]
    TooLong,
    /// A header of version 2 names a version, command, family or transport that there is not, or is
    /// none of a stream.
    #[error("unknown version, command or family in a header of the PROXY protocol")]
    Unknown,
    /// A header of version 2 is too short for its addresses.
    #[error("the header of the PROXY protocol is too short for its addresses")]
    TooShort,
}

debug_with_text! { ProxyHeaderError: Missing, Malformed, TooLong, Unknown, TooShort }

impl ProxyHeader {
    /// A header without addresses.
    const NO_ADDRESS: Self = Self { source: None, destination: None };

    /// Returns the header that `input` starts with and its length in bytes, or `None` until more
    /// bytes arrive. What follows is the client's.
    ///
    /// Extensions of version 2 (TLV) are passed over.
    ///
    /// # Errors
    ///
    /// As soon as it is known that `input` is none.
    pub fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, ProxyHeaderError> {
        if is_start(input, V2_SIGNATURE) {
            parse_v2(input)
        } else if is_start(input, V1_PREFIX) {
            parse_v1(input)
        } else {
            Err(ProxyHeaderError::Missing)
        }
    }
}

/// Whether `input` starts with `prefix`, as far as it goes.
fn is_start(input: &[u8], prefix: &[u8]) -> bool {
    let len = input.len().min(prefix.len());
    input[..len] == prefix[..len]
}

/// `PROXY TCP4 source destination port port\r\n`.
fn parse_v1(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let window = &input[..input.len().min(V1_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        let is_too_long = input.len() >= V1_BYTES_MAX;
        return if is_too_long { Err(ProxyHeaderError::TooLong) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyHeaderError::Malformed)?;
    let line = line.strip_prefix(V1_PREFIX).ok_or(ProxyHeaderError::Malformed)?;
    let line = str::from_utf8(line).map_err(|_| ProxyHeaderError::Malformed)?;
    let header = parse_v1_line(line).ok_or(ProxyHeaderError::Malformed)?;
    Ok(Some((header, end + 1)))
}

fn parse_v1_line(line: &str) -> Option<ProxyHeader> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Some(ProxyHeader::NO_ADDRESS);
    }
    let mut address = || match family {
        "TCP4" => words.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => words.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || number(words.next()?);
    let (source_port, destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return None;
    }
    Some(ProxyHeader {
        source: Some(SocketAddr::new(source, source_port)),
        destination: Some(SocketAddr::new(destination, destination_port)),
    })
}

/// A port, without a sign or leading zeros.
fn number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_padded = text.len() > 1 && text.starts_with('0');
    u16::from_str(text).ok().filter(|_| is_plain && !is_padded)
}

/// Signature, version and command, family and transport, length, addresses, extensions.
fn parse_v2(input: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let Some((head, rest)) = input.split_at_checked(V2_HEAD_BYTES) else {
        // What is there of it is judged at once.
        return match input.get(V2_SIGNATURE.len()) {
            Some(byte) if byte >> 4 != 2 => Err(ProxyHeaderError::Unknown),
            _ => Ok(None),
        };
    };
    let (command, family) = (head[12], head[13]);
    let len = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let is_known = command >> 4 == 2 && command & 0xF <= 1 && family >> 4 <= 3;
    // A stream, or not specified: datagrams are none of ours.
    if !is_known || family & 0xF > 1 {
        return Err(ProxyHeaderError::Unknown);
    }
    if len > V2_LEN_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let is_local = command & 0xF == 0;
    let needed = match family >> 4 {
        _ if is_local => 0,
        FAMILY_V4 => 12,
        FAMILY_V6 => 36,
        FAMILY_UNIX => 216,
        _ => 0,
    };
    if len < needed {
        return Err(ProxyHeaderError::TooShort);
    }
    let Some(body) = rest.get(..len) else { return Ok(None) };
    let header = match family >> 4 {
        // Addresses of a LOCAL header mean nothing.
        _ if is_local => ProxyHeader::NO_ADDRESS,
        FAMILY_V4 => addresses::<4>(body),
        FAMILY_V6 => addresses::<16>(body),
        _ => ProxyHeader::NO_ADDRESS,
    };
    Ok(Some((header, V2_HEAD_BYTES + len)))
}

/// Two addresses of `N` bytes, and two ports.
fn addresses<const N: usize>(body: &[u8]) -> ProxyHeader
where
    IpAddr: From<[u8; N]>,
{
    let address = |at: usize, port: usize| {
        let ip: [u8; N] = body.get(at..at + N)?.try_into().ok()?;
        let port: [u8; 2] = body.get(port..port + 2)?.try_into().ok()?;
        Some(SocketAddr::new(IpAddr::from(ip), u16::from_be_bytes(port)))
    };
    ProxyHeader { source: address(0, 2 * N), destination: address(N, 2 * N + 2) }
}

const V1_PREFIX: &[u8] = b"PROXY ";
/// With two of the longest addresses, and the line end (section 2.1 of the protocol).
const V1_BYTES_MAX: usize = 107;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD_BYTES: usize = 16;
/// Extensions are some hundred bytes; with certificates of clients in them, a few thousand.
const V2_LEN_MAX: usize = 4096;
/// The longest header that is taken, of either version.
pub const PROXY_HEADER_BYTES_MAX: usize = V2_HEAD_BYTES + V2_LEN_MAX;
const _: () = assert!(V1_BYTES_MAX <= PROXY_HEADER_BYTES_MAX);
const FAMILY_V4: u8 = 1;
const FAMILY_V6: u8 = 2;
const FAMILY_UNIX: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &len, body].concat()
    }

    fn parsed(wire: &[u8]) -> ProxyHeader {
        for cut in 0..wire.len() {
            assert_eq!(ProxyHeader::parse(&wire[..cut]), Ok(None), "cut={cut}");
        }
        let (header, used) = ProxyHeader::parse(&[wire, b"GET "].concat()).unwrap().unwrap();
        assert_eq!(used, wire.len());
        header
    }

    fn source(wire: &[u8]) -> Option<String> {
        parsed(wire).source.map(|it| it.to_string())
    }

    #[test]
    fn version_1_at_every_cut() {
        let wire = b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n";
        assert_eq!(source(wire).as_deref(), Some("192.0.2.7:51000"));
        assert_eq!(parsed(wire).destination, Some("198.51.100.1:443".parse().unwrap()));
        let wire = b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
        assert_eq!(source(wire).as_deref(), Some("[2001:db8::1]:0"));
        for wire in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 x 1 1\r\n"] {
            assert_eq!(source(wire.as_bytes()), None);
        }
        let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
        assert_eq!((longest.len(), source(longest.as_bytes())), (V1_BYTES_MAX, None));
    }

    #[test]
    fn version_1_that_is_none() {
        for line in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 51000\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 51000 443 1\r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 51000 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 01 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 1\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 1\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 1\r\n",
            "PROXY tcp4 192.0.2.7 198.51.100.1 1 1\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 1 1\n",
            "PROXY UNKNOWN\n",
        ] {
            let error = ProxyHeader::parse(line.as_bytes());
            assert_eq!(error, Err(ProxyHeaderError::Malformed), "{line}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
        assert_eq!(ProxyHeader::parse(long.as_bytes()), Err(ProxyHeaderError::TooLong));
        for wire in [&b"GET / HTTP/1.1"[..], b"PROXX", b"\r\n\r\nG", b"\x16\x03\x01"] {
            assert_eq!(ProxyHeader::parse(wire), Err(ProxyHeaderError::Missing));
        }
    }

    #[test]
    fn version_2_at_every_cut() {
        let body = [192, 0, 2, 7, 198, 51, 100, 1, 0xC7, 0x38, 0x01, 0xBB];
        assert_eq!(source(&v2(0x21, 0x11, &body)).as_deref(), Some("192.0.2.7:51000"));
        let with_extensions = [&body[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        assert_eq!(source(&v2(0x21, 0x11, &with_extensions)).as_deref(), Some("192.0.2.7:51000"));
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 0x01, 1, 80);
        assert_eq!(source(&v2(0x21, 0x21, &v6)).as_deref(), Some("[2001::1]:80"));
        // LOCAL, with an address that means nothing; not specified; Unix.
        assert_eq!(source(&v2(0x20, 0x11, &body)), None);
        assert_eq!(source(&v2(0x20, 0x00, b"")), None);
        assert_eq!(source(&v2(0x21, 0x00, b"")), None);
        assert_eq!(source(&v2(0x21, 0x31, &[b'/'; 216])), None);
    }

    #[test]
    fn version_2_that_is_none() {
        for (command, family, len, error) in [
            (0x11, 0x11, 12, ProxyHeaderError::Unknown),
            (0x22, 0x11, 12, ProxyHeaderError::Unknown),
            (0x21, 0x41, 12, ProxyHeaderError::Unknown),
            (0x21, 0x12, 12, ProxyHeaderError::Unknown),
            (0x21, 0x11, 11, ProxyHeaderError::TooShort),
            (0x21, 0x21, 35, ProxyHeaderError::TooShort),
            (0x21, 0x31, 215, ProxyHeaderError::TooShort),
            (0x21, 0x11, 4097, ProxyHeaderError::TooLong),
            (0x20, 0x00, 65535, ProxyHeaderError::TooLong),
        ] {
            let wire = v2(command, family, &vec![0; len]);
            // Before the rest of it has come.
            assert_eq!(ProxyHeader::parse(&wire[..16]), Err(error), "{command} {family} {len}");
        }
        let wire = [V2_SIGNATURE, &[0x31]].concat();
        assert_eq!(ProxyHeader::parse(&wire), Err(ProxyHeaderError::Unknown));
    }
}
