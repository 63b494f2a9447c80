//! What is known of one key, and what may be asked for in a new one.
//!
//! A record holds nothing that opens a door: the hash of a key, and what the key is for. Whatever stands in it was
//! looked at before, when it was made and again when it is read, since people edit files.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text::{self, Hash, Id};

/// The longest name.
const NAME_BYTES_MAX: usize = 100;
/// Roles of one key.
const ROLES_MAX: usize = 32;
/// The longest role.
const ROLE_BYTES_MAX: usize = 64;
/// What a limit may count by.
const PERIODS: [&str; 5] = ["s", "m", "h", "d", "month"];

/// One key, without its secret. Times are seconds since 1970.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// By what it is found and revoked.
    pub id: String,
    /// What it is for, in its maker's words.
    pub name: String,
    /// SHA-256 of the whole key, in hexadecimal.
    hash: String,
    /// What its owner may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// A limit of its own, such as `100/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// When it was made.
    pub created: u64,
    /// From when on it opens nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// A key that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it is for.
    pub name: String,
    /// What its owner may do.
    #[serde(default)]
    pub roles: Vec<String>,
    /// A limit of its own, such as `100/s`.
    #[serde(default)]
    pub limit: Option<String>,
    /// How long it lasts, in seconds; for ever when absent.
    #[serde(default)]
    pub lasts_s: Option<u64>,
}

/// What is wrong with a key that is to be made, or with one in the file: the user's to put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewKeyError {
    /// The name.
    #[error("a key's name has 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    Name,
    /// A role.
    #[error(
        "a key has at most {ROLES_MAX} roles, each of 1 to {ROLE_BYTES_MAX} visible ASCII characters without a comma"
    )]
    Roles,
    /// The limit.
    #[error("{0:?} is no limit; write a number of requests and /s, /m, /h, /d or /month, such as 100/s")]
    Limit(String),
    /// It would have ended before it began.
    #[error("a key lasts at least a second")]
    Expired,
    /// The id or the hash, which nobody writes by hand.
    #[error("its id or its hash is damaged; make another key with `terrace keys create`")]
    Damaged,
}

impl KeyRecord {
    /// The record of `key`, made at `now` (seconds since 1970).
    pub(super) fn new(new: NewKey, key: &text::KeyText, now: u64) -> Result<Self, NewKeyError> {
        let expires = match new.lasts_s {
            Some(0) => return Err(NewKeyError::Expired),
            Some(seconds) => Some(now.saturating_add(seconds)),
            None => None,
        };
        let NewKey { name, mut roles, limit, lasts_s: _ } = new;
        roles.sort();
        roles.dedup();
        let hash = data_encoding::HEXLOWER.encode(&key.hash());
        let record = Self { id: key.id().to_owned(), name, hash, roles, limit, created: now, expires };
        record.parts()?;
        Ok(record)
    }

    /// What a request needs of it; everything in it is looked at.
    pub(super) fn parts(&self) -> Result<(Id, Hash), NewKeyError> {
        let is_name = (1..=NAME_BYTES_MAX).contains(&self.name.len());
        if !is_name || self.name.chars().any(char::is_control) {
            return Err(NewKeyError::Name);
        }
        if self.roles.len() > ROLES_MAX || !self.roles.iter().all(|role| is_role(role)) {
            return Err(NewKeyError::Roles);
        }
        if let Some(limit) = self.limit.as_ref().filter(|limit| !is_limit(limit)) {
            return Err(NewKeyError::Limit(limit.clone()));
        }
        let hash = data_encoding::HEXLOWER.decode(self.hash.as_bytes()).ok();
        match (text::read_id(&self.id), hash.and_then(|hash| Hash::try_from(hash).ok())) {
            (Some(id), Some(hash)) => Ok((id, hash)),
            _ => Err(NewKeyError::Damaged),
        }
    }

    /// Whether it opens nothing any more at `now`, since 1970.
    #[must_use]
    pub fn is_expired(&self, now: Duration) -> bool {
        self.expires.is_some_and(|expires| now.as_secs() >= expires)
    }
}

/// The hash is left out: it is good for nothing, and somebody will take it for a secret.
impl fmt::Debug for KeyRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("roles", &self.roles)
            .field("limit", &self.limit)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Roles are sent on in one field, a comma between them.
fn is_role(role: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_graphic() && byte != b',';
    (1..=ROLE_BYTES_MAX).contains(&role.len()) && role.bytes().all(is_fit)
}

fn is_limit(text: &str) -> bool {
    let Some((count, period)) = text.split_once('/') else { return false };
    let is_count = count.bytes().all(|byte| byte.is_ascii_digit());
    is_count && count.parse::<u32>().is_ok_and(|count| count > 0) && PERIODS.contains(&period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(new: NewKey) -> Result<KeyRecord, NewKeyError> {
        KeyRecord::new(new, &text::KeyText::random(), 1_800_000_000)
    }

    fn named(name: &str) -> NewKey {
        NewKey { name: name.to_owned(), ..NewKey::default() }
    }

    #[test]
    fn a_key_holds_what_it_was_made_with() {
        let roles = ["writer", "reader", "writer"].map(str::to_owned).to_vec();
        let record =
            made(NewKey { roles, limit: Some("5/month".to_owned()), lasts_s: Some(60), ..named("ci") });
        let record = record.unwrap();
        assert_eq!(record.roles, ["reader", "writer"]);
        assert_eq!((record.created, record.expires), (1_800_000_000, Some(1_800_000_060)));
        assert!(!record.is_expired(Duration::from_secs(1_800_000_059)));
        assert!(record.is_expired(Duration::from_secs(1_800_000_060)));
        assert!(!format!("{record:?}").contains(&record.hash));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for name in ["", "a\nb", &"x".repeat(101)] {
            assert_eq!(made(named(name)), Err(NewKeyError::Name), "{name:?}");
        }
        for role in ["", "a,b", "ä", "with blank", &"x".repeat(65)] {
            assert_eq!(made(NewKey { roles: vec![role.to_owned()], ..named("x") }), Err(NewKeyError::Roles));
        }
        let many = (0..33).map(|role| role.to_string()).collect();
        assert_eq!(made(NewKey { roles: many, ..named("x") }), Err(NewKeyError::Roles));
        for limit in ["", "5", "/s", "0/s", "+5/s", "5/w", "5/s ", "99999999999/s"] {
            let refused = Err(NewKeyError::Limit(limit.to_owned()));
            assert_eq!(made(NewKey { limit: Some(limit.to_owned()), ..named("x") }), refused);
        }
        assert_eq!(made(NewKey { lasts_s: Some(0), ..named("x") }), Err(NewKeyError::Expired));
    }
}
