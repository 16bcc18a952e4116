//! Source addresses of a client's connections: a list of addresses and networks.
//!
//! One address reaches one server with as many connections as there are ephemeral ports, about 28,000; more
//! addresses of this machine, such as all of 127.0.0.0/8 on loopback, lift that limit.

use nix::sys::socket::{setsockopt, sockopt};
use picows_uring::Connect;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::str::FromStr;

/// Addresses that connections are bound to, in turn.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    text: String,
    networks: Vec<Network>,
    count: u64,
}

/// Consecutive addresses of one family.
#[derive(Clone, Copy, Debug)]
struct Network {
    first: IpAddr,
    count: u64,
}

impl Sources {
    /// Number of addresses.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the address of a connection: each address once, and then from the first one again.
    pub(crate) fn at(&self, connection: u64) -> IpAddr {
        let mut index = connection % self.count;
        for network in &self.networks {
            if index < network.count {
                return network.at(index);
            }
            index -= network.count;
        }
        self.networks[0].first
    }

    /// Binds the socket of a connection to its address, whose port is chosen when it connects.
    pub(crate) fn bind(&self, connect: Connect, connection: u64) -> Connect {
        connect.local_address(self.at(connection)).socket_hook(choose_port_late)
    }

    /// Checks that this machine has the first and the last address that so many connections use.
    ///
    /// # Errors
    ///
    /// The cause, with the address and the cure.
    pub(crate) fn check(&self, connections: u64) -> Result<(), String> {
        let last = connections.clamp(1, self.count) - 1;
        for address in [self.at(0), self.at(last)] {
            // A port of UDP takes none of TCP.
            UdpSocket::bind((address, 0)).map(drop).map_err(|error| self.fault(address, &error))?;
        }
        Ok(())
    }

    fn fault(&self, address: IpAddr, error: &io::Error) -> String {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        format!(
            "--source {}: connections cannot come from {address} ({error}): give addresses of this machine, \
             such as 127.0.0.0/8 on loopback, or add it: ip address add {address}/{bits} dev DEVICE",
            self.text
        )
    }
}

/// Has the kernel choose the port in connect(2), where it has to differ for one server only. Chosen in bind(2),
/// a port would be taken for all servers, and the choice gets slow and fails while some are left.
fn choose_port_late(socket: BorrowedFd<'_>) -> io::Result<()> {
    if let Err(errno) = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true) {
        // Without it bind(2) chooses the port, which suffices for fewer connections.
        tracing::debug!(%errno, "the kernel has no IP_BIND_ADDRESS_NO_PORT");
    }
    Ok(())
}

impl Network {
    /// Reads `ADDRESS` or `ADDRESS/BITS`; of a network, the addresses that hosts can have.
    fn read(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (number, width) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return None;
        }
        let host_bits = width - bits;
        let network = if host_bits == 128 { 0 } else { number >> host_bits << host_bits };
        // The first address names the network, and the last is for broadcasts; two or one are for hosts
        // (RFC 3021).
        let spare = if host_bits > 1 { 1 } else { 0 };
        let all = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        let count = u64::try_from(all - 2 * spare).unwrap_or(u64::MAX).min(ADDRESSES_MAX);
        let first = network + spare;
        let first = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(first as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(first)),
        };
        Some(Self { first, count })
    }

    fn at(&self, index: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                IpAddr::V4(Ipv4Addr::from(u32::from(first).wrapping_add(index as u32)))
            }
            IpAddr::V6(first) => {
                IpAddr::V6(Ipv6Addr::from(u128::from(first).wrapping_add(u128::from(index))))
            }
        }
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut networks: Vec<Network> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let network = Network::read(part).ok_or_else(|| {
                format!(
                    "{part:?} is no address and no network: write them as 127.0.0.0/8 or \
                     10.0.0.7,10.0.0.8"
                )
            })?;
            if networks.first().is_some_and(|it| it.first.is_ipv4() != network.first.is_ipv4()) {
                return Err("the addresses are of IPv4 and of IPv6, and a connection is of one of the two: \
                            give those of the server's"
                    .to_owned());
            }
            networks.push(network);
        }
        let count = networks.iter().map(|network| network.count).sum();
        Ok(Self { text: text.to_owned(), networks, count })
    }
}

/// Most addresses of one network: more than connections that one process can have.
const ADDRESSES_MAX: u64 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::os::fd::AsFd;

    fn sources(text: &str) -> Sources {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn networks_have_the_addresses_of_their_hosts() {
        for (text, count, first, last) in [
            ("10.0.0.7", 1, "10.0.0.7", "10.0.0.7"),
            ("10.0.0.7/32", 1, "10.0.0.7", "10.0.0.7"),
            ("10.0.0.7/31", 2, "10.0.0.6", "10.0.0.7"),
            ("10.0.0.7/30", 2, "10.0.0.5", "10.0.0.6"),
            ("127.0.0.0/8", (1 << 24) - 2, "127.0.0.1", "127.255.255.254"),
            ("0.0.0.0/0", 1 << 24, "0.0.0.1", "1.0.0.0"),
            ("10.0.0.1,10.0.0.8/30", 3, "10.0.0.1", "10.0.0.10"),
            ("::1", 1, "::1", "::1"),
            ("fd00::/126", 2, "fd00::1", "fd00::2"),
            ("fd00::/64", 1 << 24, "fd00::1", "fd00::100:0"),
            ("::/0", 1 << 24, "::1", "::100:0"),
        ] {
            let sources = sources(text);
            assert_eq!(sources.count(), count, "{text}");
            assert_eq!(sources.at(0).to_string(), first, "{text}");
            assert_eq!(sources.at(count - 1).to_string(), last, "{text}");
            assert_eq!(sources.at(count), sources.at(0), "{text}: they are used in turn");
        }
    }

    #[test]
    fn the_port_is_chosen_when_the_server_is_known() {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        for (family, address) in
            [(AddressFamily::INET, "127.0.0.2:0"), (AddressFamily::INET6, "[::1]:0")]
        {
            let ours = socket(family, SocketType::STREAM, None).unwrap();
            choose_port_late(ours.as_fd()).unwrap();
            if bind(&ours, &address.parse::<SocketAddr>().unwrap()).is_err() {
                // A machine without IPv6.
                assert_eq!(family, AddressFamily::INET6);
                continue;
            }
            let bound = SocketAddr::try_from(getsockname(&ours).unwrap()).unwrap();
            assert_eq!(bound.to_string(), address, "bind(2) has taken a port");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_cure() {
        for text in
            ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "localhost", "10.0.0.1,,"]
        {
            let error = text.parse::<Sources>().map(drop).unwrap_err();
            assert!(error.contains("127.0.0.0/8"), "{text}: {error}");
        }
        let error = "10.0.0.1,::1".parse::<Sources>().map(drop).unwrap_err();
        assert!(error.contains("IPv4 and of IPv6"), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_named_with_the_cure() {
        assert_eq!(sources("127.0.0.0/8").check(100_000), Ok(()));
        // For documentation (RFC 5737): no machine has it.
        let error = sources("127.0.0.1,192.0.2.1").check(2).unwrap_err();
        for part in
            ["--source 127.0.0.1,192.0.2.1", "from 192.0.2.1", "ip address add 192.0.2.1/32"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(sources("127.0.0.1,192.0.2.1").check(1), Ok(()), "only what is used counts");
    }
}
