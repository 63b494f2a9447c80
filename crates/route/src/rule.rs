//! A rule: where it is found, and what else a request must carry.
//!
//! Conditions are asked only after host and path matched, and in the order of their cost: listener, method, headers,
//! query. A rule without conditions costs one comparison.

use crate::{pattern::Pattern, query, request::Request};

/// How many headers and query parameters one rule may name together.
pub const CONDITIONS_MAX: usize = 32;

/// One route as the table sees it: everything but what it does.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The name in messages, such as the `orders` of `[route.orders]`.
    pub name: String,
    /// Where it is found; one or more.
    pub at: Vec<Pattern>,
    /// What else a request must carry.
    pub conditions: Conditions,
    /// The listeners it is limited to; empty for all.
    pub listeners: Vec<String>,
}

/// What a request must carry besides host and path; all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// One of these methods, in the case in which clients send them; empty for any.
    pub methods: Vec<String>,
    /// Headers by name (in any case), each at most once.
    pub headers: Vec<(String, HeaderMatch)>,
    /// Query parameters by decoded name, each at most once.
    pub query: Vec<(String, QueryMatch)>,
}

/// What is asked of a header's first value. Values are compared as bytes, with case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMatch {
    /// It is this.
    Exact(String),
    /// It begins with this.
    Prefix(String),
    /// It ends with this.
    Suffix(String),
    /// The header is there, with any value.
    Present,
    /// The header is not there.
    Absent,
}

/// What is asked of a query parameter's first value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryMatch {
    /// Decoded, it is this.
    Exact(String),
    /// The parameter is there, with any value or none.
    Present,
}

impl HeaderMatch {
    /// Whether a value, or that there is none, is what is asked for.
    #[must_use]
    pub fn admits(&self, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            return *self == Self::Absent;
        };
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::Present => true,
            Self::Absent => false,
        }
    }

    /// Whether no value at all (nor its absence) meets both.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), _) => !other.admits(Some(text.as_bytes())),
            (_, Self::Exact(text)) => !self.admits(Some(text.as_bytes())),
            (Self::Absent, _) | (_, Self::Absent) => self != other,
            (Self::Prefix(a), Self::Prefix(b)) => !a.starts_with(b) && !b.starts_with(a),
            (Self::Suffix(a), Self::Suffix(b)) => !a.ends_with(b) && !b.ends_with(a),
            _ => false,
        }
    }
}

impl QueryMatch {
    fn admits(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (_, None) => false,
            (Self::Exact(text), Some(value)) => query::stands_for(value, text),
            (Self::Present, Some(_)) => true,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a != b,
            _ => false,
        }
    }
}

impl Conditions {
    /// Whether a request of this method may be served.
    pub(crate) fn admit_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|known| known == method)
    }

    /// Whether the request carries what is asked of its headers and query. Names of headers are in lower case here.
    pub(crate) fn admit_fields<R: Request + ?Sized>(&self, request: &R) -> bool {
        for (name, wanted) in &self.headers {
            if !wanted.admits(request.header(name)) {
                return false;
            }
        }
        for (name, wanted) in &self.query {
            if !wanted.admits(request.query().and_then(|text| query::value(text, name))) {
                return false;
            }
        }
        true
    }

    /// Whether no request can meet both. Names of headers are in lower case here.
    pub(crate) fn exclude(&self, other: &Self) -> bool {
        let methods = !self.methods.is_empty()
            && !other.methods.is_empty()
            && !self.methods.iter().any(|method| other.methods.contains(method));
        methods
            || clash(&self.headers, &other.headers, HeaderMatch::excludes)
            || clash(&self.query, &other.query, QueryMatch::excludes)
    }

    /// With the names of headers in lower case, as requests are asked for them.
    pub(crate) fn lowered(mut self) -> Self {
        for (name, _) in &mut self.headers {
            name.make_ascii_lowercase();
        }
        self
    }
}

fn clash<T>(ours: &[(String, T)], theirs: &[(String, T)], excludes: fn(&T, &T) -> bool) -> bool {
    ours.iter().any(|(name, our)| theirs.iter().any(|(other, their)| name == other && excludes(our, their)))
}
