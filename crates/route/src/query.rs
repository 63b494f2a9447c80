//! Reading a query without copying it.
//!
//! A query is a list of `name=value` divided by `&`, percent-encoded, with `+` for a space (WHATWG URL, section 5.1).
//! Names and values are decoded byte by byte while they are compared, so nothing is allocated.

use crate::text::decoded;

/// Whether `encoded` stands for `plain`.
pub(crate) fn stands_for(encoded: &str, plain: &str) -> bool {
    decoded(encoded, b' ').eq(plain.bytes())
}

/// The first value with this name, still encoded; empty for a name without `=`.
pub(crate) fn value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if stands_for(key, name) {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_name_counts() {
        assert_eq!(value("a=1&b=2&a=3", "a"), Some("1"));
        assert_eq!(value("a&b=2", "a"), Some(""));
        assert_eq!(value("ab=1", "a"), None);
    }

    #[test]
    fn names_and_values_are_decoded_for_comparison() {
        assert!(stands_for("caf%C3%a9+bar", "caf\u{e9} bar"));
        assert_eq!(value("%61=x", "a"), Some("x"));
        assert!(stands_for("100%", "100%"));
        assert!(stands_for("%2B", "+"));
        assert!(!stands_for("a", "ab"));
    }
}
