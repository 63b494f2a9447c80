//! A gate with a control plane of its own, as in the program: the test's thread is the core, and must never be held up.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use terrace_auth::{
    Algorithms, Asked, Auth, BuildError, CacheBounds, Decision, Gate, GateConfig, IssuerConfig, KeySource,
    MethodConfig, Moment, Now, Pace, Place, RingConfig, Rule, TokenConfig,
};
use terrace_http::RequestHead;
use terrace_instruments::{Log, Meter};
use terrace_policy::Backoff;
use terrace_runtime::drain::{self, Drainer};

pub(crate) const ISSUER: &str = "https://id.example.com";
pub(crate) const AUDIENCE: &str = "shop";

pub(crate) struct House {
    pub(crate) auth: Auth,
    drainer: Drainer,
    control: Option<JoinHandle<()>>,
}

impl House {
    pub(crate) fn new() -> Self {
        let (auth, task) = Auth::new(CacheBounds::default(), 2, &Log::discard(), &Meter::new(1));
        let (drainer, drain) = drain::channel();
        let control = std::thread::spawn(move || runtime().block_on(task.run(drain)));
        Self { auth, drainer, control: Some(control) }
    }

    /// The gate for tokens of that issuer.
    pub(crate) fn gate(&self, issuer: IssuerConfig) -> Arc<Gate> {
        self.gate_of(vec![issuer], Place::Bearer)
    }

    /// The gate for tokens of that issuer whose owners have that role.
    pub(crate) fn gate_for_role(&self, issuer: IssuerConfig, role: &str) -> Arc<Gate> {
        let methods =
            vec![MethodConfig::Token(TokenConfig { issuers: vec![issuer], ..TokenConfig::default() })];
        let require = Some(Rule::Role(role.to_owned()));
        self.auth.gate(&GateConfig { methods, require, ..GateConfig::default() }).expect("a gate")
    }

    /// Why there can be no gate for tokens of that issuer.
    pub(crate) fn refuses_to_build(&self, issuer: IssuerConfig) -> BuildError {
        let methods =
            vec![MethodConfig::Token(TokenConfig { issuers: vec![issuer], ..TokenConfig::default() })];
        self.auth.gate(&GateConfig { methods, ..GateConfig::default() }).expect_err("no gate")
    }

    pub(crate) fn gate_of(&self, issuers: Vec<IssuerConfig>, place: Place) -> Arc<Gate> {
        let methods = vec![MethodConfig::Token(TokenConfig { place, issuers, ..TokenConfig::default() })];
        self.auth.gate(&GateConfig { methods, ..GateConfig::default() }).expect("a gate")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.drainer.request();
        let control = self.control.take().expect("joined once");
        assert!(control.join().is_ok() || std::thread::panicking(), "the control plane panicked");
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What is known at once of a request with that bearer token.
pub(crate) fn ask_now(gate: &Gate, token: &str) -> Now {
    let mut head = RequestHead::new();
    head.fields.append(b"Authorization", format!("Bearer {token}").as_bytes());
    ask_with(gate, &head)
}

pub(crate) fn ask_with(gate: &Gate, head: &RequestHead) -> Now {
    let client = "192.0.2.1".parse().expect("an address");
    gate.check_now(&Asked { head, is_tls: true, client, certificate: None }, Moment::read())
}

/// What becomes of a request with that bearer token.
pub(crate) fn ask(gate: &Gate, token: &str) -> Decision {
    decide(gate, ask_now(gate, token))
}

pub(crate) fn decide(gate: &Gate, now: Now) -> Decision {
    match now {
        Now::Decided(decision) => decision,
        Now::Later(ticket) => runtime().block_on(gate.later(ticket)),
    }
}

/// 200 for whoever may pass.
pub(crate) fn status(decision: &Decision) -> u16 {
    match decision {
        Decision::Known(_) | Decision::Anonymous => 200,
        Decision::Refused(refusal) => refusal.status,
    }
}

/// An issuer whose keys are there.
pub(crate) fn issuer(name: &str, source: KeySource) -> IssuerConfig {
    let algorithms = match source {
        KeySource::Secret(_) => Algorithms::symmetric(),
        _ => Algorithms::asymmetric(),
    };
    IssuerConfig {
        ring: RingConfig { issuer: name.to_owned(), source, ca: None, pace: quick() },
        audience: Some(vec![AUDIENCE.to_owned()]),
        algorithms,
        leeway: Duration::from_secs(60),
        roles: "roles".to_owned(),
    }
}

/// An issuer that says itself where things are, and whose clock may differ by `leeway`.
pub(crate) fn issuer_of(name: &str, leeway: Duration) -> IssuerConfig {
    IssuerConfig { leeway, ..issuer(name, KeySource::Discovery) }
}

/// A pace at which tests need not wait.
pub(crate) fn quick() -> Pace {
    let soon = Duration::from_millis(5);
    Pace {
        unknown_every: Duration::ZERO,
        retry: Backoff { from: soon, to: soon },
        file_every: soon,
        timeout: Duration::from_secs(20),
        ..Pace::default()
    }
}

/// Somebody who signs with Ed25519.
pub(crate) struct Signer {
    pub(crate) kid: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    pub(crate) fn new(kid: &str) -> Self {
        let seed = ring::digest::digest(&ring::digest::SHA256, kid.as_bytes());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("32 bytes");
        Self { kid: kid.to_owned(), pair }
    }

    /// The public half, as a set has it.
    pub(crate) fn public(&self) -> Value {
        let x = BASE64URL_NOPAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x, "use": "sig"})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": "EdDSA", "kid": self.kid}), claims)
    }

    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let signed = signing_input(&header.to_string(), &claims.to_string());
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

pub(crate) fn signing_input(header: &str, claims: &str) -> String {
    format!("{}.{}", BASE64URL_NOPAD.encode(header.as_bytes()), BASE64URL_NOPAD.encode(claims.as_bytes()))
}

/// Claims that are good for a while.
pub(crate) fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "aud": AUDIENCE, "exp": now_s() + 3600, "sub": "ann"})
}

pub(crate) fn now_s() -> u64 {
    Moment::read().wall.as_secs()
}

/// The text of a set of these keys.
pub(crate) fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}
