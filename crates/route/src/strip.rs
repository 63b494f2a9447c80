//! Taking a prefix off a path, at the border of a segment.
//!
//! `/api` off `/api/orders` is `/orders`, off `/api` is `/`, and `/apix` stays as it is. What is left begins with
//! exactly one slash: `//` in front would be read as a host by whoever resolves the path as a reference.

use crate::{
    pattern::{Pattern, Segment},
    text,
};

/// A prefix to be taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strip {
    /// Begins with a slash, does not end with one.
    prefix: Box<str>,
}

/// A prefix that cannot be taken off. The fault is the file's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StripError {
    /// It does not begin with `/`, or is `/` alone.
    #[error("the prefix begins with `/` and names at least one segment, such as `/api`")]
    NoPrefix,
    /// It holds `*`, `{`, `}`, `?`, `#`, white space, an empty or a dot segment, or a broken escape.
    #[error(
        "the prefix is plain text: no `*`, `{{name}}`, `?`, `#`, white space, `//`, `.` or `..` segments"
    )]
    NotPlain,
    /// No path of this pattern has it.
    #[error("no path that `{0}` matches begins with this prefix")]
    Never(String),
}

impl Strip {
    /// Reads a prefix for a route with these patterns.
    ///
    /// # Errors
    /// When it is no plain prefix, or could never apply to one of the patterns.
    pub fn new(prefix: &str, patterns: &[Pattern]) -> Result<Self, StripError> {
        let trimmed = prefix.strip_suffix('/').unwrap_or(prefix);
        let Some(segments) = trimmed.strip_prefix('/') else {
            return Err(StripError::NoPrefix);
        };
        let Some(normal) = plain(segments) else {
            return Err(StripError::NotPlain);
        };
        for pattern in patterns {
            if !can_begin(pattern, &normal) {
                return Err(StripError::Never(pattern.to_string()));
            }
        }
        Ok(Self { prefix: format!("/{normal}").into() })
    }

    /// The path without the prefix; the same path when it does not have the prefix.
    #[must_use]
    pub fn apply<'p>(&self, path: &'p str) -> &'p str {
        let Some(rest) = path.strip_prefix(&*self.prefix) else {
            return path;
        };
        match rest.as_bytes().first() {
            None => "/",
            Some(b'/') => &rest[rest.bytes().take_while(|byte| *byte == b'/').count() - 1..],
            Some(_) => path,
        }
    }
}

/// The segments in normal form, when they are plain.
fn plain(segments: &str) -> Option<String> {
    let special = |c: char| matches!(c, '*' | '{' | '}' | '?' | '#') || c.is_whitespace() || c.is_control();
    if segments.contains(special) {
        return None;
    }
    let normal = text::normal_form(segments, text::matched_byte).ok()?;
    let resolved = normal.split('/').any(|segment| matches!(segment, "" | "." | ".."));
    if resolved { None } else { Some(normal) }
}

/// Whether some path that the pattern matches begins with these segments.
fn can_begin(pattern: &Pattern, segments: &str) -> bool {
    let mut wanted = segments.split('/');
    for (segment, wanted) in pattern.segments().iter().zip(&mut wanted) {
        match segment {
            Segment::Literal(text) if **text != *wanted => return false,
            _ => {}
        }
    }
    pattern.is_prefix() || segments.split('/').count() <= pattern.segments().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip(prefix: &str) -> Strip {
        Strip::new(prefix, &[]).unwrap()
    }

    #[test]
    fn a_prefix_goes_at_the_border_of_a_segment() {
        for (path, left) in [
            ("/api", "/"),
            ("/api/", "/"),
            ("/api/orders", "/orders"),
            ("/apix", "/apix"),
            ("/orders/api", "/orders/api"),
            ("/api//evil.example", "/evil.example"),
            ("*", "*"),
        ] {
            assert_eq!(strip("/api").apply(path), left, "{path}");
            assert_eq!(strip("/api/").apply(path), left, "{path}");
        }
        assert_eq!(strip("/caf\u{e9}/b").apply("/caf%C3%A9/b/c"), "/c");
    }

    #[test]
    fn a_prefix_that_is_none_is_refused() {
        for prefix in ["", "api", "/x/*", "/{id}", "/a?b", "/a/../b", "/a//b", "/%", "/a b"] {
            assert!(Strip::new(prefix, &[]).is_err(), "{prefix}");
        }
        assert!(Strip::new("/", &[]).is_err());
    }

    #[test]
    fn a_prefix_that_no_path_of_the_route_has_is_refused() {
        let at = |text| [Pattern::parse(text).unwrap()];
        assert!(Strip::new("/api", &at("/api/*")).is_ok());
        assert!(Strip::new("/api", &at("/*")).is_ok());
        assert!(Strip::new("/api", &at("/{version}/x")).is_ok());
        assert_eq!(Strip::new("/api", &at("/orders/*")), Err(StripError::Never("/orders/*".to_owned())));
        assert_eq!(Strip::new("/api/v1", &at("/api")), Err(StripError::Never("/api".to_owned())));
    }
}
