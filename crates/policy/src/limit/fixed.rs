//! The fixed window: a count and when its window began. The window begins with a key's first request, not with the minute
//! of a clock, so that all clients of a popular limit do not come back at the same moment.

use std::time::Duration;

use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment, Rate};

/// One key's window. A count of nothing means that there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FixedWindow {
    began: Duration,
    count: u64,
}

impl FixedWindow {
    fn is_over(&self, rate: &Rate, now: Duration) -> bool {
        self.count == 0 || now >= self.began + rate.period()
    }

    fn renew(&mut self, rate: &Rate, now: Duration) {
        if self.is_over(rate, now) {
            *self = Self { began: now, count: 0 };
        }
    }

    fn take(&mut self, rate: &Rate, cost: u32, now: Duration) -> Decision {
        self.renew(rate, now);
        let limit = u64::from(rate.count());
        let allowed = self.count + u64::from(cost) <= limit;
        if allowed {
            self.count += u64::from(cost);
        }
        let left =
            if self.count == 0 { Duration::ZERO } else { (self.began + rate.period()).saturating_sub(now) };
        Decision {
            allowed,
            limit,
            remaining: limit.saturating_sub(self.count),
            reset: left,
            retry_after: if allowed || u64::from(cost) > limit { None } else { Some(left) },
        }
    }
}

impl Cell for FixedWindow {
    type Law = Rate;

    fn is_idle(&self, rate: &Rate, now: Moment) -> bool {
        self.is_over(rate, now.clock)
    }

    fn used(&self, rate: &Rate, now: Moment) -> u64 {
        if self.is_over(rate, now.clock) { 0 } else { self.count }
    }
}

/// Fixed windows by key.
#[derive(Debug)]
pub(super) struct FixedWindows(Table<FixedWindow>);

impl FixedWindows {
    pub(super) fn new(rate: Rate, size: Size) -> Self {
        Self(Table::new(rate, size))
    }

    pub(super) fn take(&self, key: Key, cost: u32, now: Moment) -> Decision {
        self.0.with(key, now, |rate, window| window.take(rate, cost, now.clock))
    }

    pub(super) fn raise_to(&self, key: Key, used: u64, now: Moment) {
        self.0.with(key, now, |rate, window| {
            window.renew(rate, now.clock);
            window.count = window.count.max(used.min(u64::from(rate.count())));
        });
    }

    /// Only within the window in which it was taken.
    pub(super) fn give_back(&self, key: Key, cost: u32, taken: Moment) {
        let _forgotten_is_as_good = self.0.with_known(key, |_, window| {
            if window.began <= taken.clock {
                window.count = window.count.saturating_sub(u64::from(cost));
            }
        });
    }

    /// The count and the window's beginning stay; its end follows the new period.
    pub(super) fn migrate(&self, rate: Rate, keys_max: usize, now: Moment) {
        self.0.migrate(rate, keys_max, now, |before, _, window| window.renew(before, now.clock));
    }

    pub(super) fn table(&self) -> &Table<FixedWindow> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::super::counted_by_threads;
    use super::*;

    const KEY: Key = Key::from_hash(7);

    fn rate(count: u32, millis: u64) -> Rate {
        Rate::new(NonZeroU32::new(count).expect("not zero"), Duration::from_millis(millis))
    }

    fn at(millis: u64) -> Moment {
        Moment { clock: Duration::from_millis(millis), wall: Duration::ZERO }
    }

    #[test]
    fn a_window_begins_with_the_first_request_and_lasts_one_period() {
        let windows = FixedWindows::new(rate(2, 1_000), Size::of(100));
        let take = |millis| windows.take(KEY, 1, at(millis));
        assert!(take(700).allowed && take(1_600).allowed);
        let refused = take(1_600);
        assert_eq!((refused.allowed, refused.retry_after), (false, Some(Duration::from_millis(100))));
        assert!(!take(1_699).allowed);
        assert!(take(1_700).allowed);
    }

    #[test]
    fn a_request_before_everything_counts_too() {
        let windows = FixedWindows::new(rate(1, 1_000), Size::of(100));
        assert!(windows.take(KEY, 1, at(0)).allowed);
        assert!(!windows.take(KEY, 1, at(999)).allowed);
    }

    #[test]
    fn what_is_given_back_after_its_window_gives_nothing_to_the_next_one() {
        let windows = FixedWindows::new(rate(2, 1_000), Size::of(100));
        assert!(windows.take(KEY, 2, at(0)).allowed);
        assert!(windows.take(KEY, 2, at(1_000)).allowed);
        windows.give_back(KEY, 2, at(0));
        assert!(!windows.take(KEY, 1, at(1_000)).allowed);
        windows.give_back(KEY, 2, at(1_000));
        assert!(windows.take(KEY, 2, at(1_000)).allowed);
    }

    #[test]
    fn after_a_reload_the_count_stays_and_the_window_ends_as_the_new_period_says() {
        let windows = FixedWindows::new(rate(2, 1_000), Size::of(100));
        assert!(windows.take(KEY, 2, at(0)).allowed);
        windows.migrate(rate(3, 500), 100, at(100));
        assert!(windows.take(KEY, 1, at(499)).allowed && !windows.take(KEY, 1, at(499)).allowed);
        assert!(windows.take(KEY, 3, at(500)).allowed);
        windows.migrate(rate(9, 60_000), 100, at(2_000));
        assert!(windows.take(KEY, 9, at(2_000)).allowed, "a window that was over is not brought back");
    }

    #[test]
    fn many_threads_on_one_key_get_the_window_and_not_one_more() {
        let windows = FixedWindows::new(rate(1_000, 60_000), Size::of(100));
        let allowed =
            counted_by_threads(|| (0..2_000).filter(|_| windows.take(KEY, 1, at(5)).allowed).count());
        assert_eq!(allowed, 1_000);
    }

    proptest! {
        /// Against a list of windows, each with a list of requests.
        #[test]
        fn it_decides_as_a_list_of_windows_does(
            limit in 1_u32..20,
            asks in prop::collection::vec((0_u64..400, 0_u32..5), 1..200),
        ) {
            let windows = FixedWindows::new(rate(limit, 1_000), Size::of(100));
            let (mut now, mut list) = (0, Vec::<(u64, u32)>::new());
            for (gap, cost) in asks {
                now += gap;
                if list.first().is_some_and(|(first, _)| now >= first + 1_000) {
                    list.clear();
                }
                let used: u32 = list.iter().map(|(_, cost)| cost).sum();
                let allowed = used + cost <= limit;
                if allowed && cost > 0 {
                    list.push((now, cost));
                }
                let decision = windows.take(KEY, cost, at(now));
                prop_assert_eq!(decision.allowed, allowed);
                let left: u32 = limit - list.iter().map(|(_, cost)| cost).sum::<u32>();
                prop_assert_eq!(decision.remaining, u64::from(left));
            }
        }
    }
}
