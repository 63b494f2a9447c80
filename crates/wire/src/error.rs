//! What can go wrong on the wire. Whose fault it was depends on whose wire it was; the caller knows that.

use std::io;

use terrace_http::{ChunkedError, FramingError, ParseError};

/// Why a message could not be read or written. The connection cannot be used further.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The peer closed in the middle of a message, or where one was due.
    #[error("the connection was closed before the message was complete")]
    Closed,
    /// The operating system's word on the connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer sent what is not a head.
    #[error("{0}")]
    Head(#[from] ParseError),
    /// The peer sent a body that is not in the coding it named.
    #[error("{0}")]
    Chunked(#[from] ChunkedError),
    /// The peer broke HTTP/2, or reset the stream.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The message to be sent is longer or shorter than it said.
    #[error("the body is not as long as its head said")]
    Length,
}

impl From<FramingError> for WireError {
    fn from(error: FramingError) -> Self {
        Self::Head(ParseError::Framing(error))
    }
}

impl WireError {
    /// Whether the peer cannot have begun to act on what was sent, so that sending it elsewhere is safe (RFC 9113
    /// section 8.7: REFUSED_STREAM, and streams above the last one of a GOAWAY).
    #[must_use]
    pub fn was_not_processed(&self) -> bool {
        match self {
            Self::Http2(error) => error.reason() == Some(h2::Reason::REFUSED_STREAM) || is_graceful(error),
            _ => false,
        }
    }

    /// Whether the peer broke the protocol, as opposed to going away.
    #[must_use]
    pub fn is_protocol_violation(&self) -> bool {
        match self {
            Self::Head(_) | Self::Chunked(_) => true,
            Self::Http2(error) => error
                .reason()
                .is_some_and(|reason| reason != h2::Reason::CANCEL && reason != h2::Reason::NO_ERROR),
            _ => false,
        }
    }
}

fn is_graceful(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
}
