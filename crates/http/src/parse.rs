//! Heads of HTTP/1 messages read from bytes (RFC 9112 sections 2 to 5).
//!
//! httparse finds the tokens; what is decided here is what it leaves open: every line ends in CR LF, there is exactly
//! one `Host`, the target has one of the four forms and its path one normal form, and all within bounds.

use std::mem::MaybeUninit;

use httparse::{ParserConfig, Status};

use crate::{
    Authority, AuthorityError, Fields, FramingError, Known, Method, PathError, RequestHead, ResponseHead,
    Version, normalise,
};

/// The most fields a head may be allowed to have; its parser's memory stands on the stack.
const FIELDS_MAX: usize = 256;

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the whole head.
    pub head_bytes_max: usize,
    /// Fields; more than 256 counts as 256.
    pub fields_max: usize,
    /// Bytes of the request's target.
    pub target_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head_bytes_max: 32 << 10, fields_max: 100, target_bytes_max: 8 << 10 }
    }
}

/// How far parsing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// More bytes are needed.
    Partial,
    /// The head is whole and took that many bytes.
    Complete {
        /// Bytes of the head, its empty line included.
        bytes: usize,
    },
}

/// Why bytes are no head. The sender's fault; the connection cannot be used further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not the grammar of HTTP/1; the text says which part.
    #[error("the {0} is not HTTP/1")]
    Syntax(&'static str),
    /// A line that ends in LF alone.
    #[error("a line does not end in CR LF")]
    BareLineFeed,
    /// A version other than 1.0 and 1.1.
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// More bytes than the bound.
    #[error("the head is longer than {0} bytes")]
    TooLong(usize),
    /// A longer target than the bound.
    #[error("the target is longer than {0} bytes")]
    TargetTooLong(usize),
    /// More fields than the bound.
    #[error("there are more than {0} fields")]
    TooManyFields(usize),
    /// HTTP/1.1 without a `Host`, or with two.
    #[error("there must be exactly one Host")]
    Host,
    /// A host that is none.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// A target of none of the four forms, or of one that does not fit the method.
    #[error("the target's form does not fit the method")]
    Target,
    /// A path without one normal form.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A body without one length.
    #[error("{0}")]
    Framing(#[from] FramingError),
}

impl ParseError {
    /// The status that tells a client of it (RFC 9110 section 15.5, RFC 6585 section 5).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLong(_) | Self::TooManyFields(_) => 431,
            Self::TargetTooLong(_) => 414,
            Self::Version => 505,
            Self::Framing(FramingError::Coding) => 501,
            _ => 400,
        }
    }
}

/// Reads a request's head from the start of `bytes` into `head`, whose memory is reused.
///
/// # Errors
/// [`ParseError`] for what is no head, is too large, or could be read in two ways. The body's length is not looked at
/// here, see [`crate::request_body`].
pub fn parse_request(bytes: &[u8], bounds: &Bounds, head: &mut RequestHead) -> Result<Head, ParseError> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let slots = &mut headers[..bounds.fields_max.min(FIELDS_MAX)];
    let status = ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, slots);
    let Some(head_bytes) = complete(status, bytes, bounds)? else {
        return partial_request(bytes, bounds);
    };
    head.clear();
    head.version = version(request.version);
    head.method = Method::parse(request.method.unwrap_or_default());
    take_fields(&mut head.fields, request.headers, &bytes[..head_bytes])?;
    let target = request.path.unwrap_or_default();
    if target.len() > bounds.target_bytes_max {
        return Err(ParseError::TargetTooLong(bounds.target_bytes_max));
    }
    read_host(head)?;
    read_target(target, head)?;
    Ok(Head::Complete { bytes: head_bytes })
}

/// Reads a response's head from the start of `bytes` into `head`, whose memory is reused.
///
/// # Errors
/// [`ParseError`] as for requests.
pub fn parse_response(bytes: &[u8], bounds: &Bounds, head: &mut ResponseHead) -> Result<Head, ParseError> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let slots = &mut headers[..bounds.fields_max.min(FIELDS_MAX)];
    let status = ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, slots);
    let Some(head_bytes) = complete(status, bytes, bounds)? else {
        return Ok(Head::Partial);
    };
    head.fields.clear();
    head.version = version(response.version);
    head.status = response.code.unwrap_or_default();
    if head.status < 100 {
        return Err(ParseError::Syntax("status"));
    }
    take_fields(&mut head.fields, response.headers, &bytes[..head_bytes])?;
    Ok(Head::Complete { bytes: head_bytes })
}

/// Takes over the fields that were found in that head. Where their lines are what nearly all are, one look has seen that each ends
/// in CR LF; else the head is looked through.
fn take_fields(fields: &mut Fields, found: &[httparse::Header<'_>], head: &[u8]) -> Result<(), ParseError> {
    let Some(whole) = head.strip_suffix(b"\r\n") else { return only_whole_lines(head) };
    let offset = |first: &httparse::Header<'_>| first.name.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
    let lines_at = found.first().map_or(whole.len(), offset);
    let (first_line, lines) = whole.split_at_checked(lines_at).unwrap_or((whole, b""));
    let are_whole = fields.append_lines(lines, found.iter().map(|one| (one.name.as_bytes(), one.value)));
    let is_one =
        first_line.ends_with(b"\r\n") && memchr::memchr(b'\n', first_line) == Some(first_line.len() - 1);
    if are_whole && is_one { Ok(()) } else { only_whole_lines(head) }
}

/// The length of the head, or `None` while it is incomplete and still within its bound.
fn complete(
    status: httparse::Result<usize>,
    bytes: &[u8],
    bounds: &Bounds,
) -> Result<Option<usize>, ParseError> {
    match status {
        Ok(Status::Complete(length)) if length > bounds.head_bytes_max => {
            Err(ParseError::TooLong(bounds.head_bytes_max))
        }
        Ok(Status::Complete(length)) => Ok(Some(length)),
        Ok(Status::Partial) if bytes.len() > bounds.head_bytes_max => {
            Err(ParseError::TooLong(bounds.head_bytes_max))
        }
        Ok(Status::Partial) => Ok(None),
        Err(httparse::Error::Version) if !names_a_version(bytes) => Err(ParseError::Syntax("first line")),
        Err(error) => Err(syntax(error, bounds)),
    }
}

/// A head that is not whole yet may already be known never to be one.
fn partial_request(bytes: &[u8], bounds: &Bounds) -> Result<Head, ParseError> {
    const METHOD_AND_VERSION_BYTES_MAX: usize = 64;
    only_whole_lines(bytes)?;
    let first_line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if first_line > bounds.target_bytes_max + METHOD_AND_VERSION_BYTES_MAX {
        return Err(ParseError::TargetTooLong(bounds.target_bytes_max));
    }
    Ok(Head::Partial)
}

fn only_whole_lines(head: &[u8]) -> Result<(), ParseError> {
    let is_bare = |at: usize| at == 0 || head[at - 1] != b'\r';
    if memchr::memchr_iter(b'\n', head).any(is_bare) { Err(ParseError::BareLineFeed) } else { Ok(()) }
}

/// Whether a word of the first line begins as versions of HTTP do; else the line has one word too many.
fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').find(|line| line.trim_ascii() != b"").unwrap_or_default();
    let mut words = line.trim_ascii().split(|byte| *byte == b' ');
    words.nth(2).is_some_and(|word| word.starts_with(b"HTTP/"))
}

fn syntax(error: httparse::Error, bounds: &Bounds) -> ParseError {
    match error {
        httparse::Error::HeaderName => ParseError::Syntax("field name"),
        httparse::Error::HeaderValue => ParseError::Syntax("field value"),
        httparse::Error::NewLine => ParseError::Syntax("line end"),
        httparse::Error::Status => ParseError::Syntax("status"),
        httparse::Error::Token => ParseError::Syntax("first line"),
        httparse::Error::TooManyHeaders => ParseError::TooManyFields(bounds.fields_max),
        httparse::Error::Version => ParseError::Version,
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

/// RFC 9112 section 3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0.
fn read_host(head: &mut RequestHead) -> Result<(), ParseError> {
    let mut hosts = head.fields.all(Known::Host);
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::Http10 => Ok(()),
        (Some(host), None) => {
            let authority = Authority::parse(host)?;
            authority.write_host(&mut head.host);
            head.port = authority.port;
            Ok(())
        }
        _ => Err(ParseError::Host),
    }
}

/// RFC 9112 section 3.2: origin, absolute, authority and asterisk form.
fn read_target(target: &str, head: &mut RequestHead) -> Result<(), ParseError> {
    match (&head.method, target) {
        (Method::Connect, _) => read_connect(target, head),
        (Method::Options, "*") => {
            head.set_target("*", None);
            Ok(())
        }
        (_, path) if path.starts_with('/') => set_origin_form(path, head),
        (_, absolute) => read_absolute(absolute, head),
    }
}

fn read_connect(target: &str, head: &mut RequestHead) -> Result<(), ParseError> {
    let authority = Authority::parse(target.as_bytes())?;
    if authority.port.is_none() {
        return Err(ParseError::Target);
    }
    head.set_authority(&authority);
    head.set_target("/", None);
    Ok(())
}

/// RFC 9112 section 3.2.2: the authority of an absolute target replaces whatever `Host` says.
fn read_absolute(target: &str, head: &mut RequestHead) -> Result<(), ParseError> {
    let (scheme, rest) = target.split_once("://").ok_or(ParseError::Target)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(ParseError::Target);
    }
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority_text, path) = rest.split_at(path_at);
    if authority_text.is_empty() {
        return Err(ParseError::Target);
    }
    head.set_authority(&Authority::parse(authority_text.as_bytes())?);
    head.fields.set(Known::Host, authority_text.as_bytes());
    match path.starts_with('/') {
        true => set_origin_form(path, head),
        false => set_origin_form(&format!("/{path}"), head),
    }
}

fn set_origin_form(target: &str, head: &mut RequestHead) -> Result<(), ParseError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    if query.is_some_and(|query| query.contains('#')) {
        return Err(ParseError::Path(PathError::Character));
    }
    head.set_target(&normalise(path)?, query);
    Ok(())
}

impl RequestHead {
    /// Sets the target from `:path` of HTTP/2 (RFC 9113 section 8.3.1), in origin or asterisk form.
    ///
    /// # Errors
    /// [`ParseError`] as for HTTP/1.
    pub fn read_path(&mut self, path: &str, bounds: &Bounds) -> Result<(), ParseError> {
        if path.len() > bounds.target_bytes_max {
            return Err(ParseError::TargetTooLong(bounds.target_bytes_max));
        }
        match (&self.method, path) {
            (Method::Options, "*") => {
                self.set_target("*", None);
                Ok(())
            }
            _ => set_origin_form(path, self),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<RequestHead, ParseError> {
        let mut head = RequestHead::new();
        match parse_request(text.as_bytes(), &Bounds::default(), &mut head)? {
            Head::Complete { bytes } => {
                assert_eq!(bytes, text.len());
                Ok(head)
            }
            Head::Partial => panic!("incomplete: {text:?}"),
        }
    }

    fn refused(text: &str, error: ParseError) {
        assert_eq!(parse(text).expect_err(text), error, "{text:?}");
    }

    #[test]
    fn rfc9112_3_a_request_is_read() {
        let head =
            parse("GET /a/../b?c=%2e HTTP/1.1\r\nHost: Shop.Example:81\r\nX: y \r\n\r\n").expect("valid");
        assert_eq!((head.host(), head.port()), ("shop.example", Some(81)));
        assert_eq!((head.path(), head.query(), head.target()), ("/b", Some("c=%2e"), "/b?c=%2e"));
        assert_eq!(head.fields.named(b"x"), Some(&b"y"[..]));
    }

    #[test]
    fn rfc9112_3_2_2_an_absolute_target_overrides_host() {
        let head = parse("GET http://a.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n").expect("valid");
        assert_eq!((head.host(), head.path()), ("a.example", "/x"));
        assert_eq!(head.fields.all(Known::Host).collect::<Vec<_>>(), [b"a.example"]);
        let head = parse("GET http://a.example?q HTTP/1.1\r\nHost: b.example\r\n\r\n").expect("valid");
        assert_eq!(head.target(), "/?q");
    }

    #[test]
    fn rfc9112_3_2_there_is_exactly_one_host() {
        refused("GET / HTTP/1.1\r\n\r\n", ParseError::Host);
        refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", ParseError::Host);
        refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ParseError::Authority(AuthorityError::Character));
        assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").expect("HTTP/1.0 needs none").host(), "");
    }

    #[test]
    fn rfc9112_2_2_bare_line_feeds_are_refused() {
        refused("GET / HTTP/1.1\nHost: a\r\n\r\n", ParseError::BareLineFeed);
        refused("GET / HTTP/1.1\r\nHost: a\n\r\n", ParseError::BareLineFeed);
        refused("GET / HTTP/1.1\r\nHost: a\r\n\n", ParseError::BareLineFeed);
        refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::BareLineFeed);
        let mut head = RequestHead::new();
        let partial = parse_request(b"GET / HTTP/1.1\n", &Bounds::default(), &mut head);
        assert_eq!(partial, Err(ParseError::BareLineFeed), "it is not waited for the rest");
    }

    #[test]
    fn rfc9112_5_fields_that_smuggle_are_refused() {
        refused("GET / HTTP/1.1\r\nHost : a\r\n\r\n", ParseError::Syntax("field name"));
        refused("GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", ParseError::Syntax("field name"));
        refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", ParseError::Syntax("field value"));
        refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", ParseError::Syntax("field value"));
        refused("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", ParseError::Syntax("field name"));
        refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::Syntax("first line"));
        refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", ParseError::Version);
        refused("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::Syntax("first line"));
    }

    #[test]
    fn rfc9112_3_2_targets_fit_their_method() {
        refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::Target);
        refused("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::Target);
        refused("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::Target);
        refused("GET /..%2f HTTP/1.1\r\nHost: a\r\n\r\n", ParseError::Path(PathError::Ambiguous));
        assert_eq!(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").expect("valid").path(), "*");
    }

    #[test]
    fn heads_are_bounded() {
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9000));
        assert_eq!(parse(&long).expect_err("too long").status(), 414);
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
        assert_eq!(parse(&many).expect_err("too many").status(), 431);
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(40_000));
        assert_eq!(parse(&large).expect_err("too large").status(), 431);
        let mut head = RequestHead::new();
        let endless = parse_request(&vec![b'a'; 40_000], &Bounds::default(), &mut head);
        assert!(endless.is_err(), "a line that does not end is not waited for");
    }

    #[test]
    fn rfc9112_4_a_response_is_read() {
        let mut head = ResponseHead::default();
        let text = b"HTTP/1.1 404 Nothing here\r\nX: y\r\n\r\nbody";
        let parsed = parse_response(text, &Bounds::default(), &mut head);
        assert_eq!(parsed, Ok(Head::Complete { bytes: text.len() - 4 }));
        assert_eq!((head.status, head.fields.len()), (404, 1));
        for garbage in ["HTTP/1.1 20 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n"] {
            assert!(parse_response(garbage.as_bytes(), &Bounds::default(), &mut head).is_err(), "{garbage}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut head = RequestHead::new();
            let _refused = parse_request(&bytes, &Bounds::default(), &mut head);
            let _refused = parse_response(&bytes, &Bounds::default(), &mut ResponseHead::default());
        }

        /// However a line is written, it is read as its name and its value, and passed on in one way; and each of them ends in CR LF.
        #[test]
        fn lines_are_read_alike_however_they_are_written(
            first in prop::sample::select(vec!["", "\r\n", "\n"]),
            lines in prop::collection::vec(
                (
                    "(X|Date|Accept-Encoding|[a-z]{1,4}-[A-Z]{1,20})",
                    prop::sample::select(vec![": ", ":", ":  ", ":\t", ": \t"]),
                    "(|[!-~]|[!-~][ -~]{0,9}[!-~])",
                    prop::sample::select(vec!["\r\n", "\r\n", "\r\n", " \r\n", "\t\r\n", "\n"]),
                ),
                0..6,
            ),
        ) {
            let written: String = lines.iter().flat_map(|(name, colon, value, end)| [name, *colon, value, *end]).collect();
            let text = format!("{first}HTTP/1.1 200 OK\r\n{written}\r\n");
            let mut head = ResponseHead::default();
            let parsed = parse_response(text.as_bytes(), &Bounds::default(), &mut head);
            if text.replace("\r\n", "").contains('\n') {
                prop_assert_eq!(parsed, Err(ParseError::BareLineFeed));
                return Ok(());
            }
            prop_assert_eq!(parsed, Ok(Head::Complete { bytes: text.len() }));
            let expected: Vec<_> = lines.iter().map(|(name, _, value, _)| (name.as_bytes(), value.as_bytes())).collect();
            prop_assert_eq!(head.fields.iter().collect::<Vec<_>>(), expected);
            let mut out = Vec::new();
            head.fields.write_lines(crate::KnownSet::EMPTY, &mut out);
            let ours: String = lines.iter().map(|(name, _, value, _)| format!("{name}: {value}\r\n")).collect();
            prop_assert_eq!(String::from_utf8(out).expect("text"), ours);
        }

        #[test]
        fn no_request_like_bytes_panic(target in "[ -~\u{e9}]{0,40}", name in "[ -~]{0,12}", value in "[ -~\t]{0,20}") {
            let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n");
            let mut head = RequestHead::new();
            let _refused = parse_request(text.as_bytes(), &Bounds::default(), &mut head);
        }
    }
}
