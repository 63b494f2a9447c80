//! Tokens that say nothing themselves: their issuer is asked (RFC 7662).
//!
//! An answer is believed for a while, and no longer than the token lives. All who come with the same token at once cause one
//! question. Anybody can make up tokens, and each would be a question: so one address may be wrong only so often.

use std::sync::Arc;
use std::time::Duration;

use ring::digest;
use serde_json::{Map, Value};
use terrace_fetch::Client;

use crate::cache::{Generation, Keep};
use crate::claims::{self, ClaimsError, Expected};
use crate::client::{AskError, ClientId};
use crate::flights::{self, Flights};
use crate::gate::{Asked, Checked, Fresh, Moment};
use crate::guesses::Misses;
use crate::identity::{Identity, Method};
use crate::issuer::IssuerError;
use crate::refusal::{Refused, Why};

/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Questions at once.
const ASKING_MAX: usize = 64;
/// A longer token is none.
const TOKEN_BYTES_MAX: usize = 4 << 10;
/// What a token without an end is taken to have while its other dates are looked at.
const NO_END: Duration = Duration::from_secs(86_400);

/// Whom to ask about tokens, and what they must say.
#[derive(Debug, Clone, PartialEq)]
pub struct IntrospectConfig {
    /// Who vouches for what is said: `iss` of an answer must be it, where an answer has one.
    pub issuer: String,
    /// Where to ask.
    pub url: String,
    /// Who asks.
    pub client: ClientId,
    /// How long an answer is believed; zero: not at all.
    pub cache: Duration,
    /// One of these the tokens must be for; nothing where that is not looked at.
    pub audience: Option<Vec<String>>,
    /// By so much the issuer's clock and ours may differ.
    pub leeway: Duration,
    /// The claim in which roles are.
    pub roles: String,
    /// Certificates (PEM) that are trusted besides the system's.
    pub ca: Option<Arc<[u8]>>,
}

/// Those who are asked, ready.
#[derive(Debug, Clone)]
pub(crate) struct Introspection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: IntrospectConfig,
    expected: Expected,
    client: Client,
    asking: Flights<Answer>,
    misses: Misses,
    ground: Generation,
}

/// What was said of a token.
#[derive(Debug, Clone)]
enum Answer {
    Active(Arc<Identity>),
    /// It is no good; what the client is told.
    Inactive(&'static str),
    Silent(String),
}

impl Introspection {
    pub(crate) fn build(config: &IntrospectConfig) -> Result<Self, IssuerError> {
        let client = match &config.ca {
            Some(pem) => Client::trusting(pem),
            None => Ok(Client::new()),
        };
        let client =
            client.map_err(|error| IssuerError::Certificates { issuer: config.issuer.clone(), error })?;
        let expected = Expected {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
            roles: config.roles.clone(),
        };
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            expected,
            client,
            asking: Flights::new(ASKING_MAX),
            misses: Misses::new(),
            ground: Generation::default(),
        })))
    }

    async fn ask(&self, token: Arc<str>, at: Moment) -> Answer {
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let key: flights::Key = hash.as_ref().try_into().expect("invariant: SHA-256 has 32 bytes");
        let inner = Arc::clone(&self.0);
        let work = async move { inner.ask(&token, at).await };
        match self.0.asking.join(key, work).await {
            Ok(answer) => answer,
            Err(crowded) => Answer::Silent(crowded.to_string()),
        }
    }
}

/// Asks one after the other until one knows the token; on the control plane.
pub(crate) fn check(asked: &[Introspection], token: &[u8], request: &Asked<'_>, at: Moment) -> Checked {
    let Some(token) = std::str::from_utf8(token).ok().filter(|token| is_token(token)) else {
        return Checked::Refused(Refused::invalid("the token cannot be read", ""));
    };
    let (client, token): (_, Arc<str>) = (request.client, token.into());
    let wait = asked.iter().filter_map(|asked| asked.0.misses.wait(client, at.now)).max();
    if let Some(wait) = wait {
        let retry_after_s = wait.as_secs() + 1;
        let why = Why::TooMany { retry_after_s };
        return Checked::Refused(Refused::new(why, "too many tokens that are no good", ""));
    }
    let asked = asked.to_vec();
    Checked::Later(Box::pin(async move {
        let mut refused = Refused::invalid("the token is not active", "");
        for one in asked {
            match one.ask(Arc::clone(&token), at).await {
                Answer::Active(identity) => return Ok(one.0.fresh(&identity, at)),
                Answer::Inactive(reason) => {
                    one.0.misses.charge(client, at.now);
                    refused = Refused::invalid(reason, "");
                }
                // The next one may know it; but who could not be asked may have known it too.
                Answer::Silent(why) => refused = Refused::unavailable(why),
            }
        }
        Err(refused)
    }))
}

/// RFC 6750 section 2.1 and RFC 6749 appendix A.12: visible ASCII.
fn is_token(token: &str) -> bool {
    (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Inner {
    async fn ask(&self, token: &str, at: Moment) -> Answer {
        let pairs = [("token", token), ("token_type_hint", "access_token")];
        let said = self.config.client.post(&self.client, &self.config.url, &pairs, false, TIMEOUT).await;
        match said {
            Ok(said) => match self.read(said, at.wall) {
                Ok(identity) => Answer::Active(Arc::new(identity)),
                Err(reason) => Answer::Inactive(reason),
            },
            // What it refuses is us, not the token.
            Err(AskError::Refused(said)) => Answer::Silent(format!("it refused the question: {said}")),
            Err(error) => Answer::Silent(error.to_string()),
        }
    }

    /// RFC 7662 section 2.2.
    fn read(&self, mut said: Map<String, Value>, wall: Duration) -> Result<Identity, &'static str> {
        if said.get("active") != Some(&Value::Bool(true)) {
            return Err("the token is not active");
        }
        let kind = said.get("token_type").and_then(Value::as_str).unwrap_or("bearer");
        if !kind.eq_ignore_ascii_case("bearer") && !kind.eq_ignore_ascii_case("access_token") {
            return Err("the token is of another kind");
        }
        let has_end = said.contains_key("exp");
        if !has_end {
            said.insert("exp".to_owned(), Value::from((wall + NO_END).as_secs()));
        }
        said.entry("iss").or_insert_with(|| Value::from(self.config.issuer.as_str()));
        if !said.contains_key("sub")
            && let Some(name) = said.get("username").cloned()
        {
            said.insert("sub".to_owned(), name);
        }
        let identity = claims::identify(said, &self.expected, wall).map_err(ClaimsError::reason)?;
        let mut identity = Identity { method: Method::Introspection, ..identity };
        identity.claims.remove("active");
        if !has_end {
            identity.claims.remove("exp");
            identity.expires = None;
        }
        Ok(identity)
    }

    fn fresh(&self, identity: &Identity, at: Moment) -> Fresh {
        let until = identity.expires.unwrap_or(Duration::MAX).min(at.wall + self.config.cache);
        let keep = Keep { until, since: self.ground.now() };
        Fresh::new(identity.clone(), (!self.config.cache.is_zero()).then_some(keep))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Duration = Duration::from_secs(1_800_000_000);

    fn inner(audience: Option<&str>) -> Arc<Inner> {
        let config = IntrospectConfig {
            issuer: "https://id.example.com".to_owned(),
            url: "https://id.example.com/introspect".to_owned(),
            client: ClientId { id: "shop".to_owned(), secret: None },
            cache: Duration::from_secs(30),
            audience: audience.map(|audience| vec![audience.to_owned()]),
            leeway: Duration::ZERO,
            roles: "roles".to_owned(),
            ca: None,
        };
        Introspection::build(&config).expect("built").0
    }

    fn read(audience: Option<&str>, said: &str) -> Result<Identity, &'static str> {
        inner(audience).read(serde_json::from_str(said).expect("an object"), WALL)
    }

    #[test]
    fn rfc7662_2_2_an_active_token_says_who_it_is() {
        let said = r#"{"active":true,"sub":"ann","scope":"orders:read x","exp":1800000010,"roles":["a"],
            "iss":"https://id.example.com","token_type":"Bearer","username":"Ann"}"#;
        let identity = read(None, said).expect("active");
        assert_eq!((identity.subject.as_str(), identity.method), ("ann", Method::Introspection));
        assert!(
            identity.has_scope("orders:read")
                && identity.has_role("a")
                && !identity.claims.contains_key("active")
        );
        let at = Moment { now: Duration::ZERO, wall: WALL };
        let keep = inner(None).fresh(&identity, at).keep.expect("kept");
        assert_eq!(keep.until, WALL + Duration::from_secs(10), "not beyond its end");
        let endless = read(None, r#"{"active":true,"username":"Ann"}"#).expect("active");
        assert_eq!((endless.subject.as_str(), endless.expires), ("Ann", None));
        assert_eq!(inner(None).fresh(&endless, at).keep.expect("kept").until, WALL + Duration::from_secs(30));
    }

    #[test]
    fn what_is_not_active_for_us_and_for_now_is_refused() {
        for said in [
            r#"{"active":false,"sub":"ann"}"#,
            r#"{"active":"true","sub":"ann"}"#,
            r#"{"active":1,"sub":"ann"}"#,
            r#"{"sub":"ann"}"#,
            "{}",
            r#"{"active":true,"sub":"ann","exp":1799999999}"#,
            r#"{"active":true,"sub":"ann","nbf":1800000001}"#,
            r#"{"active":true,"sub":"ann","iss":"https://other.example"}"#,
            r#"{"active":true,"sub":"ann","token_type":"refresh_token"}"#,
            r#"{"active":true,"sub":"ann","token_type":"DPoP"}"#,
            r#"{"active":true,"sub":7}"#,
        ] {
            assert!(read(None, said).is_err(), "{said}");
        }
        assert!(read(Some("shop"), r#"{"active":true,"sub":"ann","aud":["shop"]}"#).is_ok());
        for said in [r#"{"active":true,"sub":"ann","aud":"other"}"#, r#"{"active":true,"sub":"ann"}"#] {
            assert!(read(Some("shop"), said).is_err(), "{said}");
        }
    }

    #[test]
    fn what_no_token_can_be_is_asked_about_nowhere() {
        assert!(is_token("opaque-1") && is_token(&"x".repeat(TOKEN_BYTES_MAX)));
        for token in ["", "a b", "a\n", "ä", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(!is_token(token), "{token:?}");
        }
    }
}
