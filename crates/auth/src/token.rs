//! Proof by a token that an issuer signed.

use std::sync::Arc;

use crate::auth::Shared;
use crate::gate::{Asked, Checked, Moment};
use crate::proof::{NoProof, Place, Proof};
use crate::refusal::{Refused, challenge as challenge_of};

/// Tokens of which issuers, and where they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Where a request carries it.
    pub place: Place,
}

/// The method, ready.
#[derive(Debug)]
pub(crate) struct Tokens {
    place: Place,
}

impl Tokens {
    pub(crate) fn build(config: &Config, _shared: &Arc<Shared>) -> Self {
        Self { place: config.place.clone() }
    }

    pub(crate) fn find<'a>(&self, asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
        self.place.find(&asked.head.fields).map(Proof::Sealed)
    }

    pub(crate) fn check(&self, _token: &[u8], _at: Moment) -> Checked {
        Checked::Refused(Refused::invalid("the token's issuer is not one of this route's", ""))
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
