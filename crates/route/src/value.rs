//! Values that rules write into fields and query parameters: text with names in braces, such as `{client-ip}`.
//!
//! What is filled in comes from strangers (a path, a claim), so it can only ever be what its place allows: in a field
//! visible ASCII and inner spaces, everything else percent-encoded, so that no capture can end a field and begin another;
//! in a query what stays inside one parameter. The names are looked up when the template is read, never on a request.
//!
//! A name in braces is first a capture of the route's patterns, then one of ours; so a file keeps its meaning when a
//! name is added here. `{{` and `}}` stand for the braces themselves.

use crate::{
    pattern::Pattern,
    request::Request,
    rewrite::ExpandError,
    table::Match,
    template::{TEMPLATE_BYTES_MAX, TemplateError, TemplateFault, fault},
    text,
};

/// How long a filled-in value may get, in bytes: what one field of a usual head has room for.
pub const VALUE_BYTES_MAX: usize = 8_192;

/// A value that is made anew for each request, or is always the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueTemplate {
    parts: Box<[Part]>,
}

/// What a value may name that the route's table does not know of; the caller fills it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueName {
    /// `{client-ip}`: the client's address.
    ClientIp,
    /// `{request-id}`: the request's id.
    RequestId,
    /// `{route}`: the route's name.
    Route,
    /// `{service}`: the service's name, empty where none was chosen.
    Service,
    /// `{claim:sub}`: what is claimed of the client under that name; empty where nothing is.
    Claim(Box<str>),
}

/// Fills in what a value names. Whatever is written is made fit for its place afterwards.
pub trait ValueSource {
    /// Appends the text that `name` stands for to `out`; nothing where there is none.
    fn write(&self, name: &ValueName, out: &mut Vec<u8>);
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// A capture: its position for each pattern of the route.
    Capture(Box<[u8]>),
    Host,
    Path,
    Query,
    Named(ValueName),
}

impl ValueTemplate {
    /// Reads a value for a route with these patterns: all of them, in the rule's order. Where there are none, as on a
    /// service's internal listener, captures come out empty.
    ///
    /// # Errors
    /// When the text cannot stand in a field, or names what is not there.
    pub fn parse(text: &str, patterns: &[Pattern]) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(fault(text::border_before(text, TEMPLATE_BYTES_MAX), TemplateFault::TooLong));
        }
        if let Some(offset) = text.find(|letter: char| !matches!(letter, ' '..='~')) {
            return Err(fault(offset, TemplateFault::ValueCharacter));
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            let offset = if text.starts_with(' ') { 0 } else { text.len() - 1 };
            return Err(fault(offset, TemplateFault::OuterSpace));
        }
        let mut reader = Reader { text, at: 0, literal: String::new(), parts: Vec::new() };
        while reader.step(patterns)? {}
        Ok(Self { parts: reader.parts.into() })
    }

    /// The text, when it is the same for every request.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether `name` stands in it.
    #[must_use]
    pub fn names(&self, name: &ValueName) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Named(named) if named == name))
    }

    /// Appends the value of a field: visible ASCII, with spaces inside only. Empty when all that it names is.
    ///
    /// # Errors
    /// [`ExpandError::TooLong`] beyond [`VALUE_BYTES_MAX`]; `out` is as it was then.
    pub fn expand<R: Request + ?Sized>(
        &self,
        request: &R,
        found: Option<&Match>,
        source: &impl ValueSource,
        out: &mut Vec<u8>,
    ) -> Result<(), ExpandError> {
        let start = out.len();
        self.fill(request, found, source, out)?;
        let inner =
            out[start..].iter().rposition(|byte| *byte != b' ').map_or(start, |last| start + last + 1);
        out.truncate(inner);
        let outer = out[start..].iter().take_while(|byte| **byte == b' ').count();
        out.drain(start..start + outer);
        Ok(())
    }

    fn fill<R: Request + ?Sized>(
        &self,
        request: &R,
        found: Option<&Match>,
        source: &impl ValueSource,
        out: &mut Vec<u8>,
    ) -> Result<(), ExpandError> {
        let start = out.len();
        for part in &self.parts {
            let from = out.len();
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Capture(positions) => {
                    out.extend_from_slice(capture(request, found, positions).as_bytes());
                }
                Part::Host => out.extend_from_slice(request.host().as_bytes()),
                Part::Path => out.extend_from_slice(request.path().as_bytes()),
                Part::Query => out.extend_from_slice(request.query().unwrap_or("").as_bytes()),
                Part::Named(name) => source.write(name, out),
            }
            make_fit(out, from);
            if out.len() - start > VALUE_BYTES_MAX {
                out.truncate(start);
                return Err(ExpandError::TooLong);
            }
        }
        Ok(())
    }
}

fn capture<'r, R: Request + ?Sized>(request: &'r R, found: Option<&Match>, positions: &[u8]) -> &'r str {
    let Some(found) = found else { return "" };
    let position = positions.get(found.at).copied().map(usize::from);
    position.and_then(|position| found.captures.text(request.path(), position)).unwrap_or("")
}

/// Percent-encodes what may not stand in a field, from `from` on. Nearly always there is nothing of the kind.
fn make_fit(out: &mut Vec<u8>, from: usize) {
    let is_fit = |byte: &u8| matches!(byte, b' '..=b'~');
    if out[from..].iter().all(is_fit) {
        return;
    }
    let strange = out.split_off(from);
    for byte in strange {
        match is_fit(&byte) {
            true => out.push(byte),
            false => out.extend_from_slice(&text::escaped(byte)),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    literal: String,
    parts: Vec<Part>,
}

impl Reader<'_> {
    /// Takes up the next piece; says whether there was one.
    fn step(&mut self, patterns: &[Pattern]) -> Result<bool, TemplateError> {
        let rest = &self.text[self.at..];
        let Some(brace) = rest.find(['{', '}']) else {
            self.literal.push_str(rest);
            self.end_literal();
            return Ok(false);
        };
        self.literal.push_str(&rest[..brace]);
        self.at += brace;
        let rest = &self.text[self.at..];
        for (twice, once) in [("{{", '{'), ("}}", '}')] {
            if rest.starts_with(twice) {
                self.literal.push(once);
                self.at += 2;
                return Ok(true);
            }
        }
        let inner = rest.strip_prefix('{').ok_or_else(|| fault(self.at, TemplateFault::ValueBrace))?;
        let close = match inner.find(['{', '}']) {
            Some(close) if inner[close..].starts_with('}') => close,
            _ => return Err(fault(self.at, TemplateFault::ValueBrace)),
        };
        self.end_literal();
        self.parts.push(part(&inner[..close], patterns, self.at)?);
        self.at += close + 2;
        Ok(true)
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.parts.push(Part::Literal(std::mem::take(&mut self.literal).into()));
        }
    }
}

/// What a name in braces at `at` stands for.
fn part(name: &str, patterns: &[Pattern], at: usize) -> Result<Part, TemplateError> {
    if patterns.iter().any(|pattern| pattern.position(name).is_some()) {
        return captured(name, patterns, at);
    }
    if let Some(claim) = name.strip_prefix("claim:") {
        return match claim.is_empty() {
            true => Err(fault(at, TemplateFault::NoClaim)),
            false => Ok(Part::Named(ValueName::Claim(claim.into()))),
        };
    }
    match name {
        "host" => Ok(Part::Host),
        "path" => Ok(Part::Path),
        "query" => Ok(Part::Query),
        "client-ip" => Ok(Part::Named(ValueName::ClientIp)),
        "request-id" => Ok(Part::Named(ValueName::RequestId)),
        "route" => Ok(Part::Named(ValueName::Route)),
        "service" => Ok(Part::Named(ValueName::Service)),
        _ if patterns.is_empty() && is_capture_name(name) => Ok(Part::Capture(Box::default())),
        _ => Err(unknown(name, patterns, at)),
    }
}

/// Whether a pattern could capture under that name.
fn is_capture_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    !name.is_empty() && name.chars().all(fits) && nearest(name, &[]).is_none()
}

fn captured(name: &str, patterns: &[Pattern], at: usize) -> Result<Part, TemplateError> {
    let mut positions = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        let Some(position) = pattern.position(name) else {
            let unknown = TemplateFault::UnknownName { name: name.to_owned(), at: pattern.to_string() };
            return Err(fault(at, unknown));
        };
        positions
            .push(u8::try_from(position).expect("invariant: a pattern has at most CAPTURES_MAX captures"));
    }
    Ok(Part::Capture(positions.into()))
}

fn unknown(name: &str, patterns: &[Pattern], at: usize) -> TemplateError {
    let fault = TemplateFault::UnknownValue { name: name.to_owned() };
    TemplateError { offset: at, fault, suggestion: nearest(name, patterns) }
}

/// The name that was probably meant.
fn nearest(name: &str, patterns: &[Pattern]) -> Option<String> {
    let ours = ["host", "path", "query", "client-ip", "request-id", "route", "service", "claim:sub"];
    let known = patterns.iter().flat_map(Pattern::names).chain(ours);
    let scored = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score > 0.85).then(|| best.to_owned())
}
