//! Keys, and whether a signature is one of theirs.
//!
//! A key carries the set of algorithms that it may be used for, which follows from its own kind and from what its owner wrote
//! beside it. So the public half of an RSA key can never be taken for the secret of an HMAC, whatever the token says.

use std::fmt;

use p521::ecdsa::signature::Verifier as _;
use ring::{hmac, signature};

use super::algorithm::{Algorithm, Algorithms, Family};
use crate::secret::Secret;

/// Moduli above this take longer to check than a core may be held up.
const RSA_QUICK_BITS_MAX: usize = 4096;

/// One key, and what it is for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) kid: Option<String>,
    pub(crate) algorithms: Algorithms,
    pub(crate) material: Material,
}

/// The key itself. What is here has passed the checks of its kind.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Material {
    Secret(Secret),
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa {
        modulus: Box<[u8]>,
        exponent: Box<[u8]>,
    },
    /// Uncompressed points (SEC 1 section 2.3.3), on their curve.
    P256(Box<[u8]>),
    P384(Box<[u8]>),
    P521(Box<p521::ecdsa::VerifyingKey>),
    Ed25519([u8; 32]),
}

impl Material {
    /// The algorithms that a key of its kind can be used with.
    pub(crate) fn algorithms(&self) -> Algorithms {
        let family = match self {
            Self::Secret(secret) => {
                let is_long_enough = |algorithm: &Algorithm| {
                    algorithm.secret_bytes_min().is_some_and(|bytes_min| secret.expose().len() >= bytes_min)
                };
                return Algorithm::ALL.into_iter().filter(is_long_enough).collect();
            }
            Self::Rsa { .. } => Family::Rsa,
            Self::P256(_) => Family::P256,
            Self::P384(_) => Family::P384,
            Self::P521(_) => Family::P521,
            Self::Ed25519(_) => Family::Ed25519,
        };
        Algorithm::ALL.into_iter().filter(|algorithm| algorithm.family() == family).collect()
    }
}

impl Key {
    /// The secret of HS256, HS384 and HS512, as far as it is long enough.
    pub(crate) fn secret(secret: Secret) -> Self {
        let material = Material::Secret(secret);
        Self { kid: None, algorithms: material.algorithms(), material }
    }

    /// Whether `signature` is its owner's on `message`.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.algorithms.has(algorithm) {
            return false;
        }
        match &self.material {
            Material::Secret(secret) => algorithm.hmac().is_some_and(|hash| {
                let key = hmac::Key::new(hash, secret.expose());
                hmac::verify(&key, message, signature).is_ok()
            }),
            Material::Rsa { modulus, exponent } => algorithm.rsa().is_some_and(|parameters| {
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signature).is_ok()
            }),
            Material::P256(point) => ring(&signature::ECDSA_P256_SHA256_FIXED, point, message, signature),
            Material::P384(point) => ring(&signature::ECDSA_P384_SHA384_FIXED, point, message, signature),
            Material::P521(key) => match p521::ecdsa::Signature::from_slice(signature) {
                Ok(signature) => key.verify(message, &signature).is_ok(),
                Err(_) => false,
            },
            Material::Ed25519(key) => ring(&signature::ED25519, key, message, signature),
        }
    }

    /// Whether to check a signature with it takes longer than a core may be held up, which is 100 µs. Measured, in µs: RSA with
    /// 2048 bits 17, with 4096 bits 62, with 8192 bits 820; ES256 38, ES384 670, ES512 3,600, EdDSA 32.
    pub(crate) fn is_slow(&self) -> bool {
        match &self.material {
            Material::P384(_) | Material::P521(_) => true,
            Material::Rsa { modulus, .. } => modulus.len() * 8 > RSA_QUICK_BITS_MAX,
            Material::Secret(_) | Material::P256(_) | Material::Ed25519(_) => false,
        }
    }
}

fn ring(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

/// The name alone: a secret may be in it.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}
