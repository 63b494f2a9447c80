//! `[users.NAME]` and `[keys]`: people with passwords, and programs with keys, that Terrace itself knows.

use terrace_auth::Users;

use super::problem::Finding;
use super::read::{Read, Reader, table};
use super::tree::Node;
use super::values::{FilePath, Token};

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

/// Keys for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeys {
    /// The header that a key comes in.
    pub header: String,
}

/// The users called `name`.
pub(crate) fn resolve(name: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Users> {
    let table = UsersTable::read(node, reader)?;
    let origin = node.origin_of("file");
    let text = reader.side_text(&table.file.0, origin)?;
    match Users::parse(name, &text) {
        Ok(users) if users.is_empty() => {
            reader.refuse(Finding::new(origin, format!("there is nobody in {}", table.file.0)))
        }
        Ok(users) => Some(users),
        Err(errors) => {
            for error in errors {
                reader.report(Finding::new(origin, format!("{}, {error}", table.file.0)));
            }
            None
        }
    }
}

pub(crate) fn resolve_keys(node: &Node, reader: &mut Reader<'_>) -> Option<ApiKeys> {
    let table = KeysTable::read(node, reader)?;
    Some(ApiKeys { header: table.header.0 })
}
