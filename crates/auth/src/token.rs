//! Proof by a token that an issuer signed: the token is found in its place, and its issuer among those of the policy.
//!
//! Which issuer checks a token is taken from what the token says, before anything of it is known to be true. That is safe since each
//! issuer checks it with its own keys, its own algorithms and its own name: whoever lies about the issuer is checked by the wrong one.

use std::sync::Arc;

use terrace_http::Fields;

use crate::auth::Shared;
use crate::claims;
use crate::gate::{Asked, Checked, Moment};
use crate::introspect::{self, IntrospectConfig, Introspection};
use crate::issuer::{Issuer, IssuerConfig, IssuerError, refused};
use crate::jose::compact::{Compact, is_compact};
use crate::login::cookies;
use crate::proof::{NoProof, Place, Proof};
use crate::refusal::{Refused, challenge as challenge_of};

/// Tokens of which issuers, and where they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenConfig {
    /// Where a request carries it.
    pub place: Place,
    /// Whose tokens are taken; each has a name of its own.
    pub issuers: Vec<IssuerConfig>,
    /// Who is asked about tokens that say nothing themselves, one after the other.
    pub introspect: Vec<IntrospectConfig>,
}

/// The method, ready.
#[derive(Debug)]
pub(crate) struct Tokens {
    place: Place,
    issuers: Vec<Issuer>,
    introspect: Vec<Introspection>,
    shared: Arc<Shared>,
}

impl Tokens {
    /// What would be a proof, for people.
    pub(crate) fn wanted(&self) -> String {
        match &self.place {
            Place::Bearer => "a token as Authorization: Bearer".to_owned(),
            Place::Header(name) => format!("a token in {name}"),
            Place::Cookie(name) => format!("a token in the cookie {name}"),
        }
    }

    pub(crate) fn build(config: &TokenConfig, shared: &Arc<Shared>) -> Result<Self, IssuerError> {
        let issuers = config.issuers.iter().map(|config| Issuer::build(config, shared));
        Ok(Self {
            place: config.place.clone(),
            issuers: issuers.collect::<Result<_, _>>()?,
            introspect: config.introspect.iter().map(Introspection::build).collect::<Result<_, _>>()?,
            shared: Arc::clone(shared),
        })
    }

    pub(crate) fn find<'a>(&self, asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
        self.place.find(&asked.head.fields).map(Proof::Sealed)
    }

    /// Whether clients send it of themselves.
    pub(crate) fn is_in_cookie(&self) -> bool {
        matches!(self.place, Place::Cookie(_))
    }

    /// Takes a cookie out that it would be in.
    pub(crate) fn hide_cookie(&self, fields: &mut Fields) {
        if let Place::Cookie(name) = &self.place {
            cookies::take_out(fields, |found| found == name.as_bytes());
        }
    }

    pub(crate) fn check(&self, asked: &Asked<'_>, token: &[u8], at: Moment) -> Checked {
        if !self.introspect.is_empty() && !is_compact(token) {
            return introspect::check(&self.introspect, token, asked, at);
        }
        let read = match Compact::parse(token) {
            Ok(read) => read,
            Err(error) => return Checked::Refused(Refused::invalid(error.reason(), "")),
        };
        let claims = match claims::parse(&read.payload) {
            Ok(claims) => claims,
            Err(error) => return Checked::Refused(refused(error)),
        };
        let named = claims::issuer(&claims).unwrap_or_default();
        match self.issuers.iter().find(|issuer| issuer.name() == named) {
            // Until its signature is checked, nothing of it is believed but whom to ask.
            Some(issuer) => issuer.check(token, &read, claims, at, &self.shared.desk),
            None => {
                let named: String = named.chars().take(200).collect();
                let reason = claims::ClaimsError::Issuer.reason();
                Checked::Refused(Refused::invalid(reason, format!("it says {named:?}")))
            }
        }
    }
}

/// `Bearer` (RFC 6750 section 3); for whoever showed no token it says nothing of errors.
pub(crate) fn challenge(realm: &str, wrong: Option<&Refused>, scope: Option<&str>) -> String {
    let error = wrong.and_then(|refused| refused.why.bearer_error());
    let description = wrong.filter(|_| error.is_some()).map(|refused| refused.reason);
    challenge_of(
        "Bearer",
        &[("realm", Some(realm)), ("error", error), ("error_description", description), ("scope", scope)],
    )
}
