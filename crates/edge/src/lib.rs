//! Listeners, TLS and the chain of one request.
#![forbid(unsafe_code)]
