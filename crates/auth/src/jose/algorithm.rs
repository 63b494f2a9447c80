//! The algorithms of signatures that are taken (RFC 7518 section 3.1, RFC 8037 section 3.1), and sets of them.

use ring::{digest, hmac, signature};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the algorithm of that name")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    /// Ed25519, called `EdDSA` (RFC 8037) or `Ed25519` (RFC 9864).
    EdDsa,
}

use Algorithm::{EdDsa, Es256, Es384, Es512, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};

/// What kind of key an algorithm takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Secret,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 13] =
        [Hs256, Hs384, Hs512, Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, Es512, EdDsa];

    /// The algorithm of that name. `none` is none, in whatever case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(EdDsa),
            _ => Self::ALL.into_iter().find(|algorithm| algorithm.name() == name),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Hs256 => "HS256",
            Hs384 => "HS384",
            Hs512 => "HS512",
            Rs256 => "RS256",
            Rs384 => "RS384",
            Rs512 => "RS512",
            Ps256 => "PS256",
            Ps384 => "PS384",
            Ps512 => "PS512",
            Es256 => "ES256",
            Es384 => "ES384",
            Es512 => "ES512",
            EdDsa => "EdDSA",
        }
    }

    /// Whether who checks could sign as well.
    #[must_use]
    pub fn is_symmetric(self) -> bool {
        matches!(self, Hs256 | Hs384 | Hs512)
    }

    pub(crate) fn family(self) -> Family {
        match self {
            Hs256 | Hs384 | Hs512 => Family::Secret,
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => Family::Rsa,
            Es256 => Family::P256,
            Es384 => Family::P384,
            Es512 => Family::P521,
            EdDsa => Family::Ed25519,
        }
    }

    pub(crate) fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Hs256 => Some(hmac::HMAC_SHA256),
            Hs384 => Some(hmac::HMAC_SHA384),
            Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    pub(crate) fn rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }

    /// A shorter secret is weaker than its hash, and not to be used (RFC 7518 section 3.2).
    pub(crate) fn secret_bytes_min(self) -> Option<usize> {
        let hash = match self {
            Hs256 => &digest::SHA256,
            Hs384 => &digest::SHA384,
            Hs512 => &digest::SHA512,
            _ => return None,
        };
        Some(hash.output_len())
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Algorithms(u16);

impl Algorithms {
    /// All with a key that may be known to everybody.
    #[must_use]
    pub fn asymmetric() -> Self {
        Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()).collect()
    }

    /// All with a secret.
    #[must_use]
    pub fn symmetric() -> Self {
        Algorithm::ALL.into_iter().filter(|algorithm| algorithm.is_symmetric()).collect()
    }

    /// Whether that one is in it.
    #[must_use]
    pub fn has(self, algorithm: Algorithm) -> bool {
        self.0 & algorithm.bit() != 0
    }

    /// Whether there is none in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(list: I) -> Self {
        Self(list.into_iter().fold(0, |bits, algorithm| bits | algorithm.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_is_known_by_its_name_alone() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
            let is_public = Algorithms::asymmetric().has(algorithm);
            assert_eq!(
                (is_public, Algorithms::symmetric().has(algorithm)),
                (!algorithm.is_symmetric(), !is_public)
            );
        }
        for name in [
            "none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "HS1", "ES256K", "RS1", "RSA-OAEP",
            "Ed448",
        ] {
            assert_eq!(Algorithm::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn sets_are_sets() {
        let some: Algorithms = [Rs256, EdDsa].into_iter().collect();
        assert!(some.has(EdDsa) && !some.has(Es256) && !some.is_empty());
        assert!(some.and(Algorithms::symmetric()).is_empty());
    }
}
