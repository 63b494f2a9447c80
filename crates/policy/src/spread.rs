//! Latencies counted in coarse buckets, so that quantiles of a set of endpoints can be had many times a second.
//!
//! What is decided by latencies here (is this endpoint slower than its neighbours, is the service slower than it was, has
//! this request waited for longer than nearly all others do) asks for ratios, not for microseconds. So an octave has four
//! buckets, a quantile is off by an eighth at most, and a spread of 344 bytes takes everything from 64 µs to two minutes.
//! It is written by one relaxed addition, and never reset: whoever wants the last second keeps what was there before it
//! and subtracts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Share;

/// Buckets in an octave.
const SUB_BUCKETS: usize = 4;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// What is shorter counts as less than this: 64 µs.
const FIRST_BITS: u32 = 6;
/// What is longer counts as this long: 2²⁷ µs, two minutes and a quarter.
const LAST_BITS: u32 = 27;
const BUCKETS: usize = (LAST_BITS - FIRST_BITS) as usize * SUB_BUCKETS + 2;

/// Latencies, counted. Written from any core.
#[derive(Debug)]
pub struct Spread {
    counts: [AtomicU32; BUCKETS],
}

/// What a [`Spread`] held at one moment, or what was added to it between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadCounts {
    counts: [u32; BUCKETS],
}

impl Default for Spread {
    fn default() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; BUCKETS] }
    }
}

impl Default for SpreadCounts {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Spread {
    /// Counts one latency.
    #[inline]
    pub fn record(&self, latency: Duration) {
        self.counts[bucket_of(micros(latency))].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted so far; wraps around after four thousand million in one bucket.
    pub fn counts(&self) -> SpreadCounts {
        let mut counts = SpreadCounts::default();
        for (copy, count) in counts.counts.iter_mut().zip(&self.counts) {
            *copy = count.load(Ordering::Relaxed);
        }
        counts
    }
}

impl SpreadCounts {
    /// What was added since `earlier`, which must be an earlier state of the same spread.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.clone();
        for (count, before) in counts.counts.iter_mut().zip(&earlier.counts) {
            *count = count.wrapping_sub(*before);
        }
        counts
    }

    /// Takes in what another spread counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }

    /// Forgets half of everything, so that what comes next weighs more.
    pub fn halve(&mut self) {
        for count in &mut self.counts {
            *count /= 2;
        }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The latency that `share` of all did not exceed, within an eighth; none without any.
    pub fn quantile(&self, share: Share) -> Option<Duration> {
        let total = self.total();
        let rank = share.of(total).clamp(1, total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            let count = u64::from(*count);
            if count > 0 && seen + count >= rank {
                let (from, to) = bounds_us(bucket);
                return Some(Duration::from_micros(from + (to - from) * (rank - seen) / count));
            }
            seen += count;
        }
        None
    }

    /// How many were longer than `limit`, but for those in the bucket that it lies in.
    pub fn over(&self, limit: Duration) -> u64 {
        self.counts[bucket_of(micros(limit)) + 1..].iter().map(|count| u64::from(*count)).sum()
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}

#[inline]
fn bucket_of(micros: u64) -> usize {
    let bits = micros.max(1).ilog2();
    if bits < FIRST_BITS {
        return 0;
    }
    if bits >= LAST_BITS {
        return BUCKETS - 1;
    }
    let sub = (micros >> (bits - SUB_BITS)) as usize - SUB_BUCKETS;
    1 + (bits - FIRST_BITS) as usize * SUB_BUCKETS + sub
}

/// The first value of a bucket, and the first after it.
fn bounds_us(bucket: usize) -> (u64, u64) {
    if bucket == 0 {
        return (0, 1 << FIRST_BITS);
    }
    if bucket == BUCKETS - 1 {
        return (1 << LAST_BITS, 1 << LAST_BITS);
    }
    let (octave, sub) = ((bucket - 1) / SUB_BUCKETS, (bucket - 1) % SUB_BUCKETS);
    let width = 1_u64 << (FIRST_BITS as usize + octave - SUB_BITS as usize);
    let from = (SUB_BUCKETS + sub) as u64 * width;
    (from, from + width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spread(latencies_us: &[u64]) -> SpreadCounts {
        let spread = Spread::default();
        latencies_us.iter().for_each(|us| spread.record(Duration::from_micros(*us)));
        spread.counts()
    }

    #[test]
    fn nothing_counted_has_no_quantile() {
        assert_eq!(SpreadCounts::default().quantile(Share::percent(50)), None);
    }

    #[test]
    fn buckets_meet_without_a_gap() {
        for bucket in 0..BUCKETS - 1 {
            let (from, to) = bounds_us(bucket);
            assert_eq!(bounds_us(bucket + 1).0, to);
            assert_eq!((bucket_of(from), bucket_of(to - 1), bucket_of(to)), (bucket, bucket, bucket + 1));
        }
    }

    #[test]
    fn what_came_between_two_looks_is_their_difference() {
        let spread = Spread::default();
        spread.record(Duration::from_millis(5));
        let before = spread.counts();
        spread.record(Duration::from_millis(80));
        let between = spread.counts().since(&before);
        assert_eq!(between.total(), 1);
        assert!(
            between.quantile(Share::percent(50)).is_some_and(|median| median > Duration::from_millis(60))
        );
    }

    #[test]
    fn an_hour_counts_as_the_longest() {
        let counts = spread(&[3_600_000_000]);
        assert_eq!(counts.quantile(Share::ALL), Some(Duration::from_micros(1 << LAST_BITS)));
        assert_eq!(counts.over(Duration::from_secs(60)), 1);
    }

    proptest! {
        /// Against the naive quantile: the sorted list.
        #[test]
        fn a_quantile_is_off_by_a_quarter_at_most(
            mut latencies in prop::collection::vec(64_u64..1 << LAST_BITS, 1..300),
            percent in 1_u32..=100,
        ) {
            let counts = spread(&latencies);
            latencies.sort_unstable();
            let rank = (latencies.len() * percent as usize / 100).max(1);
            let exact = latencies[rank - 1] as f64;
            let told = counts.quantile(Share::percent(percent)).expect("there are some").as_micros() as f64;
            prop_assert!((told / exact - 1.0).abs() <= 0.25, "told {told}, exact {exact}");
        }

        #[test]
        fn those_over_a_limit_are_counted_but_for_its_own_bucket(
            latencies in prop::collection::vec(0_u64..1 << 28, 0..200),
            limit in 64_u64..1 << 27,
        ) {
            let over = spread(&latencies).over(Duration::from_micros(limit));
            let surely = latencies.iter().filter(|us| **us > limit + limit / 4).count() as u64;
            let perhaps = latencies.iter().filter(|us| **us > limit).count() as u64;
            prop_assert!((surely..=perhaps).contains(&over));
        }
    }
}
