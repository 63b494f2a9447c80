//! What answers took of late: each endpoint's, to find who is out of line with its neighbours, and the whole service's,
//! to know what is usual.
//!
//! Endpoints only count ([`terrace_policy::Spread`]). A few times a second, whichever core comes by takes what was added
//! since the last time, under the upstream's lock; so a request pays for one addition, and the arithmetic is done once
//! for thousands of them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use terrace_policy::{Quantile, Share, Spread, SpreadCounts};

/// Answers after which an endpoint's window begins anew, so that it tells of the present.
const WINDOW_ANSWERS: u64 = 20;
/// And the age after which it does.
const WINDOW_AGE: Duration = Duration::from_secs(5);
/// An endpoint's median is remembered for so long after its window began anew.
const MEDIAN_AGE: Duration = Duration::from_secs(10);
/// From one time to the next that the older half of what is usual is forgotten, where enough is known; else ten times as
/// long.
const FORGET_AFTER: Duration = Duration::from_secs(5);
/// Answers from which on quantiles of the service say something.
const KNOWN_ANSWERS: u64 = 100;
/// Answers that make a beat, or one second with any.
const BEAT_ANSWERS: u64 = 20;
const BEAT_AGE: Duration = Duration::from_secs(1);

const HALF: Share = Share::percent(50);

/// One endpoint's answers of late.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    seen: SpreadCounts,
    window: SpreadCounts,
    since: Duration,
    median: Option<(Duration, Duration)>,
}

impl Pulse {
    /// Takes what the endpoint counted since the last time, and returns it.
    pub(crate) fn take(&mut self, spread: &Spread, now: Duration) -> SpreadCounts {
        let counts = spread.counts();
        let fresh = counts.since(&self.seen);
        self.seen = counts;
        if self.window.total() >= WINDOW_ANSWERS || now.saturating_sub(self.since) >= WINDOW_AGE {
            self.window = SpreadCounts::default();
            self.since = now;
        }
        self.window.add(&fresh);
        if let Some(median) = self.window.quantile(HALF) {
            self.median = Some((median, now));
        }
        fresh
    }

    /// Its answers since its window began.
    pub(crate) fn window(&self) -> &SpreadCounts {
        &self.window
    }

    /// The median of its last answers, if they were not too long ago.
    pub(crate) fn median(&self, now: Duration) -> Option<Duration> {
        self.median.filter(|(_, at)| now.saturating_sub(*at) <= MEDIAN_AGE).map(|(median, _)| median)
    }

    /// Begins anew, as for another endpoint.
    pub(crate) fn forget(&mut self, now: Duration) {
        self.window = SpreadCounts::default();
        self.since = now;
        self.median = None;
    }
}

/// The whole service's answers of late, of endpoints that are not out.
#[derive(Debug, Default)]
pub(crate) struct ServicePulse {
    recent: SpreadCounts,
    forgot_at: Duration,
    since_beat: SpreadCounts,
    beat_at: Duration,
    beats: u64,
}

impl ServicePulse {
    /// Takes in what came since the last time.
    pub(crate) fn add(&mut self, fresh: &SpreadCounts) {
        self.recent.add(fresh);
        self.since_beat.add(fresh);
    }

    /// What is usual now, once all that came was taken in.
    pub(crate) fn usual(&mut self, now: Duration) -> Usual {
        let usual = Usual::of(&self.recent);
        let age = now.saturating_sub(self.forgot_at);
        if age >= 10 * FORGET_AFTER || (age >= FORGET_AFTER && usual.is_known) {
            self.recent.halve();
            self.forgot_at = now;
        }
        usual
    }

    /// What came since the last beat, when it is enough to be one.
    pub(crate) fn beat(&mut self, now: Duration) -> Option<Beat> {
        let (answers, span) = (self.since_beat.total(), now.saturating_sub(self.beat_at));
        if answers == 0 || (answers < BEAT_ANSWERS && span < BEAT_AGE) {
            return None;
        }
        let median = self.since_beat.quantile(HALF)?;
        self.since_beat = SpreadCounts::default();
        self.beat_at = now;
        self.beats += 1;
        Some(Beat { number: self.beats, at: now, span, answers, median })
    }
}

/// What a service answered within a short while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Which one it is, counted from 1.
    pub number: u64,
    /// When it ended.
    pub at: Duration,
    /// How long it was; the first one, and one after a pause, count the time before.
    pub span: Duration,
    /// Answers that went well, of endpoints that are not out.
    pub answers: u64,
    /// The median of what they took.
    pub median: Duration,
}

/// What answers of a service usually take. None is known before the first, and little before a hundred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    /// One of twenty is faster.
    pub fastest: Option<Duration>,
    /// Half are faster.
    pub median: Option<Duration>,
    /// One of ten takes longer.
    pub p90: Option<Duration>,
    /// One of twenty takes longer.
    pub p95: Option<Duration>,
    /// One of a hundred takes longer.
    pub p99: Option<Duration>,
    /// Whether there were enough answers for all this to mean something.
    pub is_known: bool,
}

impl Usual {
    fn of(counts: &SpreadCounts) -> Self {
        let at = |percent| counts.quantile(Share::percent(percent));
        Self {
            fastest: at(5),
            median: at(50),
            p90: at(90),
            p95: at(95),
            p99: at(99),
            is_known: counts.total() >= KNOWN_ANSWERS,
        }
    }

    /// What so many of the answers take, once enough came for that to mean something.
    pub fn at(&self, quantile: Quantile) -> Option<Duration> {
        let latency = match quantile {
            Quantile::P50 => self.median,
            Quantile::P90 => self.p90,
            Quantile::P95 => self.p95,
            Quantile::P99 => self.p99,
        };
        latency.filter(|_| self.is_known)
    }
}

/// [`Usual`] for all cores to read.
#[derive(Debug, Default)]
pub(crate) struct SharedUsual {
    fastest_us: AtomicU32,
    median_us: AtomicU32,
    p90_us: AtomicU32,
    p95_us: AtomicU32,
    p99_us: AtomicU32,
    is_known: AtomicU32,
}

impl SharedUsual {
    pub(crate) fn store(&self, usual: Usual) {
        let micros = |latency: Option<Duration>| {
            latency.map_or(0, |latency| u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1))
        };
        self.fastest_us.store(micros(usual.fastest), Ordering::Relaxed);
        self.median_us.store(micros(usual.median), Ordering::Relaxed);
        self.p90_us.store(micros(usual.p90), Ordering::Relaxed);
        self.p95_us.store(micros(usual.p95), Ordering::Relaxed);
        self.p99_us.store(micros(usual.p99), Ordering::Relaxed);
        self.is_known.store(u32::from(usual.is_known), Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> Usual {
        let latency = |micros: &AtomicU32| match micros.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(u64::from(micros))),
        };
        Usual {
            fastest: latency(&self.fastest_us),
            median: latency(&self.median_us),
            p90: latency(&self.p90_us),
            p95: latency(&self.p95_us),
            p99: latency(&self.p99_us),
            is_known: self.is_known.load(Ordering::Relaxed) == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn an_endpoint_s_window_tells_of_the_present() {
        let (spread, mut pulse) = (Spread::default(), Pulse::default());
        (0..30).for_each(|_| spread.record(ms(5)));
        assert_eq!(pulse.take(&spread, ms(100)).total(), 30);
        assert_eq!(pulse.take(&spread, ms(200)).total(), 0);
        (0..10).for_each(|_| spread.record(ms(500)));
        pulse.take(&spread, ms(300));
        assert_eq!(pulse.window().total(), 10, "the thirty of before are forgotten");
        assert!(pulse.median(ms(300)).is_some_and(|median| median > ms(400)));
        assert_eq!(pulse.median(ms(20_000)), None, "it was too long ago");
    }

    #[test]
    fn what_is_usual_is_known_after_a_hundred_answers() {
        let (spread, mut service, shared) =
            (Spread::default(), ServicePulse::default(), SharedUsual::default());
        assert_eq!(shared.load(), Usual::default());
        (0..99).for_each(|_| spread.record(ms(20)));
        service.add(&spread.counts());
        assert!(!service.usual(ms(100)).is_known);
        service.add(&spread.counts());
        let usual = service.usual(ms(200));
        shared.store(usual);
        assert!(
            shared.load().is_known && shared.load().p99.is_some_and(|p99| p99 >= ms(16) && p99 <= ms(24))
        );
    }

    #[test]
    fn a_beat_has_twenty_answers_or_lasts_a_second() {
        let (spread, mut service) = (Spread::default(), ServicePulse::default());
        assert_eq!(service.beat(ms(5_000)), None, "without an answer there is none");
        spread.record(ms(20));
        service.add(&spread.counts());
        let first = service.beat(ms(5_000)).expect("more than a second has passed");
        assert_eq!((first.number, first.answers), (1, 1));
        service.add(&spread.counts());
        assert_eq!(service.beat(ms(5_100)), None);
        (0..20).for_each(|_| service.add(&spread.counts()));
        assert_eq!(
            service.beat(ms(5_100)).map(|beat| (beat.number, beat.answers, beat.span)),
            Some((2, 21, ms(100)))
        );
    }
}
