//! Request head and table in, route out: pure, no socket, no clock, and no allocation on a request's way.
//!
//! A [`Table`] is built once from [`Rule`]s and never changes; [`Table::find`] then answers, for one request on one
//! listener, which rule serves it. What a rule *does* (which service, which redirect) is not known here: the answer
//! is the rule's index in the list that the table was built from, so the caller keeps its actions in a list beside it.
//!
//! # The law of order
//!
//! Of all rules that match a request, **the most specific one serves it**. Specificity is compared step by step; the
//! first step that differs decides:
//!
//! 1. **Host.** An exact host before a wildcard; among wildcards the longer suffix first (`*.b.example.com` before
//!    `*.example.com`); a rule without a host last.
//! 2. **Path**, segment by segment from the left. At the first segment where two patterns differ in kind: a literal
//!    before a capture (`{id}`), a capture before the end of the pattern, an exact end before a prefix end (`/*` or
//!    `{rest*}`). So the longer pattern wins, and `/a/*` wins over `/{x}/b/c`.
//! 3. **How many conditions** there are: the methods count as one, each named header as one, each named query
//!    parameter as one. More before fewer.
//! 4. **How exact they are.** First the number of exact ones (methods, `Exact`), then the total length in bytes of the
//!    texts in `Prefix` and `Suffix`.
//! 5. **Methods.** Fewer named methods before more, and a rule that names methods before one that names none.
//! 6. **Listeners.** A rule limited to fewer listeners before one limited to more, and that before one for all.
//!
//! The host is asked first but does not decide alone: a request that no rule of its exact host covers falls to the
//! wildcard hosts, longest suffix first, and then to the rules without a host. In the same way, a rule whose path is
//! the more specific but whose conditions fail leaves the request to the next.
//!
//! Because each step compares one value, and later steps only count when all earlier ones are equal, the order is
//! transitive. It also never contradicts containment: when everything that rule A matches is also matched by rule B,
//! A is served before B. What is left are **true ties**: two rules, equal in all six steps, that one request could
//! both match (two rules for the same path, one asking for a header, the other for a query parameter). They are
//! refused when the table is built, with both names. Rules equal in all six steps that no request can both match
//! (`X-Env: a` and `X-Env: b`) stand side by side.
//!
//! # What is matched
//!
//! The caller hands in a [`Request`] whose path is already normalised (dot segments removed, unreserved characters
//! decoded, escapes in upper case); patterns are brought into the same form when they are read. Of a header or query
//! parameter that occurs several times the first occurrence counts, so two rules that ask for different values never
//! match the same request. Methods are compared as they are: `GET` does not imply `HEAD`.
#![forbid(unsafe_code)]

mod choice;
mod consistent;
mod edit;
mod hosts;
mod order;
mod pattern;
mod problem;
mod query;
mod request;
mod rewrite;
mod rule;
mod split;
mod strip;
mod table;
mod template;
mod text;
mod trie;
mod value;

#[cfg(test)]
mod tests;

pub use choice::{Asker, CHOICE_RULES_MAX, Choice, ChoiceError, ChoiceRule, Client, Ground};
pub use consistent::Consistent;
pub use edit::{EDITS_MAX, EditError, QueryEdit};
pub use pattern::{
    CAPTURES_MAX, Captures, PATTERN_BYTES_MAX, Pattern, PatternError, PatternFault, SEGMENTS_MAX,
};
pub use problem::{Fault, Problem};
pub use request::Request;
pub use rewrite::{ExpandError, OUTPUT_BYTES_MAX, Redirect, Rewrite};
pub use rule::{CONDITIONS_MAX, Conditions, HeaderMatch, QueryMatch, Rule};
pub use split::{Split, SplitError};
pub use strip::{Strip, StripError};
pub use table::{Listener, Match, PATTERNS_MAX, Table};
pub use template::{TEMPLATE_BYTES_MAX, TemplateError, TemplateFault};
pub use value::{VALUE_BYTES_MAX, ValueName, ValueSource, ValueTemplate};
