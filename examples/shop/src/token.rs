//! Tokens: JSON Web Tokens (RFC 7519) signed with ES256 (RFC 7518, section 3.4), and the key set to check them with.
//!
//! The auth service signs. Checking is for the gateway, which finds what it needs in the published keys (RFC 7517).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock;
use crate::database;
use crate::random;
use crate::serve::StartError;

/// Whom the tokens are for.
const AUDIENCE: &str = "shop";
/// How long a login lasts.
pub(crate) const LIFETIME: Duration = Duration::from_secs(2 * 3600);

/// Who somebody is, as the auth service vouches for it.
#[derive(Serialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: String,
    /// Seconds since 1970, as RFC 7519 wants them.
    pub(crate) iat: i64,
    pub(crate) exp: i64,
    pub(crate) jti: String,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) roles: Vec<String>,
}

/// A set of public keys as it is published.
#[derive(Serialize)]
pub(crate) struct KeySet {
    keys: Vec<PublicKey>,
}

/// One public key on the curve P-256.
#[derive(Serialize)]
struct PublicKey {
    kty: String,
    crv: String,
    alg: String,
    r#use: String,
    kid: String,
    x: String,
    y: String,
}

/// Signs tokens. Its key never leaves it.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    kid: String,
}

impl Signer {
    /// Reads the key in `folder`, or makes one (file mode 0600). Instances that start together get the same one.
    pub(crate) fn load_or_create(folder: &Path) -> Result<Self, StartError> {
        let _lock = database::lock(folder, "signing-key")?;
        let file = folder.join("signing-key.p8");
        let key_error = |why: String| StartError::Key { file: file.display().to_string(), why };
        let pkcs8 = match std::fs::read(&file) {
            Ok(pkcs8) => pkcs8,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                create_key(&file).map_err(|error| key_error(error.to_string()))?
            }
            Err(error) => return Err(key_error(error.to_string())),
        };
        Self::from_pkcs8(&pkcs8).map_err(key_error)
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, String> {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        match EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()) {
            Ok(key) => Ok(Self { kid: thumbprint(&key), key }),
            Err(rejected) => Err(rejected.to_string()),
        }
    }

    /// A signed token that says `claims`.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid }).to_string();
        let claims = serde_json::to_vec(claims).expect("claims serialize to JSON");
        let mut token = format!("{}.{}", BASE64.encode(header.as_bytes()), BASE64.encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), token.as_bytes());
        let signature = signature.expect("signing with a sound key only needs randomness");
        token.push('.');
        token.push_str(&BASE64.encode(signature.as_ref()));
        token
    }

    /// What to publish so that others can check.
    pub(crate) fn key_set(&self) -> KeySet {
        let (x, y) = coordinates(&self.key);
        let (kty, crv, alg) = ("EC".into(), "P-256".into(), "ES256".into());
        KeySet { keys: vec![PublicKey { kty, crv, alg, r#use: "sig".into(), kid: self.kid.clone(), x, y }] }
    }
}

fn create_key(file: &Path) -> std::io::Result<Vec<u8>> {
    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
        .map_err(|_| std::io::Error::other("no randomness to make a key from"))?;
    // Written beside and renamed, so that a crash leaves no half key behind.
    let beside = file.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    out.write_all(pkcs8.as_ref())?;
    out.sync_all()?;
    std::fs::rename(&beside, file)?;
    Ok(pkcs8.as_ref().to_vec())
}

/// The public point's x and y, base64url: the uncompressed form is a 4, then 32 bytes each.
fn coordinates(key: &EcdsaKeyPair) -> (String, String) {
    let point = key.public_key().as_ref();
    (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..65]))
}

/// The key's name: its thumbprint (RFC 7638).
fn thumbprint(key: &EcdsaKeyPair) -> String {
    let (x, y) = coordinates(key);
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    BASE64.encode(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()).as_ref())
}

/// Claims for a person who just logged in.
pub(crate) fn claims_for(issuer: &str, id: &str, name: &str, email: &str) -> Claims {
    let iat = clock::wall_ms() / 1000;
    Claims {
        iss: issuer.to_owned(),
        sub: id.to_owned(),
        aud: AUDIENCE.to_owned(),
        iat,
        exp: iat + clock::millis(LIFETIME) / 1000,
        jti: random::id(),
        name: name.to_owned(),
        email: email.to_owned(),
        roles: vec!["customer".to_owned()],
    }
}

/// What OpenID Connect Discovery 1.0 wants to know, as far as the shop has it.
pub(crate) fn discovery(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "id_token_signing_alg_values_supported": ["ES256"],
        "subject_types_supported": ["public"],
        "response_types_supported": ["id_token"],
        "claims_supported": ["iss", "sub", "aud", "iat", "exp", "jti", "name", "email", "roles"],
    })
}

#[cfg(test)]
mod tests {
    use ring::signature::UnparsedPublicKey;

    use super::*;

    #[test]
    fn a_token_is_signed_with_the_key_that_is_published() {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let signer = Signer::from_pkcs8(pkcs8.as_ref()).unwrap();
        let token = signer.sign(&claims_for("http://shop", "7", "Ada", "ada@example.com"));
        let published = &signer.key_set().keys[0];
        let coordinate = |text: &String| BASE64.decode(text.as_bytes()).unwrap();
        let point = [vec![4], coordinate(&published.x), coordinate(&published.y)].concat();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
        assert!(key.verify(signed.as_bytes(), &BASE64.decode(signature.as_bytes()).unwrap()).is_ok());
        let header: Value =
            serde_json::from_slice(&coordinate(&signed.split('.').next().unwrap().to_owned())).unwrap();
        assert_eq!(
            (header["alg"].as_str(), header["kid"].as_str()),
            (Some("ES256"), Some(published.kid.as_str()))
        );
    }
}
