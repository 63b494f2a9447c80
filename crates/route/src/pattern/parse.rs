//! Reading a pattern: one pass from the left, the first fault ends it.

use super::{
    CAPTURES_MAX, PATTERN_BYTES_MAX, Pattern, RESERVED, SEGMENTS_MAX, Segment, error::PatternFault, host,
};
use crate::text;

type Reading<T> = Result<T, (usize, PatternFault)>;

/// Reads a whole pattern; a fault comes with its byte offset in `text`.
pub(super) fn pattern(text: &str) -> Reading<Pattern> {
    check_whole(text)?;
    let Some(slash) = text.find('/') else {
        return Err((text.len(), PatternFault::NoPath));
    };
    let host = host::parse(&text[..slash])?;
    let mut path = Path::default();
    path.read(text, slash)?;
    Ok(Pattern {
        text: text.into(),
        host,
        segments: path.segments.into(),
        prefix: path.prefix,
        names: path.names.into(),
    })
}

/// What is wrong with the text before it is taken apart.
fn check_whole(text: &str) -> Reading<()> {
    if text.is_empty() {
        return Err((0, PatternFault::Empty));
    }
    if text.len() > PATTERN_BYTES_MAX {
        return Err((text::border_before(text, PATTERN_BYTES_MAX), PatternFault::TooLong));
    }
    if let Some(offset) = text.find(|c: char| c.is_whitespace() || c.is_control()) {
        return Err((offset, PatternFault::Space));
    }
    if text.contains("://") {
        return Err((0, PatternFault::Scheme));
    }
    match text.find(['?', '#']) {
        Some(offset) => Err((offset, PatternFault::Query)),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Path {
    segments: Vec<Segment>,
    names: Vec<Box<str>>,
    prefix: bool,
}

impl Path {
    /// Reads the path that begins at `slash`.
    fn read(&mut self, text: &str, slash: usize) -> Reading<()> {
        let mut start = slash + 1;
        for segment in text[start..].split('/') {
            let end = start + segment.len();
            let last = end == text.len();
            self.segment(segment, last).map_err(|(offset, fault)| (start + offset, fault))?;
            if self.segments.len() > SEGMENTS_MAX {
                return Err((start, PatternFault::Segments));
            }
            if self.names.len() > CAPTURES_MAX {
                return Err((start, PatternFault::Captures));
            }
            start = end + 1;
        }
        Ok(())
    }

    fn segment(&mut self, segment: &str, last: bool) -> Reading<()> {
        if segment == "*" {
            return self.rest("rest", 0, last, PatternFault::StarInside);
        }
        if segment.contains(['{', '}']) {
            return self.capture(segment, last);
        }
        if let Some(offset) = segment.find('*') {
            return Err((offset, PatternFault::StarInSegment));
        }
        if segment.is_empty() && !last {
            return Err((0, PatternFault::EmptySegment));
        }
        let literal = match text::normal_form(segment, text::matched_byte) {
            Ok(literal) => literal,
            Err(offset) => return Err((offset, PatternFault::Escape)),
        };
        if matches!(literal.as_str(), "." | "..") {
            return Err((0, PatternFault::DotSegment));
        }
        self.segments.push(Segment::Literal(literal.into()));
        Ok(())
    }

    fn capture(&mut self, segment: &str, last: bool) -> Reading<()> {
        let Some(inner) = segment.strip_prefix('{') else {
            let offset = segment.find(['{', '}']).unwrap_or(0);
            let stray = segment[offset..].starts_with('}');
            return Err((offset, if stray { PatternFault::StrayBrace } else { PatternFault::MixedSegment }));
        };
        let Some(close) = inner.find('}') else {
            return Err((0, PatternFault::Unclosed));
        };
        if close + 1 < inner.len() {
            return Err((close + 2, PatternFault::MixedSegment));
        }
        match inner[..close].strip_suffix('*') {
            Some(name) => self.rest(name, 1, last, PatternFault::RestInside),
            None => {
                self.name(&inner[..close], 1)?;
                self.segments.push(Segment::Capture);
                Ok(())
            }
        }
    }

    fn rest(&mut self, name: &str, offset: usize, last: bool, inside: PatternFault) -> Reading<()> {
        if !last {
            return Err((0, inside));
        }
        self.prefix = true;
        self.name(name, offset)
    }

    /// Takes up the name of a capture that stands `offset` bytes into its segment.
    fn name(&mut self, name: &str, offset: usize) -> Reading<()> {
        if name.is_empty() {
            return Err((offset, PatternFault::NoName));
        }
        if let Some((bad, _)) = name.char_indices().find(|&(_, c)| !name_character(c)) {
            return Err((offset + bad, PatternFault::NameCharacter));
        }
        if RESERVED.contains(&name) {
            return Err((offset, PatternFault::ReservedName(name.into())));
        }
        if self.names.iter().any(|known| &**known == name) {
            return Err((offset, PatternFault::RepeatedName(name.into())));
        }
        self.names.push(name.into());
        Ok(())
    }
}

/// Characters of a capture's name.
pub(super) fn name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
}
