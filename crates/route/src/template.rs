//! Templates of rewrites and redirects: text with names in braces.
//!
//! A template is cut into origin, path, query and fragment when it is read, so that each name's text is later encoded
//! as its place demands. The names are checked against all patterns of the route and become positions, so filling in
//! looks nothing up. What is not captured by every pattern cannot be named.

use std::fmt;

use crate::{pattern::Pattern, text};

/// How long a template may be, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 2048;

/// A template that cannot be read. The fault is the file's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// Where the fault is: a byte offset in the template, on a character's border, at most its length.
    pub offset: usize,
    /// What is wrong.
    pub fault: TemplateFault,
    /// What was probably meant in place of the name, if it is a name.
    pub suggestion: Option<String>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.suggestion {
            Some(suggestion) => write!(f, "{}; did you mean `{{{suggestion}}}`?", self.fault),
            None => write!(f, "{}", self.fault),
        }
    }
}

/// What can be wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateFault {
    /// More than [`TEMPLATE_BYTES_MAX`] bytes.
    #[error("the template is longer than {TEMPLATE_BYTES_MAX} bytes")]
    TooLong,
    /// White space, a control character or a backslash.
    #[error("white space, control characters and `\\` cannot stand in an address")]
    Character,
    /// A `%` without two hexadecimal digits.
    #[error("`%` is followed by two hexadecimal digits (`%` itself is `%25`)")]
    Escape,
    /// `*`, as in a pattern.
    #[error("`*` fills in nothing; what a trailing `*` of the pattern matched is `{{rest}}`")]
    Star,
    /// `{` without `}`, or the other way round.
    #[error("braces stand around a name, as in `{{rest}}`")]
    Brace,
    /// A name that a pattern of the route does not capture.
    #[error("`{at}` captures no `{name}`")]
    UnknownName {
        /// The name in braces.
        name: String,
        /// The pattern that lacks it.
        at: String,
    },
    /// `{query}` before the `?`.
    #[error("`{{query}}` can only stand after a `?`; without a `?` the query is kept by itself")]
    QueryInPath,
    /// A name other than `{host}` in the host.
    #[error("only `{{host}}` can stand in the host: a host from the path would let any link lead anywhere")]
    NameInHost,
    /// A host that is none.
    #[error("the address has no proper host and port")]
    Host,
    /// A rewrite that does not begin with `/`.
    #[error("a rewritten path begins with `/` or `{{path}}`")]
    NoPath,
    /// A redirect that begins with neither scheme nor `/`.
    #[error("a redirect leads to `https://…`, `http://…` or a path that begins with `/` or `{{path}}`")]
    NoTarget,
    /// A redirect that begins with `//`.
    #[error("an address that begins with `//` leads to another host; write it with `https:`")]
    NoScheme,
    /// `#` in a rewrite.
    #[error("a fragment (`#`) is never sent to a server")]
    Fragment,
    /// `.` or `..` as a segment.
    #[error("`.` and `..` cannot be segments of the new path")]
    DotSegment,
    /// A character that no field holds, in a value.
    #[error("a value is of visible ASCII characters and spaces")]
    ValueCharacter,
    /// A space before or after a value.
    #[error("spaces around a value are lost on the way")]
    OuterSpace,
    /// `{` without `}` in a value, or the other way round.
    #[error("braces stand around a name, as in `{{client-ip}}`; a brace itself is written twice")]
    ValueBrace,
    /// `{claim:}`.
    #[error("`{{claim:…}}` names the claim, as in `{{claim:sub}}`")]
    NoClaim,
    /// A name in a value that is neither captured nor one of ours.
    #[error(
        "nothing is called `{{{name}}}`: neither a capture of the route's `at` nor one of host, path, query, client-ip, request-id, route, service and claim:…"
    )]
    UnknownValue {
        /// The name in braces.
        name: String,
    },
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text that may stand as it is.
    Literal(String),
    /// A capture: its position for each pattern of the route.
    Capture(Box<[u8]>),
    Host,
    Path,
    Query,
}

/// Where in an address a piece stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Origin,
    Path,
    Query,
    Fragment,
}

/// A template taken apart. The origin's `https://` is part of its first literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) origin: Option<Vec<Part>>,
    pub(crate) path: Vec<Part>,
    pub(crate) query: Option<Vec<Part>>,
    pub(crate) fragment: Option<Vec<Part>>,
}

impl Template {
    pub(crate) fn parse(text: &str, patterns: &[Pattern]) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(fault(text::border_before(text, TEMPLATE_BYTES_MAX), TemplateFault::TooLong));
        }
        if let Some(offset) = text.find(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(fault(offset, TemplateFault::Character));
        }
        if let Some(offset) = text.find('*') {
            return Err(fault(offset, TemplateFault::Star));
        }
        let mut reader = Reader::new(patterns);
        let start = reader.scheme(text);
        reader.read(text, start)?;
        check_segments(text, &reader.template.path)?;
        Ok(reader.template)
    }
}

pub(crate) fn fault(offset: usize, fault: TemplateFault) -> TemplateError {
    TemplateError { offset, fault, suggestion: None }
}

struct Reader<'p> {
    patterns: &'p [Pattern],
    section: Section,
    template: Template,
}

impl<'p> Reader<'p> {
    fn new(patterns: &'p [Pattern]) -> Self {
        let template = Template { origin: None, path: Vec::new(), query: None, fragment: None };
        Self { patterns, section: Section::Path, template }
    }

    /// Takes up the scheme; the offset behind it.
    fn scheme(&mut self, text: &str) -> usize {
        for scheme in ["https://", "http://"] {
            if text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)) {
                self.template.origin = Some(vec![Part::Literal(scheme.to_owned())]);
                self.section = Section::Origin;
                return scheme.len();
            }
        }
        0
    }

    fn read(&mut self, text: &str, mut at: usize) -> Result<(), TemplateError> {
        while at < text.len() {
            let rest = &text[at..];
            let brace = rest.find(['{', '}']).unwrap_or(rest.len());
            self.literals(&rest[..brace], at)?;
            at += brace;
            let Some(inner) = text[at..].strip_prefix('{') else {
                match at < text.len() {
                    true => return Err(fault(at, TemplateFault::Brace)),
                    false => break,
                }
            };
            let close = match inner.find(['{', '}']) {
                Some(close) if inner[close..].starts_with('}') => close,
                _ => return Err(fault(at, TemplateFault::Brace)),
            };
            if &inner[..close] == "path" && self.section == Section::Origin {
                // `https://host{path}`: what is filled in begins with a slash, so the host ends here.
                self.section = Section::Path;
            }
            let part = self.name(&inner[..close], at)?;
            self.parts().push(part);
            at += close + 2;
        }
        Ok(())
    }

    /// Takes up plain text, which may end one section and begin the next.
    fn literals(&mut self, mut text: &str, mut at: usize) -> Result<(), TemplateError> {
        loop {
            let ends: &[char] = match self.section {
                Section::Origin => &['/', '?', '#'],
                Section::Path => &['?', '#'],
                Section::Query => &['#'],
                Section::Fragment => &[],
            };
            let end = text.find(ends).unwrap_or(text.len());
            self.literal(&text[..end], at)?;
            let Some(next) = text[end..].chars().next() else {
                return Ok(());
            };
            // The slash that ends a host is the first character of the path; `?` and `#` belong to nobody.
            let skip = usize::from(next != '/');
            self.enter(next);
            text = &text[end + skip..];
            at += end + skip;
        }
    }

    fn enter(&mut self, delimiter: char) {
        match delimiter {
            '?' => {
                self.section = Section::Query;
                self.template.query = Some(Vec::new());
            }
            '#' => {
                self.section = Section::Fragment;
                self.template.fragment = Some(Vec::new());
            }
            _ => self.section = Section::Path,
        }
    }

    fn literal(&mut self, literal: &str, at: usize) -> Result<(), TemplateError> {
        if literal.is_empty() {
            return Ok(());
        }
        let keep = match self.section {
            Section::Origin => match literal.bytes().position(|byte| !text::authority_byte(byte)) {
                Some(offset) => return Err(fault(at + offset, TemplateFault::Host)),
                None => text::authority_byte,
            },
            Section::Path => text::path_byte,
            Section::Query | Section::Fragment => text::query_byte,
        };
        match text::normal_form(literal, keep) {
            Ok(normal) => self.parts().push(Part::Literal(normal)),
            Err(offset) => return Err(fault(at + offset, TemplateFault::Escape)),
        }
        Ok(())
    }

    fn name(&self, name: &str, at: usize) -> Result<Part, TemplateError> {
        match (name, self.section) {
            ("host", _) => Ok(Part::Host),
            (_, Section::Origin) => Err(fault(at, TemplateFault::NameInHost)),
            ("query", Section::Path) => Err(fault(at, TemplateFault::QueryInPath)),
            ("query", _) => Ok(Part::Query),
            ("path", _) => Ok(Part::Path),
            _ => self.capture(name, at),
        }
    }

    fn capture(&self, name: &str, at: usize) -> Result<Part, TemplateError> {
        let mut positions = Vec::with_capacity(self.patterns.len());
        for pattern in self.patterns {
            let Some(position) = pattern.position(name) else {
                let fault = TemplateFault::UnknownName { name: name.to_owned(), at: pattern.to_string() };
                return Err(TemplateError { offset: at, fault, suggestion: nearest(name, pattern) });
            };
            positions.push(u8::try_from(position).expect("a pattern has at most CAPTURES_MAX captures"));
        }
        Ok(Part::Capture(positions.into()))
    }

    fn parts(&mut self) -> &mut Vec<Part> {
        match self.section {
            Section::Origin => self.template.origin.get_or_insert_default(),
            Section::Path => &mut self.template.path,
            Section::Query => self.template.query.get_or_insert_default(),
            Section::Fragment => self.template.fragment.get_or_insert_default(),
        }
    }
}

/// The name that was probably meant: one that is close, or the only one there is.
fn nearest(name: &str, pattern: &Pattern) -> Option<String> {
    let score = |known: &str| strsim::jaro_winkler(name, known);
    let special = ["host", "path", "query"];
    let best = pattern.names().chain(special).max_by(|a, b| score(a).total_cmp(&score(b)))?;
    match pattern.names().next() {
        _ if score(best) > 0.8 => Some(best.to_owned()),
        Some(only) if pattern.names().len() == 1 => Some(only.to_owned()),
        _ => None,
    }
}

/// Refuses dot segments that the template holds whatever is filled in.
fn check_segments(text: &str, path: &[Part]) -> Result<(), TemplateError> {
    let sample: String =
        path.iter().map(|part| if let Part::Literal(text) = part { text } else { "x" }).collect();
    if sample.split('/').any(|segment| matches!(segment, "." | "..")) {
        let offset = text.find("/.").or_else(|| text.find("/%")).unwrap_or(0);
        return Err(fault(offset, TemplateFault::DotSegment));
    }
    Ok(())
}
