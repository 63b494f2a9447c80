//! The list of users of basic authentication: lines of `name:hash` or `name:hash:role,role`, as `htpasswd -B` writes them.
//!
//! Only hashes that are slow on purpose are taken: argon2 (RFC 9106, as PHC strings) and bcrypt. A hash also says how much work it
//! is to check, and whoever can write into the file could ask for hours of it, so that is bounded. Every line that is wrong
//! is told, with its number.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Users in one list.
const USERS_MAX: usize = 10_000;
const NAME_BYTES_MAX: usize = 256;
const ROLES_MAX: usize = 32;
const ROLE_BYTES_MAX: usize = 64;
/// What checking one argon2 hash may take: memory in KiB, rounds, lanes.
const ARGON2_KIB_MAX: u32 = 256 << 10;
const ARGON2_ROUNDS_MAX: u32 = 16;
const ARGON2_LANES_MAX: u32 = 16;
/// About two seconds of a processor.
const BCRYPT_COST_MAX: u32 = 15;

/// A list of users, as its file has them. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Users(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    name: String,
    users: HashMap<String, User>,
    /// What a guess at a user who is not there is checked with: all hashes, so that it takes as long as one at somebody who is.
    decoys: Vec<Arc<Hash>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) hash: Arc<Hash>,
    pub(crate) roles: Vec<String>,
}

/// A hash of a password, known to be one that we can check.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Hash {
    Argon2(String),
    Bcrypt(String),
}

/// A line that is wrong: the user's to put right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct UsersError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it; the hash is not repeated.
    pub problem: UsersProblem,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersProblem {
    /// Not `name:hash`.
    #[error(
        "write a name, a colon and a hash, as `htpasswd -B` does, and if need be another colon and roles"
    )]
    Shape,
    /// The name.
    #[error("a user's name has 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    Name,
    /// A role.
    #[error(
        "a user has at most {ROLES_MAX} roles, each of 1 to {ROLE_BYTES_MAX} visible ASCII characters, a comma between them"
    )]
    Roles,
    /// The name stands further up.
    #[error("the user {0} is in the list already")]
    Twice(String),
    /// A password in the clear, or a hash that is too fast.
    #[error("the hash is none of argon2 ($argon2id$…) or bcrypt ($2y$…); make one with `htpasswd -nB NAME`")]
    Hash,
    /// A hash that takes too long.
    #[error(
        "checking the hash would take too much: at most {ARGON2_KIB_MAX} KiB, {ARGON2_ROUNDS_MAX} rounds and \
         {ARGON2_LANES_MAX} lanes of argon2, or cost {BCRYPT_COST_MAX} of bcrypt"
    )]
    TooSlow,
    /// The bound on users.
    #[error("there are more than {USERS_MAX} users")]
    TooMany,
}

impl Users {
    /// Reads the list called `name` from the text of its file.
    ///
    /// # Errors
    /// All lines that are wrong.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<UsersError>> {
        let (mut users, mut errors) = (HashMap::new(), Vec::new());
        let lines = (1..).zip(text.lines());
        for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty() && !text.starts_with('#')) {
            match parse_line(text.trim_end()) {
                _ if users.len() >= USERS_MAX => {
                    errors.push(UsersError { line, problem: UsersProblem::TooMany });
                    break;
                }
                Ok((name, _)) if users.contains_key(&name) => {
                    errors.push(UsersError { line, problem: UsersProblem::Twice(name) });
                }
                Ok((name, user)) => drop(users.insert(name, user)),
                Err(problem) => errors.push(UsersError { line, problem }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut decoys: Vec<Arc<Hash>> = users.values().map(|user: &User| Arc::clone(&user.hash)).collect();
        decoys.sort_by(|one, other| one.text().cmp(other.text()));
        Ok(Self(Arc::new(Inner { name: name.to_owned(), users, decoys })))
    }

    /// The list's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.users.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.users.is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&User> {
        self.0.users.get(name)
    }

    /// A hash to check a guess with at somebody who is not there: for one name always the same, and of all names each as
    /// often as any other. Nothing when there are no users, where there is nothing to hide.
    pub(crate) fn decoy(&self, number: u64) -> Option<&Arc<Hash>> {
        let count = self.0.decoys.len() as u64;
        if count == 0 { None } else { self.0.decoys.get((number % count) as usize) }
    }
}

impl Hash {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Argon2(text) | Self::Bcrypt(text) => text,
        }
    }

    /// Whether it is the password's. Takes tens of milliseconds of a processor, on purpose.
    pub(crate) fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(text) => {
                use argon2::PasswordVerifier as _;
                let hash = argon2::PasswordHash::new(text);
                let hash = hash.expect("invariant: it was parsed when it was read");
                argon2::Argon2::default().verify_password(password, &hash).is_ok()
            }
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
        }
    }

    fn parse(text: &str) -> Result<Self, UsersProblem> {
        match text {
            _ if text.starts_with("$argon2") => parse_argon2(text),
            _ if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) => parse_bcrypt(text),
            _ => Err(UsersProblem::Hash),
        }
    }
}

fn parse_argon2(text: &str) -> Result<Hash, UsersProblem> {
    let hash = argon2::PasswordHash::new(text).map_err(|_| UsersProblem::Hash)?;
    let is_known = argon2::Algorithm::try_from(hash.algorithm).is_ok();
    let params = argon2::Params::try_from(&hash).map_err(|_| UsersProblem::Hash)?;
    if !is_known || hash.salt.is_none() || hash.hash.is_none() {
        return Err(UsersProblem::Hash);
    }
    let is_bounded = params.m_cost() <= ARGON2_KIB_MAX
        && params.t_cost() <= ARGON2_ROUNDS_MAX
        && params.p_cost() <= ARGON2_LANES_MAX;
    if is_bounded { Ok(Hash::Argon2(text.to_owned())) } else { Err(UsersProblem::TooSlow) }
}

fn parse_bcrypt(text: &str) -> Result<Hash, UsersProblem> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| UsersProblem::Hash)?;
    match parts.get_cost() {
        4..=BCRYPT_COST_MAX => Ok(Hash::Bcrypt(text.to_owned())),
        0..4 => Err(UsersProblem::Hash),
        _ => Err(UsersProblem::TooSlow),
    }
}

fn parse_line(text: &str) -> Result<(String, User), UsersProblem> {
    let (name, rest) = text.split_once(':').ok_or(UsersProblem::Shape)?;
    let (hash, roles) = match rest.split_once(':') {
        Some((hash, roles)) => (hash, roles),
        None => (rest, ""),
    };
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.chars().any(char::is_control) {
        return Err(UsersProblem::Name);
    }
    let roles: Vec<String> = if roles.is_empty() {
        Vec::new()
    } else {
        roles.split(',').map(|role| role.trim().to_owned()).collect()
    };
    let is_role = |role: &String| {
        (1..=ROLE_BYTES_MAX).contains(&role.len())
            && role.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
    };
    if roles.len() > ROLES_MAX || !roles.iter().all(is_role) {
        return Err(UsersProblem::Roles);
    }
    Ok((name.to_owned(), User { hash: Arc::new(Hash::parse(hash.trim())?), roles }))
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Users({}, {}, redacted)", self.0.name, self.len())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hash(redacted)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `secret`, by argon2id with hardly any work.
    pub(crate) const ARGON2: &str =
        "$argon2id$v=19$m=8,t=1,p=1$46P5yPpIER1qLkIyyGwJug$zTN7mFWu9tl1U2CSyJh45BpEvRERDpfqvv/Gxu8Kh4g";
    /// `secret`, by bcrypt with the least work.
    pub(crate) const BCRYPT: &str = "$2y$04$B2GCexTzaxTMIYxOnohMp.y2YPATc5.0RGupehhrNzu8PGtrDByWm";

    fn problems(text: &str) -> Vec<(usize, UsersProblem)> {
        let errors = Users::parse("staff", text).expect_err("wrong");
        errors.into_iter().map(|error| (error.line, error.problem)).collect()
    }

    #[test]
    fn a_list_holds_users_with_their_roles() {
        let text = format!("# staff\n\nann:{ARGON2}:admin, reader\r\nbob:{BCRYPT}\nzoë q:{BCRYPT}:\n");
        let users = Users::parse("staff", &text).expect("a list");
        assert_eq!((users.len(), users.name()), (3, "staff"));
        assert_eq!(users.get("ann").expect("there").roles, ["admin", "reader"]);
        assert!(users.get("ann").expect("there").hash.is_of(b"secret"));
        assert!(!users.get("ann").expect("there").hash.is_of(b"Secret"));
        assert!(users.get("bob").expect("there").hash.is_of(b"secret"));
        assert!(!users.get("bob").expect("there").hash.is_of(b""));
        assert!(users.get("zoë q").is_some() && users.get("Ann").is_none());
        assert!(!format!("{users:?}{:?}", users.get("bob")).contains("$2y"));
    }

    #[test]
    fn every_wrong_line_is_told_with_its_number() {
        let found = problems(&format!(
            "ann:{BCRYPT}\nann:{BCRYPT}\nbob\n:{BCRYPT}\nc\tc:{BCRYPT}\nd:{BCRYPT}:a b\ne:{BCRYPT}:x,,y\nf:{BCRYPT}:a:b\n"
        ));
        use UsersProblem::{Name, Roles, Shape, Twice};
        let expected = vec![
            (2, Twice("ann".into())),
            (3, Shape),
            (4, Name),
            (5, Name),
            (6, Roles),
            (7, Roles),
            (8, Roles),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_hash_that_is_fast_or_takes_for_ever_is_refused() {
        for hash in [
            "secret",
            "",
            "$apr1$x$y",
            "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "$5$salt$hash",
            "$2y$04$short",
            "$2x$04$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuabcdefghijklm",
            "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ",
            "$argon2zz$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(problems(&format!("a:{hash}")), [(1, UsersProblem::Hash)], "{hash}");
        }
        let slow = BCRYPT.replacen("$04$", "$16$", 1);
        let wide = ARGON2.replacen("m=8", "m=262145", 1);
        let long = ARGON2.replacen("t=1", "t=17", 1);
        for hash in [slow, wide, long] {
            assert_eq!(problems(&format!("a:{hash}")), [(1, UsersProblem::TooSlow)], "{hash}");
        }
    }

    #[test]
    fn who_is_not_there_is_checked_like_somebody_who_is() {
        let users = Users::parse("staff", &format!("ann:{ARGON2}\nbob:{BCRYPT}\n")).expect("a list");
        let decoys: Vec<&str> = (0..4).map(|number| users.decoy(number).expect("one").text()).collect();
        assert_eq!(decoys, [decoys[0], decoys[1], decoys[0], decoys[1]]);
        assert_ne!(decoys[0], decoys[1]);
        assert!(Users::parse("staff", "").expect("an empty list").decoy(1).is_none());
    }
}
