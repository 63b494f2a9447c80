//! Names and values as they stand in a query, a cookie or the body of a form, not yet decoded: what separates the values of a
//! list must be seen before.

use crate::schema::percent_decoded;

/// The pairs of a query or form: `a=1&b=2`.
pub(super) fn pairs(text: &str) -> Vec<(String, &str)> {
    let pair = |pair: &'_ str| -> Option<(String, usize)> {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form_decoded(name)?, name.len()))
    };
    let mut pairs = Vec::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        if let Some((name, length)) = pair(part) {
            let value = part[length..].strip_prefix('=').unwrap_or_default();
            pairs.push((name, value));
        }
    }
    pairs
}

/// The pairs of a `Cookie` field (RFC 6265 section 4.2.1).
pub(super) fn cookies(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(';').filter_map(|pair| pair.trim().split_once('='))
}

/// A value with `+` and percent-encoding undone; `None` where that gives no text.
pub(super) fn form_decoded(text: &str) -> Option<String> {
    match text.contains('+') {
        true => percent_decoded(&text.replace('+', " ")),
        false => percent_decoded(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_values_are_not_yet() {
        assert_eq!(
            pairs("a=1&&b%5Bc%5D=x+y%2C&d&=e&%zz=1"),
            [
                ("a".to_owned(), "1"),
                ("b[c]".to_owned(), "x+y%2C"),
                ("d".to_owned(), ""),
                (String::new(), "e"),
            ]
        );
        assert_eq!(form_decoded("x+y%2C").as_deref(), Some("x y,"));
        assert_eq!(cookies("a=1; b=\"2\";c").collect::<Vec<_>>(), [("a", "1"), ("b", "\"2\"")]);
    }
}
