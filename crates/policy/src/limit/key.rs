//! What stands for a key in a table: 128 bits of a hash keyed by a seed that nobody outside knows.
//!
//! No text of a client is kept, so a key costs the same whatever it is made of; and without the seed nobody can make up
//! keys that fall together with another's. SipHash-1-3 is what Rust's own maps use against exactly that; of its 128-bit
//! form two of a million keys meet by chance once in 10^26 tables.

use std::fmt;
use std::hash::Hasher as _;
use std::net::IpAddr;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// A key, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

impl Key {
    /// A key that was hashed elsewhere.
    #[must_use]
    pub const fn from_hash(hash: u128) -> Self {
        // A table marks its empty places with 0.
        Self(if hash == 0 { 1 } else { hash })
    }

    /// Its bits; never 0.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

/// The secret of the keys' hash, chosen at random once a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeySeed(u64, u64);

impl KeySeed {
    /// A seed of random bits.
    #[must_use]
    pub const fn new(first: u64, second: u64) -> Self {
        Self(first, second)
    }
}

impl fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySeed(redacted)")
    }
}

/// What a key is made of, put together part by part. Each part carries its kind and length, so that no two lists of parts
/// read the same. It may be used again after [`Material::clear`], and then allocates nothing.
#[derive(Clone, Default)]
pub struct Material(Vec<u8>);

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A part may be somebody's key or token.
        write!(f, "Material({} bytes, redacted)", self.0.len())
    }
}

/// The key of an address, for the next request of the same client.
#[derive(Clone, Copy, Debug)]
pub struct AddressKey {
    seed: KeySeed,
    address: IpAddr,
    ipv6_prefix_bits: u8,
    key: Key,
}

impl AddressKey {
    /// The key that [`Material::address`] alone makes: `last`'s, if that was made of the same.
    #[must_use]
    pub fn after(last: Option<Self>, seed: KeySeed, address: IpAddr, ipv6_prefix_bits: u8) -> Self {
        match last {
            Some(last)
                if last.address == address
                    && last.ipv6_prefix_bits == ipv6_prefix_bits
                    && last.seed == seed =>
            {
                last
            }
            _ => {
                let mut material = Material::new();
                material.address(address, ipv6_prefix_bits);
                Self { seed, address, ipv6_prefix_bits, key: material.key(&seed) }
            }
        }
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }
}

const ABSENT: u8 = 0;
const ADDRESS: u8 = 1;
const TEXT: u8 = 2;

impl Material {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Makes it empty again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A client's address: whole if IPv4 (also in its mapped form), its first `ipv6_prefix_bits` bits if IPv6, since one
    /// client has at least a /64 to itself.
    pub fn address(&mut self, address: IpAddr, ipv6_prefix_bits: u8) {
        match address.to_canonical() {
            IpAddr::V4(address) => self.part(ADDRESS, &address.octets()),
            IpAddr::V6(address) => {
                let bits = u32::from(ipv6_prefix_bits.min(128));
                let network = if bits == 0 { 0 } else { address.to_bits() >> (128 - bits) << (128 - bits) };
                self.part(ADDRESS, &network.to_be_bytes());
            }
        }
    }

    /// A piece of text.
    pub fn text(&mut self, text: &[u8]) {
        self.part(TEXT, text);
    }

    /// That a part is not there, which is something else than an empty text.
    pub fn absent(&mut self) {
        self.part(ABSENT, b"");
    }

    /// Its bytes, for a hash of another kind.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key that it makes.
    #[must_use]
    pub fn key(&self, seed: &KeySeed) -> Key {
        let mut hasher = SipHasher13::new_with_keys(seed.0, seed.1);
        hasher.write(&self.0);
        Key::from_hash(hasher.finish128().as_u128())
    }

    fn part(&mut self, kind: u8, bytes: &[u8]) {
        self.0.push(kind);
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: KeySeed = KeySeed::new(1, 2);

    fn key(build: impl FnOnce(&mut Material)) -> Key {
        let mut material = Material::new();
        build(&mut material);
        material.key(&SEED)
    }

    fn address(text: &str, prefix: u8) -> Key {
        key(|material| material.address(text.parse().expect("an address"), prefix))
    }

    #[test]
    fn one_ipv6_client_cannot_be_many_by_changing_its_address_within_its_network() {
        assert_eq!(address("2001:db8:1:2::1", 64), address("2001:db8:1:2:ffff::9", 64));
        assert_ne!(address("2001:db8:1:2::1", 64), address("2001:db8:1:3::1", 64));
        assert_eq!(address("2001:db8:1:2::1", 48), address("2001:db8:1:3::1", 48));
        assert_eq!(address("2001:db8::1", 0), address("::2", 0));
        assert_ne!(address("2001:db8::1", 128), address("2001:db8::2", 128));
    }

    #[test]
    fn a_key_that_is_remembered_is_the_key_of_that_client_and_limit() {
        let mut last = None;
        for (address, prefix, seed) in [
            ("2001:db8:1:2::1", 64, SEED),
            ("2001:db8:1:2::1", 64, SEED),
            ("2001:db8:1:2::1", 48, SEED),
            ("192.0.2.1", 48, SEED),
            ("192.0.2.2", 48, SEED),
            ("192.0.2.2", 48, KeySeed::new(1, 3)),
            ("192.0.2.2", 48, SEED),
        ] {
            let address = address.parse().expect("an address");
            let mut material = Material::new();
            material.address(address, prefix);
            let known = AddressKey::after(last, seed, address, prefix);
            assert_eq!(known.key(), material.key(&seed), "{address}/{prefix}");
            last = Some(known);
        }
    }

    #[test]
    fn an_ipv4_address_is_the_same_key_in_its_mapped_form() {
        assert_eq!(address("192.0.2.1", 64), address("::ffff:192.0.2.1", 64));
        assert_ne!(address("192.0.2.1", 64), address("192.0.2.2", 64));
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        let two = |first: &'static [u8], second: &'static [u8]| {
            key(move |material| {
                material.text(first);
                material.text(second);
            })
        };
        assert_ne!(two(b"ab", b"c"), two(b"a", b"bc"));
        assert_ne!(two(b"", b"x"), two(b"x", b""));
        assert_ne!(key(|material| material.text(b"")), key(Material::absent));
        // A text that holds what stands between two parts.
        assert_ne!(two(b"a", b"b"), key(|material| material.text(b"a\x02b")));
    }

    #[test]
    fn neither_a_seed_nor_what_a_key_is_made_of_is_printed() {
        let mut material = Material::new();
        material.text(b"secret");
        let text = format!("{SEED:?} {material:?}");
        assert!(text.contains("redacted") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn another_seed_makes_other_keys() {
        let mut material = Material::new();
        material.text(b"a");
        assert_ne!(material.key(&SEED), material.key(&KeySeed::new(1, 3)));
    }
}
