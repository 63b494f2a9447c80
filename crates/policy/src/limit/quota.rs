//! Quotas: a count for the day and one for the month, in UTC. Both are always kept, so a reload from one to the other knows
//! what was used in it.
//!
//! The day is told by the wall clock, which may be set back. A cell does not go back with it by a day: what was used stays used
//! until the clock has passed the day again. One that is further ahead was counted by a clock that was wrong, as that of a
//! machine which began in another year; it would shut its key out until then. It counts as used today, so that nothing comes
//! back and tomorrow is another day.

use std::num::NonZeroU64;
use std::time::Duration;

use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment, Period};

const DAY_SECS: u64 = 86_400;

/// What a key used of its day and its month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaUse {
    /// The day, counted since 1970-01-01.
    pub day: u32,
    /// The month, counted since January 1970.
    pub month: u32,
    /// Used in that day.
    pub in_day: u64,
    /// Used in that month.
    pub in_month: u64,
}

/// The day of a moment since 1970 in UTC.
#[must_use]
pub fn days_since_1970(wall: Duration) -> u32 {
    u32::try_from(wall.as_secs() / DAY_SECS).unwrap_or(u32::MAX)
}

/// The month of a moment since 1970 in UTC, counted since January 1970.
#[must_use]
pub fn months_since_1970(wall: Duration) -> u32 {
    // Years begin in March here, so that the leap day comes last (Hinnant, "chrono-Compatible Low-Level Date Algorithms",
    // civil_from_days).
    let day = u64::from(days_since_1970(wall)) + 719_468;
    let of_era = day % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let months = (day / 146_097 * 400 + year_of_era) * 12 + month_from_march + 2;
    u32::try_from(months.saturating_sub(1_970 * 12)).unwrap_or(u32::MAX)
}

impl Period {
    /// When the window of a moment ends, both since 1970.
    #[must_use]
    pub fn ends_at(self, wall: Duration) -> Duration {
        let day = days_since_1970(wall);
        let after = |days: u32| Duration::from_secs((u64::from(day) + 1 + u64::from(days)) * DAY_SECS);
        match self {
            Self::Day => after(0),
            Self::Month => {
                let month = months_since_1970(wall);
                (0..31).map(after).find(|next| months_since_1970(*next) != month).unwrap_or_else(|| after(30))
            }
        }
    }
}

/// So many days a count may be ahead of the clock: what a clock is set back by that was in another zone.
const AHEAD_DAYS_MAX: u32 = 1;

impl QuotaUse {
    /// The same, and as used today where it is further ahead than a clock is set back by.
    #[must_use]
    pub fn not_far_ahead_of(self, wall: Duration) -> Self {
        self.not_far_ahead(days_since_1970(wall), months_since_1970(wall))
    }

    fn not_far_ahead(self, day: u32, month: u32) -> Self {
        match self.day > day.saturating_add(AHEAD_DAYS_MAX) {
            true => Self { day, month: self.month.min(month), ..self },
            false => self,
        }
    }

    /// As of that moment: a new day and month are begun where they have come.
    fn as_of(self, wall: Duration) -> Self {
        let (day, month) = (days_since_1970(wall), months_since_1970(wall));
        let mut used = self.not_far_ahead(day, month);
        if day > used.day {
            (used.day, used.in_day) = (day, 0);
        }
        if month > used.month {
            (used.month, used.in_month) = (month, 0);
        }
        used
    }

    fn in_period(&self, period: Period) -> u64 {
        match period {
            Period::Day => self.in_day,
            Period::Month => self.in_month,
        }
    }

    fn add(&mut self, cost: u32) {
        self.in_day = self.in_day.saturating_add(u64::from(cost));
        self.in_month = self.in_month.saturating_add(u64::from(cost));
    }

    /// Both windows are over, or nothing was used in them.
    #[must_use]
    pub fn is_over(&self, wall: Duration) -> bool {
        let now = self.as_of(wall);
        now.in_day == 0 && now.in_month == 0
    }

    /// The more of the two, window by window: what two who counted the same requests know together.
    #[must_use]
    pub fn at_least(&self, other: &Self) -> Self {
        let newer = |ours: (u32, u64), theirs: (u32, u64)| ours.max(theirs);
        let (day, in_day) = newer((self.day, self.in_day), (other.day, other.in_day));
        let (month, in_month) = newer((self.month, self.in_month), (other.month, other.in_month));
        Self { day, month, in_day, in_month }
    }
}

/// A quota's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QuotaLaw {
    pub(super) limit: NonZeroU64,
    pub(super) period: Period,
}

impl Cell for QuotaUse {
    type Law = QuotaLaw;

    fn is_idle(&self, _: &QuotaLaw, now: Moment) -> bool {
        self.is_over(now.wall)
    }

    fn used(&self, law: &QuotaLaw, now: Moment) -> u64 {
        self.as_of(now.wall).in_period(law.period)
    }
}

/// Quotas by key.
#[derive(Debug)]
pub(super) struct Quotas(Table<QuotaUse>);

impl Quotas {
    pub(super) fn new(law: QuotaLaw, size: Size) -> Self {
        Self(Table::new(law, size))
    }

    /// The decision, and what is used now.
    pub(super) fn take(&self, key: Key, cost: u32, now: Moment) -> (Decision, QuotaUse) {
        self.0.with(key, now, |law, used| (used.take(law, cost, now), *used))
    }

    pub(super) fn raise_to(&self, key: Key, used: u64, now: Moment) {
        let (day, month) = (days_since_1970(now.wall), months_since_1970(now.wall));
        self.raise(key, QuotaUse { day, month, in_day: used, in_month: used }, now);
    }

    pub(super) fn known(&self, key: Key) -> Option<QuotaUse> {
        self.0.with_known(key, |_, used| *used)
    }

    /// Takes over what is known from elsewhere: before a restart, or from other machines.
    pub(super) fn raise(&self, key: Key, known: QuotaUse, now: Moment) {
        self.0.with(key, now, |_, used| *used = used.at_least(&known));
    }

    pub(super) fn give_back(&self, key: Key, cost: u32, taken: Moment) -> Option<QuotaUse> {
        self.0.with_known(key, |_, used| {
            used.give_back(cost, taken);
            *used
        })
    }

    pub(super) fn migrate(&self, law: QuotaLaw, keys_max: usize, now: Moment) {
        self.0.migrate(law, keys_max, now, |_, _, _| ());
    }

    pub(super) fn table(&self) -> &Table<QuotaUse> {
        &self.0
    }
}

impl QuotaUse {
    pub(super) fn take(&mut self, law: &QuotaLaw, cost: u32, now: Moment) -> Decision {
        *self = self.as_of(now.wall);
        let allowed = self.in_period(law.period).saturating_add(u64::from(cost)) <= law.limit.get();
        if allowed {
            self.add(cost);
        }
        self.decision(law, allowed, cost, now)
    }

    /// Of windows that are over nothing comes back.
    pub(super) fn give_back(&mut self, cost: u32, taken: Moment) {
        if self.day == days_since_1970(taken.wall) {
            self.in_day = self.in_day.saturating_sub(u64::from(cost));
        }
        if self.month == months_since_1970(taken.wall) {
            self.in_month = self.in_month.saturating_sub(u64::from(cost));
        }
    }

    fn decision(&self, law: &QuotaLaw, allowed: bool, cost: u32, now: Moment) -> Decision {
        let (limit, used) = (law.limit.get(), self.in_period(law.period));
        // A clock that was set back must first pass the day again.
        let ahead = match law.period {
            Period::Day => Duration::from_secs(u64::from(self.day) * DAY_SECS),
            Period::Month => now.wall,
        };
        let left = law.period.ends_at(now.wall.max(ahead)).saturating_sub(now.wall);
        Decision {
            allowed,
            limit,
            remaining: limit.saturating_sub(used),
            reset: if used == 0 { Duration::ZERO } else { left },
            retry_after: if allowed || u64::from(cost) > limit { None } else { Some(left) },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::counted_by_threads;
    use super::*;

    const KEY: Key = Key::from_hash(7);

    fn quotas(limit: u64, period: Period) -> Quotas {
        Quotas::new(law(limit, period), Size::of(100))
    }

    fn law(limit: u64, period: Period) -> QuotaLaw {
        QuotaLaw { limit: NonZeroU64::new(limit).expect("not zero"), period }
    }

    /// Seconds since 1970.
    fn at(secs: u64) -> Moment {
        Moment { clock: Duration::ZERO, wall: Duration::from_secs(secs) }
    }

    /// 2024-02-28 12:00:00 UTC.
    const FEBRUARY_28: u64 = 1_709_121_600;
    const DAY: u64 = DAY_SECS;

    #[test]
    fn a_day_ends_at_midnight_in_utc() {
        let quotas = quotas(2, Period::Day);
        assert!(quotas.take(KEY, 2, at(FEBRUARY_28)).0.allowed);
        let refused = quotas.take(KEY, 1, at(FEBRUARY_28)).0;
        assert_eq!((refused.allowed, refused.retry_after), (false, Some(Duration::from_secs(DAY / 2))));
        assert!(!quotas.take(KEY, 1, at(FEBRUARY_28 + DAY / 2 - 1)).0.allowed);
        assert!(quotas.take(KEY, 1, at(FEBRUARY_28 + DAY / 2)).0.allowed);
    }

    #[test]
    fn a_month_ends_with_its_last_day_in_leap_years_too() {
        let quotas = quotas(2, Period::Month);
        assert!(quotas.take(KEY, 2, at(FEBRUARY_28)).0.allowed);
        let refused = quotas.take(KEY, 1, at(FEBRUARY_28)).0;
        assert_eq!(refused.retry_after, Some(Duration::from_secs(DAY / 2 + DAY)), "the 29th is a day too");
        assert!(!quotas.take(KEY, 1, at(FEBRUARY_28 + DAY)).0.allowed);
        assert!(quotas.take(KEY, 2, at(FEBRUARY_28 + 2 * DAY)).0.allowed);
    }

    #[test]
    fn a_clock_set_back_gives_nothing_back() {
        let quotas = quotas(2, Period::Day);
        assert!(quotas.take(KEY, 2, at(FEBRUARY_28)).0.allowed);
        let refused = quotas.take(KEY, 1, at(FEBRUARY_28 - DAY)).0;
        assert_eq!((refused.allowed, refused.retry_after), (false, Some(Duration::from_secs(DAY + DAY / 2))));
        assert!(quotas.take(KEY, 1, at(FEBRUARY_28 + DAY)).0.allowed);
    }

    #[test]
    fn what_was_counted_by_a_clock_that_was_years_ahead_is_used_today_and_not_until_then() {
        for period in [Period::Day, Period::Month] {
            let quotas = quotas(2, period);
            assert!(quotas.take(KEY, 2, at(FEBRUARY_28 + 1_000 * DAY)).0.allowed);
            let refused = quotas.take(KEY, 1, at(FEBRUARY_28)).0;
            let left = if period == Period::Day { DAY / 2 } else { DAY / 2 + DAY };
            assert_eq!((refused.allowed, refused.retry_after), (false, Some(Duration::from_secs(left))));
            assert!(quotas.take(KEY, 2, at(FEBRUARY_28 + left)).0.allowed);
        }
    }

    #[test]
    fn from_a_day_to_a_month_and_back_what_was_used_in_each_is_known() {
        let quotas = quotas(10, Period::Day);
        assert!(quotas.take(KEY, 6, at(FEBRUARY_28)).0.allowed);
        assert!(quotas.take(KEY, 6, at(FEBRUARY_28 + DAY)).0.allowed);
        quotas.migrate(law(100, Period::Month), 100, at(FEBRUARY_28 + DAY));
        assert_eq!(quotas.take(KEY, 0, at(FEBRUARY_28 + DAY)).0.remaining, 88);
        quotas.migrate(law(10, Period::Day), 100, at(FEBRUARY_28 + DAY));
        assert_eq!(quotas.take(KEY, 0, at(FEBRUARY_28 + DAY)).0.remaining, 4);
    }

    #[test]
    fn what_is_known_from_before_a_restart_is_taken_over_once() {
        let quotas = quotas(10, Period::Day);
        let (_, before) = quotas.take(KEY, 6, at(FEBRUARY_28));
        let after = Quotas::new(law(10, Period::Day), Size::of(100));
        after.raise(KEY, before, at(FEBRUARY_28));
        after.raise(KEY, before, at(FEBRUARY_28));
        assert_eq!(after.take(KEY, 0, at(FEBRUARY_28)).0.remaining, 4);
        assert!(before.is_over(Duration::from_secs(FEBRUARY_28 + 2 * DAY)));
        assert!(!before.is_over(Duration::from_secs(FEBRUARY_28 + DAY)), "the month is not over");
    }

    #[test]
    fn many_threads_on_one_key_get_the_quota_and_not_one_more() {
        let quotas = quotas(1_000, Period::Month);
        let allowed = counted_by_threads(|| {
            (0..2_000).filter(|_| quotas.take(KEY, 1, at(FEBRUARY_28)).0.allowed).count()
        });
        assert_eq!(allowed, 1_000);
    }

    /// Counts days up, month by month.
    fn naive_month(mut day: u32) -> u32 {
        let is_leap =
            |year: u32| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let mut month = 0;
        loop {
            let february = if is_leap(1970 + month / 12) { 29 } else { 28 };
            let days = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][(month % 12) as usize];
            if day < days {
                return month;
            }
            day -= days;
            month += 1;
        }
    }

    proptest! {
        #[test]
        fn months_are_those_of_the_calendar(day in 0_u32..200_000, second in 0_u64..DAY) {
            let wall = Duration::from_secs(u64::from(day) * DAY + second);
            prop_assert_eq!(months_since_1970(wall), naive_month(day));
            let month_ends = Period::Month.ends_at(wall);
            prop_assert_eq!(naive_month(days_since_1970(month_ends)), naive_month(day) + 1);
            prop_assert_eq!(naive_month(days_since_1970(month_ends) - 1), naive_month(day));
        }

        /// Against a list of all that passed, filtered by the calendar.
        #[test]
        fn it_decides_as_a_list_filtered_by_the_calendar_does(
            limit in 1_u64..20,
            is_month in any::<bool>(),
            asks in prop::collection::vec((0_u64..40, 0_u32..5), 1..100),
        ) {
            let period = if is_month { Period::Month } else { Period::Day };
            let quotas = quotas(limit, period);
            let (mut now, mut passed) = (FEBRUARY_28, Vec::<(u32, u64)>::new());
            for (gap, cost) in asks {
                now += gap * DAY / 8;
                let wall = Duration::from_secs(now);
                let window = if is_month { naive_month((now / DAY) as u32) } else { (now / DAY) as u32 };
                let used: u64 = passed.iter().filter(|(then, _)| *then == window).map(|(_, cost)| cost).sum();
                let allowed = used + u64::from(cost) <= limit;
                if allowed {
                    passed.push((window, u64::from(cost)));
                }
                let moment = Moment { clock: Duration::ZERO, wall };
                prop_assert_eq!(quotas.take(KEY, cost, moment).0.allowed, allowed);
            }
        }
    }
}
