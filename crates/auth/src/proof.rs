//! Where a request carries a proof.
//!
//! A proof is looked for where the file says, and nowhere else. Two different proofs in one place are refused, since the
//! service behind may read the other one.

use std::fmt;

use terrace_http::{Fields, Known};

/// A longer credential is no credential.
pub(crate) const PROOF_BYTES_MAX: usize = 16 << 10;

/// Where a token is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// `Authorization: Bearer …` (RFC 6750 section 2.1).
    #[default]
    Bearer,
    /// The whole value of that field; a `Bearer` before it is passed over.
    Header(String),
    /// The value of that cookie.
    Cookie(String),
}

/// What a request shows of who is asking.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof<'a> {
    /// Signed or encrypted: whoever has its last bytes has been given it. Remembered whole.
    Sealed(&'a [u8]),
    /// A password or what is like one: remembered by a keyed hash alone.
    Secret(&'a [u8]),
}

/// A place that shows nothing, or what cannot be a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoProof {
    /// Nothing is there.
    Absent,
    /// Several are there, or one that is too long; what to tell the client.
    Malformed(&'static str),
}

impl<'a> Proof<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Sealed(bytes) | Self::Secret(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Proof(…)")
    }
}

const SEVERAL: NoProof = NoProof::Malformed("the request shows several proofs of who is asking");
const TOO_LONG: NoProof = NoProof::Malformed("the proof of who is asking is too long");

impl Place {
    /// The credential there.
    pub(crate) fn find<'a>(&self, fields: &'a Fields) -> Result<&'a [u8], NoProof> {
        let found = match self {
            Self::Bearer => credentials(fields, b"bearer"),
            Self::Header(name) => field(fields, name).map(without_scheme),
            Self::Cookie(name) => cookie(fields, name.as_bytes()),
        };
        match found {
            Ok(b"") => Err(NoProof::Absent),
            Ok(bytes) if bytes.len() > PROOF_BYTES_MAX => Err(TOO_LONG),
            other => other,
        }
    }
}

/// What follows the scheme (lower case) in `Authorization`, when it is that scheme (RFC 9110 section 11.4).
pub(crate) fn credentials<'a>(fields: &'a Fields, scheme: &[u8]) -> Result<&'a [u8], NoProof> {
    let mut all = fields.all(Known::Authorization);
    let first = all.next().ok_or(NoProof::Absent)?;
    if all.next().is_some() {
        return Err(SEVERAL);
    }
    after_scheme(first, scheme).ok_or(NoProof::Absent)
}

/// The value of that field, of which there must be one.
pub(crate) fn field<'a>(fields: &'a Fields, name: &str) -> Result<&'a [u8], NoProof> {
    let mut all = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
    let (_, first) = all.next().ok_or(NoProof::Absent)?;
    match all.next() {
        Some(_) => Err(SEVERAL),
        None => Ok(first.trim_ascii()),
    }
}

/// The value of the cookie of that name (RFC 6265 section 4.2.1), without the quotes that may be around it. It may stand there
/// twice with one value, since browsers keep cookies by their path too; of two values the service behind might read the other.
pub(crate) fn cookie<'a>(fields: &'a Fields, name: &[u8]) -> Result<&'a [u8], NoProof> {
    let mut found = None;
    for pair in fields.all(Known::Cookie).flat_map(|value| value.split(|byte| *byte == b';')) {
        let Some(value) = named_value(pair.trim_ascii(), name) else { continue };
        match found {
            Some(before) if before != value => return Err(SEVERAL),
            _ => found = Some(value),
        }
    }
    found.ok_or(NoProof::Absent)
}

fn named_value<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    // Some apps read a name without the spaces behind it.
    let value = pair.strip_prefix(name)?.trim_ascii_start().strip_prefix(b"=")?.trim_ascii();
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(inner.unwrap_or(value))
}

fn without_scheme(value: &[u8]) -> &[u8] {
    after_scheme(value, b"bearer").unwrap_or(value)
}

fn after_scheme<'a>(value: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = value.split_at_checked(scheme.len())?;
    // Schemes are lower-case letters, of which the other case lacks one bit.
    let is_named = found.iter().zip(scheme).all(|(byte, letter)| byte | 0x20 == *letter);
    let is_it = is_named && rest.first() == Some(&b' ');
    is_it.then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in list {
            fields.append(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn rfc6750_2_1_a_bearer_token_follows_its_scheme_in_any_case() {
        for value in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(Place::Bearer.find(&fields(&[("Authorization", value)])), Ok(&b"abc"[..]), "{value}");
        }
        for value in ["Basic abc", "Bearer", "Bearer ", "Bearerabc", "abc", ""] {
            let sent = fields(&[("Authorization", value)]);
            assert_eq!(Place::Bearer.find(&sent), Err(NoProof::Absent), "{value}");
        }
    }

    #[test]
    fn several_proofs_in_one_place_are_refused() {
        let twice = fields(&[("Authorization", "Bearer a"), ("authorization", "Bearer b")]);
        assert_eq!(Place::Bearer.find(&twice), Err(SEVERAL));
        let twice = fields(&[("X-Token", "a"), ("x-token", "a")]);
        assert_eq!(Place::Header("X-Token".into()).find(&twice), Err(SEVERAL));
        let long = "x".repeat(PROOF_BYTES_MAX + 1);
        assert_eq!(Place::Header("X-Token".into()).find(&fields(&[("X-Token", &long)])), Err(TOO_LONG));
    }

    #[test]
    fn rfc6265_4_2_1_a_cookie_is_found_by_its_whole_name() {
        let sent =
            fields(&[("Cookie", "xsession=1; session=a.b.c"), ("cookie", "session=\"a.b.c\"; q=\"x=y\"")]);
        assert_eq!(Place::Cookie("session".into()).find(&sent), Ok(&b"a.b.c"[..]));
        assert_eq!(Place::Cookie("q".into()).find(&sent), Ok(&b"x=y"[..]));
        assert_eq!(Place::Cookie("sess".into()).find(&sent), Err(NoProof::Absent));
        for cookies in [
            &[("Cookie", "session=a; session=b")][..],
            &[("Cookie", "session=a"), ("cookie", "x=1; session=b")],
        ] {
            assert_eq!(Place::Cookie("session".into()).find(&fields(cookies)), Err(SEVERAL), "{cookies:?}");
        }
    }
}
