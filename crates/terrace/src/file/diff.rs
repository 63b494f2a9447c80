//! What a reload changes, for a person and for the audit log.
//!
//! The two configurations are compared as they are written out, so that every key is covered and a new one needs no
//! line here. What is read from elsewhere (secrets, certificates, env-files) is compared too, but never shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::private::is_private;
use super::{Guards, Resolved};

/// Keys, with their tables, that a reload takes note of but cannot bring into force.
const NEEDS_RESTART: [(&str, &str); 2] = [("terrace", "threads"), ("terrace", "state")];

/// Values of a table by their dotted keys, as TOML.
pub(crate) type Values = BTreeMap<String, String>;
/// Tables by kind and name.
pub(crate) type Written = BTreeMap<(String, Option<String>), Values>;

/// A table that a reload changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `service`, `route`, `listen`, `log`, …
    pub table: String,
    /// The name of the table, if it has one.
    pub name: Option<String>,
    /// What becomes of it.
    pub what: What,
}

/// What becomes of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// These of its keys are different.
    Changed(Vec<KeyChange>),
}

/// A key that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// Dotted, below the table.
    pub key: String,
    /// As TOML; `None`: it was absent, or is not to be shown.
    pub from: Option<String>,
    /// As TOML; `None`: it is absent now, or is not to be shown.
    pub to: Option<String>,
}

/// What changes from `old` to `new`; empty: nothing. Where only the content of a secret, a certificate or an
/// env-file is new, the change has the key `content`.
pub fn diff(old: &Resolved, new: &Resolved) -> Vec<Change> {
    let mut tables: Vec<&(String, Option<String>)> = old.written.keys().chain(new.written.keys()).collect();
    tables.sort();
    tables.dedup();
    let mut changes = Vec::new();
    for table in tables {
        let what = match (old.written.get(table), new.written.get(table)) {
            (None, _) => Some(What::Added),
            (_, None) => Some(What::Removed),
            (Some(before), Some(after)) => {
                changed(key_changes(&table.0, (before, after), content_differs(old, new, table)))
            }
        };
        let (kind, name) = table.clone();
        changes.extend(what.map(|what| Change { table: kind, name, what }));
    }
    changes
}

fn changed(keys: Vec<KeyChange>) -> Option<What> {
    if keys.is_empty() { None } else { Some(What::Changed(keys)) }
}

fn key_changes(kind: &str, (before, after): (&Values, &Values), content_differs: bool) -> Vec<KeyChange> {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut changes = Vec::new();
    for key in keys {
        let (from, to) = (before.get(key), after.get(key));
        if from != to {
            let shown = |value: Option<&String>| value.filter(|_| !is_private(kind, key)).cloned();
            changes.push(KeyChange { key: key.clone(), from: shown(from), to: shown(to) });
        }
    }
    if changes.is_empty() && content_differs {
        changes.push(KeyChange { key: "content".to_owned(), from: None, to: None });
    }
    changes
}

/// Whether two tables that are written alike still mean different things.
fn content_differs(old: &Resolved, new: &Resolved, (kind, name): &(String, Option<String>)) -> bool {
    match (kind.as_str(), name) {
        ("issuer", Some(name)) => old.identity.issuers.get(name) != new.identity.issuers.get(name),
        ("login", Some(name)) => old.identity.logins.get(name) != new.identity.logins.get(name),
        ("users", Some(name)) => old.identity.users.get(name) != new.identity.users.get(name),
        ("limit", Some(name)) => old.limits.get(name) != new.limits.get(name),
        ("route", Some(name)) => guards(old, name) != guards(new, name),
        ("service", Some(name)) => old.services.get(name) != new.services.get(name),
        ("listen", Some(name)) => old.listeners.get(name) != new.listeners.get(name),
        ("admin", None) => old.admin != new.admin,
        ("otlp", None) => old.otlp != new.otlp,
        ("notify", Some(name)) => old.receivers.get(name) != new.receivers.get(name),
        _ => false,
    }
}

/// What stands before a route, the schema that its requests are held against included.
fn guards<'r>(resolved: &'r Resolved, route: &str) -> Option<&'r Guards> {
    Some(&resolved.routes.get(route)?.guards)
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{} {from} → {to}", self.key),
            (None, Some(to)) => write!(f, "{} {to}", self.key),
            (Some(from), None) => write!(f, "{} {from} removed", self.key),
            (None, None) => write!(f, "{} changed", self.key),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", noun(&self.table))?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.what {
            What::Added => f.write_str(" added"),
            What::Removed => f.write_str(" removed"),
            What::Changed(keys) => {
                let keys: Vec<String> = keys.iter().map(|key| self.told(key)).collect();
                write!(f, ": {}", keys.join(", "))
            }
        }
    }
}

impl Change {
    /// What becomes of the key, and that it waits where it does: nobody may think it is in force.
    fn told(&self, key: &KeyChange) -> String {
        match NEEDS_RESTART.contains(&(self.table.as_str(), key.key.as_str())) {
            true => format!("{key} (takes effect when Terrace is started anew)"),
            false => key.to_string(),
        }
    }
}

/// What a person calls one table of a kind.
pub(crate) fn noun(table: &str) -> &str {
    match table {
        "listen" => "listener",
        "notify" => "receiver",
        "users" => "list of users",
        "keys" => "API keys",
        table => table,
    }
}

/// All changes in one line: tables that come or go are counted, those that change are named.
pub fn summary(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing changed".to_owned();
    }
    let mut parts = Vec::new();
    let mut counts: BTreeMap<(&str, &str), Vec<&Change>> = BTreeMap::new();
    for change in changes {
        match &change.what {
            What::Added => counts.entry((noun(&change.table), "added")).or_default().push(change),
            What::Removed => counts.entry((noun(&change.table), "removed")).or_default().push(change),
            What::Changed(_) => parts.push(change.to_string()),
        }
    }
    let counted = counts.into_iter().map(|((noun, verb), changes)| match changes.as_slice() {
        [only] => only.to_string(),
        many => format!("{} {noun}s {verb}", many.len()),
    });
    let counted: Vec<String> = counted.chain(parts).collect();
    counted.join("; ")
}
