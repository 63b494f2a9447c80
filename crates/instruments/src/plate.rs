//! Pieces of an access line that are the same for many requests, written as JSON once and copied from then on.
//!
//! What a listener, a route and a service are called is known when the configuration is taken into use, and what a
//! client's address is when it connects. To escape, copy and quote each name anew for each request was a third of a line's
//! cost.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

use crate::json::{push_json_string, push_u64};

/// Keys and values of an access line, ready to be copied: `,"route":"orders","service":"orders"`. Made when a
/// configuration is taken into use.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Plate(Box<[u8]>);

impl Plate {
    /// The plate of these keys and values; empty values are left out. Keys are plain words.
    #[must_use]
    pub fn new(pairs: &[(&'static str, &str)]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            bytes.push(b',');
            push_json_string(&mut bytes, key);
            bytes.push(b':');
            push_json_string(&mut bytes, value);
        }
        Self(bytes.into_boxed_slice())
    }

    /// The keys and values, as they stand in a line.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Plate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plate({})", String::from_utf8_lossy(&self.0))
    }
}

/// The longest address in text: eight groups of IPv6. Addresses of IPv4 within IPv6 are written as IPv4.
const ADDRESS_BYTES_MAX: usize = 39;

/// A client's address as text, made once a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AddressText {
    bytes: [u8; ADDRESS_BYTES_MAX],
    length: u8,
}

impl AddressText {
    /// The text of an address (RFC 5952 for IPv6).
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; ADDRESS_BYTES_MAX], length: 0 };
        match address.to_canonical() {
            IpAddr::V4(address) => text.put_ipv4(address.octets()),
            IpAddr::V6(address) => {
                let mut rest = &mut text.bytes[..];
                let written = write!(rest, "{address}");
                let left = rest.len();
                debug_assert!(written.is_ok(), "an address of IPv6 is 39 bytes at most");
                text.length = (ADDRESS_BYTES_MAX - left) as u8;
            }
        }
        text
    }

    /// By hand: the standard formatter costs more than a whole line.
    fn put_ipv4(&mut self, octets: [u8; 4]) {
        let mut text = Vec::with_capacity(16);
        for (place, octet) in octets.into_iter().enumerate() {
            if place > 0 {
                text.push(b'.');
            }
            push_u64(&mut text, u64::from(octet));
        }
        self.bytes[..text.len()].copy_from_slice(&text);
        self.length = text.len() as u8;
    }

    /// The text; plain ASCII without anything to escape.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for AddressText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plate_leaves_out_what_is_empty_and_escapes_what_must_be() {
        let plate = Plate::new(&[("route", "a\"b"), ("service", "")]);
        assert_eq!(plate.bytes(), br#","route":"a\"b""#);
    }

    proptest! {
        #[test]
        fn an_address_reads_as_the_standard_library_writes_it(four in any::<u32>(), six in any::<u128>()) {
            let (four, six) = (Ipv4Addr::from_bits(four), Ipv6Addr::from_bits(six));
            let text = |address: IpAddr| String::from_utf8(AddressText::new(address).as_bytes().to_vec()).unwrap();
            prop_assert_eq!(text(four.into()), four.to_string());
            prop_assert_eq!(text(six.into()), IpAddr::V6(six).to_canonical().to_string());
            prop_assert_eq!(text(four.to_ipv6_mapped().into()), four.to_string());
        }
    }
}
