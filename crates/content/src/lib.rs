//! What may be done to bodies, without touching a socket: content codings, gRPC-Web's framing, JSON held against a schema.
//!
//! Everything here takes bytes and gives bytes or a verdict, and everything is bounded: what an encoder holds, how deep and
//! how wide JSON may be, how much work a schema may cause. It knows no socket, no task, no clock and no file; what a schema
//! refers to is read by a function that the caller hands in.
#![forbid(unsafe_code)]

mod coding;
mod compression;
mod encode;
mod etag;
mod grpc;
mod json;
mod media;
mod openapi;
mod schema;
mod validate;
mod yaml;

// The public interface is:
pub use coding::{Coding, negotiate};
pub use compression::{Compression, Plan, Wish};
pub use encode::{Effort, EncodeError, Encoder, FLUSH_BYTES};
pub use grpc::{
    GrpcStatus, TextDecoder, TextEncoder, TextError, WebAnswer, WebCall, WebReply, encode_message,
};
pub use json::{Decimal, Item, Json, JsonBounds, JsonError, Kind, push_quoted};
pub use media::{MediaRange, MediaRangeError, essence, is_json};
pub use openapi::OpenApi;
pub use schema::{CheckBounds, Flaw, JsonSchema, Load, ParameterPlace, SchemaError, Unfit};
pub use validate::{BodyCheck, Refusal, Validator};
