//! Proof by an API key, as a gate asks for it.
//!
//! A key comes in a field of its own or as a bearer token; there its prefix tells it from a token that an issuer signed.
//! To check one takes a microsecond, so nothing is waited for; it is remembered for a minute only, since a use that is
//! not seen is not noted.

use std::time::Duration;

use super::live::{KeyRefused, Keys};
use super::text::{self, NotAKey};
use crate::cache::Keep;
use crate::gate::{Asked, Checked, Fresh, Moment};
use crate::proof::{self, NoProof, PROOF_BYTES_MAX, Proof};
use crate::refusal::{Refused, Why, challenge as challenge_of};

/// A key is looked up anew after that time.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Which keys, and where they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The keys.
    pub keys: Keys,
    /// A field that holds nothing else, besides `Authorization: Bearer`.
    pub header: Option<String>,
}

/// The method, ready.
#[derive(Debug)]
pub(crate) struct KeyMethod {
    config: Config,
}

impl KeyMethod {
    pub(crate) fn build(config: &Config) -> Self {
        Self { config: config.clone() }
    }

    pub(crate) fn find<'a>(&self, asked: &Asked<'a>) -> Result<Proof<'a>, NoProof> {
        let fields = &asked.head.fields;
        let own = match &self.config.header {
            Some(header) => proof::field(fields, header),
            None => Err(NoProof::Absent),
        };
        let found = match own {
            Err(NoProof::Absent) => proof::credentials(fields, b"bearer").and_then(|token| {
                if text::looks_like_a_key(token) { Ok(token) } else { Err(NoProof::Absent) }
            }),
            other => other,
        };
        match found {
            Ok(b"") => Err(NoProof::Absent),
            Ok(key) if key.len() > PROOF_BYTES_MAX => Err(NoProof::Malformed("the key is too long")),
            Ok(key) => Ok(Proof::Secret(key)),
            Err(why) => Err(why),
        }
    }

    pub(crate) fn check(&self, key: &[u8], at: Moment) -> Checked {
        let since = self.config.keys.since();
        match self.config.keys.check(key, at.wall) {
            Ok(identity) => {
                let until = identity.expires.unwrap_or(Duration::MAX).min(at.wall + REMEMBERED);
                Checked::Known(Fresh::new((*identity).clone(), Some(Keep { until, since })))
            }
            Err(KeyRefused::NotAKey(NotAKey::Damaged)) => Checked::Refused(Refused::invalid(
                "the key was mistyped, or not copied whole: its checksum is wrong",
                "",
            )),
            Err(why @ KeyRefused::Expired) => {
                Checked::Refused(Refused::new(Why::Expired, "the key has expired", why.to_string()))
            }
            Err(why) => Checked::Refused(Refused::invalid("there is no such key", why.to_string())),
        }
    }

    /// No scheme is registered for keys in fields of their own; as a bearer token each is good too (RFC 6750 section 3).
    pub(crate) fn challenge(&self, realm: &str, wrong: Option<&Refused>) -> String {
        let error = wrong.and_then(|refused| refused.why.bearer_error());
        let description = wrong.filter(|_| error.is_some()).map(|refused| refused.reason);
        challenge_of(
            "Bearer",
            &[("realm", Some(realm)), ("error", error), ("error_description", description)],
        )
    }
}
