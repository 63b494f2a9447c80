//! The heads of messages (RFC 9110 section 6.2), the same for every version of HTTP.

use std::fmt;

use crate::{Authority, Fields};

/// A request's method (RFC 9110 section 9).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each variant is the method of that name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token, case kept.
    Other(Box<str>),
}

impl Method {
    /// The method called `name`; methods are compared with regard to case.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "CONNECT" => Self::Connect,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            other => Self::Other(other.into()),
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(name) => name,
        }
    }

    /// Whether sending it twice means what sending it once means (RFC 9110 section 9.2.2).
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The version in which a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, connections close by default.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// As logs and `Via` write it after `HTTP/`.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// Bytes of `traceparent` in version 00.
pub const TRACE_PARENT_BYTES: usize = 55;

/// The head of a request, its target in one normal form. Reused from request to request.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version in which it came.
    pub version: Version,
    /// The fields, `Host` among them.
    pub fields: Fields,
    /// `traceparent` as the endpoint is told it (W3C Trace Context section 3.2). It is another at each try, so it is not
    /// among the fields; it is written after them.
    pub trace_parent: Option<[u8; TRACE_PARENT_BYTES]>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) target: String,
    pub(crate) path_bytes: usize,
}

impl RequestHead {
    /// An empty head, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the request and keeps the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.trace_parent = None;
        self.host.clear();
        self.port = None;
        self.target.clear();
        self.path_bytes = 0;
    }

    /// The host asked for: lower case, without port; empty when the client named none.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port named beside the host.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Path and query as sent to an origin server; `*` for `OPTIONS *`.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The path in its normal form.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.target[..self.path_bytes]
    }

    /// The query without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target[self.path_bytes..].strip_prefix('?')
    }

    /// Puts another path before the query. It must be in normal form.
    pub fn set_path(&mut self, path: &str) {
        self.target.replace_range(..self.path_bytes, path);
        self.path_bytes = path.len();
    }

    /// Sets path and query; the path must be in normal form.
    pub fn set_target(&mut self, path: &str, query: Option<&str>) {
        self.target.clear();
        self.target.push_str(path);
        self.path_bytes = path.len();
        if let Some(query) = query {
            self.target.push('?');
            self.target.push_str(query);
        }
    }

    /// Sets the host in its normal form and the port.
    pub fn set_authority(&mut self, authority: &Authority<'_>) {
        authority.write_host(&mut self.host);
        self.port = authority.port;
    }
}

/// The head of a response.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The version in which it came.
    pub version: Version,
    /// The fields.
    pub fields: Fields,
}

impl ResponseHead {
    /// A head with that status and no fields.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, version: Version::Http11, fields: Fields::new() }
    }

    /// Whether it is an interim response (1xx), after which another head follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// The reason phrase of a status (RFC 9110 section 15); empty for those without a registered one.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}
