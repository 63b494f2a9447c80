//! How long to wait before trying again: exponential growth with jitter, between two bounds.
//!
//! Growth keeps a struggling server from being asked at the rate that broke it; jitter keeps the clients that
//! failed together from coming back together. "Full jitter" (uniform between nothing and the exponential
//! bound) needs the fewest calls in all and finishes first of the variants compared in "Exponential Backoff
//! And Jitter" (AWS Architecture Blog, 2015), so requests use it. A supervised process uses "equal jitter"
//! (half fixed, half random), because a wait of nothing at all would let a broken program spin.

use std::time::Duration;

/// Exponential backoff between `from` and `to`: the bound doubles with each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub from: Duration,
    /// No wait is longer than this. Smaller than `from` counts as `from`.
    pub to: Duration,
}

impl Backoff {
    /// The longest wait after the `failures`-th failure in a row, counted from 1 (0 counts as 1).
    pub fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let grown = self.from.saturating_mul(1_u32 << doublings);
        grown.min(self.to.max(self.from))
    }

    /// A wait drawn evenly from nothing up to the bound ("full jitter").
    pub fn full_jitter(&self, failures: u32, random: u64) -> Duration {
        scale(self.bound(failures), random)
    }

    /// Half the bound, and up to another half at random ("equal jitter").
    pub fn equal_jitter(&self, failures: u32, random: u64) -> Duration {
        let half = self.bound(failures) / 2;
        half + scale(half, random)
    }
}

/// `span * random / 2^64`, without the bias of a remainder.
fn scale(span: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let scaled = (u128::from(nanos) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { from: Duration::from_millis(25), to: Duration::from_secs(1) };

    #[test]
    fn the_bound_doubles_until_it_reaches_the_longest_wait() {
        let bounds: Vec<u128> = (1..9).map(|failures| BACKOFF.bound(failures).as_millis()).collect();
        assert_eq!(bounds, [25, 50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn any_number_of_failures_is_answered() {
        assert_eq!(BACKOFF.bound(0), BACKOFF.from);
        assert_eq!(BACKOFF.bound(u32::MAX), BACKOFF.to);
    }

    #[test]
    fn a_longest_wait_below_the_first_one_counts_as_the_first() {
        let odd = Backoff { from: Duration::from_secs(2), to: Duration::from_secs(1) };
        assert_eq!(odd.bound(5), Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn full_jitter_stays_between_nothing_and_the_bound(failures in 0_u32..80, random: u64) {
            prop_assert!(BACKOFF.full_jitter(failures, random) <= BACKOFF.bound(failures));
        }

        #[test]
        fn equal_jitter_waits_at_least_half_the_bound(failures in 0_u32..80, random: u64) {
            let wait = BACKOFF.equal_jitter(failures, random);
            prop_assert!(wait >= BACKOFF.bound(failures) / 2 && wait <= BACKOFF.bound(failures));
        }
    }

    #[test]
    fn jitter_spreads_over_the_whole_span() {
        assert_eq!(BACKOFF.full_jitter(1, 0), Duration::ZERO);
        assert_eq!(BACKOFF.full_jitter(1, 1 << 63), BACKOFF.from / 2);
        assert!(BACKOFF.full_jitter(1, u64::MAX) > BACKOFF.from * 99 / 100);
    }
}
