//! Who is asking, and what they may do.
//!
//! A request's proof (a token, a key, a certificate, a session) is checked once and remembered by its hash, so that the next
//! request with it costs one look into a bounded table. What must be fetched to check it, an authority's keys first of all,
//! is fetched beside the requests.
#![forbid(unsafe_code)]

mod identity;

// The public interface is:
pub use identity::{Identity, Method};
