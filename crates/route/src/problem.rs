//! What is wrong with a rule, told with its name.
//!
//! All problems of a list of rules are found in one go. Each carries the index of its rule, so that a checker can
//! point at the place in the file where the rule stands.

use crate::{
    rule::{CONDITIONS_MAX, HeaderMatch, Rule},
    table::PATTERNS_MAX,
};

/// A rule that cannot be part of a table. The fault is the file's; building again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{name}`: {fault}")]
pub struct Problem {
    /// The rule's index in the list that was given.
    pub rule: usize,
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A true tie with an earlier rule.
    #[error(
        "`{at}` and `{other_at}` of route `{other_name}` are equally specific and both match some of the same \
         requests; make one more specific by its path, or by a condition that the other does not meet"
    )]
    Tie {
        /// The pattern of this rule.
        at: String,
        /// The earlier rule's index.
        other: usize,
        /// The earlier rule's name.
        other_name: String,
        /// The pattern of the earlier rule.
        other_at: String,
    },
    /// Two patterns of the rule match exactly the same.
    #[error("`{0}` and `{1}` match the same paths; remove one")]
    Repeated(String, String),
    /// The rule has no pattern.
    #[error("there is no `at`, so it would never match")]
    Nowhere,
    /// A method that is no token (RFC 9110, section 9.1).
    #[error("`{0}` is not a method")]
    Method(String),
    /// A well-known method in the wrong case.
    #[error("methods are case-sensitive: write `{0}`")]
    MethodCase(String),
    /// A header name that is no token (RFC 9110, section 5.1).
    #[error("`{0}` is not the name of a header")]
    HeaderName(String),
    /// A header named twice.
    #[error("the header `{0}` is named twice; one condition a header")]
    HeaderRepeated(String),
    /// An empty prefix or suffix.
    #[error("the prefix or suffix asked of the header `{0}` is empty; ask for its presence instead")]
    EmptyAffix(String),
    /// A query parameter without a name.
    #[error("a query parameter has an empty name")]
    QueryName,
    /// A query parameter named twice.
    #[error("the query parameter `{0}` is named twice; one condition a parameter")]
    QueryRepeated(String),
    /// More than [`CONDITIONS_MAX`] headers and query parameters.
    #[error("there are more than {CONDITIONS_MAX} conditions on headers and query")]
    Conditions,
    /// More than [`PATTERNS_MAX`] patterns, those of the rules before included.
    #[error("with this route the table has more than {PATTERNS_MAX} patterns")]
    TooMany,
}

/// The methods that a misspelt case is told for.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What is wrong with one rule by itself.
pub(crate) fn of_rule(rule: &Rule) -> Vec<Fault> {
    let mut faults = Vec::new();
    if rule.at.is_empty() {
        faults.push(Fault::Nowhere);
    }
    if rule.conditions.headers.len() + rule.conditions.query.len() > CONDITIONS_MAX {
        faults.push(Fault::Conditions);
        return faults;
    }
    of_methods(&rule.conditions.methods, &mut faults);
    of_headers(&rule.conditions.headers, &mut faults);
    of_query(&rule.conditions.query, &mut faults);
    faults
}

fn of_methods(methods: &[String], faults: &mut Vec<Fault>) {
    for method in methods {
        let upper = method.to_ascii_uppercase();
        if !is_token(method) {
            faults.push(Fault::Method(method.clone()));
        } else if upper != *method && METHODS.contains(&upper.as_str()) {
            faults.push(Fault::MethodCase(upper));
        }
    }
}

fn of_headers(headers: &[(String, HeaderMatch)], faults: &mut Vec<Fault>) {
    for (place, (name, wanted)) in headers.iter().enumerate() {
        if !is_token(name) {
            faults.push(Fault::HeaderName(name.clone()));
        }
        if headers[..place].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            faults.push(Fault::HeaderRepeated(name.clone()));
        }
        match wanted {
            HeaderMatch::Prefix(text) | HeaderMatch::Suffix(text) if text.is_empty() => {
                faults.push(Fault::EmptyAffix(name.clone()));
            }
            _ => {}
        }
    }
}

fn of_query<T>(query: &[(String, T)], faults: &mut Vec<Fault>) {
    for (place, (name, _)) in query.iter().enumerate() {
        if name.is_empty() {
            faults.push(Fault::QueryName);
        }
        if query[..place].iter().any(|(other, _)| other == name) {
            faults.push(Fault::QueryRepeated(name.clone()));
        }
    }
}

/// A `token` of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed)
}
