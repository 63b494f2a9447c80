//! What may be done to bodies, without touching a socket: content codings, gRPC-Web's framing, JSON held against a schema.
#![forbid(unsafe_code)]
