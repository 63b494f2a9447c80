//! `[issuer.NAME]`: an authority whose tokens are believed, and how its keys are come by.
//!
//! What a token is signed with decides who may make one. So a key that everybody may know (a public one) and one that
//! only the two of us know (a secret) never stand for the same issuer, and public keys are fetched only over a way on which
//! nobody else can answer.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::contact::HttpUrl;
use super::listen::holds_pem;
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, Scalar, Switch, Wrong, choice, table};
use super::route::Known;
use super::service::Authorities;
use super::source::Origin;
use super::spec::{Form, Shape};
use super::tree::{Node, Value};
use super::values::{FilePath, Secret, SecretSource, UrlPath, Words};

table! {
    /// An authority whose tokens are believed: OpenID Connect and OAuth 2.0 providers, or a service of your own that signs
    /// JSON Web Tokens. Its keys are fetched, kept, and fetched again when a token names one that is not known.
    pub(crate) struct IssuerTable {
        /// What stands in a token as `iss`, exactly. Its keys are found by OpenID Connect Discovery below it
        /// (`/.well-known/openid-configuration`), unless `jwks` says where they are.
        "url" url: HttpUrl, example "https://id.example.com";
        /// The keys, in place of discovery: a URL, `{ file = "keys.json" }`, or `{ service = "auth", path = "/keys" }` for a
        /// service of this file.
        "jwks" jwks: Option<KeysSetting>, example { file = "keys.json" };
        /// What must stand in a token as `aud`: one, or any of a list. `false`: whatever the token is for, which is right
        /// only where the issuer serves nobody but you.
        "audience" audience: Switch<OneOrMany<Words>>, example ["shop"];
        /// Algorithms that are believed. Default: all with public keys; with `secret`, those that it is long enough for.
        "algorithms" algorithms: Vec<Algorithm>, example ["RS256", "ES256"];
        /// The secret that tokens are signed with, for HS256, HS384 and HS512: at least 32, 48 or 64 bytes.
        "secret" secret: Option<SecretSource>, example { env = "TOKEN_SECRET" };
        /// How far the issuer's clock may be from ours.
        "leeway" leeway: Duration = "60s", within "0s" to "10m";
        /// The claim that holds the roles; a way down into it is written with dots (`"realm_access.roles"`). Scopes are
        /// those of `scope` and `scp`.
        "roles" roles: ClaimPath = "roles";
        /// Ask the issuer about tokens that say nothing themselves (RFC 7662).
        "introspect" introspect: Option<IntrospectTable>, example { url = "https://id.example.com/introspect", client = "shop", secret = { env = "INTROSPECT_SECRET" } };
        /// PEM file with authorities to trust besides the system's, when the issuer is asked.
        "ca" ca: Option<FilePath>, example "ca.pem";
    }
}

table! {
    /// What the issuer says of a token is believed for a while, and no longer than the token lives.
    pub(crate) struct IntrospectTable {
        /// Where to ask.
        "url" url: HttpUrl, example "https://id.example.com/introspect";
        /// Who asks: the client's id.
        "client" client: Words, example "shop";
        /// The client's secret.
        "secret" secret: SecretSource, example { env = "INTROSPECT_SECRET" };
        /// How long an answer is believed; so long does a token live on that was revoked.
        "cache" cache: Duration = "30s", within "0s" to "10m";
    }
}

table! {
    /// Keys that lie in a file, or that a service of this file publishes.
    pub(crate) struct KeysTable one of "file" "service", whole {
        /// A key set (RFC 7517), followed when it changes.
        "file" file: Option<FilePath>, example "keys.json";
        /// The service that publishes them.
        "service" service: Option<Words>, example "auth";
        /// Where it does.
        "path" path: UrlPath = "/.well-known/jwks.json", with "service";
    }
}

choice! {
    /// How a token is signed (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub enum Algorithm {
        /// RSA, PKCS #1 v1.5.
        "RS256" Rs256,
        /// RSA, PKCS #1 v1.5.
        "RS384" Rs384,
        /// RSA, PKCS #1 v1.5.
        "RS512" Rs512,
        /// RSA, PSS.
        "PS256" Ps256,
        /// RSA, PSS.
        "PS384" Ps384,
        /// RSA, PSS.
        "PS512" Ps512,
        /// ECDSA on P-256.
        "ES256" Es256,
        /// ECDSA on P-384.
        "ES384" Es384,
        /// ECDSA on P-521.
        "ES512" Es512,
        /// Ed25519.
        "EdDSA" EdDsa,
        /// A secret.
        "HS256" Hs256,
        /// A secret.
        "HS384" Hs384,
        /// A secret.
        "HS512" Hs512,
    }
}

impl Algorithm {
    /// Those whose keys may be public.
    pub const ASYMMETRIC: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// As the file and tokens write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// Bytes that the secret must have at least (RFC 7518 section 3.2); `None`: its keys are public.
    fn secret_bytes_min(self) -> Option<usize> {
        match self {
            Self::Hs256 => Some(32),
            Self::Hs384 => Some(48),
            Self::Hs512 => Some(64),
            _ => None,
        }
    }
}

/// A claim, with dots on the way down into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimPath(pub(crate) String);

impl Scalar for ClaimPath {
    const FORM: Form = Form { noun: "a claim", example: "realm_access.roles", pattern: "^\\S+$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let is_whole = !text.is_empty() && text.len() <= CLAIM_BYTES_MAX;
        match is_whole && text.chars().all(|character| character > ' ') {
            true => Ok(Self(text.to_owned())),
            false => Err(Wrong::form()),
        }
    }
}

/// Longer names of claims help nobody.
const CLAIM_BYTES_MAX: usize = 256;

/// `jwks` as written.
#[derive(Clone, Debug)]
pub(crate) enum KeysSetting {
    Url(HttpUrl),
    Kept(KeysTable),
}

impl Read for KeysSetting {
    fn shape() -> Shape {
        Shape::Either(vec![HttpUrl::shape(), KeysTable::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => Some(Self::Kept(KeysTable::read(node, reader)?)),
            Value::Text(_) => Some(Self::Url(HttpUrl::read(node, reader)?)),
            _ => reader.unexpected(node, "a URL, { file = \"…\" } or { service = \"…\" }", None),
        }
    }
}

/// An authority whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in the file.
    pub name: String,
    /// `iss` of its tokens.
    pub url: String,
    /// What its tokens are checked with.
    pub keys: IssuerKeys,
    /// Any of these must be `aud`; `None`: whatever it is.
    pub audiences: Option<Vec<String>>,
    /// Never empty; with a secret only HS*, else none of them.
    pub algorithms: Vec<Algorithm>,
    /// How far its clock may be from ours.
    pub leeway: Duration,
    /// The claim that holds the roles.
    pub roles_claim: String,
    /// How it is asked about opaque tokens.
    pub introspection: Option<Introspection>,
    /// Authorities to trust besides the system's.
    pub authorities: Option<Authorities>,
}

/// What an issuer's tokens are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKeys {
    /// Keys found by discovery.
    Discovery,
    /// A key set at this URL.
    Url(String),
    /// A key set that a service of the file publishes.
    Service {
        /// Its name.
        service: String,
        /// Path of the key set.
        path: String,
    },
    /// A key set in this file, which is followed.
    File(PathBuf),
    /// A secret that the issuer has too.
    Secret(Secret),
}

/// How an issuer is asked about opaque tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Where.
    pub url: String,
    /// The client's id.
    pub client: String,
    /// The client's secret.
    pub secret: Secret,
    /// How long an answer is believed.
    pub cache: Duration,
}

impl Issuer {
    /// Every secret that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let of_keys = match &self.keys {
            IssuerKeys::Secret(secret) => Some(secret),
            _ => None,
        };
        of_keys.into_iter().chain(self.introspection.iter().map(|introspection| &introspection.secret))
    }
}

/// The issuer called `name`.
pub(crate) fn resolve(name: &str, node: &Node, known: &Known<'_>, reader: &mut Reader<'_>) -> Option<Issuer> {
    let table = IssuerTable::read(node, reader)?;
    let keys = resolve_keys(&table, node, known, reader);
    let introspection = resolve_introspection(table.introspect.as_ref(), node, reader);
    let authorities = authorities(table.ca.as_ref(), node.origin_of("ca"), reader);
    let keys = keys?;
    Some(Issuer {
        name: name.to_owned(),
        url: table.url.0.clone(),
        audiences: audiences(table.audience.clone()),
        algorithms: resolve_algorithms(&table, &keys, node, reader)?,
        keys,
        leeway: table.leeway,
        roles_claim: table.roles.0,
        introspection: introspection?,
        authorities: authorities?,
    })
}

/// `None`: any.
pub(crate) fn audiences(written: Switch<OneOrMany<Words>>) -> Option<Vec<String>> {
    Some(written.on()?.0.into_iter().map(|audience| audience.0).collect())
}

fn resolve_keys(
    table: &IssuerTable,
    node: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<IssuerKeys> {
    let origin = node.origin_of("jwks");
    match (&table.secret, &table.jwks) {
        (Some(_), Some(_)) => {
            let message = "an issuer has either a `secret` or public keys (`jwks`), not both";
            let finding = Finding::new(node.key_origin_of("jwks"), message);
            reader.refuse(finding.other(node.key_origin_of("secret"), "the secret"))
        }
        (Some(secret), None) => Some(IssuerKeys::Secret(reader.secret(secret, node.origin_of("secret"))?)),
        (None, Some(KeysSetting::Url(url))) => {
            safe_from_others(&url.0, "answer with keys of their own", origin, reader)?;
            Some(IssuerKeys::Url(url.0.clone()))
        }
        (None, Some(KeysSetting::Kept(kept))) => keys_kept(kept, node.get("jwks")?, known, reader),
        (None, None) => {
            safe_from_others(&table.url.0, "answer with keys of their own", node.origin_of("url"), reader)?;
            Some(IssuerKeys::Discovery)
        }
    }
}

fn keys_kept(
    table: &KeysTable,
    node: &Node,
    known: &Known<'_>,
    reader: &mut Reader<'_>,
) -> Option<IssuerKeys> {
    match (&table.file, &table.service) {
        (Some(file), _) => {
            let origin = node.origin_of("file");
            let text = reader.side_text(&file.0, origin)?;
            check_key_set(&text, origin, reader)?;
            Some(IssuerKeys::File(reader.path(&file.0)))
        }
        (None, Some(service)) => {
            known.routed(&service.0, node.origin_of("service"), reader)?;
            Some(IssuerKeys::Service { service: service.0.clone(), path: table.path.0.clone() })
        }
        // Invariant: `KeysTable` has exactly one of the two.
        (None, None) => None,
    }
}

/// Reports what is no key set at all; which of its keys can be used is for whoever uses them to say.
fn check_key_set(text: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<()> {
    let read: Result<serde_json::Value, _> = serde_json::from_str(text);
    match read {
        Ok(set) if set.get("keys").is_some_and(serde_json::Value::is_array) => Some(()),
        Ok(_) => {
            let finding = Finding::new(origin, "this file holds no key set (RFC 7517)");
            reader.refuse(finding.help("it must be JSON like { \"keys\": [ … ] }"))
        }
        Err(error) => reader.refuse(Finding::new(origin, format!("this file is no JSON: {error}"))),
    }
}

/// Refuses to ask in the clear over a network: whoever is on the way could do what `then` says.
pub(crate) fn safe_from_others(url: &str, then: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<()> {
    let Some(rest) = url.strip_prefix("http://") else { return Some(()) };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if is_here(host) {
        return Some(());
    }
    let message = format!("over plain HTTP, whoever is on the way could {then}");
    reader.refuse(Finding::new(origin, message).help(format!("write \"https://{rest}\"")))
}

/// Whether a host, perhaps with a port, is this machine.
fn is_here(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split(']').next().unwrap_or_default();
        return address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback());
    }
    let host = host.split(':').next().unwrap_or_default();
    host == "localhost" || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
}

/// Algorithms that go with the keys. One list for both kinds would let a public key be taken for a secret
/// (RFC 8725 section 2.1).
fn resolve_algorithms(
    table: &IssuerTable,
    keys: &IssuerKeys,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Vec<Algorithm>> {
    let IssuerKeys::Secret(secret) = keys else {
        let symmetric = table.algorithms.iter().find(|algorithm| algorithm.secret_bytes_min().is_some());
        if let Some(algorithm) = symmetric {
            let message = format!("{} needs a `secret`, and there is none", algorithm.name());
            let finding = Finding::new(node.origin_of("algorithms"), message);
            return reader.refuse(finding.help("add secret = { env = \"NAME\" }, or leave it out"));
        }
        return Some(or_default(&table.algorithms, &Algorithm::ASYMMETRIC));
    };
    let bytes = secret.reveal().len();
    let long_enough: Vec<Algorithm> = [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512]
        .into_iter()
        .filter(|algorithm| algorithm.secret_bytes_min().is_some_and(|least| bytes >= least))
        .collect();
    if long_enough.is_empty() {
        let finding = Finding::new(node.origin_of("secret"), "this secret is shorter than 32 bytes");
        return reader.refuse(finding.help("make one with: openssl rand -base64 48"));
    }
    for algorithm in &table.algorithms {
        check_symmetric(*algorithm, bytes, node, reader)?;
    }
    Some(or_default(&table.algorithms, &long_enough))
}

fn check_symmetric(
    algorithm: Algorithm,
    secret_bytes: usize,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<()> {
    let (name, origin) = (algorithm.name(), node.origin_of("algorithms"));
    match algorithm.secret_bytes_min() {
        Some(least) if secret_bytes >= least => Some(()),
        Some(least) => {
            let message = format!("{name} needs a secret of at least {least} bytes, and this one is shorter");
            reader.refuse(Finding::new(origin, message).other(node.origin_of("secret"), "the secret"))
        }
        None => {
            let message = format!("{name} is checked with a public key, but there is a `secret`");
            let finding = Finding::new(origin, message).help("with a secret: HS256, HS384 or HS512");
            reader.refuse(finding.other(node.key_origin_of("secret"), "the secret"))
        }
    }
}

fn or_default(written: &[Algorithm], default: &[Algorithm]) -> Vec<Algorithm> {
    if written.is_empty() { default.to_vec() } else { written.to_vec() }
}

fn resolve_introspection(
    table: Option<&IntrospectTable>,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<Option<Introspection>> {
    let (Some(table), Some(node)) = (table, node.get("introspect")) else { return Some(None) };
    let safe = safe_from_others(&table.url.0, "read the secret", node.origin_of("url"), reader);
    let secret = reader.secret(&table.secret, node.origin_of("secret"));
    safe?;
    Some(Some(Introspection {
        url: table.url.0.clone(),
        client: table.client.0.clone(),
        secret: secret?,
        cache: table.cache,
    }))
}

/// Authorities in a PEM file.
pub(crate) fn authorities(
    file: Option<&FilePath>,
    origin: Origin,
    reader: &mut Reader<'_>,
) -> Option<Option<Authorities>> {
    let Some(file) = file else { return Some(None) };
    let pem = reader.side_text(&file.0, origin)?;
    if !holds_pem(&pem, "CERTIFICATE", origin, reader) {
        return None;
    }
    Some(Some(Authorities { file: reader.path(&file.0), pem }))
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn only_loopback_is_here() {
        for here in ["localhost", "localhost:80", "127.0.0.1:9", "127.1.2.3", "[::1]:8080"] {
            assert!(is_here(here), "{here}");
        }
        for there in ["10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", ""] {
            assert!(!is_here(there), "{there}");
        }
    }
}
