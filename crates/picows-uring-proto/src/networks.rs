//! Sets of networks: which addresses are trusted.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::debug_with_text;
use crate::escape::short;

/// A set of networks of IPv4 and IPv6.
///
/// Addresses and prefixes, separated by commas or blanks. An IPv4 address that is mapped into IPv6
/// is the IPv4 address.
///
/// ```
/// use picows_uring_proto::Networks;
///
/// let networks: Networks = "10.0.0.0/8, 192.0.2.7, ::1".parse()?;
/// assert!(networks.contain("10.5.5.5".parse()?) && networks.contain("::ffff:10.0.0.1".parse()?));
/// assert!(!networks.contain("192.0.2.8".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// Addresses whose first bits are those of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text is no set of networks.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is no network: write addresses and prefixes as 10.0.0.0/8, 192.0.2.7, 2001:db8::/32",
    short(text)
)]
pub struct InvalidNetwork {
    text: String,
}

debug_with_text! { InvalidNetwork }

impl Networks {
    /// Whether `address` is in one of them.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Networks {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let entries = text.split(|it: char| it == ',' || it.is_whitespace());
        let parse = |entry: &str| {
            Network::parse(entry).ok_or_else(|| InvalidNetwork { text: entry.to_owned() })
        };
        entries.filter(|entry| !entry.is_empty()).map(parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => {
                let is_plain = !prefix.is_empty() && prefix.bytes().all(|it| it.is_ascii_digit());
                (address, Some(prefix.parse::<u8>().ok().filter(|_| is_plain)?))
            }
            None => (text, None),
        };
        let given: IpAddr = address.parse().ok()?;
        let bits_max = if given.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits_max);
        if prefix > bits_max {
            return None;
        }
        // Of mapped addresses, the prefix counts the 96 bits in front.
        let address = given.to_canonical();
        let is_mapped = given.is_ipv6() && address.is_ipv4();
        match (is_mapped, prefix.checked_sub(MAPPED_BITS)) {
            (false, _) => Some(Self { address, prefix }),
            (true, Some(prefix)) => Some(Self { address, prefix }),
            (true, None) => Some(Self { address: given, prefix }),
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                same_bits(ours.to_bits().into(), theirs.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => same_v6(ours, theirs, self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                // `::/0` is every address, in whatever spelling.
                self.prefix == 0 && self.address.is_ipv6()
            }
        }
    }
}

fn same_v6(ours: Ipv6Addr, theirs: Ipv6Addr, prefix: u8) -> bool {
    same_bits(ours.to_bits(), theirs.to_bits(), 128, prefix)
}

/// Whether the first `prefix` of `bits` bits are the same.
fn same_bits(ours: u128, theirs: u128, bits: u8, prefix: u8) -> bool {
    (ours ^ theirs).checked_shr(u32::from(bits - prefix)).unwrap_or(0) == 0
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Network { address, prefix }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{address}/{prefix}")?;
        }
        Ok(())
    }
}

/// Bits in front of an IPv4 address that is mapped into IPv6.
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn contain(networks: &str, address: &str) -> bool {
        networks.parse::<Networks>().unwrap().contain(address.parse().unwrap())
    }

    #[test]
    fn networks_contain_their_addresses_and_no_others() {
        for (networks, address) in [
            ("10.0.0.0/8", "10.255.255.255"),
            ("10.0.0.0/7", "11.0.0.1"),
            ("10.5.5.4/31", "10.5.5.5"),
            ("10.5.5.5", "::ffff:10.5.5.5"),
            ("::ffff:10.0.0.0/104", "10.1.1.1"),
            ("::ffff:10.5.5.5", "10.5.5.5"),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("::/0", "2001:db8::1"),
            ("::/0", "192.0.2.1"),
            ("0.0.0.0/0", "192.0.2.1"),
            ("2001:db8::/32 , 192.0.2.0/24", "2001:db8:1::"),
        ] {
            assert!(contain(networks, address), "{networks} {address}");
        }
        for (networks, address) in [
            ("", "127.0.0.1"),
            ("10.0.0.0/8", "11.0.0.0"),
            ("10.5.5.5", "10.5.5.4"),
            ("0.0.0.0/0", "::1"),
            ("2001:db8::/32", "2001:db9::"),
            ("::1", "127.0.0.1"),
        ] {
            assert!(!contain(networks, address), "{networks} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "example.com", "10/8/8"] {
            let error = format!("::1 {text}").parse::<Networks>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn networks_are_shown_as_they_are_read() {
        let networks: Networks = "10.0.0.0/8 ::1".parse().unwrap();
        assert_eq!(networks.to_string(), "10.0.0.0/8, ::1/128");
        assert_eq!(networks.to_string().parse(), Ok(networks));
        assert!(Networks::default().is_empty());
    }
}
