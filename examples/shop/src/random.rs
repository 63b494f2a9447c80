//! The one door through which randomness comes in: the operating system's, for keys and for chance alike.

use ring::rand::{SecureRandom, SystemRandom};

/// Fresh random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

/// An unguessable name of 24 hexadecimal digits (96 bits).
pub(crate) fn id() -> String {
    data_encoding::HEXLOWER.encode(&bytes::<12>())
}

/// Uniform in 0 ≤ x < 1.
pub(crate) fn chance() -> f64 {
    f64::from(u32::from_le_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}
