//! Outlier ejection: an endpoint whose answers fail is taken out of rotation for a while.
//!
//! Two kinds of evidence count. *Failures in a row* catch an endpoint that died: five of them happen within
//! milliseconds under load. *The share of failures over a window* catches one that is half ill, whose
//! successes keep breaking the row; it needs a minimum of requests, or one failure of one would be a share of
//! all. Each ejection in a row lasts twice as long as the one before, up to a bound; every base time spent
//! in rotation takes one doubling back, so an endpoint that relapses at once is trusted less than one that
//! relapses after an hour, and trust returns step by step.
//!
//! [`Evidence`] is what several cores write on every answer: atomics, no lock. [`Ejection`] is the verdict
//! over time, changed rarely and by one at a time. How many endpoints of a set may be out at once is a
//! question about the set and is answered by [`EjectionLaw::may_eject`].

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::window::Window;
use crate::{Backoff, Share};

/// The parameters of ejection. Cheap to copy; may change between two calls (a reload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionLaw {
    /// This many failures in a row eject; 0 counts as 1.
    pub failures: u32,
    /// This share of failures over `window` ejects; `Share::ZERO` switches this evidence off.
    pub share: Share,
    /// With fewer requests than this in the window the share says nothing.
    pub requests: u32,
    /// The window of the share.
    pub window: Duration,
    /// How long the first ejection lasts, and the longest one.
    pub duration: Backoff,
    /// At most this share of a set is out at once.
    pub share_max: Share,
}

impl Default for EjectionLaw {
    /// Five in a row, or half of at least 20 in 10 s; out for 10 s up to 5 min; never more than half of a set.
    fn default() -> Self {
        Self {
            failures: 5,
            share: Share::percent(50),
            requests: 20,
            window: Duration::from_secs(10),
            duration: Backoff { from: Duration::from_secs(10), to: Duration::from_secs(300) },
            share_max: Share::percent(50),
        }
    }
}

/// Why an endpoint is to be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// So many failures in a row.
    Consecutive(u32),
    /// Failures, of so many requests in the window.
    Share {
        /// How many failed.
        failures: u64,
        /// Of how many.
        requests: u64,
    },
}

/// What is known of one endpoint's answers. Written from any core on every answer.
#[derive(Debug, Default)]
pub struct Evidence {
    consecutive: AtomicU32,
    window: Window,
}

impl Evidence {
    /// An answer that was fine. Costs one atomic update.
    pub fn success(&self, window: Duration, now: Duration) {
        // The store is behind a load: successes of healthy endpoints shall not fight over the line.
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
        self.window.record(window, now, false);
    }

    /// An answer that failed. A cause, when that is one too many.
    pub fn failure(&self, law: &EjectionLaw, now: Duration) -> Option<EjectionCause> {
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.window.record(law.window, now, true);
        if consecutive >= law.failures.max(1) {
            return Some(EjectionCause::Consecutive(consecutive));
        }
        self.share_cause(law, now)
    }

    /// Forgets everything: after an ejection (or a refused one) the count begins anew.
    pub fn clear(&self) {
        self.consecutive.store(0, Ordering::Relaxed);
        self.window.clear();
    }

    fn share_cause(&self, law: &EjectionLaw, now: Duration) -> Option<EjectionCause> {
        let sums = self.window.sums(law.window, now);
        let requests = sums.plain + sums.marked;
        let is_enough = requests >= u64::from(law.requests.max(1));
        let is_over = law.share > Share::ZERO && law.share.is_reached_by(sums.marked, requests);
        (is_enough && is_over).then_some(EjectionCause::Share { failures: sums.marked, requests })
    }
}

/// Whether one endpoint is out, until when, and how long the next time would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Ejections in a row that are not forgiven yet.
    level: u32,
    ends_at: Option<Duration>,
    readmitted_at: Option<Duration>,
}

impl Ejection {
    /// Takes the endpoint out; answers until when. One that is out stays out as long as it was told.
    pub fn eject(&mut self, law: &EjectionLaw, now: Duration) -> Duration {
        if let Some(ends_at) = self.ends_at.filter(|ends_at| *ends_at > now) {
            return ends_at;
        }
        self.readmit_if_due(now);
        let remembered = self.level.saturating_sub(self.forgiven(law, now));
        self.level = (remembered + 1).min(level_max(law));
        let ends_at = now + law.duration.bound(self.level);
        self.ends_at = Some(ends_at);
        ends_at
    }

    /// Whether the endpoint is out, once its time is over it is not.
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.ends_at.is_some_and(|ends_at| ends_at > now)
    }

    /// When the present ejection ends; none, when there is none or it is over and was noted.
    pub fn ends_at(&self) -> Option<Duration> {
        self.ends_at
    }

    /// When the endpoint last came back.
    pub fn readmitted_at(&self) -> Option<Duration> {
        self.readmitted_at
    }

    /// Notes the end of an ejection whose time is over; true once for each.
    pub fn readmit_if_due(&mut self, now: Duration) -> bool {
        match self.ends_at {
            Some(ends_at) if ends_at <= now => {
                self.ends_at = None;
                self.readmitted_at = Some(ends_at);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Readmits at once and forgets the past: the law was switched off, or the process behind is a new one.
    pub fn pardon(&mut self) -> bool {
        let was_ejected = self.ends_at.is_some();
        *self = Self::default();
        was_ejected
    }

    /// How many doublings the time in rotation has taken back.
    fn forgiven(&self, law: &EjectionLaw, now: Duration) -> u32 {
        let Some(readmitted_at) = self.readmitted_at else { return 0 };
        let calm = now.saturating_sub(readmitted_at).as_nanos();
        u32::try_from(calm / law.duration.from.as_nanos().max(1)).unwrap_or(u32::MAX)
    }
}

/// The level at which an ejection lasts longest. Counting beyond it would only have to be forgiven later.
fn level_max(law: &EjectionLaw) -> u32 {
    let is_longest = |level: &u32| law.duration.bound(*level) >= law.duration.to;
    (1..32).find(is_longest).unwrap_or(32)
}

impl EjectionLaw {
    /// Whether one more of `endpoints` may go when `ejected` are out already. A set of one never loses it:
    /// a failing endpoint is better than none.
    pub fn may_eject(&self, ejected: usize, endpoints: usize) -> bool {
        (ejected as u64) < self.share_max.of(endpoints as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAW: EjectionLaw = EjectionLaw {
        failures: 5,
        share: Share::percent(50),
        requests: 20,
        window: Duration::from_secs(10),
        duration: Backoff { from: Duration::from_secs(10), to: Duration::from_secs(300) },
        share_max: Share::percent(50),
    };

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_fifth_failure_in_a_row_ejects() {
        let evidence = Evidence::default();
        let causes: Vec<_> = (0..5).map(|_| evidence.failure(&LAW, at(1))).collect();
        assert_eq!(causes[..4], [None; 4]);
        assert_eq!(causes[4], Some(EjectionCause::Consecutive(5)));
    }

    #[test]
    fn a_success_breaks_the_row() {
        let evidence = Evidence::default();
        for _ in 0..4 {
            assert_eq!(evidence.failure(&LAW, at(1)), None);
        }
        evidence.success(LAW.window, at(1));
        assert_eq!(evidence.failure(&LAW, at(1)), None);
    }

    #[test]
    fn half_of_enough_requests_failing_ejects_though_no_row_forms() {
        let evidence = Evidence::default();
        for _ in 0..9 {
            evidence.success(LAW.window, at(1));
            assert_eq!(evidence.failure(&LAW, at(1)), None);
        }
        evidence.success(LAW.window, at(1));
        let cause = evidence.failure(&LAW, at(1));
        assert_eq!(cause, Some(EjectionCause::Share { failures: 10, requests: 20 }));
    }

    #[test]
    fn failures_older_than_the_window_say_nothing() {
        let evidence = Evidence::default();
        for _ in 0..9 {
            evidence.success(LAW.window, at(1));
            evidence.failure(&LAW, at(1));
        }
        evidence.success(LAW.window, at(60));
        assert_eq!(evidence.failure(&LAW, at(60)), None);
    }

    #[test]
    fn ejections_in_a_row_double_up_to_the_longest() {
        let (mut ejection, mut now, mut lengths) = (Ejection::default(), at(100), Vec::new());
        for _ in 0..7 {
            let ends_at = ejection.eject(&LAW, now);
            lengths.push((ends_at - now).as_secs());
            now = ends_at;
            assert!(ejection.readmit_if_due(now));
            assert!(!ejection.readmit_if_due(now));
        }
        assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn time_in_rotation_takes_the_doublings_back_one_by_one() {
        let mut ejection = Ejection::default();
        let mut now = at(100);
        for _ in 0..3 {
            now = ejection.eject(&LAW, now);
        }
        // 10, 20, 40 s were served; after 20 s in rotation two doublings are forgiven.
        let again = now + at(20);
        assert_eq!(ejection.eject(&LAW, again) - again, at(20));
    }

    #[test]
    fn an_endless_outage_is_forgiven_as_fast_as_a_long_one() {
        let (mut ejection, mut now) = (Ejection::default(), at(100));
        for _ in 0..1_000 {
            now = ejection.eject(&LAW, now);
        }
        let again = now + at(50);
        assert_eq!(ejection.eject(&LAW, again) - again, at(20));
    }

    #[test]
    fn an_endpoint_that_is_out_is_not_ejected_for_longer() {
        let mut ejection = Ejection::default();
        let ends_at = ejection.eject(&LAW, at(100));
        assert_eq!(ejection.eject(&LAW, at(105)), ends_at);
        assert!(ejection.is_ejected(at(109)));
        assert!(!ejection.is_ejected(at(110)));
    }

    #[test]
    fn a_pardon_forgets_the_past() {
        let mut ejection = Ejection::default();
        ejection.eject(&LAW, at(100));
        assert!(ejection.pardon());
        assert!(!ejection.pardon());
        assert_eq!(ejection, Ejection::default());
    }

    #[test]
    fn the_only_endpoint_is_never_ejected() {
        assert!(!LAW.may_eject(0, 1));
        assert!(LAW.may_eject(0, 2));
        assert!(!LAW.may_eject(1, 2));
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_is_out(endpoints in 0_usize..200, percent in 0_u32..=100) {
            let law = EjectionLaw { share_max: Share::percent(percent), ..LAW };
            let mut ejected = 0;
            while law.may_eject(ejected, endpoints) {
                ejected += 1;
            }
            prop_assert!(ejected * 100 <= endpoints * percent as usize);
        }

        #[test]
        fn an_ejection_lasts_at_least_the_base_and_at_most_the_longest(gaps in prop::collection::vec(0_u64..1_000, 1..50)) {
            let (mut ejection, mut now) = (Ejection::default(), Duration::ZERO);
            for gap in gaps {
                now += at(gap);
                let ends_at = ejection.eject(&LAW, now);
                prop_assert!(ends_at > now && ends_at - now <= LAW.duration.to);
                now = ends_at;
            }
        }
    }
}
