//! `[users.NAME]` and `[keys]`: people with passwords, and programs with keys, that Terrace itself knows.

use std::collections::BTreeSet;

use super::problem::Finding;
use super::read::{Read, Reader, table};
use super::source::Origin;
use super::tree::Node;
use super::values::{FilePath, Secret, SecretSource, Token};

table! {
    /// People with passwords, for `auth = { users = "NAME" }` (HTTP Basic). For a handful of people and behind TLS; for more,
    /// use an `[issuer.*]` with a `[login.*]`.
    pub(crate) struct UsersTable {
        /// File with a line `name:hash` for each, as `htpasswd -B` writes it: bcrypt (`$2y$…`) or an Argon2 hash
        /// (`$argon2id$…`). A third field names roles: `ann:$2y$…:admin,staff`. It is followed when it changes.
        "file" file: FilePath, example "staff.htpasswd";
    }
}

table! {
    /// Keys for programs: `terrace keys create` makes one and shows it once; only its hash is kept, in the state folder.
    pub(crate) struct KeysTable {
        /// The header that a key comes in. `Authorization: Bearer tk_…` is taken as well.
        "header" header: Token = "X-Api-Key";
    }
}

/// People with passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// Its name in the file.
    pub name: String,
    /// Lines `name:hash` or `name:hash:roles`, empty ones and comments too; never shown.
    pub lines: Secret,
}

/// Keys for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys {
    /// The header that a key comes in.
    pub header: String,
}

/// People in one file at most.
const USERS_MAX: usize = 10_000;

/// The users called `name`.
pub(crate) fn resolve(name: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Users> {
    let table = UsersTable::read(node, reader)?;
    let origin = node.origin_of("file");
    let lines = reader.side_text(&table.file.0, origin)?;
    check_lines(&lines, &table.file.0, origin, reader)?;
    Some(Users { name: name.to_owned(), lines: Secret::new(lines, SecretSource::File(table.file.0)) })
}

pub(crate) fn resolve_keys(node: &Node, reader: &mut Reader<'_>) -> Option<ApiKeys> {
    let table = KeysTable::read(node, reader)?;
    Some(ApiKeys { header: table.header.0 })
}

/// Reports every line that no password can be checked with. What stands on it is not shown.
fn check_lines(text: &str, file: &str, origin: Origin, reader: &mut Reader<'_>) -> Option<()> {
    let mut good = Some(());
    let mut names = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = match line_fault(line) {
            Some(fault) => Some(fault),
            None if !names.insert(line.split(':').next()) => Some("this name stands on an earlier line too"),
            None if names.len() > USERS_MAX => Some("there are more than 10000 people in it"),
            None => None,
        };
        if let Some(fault) = wrong {
            let finding = Finding::new(origin, format!("line {number} of {file}: {fault}"));
            good = reader.refuse(finding.help("make a line with: htpasswd -nB NAME"));
        }
    }
    if good.is_some() && names.is_empty() {
        return reader.refuse(Finding::new(origin, format!("there is nobody in {file}")));
    }
    good
}

/// Beginnings of hashes that can be checked: bcrypt in its three spellings, and the Argon2 family (PHC strings).
const HASHES: [&str; 6] = ["$2y$", "$2b$", "$2a$", "$argon2id$", "$argon2i$", "$argon2d$"];

fn line_fault(line: &str) -> Option<&'static str> {
    let Some((name, rest)) = line.split_once(':') else { return Some("it is no `name:hash`") };
    let hash = rest.split(':').next().unwrap_or_default();
    if name.is_empty() {
        return Some("it has no name");
    }
    if HASHES.iter().any(|prefix| hash.starts_with(prefix)) {
        return None;
    }
    Some(match hash {
        hash if hash.starts_with("$apr1$") => "MD5 hashes are too weak; bcrypt and Argon2 are taken",
        hash if hash.starts_with("{SHA}") => "SHA-1 hashes are too weak; bcrypt and Argon2 are taken",
        _ => "its hash is neither bcrypt ($2y$…) nor Argon2 ($argon2id$…)",
    })
}
