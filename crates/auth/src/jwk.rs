//! Sets of keys as authorities publish them (RFC 7517): which of them can be used, and which of them is meant.
//!
//! A set is somebody else's, and may hold what we have no use for: keys to encrypt with, curves that nobody here knows. Those are
//! passed over, for a set with one odd key must not lock everybody out; but what is weak or malformed is passed over as well, and is told
//! to whoever runs the app. Secrets in a published set are none, so `oct` is never taken from one.

use serde_json::{Map, Value};

use crate::jose::algorithm::{Algorithm, Algorithms};
use crate::jose::base64;
use crate::jose::json;
use crate::jose::key::{Key, Material};

/// A larger set is refused.
pub(crate) const SET_BYTES_MAX: usize = 512 << 10;
/// More keys are refused.
pub(crate) const KEYS_MAX: usize = 256;
/// So many keys are tried on a token that names none.
const TRIES_MAX: usize = 4;

const SET_BOUNDS: json::Bounds = json::Bounds { depth_max: 6, values_max: 64 * KEYS_MAX };
/// 2048 bits: less is refused by RFC 7518 section 3.3.
const MODULUS_BYTES_MIN: usize = 256;
const MODULUS_BYTES_MAX: usize = 1024;
/// More bytes are not missing in front of a coordinate, but for one in four billion.
const ZEROS_MAX: usize = 4;
/// Exponents below 65,537 have been the ground of forgeries, and FIPS 186-5 section A.1.1 has none.
const EXPONENT_MIN: u64 = 65_537;
/// A larger one makes each check slow; ring takes none above 33 bits.
const EXPONENT_MAX: u64 = (1 << 33) - 1;

/// Why a set is none; whoever publishes it has to put it right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetError {
    #[error("the key set is larger than {SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the key set is no JSON object with each name once")]
    Json,
    #[error("the key set has no list of `keys`")]
    NoKeys,
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("no key of the set can be used: {0}")]
    Unusable(String),
}

/// Why a key is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("it is not for signatures")]
    OtherUse,
    #[error("it is of a kind or for an algorithm that is not taken")]
    Kind,
    #[error("it is a secret, which no published set can hold")]
    Secret,
    #[error("a part of it is missing or malformed")]
    Malformed,
    #[error("an RSA key must have 2048 to 8192 bits")]
    RsaSize,
    #[error("its exponent is even, too small or too large")]
    RsaExponent,
    #[error("its point is not on the curve")]
    NotOnCurve,
}

/// The usable keys of a set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// How many were passed over, and why the first was.
    passed_over: Option<(usize, KeyError)>,
}

impl KeySet {
    /// A set of one secret.
    pub(crate) fn of(key: Key) -> Self {
        Self { keys: vec![key], passed_over: None }
    }

    /// Reads a set of public keys (RFC 7517 section 5).
    pub(crate) fn parse(text: &[u8]) -> Result<Self, SetError> {
        if text.len() > SET_BYTES_MAX {
            return Err(SetError::TooLarge);
        }
        let set = json::object(text, SET_BOUNDS).ok_or(SetError::Json)?;
        let Some(Value::Array(list)) = set.get("keys") else { return Err(SetError::NoKeys) };
        if list.len() > KEYS_MAX {
            return Err(SetError::TooMany);
        }
        let mut found = Self::default();
        for value in list {
            let key = value.as_object().ok_or(KeyError::Malformed).and_then(read_key);
            match (key, &mut found.passed_over) {
                (Ok(key), _) => found.keys.push(key),
                (Err(_), Some((count, _))) => *count += 1,
                (Err(why), none) => *none = Some((1, why)),
            }
        }
        match (found.keys.is_empty(), found.passed_over) {
            (false, _) => Ok(found),
            (true, Some((_, why))) => Err(SetError::Unusable(why.to_string())),
            (true, None) => Err(SetError::Unusable("it is empty".to_owned())),
        }
    }

    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// How many keys were passed over, and why the first was.
    pub(crate) fn passed_over(&self) -> Option<(usize, KeyError)> {
        self.passed_over
    }

    /// The keys that may have signed a token: those of its `kid`; where none is so called, those that have no name; for a
    /// token that names no key, all. In each case only those for its algorithm, and not many.
    pub(crate) fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> impl Iterator<Item = &'a Key> {
        let fits = move |key: &&Key| key.algorithms.has(algorithm);
        let is_known = kid.is_some() && self.keys.iter().filter(fits).any(|key| key.kid.as_deref() == kid);
        let (wanted, any) = (if is_known { kid } else { None }, kid.is_none());
        self.keys.iter().filter(fits).filter(move |key| any || key.kid.as_deref() == wanted).take(TRIES_MAX)
    }

    /// Whether every key that was in `before` is in here, so that what those vouched for still holds.
    pub(crate) fn has_all_of(&self, before: &Self) -> bool {
        before.keys.iter().all(|key| self.keys.contains(key))
    }
}

/// One key (RFC 7517 section 4). Members that are not known mean nothing; of a private key the public half is taken.
pub(crate) fn read_key(key: &Map<String, Value>) -> Result<Key, KeyError> {
    let text = |name: &str| match key.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(KeyError::Malformed),
    };
    if text("use")?.is_some_and(|purpose| purpose != "sig") || !may_verify(key.get("key_ops"))? {
        return Err(KeyError::OtherUse);
    }
    let material = match (text("kty")?, text("crv")?) {
        (Some("RSA"), _) => rsa(key)?,
        (Some("EC"), Some("P-256")) => Material::P256(coordinates(key, 32)?),
        (Some("EC"), Some("P-384")) => Material::P384(coordinates(key, 48)?),
        (Some("EC"), Some("P-521")) => p521(key)?,
        (Some("OKP"), Some("Ed25519")) => Material::Ed25519(ed25519(key)?),
        (Some("oct"), _) => return Err(KeyError::Secret),
        (Some(_), _) => return Err(KeyError::Kind),
        (None, _) => return Err(KeyError::Malformed),
    };
    let algorithms = match text("alg")? {
        None => material.algorithms(),
        Some(name) => {
            let named: Algorithms = Algorithm::parse(name).into_iter().collect();
            material.algorithms().and(named)
        }
    };
    if algorithms.is_empty() {
        return Err(KeyError::Kind);
    }
    Ok(Key { kid: text("kid")?.map(str::to_owned), algorithms, material })
}

/// `key_ops` (RFC 7517 section 4.3), where it is there, must name the checking of signatures.
fn may_verify(operations: Option<&Value>) -> Result<bool, KeyError> {
    match operations {
        None => Ok(true),
        Some(Value::Array(list)) => Ok(list.iter().any(|operation| operation == "verify")),
        Some(_) => Err(KeyError::Malformed),
    }
}

fn bytes(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyError> {
    let text = key.get(name).and_then(Value::as_str).ok_or(KeyError::Malformed)?;
    base64::decode(text.as_bytes()).ok_or(KeyError::Malformed)
}

/// RFC 7518 section 6.3.1.
fn rsa(key: &Map<String, Value>) -> Result<Material, KeyError> {
    let (modulus, exponent) = (bytes(key, "n")?, bytes(key, "e")?);
    // Some write a zero in front, as ASN.1 does; the number is the same.
    let (modulus, exponent) = (without_zeros(&modulus), without_zeros(&exponent));
    let has_its_bits =
        modulus.len() > MODULUS_BYTES_MIN || modulus.len() == MODULUS_BYTES_MIN && modulus[0] & 0x80 != 0;
    if !has_its_bits || modulus.len() > MODULUS_BYTES_MAX {
        return Err(KeyError::RsaSize);
    }
    if modulus.last().is_none_or(|last| last & 1 == 0) {
        return Err(KeyError::Malformed);
    }
    if exponent.len() > 8 {
        return Err(KeyError::RsaExponent);
    }
    let number = exponent.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    if !(EXPONENT_MIN..=EXPONENT_MAX).contains(&number) || number & 1 == 0 {
        return Err(KeyError::RsaExponent);
    }
    Ok(Material::Rsa { modulus: modulus.into(), exponent: exponent.into() })
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// RFC 7518 section 6.2.1. A point that is not on its curve is refused by ring at each check, so that such a key vouches for
/// nothing.
fn coordinates(key: &Map<String, Value>, bytes_each: usize) -> Result<Box<[u8]>, KeyError> {
    let mut point = vec![4];
    for name in ["x", "y"] {
        let number = bytes(key, name)?;
        // Each has the full size of the field; but some (Authlib) leave out zeros in front, and it is the same number.
        let zeros = bytes_each.checked_sub(number.len()).ok_or(KeyError::Malformed)?;
        if zeros > ZEROS_MAX {
            return Err(KeyError::Malformed);
        }
        point.resize(point.len() + zeros, 0);
        point.extend(number);
    }
    Ok(point.into())
}

/// RFC 8037 section 2.
fn ed25519(key: &Map<String, Value>) -> Result<[u8; 32], KeyError> {
    bytes(key, "x")?.try_into().map_err(|_| KeyError::Malformed)
}

fn p521(key: &Map<String, Value>) -> Result<Material, KeyError> {
    let point = coordinates(key, 66)?;
    match p521::ecdsa::VerifyingKey::from_sec1_bytes(&point) {
        Ok(key) => Ok(Material::P521(Box::new(key))),
        Err(_) => Err(KeyError::NotOnCurve),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = r#""kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw""#;
    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    fn key(members: &str) -> Result<Key, KeyError> {
        let value: Value = serde_json::from_str(&format!("{{{members}}}")).expect("JSON");
        read_key(value.as_object().expect("an object"))
    }

    fn set(keys: &[String]) -> Result<KeySet, SetError> {
        let keys: Vec<String> = keys.iter().map(|members| format!("{{{members}}}")).collect();
        KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
    }

    #[test]
    fn rfc7517_4_a_key_is_used_for_what_its_owner_says() {
        let rsa = |more: &str| key(&format!(r#"{RSA},"e":"AQAB"{more}"#)).map(|key| key.algorithms);
        let all = rsa("").expect("usable");
        assert!(all.has(Algorithm::Rs256) && all.has(Algorithm::Ps512) && !all.has(Algorithm::Hs256));
        let one = rsa(r#","alg":"PS384","use":"sig","key_ops":["verify"]"#).expect("usable");
        assert!(one.has(Algorithm::Ps384) && !one.has(Algorithm::Rs256));
        for other in [
            r#","use":"enc""#,
            r#","key_ops":["sign"]"#,
            r#","key_ops":[]"#,
            r#","key_ops":["encrypt","wrapKey"]"#,
        ] {
            assert_eq!(rsa(other), Err(KeyError::OtherUse), "{other}");
        }
        for other in [r#","alg":"RSA-OAEP""#, r#","alg":"HS256""#, r#","alg":"ES256""#, r#","alg":"none""#] {
            assert_eq!(rsa(other), Err(KeyError::Kind), "{other}");
        }
        for wrong in [r#","use":7"#, r#","key_ops":"verify""#, r#","kid":7"#, r#","alg":null"#] {
            assert_eq!(rsa(wrong), Err(KeyError::Malformed), "{wrong}");
        }
    }

    #[test]
    fn rfc7518_6_weak_and_malformed_keys_are_passed_over() {
        for (exponent, expected) in [
            ("AQAB", Ok(())),
            ("AAEAAQ", Ok(())),
            ("Aw", Err(KeyError::RsaExponent)),
            ("AQ", Err(KeyError::RsaExponent)),
            ("", Err(KeyError::RsaExponent)),
            ("AQAC", Err(KeyError::RsaExponent)),
            ("AQAA", Err(KeyError::RsaExponent)),
            ("EQ", Err(KeyError::RsaExponent)),
            ("AgAAAAE", Err(KeyError::RsaExponent)),
            ("AQAAAAAAAAAB", Err(KeyError::RsaExponent)),
            ("AQAB=", Err(KeyError::Malformed)),
        ] {
            assert_eq!(key(&format!(r#"{RSA},"e":"{exponent}""#)).map(|_| ()), expected, "{exponent}");
        }
        let modulus = |bytes: usize, first: u8, last: u8| {
            let mut modulus = vec![0xaa; bytes];
            (modulus[0], modulus[bytes - 1]) = (first, last);
            let text = data_encoding::BASE64URL_NOPAD.encode(&modulus);
            key(&format!(r#""kty":"RSA","n":"{text}","e":"AQAB""#)).map(|_| ())
        };
        assert_eq!(modulus(256, 0x80, 1), Ok(()));
        assert_eq!(modulus(256, 0x7f, 1), Err(KeyError::RsaSize), "2047 bits");
        assert_eq!(modulus(257, 0, 1), Ok(()), "a zero in front");
        assert_eq!(
            (modulus(128, 0xff, 1), modulus(1025, 1, 1)),
            (Err(KeyError::RsaSize), Err(KeyError::RsaSize))
        );
        assert_eq!(modulus(256, 0x80, 2), Err(KeyError::Malformed), "even");
        assert_eq!(key(EC).map(|_| ()), Ok(()));
        for wrong in [
            r#""kty":"EC","crv":"P-256","x":"AA","y":"AA""#,
            r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU""#,
            r#""kty":"OKP","crv":"Ed25519","x":"AA""#,
            r#""kty":"OKP","crv":"Ed25519""#,
            "",
        ] {
            assert_eq!(key(wrong).map(|_| ()), Err(KeyError::Malformed), "{wrong}");
        }
        for kind in [
            r#""kty":"EC","crv":"secp256k1""#,
            r#""kty":"OKP","crv":"Ed448""#,
            r#""kty":"AKP""#,
            r#""kty":"rsa""#,
        ] {
            assert_eq!(key(kind).map(|_| ()), Err(KeyError::Kind), "{kind}");
        }
        assert_eq!(key(r#""kty":"oct","k":"c2VjcmV0""#).map(|_| ()), Err(KeyError::Secret));
        let off = data_encoding::BASE64URL_NOPAD.encode(&[1; 66]);
        let off = format!(r#""kty":"EC","crv":"P-521","x":"{off}","y":"{off}""#);
        assert_eq!(key(&off).map(|_| ()), Err(KeyError::NotOnCurve));
    }

    #[test]
    fn rfc7517_5_a_set_with_an_odd_key_is_used_without_it() {
        let good = format!(r#"{EC},"kid":"a""#);
        let found = set(&[
            r#""kty":"AKP","alg":"ML-DSA-44""#.to_owned(),
            good.clone(),
            r#""kty":"oct","k":"AA""#.to_owned(),
        ])
        .expect("usable");
        assert_eq!((found.keys().len(), found.passed_over()), (1, Some((2, KeyError::Kind))));
        assert!(matches!(set(&[]), Err(SetError::Unusable(_))));
        assert_eq!(
            KeySet::parse(br#"{"keys":[1]}"#),
            Err(SetError::Unusable(KeyError::Malformed.to_string()))
        );
        for (text, expected) in [
            ("", SetError::Json),
            ("[]", SetError::Json),
            ("<html>", SetError::Json),
            ("{}", SetError::NoKeys),
            (r#"{"keys":{}}"#, SetError::NoKeys),
            (r#"{"keys":[],"keys":[]}"#, SetError::Json),
        ] {
            assert_eq!(KeySet::parse(text.as_bytes()), Err(expected), "{text}");
        }
        assert_eq!(set(&vec![good.clone(); KEYS_MAX + 1]), Err(SetError::TooMany));
        assert_eq!(set(&vec![good; KEYS_MAX]).map(|set| set.keys().len()), Ok(KEYS_MAX));
        assert_eq!(KeySet::parse(&vec![b' '; SET_BYTES_MAX + 1]), Err(SetError::TooLarge));
    }

    #[test]
    fn a_token_is_tried_with_the_key_it_names_or_with_a_few() {
        let rsa = format!(r#"{RSA},"e":"AQAB""#);
        let found =
            set(&[format!(r#"{EC},"kid":"a""#), format!(r#"{EC},"kid":"b""#), format!(r#"{rsa},"kid":"a""#)])
                .expect("usable");
        let count = |algorithm, kid| found.candidates(algorithm, kid).count();
        assert_eq!((count(Algorithm::Es256, Some("a")), count(Algorithm::Rs256, Some("a"))), (1, 1));
        assert_eq!((count(Algorithm::Es256, Some("c")), count(Algorithm::Rs256, Some("b"))), (0, 0));
        assert_eq!((count(Algorithm::Es256, None), count(Algorithm::Es384, None)), (2, 0));
        let nameless = set(&vec![EC.to_owned(); KEYS_MAX]).expect("usable");
        assert_eq!(nameless.candidates(Algorithm::Es256, Some("x")).count(), TRIES_MAX);
        assert_eq!(nameless.candidates(Algorithm::Es256, None).count(), TRIES_MAX);
    }
}
