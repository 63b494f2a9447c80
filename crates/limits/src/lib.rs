//! Limits between machines and beyond restarts. The decisions themselves are `policy`'s.
//!
//! A [`Limit`] is one named limit: its limiter in memory, and, where the file asks for it, a Redis that other machines ask
//! too, or a file in the state folder that a quota's counts survive in. [`Limits`] holds them all and outlives reloads.
//!
//! What happens when Redis is away is decided here, once: each machine goes on by itself with its even share of what was left
//! of the limit, and asks again when Redis is back. A request never fails because of it.
#![forbid(unsafe_code)]

mod cluster;
mod engine;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod limit;
mod link;
mod metrics;
mod quotas;
mod registry;
mod resp;
mod scripts;
mod url;

// The public interface is:
pub use engine::Asked;
pub use keys::{KEY_LIMIT, KeyHold, KeyLimits, KeyStep};
pub use limit::{Hold, Limit, Question, Step, Unsaved, Word};
pub use metrics::Outcome;
pub use registry::{BuildError, Config, Engine, Limits, Prepared, Spec};
pub use url::{NotARedisUrl, RedisUrl};
