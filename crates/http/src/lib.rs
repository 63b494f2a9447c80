//! HTTP messages as Terrace sees them: heads, fields, and the grammar and framing of HTTP/1.1. Pure: bytes in,
//! messages out; it knows no socket, no clock, no policy.
//!
//! The rest of the program names only these types, so that the engine that reads and writes the wire can be replaced.
//! Everything that decides where a message ends is in here, and it is strict: what two readers could understand
//! differently is refused, because a proxy and the server behind it are two readers (RFC 9112 section 11.2).
#![forbid(unsafe_code)]

mod authority;
mod chunked;
mod fields;
mod framing;
mod head;
mod known;
mod list;
mod parse;
mod path;
mod write;

pub use authority::{Authority, AuthorityError};
pub use chunked::{ChunkedDecoder, ChunkedError, Decoded, chunk_header, end_of_chunks, may_trail};
pub use fields::Fields;
pub use framing::{BodyLength, FramingError, request_body, response_body};
pub use head::{Method, RequestHead, ResponseHead, TRACE_PARENT_BYTES, Version, reason};
pub use known::{Known, KnownSet};
pub use list::{contains_token, tokens};
pub use parse::{Bounds, Head, ParseError, parse_request, parse_response};
pub use path::{PathError, normalise, other_readings};
pub use write::{write_request, write_response};
