//! The token bucket, as the generic cell rate algorithm (ITU-T I.371): instead of tokens and the moment they were last
//! counted, one word a key, the moment at which its bucket will be full again. A request moves it forward by what it
//! costs, and passes if that leaves it no further ahead than the whole bucket takes to fill.
//!
//! The moment is kept in ticks so fine that both a nanosecond and a token's time are whole numbers of them: at 3 a second a
//! tick is a third of a nanosecond. So 3 a second is 3 a second in a year too, and comparing is exact. (Only where that
//! would take ticks finer than a millionth of a nanosecond, a token's time is rounded up to one.) Ticks are counted modulo
//! 2^64, of which a bucket needs a sixteenth; those that are full are cleared away long before the count comes round.

use std::num::NonZeroU32;
use std::time::Duration;

use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment, Rate, nanos};

/// The finest ticks there are.
const TICKS_PER_NS_MAX: u64 = 1 << 20;
/// The most that a bucket may take to fill; 36 years at one tick a nanosecond.
const CAPACITY_TICKS_MAX: u64 = 1 << 60;

/// A rate and a burst, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// What one token costs.
    interval_ticks: u64,
    ticks_per_ns: u32,
    burst: u32,
}

impl Pace {
    /// How often the finest pace there is has its full buckets cleared away.
    pub(super) const SWEEP_EVERY_MIN_NS: u64 = (1 << 61) / TICKS_PER_NS_MAX;

    pub(super) fn new(rate: Rate, burst: NonZeroU32) -> Self {
        let (period_ns, count) = (nanos(rate.period()).max(1), u64::from(rate.count()));
        let divisor = greatest_common_divisor(period_ns, count);
        let fits = |interval: u128| interval * u128::from(burst.get()) <= u128::from(CAPACITY_TICKS_MAX);
        let exact = (u128::from(period_ns / divisor), count / divisor);
        let rounded = |shift: u32| ((u128::from(period_ns) << shift).div_ceil(u128::from(count)), 1 << shift);
        let (interval, ticks_per_ns) = if exact.1 <= TICKS_PER_NS_MAX && fits(exact.0) {
            exact
        } else {
            let fine = TICKS_PER_NS_MAX.ilog2();
            (0..=fine).rev().map(rounded).find(|(interval, _)| fits(*interval)).unwrap_or_else(|| rounded(0))
        };
        let interval = u64::try_from(interval).unwrap_or(u64::MAX).clamp(1, CAPACITY_TICKS_MAX);
        Self {
            interval_ticks: interval,
            ticks_per_ns: u32::try_from(ticks_per_ns).unwrap_or(1),
            // A bucket that took longer than that to fill is made smaller.
            burst: u32::try_from(CAPACITY_TICKS_MAX / interval).unwrap_or(u32::MAX).min(burst.get()),
        }
    }

    /// The moment, modulo 2^64.
    #[inline]
    pub(super) fn ticks(&self, moment: Duration) -> u64 {
        nanos(moment).wrapping_mul(u64::from(self.ticks_per_ns))
    }

    /// Of more than a bucket can ever hold it is that much.
    #[inline]
    pub(super) fn cost_ticks(&self, cost: u32) -> u64 {
        self.interval_ticks.saturating_mul(u64::from(cost)).min(CAPACITY_TICKS_MAX)
    }

    /// What the whole bucket takes to fill.
    #[inline]
    pub(super) fn capacity_ticks(&self) -> u64 {
        self.interval_ticks * u64::from(self.burst)
    }

    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// Rounded up, so that who waits so long has waited long enough.
    #[inline]
    pub(super) fn time(&self, ticks: u64) -> Duration {
        Duration::from_nanos(match self.ticks_per_ns {
            1 => ticks,
            ticks_per_ns => ticks.div_ceil(u64::from(ticks_per_ns)),
        })
    }

    /// How many tokens so many ticks are, rounded down.
    #[inline]
    pub(super) fn tokens(&self, ticks: u64) -> u64 {
        ticks / self.interval_ticks
    }

    /// What is used up of a bucket that is full at `tat`.
    #[inline]
    pub(super) fn owed(&self, tat: u64, now: Duration) -> u64 {
        // Further ahead than half of all ticks means behind.
        u64::try_from(tat.wrapping_sub(self.ticks(now)) as i64).unwrap_or(0)
    }

    /// When a bucket is full of which so much is used up.
    #[inline]
    pub(super) fn full_at(&self, owed: u64, now: Duration) -> u64 {
        self.ticks(now).wrapping_add(owed)
    }

    /// What was used stays used, and comes back at the new pace: a moment under this pace as one under `next`.
    pub(super) fn carried_over(&self, next: &Self, tat: u64, now: Duration) -> u64 {
        let owed = u128::from(self.owed(tat, now));
        let (ours, theirs) = (u128::from(self.interval_ticks), u128::from(next.interval_ticks));
        let owed = u64::try_from((owed * theirs).div_ceil(ours)).unwrap_or(u64::MAX);
        next.full_at(owed.min(next.capacity_ticks()), now)
    }

    /// How often buckets that are full have to be cleared away: long before their moments seem to lie ahead.
    pub(super) fn sweep_every_ns(&self) -> u64 {
        (1 << 61) / u64::from(self.ticks_per_ns)
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// One key's bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// The theoretical arrival time, in ticks: when it is full again.
    tat: u64,
}

impl Bucket {
    pub(super) fn full(pace: &Pace, now: Duration) -> Self {
        Self { tat: pace.ticks(now) }
    }

    #[inline]
    pub(super) fn take(&mut self, pace: &Pace, cost: u32, now: Duration) -> Decision {
        let (owed, capacity) = (self.owed(pace, now), pace.capacity_ticks());
        let after = owed + pace.cost_ticks(cost);
        let allowed = after <= capacity;
        if allowed {
            self.tat = pace.full_at(after, now);
        }
        let used = if allowed { after } else { owed };
        Decision {
            allowed,
            limit: u64::from(pace.burst),
            remaining: pace.tokens(capacity.saturating_sub(used)),
            reset: pace.time(used),
            retry_after: match allowed || cost > pace.burst {
                true => None,
                false => Some(pace.time(after - capacity)),
            },
        }
    }

    /// At least so much is used up, others know.
    pub(super) fn raise_to(&mut self, pace: &Pace, used: u64, now: Duration) {
        let used = pace.cost_ticks(u32::try_from(used).unwrap_or(u32::MAX)).min(pace.capacity_ticks());
        self.tat = pace.full_at(self.owed(pace, now).max(used), now);
    }

    pub(super) fn give_back(&mut self, pace: &Pace, cost: u32, now: Duration) {
        let left = self.owed(pace, now).saturating_sub(pace.cost_ticks(cost));
        self.tat = pace.full_at(left, now);
    }

    pub(super) fn carry_over(&mut self, before: &Pace, next: &Pace, now: Duration) {
        self.tat = before.carried_over(next, self.tat, now);
    }

    /// What is used up, in ticks.
    #[inline]
    pub(super) fn owed(&self, pace: &Pace, now: Duration) -> u64 {
        pace.owed(self.tat, now)
    }
}

impl Cell for Bucket {
    type Law = Pace;

    fn is_idle(&self, pace: &Pace, now: Moment) -> bool {
        self.owed(pace, now.clock) == 0
    }

    fn used(&self, pace: &Pace, now: Moment) -> u64 {
        self.owed(pace, now.clock).div_ceil(pace.interval_ticks)
    }

    fn owes(&self, pace: &Pace, now: Moment) -> u128 {
        u128::from(self.owed(pace, now.clock))
    }

    fn fresh(pace: &Pace, now: Moment) -> Self {
        Self::full(pace, now.clock)
    }

    fn sweep_every_ns(pace: &Pace) -> u64 {
        pace.sweep_every_ns()
    }
}

/// Token buckets by key.
#[derive(Debug)]
pub(super) struct Buckets(Table<Bucket>);

impl Buckets {
    pub(super) fn new(pace: Pace, size: Size) -> Self {
        Self(Table::new(pace, size))
    }

    #[inline]
    pub(super) fn take(&self, key: Key, cost: u32, now: Moment) -> Decision {
        self.0.with(key, now, |pace, bucket| bucket.take(pace, cost, now.clock))
    }

    pub(super) fn raise_to(&self, key: Key, used: u64, now: Moment) {
        self.0.with(key, now, |pace, bucket| bucket.raise_to(pace, used, now.clock));
    }

    pub(super) fn give_back(&self, key: Key, cost: u32, now: Moment) {
        let give_back = |pace: &Pace, bucket: &mut Bucket| bucket.give_back(pace, cost, now.clock);
        let _forgotten_is_as_good = self.0.with_known(key, give_back);
    }

    pub(super) fn migrate(&self, pace: Pace, keys_max: usize, now: Moment) {
        self.0
            .migrate(pace, keys_max, now, |before, next, bucket| bucket.carry_over(before, next, now.clock));
    }

    pub(super) fn table(&self) -> &Table<Bucket> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::counted_by_threads;
    use super::*;

    const KEY: Key = Key::from_hash(7);

    fn pace(count: u32, period: Duration, burst: u32) -> Pace {
        let count = NonZeroU32::new(count).expect("not zero");
        Pace::new(Rate::new(count, period), NonZeroU32::new(burst).expect("not zero"))
    }

    fn at(nanos: u64) -> Moment {
        Moment { clock: Duration::from_nanos(nanos), wall: Duration::ZERO }
    }

    fn second() -> Duration {
        Duration::from_secs(1)
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_for_each_tenth_of_a_second() {
        let buckets = Buckets::new(pace(10, second(), 3), Size::of(100));
        let take = |nanos| buckets.take(KEY, 1, at(nanos));
        assert_eq!((0..4).map(|_| take(5).allowed).collect::<Vec<_>>(), [true, true, true, false]);
        let refused = take(5);
        assert_eq!(refused.retry_after, Some(Duration::from_millis(100)));
        assert_eq!((refused.limit, refused.remaining, refused.reset), (3, 0, Duration::from_millis(300)));
        assert!(!take(100_000_004).allowed);
        assert!(take(100_000_005).allowed);
        assert!(!take(100_000_005).allowed);
    }

    #[test]
    fn the_time_to_wait_is_neither_too_long_nor_too_short() {
        let buckets = Buckets::new(pace(3, second(), 1), Size::of(100));
        assert!(buckets.take(KEY, 1, at(10)).allowed);
        let wait = buckets.take(KEY, 1, at(10)).retry_after.expect("it can pass later");
        assert!(!buckets.take(KEY, 1, at(9 + wait.as_nanos() as u64)).allowed);
        assert!(buckets.take(KEY, 1, at(10 + wait.as_nanos() as u64)).allowed);
    }

    #[test]
    fn a_request_that_costs_more_than_the_bucket_holds_never_passes_and_takes_nothing() {
        let buckets = Buckets::new(pace(10, second(), 5), Size::of(100));
        let refused = buckets.take(KEY, 6, at(0));
        assert_eq!((refused.allowed, refused.retry_after, refused.remaining), (false, None, 5));
        assert!(buckets.take(KEY, 5, at(0)).allowed);
    }

    #[test]
    fn what_is_given_back_can_be_had_again_and_no_more() {
        let buckets = Buckets::new(pace(10, second(), 3), Size::of(100));
        assert!(buckets.take(KEY, 3, at(0)).allowed);
        buckets.give_back(KEY, 2, at(0));
        assert!(buckets.take(KEY, 2, at(0)).allowed);
        assert!(!buckets.take(KEY, 1, at(0)).allowed);
        buckets.give_back(KEY, 1_000, at(0));
        assert!(!buckets.take(KEY, 4, at(0)).allowed);
    }

    #[test]
    fn three_a_second_are_three_a_second_in_a_year_too() {
        let buckets = Buckets::new(pace(3, second(), 3), Size::of(100));
        let year_ns = 366 * 86_400 * 1_000_000_000_u64;
        let take = |after_ns: u64| buckets.take(KEY, 1, at(year_ns + after_ns)).allowed;
        assert_eq!([take(0), take(0), take(0), take(0)], [true, true, true, false]);
        // A third of a second is no whole number of nanoseconds, but three of them are a second to the nanosecond.
        assert_eq!([take(333_333_333), take(333_333_334)], [false, true]);
        assert_eq!([take(666_666_666), take(666_666_667)], [false, true]);
        assert_eq!([take(999_999_999), take(1_000_000_000)], [false, true]);
    }

    #[test]
    fn after_a_reload_what_was_used_stays_used() {
        let (before, next) = (pace(10, second(), 100), pace(1, second(), 200));
        let buckets = Buckets::new(before, Size::of(100));
        assert!(buckets.take(KEY, 80, at(0)).allowed);
        buckets.migrate(next, 100, at(0));
        let left = buckets.take(KEY, 1, at(0));
        assert_eq!((left.limit, left.remaining), (200, 119));
        buckets.migrate(pace(10, second(), 10), 100, at(0));
        assert!(!buckets.take(KEY, 1, at(0)).allowed, "more is used than the new bucket holds");
        assert!(buckets.take(KEY, 10, at(1_000_000_000)).allowed, "and no more than all of it");
    }

    #[test]
    fn many_threads_on_one_key_get_the_burst_and_not_one_more() {
        let buckets = Buckets::new(pace(1, Duration::from_secs(3_600), 1_000), Size::of(100));
        let allowed =
            counted_by_threads(|| (0..2_000).filter(|_| buckets.take(KEY, 1, at(5)).allowed).count());
        assert_eq!(allowed, 1_000);
    }

    #[test]
    fn the_greatest_rates_and_periods_do_not_overflow() {
        let most = pace(u32::MAX, Duration::from_nanos(1), u32::MAX);
        let longest = pace(1, Rate::PERIOD_MAX, u32::MAX);
        let finest = pace(u32::MAX - 4, Rate::PERIOD_MAX, u32::MAX);
        for pace in [most, longest, finest] {
            let buckets = Buckets::new(pace, Size::of(100));
            for moment in [at(0), at(u64::MAX / 2), at(u64::MAX / 4 * 3)] {
                assert!(buckets.take(KEY, pace.burst(), moment).allowed, "{pace:?}");
                assert!(!buckets.take(KEY, 1, moment).allowed);
                for other in [most, longest, finest, pace] {
                    buckets.migrate(other, 100, moment);
                    buckets.migrate(other, 100, moment);
                }
            }
        }
    }

    #[test]
    fn a_bucket_that_was_left_alone_for_long_is_full_however_ticks_are_counted() {
        // 999,983 is a prime: a tick is a millionth of a nanosecond, and all of them pass in five hours.
        let pace = pace(999_983, second(), 10);
        let hour_ns = 3_600 * 1_000_000_000;
        for hours in 1..50 {
            for is_somebody_seen in [false, true] {
                let buckets = Buckets::new(pace, Size::of(100));
                assert!(buckets.take(KEY, 10, at(7 * hour_ns)).allowed);
                for hour in (7..7 + hours).filter(|_| is_somebody_seen) {
                    assert!(buckets.take(Key::from_hash(99), 1, at(hour * hour_ns)).allowed);
                }
                assert!(buckets.take(KEY, 10, at((7 + hours) * hour_ns)).allowed, "after {hours} hours");
            }
        }
        let buckets = Buckets::new(pace, Size::of(100));
        assert!((0..200).all(|third| buckets.take(KEY, 10, at(third * hour_ns / 3)).allowed));
    }

    /// Tokens as an exact fraction, counted up as time passes: the textbook's bucket.
    struct Naive {
        /// In tokens times the period's nanoseconds.
        level: u128,
        seen: u64,
    }

    impl Naive {
        fn take(&mut self, (count, period, burst): (u32, u64, u32), cost: u32, now: u64) -> bool {
            let full = u128::from(burst) * u128::from(period);
            let gained = u128::from(now - self.seen) * u128::from(count);
            self.level = (self.level + gained).min(full);
            self.seen = now;
            let price = u128::from(cost) * u128::from(period);
            let allowed = price <= self.level;
            if allowed {
                self.level -= price;
            }
            allowed
        }
    }

    proptest! {
        /// Against the textbook's bucket in exact fractions, whatever rate, burst, costs and moments.
        #[test]
        fn it_decides_as_the_textbooks_bucket_does(
            count in 1_u32..2_000,
            period in prop::sample::select(vec![7_u64, 1_000, 999_983, 1_000_000_000, 60_000_000_000]),
            burst in 1_u32..50,
            asks in prop::collection::vec((0_u64..20, 0_u32..6), 1..300),
        ) {
            let buckets = Buckets::new(pace(count, Duration::from_nanos(period), burst), Size::of(100));
            let mut naive = Naive { level: u128::from(burst) * u128::from(period), seen: 0 };
            let mut now = 0;
            for (gap, cost) in asks {
                now += gap * period / u64::from(count) / 8 + gap % 3;
                let decision = buckets.take(KEY, cost, at(now));
                prop_assert_eq!(decision.allowed, naive.take((count, period, burst), cost, now));
                prop_assert_eq!(u128::from(decision.remaining), naive.level / u128::from(period));
                if let Some(wait) = decision.retry_after {
                    let mut later = Naive { level: naive.level, seen: naive.seen };
                    let due = now + wait.as_nanos() as u64;
                    prop_assert!(later.take((count, period, burst), cost, due));
                    let mut earlier = Naive { level: naive.level, seen: naive.seen };
                    prop_assert!(!earlier.take((count, period, burst), cost, due - 1));
                }
            }
        }
    }
}
