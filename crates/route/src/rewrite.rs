//! New paths and addresses, filled in from what a route captured.
//!
//! What is filled in comes from strangers, so it can only ever be what its place allows: it is percent-encoded where
//! it would end its section, a header field or a segment; a path begins with exactly one slash, so that it cannot turn
//! into another host; and it never gains a `.` or `..` segment. The result is always visible ASCII.

use crate::{
    pattern::Pattern,
    request::Request,
    table::Match,
    template::{Part, Template, TemplateError, TemplateFault, fault},
    text,
};

/// How long a filled-in template may get, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 65_536;

/// A template that this request cannot fill in. The fault is the request's: answer it with 400; a retry is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The template names `{host}` as its host, and the request has none.
    #[error("the request names no host, which the address it is sent on to needs")]
    NoHost,
    /// The new path would have a `.` or `..` segment.
    #[error("the path would leave its folder once rewritten")]
    DotSegment,
    /// The result is longer than [`OUTPUT_BYTES_MAX`].
    #[error("the address would be longer than {OUTPUT_BYTES_MAX} bytes")]
    TooLong,
}

/// A new path for the upstream, such as `/v2/{rest}`.
///
/// Without a `?` in the template the request's query is kept as it is; with one, the template's query takes its place,
/// and may hold the old one as `{query}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite(Template);

/// A new address for the client, such as `https://www.{host}/{rest}` or `/new/{rest}`. The query as in [`Rewrite`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect(Template);

impl Rewrite {
    /// Reads the template for a route with these patterns: all of them, in the rule's order.
    ///
    /// # Errors
    /// When it is no path, or names what one of the patterns does not capture.
    pub fn parse(text: &str, patterns: &[Pattern]) -> Result<Self, TemplateError> {
        let template = Template::parse(text, patterns)?;
        if template.origin.is_some() || !is_rooted(&template.path) {
            return Err(fault(0, TemplateFault::NoPath));
        }
        if template.fragment.is_some() {
            return Err(fault(text.find('#').unwrap_or(0), TemplateFault::Fragment));
        }
        Ok(Self(template))
    }

    /// The new request target: path, and query if there is one. `found` is what the table answered for this request.
    /// The target `*` (of `OPTIONS *`) stays as it is.
    ///
    /// # Errors
    /// When the request cannot fill in the template.
    pub fn expand<R: Request + ?Sized>(&self, request: &R, found: &Match) -> Result<String, ExpandError> {
        if request.path() == "*" {
            return Ok("*".to_owned());
        }
        expand(&self.0, request, found)
    }
}

impl Redirect {
    /// Reads the template for a route with these patterns: all of them, in the rule's order.
    ///
    /// # Errors
    /// When it leads nowhere, lets the path choose the host, or names what one of the patterns does not capture.
    pub fn parse(text: &str, patterns: &[Pattern]) -> Result<Self, TemplateError> {
        let template = Template::parse(text, patterns)?;
        match &template.origin {
            Some(origin) if !is_origin(origin) => {
                Err(fault(text.find("//").unwrap_or(0), TemplateFault::Host))
            }
            Some(_) => Ok(Self(template)),
            None if text.starts_with("//") => Err(fault(0, TemplateFault::NoScheme)),
            None if !is_rooted(&template.path) => Err(fault(0, TemplateFault::NoTarget)),
            None => Ok(Self(template)),
        }
    }

    /// The value of the `Location` field. `found` is what the table answered for this request.
    ///
    /// # Errors
    /// When the request cannot fill in the template.
    pub fn expand<R: Request + ?Sized>(&self, request: &R, found: &Match) -> Result<String, ExpandError> {
        expand(&self.0, request, found)
    }
}

/// Whether a path begins with a slash whatever is filled in.
fn is_rooted(path: &[Part]) -> bool {
    match path.first() {
        Some(Part::Literal(text)) => text.starts_with('/'),
        Some(Part::Path) => true,
        _ => false,
    }
}

/// Whether an origin is a host with an optional port once `{host}` is filled in.
fn is_origin(origin: &[Part]) -> bool {
    let part = |part: &Part| if let Part::Literal(text) = part { text.clone() } else { "h".to_owned() };
    let text: String = origin.iter().map(part).collect();
    let authority = text.split_once("//").map_or("", |(_, authority)| authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    // What a pattern accepts as a host is what stands here, so there is one notion of a host.
    port_fits && !host.is_empty() && Pattern::parse(&format!("{host}/")).is_ok()
}

fn expand<R: Request + ?Sized>(
    template: &Template,
    request: &R,
    found: &Match,
) -> Result<String, ExpandError> {
    let filler = Filler { request, found };
    let mut out = String::new();
    if let Some(origin) = &template.origin {
        if request.host().is_empty() && origin.contains(&Part::Host) {
            return Err(ExpandError::NoHost);
        }
        filler.fill(&mut out, origin, text::authority_byte)?;
    }
    filler.path(&mut out, &template.path)?;
    filler.query(&mut out, template.query.as_deref())?;
    if let Some(fragment) = &template.fragment {
        out.push('#');
        filler.fill(&mut out, fragment, text::query_byte)?;
    }
    Ok(out)
}

struct Filler<'a, R: ?Sized> {
    request: &'a R,
    found: &'a Match,
}

impl<R: Request + ?Sized> Filler<'_, R> {
    /// Appends the parts; what is filled in keeps the bytes of `keep`, the rest is encoded.
    fn fill(&self, out: &mut String, parts: &[Part], keep: fn(u8) -> bool) -> Result<(), ExpandError> {
        for part in parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Capture(positions) => text::push_encoded(out, self.capture(positions), keep),
                Part::Host => text::push_encoded(out, self.request.host(), keep),
                Part::Path => text::push_encoded(out, self.request.path(), keep),
                Part::Query => push_query(out, self.request.query().unwrap_or("")),
            }
            if out.len() > OUTPUT_BYTES_MAX {
                return Err(ExpandError::TooLong);
            }
        }
        Ok(())
    }

    fn capture(&self, positions: &[u8]) -> &str {
        match positions.get(self.found.at) {
            Some(position) => {
                self.found.captures.text(self.request.path(), usize::from(*position)).unwrap_or("")
            }
            None => "",
        }
    }

    fn path(&self, out: &mut String, parts: &[Part]) -> Result<(), ExpandError> {
        let mut path = String::new();
        self.fill(&mut path, parts, text::path_byte)?;
        if has_dot_segment(&path) {
            return Err(ExpandError::DotSegment);
        }
        out.push('/');
        out.push_str(path.trim_start_matches('/'));
        Ok(())
    }

    fn query(&self, out: &mut String, parts: Option<&[Part]>) -> Result<(), ExpandError> {
        let Some(parts) = parts else {
            if let Some(query) = self.request.query() {
                out.push('?');
                push_query(out, query);
            }
            return if out.len() > OUTPUT_BYTES_MAX { Err(ExpandError::TooLong) } else { Ok(()) };
        };
        let mut query = String::new();
        self.fill(&mut query, parts, text::query_value_byte)?;
        // `a=1&{query}` without a query leaves a dangling `&`.
        let query = query.trim_matches('&');
        if !query.is_empty() {
            out.push('?');
            out.push_str(query);
        }
        if out.len() > OUTPUT_BYTES_MAX { Err(ExpandError::TooLong) } else { Ok(()) }
    }
}

/// Whether some reader would see a `.` or `..` segment: also one that takes an encoded slash or a backslash for a
/// slash, or cuts off what follows a `;`.
fn has_dot_segment(path: &str) -> bool {
    let mut dots = Some(0);
    for byte in text::decoded(path, b'+').chain([b'/']) {
        let ends = matches!(byte, b'/' | b'\\' | b';');
        if ends && matches!(dots, Some(1 | 2)) {
            return true;
        }
        dots = match (byte, dots) {
            (b'/' | b'\\', _) => Some(0),
            (b'.', Some(count)) => Some(count + 1),
            _ => None,
        };
    }
    false
}

/// Appends a request's own query, changing only what could not stand in an address at all.
fn push_query(out: &mut String, query: &str) {
    for byte in query.bytes() {
        if text::foreign_query_byte(byte) {
            out.push(char::from(byte));
        } else {
            text::push_escape(out, byte);
        }
    }
}
