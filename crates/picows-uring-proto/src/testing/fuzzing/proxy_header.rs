//! Fuzz target of the PROXY protocol: any bytes as the beginning of a connection.
//!
//! A second reader checks what was read: it writes the header again in its only form.

use crate::{PROXY_HEADER_BYTES_MAX, ProxyHeader, ProxyHeaderError};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a proxy, whole and at every cut.
pub fn proxy_header(data: &[u8]) {
    let whole = ProxyHeader::parse(data);
    for cut in 0..data.len().min(PROXY_HEADER_BYTES_MAX) {
        match ProxyHeader::parse(&data[..cut]) {
            // It goes on, or is known early: then nothing that follows changes it.
            Ok(None) => {}
            known => assert_eq!(known, whole, "cut={cut}"),
        }
    }
    match whole {
        Ok(Some((header, used))) => {
            assert!(used <= data.len() && used <= PROXY_HEADER_BYTES_MAX, "{used}");
            assert_eq!(header.source.is_some(), header.destination.is_some());
            if let (Some(source), Some(destination)) = (header.source, header.destination) {
                assert_is_in(&data[..used], source, destination);
            }
        }
        Ok(None) => assert!(data.len() < PROXY_HEADER_BYTES_MAX, "it never becomes one"),
        Err(ProxyHeaderError::Missing) => {
            assert!(!data.starts_with(b"PROXY ") && !data.starts_with(SIGNATURE), "{data:?}");
        }
        Err(error) => assert!(!format!("{error} {error:?}").is_empty()),
    }
}

/// Checks that `wire` has these addresses: of version 2 the bytes, of version 1 the words.
fn assert_is_in(wire: &[u8], source: SocketAddr, destination: SocketAddr) {
    if let Some(rest) = wire.strip_prefix(SIGNATURE) {
        let mut bytes = Vec::new();
        for address in [source, destination] {
            match address.ip() {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        bytes.extend(source.port().to_be_bytes());
        bytes.extend(destination.port().to_be_bytes());
        assert_eq!(rest[0] & 0xF, 1, "LOCAL has no address");
        return assert!(rest[4..].starts_with(&bytes), "{wire:?}");
    }
    let line = str::from_utf8(wire).expect("version 1 is text");
    let words: Vec<_> = line.trim_end().split(' ').collect();
    let [_, family, from, to, from_port, to_port] = words[..] else { panic!("{line}") };
    assert_eq!(family == "TCP4", source.is_ipv4() && destination.is_ipv4(), "{line}");
    let ips = [from, to].map(|word| word.parse::<IpAddr>().expect("an address"));
    let ports = [from_port, to_port].map(|word| word.parse::<u16>().expect("a port"));
    assert_eq!(ips, [source.ip(), destination.ip()]);
    assert_eq!(ports, [source.port(), destination.port()]);
    let plain = format!("{} {}", source.port(), destination.port());
    assert!(line.ends_with(&format!("{plain}\r\n")), "one way to write a port: {line}");
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
