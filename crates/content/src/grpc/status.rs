//! The statuses of gRPC (grpc/doc/statuscodes.md), and what a status of HTTP means in them.

use std::fmt::Write as _;

/// A status of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the status of that name")]
#[repr(u8)]
pub enum GrpcStatus {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl GrpcStatus {
    /// As it stands in `grpc-status`.
    #[must_use]
    pub const fn digits(self) -> &'static str {
        const DIGITS: [&str; 17] =
            ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
        DIGITS[self as usize]
    }

    /// What a client makes of an answer of HTTP that has no `grpc-status` (grpc/doc/http-grpc-status-mapping.md).
    #[must_use]
    pub const fn of_http(status: u16) -> Self {
        match status {
            400 | 431 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// A text as it stands in `grpc-message`: what is no printable ASCII, and the percent sign, percent-encoded
/// (grpc/doc/PROTOCOL-HTTP2.md, "Status-Message").
#[must_use]
pub fn encode_message(text: &str) -> String {
    let mut message = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => message.push(char::from(byte)),
            _ => {
                let _infallible = write!(message, "%{byte:02X}");
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_grpc_status_mapping_is_that_of_the_document() {
        let of = |status| GrpcStatus::of_http(status).digits();
        assert_eq!([400, 401, 403, 404, 431].map(of), ["13", "16", "7", "12", "13"]);
        assert_eq!([429, 502, 503, 504].map(of), ["14"; 4]);
        assert_eq!([200, 301, 418, 500, 501].map(of), ["2"; 5]);
        assert_eq!(GrpcStatus::DeadlineExceeded.digits(), "4");
    }

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(encode_message("100% größer\r\n"), "100%25 gr%C3%B6%C3%9Fer%0D%0A");
    }
}
