//! What the service is told of who is asking, as headers, and the proof that only Terrace can have said it.
//!
//! A header that names the caller is worth what nobody else can set. So all names that any route forwards, and those that
//! Terrace uses by default, are taken out of every client's request on every route, also where a server would read `X_Tier`
//! as `X-Tier`.

use terrace_http::Known;

use crate::identity::Identity;

/// What is told when the file names nothing, and what no client may set once there is any identity.
pub const DEFAULT_HEADERS: [(&str, Source); 4] = [
    ("X-Auth-Subject", Source::Subject),
    ("X-Auth-Issuer", Source::Issuer),
    ("X-Auth-Roles", Source::Roles),
    ("X-Auth-Method", Source::Method),
];

/// A longer value is not told.
const VALUE_BYTES_MAX: usize = 4 << 10;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Who it is.
    Subject,
    /// Who vouches for it.
    Issuer,
    /// The roles, joined by commas.
    Roles,
    /// The scopes, joined by spaces.
    Scopes,
    /// How it was proved.
    Method,
    /// The claim at that path, as [`Identity::claim_text`] has it.
    Claim(String),
}

/// Why a header cannot be had; the file's to put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Not a source.
    #[error("`{0}` says nothing of who is asking; write sub, iss, roles, scopes, method or claim:PATH")]
    Source(String),
    /// No name that HTTP allows.
    #[error("`{0}` is no name of a header")]
    Name(String),
    /// A header that HTTP or Terrace itself uses.
    #[error("the header `{0}` has another meaning; choose another, such as X-User")]
    Taken(String),
}

impl Source {
    /// Reads `sub`, `iss`, `roles`, `scopes`, `method` or `claim:PATH`.
    ///
    /// # Errors
    /// [`ForwardError::Source`] for anything else.
    pub fn parse(word: &str) -> Result<Self, ForwardError> {
        match word {
            "sub" => Ok(Self::Subject),
            "iss" => Ok(Self::Issuer),
            "roles" => Ok(Self::Roles),
            "scopes" | "scope" => Ok(Self::Scopes),
            "method" => Ok(Self::Method),
            _ => match word.strip_prefix("claim:") {
                Some(path) if !path.is_empty() => Ok(Self::Claim(path.to_owned())),
                _ => Err(ForwardError::Source(word.to_owned())),
            },
        }
    }

    /// The value for them; nothing where there is none that a header may hold.
    fn value(&self, identity: &Identity) -> Option<String> {
        let value = match self {
            Self::Subject => identity.subject.clone(),
            Self::Issuer => identity.issuer.clone(),
            Self::Roles => joined(&identity.roles, ","),
            Self::Scopes => joined(&identity.scopes, " "),
            Self::Method => identity.method.as_str().to_owned(),
            Self::Claim(path) => identity.claim_text(path)?.into_owned(),
        };
        is_value(&value).then_some(value)
    }
}

/// Those that can stand in one list without seeming to be several.
fn joined(list: &[String], separator: &str) -> String {
    let is_one = |text: &&str| !text.is_empty() && !text.contains([',', ' ']);
    let single: Vec<&str> = list.iter().map(String::as_str).filter(is_one).collect();
    single.join(separator)
}

/// A value that reads the same on the other side (RFC 9110 section 5.5): nothing that ends a line, and no blank at its ends.
fn is_value(value: &str) -> bool {
    let is_clean = !value.chars().any(char::is_control) && value.trim() == value;
    is_clean && !value.is_empty() && value.len() <= VALUE_BYTES_MAX
}

/// Whether a header of that name may be told.
///
/// # Errors
/// [`ForwardError::Name`], [`ForwardError::Taken`].
pub fn check_header(name: &str) -> Result<(), ForwardError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        return Err(ForwardError::Name(name.to_owned()));
    }
    match Known::lookup_as_read(name.as_bytes()) {
        Some(_) => Err(ForwardError::Taken(name.to_owned())),
        None => Ok(()),
    }
}

/// The headers for them, in the order of the file.
pub(crate) fn headers(wanted: &[(String, Source)], identity: &Identity) -> Vec<(Box<str>, Box<str>)> {
    let header = |(name, source): &(String, Source)| {
        let value = source.value(identity)?;
        Some((name.as_str().into(), value.into()))
    };
    wanted.iter().filter_map(header).collect()
}

/// Names that no client may set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reserved {
    /// In lower case, `_` as `-`, each once.
    names: Vec<Box<[u8]>>,
    /// A bit for each length that there is, the last for all from 63 on: most fields are no longer looked at.
    lengths: u64,
}

impl Reserved {
    /// These names, and those that Terrace tells by default.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut reserved = Self::default();
        for name in DEFAULT_HEADERS.iter().map(|(name, _)| *name).chain(names) {
            let name: Box<[u8]> = name.bytes().map(folded).collect();
            reserved.lengths |= 1 << name.len().min(63);
            if !reserved.names.contains(&name) {
                reserved.names.push(name);
            }
        }
        reserved
    }

    /// Whether a client's field of that name is taken out, in whatever case and with whatever dashes it is written.
    #[inline]
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.lengths & (1 << name.len().min(63)) != 0
            && self.names.iter().any(|reserved| is_read_as(name, reserved))
    }

    /// Whether there are none, since nobody is asked who they are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

fn is_read_as(name: &[u8], reserved: &[u8]) -> bool {
    name.len() == reserved.len() && name.iter().zip(reserved).all(|(byte, wanted)| folded(*byte) == *wanted)
}

fn folded(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Method;

    fn value(source: &str, identity: &Identity) -> Option<String> {
        Source::parse(source).expect("a source").value(identity)
    }

    #[test]
    fn what_is_told_can_be_nothing_but_one_value() {
        let claims =
            serde_json::from_str(r#"{"tier":"gold","evil":"x\r\nX-Admin: 1","blank":" x","name":"Zoë"}"#);
        let ann = Identity {
            roles: vec!["a".into(), "b,admin".into(), "c d".into(), "e".into()],
            scopes: vec!["x:y".into(), "z".into()],
            claims: claims.expect("an object"),
            ..Identity::new(Method::Token, "https://id.example.com", "ann")
        };
        assert_eq!(value("roles", &ann).as_deref(), Some("a,e"));
        assert_eq!(value("scopes", &ann).as_deref(), Some("x:y z"));
        assert_eq!(value("method", &ann).as_deref(), Some("jwt"));
        assert_eq!(value("claim:tier", &ann).as_deref(), Some("gold"));
        assert_eq!(value("claim:name", &ann).as_deref(), Some("Zoë"));
        for source in ["claim:evil", "claim:blank", "claim:absent"] {
            assert_eq!(value(source, &ann), None, "{source}");
        }
        let long = Identity::new(Method::Key, "keys", "x".repeat(VALUE_BYTES_MAX + 1));
        assert_eq!((value("sub", &long), value("roles", &long)), (None, None));
    }

    #[test]
    fn a_reserved_name_is_known_however_it_is_written() {
        let reserved = Reserved::new(["X-User", "x-tier"]);
        for name in ["X-User", "x_user", "X-TIER", "x-Tier", "x-auth-subject", "X_Auth-Roles"] {
            assert!(reserved.contains(name.as_bytes()), "{name}");
        }
        for name in ["X-Use", "X-Users", "host", "", "x--ier"] {
            assert!(!reserved.contains(name.as_bytes()), "{name}");
        }
        assert!(!reserved.contains(&[b'x'; 500]));
        assert!(Reserved::default().is_empty() && !Reserved::default().contains(b"x-auth-subject"));
    }

    #[test]
    fn a_header_that_means_something_else_cannot_be_told() {
        for name in ["Host", "content-length", "Authorization", "x_forwarded_for", "Transfer-Encoding"] {
            assert_eq!(check_header(name), Err(ForwardError::Taken(name.to_owned())));
        }
        for name in ["", "a b", "a:", "x\n", "ü"] {
            assert_eq!(check_header(name), Err(ForwardError::Name(name.to_owned())));
        }
        assert_eq!(check_header("X-User"), Ok(()));
        assert!(matches!(Source::parse("claim:"), Err(ForwardError::Source(_))));
    }
}
