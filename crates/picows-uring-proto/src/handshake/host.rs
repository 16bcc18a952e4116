//! The grammar of a host with an optional port, as `Host` and absolute targets have it
//! (RFC 9110 §7.2, RFC 3986 §3.2.2).
//!
//! Resolves and normalises nothing.

use std::net::Ipv6Addr;

/// Whether `value` is `uri-host [ ":" port ]`. An empty one is: a client sends it for a target that
/// has no authority (RFC 9112 §3.2).
pub(super) fn is_valid_host(value: &[u8]) -> bool {
    if let Some(rest) = value.strip_prefix(b"[") {
        let Some(end) = rest.iter().position(|&byte| byte == b']') else { return false };
        let (literal, port) = (&rest[..end], &rest[end + 1..]);
        return is_ip_literal(literal) && is_port(port);
    }
    let end = value.iter().position(|&byte| byte == b':').unwrap_or(value.len());
    is_reg_name(&value[..end]) && is_port(&value[end..])
}

/// What stands between brackets: an IPv6 address without a zone, or an address of the future.
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = literal {
        let Some(dot) = rest.iter().position(|&byte| byte == b'.') else { return false };
        let (version, address) = (&rest[..dot], &rest[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| is_name_byte(byte) || byte == b':');
    }
    str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// A name or an IPv4 address, which has the form of one.
fn is_reg_name(mut name: &[u8]) -> bool {
    loop {
        match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                name = rest;
            }
            [byte, rest @ ..] if is_name_byte(*byte) => name = rest,
            _ => return false,
        }
    }
}

/// Nothing, or a colon and a port, which may be empty (RFC 3986 §3.2.3).
fn is_port(port: &[u8]) -> bool {
    let Some(digits) = port.strip_prefix(b":") else { return port.is_empty() };
    let number = digits.iter().try_fold(0_u16, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.is_some()
}

/// `unreserved` and `sub-delims` of RFC 3986 §2.
const fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port() {
        for host in [
            "",
            "a",
            "a:",
            "a:0",
            "a:80",
            "a:65535",
            "a:00080",
            "example.com",
            "a_b.c-d",
            "127.0.0.1:9001",
            "[::1]",
            "[::1]:443",
            "[::ffff:192.0.2.1]",
            "[v1.fe80::a+en1]",
            "%41%2e",
            "a,b;c=d",
            "1",
            ":80",
        ] {
            assert!(is_valid_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn what_is_no_host() {
        for host in [
            "a b",
            "a\tb",
            "a:b",
            "a:-1",
            "a:65536",
            "a:99999999999",
            "a:80:80",
            "::1",
            "[::1",
            "[]",
            "[a]",
            "[::1]a",
            "[::1]:x",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[v.a]",
            "[v1.]",
            "[v1]",
            "[vg.a]",
            "user@a",
            "http://a",
            "a/",
            "a?",
            "a#",
            "%",
            "%4",
            "%4g",
            "\"a\"",
            "<a>",
            "a\\",
            "ü",
            "a^",
            "`",
            "{a}",
            "a|b",
        ] {
            assert!(!is_valid_host(host.as_bytes()), "{host}");
        }
        assert!(!is_valid_host(b"a\0") && !is_valid_host(b"\xe4"));
    }
}
