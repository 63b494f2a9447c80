//! What a user would say of routes, and the table against a matcher that tries every rule.

mod law;
mod model;
mod patterns;
mod tables;
mod templates;
mod values;

use crate::{Conditions, Pattern, Request, Rule};

/// A request head for tests.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    /// `GET shop.example.com/orders?v=2`.
    pub(super) fn new(line: &str) -> Self {
        let (method, target) = line.split_once(' ').expect("a method and a target");
        let slash = target.find('/').expect("a path");
        let (path, query) = match target[slash..].split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (&target[slash..], None),
        };
        Self {
            method: method.to_owned(),
            host: target[..slash].to_owned(),
            path: path.to_owned(),
            query,
            headers: Vec::new(),
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Request for Head {
    fn method(&self) -> &str {
        &self.method
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    fn header(&self, name_lower: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == name_lower)?;
        Some(value.as_bytes())
    }
}

pub(super) fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A rule named like its patterns, which are divided by spaces.
pub(super) fn rule(at: &str, conditions: Conditions) -> Rule {
    Rule {
        name: at.to_owned(),
        at: at.split_whitespace().map(pattern).collect(),
        conditions,
        listeners: Vec::new(),
    }
}
