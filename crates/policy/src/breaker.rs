//! The circuit breaker of a whole service: where no endpoint helps any more, requests are answered at once instead of being
//! sent into the void, and one at a time finds out whether that is over.
//!
//! A single endpoint that fails is taken out by [`crate::Ejection`], and its requests are tried elsewhere; so only what
//! failed after all that counts here, and only what got no answer at all. An application that answers half of its requests
//! with an error of its own is better off answering the other half. The breaker opens after failures in a row, or when a
//! share of requests fails for more than a moment, or, where a limit is set, when a share of them is slow. It stays open
//! for a short pause that doubles up to a bound of seconds, so that neither a blip becomes an outage nor the end of an
//! outage is missed; then probes, one at a time, must go well a few times in a row. A probe that says nothing for as long as
//! the longest pause is not waited for any further, or the one who sends it, by being slow, or the service, by having lost
//! it, would keep everybody else out: the next one goes, and what the lost one says in the end counts if it is good.
//!
//! While all is well a request pays for one look at a word that nobody writes: successes are counted only once something
//! has failed. So the share is one of the time since trouble began, and says nothing until trouble has lasted
//! ([`BreakerLaw::lasting`]).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::window::Window;
use crate::{Backoff, ProbeEnd, Share};

/// The parameters of a service's breaker. May change between two calls (a reload).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLaw {
    /// So many failures in a row open it; 0 counts as 1.
    pub consecutive: u32,
    /// This share of failures opens it; `Share::ZERO` switches that off.
    pub errors: Share,
    /// So many slow answers open it; none switches that off.
    pub slow: Option<SlowCalls>,
    /// With fewer requests than this no share says anything.
    pub requests: u32,
    /// The window of shares.
    pub window: Duration,
    /// For so long failures must have gone on before their share says anything.
    pub lasting: Duration,
    /// How long it stays open: the first time, and at the longest.
    pub open: Backoff,
    /// So many probes in a row that go well close it; 0 counts as 1.
    pub probes: u32,
}

impl Default for BreakerLaw {
    /// 20 in a row, or half of at least 20 over more than a second; open for 250 ms up to 2 s; three probes.
    fn default() -> Self {
        Self {
            consecutive: 20,
            errors: Share::percent(50),
            slow: None,
            requests: 20,
            window: Duration::from_secs(10),
            lasting: Duration::from_secs(1),
            open: Backoff { from: Duration::from_millis(250), to: Duration::from_secs(2) },
            probes: 3,
        }
    }
}

/// When a service is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowCalls {
    /// An answer that takes longer is slow; none is ten times what is usual, and at least a second.
    pub over: Option<Duration>,
    /// This share of slow answers opens the breaker.
    pub share: Share,
}

impl SlowCalls {
    /// What takes longer is slow, where half of the answers take at most `usual`.
    fn limit(&self, usual: Option<Duration>) -> Duration {
        const TIMES: u32 = 10;
        const OVER_MIN: Duration = Duration::from_secs(1);
        let measured = || usual.map_or(Duration::ZERO, |usual| usual * TIMES).max(OVER_MIN);
        self.over.unwrap_or_else(measured)
    }
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerCause {
    /// So many failures in a row.
    Consecutive(u32),
    /// Failures, of so many requests since trouble began.
    Errors {
        /// How many failed.
        failures: u64,
        /// Of how many.
        requests: u64,
    },
    /// Slow answers, of so many in the window.
    Slow {
        /// How many were slow.
        slow: u64,
        /// Of how many.
        requests: u64,
    },
    /// A probe failed.
    Probe,
}

/// What a breaker says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may pass.
    Pass,
    /// It may pass as the one that finds out: [`Breaker::end_probe`] must be told how it ended.
    Probe(Probe),
    /// It must not.
    Refused {
        /// When it may be worth another try.
        retry_after: Duration,
    },
}

/// Which probe it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe(u32);

/// The states, as metrics and events name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// One request at a time passes.
    HalfOpen,
    /// None passes.
    Open,
}

impl BreakerState {
    /// A word for events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// A service's breaker. Shared by all cores; while it is closed it takes no lock.
#[derive(Debug, Default)]
pub struct Breaker {
    /// [`CLOSED`] or not; what else there is to know is in `machine`.
    gate: AtomicU8,
    consecutive: AtomicU32,
    /// When failures began, in nanoseconds from 1; 0 while nothing has failed within the window.
    troubled_ns: AtomicU64,
    failed_ns: AtomicU64,
    failures: Window,
    slow: Window,
    machine: Mutex<Machine>,
    /// Probes begun, so that one from before it last closed is not taken for another.
    probes: AtomicU32,
}

/// A probe is waited for as long as the longest pause, and not for longer than this.
const PROBE_WAITED_FOR_MAX: Duration = Duration::from_secs(10);

const CLOSED: u8 = 0;
const NOT_CLOSED: u8 = 1;

#[derive(Debug, Default, Clone, Copy)]
enum Machine {
    #[default]
    Closed,
    NotClosed {
        /// How often it opened without closing.
        level: u32,
        until: Duration,
        /// Probes in a row that went well.
        well: u32,
        /// The probe that is waited for, and since when.
        probing: Option<(Probe, Duration)>,
    },
}

impl Breaker {
    /// Whether a request may pass.
    #[inline]
    pub fn admit(&self, law: &BreakerLaw, now: Duration) -> Admission {
        if self.gate.load(Ordering::Relaxed) == CLOSED { Admission::Pass } else { self.admit_one(law, now) }
    }

    #[cold]
    fn admit_one(&self, law: &BreakerLaw, now: Duration) -> Admission {
        /// While a probe is under way nobody knows for how long.
        const PROBE_TAKES: Duration = Duration::from_secs(1);
        let mut machine = self.machine();
        let Machine::NotClosed { until, probing, .. } = &mut *machine else { return Admission::Pass };
        if now < *until {
            return Admission::Refused { retry_after: *until - now };
        }
        let waited_for = law.open.to.min(PROBE_WAITED_FOR_MAX);
        if probing.is_some_and(|(_, since)| now < since + waited_for) {
            return Admission::Refused { retry_after: PROBE_TAKES };
        }
        let probe = Probe(self.probes.fetch_add(1, Ordering::Relaxed));
        *probing = Some((probe, now));
        Admission::Probe(probe)
    }

    /// What it is now.
    pub fn state(&self, now: Duration) -> BreakerState {
        match *self.machine() {
            Machine::Closed => BreakerState::Closed,
            Machine::NotClosed { until, .. } if now < until => BreakerState::Open,
            Machine::NotClosed { .. } => BreakerState::HalfOpen,
        }
    }

    /// A request that passed was answered after `latency`, where half of the answers take at most `usual`. A cause, when
    /// that opened it.
    #[inline]
    pub fn success(
        &self,
        law: &BreakerLaw,
        (latency, usual): (Duration, Option<Duration>),
        now: Duration,
    ) -> Option<BreakerCause> {
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
        if self.troubled_ns.load(Ordering::Relaxed) != 0 {
            self.count_success(law, now);
        }
        match law.slow {
            None => None,
            Some(slow) => self.count_slow(law, slow, latency > slow.limit(usual), now),
        }
    }

    /// A request that passed got no answer. A cause, when that opened it.
    pub fn failure(&self, law: &BreakerLaw, now: Duration) -> Option<BreakerCause> {
        let consecutive = self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.count_failure(law, now);
        if consecutive >= law.consecutive.max(1) {
            return self.open(law, BreakerCause::Consecutive(consecutive), now);
        }
        let sums = self.failures.sums(law.window, now);
        let requests = sums.plain + sums.marked;
        let troubled_for = nanos(now).saturating_sub(self.troubled_ns.load(Ordering::Relaxed));
        let is_enough = requests >= u64::from(law.requests.max(1)) && troubled_for >= nanos(law.lasting);
        let is_over = law.errors > Share::ZERO && law.errors.is_reached_by(sums.marked, requests);
        if is_enough && is_over {
            return self.open(law, BreakerCause::Errors { failures: sums.marked, requests }, now);
        }
        None
    }

    /// A probe has ended; tells what the breaker is now, if that is another state than before.
    pub fn end_probe(
        &self,
        law: &BreakerLaw,
        (probe, end): (Probe, ProbeEnd),
        now: Duration,
    ) -> Option<BreakerState> {
        let mut machine = self.machine();
        let Machine::NotClosed { level, until, well, probing } = &mut *machine else { return None };
        let is_waited_for = probing.take_if(|(waited_for, _)| *waited_for == probe).is_some();
        match end {
            ProbeEnd::Well => {
                *well += 1;
                if *well < law.probes {
                    return None;
                }
                *machine = Machine::Closed;
                self.forget();
                self.gate.store(CLOSED, Ordering::Relaxed);
                Some(BreakerState::Closed)
            }
            ProbeEnd::Ill if is_waited_for => {
                *level = level.saturating_add(1);
                *until = now + law.open.bound(*level);
                *well = 0;
                Some(BreakerState::Open)
            }
            // One that was lost long ago says nothing of the present.
            ProbeEnd::Ill | ProbeEnd::Nothing => None,
        }
    }

    fn open(&self, law: &BreakerLaw, cause: BreakerCause, now: Duration) -> Option<BreakerCause> {
        let mut machine = self.machine();
        // Those who passed before it opened do not open it further.
        let Machine::Closed = *machine else { return None };
        let until = now + law.open.bound(1);
        *machine = Machine::NotClosed { level: 1, until, well: 0, probing: None };
        self.gate.store(NOT_CLOSED, Ordering::Relaxed);
        Some(cause)
    }

    fn forget(&self) {
        self.consecutive.store(0, Ordering::Relaxed);
        self.troubled_ns.store(0, Ordering::Relaxed);
        self.failures.clear();
        self.slow.clear();
    }

    #[cold]
    fn count_success(&self, law: &BreakerLaw, now: Duration) {
        let failed_ns = self.failed_ns.load(Ordering::Relaxed);
        if nanos(now).saturating_sub(failed_ns) > nanos(law.window) {
            self.troubled_ns.store(0, Ordering::Relaxed);
        } else {
            self.failures.record(law.window, now, false);
        }
    }

    fn count_failure(&self, law: &BreakerLaw, now: Duration) {
        let is_new = nanos(now).saturating_sub(self.failed_ns.load(Ordering::Relaxed)) > nanos(law.window);
        if is_new || self.troubled_ns.load(Ordering::Relaxed) == 0 {
            // What went well in an earlier trouble is not to speak for this one.
            self.failures.clear();
            self.troubled_ns.store(nanos(now).max(1), Ordering::Relaxed);
        }
        self.failed_ns.store(nanos(now), Ordering::Relaxed);
        self.failures.record(law.window, now, true);
    }

    fn count_slow(
        &self,
        law: &BreakerLaw,
        slow: SlowCalls,
        is_slow: bool,
        now: Duration,
    ) -> Option<BreakerCause> {
        self.slow.record(law.window, now, is_slow);
        if !is_slow {
            return None;
        }
        let sums = self.slow.sums(law.window, now);
        let requests = sums.plain + sums.marked;
        let is_enough = requests >= u64::from(law.requests.max(1));
        if is_enough && slow.share.is_reached_by(sums.marked, requests) {
            return self.open(law, BreakerCause::Slow { slow: sums.marked, requests }, now);
        }
        None
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // It is changed in one step, so it is whole after any panic.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAW: BreakerLaw = BreakerLaw {
        consecutive: 5,
        errors: Share::percent(50),
        slow: Some(SlowCalls { over: Some(Duration::from_millis(500)), share: Share::percent(80) }),
        requests: 10,
        window: Duration::from_secs(10),
        lasting: Duration::from_secs(1),
        open: Backoff { from: Duration::from_millis(250), to: Duration::from_secs(2) },
        probes: 3,
    };
    const FAST: (Duration, Option<Duration>) = (Duration::from_millis(5), None);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn opened(millis: u64) -> Breaker {
        let breaker = Breaker::default();
        (0..5).for_each(|_| {
            breaker.failure(&LAW, at(millis));
        });
        breaker
    }

    #[track_caller]
    fn probe(breaker: &Breaker, millis: u64) -> Probe {
        match breaker.admit(&LAW, at(millis)) {
            Admission::Probe(probe) => probe,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_requests_are_refused_at_once() {
        let breaker = Breaker::default();
        (0..4).for_each(|_| assert_eq!(breaker.failure(&LAW, at(100)), None));
        assert_eq!(breaker.success(&LAW, FAST, at(100)), None);
        (0..4).for_each(|_| assert_eq!(breaker.failure(&LAW, at(100)), None));
        assert_eq!(breaker.admit(&LAW, at(100)), Admission::Pass);
        assert_eq!(breaker.failure(&LAW, at(100)), Some(BreakerCause::Consecutive(5)));
        assert_eq!(breaker.admit(&LAW, at(150)), Admission::Refused { retry_after: at(200) });
        assert_eq!(breaker.state(at(150)), BreakerState::Open);
    }

    #[test]
    fn three_probes_one_after_the_other_close_it() {
        let breaker = opened(100);
        for state in [None, None, Some(BreakerState::Closed)] {
            let probe = probe(&breaker, 350);
            assert!(matches!(breaker.admit(&LAW, at(350)), Admission::Refused { .. }), "one at a time");
            assert_eq!(breaker.end_probe(&LAW, (probe, ProbeEnd::Well), at(360)), state);
        }
        assert_eq!(
            (breaker.admit(&LAW, at(360)), breaker.state(at(360))),
            (Admission::Pass, BreakerState::Closed)
        );
        (0..4).for_each(|_| assert_eq!(breaker.failure(&LAW, at(370)), None, "the count began anew"));
    }

    #[test]
    fn each_probe_that_fails_doubles_the_pause_up_to_the_longest() {
        let (breaker, mut now, mut pauses) = (opened(100), at(350), Vec::new());
        for _ in 0..5 {
            let Admission::Probe(probe) = breaker.admit(&LAW, now) else { panic!("it is time") };
            assert_eq!(breaker.end_probe(&LAW, (probe, ProbeEnd::Ill), now), Some(BreakerState::Open));
            let Admission::Refused { retry_after } = breaker.admit(&LAW, now) else { panic!("it is open") };
            pauses.push(retry_after.as_millis());
            now += retry_after;
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 2_000, 2_000]);
    }

    #[test]
    fn a_probe_whose_client_left_leaves_its_place() {
        let breaker = opened(100);
        let left = probe(&breaker, 350);
        assert_eq!(breaker.end_probe(&LAW, (left, ProbeEnd::Nothing), at(350)), None);
        probe(&breaker, 350);
    }

    #[test]
    fn a_probe_that_says_nothing_keeps_the_others_out_for_the_longest_pause_and_no_longer() {
        let breaker = opened(100);
        let lost = probe(&breaker, 350);
        assert!(matches!(breaker.admit(&LAW, at(2_349)), Admission::Refused { .. }));
        let next = probe(&breaker, 2_350);
        assert_eq!(breaker.end_probe(&LAW, (lost, ProbeEnd::Ill), at(2_360)), None, "that was long ago");
        assert_eq!(breaker.end_probe(&LAW, (next, ProbeEnd::Well), at(2_370)), None);
        let third = probe(&breaker, 2_380);
        assert_eq!(breaker.end_probe(&LAW, (third, ProbeEnd::Well), at(2_390)), None);
        probe(&breaker, 2_400);
        // A service whose every answer takes longer than that closes it all the same.
        assert_eq!(breaker.end_probe(&LAW, (lost, ProbeEnd::Well), at(2_410)), Some(BreakerState::Closed));
    }

    #[test]
    fn a_probe_from_before_it_closed_is_none_of_those_after_it_opened_again() {
        let breaker = opened(100);
        let lost = probe(&breaker, 350);
        for _ in 0..3 {
            let next = probe(&breaker, 2_350);
            breaker.end_probe(&LAW, (next, ProbeEnd::Well), at(2_350));
        }
        (0..5).for_each(|_| assert_eq!(breaker.admit(&LAW, at(2_360)), Admission::Pass));
        (0..5).for_each(|_| {
            breaker.failure(&LAW, at(2_370));
        });
        let _present = probe(&breaker, 2_620);
        assert_eq!(breaker.end_probe(&LAW, (lost, ProbeEnd::Ill), at(2_630)), None);
        assert!(
            matches!(breaker.admit(&LAW, at(2_640)), Admission::Refused { .. }),
            "it is still waited for"
        );
    }

    #[test]
    fn half_of_all_failing_opens_it_once_that_has_lasted() {
        let breaker = Breaker::default();
        for step in 0..100 {
            let now = at(1_000 + step * 20);
            breaker.success(&LAW, FAST, now);
            let cause = breaker.failure(&LAW, now);
            assert_eq!(cause.is_some(), step == 50, "at {now:?}");
            if cause.is_some() {
                assert_eq!(cause, Some(BreakerCause::Errors { failures: 51, requests: 101 }));
                return;
            }
        }
    }

    #[test]
    fn a_blip_does_not_open_it() {
        let breaker = Breaker::default();
        for step in 0..60 {
            let now = at(1_000 + step);
            assert_eq!(breaker.failure(&LAW, now), None);
            breaker.success(&LAW, FAST, now);
        }
        (0..500).for_each(|step| {
            breaker.success(&LAW, FAST, at(1_060 + step * 4));
        });
        assert_eq!(breaker.failure(&LAW, at(3_100)), None, "by now most went well");
    }

    #[test]
    fn a_failure_now_and_then_is_forgotten_with_the_window() {
        let breaker = Breaker::default();
        for minute in 1..200 {
            assert_eq!(breaker.failure(&LAW, at(minute * 60_000)), None);
            breaker.success(&LAW, FAST, at(minute * 60_000 + 20_000));
            assert_eq!(breaker.troubled_ns.load(Ordering::Relaxed), 0, "all is calm again");
        }
    }

    #[test]
    fn what_went_well_after_an_earlier_trouble_does_not_speak_for_the_next_one() {
        let breaker = Breaker::default();
        breaker.failure(&LAW, at(20_815));
        assert!((0..7).all(|_| breaker.success(&LAW, FAST, at(25_000)).is_none()));
        let steps = (0..12).map(|step| (at(30_816 + step * 100), step % 5 == 4));
        let opened = steps.filter_map(|(now, is_well)| match is_well {
            true => breaker.success(&LAW, FAST, now),
            false => breaker.failure(&LAW, now),
        });
        assert_eq!(opened.last(), Some(BreakerCause::Errors { failures: 9, requests: 11 }));
    }

    #[test]
    fn answers_that_are_slow_open_it_where_a_limit_is_set() {
        let breaker = Breaker::default();
        breaker.success(&LAW, FAST, at(100));
        let causes: Vec<_> = (0..9).map(|_| breaker.success(&LAW, (at(600), None), at(100))).collect();
        assert_eq!(causes[..8], [None; 8]);
        assert_eq!(causes[8], Some(BreakerCause::Slow { slow: 9, requests: 10 }));
        let no_limit = BreakerLaw { slow: None, ..LAW };
        let breaker = Breaker::default();
        assert!((0..100).all(|_| breaker.success(&no_limit, (at(60_000), None), at(100)).is_none()));
    }

    #[test]
    fn without_a_limit_slow_is_ten_times_what_is_usual() {
        let slow = SlowCalls { over: None, share: Share::percent(80) };
        assert_eq!(slow.limit(Some(at(300))), at(3_000));
        assert_eq!(slow.limit(Some(at(5))), at(1_000));
        assert_eq!(slow.limit(None), at(1_000));
    }

    #[test]
    fn those_who_passed_before_it_opened_change_nothing() {
        let breaker = opened(100);
        assert_eq!(breaker.failure(&LAW, at(120)), None);
        breaker.success(&LAW, FAST, at(130));
        assert!(matches!(breaker.admit(&LAW, at(130)), Admission::Refused { .. }));
        assert_eq!(breaker.state(at(130)), BreakerState::Open);
    }

    #[test]
    fn of_many_cores_at_once_one_probes() {
        let breaker = opened(100);
        let probes = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let is_probe = matches!(breaker.admit(&LAW, at(400)), Admission::Probe(_));
                    probes.fetch_add(u32::from(is_probe), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(probes.into_inner(), 1);
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Admit,
        Success(Duration),
        Failure,
        /// One of the probes under way ends.
        End(prop::sample::Index, ProbeEnd),
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            2 => Just(Event::Admit),
            3 => Just(Event::Success(FAST.0)),
            1 => Just(Event::Success(Duration::from_secs(1))),
            4 => Just(Event::Failure),
            2 => any::<prop::sample::Index>().prop_map(|which| Event::End(which, ProbeEnd::Well)),
            1 => any::<prop::sample::Index>().prop_map(|which| Event::End(which, ProbeEnd::Ill)),
            1 => any::<prop::sample::Index>().prop_map(|which| Event::End(which, ProbeEnd::Nothing)),
        ];
        prop::collection::vec((0_u64..700, event), 1..300)
    }

    type Probing = Option<(Probe, Duration)>;

    /// The breaker as a list of what happened since it was last closed, looked through anew each time.
    #[derive(Debug, Default)]
    struct Naive {
        /// Moment, and whether it failed; only since trouble began.
        requests: Vec<(Duration, bool)>,
        slow: Vec<(Duration, bool)>,
        row: u32,
        /// Openings in a row, the pause's end, probes that went well, and the one that is waited for.
        open: Option<(u32, Duration, u32, Probing)>,
    }

    impl Naive {
        fn slice(moment: Duration) -> u128 {
            moment.as_millis() / 1_000
        }

        fn share(list: &[(Duration, bool)], now: Duration) -> (usize, usize) {
            let inside = |entry: &&(Duration, bool)| Self::slice(now) - Self::slice(entry.0) < 10;
            let all: Vec<_> = list.iter().filter(inside).collect();
            (all.iter().filter(|entry| entry.1).count(), all.len())
        }

        fn last_failure(&self) -> Option<Duration> {
            self.requests.iter().rev().find(|entry| entry.1).map(|entry| entry.0)
        }

        fn calm_down(&mut self, now: Duration) {
            if self.last_failure().is_some_and(|last| now - last > LAW.window) {
                self.requests.clear();
            }
        }

        fn open_if(&mut self, is_over: bool, now: Duration) -> bool {
            let opens = is_over && self.open.is_none();
            if opens {
                self.open = Some((1, now + at(250), 0, None));
            }
            opens
        }

        fn success(&mut self, latency: Duration, now: Duration) -> bool {
            self.row = 0;
            self.calm_down(now);
            if !self.requests.is_empty() {
                self.requests.push((now, false));
            }
            let is_slow = latency > at(500);
            self.slow.push((now, is_slow));
            let (slow, all) = Self::share(&self.slow, now);
            self.open_if(is_slow && all >= 10 && slow * 100 >= all * 80, now)
        }

        fn failure(&mut self, now: Duration) -> bool {
            self.row += 1;
            self.calm_down(now);
            self.requests.push((now, true));
            let (failed, all) = Self::share(&self.requests, now);
            let lasted = now - self.requests[0].0 >= at(1_000);
            self.open_if(self.row >= 5 || (lasted && all >= 10 && failed * 2 >= all), now)
        }
    }

    proptest! {
        /// Against the naive machine, event by event.
        #[test]
        fn it_opens_probes_and_closes_as_the_naive_one(events in events()) {
            let (breaker, mut naive, mut now) = (Breaker::default(), Naive::default(), at(20_000));
            let (mut begun, mut probes) = (0, Vec::new());
            for (gap, event) in events {
                now += at(gap);
                match event {
                    Event::Success(latency) => {
                        let opened = breaker.success(&LAW, (latency, None), now).is_some();
                        prop_assert_eq!(opened, naive.success(latency, now));
                    }
                    Event::Failure => {
                        let opened = breaker.failure(&LAW, now).is_some();
                        prop_assert_eq!(opened, naive.failure(now));
                    }
                    Event::Admit => {
                        let expected = match &mut naive.open {
                            None => Admission::Pass,
                            Some((_, until, ..)) if now < *until => Admission::Refused { retry_after: *until - now },
                            Some((.., Some((_, since)))) if now - *since < at(2_000) => {
                                Admission::Refused { retry_after: at(1_000) }
                            }
                            Some((.., probing)) => {
                                let probe = Probe(begun);
                                begun += 1;
                                *probing = Some((probe, now));
                                probes.push(probe);
                                Admission::Probe(probe)
                            }
                        };
                        prop_assert_eq!(breaker.admit(&LAW, now), expected);
                    }
                    Event::End(_, _) if probes.is_empty() => {}
                    Event::End(which, end) => {
                        let probe = probes.remove(which.index(probes.len()));
                        let state = breaker.end_probe(&LAW, (probe, end), now);
                        let Some((level, until, well, probing)) = &mut naive.open else {
                            prop_assert_eq!(state, None);
                            continue;
                        };
                        let was_waited_for = probing.is_some_and(|(waited_for, _)| waited_for == probe);
                        if was_waited_for {
                            *probing = None;
                        }
                        match end {
                            ProbeEnd::Well => *well += 1,
                            ProbeEnd::Ill if was_waited_for => {
                                *level += 1;
                                *until = now + at((250 << (*level - 1).min(10)).min(2_000));
                                *well = 0;
                            }
                            _ => {}
                        }
                        if *well == 3 {
                            prop_assert_eq!(state, Some(BreakerState::Closed));
                            naive = Naive::default();
                        }
                    }
                }
            }
        }
    }
}
