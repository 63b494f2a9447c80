//! The pattern of a route's `at`: host first, then path.
//!
//! | written | matches |
//! |---|---|
//! | `/health` | that path on any host |
//! | `shop.example.com/orders/*` | `/orders` and all below it, not `/ordersx` |
//! | `*.example.com/*` | every path of every host one or more labels below `example.com` |
//! | `[::1]/x` | a host that is an IPv6 address, however it is abbreviated |
//! | `/users/{id}/posts` | exactly one non-empty segment as `id` |
//! | `/files/{name*}` | like `/files/*`, with what is below as `name`, which may be empty |
//!
//! A trailing `*` captures under the name `rest`, so that a rewrite can name what is below. Matching itself does not
//! happen here: the table puts the segments of all patterns in a trie. Only the captures of the winner are cut here.

mod error;
mod host;
mod parse;

use std::{fmt, ops::Range};

pub use error::{PatternError, PatternFault};
pub(crate) use host::Host;

use crate::text::segment_end;

/// How many captures a pattern may have, the one of a trailing `*` included.
pub const CAPTURES_MAX: usize = 16;

/// How many segments a pattern's path may have.
pub const SEGMENTS_MAX: usize = 64;

/// How long a pattern may be, in bytes.
pub const PATTERN_BYTES_MAX: usize = 2048;

/// Names that a template fills in itself, so no capture may take them.
pub(crate) const RESERVED: [&str; 3] = ["host", "path", "query"];

/// One segment of a pattern's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Exactly this text, in normal form.
    Literal(Box<str>),
    /// Any one non-empty segment.
    Capture,
}

/// Where a route is found: a host (or any) and a path, read by [`Pattern::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    host: Host,
    segments: Box<[Segment]>,
    prefix: bool,
    names: Box<[Box<str>]>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The first fault from the left that cannot be read over, with its byte offset in `text` and, where one is
    /// evident, a pattern that would be accepted in its place.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match parse::pattern(text) {
            Ok(pattern) => Ok(pattern),
            Err((offset, fault)) => Err(PatternError::new(text, offset, fault)),
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host in lower case: `shop.example.com`, `*.example.com`, `[::1]`; `None` for any host.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        self.host.text()
    }

    /// The names of the captures in the order of [`Captures`].
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// The place of a capture among [`Pattern::names`].
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| &**known == name)
    }

    /// Whether the pattern also matches what lies below its last segment.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }

    pub(crate) fn host_kind(&self) -> &Host {
        &self.host
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Cuts the captures out of a path that this pattern matches. For another path the ranges mean nothing.
    pub(crate) fn captures(&self, path: &str) -> Captures {
        let mut captures = Captures::default();
        if self.names.is_empty() {
            return captures;
        }
        let mut start = path.len().min(1);
        for segment in &self.segments {
            let below = path.get(start..).unwrap_or("");
            let end = start + segment_end(below);
            if *segment == Segment::Capture {
                captures.push(start..end);
            }
            start = (end + 1).min(path.len());
        }
        if self.prefix {
            captures.push(start..path.len());
        }
        captures
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a pattern captured of one path: byte ranges into it, in the order of [`Pattern::names`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Captures {
    ranges: [(u32, u32); CAPTURES_MAX],
    count: u8,
}

impl Captures {
    fn push(&mut self, range: Range<usize>) {
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        if let Some(slot) = self.ranges.get_mut(usize::from(self.count)) {
            *slot = (narrow(range.start), narrow(range.end));
            self.count += 1;
        }
    }

    /// How many captures there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether the pattern captured nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The byte range of a capture within the path.
    #[must_use]
    pub fn range(&self, position: usize) -> Option<Range<usize>> {
        let &(start, end) = self.ranges[..self.len()].get(position)?;
        Some(start as usize..end as usize)
    }

    /// The text of a capture, as it stands in the path (still percent-encoded). `path` is the one that was matched;
    /// with another path the text is any part of it, or `None`.
    #[must_use]
    pub fn text<'p>(&self, path: &'p str, position: usize) -> Option<&'p str> {
        path.get(self.range(position)?)
    }
}
