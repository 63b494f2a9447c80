//! How much an endpoint has failed of late, as requests that it counts as busy with.
//!
//! A picker that looks at requests in flight takes an endpoint that fails at once for the idlest of all. So each failure
//! counts as a request more for a while: half of what was counted is forgotten every second, and a success forgives half
//! at once, so that an endpoint which fails now and then is hardly avoided, and one that fails always is, long before it
//! is ejected, or where it may not be. Weight and moment share one atomic word, as in [`crate::latency`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time in which half is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(1);
/// More than this is not counted, so that every endpoint is picked again within ten seconds of its last failure.
const WEIGHT_MAX: f32 = 1_000.0;

/// What is held against one endpoint. Written and read from any core.
#[derive(Debug, Default)]
pub(crate) struct Slights(AtomicU64);

impl Slights {
    /// An attempt failed.
    pub(crate) fn failure(&self, now: Duration) {
        self.update(now, |weight| (weight + 1.0).min(WEIGHT_MAX));
    }

    /// An attempt went well.
    #[inline]
    pub(crate) fn success(&self, now: Duration) {
        // Nothing is written where nothing is held against it.
        if self.0.load(Ordering::Relaxed) != 0 {
            self.forgive(now);
        }
    }

    /// As so many requests in flight it is to count.
    #[inline]
    pub(crate) fn weight(&self, now: Duration) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            word => decayed(word, stamp(now)) as u64,
        }
    }

    /// Nothing is held against it any more.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    #[cold]
    fn forgive(&self, now: Duration) {
        self.update(now, |weight| weight / 2.0);
    }

    fn update(&self, now: Duration, change: impl Fn(f32) -> f32) {
        let at = stamp(now);
        let next = |word: u64| {
            let weight = change(decayed(word, at));
            Some(if weight < 0.5 { 0 } else { u64::from(at) << 32 | u64::from(weight.to_bits()) })
        };
        let updated = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        debug_assert!(updated.is_ok(), "the update always gives a value");
    }
}

fn decayed(word: u64, at: u32) -> f32 {
    let (since, weight) = ((word >> 32) as u32, f32::from_bits(word as u32));
    let elapsed_ms = at.wrapping_sub(since);
    // A moment before the last one (another core was a little ahead) counts as none.
    let elapsed_ms = if elapsed_ms > u32::MAX / 2 { 0 } else { elapsed_ms };
    weight * (-(elapsed_ms as f32) / HALF_LIFE.as_millis() as f32).exp2()
}

/// Milliseconds, wrapping after 49 days.
fn stamp(now: Duration) -> u32 {
    now.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn each_failure_counts_as_a_request_and_half_is_forgotten_every_second() {
        let slights = Slights::default();
        assert_eq!(slights.weight(at(5)), 0);
        (0..8).for_each(|_| slights.failure(at(1_000)));
        let weights: Vec<u64> = (1..6).map(|second| slights.weight(at(second * 1_000))).collect();
        assert_eq!(weights, [8, 4, 2, 1, 0]);
    }

    #[test]
    fn a_success_forgives_half_and_in_the_end_all() {
        let slights = Slights::default();
        (0..8).for_each(|_| slights.failure(at(1_000)));
        slights.success(at(1_000));
        assert_eq!(slights.weight(at(1_000)), 4);
        (0..4).for_each(|_| slights.success(at(1_000)));
        assert_eq!(slights.0.load(Ordering::Relaxed), 0, "and nothing is written any more");
    }

    #[test]
    fn an_endpoint_that_has_failed_for_long_is_picked_again_within_ten_seconds() {
        let slights = Slights::default();
        (0..100_000).for_each(|_| slights.failure(at(1_000)));
        assert_eq!(slights.weight(at(1_000)), 1_000);
        assert_eq!(slights.weight(at(11_000)), 0);
    }
}
