//! What is wrong with a pattern, where, and what was probably meant.
//!
//! A suggestion is made only when it would itself be accepted, so that following it never leads to a second error.

use std::fmt;

use super::{CAPTURES_MAX, PATTERN_BYTES_MAX, SEGMENTS_MAX, parse};

/// A pattern that cannot be read. The fault is the file's; reading it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PatternError {
    /// Where the fault is: a byte offset in the pattern, on a character's border, at most its length.
    pub offset: usize,
    /// What is wrong.
    pub fault: PatternFault,
    /// A pattern that would be accepted and is probably what was meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suggestion {
            Some(suggestion) => write!(f, "{}; write `{suggestion}`", self.fault),
            None => write!(f, "{}", self.fault),
        }
    }
}

/// What can be wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternFault {
    /// There is nothing.
    #[error("the pattern is empty")]
    Empty,
    /// More than [`PATTERN_BYTES_MAX`] bytes.
    #[error("the pattern is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// White space or a control character.
    #[error("white space and control characters cannot stand in a pattern (a space in a path is `%20`)")]
    Space,
    /// `https://` in front.
    #[error("a pattern has no scheme: which listener speaks TLS is decided by [listen.*]")]
    Scheme,
    /// `?` or `#`.
    #[error("a pattern ends with the path; conditions on the query go in the key `query`")]
    Query,
    /// A host without a path.
    #[error("the path is missing: a host is followed by `/` and a path")]
    NoPath,
    /// `{name}` in the host.
    #[error("a host cannot be captured; `*.example.com` matches every host below example.com")]
    CaptureInHost,
    /// `:8080` after the host.
    #[error("a pattern has no port: limit the route to a listener with the key `listen`")]
    Port,
    /// An IPv6 address that is none.
    #[error("this is not an IPv6 address in brackets, such as `[::1]`")]
    Address,
    /// An empty or too long label, or a too long host.
    #[error("a host has labels of 1 to 63 characters divided by dots, 253 characters in all")]
    Label,
    /// A `*` elsewhere than as the whole first label.
    #[error("`*` in a host can only be the whole first label, as in `*.example.com`")]
    Wildcard,
    /// A character that no host has.
    #[error("a host is made of letters, digits, `-`, `_` and dots")]
    HostCharacter,
    /// A host with characters outside ASCII.
    #[error("an international host is written in its ASCII form, which begins with `xn--`")]
    International,
    /// `//`.
    #[error("a path has no empty segment but the last")]
    EmptySegment,
    /// `.` or `..`.
    #[error("`.` and `..` are resolved before a path is matched, so this would never match")]
    DotSegment,
    /// A `%` without two hexadecimal digits.
    #[error("`%` is followed by two hexadecimal digits (`%` itself is `%25`)")]
    Escape,
    /// `/*/` inside the path.
    #[error("`*` can only be the last segment; one segment in the middle is a capture, `{{name}}`")]
    StarInside,
    /// `*` beside other characters of a segment.
    #[error("`*` is a segment of its own: `/orders/*` matches /orders and all below it")]
    StarInSegment,
    /// `{name*}` inside the path.
    #[error("a capture of the rest, `{{name*}}`, can only be the last segment")]
    RestInside,
    /// `{id}.json`.
    #[error("a capture is a whole segment: `{{name}}` stands between two slashes, with nothing beside it")]
    MixedSegment,
    /// `{id` without its end.
    #[error("the capture is not closed with `}}`")]
    Unclosed,
    /// `}` without its beginning.
    #[error("`}}` closes no capture (as a plain character it is `%7D`)")]
    StrayBrace,
    /// `{}`.
    #[error("the capture has no name")]
    NoName,
    /// A character that a name cannot have.
    #[error("the name of a capture is made of letters, digits, `_` and `-`")]
    NameCharacter,
    /// `{host}`, `{path}` or `{query}`.
    #[error("`{0}` is a name that rewrites and redirects fill in themselves; give the capture another")]
    ReservedName(String),
    /// The same name twice.
    #[error("the name `{0}` is taken by an earlier capture (a trailing `*` is named `rest`)")]
    RepeatedName(String),
    /// More than [`SEGMENTS_MAX`] segments.
    #[error("a pattern has at most {SEGMENTS_MAX} segments")]
    Segments,
    /// More than [`CAPTURES_MAX`] captures.
    #[error("a pattern has at most {CAPTURES_MAX} captures, the one of a trailing `*` included")]
    Captures,
}

impl PatternError {
    pub(super) fn new(text: &str, offset: usize, fault: PatternFault) -> Self {
        let suggestion = match suggest(text, offset, &fault) {
            Some(better) if parse::pattern(&better).is_ok() => Some(better),
            _ => None,
        };
        Self { offset, fault, suggestion }
    }
}

/// What was probably meant; not yet checked.
fn suggest(text: &str, offset: usize, fault: &PatternFault) -> Option<String> {
    match fault {
        PatternFault::Empty => Some("/*".to_owned()),
        PatternFault::Space => Some(text.trim().to_owned()),
        PatternFault::Scheme => text.split_once("://").map(|(_, rest)| with_path(rest)),
        PatternFault::Query => Some(with_path(&text[..offset])),
        PatternFault::NoPath => Some(with_path(text)),
        PatternFault::Port => Some(format!("{}{}", &text[..offset], &text[text.find('/')?..])),
        PatternFault::Wildcard => text.strip_prefix('*').map(str::to_owned),
        PatternFault::CaptureInHost => Some(format!("*{}", text.split_once('}')?.1)),
        PatternFault::EmptySegment => Some(without_empty_segments(text)),
        PatternFault::StarInside => Some(replace_segment(text, offset, "{name}")),
        PatternFault::StarInSegment if offset + 1 == text.len() => {
            Some(format!("{}/*", text[..offset].trim_end_matches('/')))
        }
        _ => suggest_capture(text, offset, fault),
    }
}

fn suggest_capture(text: &str, offset: usize, fault: &PatternFault) -> Option<String> {
    let segment = segment(text, offset);
    let inner = segment.split_once('{').map_or("", |(_, inner)| inner);
    let name = inner.split('}').next().unwrap_or("").trim_end_matches('*');
    let star = if segment.contains("*}") { "*" } else { "" };
    let better = match fault {
        PatternFault::RestInside | PatternFault::MixedSegment | PatternFault::Unclosed => {
            format!("{{{name}}}")
        }
        PatternFault::NoName => format!("{{name{star}}}"),
        PatternFault::NameCharacter => {
            format!("{{{}{star}}}", name.replace(|c| !parse::name_character(c), "_"))
        }
        PatternFault::ReservedName(_) => format!("{{{name}_part{star}}}"),
        PatternFault::RepeatedName(_) if segment == "*" => "{below*}".to_owned(),
        PatternFault::RepeatedName(_) => format!("{{{name}2{star}}}"),
        _ => return None,
    };
    Some(replace_segment(text, offset, &better))
}

/// A host alone gets a path; `*` alone is every path.
fn with_path(text: &str) -> String {
    match text {
        "" | "*" => "/*".to_owned(),
        _ if text.contains('/') => text.to_owned(),
        _ => format!("{text}/*"),
    }
}

fn without_empty_segments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

fn segment(text: &str, offset: usize) -> &str {
    let start = text[..offset].rfind('/').map_or(0, |slash| slash + 1);
    text[start..].split('/').next().unwrap_or("")
}

fn replace_segment(text: &str, offset: usize, better: &str) -> String {
    let start = text[..offset].rfind('/').map_or(0, |slash| slash + 1);
    let end = start + segment(text, offset).len();
    format!("{}{better}{}", &text[..start], &text[end..])
}
