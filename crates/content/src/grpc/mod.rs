//! gRPC as it concerns who stands in between (grpc/doc/PROTOCOL-HTTP2.md): statuses, and gRPC-Web, by which browsers speak
//! it.

mod base64;
mod status;
mod web;

pub use base64::{TextDecoder, TextEncoder, TextError};
pub use status::{GrpcStatus, encode_message};
pub use web::{WebAnswer, WebCall, WebReply};
