//! Changes to a request's query: parameters taken out, and parameters put in the place of whatever had their name.
//!
//! Names are compared decoded, so that `%61=1` does not slip past a rule about `a`. What is not named stays byte for byte
//! and in its order, because an app may have signed it; what is put in comes last.

use crate::{
    query,
    request::Request,
    rewrite::{ExpandError, OUTPUT_BYTES_MAX},
    table::Match,
    text,
    value::{ValueSource, ValueTemplate},
};

/// How many parameters one edit may name.
pub const EDITS_MAX: usize = 64;

/// What becomes of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryEdit {
    /// Names, decoded: those that are taken out, and those that are put in anew.
    removed: Box<[Box<str>]>,
    /// Encoded name and value.
    set: Box<[(Box<str>, ValueTemplate)]>,
}

/// An edit that names too much, or the same twice. The fault is the file's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// More than [`EDITS_MAX`] names.
    #[error("more than {EDITS_MAX} query parameters")]
    TooMany,
    /// A name is empty.
    #[error("a query parameter without a name")]
    NoName,
    /// A name is both set and removed.
    #[error("the query parameter `{0}` is both set and removed")]
    Both(String),
}

impl QueryEdit {
    /// Takes out the parameters `remove` and puts in those of `set`; names are plain, not percent-encoded. A value that
    /// comes out empty leaves its parameter out.
    ///
    /// # Errors
    /// [`EditError`] for what nobody can have meant.
    pub fn new(set: Vec<(String, ValueTemplate)>, remove: Vec<String>) -> Result<Self, EditError> {
        if set.len() + remove.len() > EDITS_MAX {
            return Err(EditError::TooMany);
        }
        let names = || set.iter().map(|(name, _)| name).chain(&remove);
        if names().any(String::is_empty) {
            return Err(EditError::NoName);
        }
        if let Some((both, _)) = set.iter().find(|(name, _)| remove.contains(name)) {
            return Err(EditError::Both(both.clone()));
        }
        let removed = names().map(|name| name.as_str().into()).collect();
        let encoded = |name: &str| {
            let mut out = String::new();
            text::push_all_encoded(&mut out, name, text::query_value_byte);
            out.into()
        };
        Ok(Self { removed, set: set.into_iter().map(|(name, value)| (encoded(&name), value)).collect() })
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty()
    }

    /// The query that takes the place of the request's; `None` where nothing is left of it.
    ///
    /// # Errors
    /// [`ExpandError::TooLong`] when a value or the whole gets too long. The fault is the request's.
    pub fn apply<R: Request + ?Sized>(
        &self,
        request: &R,
        found: Option<&Match>,
        source: &impl ValueSource,
    ) -> Result<Option<String>, ExpandError> {
        let before = request.query().unwrap_or("");
        let mut out = String::with_capacity(before.len() + 32 * self.set.len());
        for pair in before.split('&').filter(|pair| !pair.is_empty() && !self.removes(pair)) {
            push_pair(&mut out, pair);
        }
        let mut value = Vec::new();
        for (name, template) in &self.set {
            value.clear();
            template.expand(request, found, source, &mut value)?;
            let value = std::str::from_utf8(&value).expect("invariant: a filled-in value is ASCII");
            if !value.is_empty() {
                push_pair(&mut out, name);
                out.push('=');
                text::push_encoded(&mut out, value, text::query_value_byte);
            }
            if out.len() > OUTPUT_BYTES_MAX {
                return Err(ExpandError::TooLong);
            }
        }
        Ok(if out.is_empty() { None } else { Some(out) })
    }

    fn removes(&self, pair: &str) -> bool {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        self.removed.iter().any(|removed| query::stands_for(name, removed))
    }
}

fn push_pair(out: &mut String, pair: &str) {
    if !out.is_empty() {
        out.push('&');
    }
    out.push_str(pair);
}
