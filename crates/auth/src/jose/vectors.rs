//! The examples of the standards: every token of RFC 7515 appendix A, RFC 7519, RFC 7520 section 4, RFC 7797 and RFC 8037, and
//! every key of RFC 7517 and RFC 7520 section 3. What has no compact form there is put into one where it has a protected header.

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::base64;
use super::compact::Compact;
use super::key::Key;
use crate::jwk::{KeySet, SetError, read_key};
use crate::secret::Secret;

fn list(text: &str) -> Vec<Map<String, Value>> {
    serde_json::from_str(text).expect("a list of objects")
}

/// A secret is one here, where no set is published.
fn key(value: &Value) -> Key {
    let value = value.as_object().expect("a key");
    match value.get("k").and_then(Value::as_str) {
        Some(text) => Key::secret(Secret::new(base64::decode(text.as_bytes()).expect("base64url"))),
        None => read_key(value).expect("a usable key"),
    }
}

fn verdict(vector: &Map<String, Value>, token: &[u8]) -> String {
    let read = match Compact::parse(token) {
        Ok(read) => read,
        Err(error) => return error.reason().to_owned(),
    };
    let verifies = key(&vector["key"]).verifies(read.algorithm, read.signed, &read.signature);
    if verifies { "verified".to_owned() } else { "refused".to_owned() }
}

#[test]
fn every_token_of_the_standards_gets_its_verdict() {
    for vector in list(include_str!("../../tests/vectors/tokens.json")) {
        let (section, token) = (&vector["section"], vector["token"].as_str().expect("a token"));
        assert_eq!(verdict(&vector, token.as_bytes()), vector["verdict"], "{section}");
        let Some(payload) = vector["payload"].as_str() else { continue };
        let read = Compact::parse(token.as_bytes()).expect("verified");
        assert_eq!(Some(read.payload), base64::decode(payload.as_bytes()), "{section}");
    }
}

#[test]
fn no_token_of_the_standards_survives_a_changed_letter() {
    let signed = |vector: &Map<String, Value>| !vector["key"].is_null();
    for vector in list(include_str!("../../tests/vectors/tokens.json")).into_iter().filter(signed) {
        let token = vector["token"].as_str().expect("a token").as_bytes();
        for at in (0..token.len()).step_by(3) {
            let mut changed = token.to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_ne!(verdict(&vector, &changed), "verified", "{} at {at}", vector["section"]);
        }
    }
}

#[test]
fn a_key_that_is_for_another_algorithm_verifies_nothing() {
    for vector in list(include_str!("../../tests/vectors/tokens.json")) {
        let Ok(read) = Compact::parse(vector["token"].as_str().expect("a token").as_bytes()) else {
            continue;
        };
        let other = Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != read.algorithm);
        let key = Key { algorithms: other.collect(), ..key(&vector["key"]) };
        assert!(!key.verifies(read.algorithm, read.signed, &read.signature), "{}", vector["section"]);
    }
}

#[test]
fn rfc7518_3_2_a_secret_is_for_hashes_that_are_no_longer() {
    let names = |bytes: usize| {
        let key = Key::secret(Secret::new(vec![7; bytes]));
        Algorithm::ALL
            .into_iter()
            .filter(|algorithm| key.algorithms.has(*algorithm))
            .map(Algorithm::name)
            .collect()
    };
    let expected: [(usize, &[&str]); 5] = [
        (0, &[]),
        (31, &[]),
        (32, &["HS256"]),
        (63, &["HS256", "HS384"]),
        (64, &["HS256", "HS384", "HS512"]),
    ];
    for (bytes, algorithms) in expected {
        let found: Vec<&str> = names(bytes);
        assert_eq!(found, algorithms, "{bytes} bytes");
    }
}

#[test]
fn every_key_set_of_the_standards_gives_its_usable_keys() {
    for vector in list(include_str!("../../tests/vectors/sets.json")) {
        let section = &vector["section"];
        let set = KeySet::parse(vector["set"].to_string().as_bytes());
        let Some(kids) = vector["kids"].as_array() else {
            assert!(matches!(set, Err(SetError::Unusable(_))), "{section}: {set:?}");
            continue;
        };
        let set = set.unwrap_or_else(|error| panic!("{section}: {error}"));
        let found: Vec<Value> = set.keys().iter().map(|key| Value::from(key.kid.clone())).collect();
        assert_eq!(
            (&found, set.passed_over().map_or(0, |(count, _)| count)),
            (kids, vector["passed_over"].as_u64().expect("a number") as usize),
            "{section}"
        );
    }
}
