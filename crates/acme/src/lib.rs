//! Certificates by ACME (RFC 8555): an account, orders, challenges, renewal, and the folder in which several machines share
//! them.
//!
//! An authority's certificate is the one thing that Terrace serves and cannot make itself, so all here is built around
//! that it may not come: the authority down, slow or of another opinion, the folder full, read-only or gone, the clock
//! wrong. Nothing waits for it but who needs it, what was served is served on, and each try is further from the last.
//!
//! The files in the order of a certificate's way: `plan` decides what is due, `lock` whose turn it is, `account`, `order`
//! and `answers` speak with the authority, `store` keeps what came, `renewal` says when again. `acme` connects them.
#![forbid(unsafe_code)]

mod account;
mod acme;
mod answers;
mod config;
mod disk;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod lock;
mod metrics;
mod moment;
mod order;
mod plan;
mod renewal;
mod store;
#[cfg(test)]
mod testing;
mod x509;

// The public interface is:
pub use acme::{Acme, BuildError, Handle, Issued, Prepared};
pub use answers::Pair;
pub use config::{Authority, Challenge, Config, ExternalAccount, Foreign, Listener};
