//! When an authority's keys are fetched: ahead of their time, soon after a failure, and at once for a key that nobody knows, though
//! not as often as somebody who invents keys would like. Pure: moments come in, moments go out.
//!
//! Keys that cannot be fetched anew are no worse than they were, for a while: an authority that is down must not take the
//! app along. After [`Pace::stale_max`] they are given up, since by then a key that was revoked might be among them.

use std::time::Duration;

use terrace_policy::Backoff;

/// How often is asked, and how long is waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// For how long keys count as fresh when their authority says nothing.
    pub fresh: Duration,
    /// They are not fetched anew within that time, whatever the authority says.
    pub fresh_min: Duration,
    /// They are fetched anew after that time, whatever the authority says.
    pub fresh_max: Duration,
    /// Between two fetches on account of unknown keys.
    pub unknown_every: Duration,
    /// Between two fetches on account of tokens while no keys came yet: an authority that starts together with Terrace, perhaps
    /// as one of its services, is there in a moment.
    pub first_every: Duration,
    /// For so long after the last success keys are used while their authority is silent or tells nonsense.
    pub stale_max: Duration,
    /// Between failures.
    pub retry: Backoff,
    /// For one answer, from the first packet to the last.
    pub timeout: Duration,
    /// A file is looked at that often.
    pub file_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(3600),
            fresh_min: Duration::from_secs(300),
            fresh_max: Duration::from_secs(86_400),
            unknown_every: Duration::from_secs(10),
            first_every: Duration::from_millis(100),
            stale_max: Duration::from_secs(86_400),
            retry: Backoff { from: Duration::from_secs(1), to: Duration::from_secs(60) },
            timeout: Duration::from_secs(5),
            file_every: Duration::from_secs(2),
        }
    }
}

/// Failures after which an authority from which no keys came yet is not one that is about to start.
const STARTING_FAILURES_MAX: u32 = 20;

/// What is known of the fetches so far.
#[derive(Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    due: Duration,
    failures: u32,
    begun: Option<Duration>,
    succeeded: Option<Duration>,
}

impl Schedule {
    /// The first fetch is due at once.
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, due: Duration::ZERO, failures: 0, begun: None, succeeded: None }
    }

    /// The moment of the next fetch.
    pub(crate) fn due(&self) -> Duration {
        self.due
    }

    /// Whether a key that nobody knows is reason enough to fetch now.
    pub(crate) fn may_hurry(&self, now: Duration) -> bool {
        may_hurry(&self.pace, self.begun, now)
    }

    /// Whether no keys came yet, and some may come any moment: tokens wait for them.
    pub(crate) fn is_starting(&self) -> bool {
        self.succeeded.is_none() && self.failures < STARTING_FAILURES_MAX
    }

    /// When a token may have the next fetch begun, while [`Schedule::is_starting`].
    pub(crate) fn starts_again(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| begun + self.pace.first_every).min(self.due)
    }

    pub(crate) fn begin(&mut self, now: Duration) {
        self.begun = Some(now);
    }

    /// Keys came, said to be fresh for that long. They are fetched anew when four fifths of it have passed, spread by `random` over
    /// the fifth before that, so that many machines do not ask in one moment.
    pub(crate) fn succeed(&mut self, now: Duration, fresh: Option<Duration>, random: u64) {
        let fresh = fresh.unwrap_or(self.pace.fresh).clamp(self.pace.fresh_min, self.pace.fresh_max);
        let spread = fresh.mul_f64(0.2 * (random as f64 / u64::MAX as f64));
        self.due = now + fresh.mul_f64(0.8).saturating_sub(spread);
        self.failures = 0;
        self.succeeded = Some(now);
    }

    /// Keys came from a file, which is looked at again soon.
    pub(crate) fn succeed_from_file(&mut self, now: Duration) {
        self.due = now + self.pace.file_every;
        self.failures = 0;
        self.succeeded = Some(now);
    }

    /// Nothing came that could be used.
    pub(crate) fn fail(&mut self, now: Duration, random: u64) {
        self.failures = self.failures.saturating_add(1);
        self.due = now + self.pace.retry.equal_jitter(self.failures, random);
        // The moment at which the keys are given up is not slept over.
        if let Some(end) = self.stale_end().filter(|end| *end > now) {
            self.due = self.due.min(end);
        }
    }

    /// Whether keys of the last success are too old to be believed.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        self.stale_end().is_none_or(|end| end <= now)
    }

    fn stale_end(&self) -> Option<Duration> {
        self.succeeded.map(|at| at + self.pace.stale_max)
    }
}

/// Whether a fetch that began at `begun` is long enough ago for another one on account of an unknown key.
pub(crate) fn may_hurry(pace: &Pace, begun: Option<Duration>, now: Duration) -> bool {
    begun.is_none_or(|begun| begun + pace.unknown_every <= now)
}

/// The `max-age` of `Cache-Control` (RFC 9111 section 5.2.2.1); none where the answer is not to be kept.
pub(crate) fn max_age(cache_control: &str) -> Option<Duration> {
    let mut found = None;
    for directive in cache_control.split(',') {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim().trim_matches('"')),
            None => (directive.trim(), ""),
        };
        match name.to_ascii_lowercase().as_str() {
            "max-age" => found = value.parse().ok().map(Duration::from_secs),
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn keys_are_fetched_anew_ahead_of_their_time() {
        let mut schedule = Schedule::new(Pace::default());
        assert_eq!(schedule.due(), s(0));
        for (said, earliest, latest) in [
            (None, 2160, 2880),
            (Some(s(600)), 360, 480),
            (Some(s(0)), 180, 240),
            (Some(s(1 << 40)), 51_840, 69_120),
        ] {
            schedule.succeed(s(1000), said, u64::MAX);
            assert_eq!(schedule.due().as_secs(), 1000 + earliest, "{said:?}");
            schedule.succeed(s(1000), said, 0);
            assert_eq!(schedule.due().as_secs(), 1000 + latest, "{said:?}");
        }
    }

    #[test]
    fn keys_are_kept_for_a_day_while_their_authority_is_down() {
        let mut schedule = Schedule::new(Pace::default());
        assert!(schedule.is_over(s(0)), "there are none yet");
        schedule.succeed(s(10), None, 0);
        let mut now = schedule.due();
        let mut fetches = 0;
        while !schedule.is_over(now) {
            schedule.begin(now);
            schedule.fail(now, u64::MAX);
            now = schedule.due();
            fetches += 1;
        }
        assert_eq!(now, s(10 + 86_400), "not a moment longer");
        assert!((1_300..1_500).contains(&fetches), "{fetches}: once a minute");
    }

    #[test]
    fn rfc9111_5_2_2_1_what_an_authority_says_of_freshness_is_read() {
        assert_eq!(max_age("public, max-age=19800, must-revalidate"), Some(s(19_800)));
        assert_eq!(max_age("Max-Age=\"60\""), Some(s(60)));
        assert_eq!(max_age("max-age=60, no-store"), Some(s(0)));
        for nothing in ["", "private", "max-age", "max-age=", "max-age=-1", "s-maxage=5"] {
            assert_eq!(max_age(nothing), None, "{nothing}");
        }
    }

    proptest! {
        /// Whatever happens, and however many unknown keys are asked for: never two hurried fetches within the bound, and never a
        /// failure that is followed by a fetch at once.
        #[test]
        fn an_authority_is_never_asked_more_often_than_said(
            steps in prop::collection::vec((0..30_u64, any::<bool>(), any::<bool>(), any::<u64>()), 1..300),
        ) {
            let pace = Pace::default();
            let mut schedule = Schedule::new(pace.clone());
            let (mut now, mut hurried) = (Duration::ZERO, None::<Duration>);
            for (passed, is_unknown, succeeds, random) in steps {
                now += s(passed);
                let is_due = schedule.due() <= now;
                let hurries = is_unknown && schedule.may_hurry(now);
                if !is_due && !hurries {
                    continue;
                }
                if !is_due {
                    prop_assert!(hurried.is_none_or(|last| last + pace.unknown_every <= now));
                    hurried = Some(now);
                }
                schedule.begin(now);
                if succeeds { schedule.succeed(now, Some(s(random % 100)), random) } else { schedule.fail(now, random) }
                prop_assert!(schedule.due() >= now + pace.retry.from / 2);
                prop_assert!(!schedule.may_hurry(now));
            }
        }
    }
}
