//! What an endpoint is called towards clients: a keyed hash of its service and name.
//!
//! A sticky cookie must find the same endpoint again, through reloads and restarts of Terrace, and must tell
//! a client nothing about the network behind. A plain hash of an IPv4 address and port is reversed by trying
//! them all, so the hash is keyed: SipHash-2-4 (Aumasson and Bernstein, 2012) under a key that the caller
//! keeps. The same function under a fixed key places endpoints in hash tables, where it must agree between
//! machines and hides nothing.

use std::fmt;

/// The secret under which endpoint ids are made. Keep it over restarts, or sticky clients move once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityKey(pub [u8; 16]);

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(secret)")
    }
}

/// Identifies an endpoint within its service, without telling its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

impl EndpointId {
    /// The id of the endpoint `name` of `service`.
    pub(crate) fn new(key: &IdentityKey, service: &str, name: &str) -> Self {
        let mut bytes = Vec::with_capacity(service.len() + name.len() + 1);
        bytes.extend_from_slice(service.as_bytes());
        // A byte that no UTF-8 text holds: "a" + "bc" and "ab" + "c" are two endpoints.
        bytes.push(0xff);
        bytes.extend_from_slice(name.as_bytes());
        Self(siphash(&key.0, &bytes))
    }

    /// The id of a service as one side of a choice: the same wherever it is chosen, and of no endpoint.
    pub fn of_side(key: &IdentityKey, service: &str) -> Self {
        // No service is called so: names are of letters, digits and dashes.
        Self::new(key, "(side)", service)
    }

    /// Reads what [`fmt::Display`] wrote: 16 hexadecimal digits. Anything else is no id.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// SipHash-2-4 of `bytes` under `key`.
pub(crate) fn siphash(key: &[u8; 16], bytes: &[u8]) -> u64 {
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let chunks = bytes.chunks_exact(8);
    let length = (bytes.len() as u64) << 56;
    let last = length | word(chunks.remainder());
    for chunk in chunks {
        compress(&mut state, word(chunk));
    }
    compress(&mut state, last);
    state[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut state));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

/// Up to eight bytes, the first one lowest.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn compress(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix A of the SipHash paper, and the first lines of its reference vectors: key 00..0f, input 00, 01, …
    #[test]
    fn siphash_gives_the_values_of_its_paper() {
        let key: [u8; 16] = std::array::from_fn(|index| index as u8);
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(&key, &input), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(&key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(&key, &[0]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(siphash(&key, &input[..8]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn an_id_survives_a_cookie_and_nothing_else_is_taken_for_one() {
        let id = EndpointId::new(&IdentityKey([7; 16]), "orders", "10.0.0.5:8080");
        assert_eq!(EndpointId::parse(&id.to_string()), Some(id));
        for odd in ["", "10.0.0.5:8080", "0123", "+123456789abcdef", "0123456789abcdeG", "0123456789ABCDEF"] {
            assert_eq!(EndpointId::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn ids_differ_by_key_service_and_name() {
        let id = |key, service, name| EndpointId::new(&IdentityKey([key; 16]), service, name);
        let all = [id(1, "a", "bc"), id(2, "a", "bc"), id(1, "ab", "c"), id(1, "a", "bd")];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| one != other));
        }
    }

    #[test]
    fn the_key_is_never_printed() {
        assert_eq!(format!("{:?}", IdentityKey([42; 16])), "IdentityKey(secret)");
    }
}
