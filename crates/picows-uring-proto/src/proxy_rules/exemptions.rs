//! The list of `no_proxy`: servers that are connected to without a proxy.
//!
//! Resolves no names: an address exempts URLs with that address, and a name those with that name.

use std::net::{IpAddr, Ipv6Addr};

/// Servers that are connected to without a proxy.
///
/// Entries are separated by commas or blanks: `*` is every server; `example.com` and `.example.com`
/// are that name and every name under it; an address is itself, in any spelling; `10.0.0.0/8` is a
/// range of addresses. Behind each there may be `:` and a port; an IPv6 address is in brackets then.
/// Names are compared without case and without a final dot. Entries that are none of these exempt
/// nothing. Nothing is exempt that is not in the list, not even `localhost`.
///
/// ```
/// use picows_uring_proto::ProxyExemptions;
///
/// let list = ProxyExemptions::parse("Example.com., 10.0.0.0/8, [::1]:8080");
/// assert!(list.contain("feed.example.com", 443) && !list.contain("notexample.com", 443));
/// assert!(list.contain("10.5.5.5", 80));
/// assert!(list.contain("::1", 8080) && !list.contain("::1", 81));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyExemptions(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// In lower case, without a dot at either end.
    Domain(String),
    /// Those whose first bits are those of the address.
    Network(IpAddr, u8),
}

impl ProxyExemptions {
    /// Reads a list.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let entries = list.split(|it: char| it == ',' || it.is_whitespace());
        Self(entries.filter(|entry| !entry.is_empty()).filter_map(Entry::parse).collect())
    }

    /// Whether `host`, a name or an address without brackets, is exempt at `port`.
    #[must_use]
    pub fn contain(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|it| it == port) && entry.host.contain(host, address)
        })
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        // An IPv6 address has colons of its own.
        if let Some(host) = Hosts::network(text) {
            return Some(Self { host, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        Some(Self { host: Hosts::parse(host)?, port })
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        if let Some(network) = Self::network(text) {
            return Some(network);
        }
        let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_name = !name.is_empty() && !name.contains(['/', ':', '[', ']', '*', '@']);
        is_name.then(|| Self::Domain(name.to_ascii_lowercase()))
    }

    /// Reads `ADDRESS` or `ADDRESS/BITS`, in brackets as a whole, or with the address in them.
    fn network(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let (address, bits) = match inner.unwrap_or(text).split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (inner.unwrap_or(text), None),
        };
        let bracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match bracketed {
            Some(bracketed) => IpAddr::V6(bracketed.parse::<Ipv6Addr>().ok()?),
            None => address.strip_suffix('.').unwrap_or(address).parse::<IpAddr>().ok()?,
        };
        let bits = match bits {
            None => address_bits(address),
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        if bits > address_bits(address) {
            return None;
        }
        Some(match (address.to_canonical(), bits.checked_sub(MAPPED_BITS)) {
            (mapped @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => {
                Self::Network(mapped, bits)
            }
            _ => Self::Network(address, bits),
        })
    }

    /// Whether a host is one of these; `address` is what its name says, if that is an address.
    fn contain(&self, host: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, bits) => {
                address.is_some_and(|address| is_in_network(address, *network, *bits))
            }
            Self::Domain(domain) => address.is_none() && is_in_domain(host, domain),
        }
    }
}

fn is_in_domain(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.as_bytes(), domain.as_bytes());
    let Some(above) = host.len().checked_sub(domain.len()) else { return false };
    let (under, tail) = host.split_at(above);
    tail.eq_ignore_ascii_case(domain) && (under.is_empty() || under.ends_with(b"."))
}

fn is_in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let differing = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros()
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (address.to_bits() ^ network.to_bits()).leading_zeros()
        }
        _ => return false,
    };
    differing >= u32::from(bits)
}

const fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Bits with which the IPv6 addresses of IPv4 begin (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;
