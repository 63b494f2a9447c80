//! The issuer of a login, as Terrace speaks to it: where it does what, codes and refresh tokens for tokens, what it knows of a
//! person, and giving tokens back.
//!
//! Whose word counts is checked here: an ID token is signed by the issuer, for this client, for this login (OpenID Connect Core
//! 1.0 section 3.1.3.7); and what the userinfo endpoint says is of the same person (section 5.3.2).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use terrace_runtime::clock;
use tokio::sync::Mutex;

use crate::claims::{self, Expected};
use crate::client::{self, AskError, ClientId};
use crate::desk::Desk;
use crate::discovery::{self, Discovered};
use crate::identity::Identity;
use crate::jose::Algorithms;
use crate::jose::compact::Compact;
use crate::keyring::Keyring;
use crate::refusal::{Refused, Why};
use crate::secret::is_same;

/// For one answer of the issuer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where it does what is asked anew after that time; while it does not answer, what it said holds on.
const FRESH: Duration = Duration::from_secs(3600);
/// After it did not answer it is not asked again within that time: whoever waited meanwhile would ask one after the other.
const REST: Duration = Duration::from_secs(1);
/// The shortest life of tokens that is believed: less would ask the issuer with every click.
const LIFE_S_MIN: u64 = 10;
/// The longest.
const LIFE_S_MAX: u64 = 30 * 86_400;
/// Claims that are about a token, not about a person; they are not kept.
const OF_TOKENS: [&str; 11] =
    ["exp", "iat", "nbf", "jti", "aud", "azp", "nonce", "at_hash", "c_hash", "s_hash", "typ"];

/// An issuer, and Terrace as its client.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) client: ClientId,
    ring: Arc<Keyring>,
    algorithms: Algorithms,
    expected: Expected,
    desk: Desk,
    known: Mutex<Known>,
}

/// What is known of where the issuer does what; times are since the clock's start.
#[derive(Debug, Default)]
struct Known {
    found: Option<(Duration, Arc<Discovered>)>,
    /// When it did not answer last, and why.
    silent: Option<(Duration, String)>,
}

/// What came for a code or a refresh token.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) identity: Identity,
    pub(crate) id_token: Option<String>,
    pub(crate) refresh_token: Option<String>,
    /// For how many seconds it holds, as far as the issuer says.
    pub(crate) life_s: Option<u64>,
}

/// What must be so of an answer.
pub(crate) enum For<'a> {
    /// A login with that nonce.
    Login { nonce: &'a str },
    /// The renewal of a session of theirs, of whom this was known.
    Renewal { before: &'a Identity },
}

impl Provider {
    pub(crate) fn new(
        client: ClientId,
        ring: Arc<Keyring>,
        algorithms: Algorithms,
        leeway: Duration,
        roles: String,
        desk: Desk,
    ) -> Self {
        let expected = Expected {
            issuer: ring.config().issuer.clone(),
            audience: Some(vec![client.id.clone()]),
            leeway,
            roles,
        };
        Self { client, ring, algorithms, expected, desk, known: Mutex::default() }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.expected.issuer
    }

    /// Where the issuer does what.
    pub(crate) async fn places(&self) -> Result<Arc<Discovered>, AskError> {
        if let Some(found) = self.ring.discovered() {
            return Ok(found);
        }
        // The file says where its keys are, so that nobody has asked yet where the rest is.
        let mut known = self.known.lock().await;
        let is_within = |at: &Duration, time| clock::now().saturating_sub(*at) < time;
        if let Some((_, places)) = known.found.as_ref().filter(|(at, _)| is_within(at, FRESH)) {
            return Ok(Arc::clone(places));
        }
        if !known.silent.as_ref().is_some_and(|(at, _)| is_within(at, REST)) {
            match discovery::discover(self.ring.client(), self.issuer(), TIMEOUT).await {
                Ok(found) => {
                    let places = Arc::new(found);
                    *known = Known { found: Some((clock::now(), Arc::clone(&places))), silent: None };
                    return Ok(places);
                }
                Err(error) => known.silent = Some((clock::now(), error.to_string())),
            }
        }
        match &*known {
            Known { found: Some((_, places)), .. } => Ok(Arc::clone(places)),
            Known { silent, .. } => {
                Err(AskError::Silent(silent.as_ref().map(|(_, why)| why.clone()).unwrap_or_default()))
            }
        }
    }

    /// Tokens for the code that a browser brought.
    pub(crate) async fn redeem(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        nonce: &str,
        wall: Duration,
    ) -> Result<Granted, AskError> {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        self.grant(&pairs, &For::Login { nonce }, wall).await
    }

    /// New tokens for a refresh token.
    pub(crate) async fn renew(
        &self,
        refresh_token: &str,
        before: &Identity,
        wall: Duration,
    ) -> Result<Granted, AskError> {
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        self.grant(&pairs, &For::Renewal { before }, wall).await
    }

    async fn grant(
        &self,
        pairs: &[(&str, &str)],
        what_for: &For<'_>,
        wall: Duration,
    ) -> Result<Granted, AskError> {
        let places = self.places().await?;
        let url = places.token.as_deref().ok_or(AskError::Without("token_endpoint"))?;
        let in_form = places.wants_secret_in_form;
        let tokens = self.client.post(self.ring.client(), url, pairs, in_form, TIMEOUT).await?;
        let text = |name: &str| tokens.get(name).and_then(Value::as_str).map(str::to_owned);
        let id_token = text("id_token");
        let mut claims = match (&id_token, what_for) {
            (Some(token), _) => self.verified(token, what_for, wall).await?,
            // A renewal may come without one (OpenID Connect Core 1.0 section 12.2); then nothing new is known of them.
            (None, For::Renewal { before }) => before.claims.clone(),
            (None, For::Login { .. }) => return Err(AskError::Nonsense("there is no id_token in it")),
        };
        let ends = claims.get("exp").and_then(Value::as_u64);
        if let (Some(url), Some(access)) = (&places.userinfo, text("access_token")) {
            self.add_userinfo(url, &access, &mut claims).await?;
        }
        let life_s = tokens.get("expires_in").and_then(seconds);
        let life_s = life_s.or_else(|| Some(ends?.saturating_sub(wall.as_secs())));
        let identity = self.identity(claims, text("scope"), wall)?;
        Ok(Granted {
            identity,
            id_token,
            refresh_token: text("refresh_token"),
            life_s: life_s.map(|life_s| life_s.clamp(LIFE_S_MIN, LIFE_S_MAX)),
        })
    }

    /// The claims of an ID token that is good for that. It is held against everything as it came, before anything is added.
    async fn verified(
        &self,
        token: &str,
        what_for: &For<'_>,
        wall: Duration,
    ) -> Result<Map<String, Value>, AskError> {
        let bytes: Arc<[u8]> = token.as_bytes().into();
        let checked = Arc::clone(&self.ring).verify(Arc::clone(&bytes), self.algorithms, self.desk.clone());
        checked.await.map_err(of_token)?;
        let read = Compact::parse(&bytes).map_err(|error| AskError::Nonsense(error.reason()))?;
        let claims = claims::parse(&read.payload).map_err(|_| AskError::Nonsense("the id_token's claims"))?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let is_for_us = match (claims.get("aud"), text("azp")) {
            // Section 3.1.3.7, 3 to 5: for several, it says for whom it was made.
            (Some(Value::Array(several)), None) => several.len() == 1,
            (_, azp) => azp.is_none_or(|azp| azp == self.client.id),
        };
        let fits = match what_for {
            For::Login { nonce } => {
                text("nonce").is_some_and(|said| is_same(said.as_bytes(), nonce.as_bytes()))
            }
            For::Renewal { before } => text("sub") == Some(before.subject.as_str()),
        };
        let whole = claims::identify(claims.clone(), &self.expected, wall);
        whole.map_err(|error| AskError::Nonsense(error.reason()))?;
        match (is_for_us, fits) {
            (true, true) => Ok(claims),
            (false, _) => Err(AskError::Nonsense("the id_token was made for another client")),
            (true, false) => Err(AskError::Nonsense("the id_token is of another login")),
        }
    }

    /// Adds what the issuer knows of them besides. What the ID token says stands.
    async fn add_userinfo(
        &self,
        url: &str,
        access: &str,
        claims: &mut Map<String, Value>,
    ) -> Result<(), AskError> {
        let fields = [
            ("Authorization".to_owned(), format!("Bearer {access}")),
            ("Accept".to_owned(), "application/json".to_owned()),
        ];
        let answer = self.ring.client().get(url, &fields, TIMEOUT).await?;
        let info = match client::read(&answer) {
            Ok(info) => info,
            // It says nothing of them to us, or nothing that we read (a signed answer): the ID token must do.
            Err(AskError::Refused(_) | AskError::Nonsense(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if info.get("sub") != claims.get("sub") {
            return Err(AskError::Nonsense("userinfo is of somebody else"));
        }
        // It knows people; what is about the token is the token's alone.
        for (name, value) in
            info.into_iter().filter(|(name, _)| name != "iss" && !OF_TOKENS.contains(&name.as_str()))
        {
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// Who it is by these claims.
    fn identity(
        &self,
        mut claims: Map<String, Value>,
        scopes: Option<String>,
        wall: Duration,
    ) -> Result<Identity, AskError> {
        // Those of a session that is renewed without an ID token are kept without what was about the former one.
        claims.entry("iss").or_insert_with(|| Value::from(self.issuer()));
        claims.entry("aud").or_insert_with(|| Value::from(self.client.id.as_str()));
        claims.entry("exp").or_insert_with(|| Value::from(wall.as_secs() + LIFE_S_MIN));
        if let Some(scopes) = scopes {
            claims.insert("scope".to_owned(), Value::from(scopes));
        }
        let identity = claims::identify(claims, &self.expected, wall);
        let mut identity = identity.map_err(|error| AskError::Nonsense(error.reason()))?;
        if identity.subject.is_empty() {
            return Err(AskError::Nonsense("the id_token has no subject"));
        }
        identity.claims.retain(|name, _| !OF_TOKENS.contains(&name.as_str()));
        Ok(identity)
    }

    /// Gives a refresh token back (RFC 7009), if the issuer takes it.
    pub(crate) async fn revoke(&self, refresh_token: &str) -> Result<(), AskError> {
        let places = self.places().await?;
        let Some(url) = &places.revoke else { return Ok(()) };
        let pairs = [("token", refresh_token), ("token_type_hint", "refresh_token")];
        let in_form = places.wants_secret_in_form;
        self.client.send(self.ring.client(), url, &pairs, in_form, TIMEOUT).await.map(drop)
    }
}

/// A number of seconds; some issuers write it as text.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn of_token(refused: Refused) -> AskError {
    match refused.why {
        Why::Unavailable { .. } => AskError::Silent(refused.detail),
        _ => AskError::Nonsense(refused.reason),
    }
}
