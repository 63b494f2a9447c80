//! The one door for randomness that decides nothing secret: picks, jitter, request ids.

/// A uniformly random number from this thread's generator, which is seeded by the operating system.
#[must_use]
pub fn u64() -> u64 {
    fastrand::u64(..)
}
