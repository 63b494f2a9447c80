//! Signed tokens (JOSE): bytes in, and what a signature vouches for out. Pure: no clock, no socket.
//!
//! Nearly every break of token checks in the wild came from letting the token choose how it is checked: its `alg`, its key
//! (`jwk`, `jku`, `x5u`, `x5c`), its extensions. Here the token chooses nothing. The key says which algorithms it is for, the
//! policy says which are taken, and the header only picks among what both allow (RFC 8725 section 3.1). Everything has a bound
//! before it is read, and what two readers could understand differently (names given twice, base64 with loose ends) is
//! refused.

pub(crate) mod algorithm;
pub(crate) mod base64;
pub(crate) mod compact;
pub(crate) mod json;
pub(crate) mod key;
#[cfg(test)]
mod vectors;

pub use algorithm::{Algorithm, Algorithms};
