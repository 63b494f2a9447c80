//! Why somebody is not let in: what the client is told, and what only the log is told.
//!
//! A client learns by the status and `WWW-Authenticate` what it can do: prove who it is (401), or give up (403). It never
//! learns which key was missing or which rule was not met; that goes to the log, for whoever runs the app.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::identity::{Identity, Method};

/// An answer in the place of the service's.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// 401 when a proof is missing or no good, 403 when the proof is good and not enough, 400 when there are several, 503
    /// when it cannot be checked now, 302 or 303 when a browser is sent to a login.
    pub status: u16,
    /// Values of `WWW-Authenticate`, one a field (RFC 9110 section 11.6.1).
    pub challenges: Vec<String>,
    /// Further fields of the answer, such as `Location` and `Set-Cookie`.
    pub fields: Vec<(String, String)>,
    /// The media type and bytes of an answer that somebody else gave, to be passed on as they are; a problem document
    /// where there is none.
    pub body: Option<(String, bytes::Bytes)>,
    /// What the client is told.
    pub reason: &'static str,
    /// What would be a proof, where there was none, for people: `an API key in X-Api-Key, or a login in the browser`.
    pub wanted: Option<String>,
    /// What the log is told; nothing of it is for the client.
    pub detail: String,
    /// What it is counted as: one of a handful of words.
    pub outcome: &'static str,
    /// When it may help to ask again, in seconds.
    pub retry_after_s: Option<u64>,
    /// The method that looked at the proof, where there was one.
    pub method: Option<Method>,
    /// Who it is that may not, where that is known.
    pub identity: Option<Arc<Identity>>,
}

/// Why a proof does not do, as the method that looked at it says it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    pub(crate) why: Why,
    /// What the client is told.
    pub(crate) reason: &'static str,
    /// What the log is told.
    pub(crate) detail: String,
}

/// An answer that somebody else gave in the place of the service's, to be passed on as it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    /// Its media type, and its bytes.
    pub(crate) body: (String, bytes::Bytes),
}

/// The kinds of refusals.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Why {
    /// There is no proof.
    Missing,
    /// There are several, or one that cannot be read as what it says it is.
    Malformed,
    /// It is no good.
    Invalid,
    /// It was good once.
    Expired,
    /// It is good, and is not enough.
    Forbidden,
    /// Too many were no good; the next is not looked at yet.
    TooMany { retry_after_s: u64 },
    /// It cannot be checked now; that is not the client's fault.
    Unavailable { retry_after_s: u64 },
    /// The browser is sent elsewhere, with these fields beside `Location`.
    Elsewhere { status: u16, fields: Vec<(String, String)> },
    /// Somebody who was asked said so.
    Told(Box<Told>),
}

impl Refused {
    pub(crate) fn new(why: Why, reason: &'static str, detail: impl Into<String>) -> Self {
        Self { why, reason, detail: detail.into() }
    }

    /// There is no proof at all.
    pub(crate) fn missing() -> Self {
        Self::new(Why::Missing, "this needs a proof of who is asking", "")
    }

    pub(crate) fn malformed(reason: &'static str) -> Self {
        Self::new(Why::Malformed, reason, "")
    }

    pub(crate) fn invalid(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::new(Why::Invalid, reason, detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(
            Why::Unavailable { retry_after_s: 1 },
            "who is asking cannot be checked at the moment",
            detail,
        )
    }
}

impl Why {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Missing | Self::Invalid | Self::Expired => 401,
            Self::Malformed => 400,
            Self::Forbidden => 403,
            Self::TooMany { .. } => 429,
            Self::Unavailable { .. } => 503,
            Self::Elsewhere { status, .. } => *status,
            Self::Told(told) => told.status,
        }
    }

    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::TooMany { .. } => "too_many",
            Self::Unavailable { .. } => "unavailable",
            Self::Told(told) if told.status == 401 => "invalid",
            Self::Told(told) if told.status == 403 => "forbidden",
            Self::Elsewhere { .. } | Self::Told(_) => "login",
        }
    }

    /// The error code of RFC 6750 section 3.1.
    pub(crate) fn bearer_error(&self) -> Option<&'static str> {
        match self {
            Self::Malformed => Some("invalid_request"),
            Self::Invalid | Self::Expired => Some("invalid_token"),
            Self::Forbidden => Some("insufficient_scope"),
            Self::Missing
            | Self::TooMany { .. }
            | Self::Unavailable { .. }
            | Self::Elsewhere { .. }
            | Self::Told(_) => None,
        }
    }
}

/// One value of `WWW-Authenticate`: a scheme and its parameters as quoted strings (RFC 9110 section 11.2). Parameters without
/// a value are left out; of a value what no quoted string may hold is.
pub(crate) fn challenge(scheme: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut text = scheme.to_owned();
    let given = parameters.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    for (index, (name, value)) in given.enumerate() {
        let _infallible = write!(text, "{}{name}=\"", if index == 0 { " " } else { ", " });
        for letter in value.chars().filter(|letter| matches!(letter, ' '..='~')) {
            if matches!(letter, '"' | '\\') {
                text.push('\\');
            }
            text.push(letter);
        }
        text.push('"');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_11_2_a_challenge_quotes_its_values() {
        let text =
            challenge("Bearer", &[("realm", Some("a \"b\"\r\n\\")), ("error", None), ("x", Some("y"))]);
        assert_eq!(text, r#"Bearer realm="a \"b\"\\", x="y""#);
        assert_eq!(challenge("Negotiate", &[]), "Negotiate");
    }
}
