//! The address of a client behind proxies, as `X-Forwarded-For` or `Forwarded` (RFC 7239) names it.

use std::net::{IpAddr, SocketAddr};

use super::UpgradeRequest;
use super::head::list_elements;
use crate::networks::Networks;

/// The proxies whose word about a client counts, and the header in which they give it.
///
/// One header is read and not both: a proxy that sets one of them usually passes the other on as the
/// client has sent it, with whatever address in it.
///
/// ```
/// use picows_uring_proto::TrustedProxies;
///
/// let proxies = TrustedProxies::by_x_forwarded_for("10.0.0.0/8".parse()?);
/// # Ok::<(), picows_uring_proto::InvalidNetwork>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Networks,
    header: Header,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    XForwardedFor,
    Forwarded,
}

impl TrustedProxies {
    /// Proxies in `networks`, each of which adds the address of its own peer to `X-Forwarded-For`.
    #[must_use]
    pub const fn by_x_forwarded_for(networks: Networks) -> Self {
        Self { networks, header: Header::XForwardedFor }
    }

    /// Proxies in `networks`, each of which adds the address of its own peer to `Forwarded`.
    #[must_use]
    pub const fn by_forwarded(networks: Networks) -> Self {
        Self { networks, header: Header::Forwarded }
    }

    /// Whether `peer` is one of them.
    #[must_use]
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.networks.contain(peer)
    }

    /// The client of `request`, which `peer` has sent: read from right to left, up to the first
    /// address that is no proxy of ours, or to what is no address.
    #[must_use]
    pub fn client_of(&self, request: &UpgradeRequest, peer: IpAddr) -> IpAddr {
        let name = match self.header {
            Header::XForwardedFor => "x-forwarded-for",
            Header::Forwarded => "forwarded",
        };
        let values: Vec<&[u8]> = request.header_values(name).collect();
        let mut client = peer;
        for value in values.into_iter().rev() {
            let elements: Vec<&[u8]> = match self.header {
                Header::XForwardedFor => list_elements(value).collect(),
                Header::Forwarded => match split_quoted(value, b',') {
                    Some(elements) => elements,
                    None => return client,
                },
            };
            for element in elements.into_iter().rev() {
                if !self.trust(client) {
                    return client;
                }
                let address = match self.header {
                    Header::XForwardedFor => node_address(element),
                    Header::Forwarded => forwarded_for(element),
                };
                match address {
                    Some(address) => client = address,
                    None => return client,
                }
            }
        }
        client
    }
}

/// The parts of `value` between `separator`s that are not in a quoted string, without the empty ones;
/// `None` if a string has no end.
fn split_quoted(value: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in value.iter().copied().chain([separator]).enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if byte == separator && (!is_quoted || at == value.len()) => {
                parts.push(value[start..at].trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    (!is_quoted && !is_escaped).then_some(parts)
}

/// The address of the parameter `for` of an element (RFC 7239 §4), which is there once.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_quoted(element, b';')? {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    // An address needs no escapes, so what has one is none.
    let inside = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\""));
    node_address(inside.unwrap_or(value))
}

/// An address, perhaps with a port; one of IPv6 may be in brackets.
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let node = str::from_utf8(node).ok()?;
    let address = node.parse::<IpAddr>().ok();
    let address = address.or_else(|| Some(node.parse::<SocketAddr>().ok()?.ip()));
    let inside = || node.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    Some(address.or_else(inside)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::HeadLimits;

    fn client(proxies: &TrustedProxies, peer: &str, headers: &str) -> String {
        let wire = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let parsed = UpgradeRequest::parse(wire.as_bytes(), &HeadLimits::default());
        let (request, _) = parsed.unwrap().unwrap();
        proxies.client_of(&request, peer.parse().unwrap()).to_string()
    }

    fn networks() -> Networks {
        "10.0.0.0/8, ::1".parse().unwrap()
    }

    #[test]
    fn x_forwarded_for_is_read_from_right_to_left() {
        let proxies = TrustedProxies::by_x_forwarded_for(networks());
        for (peer, headers, expected) in [
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            // What a client has put in front does not count.
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1, 192.0.2.1, 10.0.0.2\r\n", "192.0.2.1"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            // All are proxies of ours: the first is the client.
            ("10.0.0.1", "X-Forwarded-For: 10.0.0.9, 10.0.0.2\r\n", "10.0.0.9"),
            // From a stranger, it says nothing.
            ("192.0.2.9", "X-Forwarded-For: 10.0.0.1\r\n", "192.0.2.9"),
            ("::1", "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
            ("::1", "X-Forwarded-For: [2001:db8::1]:99\r\n", "2001:db8::1"),
            ("::1", "X-Forwarded-For: 192.0.2.1:99\r\n", "192.0.2.1"),
            ("::ffff:10.0.0.1", "X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1"),
            // Behind what is no address, nothing is known.
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1, unknown, 10.0.0.2\r\n", "10.0.0.2"),
            ("10.0.0.1", "X-Forwarded-For: 1.1.1.1 192.0.2.1\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: \u{fc}\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: , ,\r\n", "10.0.0.1"),
            // The other header is not read.
            ("10.0.0.1", "Forwarded: for=192.0.2.1\r\n", "10.0.0.1"),
        ] {
            assert_eq!(client(&proxies, peer, headers), expected, "{headers}");
        }
    }

    #[test]
    fn forwarded_is_read_from_right_to_left() {
        let proxies = TrustedProxies::by_forwarded(networks());
        for (headers, expected) in [
            ("Forwarded: for=192.0.2.1\r\n", "192.0.2.1"),
            ("Forwarded: proto=https;For=192.0.2.1;by=10.0.0.1\r\n", "192.0.2.1"),
            ("Forwarded: for=1.1.1.1, for=192.0.2.1, for=10.0.0.2\r\n", "192.0.2.1"),
            ("Forwarded: for=\"[2001:db8::1]:4711\"\r\n", "2001:db8::1"),
            ("Forwarded: for=\"[2001:db8::1]\"\r\n", "2001:db8::1"),
            // A comma or a semicolon in a string ends nothing.
            ("Forwarded: for=1.1.1.1;host=\"a,for=2.2.2.2;\"\r\n", "1.1.1.1"),
            ("Forwarded: for=_hidden\r\n", "10.0.0.1"),
            ("Forwarded: for=unknown, for=10.0.0.3\r\n", "10.0.0.3"),
            ("Forwarded: for=192.0.2.1;for=192.0.2.2\r\n", "10.0.0.1"),
            ("Forwarded: for=\"192.0.2.1\r\n", "10.0.0.1"),
            ("Forwarded: host=a\r\n", "10.0.0.1"),
            ("Forwarded: for\r\n", "10.0.0.1"),
            ("X-Forwarded-For: 192.0.2.1\r\n", "10.0.0.1"),
        ] {
            assert_eq!(client(&proxies, "10.0.0.1", headers), expected, "{headers}");
        }
    }

    #[test]
    fn a_long_list_is_read_to_its_end() {
        let proxies = TrustedProxies::by_x_forwarded_for(networks());
        let list = "10.0.0.2,".repeat(1500);
        let headers = format!("X-Forwarded-For: 192.0.2.1,{list}\r\n");
        assert_eq!(client(&proxies, "10.0.0.1", &headers), "192.0.2.1");
    }
}
