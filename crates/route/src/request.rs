//! What a table needs to know of a request.
//!
//! The table reads a request through this trait, so that it matches whatever type the HTTP engine has without a copy.

/// The head of one request, as far as routing reads it.
pub trait Request {
    /// The method as sent, such as `GET`. Case matters (RFC 9110, section 9.1).
    fn method(&self) -> &str;

    /// The host in lower case, without port and without trailing dot; an IPv6 address with its brackets.
    /// Empty when the request names none: then only rules for any host match.
    fn host(&self) -> &str;

    /// The normalised path: starts with `/`, has no query. Or `*`, of `OPTIONS *`, which only `/*` and `/{rest*}` match.
    fn path(&self) -> &str;

    /// What follows the `?`, still percent-encoded; `None` without `?`.
    fn query(&self) -> Option<&str>;

    /// The first value of the header with this name, which is given in lower case.
    fn header(&self, name_lower: &str) -> Option<&[u8]>;
}
