//! A session of somebody who logged in with a browser: what its cookies say.
//!
//! All of it is in the cookies, sealed: who it is, what they may do, and the tokens by which their issuer is asked again. So
//! a session costs no memory here, outlives a restart, and is as good on another machine that has the same secret. What must be
//! remembered here is small: sessions that were ended early ([`Ended`](crate::login::ended)).

use std::fmt;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::identity::{Identity, Method};
use crate::sealed::{SealKeys, random};

/// A session, open. Times are seconds since 1970.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Drawn at random at each login, and the same for as long as the session lasts.
    pub(crate) id: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) scopes: Vec<String>,
    pub(crate) claims: Map<String, Value>,
    /// It ends then, whatever the issuer says.
    pub(crate) ends: u64,
    /// How long the issuer's word holds; nothing where the issuer cannot be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renewal: Option<Renewal>,
    /// By which the issuer is told at the end whose session it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id_token: Option<String>,
}

/// How the issuer is asked again.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Renewal {
    /// From then on it is asked.
    pub(crate) due: u64,
    /// From then on nobody is let in before it has answered.
    pub(crate) over: u64,
    pub(crate) refresh_token: String,
}

impl Session {
    /// A new id.
    pub(crate) fn new_id() -> String {
        BASE64URL_NOPAD.encode(&random::<16>())
    }

    /// The cookies' value.
    pub(crate) fn seal(&self, keys: &SealKeys, purpose: &str) -> String {
        let plain =
            serde_json::to_vec(self).expect("invariant: a session is plain values with text for names");
        keys.seal(purpose, &plain)
    }

    /// The session that a cookies' value is; nothing for what we did not seal, or not as that.
    pub(crate) fn open(keys: &SealKeys, purpose: &str, sealed: &[u8]) -> Option<Self> {
        let plain = keys.open_sealed(purpose, sealed)?;
        serde_json::from_slice(&plain).ok()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            roles: self.roles.clone(),
            scopes: self.scopes.clone(),
            claims: self.claims.clone(),
            expires: Some(Duration::from_secs(self.ends)),
            ..Identity::new(Method::Login, self.issuer.as_str(), self.subject.as_str())
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Renewal({}, redacted)", self.due)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Session {
        let claims = serde_json::from_str(r#"{"sub":"ann","tier":"gold"}"#).expect("an object");
        Session {
            id: Session::new_id(),
            issuer: "https://id.example.com".to_owned(),
            subject: "ann".to_owned(),
            roles: vec!["customer".to_owned()],
            scopes: vec!["openid".to_owned()],
            claims,
            ends: 1_800_000_000,
            renewal: Some(Renewal { due: 5, over: 6, refresh_token: "hush".to_owned() }),
            id_token: Some("hush".to_owned()),
        }
    }

    #[test]
    fn a_session_is_had_again_from_its_cookies_and_shown_to_nobody() {
        let keys = SealKeys::parse("0123456789abcdef0123456789abcdef").expect("a secret");
        let session = sample();
        let sealed = session.seal(&keys, "session web");
        assert_eq!(Session::open(&keys, "session web", sealed.as_bytes()), Some(session.clone()));
        assert_eq!(Session::open(&keys, "session other", sealed.as_bytes()), None);
        let nonsense = keys.seal("session web", b"{}");
        assert_eq!(Session::open(&keys, "session web", nonsense.as_bytes()), None);
        assert!(!format!("{session:?}{:?}", session.renewal).contains("hush"));
        let identity = session.identity();
        assert_eq!(
            (identity.subject.as_str(), identity.claim_text("tier").as_deref()),
            ("ann", Some("gold"))
        );
        assert_eq!(identity.expires, Some(Duration::from_secs(1_800_000_000)));
        assert_ne!(Session::new_id(), Session::new_id());
    }
}
