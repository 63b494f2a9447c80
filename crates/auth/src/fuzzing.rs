//! What the fuzzers call: the doors through which text of strangers comes in, and what must hold of whatever comes.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::certificate::{ClientCertificate, NamePattern};
use crate::claims::{self, Expected};
use crate::discovery;
use crate::jose::compact::{Compact, TOKEN_BYTES_MAX};
use crate::jose::{Algorithm, Algorithms};
use crate::jwk::{KEYS_MAX, KeySet};
use crate::users::Users;

/// A key of each kind that a published set may hold (RFC 7515 appendix A, RFC 8037 appendix A).
const KEYS: &str = r#"{"keys":[
    {"kty":"RSA","kid":"a","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
    {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    {"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// A token: what is read of it can be written in one way only, and none of the examples' keys has signed it, unless it is an
/// example.
///
/// # Panics
/// When that does not hold.
pub fn token(data: &[u8]) {
    let Ok(read) = Compact::parse(data) else { return };
    assert!(data.len() <= TOKEN_BYTES_MAX);
    assert!(data.starts_with(read.signed), "what was signed is the beginning of the token");
    let [payload, signature] = [&read.payload, &read.signature].map(|bytes| BASE64URL_NOPAD.encode(bytes));
    let written = format!(".{payload}.{signature}");
    assert!(data.ends_with(written.as_bytes()), "there is one way to write it");
    let keys = KeySet::parse(KEYS.as_bytes()).expect("invariant: these are the examples' keys");
    let candidates: Vec<_> = keys.candidates(read.algorithm, read.kid.as_deref()).collect();
    let is_good = candidates.iter().any(|key| key.verifies(read.algorithm, read.signed, &read.signature));
    assert!(!is_good || is_example(&read.payload), "a forged signature");
    claims(&read.payload);
}

/// Claims: whoever comes of them has bounded grants and an end that is not past.
///
/// # Panics
/// When that does not hold.
pub fn claims(data: &[u8]) {
    let Ok(claims) = claims::parse(data) else { return };
    let expected = Expected {
        issuer: claims::issuer(&claims).unwrap_or_default().to_owned(),
        audience: None,
        leeway: Duration::from_secs(60),
        roles: "roles".to_owned(),
    };
    let wall = Duration::from_secs(1_300_000_000);
    if let Ok(identity) = claims::identify(claims, &expected, wall) {
        assert!(identity.roles.len() <= 256 && identity.scopes.len() <= 256);
        assert!(identity.expires.is_some_and(|end| end > wall), "it ends, and not before it begins");
    }
}

fn is_example(payload: &[u8]) -> bool {
    payload == b"Example of Ed25519 signing" || payload.starts_with(b"{\"iss\":\"joe\",\r\n")
}

/// A set of keys: what can be used of it is within bounds, holds no secret, and vouches for nothing that is not signed.
///
/// # Panics
/// When that does not hold.
pub fn key_set(data: &[u8]) {
    let Ok(set) = KeySet::parse(data) else { return };
    assert!((1..=KEYS_MAX).contains(&set.keys().len()));
    assert!(set.has_all_of(&set));
    for key in set.keys() {
        assert!(
            !key.algorithms.is_empty() && key.algorithms.and(Algorithms::symmetric()).is_empty(),
            "no secret"
        );
    }
    for algorithm in Algorithm::ALL {
        let mut candidates = set.candidates(algorithm, None);
        assert!(set.candidates(algorithm, None).count() <= 4, "a token is tried with a few keys");
        if let Some(key) = candidates.next() {
            assert!(
                !key.verifies(algorithm, b"message", &[0; 64]) && !key.verifies(algorithm, b"message", b"")
            );
        }
    }
}

/// What an issuer says of itself: it is the issuer asked for, and leads nobody from TLS to where there is none.
///
/// # Panics
/// When that does not hold.
pub fn discovery(data: &[u8]) {
    let issuer = "https://id.example.com";
    let Ok(found) = discovery::read(issuer, data) else { return };
    let all = [Some(found.keys), found.authorize, found.token, found.introspect, found.end_session];
    assert!(all.iter().flatten().all(|url| url.starts_with("https://")));
}

/// A client's certificate: what is read of it is bounded and plain text, and stands for somebody if it has a name.
///
/// # Panics
/// When that does not hold.
pub fn certificate(data: &[u8]) {
    let Ok(certificate) = ClientCertificate::read(data) else { return };
    let found = certificate.identity(&[NamePattern::Any]);
    let Some(identity) = found else { return };
    let is_plain = identity.subject.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(is_plain && (1..=1024).contains(&identity.subject.len()), "{:?}", identity.subject);
    let exact = NamePattern::parse(&identity.subject);
    if let Ok(exact) = exact {
        assert!(certificate.identity(&[exact]).is_some(), "a name fits itself");
    }
}

/// A list of users: one that is taken keeps its bounds, and shows no hash.
///
/// # Panics
/// When that does not hold.
pub fn users(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Users::parse("fuzzed", text) {
        Ok(users) => {
            assert!(users.len() <= text.lines().count());
            assert_eq!(users.is_empty(), users.decoy(7).is_none());
            assert!(!format!("{users:?}").contains('$'));
        }
        Err(errors) => assert!(errors.iter().all(|error| (1..=text.lines().count()).contains(&error.line))),
    }
}

/// An API key, and a name with its password: what is taken is whole, and changed anywhere it is not.
///
/// # Panics
/// When that does not hold.
pub fn credentials(data: &[u8]) {
    if let Ok(id) = crate::keys::read_text(data) {
        assert_eq!(data.len(), 65);
        assert_eq!(&data[3..15], &id[..]);
        for at in 3..data.len() {
            let mut changed = data.to_vec();
            changed[at] ^= 1;
            assert!(crate::keys::read_text(&changed).is_err(), "changed at {at}");
        }
    }
    if let Some((name, password)) = crate::basic::read(data) {
        assert!(name.len() <= 256 && password.len() <= 1024 && !name.chars().any(char::is_control));
        let written = BASE64.encode(&[name.as_bytes(), b":", &password].concat());
        assert_eq!(written.as_bytes(), data, "there is one way to write it");
    }
}

/// What a browser brings to a login: cookies that nobody sealed open nothing, no place is off the host, and a query is read as it is
/// written.
///
/// # Panics
/// When that does not hold.
pub fn browser(data: &[u8]) {
    let mut fields = terrace_http::Fields::new();
    fields.append(b"cookie", data);
    assert!(crate::login::opens_nothing(&fields), "a forged session");
    let Ok(text) = std::str::from_utf8(data) else { return };
    let place = crate::login::place_of(text);
    assert!(place.starts_with('/') && !place.starts_with("//") && !place.contains('\\'), "{place:?}");
    assert!(place.bytes().all(|byte| byte.is_ascii_graphic()), "{place:?}");
    crate::form::reads_as_written(text);
}
