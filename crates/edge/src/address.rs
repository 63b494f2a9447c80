//! Which clients' addresses may come in: ranges that may, and ranges that may not, which win. The address is the client's
//! as trusted proxies tell it.
//!
//! A set of ranges is kept as ascending intervals that do not touch, so that thousands of entries (a list of abusers, a
//! cloud's own ranges) cost a dozen comparisons: a search by halves. A trie over the bits finds the longest prefix too,
//! but here nobody asks which entry matched, only whether one did.

use std::net::IpAddr;

use crate::chain::{Ending, Request};
use crate::config::Network;
use crate::journal::Journal;
use crate::problem::Problem;

/// Addresses that may come in, and those that may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Empty: all may.
    allow: NetworkSet,
    deny: NetworkSet,
}

impl Addresses {
    /// Lets those of `allow` in, or everybody where it is empty, but for those of `deny`.
    #[must_use]
    pub fn new(allow: &[Network], deny: &[Network]) -> Self {
        Self { allow: NetworkSet::new(allow), deny: NetworkSet::new(deny) }
    }

    /// Whether a client of that address may come in.
    #[must_use]
    pub fn admit(&self, address: IpAddr) -> bool {
        let is_allowed = self.allow.is_empty() || self.allow.contains(address);
        is_allowed && !self.deny.contains(address)
    }
}

/// Refuses clients that may not come in.
#[inline]
pub(crate) fn admit(
    addresses: &Addresses,
    request: &Request<'_, '_>,
    journal: &Journal<'_>,
) -> Result<(), Ending> {
    if addresses.admit(request.client) {
        return Ok(());
    }
    if let Some(rules) = journal.rules() {
        rules.address_refused();
    }
    let detail = "clients of this address are not let in here (addresses of the route)";
    Err(Problem::client(403, "http_request_denied", detail).into())
}

/// A set of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkSet {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
}

impl NetworkSet {
    pub(crate) fn new(networks: &[Network]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.bounds() {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits())),
                _ => unreachable!("invariant: a network is of one family"),
            }
        }
        Self { v4: Intervals::new(v4), v6: Intervals::new(v6) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Whether one of them has `address`; one of IPv4 in IPv6's clothes is the one of IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address.to_bits()),
            IpAddr::V6(address) => self.v6.contains(address.to_bits()),
        }
    }
}

/// Ascending intervals, both ends within, none of which overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Intervals<T>(Box<[(T, T)]>);

impl<T: Ord + Copy> Intervals<T> {
    fn new(mut intervals: Vec<(T, T)>) -> Self {
        intervals.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match merged.last_mut() {
                Some((_, end)) if first <= *end => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged.into())
    }

    fn contains(&self, number: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && number <= self.0[after - 1].1
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        let (address, bits) = text.split_once('/').expect("a prefix");
        Network::new(address.parse().expect("an address"), bits.parse().expect("a number"))
    }

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| network(text)).collect()
    }

    #[track_caller]
    fn check(addresses: &Addresses, address: &str, expected: bool) {
        assert_eq!(addresses.admit(address.parse().expect("an address")), expected, "{address}");
    }

    #[test]
    fn whom_deny_names_does_not_come_in_even_where_allow_has_them() {
        let addresses = Addresses::new(&networks(&["10.0.0.0/8"]), &networks(&["10.0.0.66/32"]));
        check(&addresses, "10.0.0.65", true);
        check(&addresses, "10.0.0.66", false);
        check(&addresses, "::ffff:10.0.0.66", false);
        check(&addresses, "11.0.0.1", false);
        check(&addresses, "2001:db8::1", false);
    }

    #[test]
    fn where_nobody_is_allowed_by_name_all_are_but_the_denied() {
        let addresses = Addresses::new(&[], &networks(&["192.0.2.0/24", "2001:db8::/32"]));
        check(&addresses, "192.0.3.0", true);
        check(&addresses, "192.0.2.255", false);
        check(&addresses, "2001:db8:ffff::1", false);
        check(&addresses, "2001:db9::", true);
        check(&Addresses::default(), "203.0.113.9", true);
    }

    #[test]
    fn the_whole_of_a_family_is_a_range_too() {
        let addresses = Addresses::new(&networks(&["0.0.0.0/0"]), &[]);
        check(&addresses, "255.255.255.255", true);
        check(&addresses, "::1", false);
        let addresses = Addresses::new(&networks(&["::/0"]), &networks(&["::1/128"]));
        check(&addresses, "ffff::", true);
        check(&addresses, "::1", false);
        check(&addresses, "192.0.2.1", false);
    }

    /// Few addresses, so that ranges often meet.
    fn close_network() -> impl Strategy<Value = Network> {
        let v4 = (0_u32..4_096, 16_u8..=33)
            .prop_map(|(low, bits)| Network::new(Ipv4Addr::from_bits(0x0a00_0000 | low).into(), bits));
        let v6 = (0_u128..4_096, 112_u8..=129)
            .prop_map(|(low, bits)| Network::new(Ipv6Addr::from_bits(0xfd << 120 | low).into(), bits));
        let any = (any::<u32>(), 0_u8..=32)
            .prop_map(|(bits, prefix)| Network::new(Ipv4Addr::from_bits(bits).into(), prefix));
        prop_oneof![4 => v4, 4 => v6, 1 => any]
    }

    fn close_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0_u32..4_096).prop_map(|low| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | low))),
            (0_u128..4_096).prop_map(|low| IpAddr::V6(Ipv6Addr::from_bits(0xfd << 120 | low))),
            (0_u32..4_096).prop_map(|low| Ipv4Addr::from_bits(0x0a00_0000 | low).to_ipv6_mapped().into()),
            any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_set_has_an_address_when_one_of_its_networks_has(
            networks in prop::collection::vec(close_network(), 0..40),
            addresses in prop::collection::vec(close_address(), 40),
        ) {
            let set = NetworkSet::new(&networks);
            for address in addresses {
                let naive = networks.iter().any(|network| network.contains(address));
                prop_assert_eq!(set.contains(address), naive, "{} in {:?}", address, networks);
            }
        }
    }
}
