//! The PROXY protocol header that tells an endpoint who the client is (haproxy.org, proxy-protocol.txt, sections 2.1
//! and 2.2).

use std::net::{IpAddr, SocketAddr};

use crate::config::ProxyProtocol;
use crate::connect::Proxied;

const SIGNATURE_V2: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// The header in the given version; nothing when it is off.
pub(crate) fn encode(version: ProxyProtocol, proxied: Proxied) -> Vec<u8> {
    match version {
        ProxyProtocol::Off => Vec::new(),
        ProxyProtocol::V1 => encode_v1(proxied),
        ProxyProtocol::V2 => encode_v2(proxied),
    }
}

/// Source and destination in one family: both as IPv4 where both are, else both as IPv6.
fn families(proxied: Proxied) -> (IpAddr, IpAddr) {
    let canonical = |address: SocketAddr| address.ip().to_canonical();
    match (canonical(proxied.source), canonical(proxied.destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (source.into(), destination.into()),
        (source, destination) => (as_ipv6(source), as_ipv6(destination)),
    }
}

fn as_ipv6(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(_) => address,
    }
}

fn encode_v1(proxied: Proxied) -> Vec<u8> {
    let (source, destination) = families(proxied);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (proxied.source.port(), proxied.destination.port());
    format!("PROXY {family} {source} {destination} {from} {to}\r\n").into_bytes()
}

fn encode_v2(proxied: Proxied) -> Vec<u8> {
    let (source, destination) = families(proxied);
    let mut addresses = Vec::with_capacity(36);
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => addresses.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => addresses.extend_from_slice(&address.octets()),
        }
    }
    addresses.extend_from_slice(&proxied.source.port().to_be_bytes());
    addresses.extend_from_slice(&proxied.destination.port().to_be_bytes());
    let family = if source.is_ipv4() { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 };
    let mut header = SIGNATURE_V2.to_vec();
    header.extend_from_slice(&[VERSION_2_PROXY, family, 0, addresses.len() as u8]);
    header.extend_from_slice(&addresses);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxied(source: &str, destination: &str) -> Proxied {
        let parse = |text: &str| text.parse().expect("an address");
        Proxied { source: parse(source), destination: parse(destination) }
    }

    #[test]
    fn version_1_is_a_line_of_text() {
        let header = encode(ProxyProtocol::V1, proxied("192.0.2.1:5000", "[::ffff:192.0.2.2]:80"));
        assert_eq!(header, b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n");
        let header = encode(ProxyProtocol::V1, proxied("[2001:db8::1]:5000", "192.0.2.2:80"));
        assert_eq!(header, b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 5000 80\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let header = encode(ProxyProtocol::V2, proxied("192.0.2.1:5000", "192.0.2.2:80"));
        assert_eq!(&header[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(&header[16..], [192, 0, 2, 1, 192, 0, 2, 2, 0x13, 0x88, 0, 80]);
        let header = encode(ProxyProtocol::V2, proxied("[2001:db8::1]:1", "[2001:db8::2]:2"));
        assert_eq!((header[13], header.len()), (0x21, 16 + 36));
    }
}
