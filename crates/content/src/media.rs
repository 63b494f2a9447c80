//! Media types (RFC 9110 section 8.3.1) as far as they decide what is done to a body: type and subtype, and lists of
//! them with stars.

use std::fmt;

/// The type and subtype of a `Content-Type`, without its parameters and the space around it.
#[must_use]
pub fn essence(content_type: &[u8]) -> &[u8] {
    let end = content_type.iter().position(|byte| *byte == b';').unwrap_or(content_type.len());
    content_type[..end].trim_ascii()
}

/// Whether that is JSON: `application/json`, `text/json`, or a subtype that ends in `+json` (RFC 6839 section 3.1).
#[must_use]
pub fn is_json(content_type: &[u8]) -> bool {
    let essence = essence(content_type);
    let is = |known: &[u8]| essence.eq_ignore_ascii_case(known);
    is(b"application/json") || is(b"text/json") || ends_with(essence, b"+json")
}

fn ends_with(text: &[u8], end: &[u8]) -> bool {
    text.len() > end.len() && text[text.len() - end.len()..].eq_ignore_ascii_case(end)
}

/// A media type, or several of them at once: `text/html`, `text/*`, `application/*+json`, `*/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRange {
    main: Box<str>,
    sub: Sub,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Sub {
    Exactly(Box<str>),
    /// `*+json`, with the plus.
    Suffix(Box<str>),
    Any,
}

/// Why a text is no media range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a media type looks like \"text/html\", \"text/*\" or \"application/*+json\"")]
pub struct MediaRangeError;

impl MediaRange {
    /// Reads `type/subtype`, where the subtype may be `*` or `*+suffix`, or `*/*`. Parameters are not looked at.
    ///
    /// # Errors
    /// [`MediaRangeError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MediaRangeError> {
        let bare = text.split(';').next().unwrap_or_default().trim();
        let (main, sub) = bare.split_once('/').ok_or(MediaRangeError)?;
        let sub = match sub {
            "*" => Sub::Any,
            _ if main == "*" => return Err(MediaRangeError),
            _ => match sub.strip_prefix('*') {
                Some(suffix) if suffix.len() > 1 && suffix.starts_with('+') && is_name(&suffix[1..]) => {
                    Sub::Suffix(suffix.to_ascii_lowercase().into())
                }
                None if is_name(sub) => Sub::Exactly(sub.to_ascii_lowercase().into()),
                _ => return Err(MediaRangeError),
            },
        };
        if main != "*" && !is_name(main) {
            return Err(MediaRangeError);
        }
        Ok(Self { main: main.to_ascii_lowercase().into(), sub })
    }

    /// Whether `content_type`, with or without parameters, is one of them.
    #[must_use]
    pub fn matches(&self, content_type: &[u8]) -> bool {
        let essence = essence(content_type);
        let Some(slash) = essence.iter().position(|byte| *byte == b'/') else { return false };
        let (main, sub) = (&essence[..slash], &essence[slash + 1..]);
        let fits_main = &*self.main == "*" || main.eq_ignore_ascii_case(self.main.as_bytes());
        fits_main
            && match &self.sub {
                Sub::Any => true,
                Sub::Exactly(name) => sub.eq_ignore_ascii_case(name.as_bytes()),
                Sub::Suffix(suffix) => ends_with(sub, suffix.as_bytes()),
            }
    }

    /// How particular it is: of several that match, the one with the greatest is meant.
    #[must_use]
    pub fn precision(&self) -> u8 {
        match &self.sub {
            Sub::Exactly(_) => 3,
            Sub::Suffix(_) => 2,
            Sub::Any if &*self.main != "*" => 1,
            Sub::Any => 0,
        }
    }
}

impl fmt::Display for MediaRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sub {
            Sub::Any => write!(formatter, "{}/*", self.main),
            Sub::Exactly(name) => write!(formatter, "{}/{name}", self.main),
            Sub::Suffix(suffix) => write!(formatter, "{}/*{suffix}", self.main),
        }
    }
}

/// A restricted name (RFC 6838 section 4.2), as far as it matters here.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(range: &str, content_type: &str) -> bool {
        MediaRange::parse(range).expect("a range").matches(content_type.as_bytes())
    }

    #[test]
    fn a_range_matches_its_types_and_no_others() {
        assert!(matches("text/html", "Text/HTML; charset=utf-8"));
        assert!(matches("text/*", "text/plain"));
        assert!(!matches("text/*", "textual/plain"));
        assert!(matches("application/*+json", "application/problem+JSON ; a=b"));
        assert!(!matches("application/*+json", "application/json"));
        assert!(!matches("application/*+json", "application/+json"), "a suffix of nothing");
        assert!(matches("*/*", "a/b") && !matches("*/*", "nonsense"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "text", "text/", "/html", "*/html", "text/*+", "text/*json", "te xt/html", "a/b/c"] {
            assert_eq!(MediaRange::parse(text), Err(MediaRangeError), "{text:?}");
        }
        let text = ["text/html", "text/*", "application/*+json", "*/*"];
        assert_eq!(text.map(|text| MediaRange::parse(text).expect("a range").to_string()), text);
    }

    #[test]
    fn rfc6839_3_1_json_is_known_by_name_or_suffix() {
        assert!(is_json(b"application/json") && is_json(b"application/vnd.api+json; v=1"));
        assert!(!is_json(b"application/jsonp") && !is_json(b"") && !is_json(b"+json"));
    }
}
