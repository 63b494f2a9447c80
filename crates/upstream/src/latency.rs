//! How long an endpoint is expected to take: a moving average that jumps to every peak and sinks slowly.
//!
//! Peak EWMA comes from Finagle and is used as in linkerd and tower (`tower::load::PeakEwma`): a sample above
//! the estimate becomes the estimate at once, one below is averaged in with weight `1 - e^(-elapsed/decay)`,
//! and without samples the estimate sinks towards nothing, so that an endpoint which was slow once is tried
//! again. A failure counts as slow, however fast it came; else an endpoint that refuses everything would look
//! like the fastest of all (linkerd2-proxy issue 4537).
//!
//! What was really measured is kept beside it, for people: an estimate with penalties in it is nobody's latency.
//!
//! The estimate and its moment share one atomic word (milliseconds, and microseconds as `f32`), so a reader
//! never sees one without the other and a writer needs no lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The time in which an estimate sinks to 1/e without samples (linkerd's default).
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint without samples is expected to take (linkerd's default).
const UNKNOWN_US: f32 = 30_000.0;
/// A failure counts as at least this slow, and at least twice as slow as expected …
const PENALTY_US_MIN: f32 = 1_000_000.0;
/// … but not slower than this, from which it takes less than a minute to look usable again.
const PENALTY_US_MAX: f32 = 60_000_000.0;

/// The expected latency of one endpoint. Written and read from any core.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    expected: AtomicU64,
    /// Of the last answer that was fine, in microseconds from 1; 0 before the first.
    measured_us: AtomicU32,
    failures_in_row: AtomicU32,
}

impl Latency {
    /// An answer that was fine came after `sample`.
    pub(crate) fn success(&self, sample: Duration, now: Duration) {
        let sample_us = sample.as_secs_f32() * 1e6;
        self.update(now, |_| sample_us);
        let measured_us = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX).max(1);
        self.measured_us.store(measured_us, Ordering::Relaxed);
        self.failures_in_row.store(0, Ordering::Relaxed);
    }

    /// An answer failed after `sample`.
    pub(crate) fn failure(&self, sample: Duration, now: Duration) {
        let sample_us = sample.as_secs_f32() * 1e6;
        let penalty = |expected: f32| (expected * 2.0).clamp(PENALTY_US_MIN, PENALTY_US_MAX).max(sample_us);
        self.update(now, penalty);
        self.failures_in_row.fetch_add(1, Ordering::Relaxed);
    }

    /// The expected latency in microseconds, above zero.
    pub(crate) fn estimate_us(&self, now: Duration) -> f32 {
        decayed(self.expected.load(Ordering::Relaxed), stamp(now)).max(1.0)
    }

    /// How long the last answer that was fine took, when there ever was one.
    pub(crate) fn measured(&self) -> Option<Duration> {
        match self.measured_us.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(u64::from(micros))),
        }
    }

    /// Failures since the last answer that was fine.
    pub(crate) fn failures_in_row(&self) -> u32 {
        self.failures_in_row.load(Ordering::Relaxed)
    }

    /// Expects nothing any more. What was measured stays true.
    pub(crate) fn clear(&self) {
        self.expected.store(0, Ordering::Relaxed);
        self.failures_in_row.store(0, Ordering::Relaxed);
    }

    fn update(&self, now: Duration, sample_us: impl Fn(f32) -> f32) {
        let at = stamp(now);
        let next = |word: u64| {
            let sample = sample_us(decayed(word, at)).max(1.0);
            Some(pack(at, if word == 0 { sample } else { average(word, at, sample) }))
        };
        let updated = self.expected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        debug_assert!(updated.is_ok(), "the update always gives a value");
    }
}

fn average(word: u64, at: u32, sample: f32) -> f32 {
    let (since, estimate) = unpack(word);
    if sample >= estimate {
        return sample;
    }
    let kept = kept_share(since, at);
    estimate * kept + sample * (1.0 - kept)
}

fn decayed(word: u64, at: u32) -> f32 {
    let (since, estimate) = unpack(word);
    if word == 0 { UNKNOWN_US } else { estimate * kept_share(since, at) }
}

/// `e^(-elapsed/decay)`. A moment before the last one (another core was a little ahead) counts as none.
fn kept_share(since: u32, at: u32) -> f32 {
    let elapsed_ms = at.wrapping_sub(since);
    let elapsed_ms = if elapsed_ms > u32::MAX / 2 { 0 } else { elapsed_ms };
    (-(elapsed_ms as f32) / (DECAY.as_millis() as f32)).exp()
}

/// Milliseconds, wrapping after 49 days; an endpoint unasked for exactly that long looks as it did then.
fn stamp(now: Duration) -> u32 {
    now.as_millis() as u32
}

fn pack(at: u32, estimate_us: f32) -> u64 {
    u64::from(at) << 32 | u64::from(estimate_us.to_bits())
}

fn unpack(word: u64) -> (u32, f32) {
    ((word >> 32) as u32, f32::from_bits(word as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_peak_is_believed_at_once_and_forgotten_slowly() {
        let latency = Latency::default();
        latency.success(ms(10), ms(0));
        latency.success(ms(500), ms(1));
        assert_eq!(latency.estimate_us(ms(1)), 500_000.0);
        latency.success(ms(10), ms(1_001));
        assert!(latency.estimate_us(ms(1_001)) > 400_000.0);
    }

    #[test]
    fn without_samples_the_estimate_sinks_to_one_part_in_e_within_the_decay() {
        let latency = Latency::default();
        latency.success(ms(100), ms(0));
        let after = latency.estimate_us(DECAY);
        assert!((after - 100_000.0 / std::f32::consts::E).abs() < 1.0, "{after}");
    }

    #[test]
    fn an_endpoint_without_samples_counts_as_ordinary() {
        assert_eq!(Latency::default().estimate_us(ms(99)), UNKNOWN_US);
        assert_eq!(Latency::default().measured(), None);
    }

    #[test]
    fn what_was_measured_has_no_penalty_in_it() {
        let latency = Latency::default();
        latency.failure(ms(1), ms(0));
        assert_eq!((latency.measured(), latency.failures_in_row()), (None, 1));
        latency.success(ms(5), ms(1));
        latency.failure(ms(1), ms(2));
        assert_eq!((latency.measured(), latency.failures_in_row()), (Some(ms(5)), 1));
    }

    #[test]
    fn failing_fast_looks_slow_even_among_slow_peers() {
        let (failing, slow) = (Latency::default(), Latency::default());
        for second in 0..4 {
            failing.failure(ms(1), ms(second * 1000));
            slow.success(ms(5_000), ms(second * 1000));
        }
        assert!(failing.estimate_us(ms(3_000)) > slow.estimate_us(ms(3_000)));
    }

    #[test]
    fn an_endless_row_of_failures_is_forgotten_within_a_minute() {
        let latency = Latency::default();
        (0..1_000).for_each(|second| latency.failure(ms(1), ms(second)));
        assert!(latency.estimate_us(ms(61_000)) < UNKNOWN_US * 6.0);
    }

    proptest! {
        #[test]
        fn the_estimate_never_leaves_the_range_of_the_samples(samples in prop::collection::vec((1_u64..10_000, 0_u64..50), 1..100)) {
            let (latency, mut now) = (Latency::default(), 0);
            for (sample, gap) in &samples {
                now += gap;
                latency.success(ms(*sample), ms(now));
            }
            let most = samples.iter().map(|(sample, _)| *sample).max().unwrap_or(0);
            prop_assert!(latency.estimate_us(ms(now)) <= most as f32 * 1_000.0 * 1.001);
            prop_assert!(latency.estimate_us(ms(now)) > 0.0);
        }
    }
}
