//! How many requests there were and how many of them broke the promise, back to the beginning of the window.
//!
//! What is kept is not the count of each interval but the running sum at its beginning: then the requests of any window
//! are one subtraction, exact to the last request, and an interval in which nobody looked needs no special care.
//!
//! Two rings: 10 s for six hours (2,161 sums, 34 KiB) for the windows that page, and 5 min for the whole window (30 d:
//! 8,641 sums, 135 KiB). A longer window has coarser steps, not more of them. So an objective's figure costs at most
//! 170 KiB, whatever its traffic.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Step of the fine ring: a thirtieth of the shortest window.
const FINE_STEP: Duration = Duration::from_secs(10);
/// How far the fine ring reaches.
const FINE_REACH: Duration = Duration::from_secs(6 * 3_600);
/// Step of the coarse ring, unless the window is longer than thirty days.
const COARSE_STEP: Duration = Duration::from_secs(300);
/// How far the coarse ring reaches at least: the longest window of a burn-rate rule.
const COARSE_REACH_MIN: Duration = Duration::from_secs(3 * 86_400);
/// Steps of the coarse ring at most.
const COARSE_STEPS_MAX: u64 = 8_640;

/// Requests, and those of them that broke the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) bad: u64,
}

impl Counts {
    fn since(self, earlier: Counts) -> Counts {
        Counts { total: self.total.saturating_sub(earlier.total), bad: self.bad.saturating_sub(earlier.bad) }
    }

    pub(crate) fn plus(self, more: Counts) -> Counts {
        Counts { total: self.total.saturating_add(more.total), bad: self.bad.saturating_add(more.bad) }
    }
}

/// Running sums at the beginnings of the last steps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ring {
    step: Duration,
    steps_max: u64,
    /// Number of the newest step that has begun: moment over step.
    newest: u64,
    /// Sums at the beginning of each step, the newest last; never empty.
    sums: VecDeque<Counts>,
}

impl Ring {
    fn new(step: Duration, steps_max: u64, at: Duration) -> Self {
        Self { step, steps_max, newest: number(at, step), sums: VecDeque::from([Counts::default()]) }
    }

    /// Begins all steps up to the one that `at` lies in, given what had been counted before.
    fn advance(&mut self, at: Duration, sum: Counts) {
        let now = number(at, self.step);
        let begun = now.saturating_sub(self.newest);
        if begun > self.steps_max {
            self.sums.clear();
        }
        for _ in 0..begun.min(self.steps_max + 1) {
            if self.sums.len() as u64 > self.steps_max {
                self.sums.pop_front();
            }
            self.sums.push_back(sum);
        }
        self.newest = self.newest.max(now);
    }

    /// What had been counted at the beginning of a step nearest to `at`; of what is older than the ring, its oldest.
    fn sum_at(&self, at: Duration) -> Counts {
        let nearest = number(at.saturating_add(self.step / 2), self.step);
        let back = self.newest.saturating_sub(nearest) as usize;
        let index = (self.sums.len() - 1).saturating_sub(back);
        self.sums[index]
    }

    /// How long before the newest step's beginning the oldest one began.
    fn reach(&self) -> Duration {
        self.step.saturating_mul((self.sums.len() - 1) as u32)
    }

    fn saved(&self, sum: Counts) -> SavedRing {
        let mut steps = Vec::new();
        let mut later = sum;
        for (back, at_begin) in self.sums.iter().rev().enumerate() {
            let Counts { total, bad } = later.since(*at_begin);
            if total > 0 || bad > 0 {
                steps.push((back as u32, total, bad));
            }
            later = *at_begin;
        }
        SavedRing { newest: self.newest, length: self.sums.len() as u32, steps }
    }

    /// The ring as saved, or an error where it cannot have been one; sums end at `sum`.
    fn restore(&mut self, saved: &SavedRing, sum: Counts) -> Result<(), Implausible> {
        let length = u64::from(saved.length);
        if length == 0 || length > self.steps_max + 1 || saved.newest >= u64::MAX / 2 {
            return Err(Implausible);
        }
        let mut deltas = vec![Counts::default(); saved.length as usize];
        for &(back, total, bad) in &saved.steps {
            let Some(delta) = deltas.get_mut(back as usize) else { return Err(Implausible) };
            *delta = Counts { total, bad };
        }
        let mut later = sum;
        self.sums = VecDeque::with_capacity(deltas.len());
        for delta in deltas {
            later = later.since(delta);
            self.sums.push_front(later);
        }
        self.newest = saved.newest;
        Ok(())
    }
}

fn number(at: Duration, step: Duration) -> u64 {
    (at.as_millis() / step.as_millis().max(1)) as u64
}

/// Saved numbers that no ledger can have held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Implausible;

/// A ring on disk: only steps in which something was counted, so that a quiet service's file is short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedRing {
    newest: u64,
    length: u32,
    /// Steps before the newest, requests, bad ones.
    steps: Vec<(u32, u64, u64)>,
}

/// A ledger on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedLedger {
    sum: Counts,
    began: Duration,
    window: Duration,
    fine: SavedRing,
    coarse: SavedRing,
}

/// What one promise is judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// All that was counted since it began.
    sum: Counts,
    began: Duration,
    /// The window asked for.
    reach: Duration,
    fine: Ring,
    coarse: Ring,
}

impl Ledger {
    /// An empty one, for windows of up to `window` back.
    pub(crate) fn new(at: Duration, window: Duration) -> Self {
        let reach = window.max(COARSE_REACH_MIN);
        let step = COARSE_STEP.max(Duration::from_secs(reach.as_secs().div_ceil(COARSE_STEPS_MAX)));
        let coarse_steps = reach.as_secs().div_ceil(step.as_secs());
        let fine_steps = FINE_REACH.as_secs() / FINE_STEP.as_secs();
        Self {
            sum: Counts::default(),
            began: at,
            reach: window,
            fine: Ring::new(FINE_STEP, fine_steps, at),
            coarse: Ring::new(step, coarse_steps, at),
        }
    }

    /// The window that it was made for.
    pub(crate) fn asked(&self) -> Duration {
        self.reach
    }

    /// Adds what was counted since the last call.
    pub(crate) fn add(&mut self, at: Duration, counts: Counts) {
        self.fine.advance(at, self.sum);
        self.coarse.advance(at, self.sum);
        self.sum = self.sum.plus(counts);
    }

    /// What was counted in the last `window` before `at`, its beginning moved to the nearest step: by up to 5 s in
    /// windows of up to six hours, by up to 150 s in longer ones.
    pub(crate) fn window(&self, at: Duration, window: Duration) -> Counts {
        self.sum.since(self.sum_at(at.saturating_sub(window), window))
    }

    /// Share of the last `window` in which there was counting. 1 for windows of up to six hours: what they say of the
    /// first minutes is true of users now. A longer one speaks of days, and so of those that nobody counted too, which
    /// are taken to have been as busy and without a failure.
    pub(crate) fn covered(&self, at: Duration, window: Duration) -> f64 {
        match window <= FINE_REACH {
            true => 1.0,
            false => (at.saturating_sub(self.began).as_secs_f64() / window.as_secs_f64()).min(1.0),
        }
    }

    fn sum_at(&self, from: Duration, window: Duration) -> Counts {
        let ring = if window <= FINE_REACH { &self.fine } else { &self.coarse };
        ring.sum_at(from)
    }

    /// What was counted from `window` before `at` until each of `points` evenly spaced moments, the last being `at`;
    /// `None` before anything was counted.
    pub(crate) fn course(&self, at: Duration, window: Duration, points: u32) -> Vec<Option<Counts>> {
        let begin = at.saturating_sub(window);
        let base = self.sum_at(begin, window);
        let known_from = at.saturating_sub(self.coarse.reach()).max(self.began);
        let one = |point: u32| {
            let ago = window / points * (points - point);
            let moment = at.saturating_sub(ago);
            match moment < known_from {
                true => None,
                false if point == points => Some(self.sum.since(base)),
                false => Some(self.sum_at(moment, window).since(base)),
            }
        };
        (1..=points).map(one).collect()
    }

    pub(crate) fn saved(&self) -> SavedLedger {
        SavedLedger {
            sum: self.sum,
            began: self.began,
            window: self.reach,
            fine: self.fine.saved(self.sum),
            coarse: self.coarse.saved(self.sum),
        }
    }

    /// Takes another window. What is known is kept, unless the steps are others (windows beyond thirty days): then the
    /// long past begins anew.
    pub(crate) fn resize(&mut self, at: Duration, window: Duration) {
        let wanted = Self::new(at, window).coarse;
        if self.coarse.step == wanted.step {
            self.coarse.steps_max = wanted.steps_max;
            let too_many = self.coarse.sums.len().saturating_sub(wanted.steps_max as usize + 1);
            self.coarse.sums.drain(..too_many);
        } else {
            self.coarse = Ring { sums: VecDeque::from([self.sum]), ..wanted };
        }
        self.reach = window;
    }

    /// The ledger as saved, with the window that it had.
    pub(crate) fn restored(saved: &SavedLedger) -> Result<Self, Implausible> {
        let mut ledger = Self::new(saved.began, saved.window);
        ledger.sum = saved.sum;
        ledger.fine.restore(&saved.fine, saved.sum)?;
        ledger.coarse.restore(&saved.coarse, saved.sum)?;
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    /// All that was ever counted, looked through from the beginning each time.
    #[derive(Default)]
    struct Naive(Vec<(u64, Counts)>);

    impl Naive {
        fn after(&self, from_s: u64) -> Counts {
            let later = self.0.iter().filter(|(at, _)| *at >= from_s);
            later.fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts))
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    proptest! {
        #[test]
        fn any_window_counts_as_if_all_requests_were_looked_through(
            visits in proptest::collection::vec((1_u64..40_000, 0_u64..50, 0_u64..50), 1..400),
            window_s in prop_oneof![Just(300_u64), Just(1_800), Just(3_600), Just(7_200), Just(21_600), Just(DAY), Just(3 * DAY), Just(30 * DAY)],
        ) {
            let mut ledger = Ledger::new(seconds(0), seconds(30 * DAY));
            let mut naive = Naive::default();
            let mut now = 0;
            for (later, good, bad) in visits {
                now += later;
                let counts = Counts { total: good + bad, bad };
                ledger.add(seconds(now), counts);
                naive.0.push((now, counts));
                let counted = ledger.window(seconds(now), seconds(window_s));
                let slack = if window_s <= 21_600 { 10 } else { 300 };
                let from = now.saturating_sub(window_s);
                let (most, least) = (naive.after(from.saturating_sub(slack)), naive.after(from + slack));
                prop_assert!(least.total <= counted.total && counted.total <= most.total, "{least:?} {counted:?} {most:?}");
                prop_assert!(least.bad <= counted.bad && counted.bad <= most.bad);
            }
        }

        #[test]
        fn what_was_saved_comes_back_as_it_was(
            visits in proptest::collection::vec((1_u64..40_000, 0_u64..3, 0_u64..3), 1..200),
        ) {
            let mut ledger = Ledger::new(seconds(7), seconds(30 * DAY));
            let mut now = 7;
            for (later, good, bad) in visits {
                now += later;
                ledger.add(seconds(now), Counts { total: good + bad, bad });
            }
            prop_assert_eq!(Ledger::restored(&ledger.saved()), Ok(ledger));
        }
    }

    #[test]
    fn memory_is_bounded_and_as_stated() {
        let mut ledger = Ledger::new(seconds(0), seconds(30 * DAY));
        for at in (0..40 * DAY).step_by(10) {
            ledger.add(seconds(at), Counts { total: 1, bad: 0 });
        }
        assert_eq!((ledger.fine.sums.len(), ledger.coarse.sums.len()), (2_161, 8_641));
        assert_eq!(size_of::<Counts>(), 16);
        let year = Ledger::new(seconds(0), seconds(365 * DAY));
        assert!(year.coarse.steps_max <= COARSE_STEPS_MAX);
    }

    #[test]
    fn a_gap_of_a_year_leaves_nothing_and_costs_nothing() {
        let mut ledger = Ledger::new(seconds(0), seconds(30 * DAY));
        ledger.add(seconds(5), Counts { total: 10, bad: 10 });
        ledger.add(seconds(365 * DAY), Counts { total: 1, bad: 0 });
        assert_eq!(ledger.window(seconds(365 * DAY), seconds(30 * DAY)), Counts { total: 1, bad: 0 });
    }

    #[test]
    fn a_shorter_or_longer_window_keeps_what_is_known() {
        let mut ledger = Ledger::new(seconds(0), seconds(30 * DAY));
        for hour in 0..30 * 24 {
            ledger.add(seconds(hour * 3_600 + 1_800), Counts { total: 1, bad: 0 });
        }
        let now = seconds(30 * DAY - 1);
        ledger.resize(now, seconds(7 * DAY));
        assert_eq!(ledger.window(now, seconds(7 * DAY)).total, 7 * 24);
        ledger.resize(now, seconds(30 * DAY));
        assert_eq!(ledger.window(now, seconds(7 * DAY)).total, 7 * 24);
        ledger.resize(now, seconds(365 * DAY));
        assert_eq!(ledger.window(now, seconds(365 * DAY)).total, 0);
        assert_eq!(ledger.window(now, seconds(3_600)).total, 1, "the last hours stay");
    }

    #[test]
    fn saved_nonsense_is_refused_and_never_panics() {
        let saved = Ledger::new(seconds(0), seconds(30 * DAY)).saved();
        let with = |change: fn(&mut SavedLedger)| {
            let mut changed = saved.clone();
            change(&mut changed);
            Ledger::restored(&changed)
        };
        assert_eq!(with(|saved| saved.fine.length = 0), Err(Implausible));
        assert_eq!(with(|saved| saved.coarse.length = u32::MAX), Err(Implausible));
        assert_eq!(with(|saved| saved.fine.steps = vec![(9, 1, 1)]), Err(Implausible));
        assert_eq!(with(|saved| saved.fine.newest = u64::MAX), Err(Implausible));
        assert!(with(|saved| saved.fine.steps = vec![(0, u64::MAX, u64::MAX)]).is_ok(), "sums saturate");
    }

    #[test]
    fn the_course_of_a_budget_ends_with_its_window_and_is_unknown_before_it_began() {
        let mut ledger = Ledger::new(seconds(15 * DAY), seconds(30 * DAY));
        for hour in 0..15 * 24 {
            ledger.add(seconds(15 * DAY + hour * 3_600), Counts { total: 10, bad: 1 });
        }
        let now = seconds(30 * DAY);
        let course = ledger.course(now, seconds(30 * DAY), 200);
        assert_eq!(course.len(), 200);
        assert!(course[..99].iter().all(Option::is_none) && course[100..].iter().all(Option::is_some));
        assert_eq!(course[199], Some(ledger.window(now, seconds(30 * DAY))));
        let bad: Vec<u64> = course[100..].iter().flatten().map(|counts| counts.bad).collect();
        assert!(bad.is_sorted());
    }
}
