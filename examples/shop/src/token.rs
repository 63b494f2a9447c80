//! Tokens: JSON Web Tokens (RFC 7519) signed with ES256 (RFC 7518, section 3.4), and the key set to check them with.
//!
//! The auth service signs; everybody else checks with its published keys (RFC 7517) and asks it nothing per request.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Neighbour;
use crate::clock;
use crate::database;
use crate::log;
use crate::problem::Problem;
use crate::random;
use crate::serve::StartError;

/// Whom the tokens are for.
pub(crate) const AUDIENCE: &str = "shop";
/// How long a login lasts.
pub(crate) const LIFETIME: Duration = Duration::from_secs(2 * 3600);
/// Longer tokens are not even looked at.
const TOKEN_BYTES_MAX: usize = 4096;
/// Published keys are looked up again after this long …
const KEYS_FRESH_FOR: Duration = Duration::from_secs(300);
/// … and for an unknown key at most this often, so that made-up tokens cannot hammer the auth service.
const KEYS_PAUSE: Duration = Duration::from_secs(1);

/// Who somebody is, as the auth service vouches for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// A set of public keys as it is published.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<PublicKey>,
}

/// One public key on the curve P-256.
#[derive(Debug, Serialize, Deserialize)]
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

/// Public points by key name.
type Points = HashMap<String, Vec<u8>>;

impl KeySet {
    /// The keys that can be used here; others are left out.
    fn points(&self) -> Points {
        let mut points = Points::new();
        for key in self.keys.iter().filter(|key| key.kty == "EC" && key.crv == "P-256").take(16) {
            let decoded = (BASE64.decode(key.x.as_bytes()), BASE64.decode(key.y.as_bytes()));
            if let (Ok(x), Ok(y)) = decoded {
                points.insert(key.kid.clone(), [&[4], x.as_slice(), y.as_slice()].concat());
            }
        }
        points
    }
}

/// A token that may be true; its parts.
struct Parts<'a> {
    signed: &'a str,
    kid: String,
    claims: Claims,
    signature: Vec<u8>,
}

/// Takes a token apart without believing any of it. Only ES256 is understood, so that no token can choose a weaker
/// algorithm (RFC 8725, section 3.1).
fn take_apart(token: &str) -> Option<Parts<'_>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&BASE64.decode(header.as_bytes()).ok()?).ok()?;
    let claims: Claims = serde_json::from_slice(&BASE64.decode(claims.as_bytes()).ok()?).ok()?;
    let signature = BASE64.decode(signature.as_bytes()).ok()?;
    (header.alg == "ES256").then_some(Parts { signed, kid: header.kid, claims, signature })
}

fn is_genuine(parts: &Parts<'_>, point: &[u8], issuer: &str, now_s: i64) -> bool {
    let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
    key.verify(parts.signed.as_bytes(), &parts.signature).is_ok()
        && parts.claims.iss == issuer
        && parts.claims.aud == AUDIENCE
        && parts.claims.exp > now_s
}

/// Checks tokens with the auth service's published keys, which it keeps.
#[derive(Clone)]
pub(crate) struct KeyRing {
    auth: Neighbour,
    issuer: String,
    kept: Arc<Mutex<Kept>>,
    /// Held while asking, so that one request asks and the others wait for its answer.
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Kept {
    points: Points,
    asked: Option<Instant>,
    /// Why the last asking failed.
    trouble: Option<Problem>,
}

impl KeyRing {
    /// Keys of `auth`, whose tokens name `issuer`.
    pub(crate) fn new(auth: Neighbour, issuer: String) -> Self {
        Self { auth, issuer, kept: Arc::default(), asking: Arc::default() }
    }

    /// Who the bearer of `token` is.
    ///
    /// `Ok(None)`: nobody we know (made up, expired). An error: it cannot be told now, for want of keys.
    pub(crate) async fn check(&self, token: &str) -> Result<Option<Claims>, Problem> {
        let Some(parts) = take_apart(token) else { return Ok(None) };
        let Some(point) = self.point(&parts.kid).await? else { return Ok(None) };
        let now_s = clock::wall_ms() / 1000;
        Ok(is_genuine(&parts, &point, &self.issuer, now_s).then_some(parts.claims))
    }

    async fn point(&self, kid: &str) -> Result<Option<Vec<u8>>, Problem> {
        let (known, due) = self.look_up(kid);
        if known.is_some() {
            if due {
                self.refresh_behind();
            }
            return Ok(known);
        }
        let _asking = self.asking.lock().await;
        let (known, due) = self.look_up(kid);
        match known {
            Some(point) => Ok(Some(point)),
            None if due => {
                self.ask().await?;
                Ok(self.look_up(kid).0)
            }
            None => match self.lock().trouble.clone() {
                Some(trouble) => Err(trouble),
                None => Ok(None),
            },
        }
    }

    /// The key if it is kept, and whether it is time to ask again.
    fn look_up(&self, kid: &str) -> (Option<Vec<u8>>, bool) {
        let kept = self.lock();
        let point = kept.points.get(kid).cloned();
        let pause = if point.is_some() { KEYS_FRESH_FOR } else { KEYS_PAUSE };
        (point, kept.asked.is_none_or(|asked| asked.elapsed() >= pause))
    }

    /// A known key goes on being good while newer ones are fetched, so nobody waits or is locked out meanwhile.
    fn refresh_behind(&self) {
        self.lock().asked = Some(clock::now());
        let ring = self.clone();
        tokio::spawn(async move {
            if let Err(problem) = ring.ask().await {
                log::warn("keys.stale", json!({ "why": problem.detail }));
            }
        });
    }

    async fn ask(&self) -> Result<(), Problem> {
        let answer = self.auth.get("/.well-known/jwks.json").fetch::<KeySet>().await;
        let mut kept = self.lock();
        kept.asked = Some(clock::now());
        match answer {
            Ok(set) => {
                kept.points = set.points();
                kept.trouble = None;
                Ok(())
            }
            Err(problem) => {
                kept.trouble = Some(problem.clone());
                Err(problem)
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics while holding the keys")
    }
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
    use super::*;

    fn signer() -> Signer {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        Signer::from_pkcs8(pkcs8.as_ref()).unwrap()
    }

    fn genuine(signer: &Signer, token: &str, issuer: &str, now_s: i64) -> bool {
        let points = signer.key_set().points();
        match take_apart(token) {
            Some(parts) => points.get(&parts.kid).is_some_and(|p| is_genuine(&parts, p, issuer, now_s)),
            None => false,
        }
    }

    #[test]
    fn a_signed_token_is_believed_until_it_expires_and_by_its_issuer_only() {
        let signer = signer();
        let claims = claims_for("http://shop", "7", "Ada", "ada@example.com");
        let token = signer.sign(&claims);
        assert!(genuine(&signer, &token, "http://shop", claims.iat));
        assert!(!genuine(&signer, &token, "http://other", claims.iat));
        assert!(!genuine(&signer, &token, "http://shop", claims.exp));
    }

    #[test]
    fn a_token_that_was_tampered_with_is_not_believed() {
        let signer = signer();
        let claims = claims_for("http://shop", "7", "Ada", "ada@example.com");
        let token = signer.sign(&claims);
        let forged = signer.sign(&Claims { sub: "8".into(), ..claims.clone() });
        let (signed, _) = forged.rsplit_once('.').unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        assert!(!genuine(&signer, &format!("{signed}.{signature}"), "http://shop", claims.iat));
        let none = BASE64.encode(format!(r#"{{"alg":"none","kid":"{}"}}"#, signer.kid).as_bytes());
        let body = token.split('.').nth(1).unwrap();
        for wrong in ["", ".", "..", "a.b.c", &format!("{none}.{body}."), &"x".repeat(5000)] {
            assert!(!genuine(&signer, wrong, "http://shop", claims.iat), "{wrong}");
        }
    }
}
