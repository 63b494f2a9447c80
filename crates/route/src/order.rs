//! How specific a rule is: steps 3 to 6 of the law of order (see the crate's documentation).
//!
//! Steps 1 and 2, host and path, are the order in which the table walks its tries; what is compared here decides
//! among rules for the same host and the same path. Derived comparison goes field by field, so the order is transitive.

use std::cmp::Reverse;

use crate::rule::{Conditions, HeaderMatch, QueryMatch};

/// The weight of a rule's conditions; the greater is the more specific.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    conditions: usize,
    exact: usize,
    affix_bytes: usize,
    methods: Reverse<usize>,
    listeners: Reverse<usize>,
}

impl Weight {
    pub(crate) fn new(conditions: &Conditions, listeners: usize) -> Self {
        let mut exact = usize::from(!conditions.methods.is_empty());
        let mut affix_bytes = 0;
        for (_, wanted) in &conditions.headers {
            match wanted {
                HeaderMatch::Exact(_) => exact += 1,
                HeaderMatch::Prefix(text) | HeaderMatch::Suffix(text) => affix_bytes += text.len(),
                HeaderMatch::Present | HeaderMatch::Absent => {}
            }
        }
        exact += conditions.query.iter().filter(|(_, wanted)| *wanted != QueryMatch::Present).count();
        let methods = usize::from(!conditions.methods.is_empty());
        Self {
            conditions: methods + conditions.headers.len() + conditions.query.len(),
            exact,
            affix_bytes,
            methods: Reverse(limit(conditions.methods.len())),
            listeners: Reverse(limit(listeners)),
        }
    }
}

/// A list without entries limits nothing, so it counts as the longest.
fn limit(entries: usize) -> usize {
    if entries == 0 { usize::MAX } else { entries }
}
