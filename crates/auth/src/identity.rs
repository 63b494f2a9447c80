//! Who is asking, as the rest of the program sees it.
//!
//! Whatever the proof was (a token, a key, a password, a certificate, a session, somebody else's word), what comes of it has
//! one shape, so that limits, choice, priority and the access line need not know how it was had. It is made once, shared as
//! an [`Arc`](std::sync::Arc), and never changed.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

/// By what somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// A signed token (RFC 7519).
    Token,
    /// An opaque token that its issuer was asked about (RFC 7662).
    Introspection,
    /// An API key of ours.
    Key,
    /// A name and a password (RFC 7617).
    Basic,
    /// A client's certificate.
    Certificate,
    /// A session that began with a login in the browser.
    Login,
    /// The word of a service that was asked.
    Ask,
}

impl Method {
    /// As headers, logs and labels have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "jwt",
            Self::Introspection => "introspection",
            Self::Key => "key",
            Self::Basic => "basic",
            Self::Certificate => "certificate",
            Self::Login => "login",
            Self::Ask => "ask",
        }
    }
}

/// Somebody whose proof was checked.
#[derive(Clone, PartialEq)]
pub struct Identity {
    /// Who: `sub` of a token, the id of a key, a user's name, a certificate's SAN.
    pub subject: String,
    /// Who vouches for it: `iss` of a token; for the other methods the name of what was looked into, such as `keys`.
    pub issuer: String,
    /// How it was proved.
    pub method: Method,
    /// Roles, as given.
    pub roles: Vec<String>,
    /// Scopes (RFC 6749 section 3.3), as given.
    pub scopes: Vec<String>,
    /// All that was claimed of them, by its name.
    pub claims: Map<String, Value>,
    /// From when on it does not hold any more, since 1970, leeway included. Nothing for what holds until it is revoked.
    pub expires: Option<Duration>,
    /// The limit that came with an API key, as it was written: `100/s`.
    pub limit: Option<String>,
}

impl Identity {
    /// Somebody of whom nothing but the name is known.
    #[must_use]
    pub fn new(method: Method, issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            issuer: issuer.into(),
            method,
            roles: Vec::new(),
            scopes: Vec::new(),
            claims: Map::new(),
            expires: None,
            limit: None,
        }
    }

    /// Whether they have that role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|given| given == role)
    }

    /// Whether they were granted that scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|given| given == scope)
    }

    /// The claim at `path`: a claim of that very name, else the way down through objects that the dots in it name. The
    /// first comes first, since claims are often named after URLs.
    #[must_use]
    pub fn claim(&self, path: &str) -> Option<&Value> {
        claim(&self.claims, path)
    }

    /// The claim at `path` as text: a string as it is, a number or a truth value as JSON writes it, a list of such joined
    /// by commas. `sub` and `iss` are there for every method. Nothing for objects and for what is not there.
    #[must_use]
    pub fn claim_text(&self, path: &str) -> Option<Cow<'_, str>> {
        match (self.claim(path), path) {
            (Some(value), _) => text(value),
            (None, "sub") => Some(Cow::Borrowed(&self.subject)),
            (None, "iss") => Some(Cow::Borrowed(&self.issuer)),
            (None, _) => None,
        }
    }
}

/// What claims say may be nobody's business but the app's.
impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("method", &self.method)
            .field("roles", &self.roles)
            .field("scopes", &self.scopes)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The claim at `path`, as [`Identity::claim`] finds it.
pub(crate) fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    match claims.get(first)? {
        Value::Object(inner) => claim(inner, rest),
        _ => None,
    }
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        Value::Array(list) => {
            let parts: Option<Vec<Cow<'_, str>>> = list.iter().map(text).collect();
            Some(Cow::Owned(parts?.join(",")))
        }
        Value::Object(_) | Value::Null => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Identity {
        let claims = r#"{"tier":"gold","age":7,"groups":["a","b"],"realm":{"roles":["x"],"deep":{"er":true}},
                         "https://example.com/plan":"free","none":null}"#;
        let claims = serde_json::from_str(claims).expect("an object");
        Identity { claims, ..Identity::new(Method::Token, "https://id.example.com", "ann") }
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_by_the_way_to_it() {
        let found = |path: &str| sample().claim_text(path).map(Cow::into_owned);
        assert_eq!(found("tier").as_deref(), Some("gold"));
        assert_eq!(found("age").as_deref(), Some("7"));
        assert_eq!(found("groups").as_deref(), Some("a,b"));
        assert_eq!(found("realm.deep.er").as_deref(), Some("true"));
        assert_eq!(found("https://example.com/plan").as_deref(), Some("free"));
        assert_eq!(found("sub").as_deref(), Some("ann"));
        for absent in ["realm", "none", "realm.none", "tier.x", "", "."] {
            assert_eq!(found(absent), None, "{absent}");
        }
    }

    #[test]
    fn debug_shows_no_claim() {
        assert!(!format!("{:?}", sample()).contains("gold"));
    }
}
