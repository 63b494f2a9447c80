//! Where a message's body ends (RFC 9112 section 6.3).
//!
//! This is the decision on which request smuggling lives. RFC 9112 lets a recipient repair some ambiguous messages; we
//! repair none: two lengths, a length beside a coding, a coding we do not know, all are refused.

use crate::{Fields, Known, Method, Version};

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// Exactly that many bytes.
    Known(u64),
    /// It says itself where it ends: chunks, or frames of HTTP/2.
    Framed,
    /// Until the connection closes; responses only.
    UntilClose,
}

/// Why nobody can say where the body ends. The sender's fault; the connection cannot be used further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// `Content-Length` is no plain number, or stands there twice.
    #[error("Content-Length must be one plain number")]
    Length,
    /// `Transfer-Encoding` and `Content-Length` in one message.
    #[error("Transfer-Encoding and Content-Length stand in one message")]
    Both,
    /// A transfer coding other than `chunked` alone.
    #[error("the only transfer coding understood is chunked")]
    Coding,
    /// `Transfer-Encoding` in HTTP/1.0, which has no such thing.
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    Version,
}

/// The length of an HTTP/1 request's body.
///
/// # Errors
/// [`FramingError`] for what two readers could understand differently.
pub fn request_body(version: Version, fields: &Fields) -> Result<BodyLength, FramingError> {
    Ok(declared(version, fields)?.unwrap_or(BodyLength::Empty))
}

/// The length of the body of an HTTP/1 response with that status to a request with that method.
///
/// # Errors
/// [`FramingError`] for what two readers could understand differently.
pub fn response_body(
    method: &Method,
    status: u16,
    version: Version,
    fields: &Fields,
) -> Result<BodyLength, FramingError> {
    let declared = declared(version, fields)?;
    if *method == Method::Head || matches!(status, 100..200 | 204 | 304) {
        return Ok(BodyLength::Empty);
    }
    Ok(declared.unwrap_or(BodyLength::UntilClose))
}

fn declared(version: Version, fields: &Fields) -> Result<Option<BodyLength>, FramingError> {
    let chunked = is_chunked(version, fields)?;
    let length = content_length(fields)?;
    match (chunked, length) {
        (true, Some(_)) => Err(FramingError::Both),
        (true, None) => Ok(Some(BodyLength::Framed)),
        (false, Some(0)) => Ok(Some(BodyLength::Empty)),
        (false, length) => Ok(length.map(BodyLength::Known)),
    }
}

fn is_chunked(version: Version, fields: &Fields) -> Result<bool, FramingError> {
    let mut codings = fields.all(Known::TransferEncoding);
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(_), _) if version == Version::Http10 => Err(FramingError::Version),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(FramingError::Coding),
    }
}

fn content_length(fields: &Fields) -> Result<Option<u64>, FramingError> {
    let mut lengths = fields.all(Known::ContentLength);
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => parse_length(length).map(Some),
        _ => Err(FramingError::Length),
    }
}

/// `1*DIGIT` (RFC 9110 section 8.6): no sign, no space, no list, and at most what fits.
fn parse_length(text: &[u8]) -> Result<u64, FramingError> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::Length);
    }
    let digits = std::str::from_utf8(text).map_err(|_| FramingError::Length)?;
    digits.parse().map_err(|_| FramingError::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Result<BodyLength, FramingError> {
        request_body(Version::Http11, &collect(fields))
    }

    fn collect(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        list.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
        fields
    }

    #[test]
    fn rfc9112_6_3_the_length_of_a_request() {
        assert_eq!(request(&[]), Ok(BodyLength::Empty));
        assert_eq!(request(&[("Content-Length", "0")]), Ok(BodyLength::Empty));
        assert_eq!(request(&[("Content-Length", "42")]), Ok(BodyLength::Known(42)));
        assert_eq!(request(&[("Transfer-Encoding", "Chunked")]), Ok(BodyLength::Framed));
    }

    #[test]
    fn rfc9112_11_2_what_smuggles_is_refused() {
        for value in
            ["", "+5", "-5", " 5", "5 ", "5,5", "5, 5", "0x5", "5.0", "99999999999999999999", "\u{665}"]
        {
            assert_eq!(request(&[("Content-Length", value)]), Err(FramingError::Length), "{value:?}");
        }
        assert_eq!(request(&[("Content-Length", "5"), ("Content-Length", "5")]), Err(FramingError::Length));
        assert_eq!(
            request(&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")]),
            Err(FramingError::Both)
        );
        for value in ["gzip", "gzip, chunked", "chunked, chunked", "xchunked", "chunked;q=1", "identity", ""]
        {
            assert_eq!(request(&[("Transfer-Encoding", value)]), Err(FramingError::Coding), "{value:?}");
        }
        assert_eq!(
            request(&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")]),
            Err(FramingError::Coding)
        );
        assert_eq!(
            request_body(Version::Http10, &collect(&[("Transfer-Encoding", "chunked")])),
            Err(FramingError::Version)
        );
    }

    #[test]
    fn rfc9112_6_3_the_length_of_a_response() {
        let response = |method: Method, status, fields: &[(&str, &str)]| {
            response_body(&method, status, Version::Http11, &collect(fields))
        };
        assert_eq!(response(Method::Head, 200, &[("Content-Length", "42")]), Ok(BodyLength::Empty));
        assert_eq!(response(Method::Get, 304, &[("Content-Length", "42")]), Ok(BodyLength::Empty));
        assert_eq!(response(Method::Get, 204, &[]), Ok(BodyLength::Empty));
        assert_eq!(response(Method::Get, 200, &[]), Ok(BodyLength::UntilClose));
        assert_eq!(response(Method::Get, 200, &[("Content-Length", "42")]), Ok(BodyLength::Known(42)));
        assert_eq!(
            response(Method::Get, 200, &[("Content-Length", "1"), ("Content-Length", "2")]),
            Err(FramingError::Length)
        );
    }
}
