//! The sliding window: never more than the limit in any stretch of one period.
//!
//! A list of all requests would be exact and cost eight bytes for each of them; two counters weighted by time, as many do
//! it, are small and let pass up to twice the limit when the earlier window's requests came at its end. Between the two:
//! the past in tenths of the period, eleven of them, of which the oldest counts until all of it is past. That is a cache line
//! a key, never one over, and at worst a tenth of a period too strict.

use std::time::Duration;

use super::table::{Cell, Size, Table};
use super::{Decision, Key, Moment, Rate, nanos};

/// Slices of a period.
const SLICES: u64 = 10;
/// And the one that is not over yet.
const KEPT: usize = SLICES as usize + 1;

/// One key's past.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// The latest slice that was counted in, by its number since the clock's start.
    latest: u64,
    /// By number modulo their count. Within the limit, so that their sum fits too.
    counts: [u32; KEPT],
}

/// How long a slice is; rounded up, so that ten of them are a period at least.
fn slice_ns(rate: &Rate) -> u64 {
    nanos(rate.period()).div_ceil(SLICES)
}

fn place(slice: u64) -> usize {
    (slice % KEPT as u64) as usize
}

impl Past {
    /// Forgets what is past. A moment before the latest slice counts as in it.
    fn advance(&mut self, rate: &Rate, now: Duration) {
        let slice = nanos(now) / slice_ns(rate);
        let passed = slice.saturating_sub(self.latest);
        for number in 1..=passed.min(KEPT as u64) {
            self.counts[place(self.latest + number)] = 0;
        }
        self.latest = self.latest.max(slice);
    }

    fn sum(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The slices, the oldest first, with when each stops to count.
    fn slices(&self, rate: &Rate) -> impl DoubleEndedIterator<Item = (Duration, u32)> {
        let (slice_ns, counts, latest) = (slice_ns(rate), self.counts, self.latest);
        let first = (latest + 1).saturating_sub(KEPT as u64);
        (first..=latest).map(move |slice| {
            let ends_ns = slice.saturating_add(KEPT as u64).saturating_mul(slice_ns);
            (Duration::from_nanos(ends_ns), counts[place(slice)])
        })
    }

    fn take(&mut self, rate: &Rate, cost: u32, now: Duration) -> Decision {
        self.advance(rate, now);
        let (limit, used) = (u64::from(rate.count()), self.sum());
        let after = used + u64::from(cost);
        let allowed = after <= limit;
        if allowed {
            self.counts[place(self.latest)] += cost;
        }
        let empty_at = self.slices(rate).rev().find(|(_, count)| *count > 0).map(|(ends, _)| ends);
        Decision {
            allowed,
            limit,
            remaining: limit.saturating_sub(if allowed { after } else { used }),
            reset: empty_at.unwrap_or(now).saturating_sub(now),
            retry_after: match allowed || u64::from(cost) > limit {
                true => None,
                false => Some(self.room_at(rate, after - limit).saturating_sub(now)),
            },
        }
    }

    /// When so much will have left.
    fn room_at(&self, rate: &Rate, wanted: u64) -> Duration {
        let mut left = 0;
        let enough = self.slices(rate).find(|(_, count)| {
            left += u64::from(*count);
            left >= wanted
        });
        enough.map_or(Duration::ZERO, |(ends, _)| ends)
    }

    /// Each count goes to the slice of the new length in which its own ended, so that none is forgotten too soon.
    fn carry_over(&mut self, before: &Rate, next: &Rate, now: Duration) {
        self.advance(before, now);
        let (old_ns, new_ns) = (slice_ns(before), slice_ns(next));
        if old_ns == new_ns {
            return;
        }
        let past = *self;
        *self = Self { latest: nanos(now) / new_ns, counts: [0; KEPT] };
        for slice in (past.latest + 1).saturating_sub(KEPT as u64)..=past.latest {
            let ended_ns = (slice + 1).saturating_mul(old_ns).saturating_sub(1);
            let to = (ended_ns / new_ns).min(self.latest);
            if self.latest - to < KEPT as u64 {
                let count = &mut self.counts[place(to)];
                *count = count.saturating_add(past.counts[place(slice)]);
            }
        }
    }
}

impl Cell for Past {
    type Law = Rate;

    fn is_idle(&self, rate: &Rate, now: Moment) -> bool {
        self.used(rate, now) == 0
    }

    fn used(&self, rate: &Rate, now: Moment) -> u64 {
        let mut past = *self;
        past.advance(rate, now.clock);
        past.sum()
    }
}

/// Sliding windows by key.
#[derive(Debug)]
pub(super) struct SlidingWindows(Table<Past>);

impl SlidingWindows {
    pub(super) fn new(rate: Rate, size: Size) -> Self {
        Self(Table::new(rate, size))
    }

    pub(super) fn take(&self, key: Key, cost: u32, now: Moment) -> Decision {
        self.0.with(key, now, |rate, past| past.take(rate, cost, now.clock))
    }

    /// When what is missing was used nobody says, so it counts as used now.
    pub(super) fn raise_to(&self, key: Key, used: u64, now: Moment) {
        self.0.with(key, now, |rate, past| {
            past.advance(rate, now.clock);
            let missing = used.min(u64::from(rate.count())).saturating_sub(past.sum());
            past.counts[place(past.latest)] += u32::try_from(missing).unwrap_or(u32::MAX);
        });
    }

    pub(super) fn give_back(&self, key: Key, cost: u32, taken: Moment) {
        let _forgotten_is_as_good = self.0.with_known(key, |rate, past| {
            let slice = nanos(taken.clock) / slice_ns(rate);
            if past.latest.saturating_sub(slice) < KEPT as u64 {
                // A moment before the latest slice was counted in it, so some of it may be there.
                let count = &mut past.counts[place(slice.min(past.latest))];
                *count = count.saturating_sub(cost);
            }
        });
    }

    pub(super) fn migrate(&self, rate: Rate, keys_max: usize, now: Moment) {
        self.0.migrate(rate, keys_max, now, |before, next, past| past.carry_over(before, next, now.clock));
    }

    pub(super) fn table(&self) -> &Table<Past> {
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
    fn two_windows_that_meet_cannot_be_used_for_twice_the_limit() {
        let windows = SlidingWindows::new(rate(10, 1_000), Size::of(100));
        assert!(windows.take(KEY, 10, at(990)).allowed);
        let refused = windows.take(KEY, 1, at(1_000));
        assert_eq!((refused.allowed, refused.remaining), (false, 0));
        // Its slice ended at 1,000 and counts for one period more.
        assert_eq!(refused.retry_after, Some(Duration::from_millis(1_000)));
        assert!(!windows.take(KEY, 1, at(1_999)).allowed);
        assert!(windows.take(KEY, 10, at(2_000)).allowed);
    }

    #[test]
    fn it_comes_back_bit_by_bit_as_the_past_leaves() {
        let windows = SlidingWindows::new(rate(10, 1_000), Size::of(100));
        assert!((0..10).all(|number| windows.take(KEY, 1, at(number * 100)).allowed));
        assert_eq!(windows.take(KEY, 3, at(1_000)).retry_after, Some(Duration::from_millis(300)));
        assert!(!windows.take(KEY, 1, at(1_099)).allowed);
        assert!(windows.take(KEY, 1, at(1_100)).allowed);
        assert!(!windows.take(KEY, 1, at(1_100)).allowed);
    }

    #[test]
    fn after_a_reload_nothing_that_still_counts_is_forgotten() {
        let windows = SlidingWindows::new(rate(10, 1_000), Size::of(100));
        assert!(windows.take(KEY, 10, at(800)).allowed);
        windows.migrate(rate(15, 10_000), 100, at(1_000));
        assert!(windows.take(KEY, 5, at(1_000)).allowed && !windows.take(KEY, 1, at(10_799)).allowed);
        windows.migrate(rate(15, 1_000), 100, at(1_001));
        assert!(!windows.take(KEY, 1, at(1_800)).allowed);
        assert!(windows.take(KEY, 15, at(2_200)).allowed);
    }

    #[test]
    fn many_threads_on_one_key_get_the_limit_and_not_one_more() {
        let windows = SlidingWindows::new(rate(1_000, 60_000), Size::of(100));
        let allowed =
            counted_by_threads(|| (0..2_000).filter(|_| windows.take(KEY, 1, at(5)).allowed).count());
        assert_eq!(allowed, 1_000);
    }

    proptest! {
        /// Against the list of all requests that passed: never more than the limit within a period, and refused only where
        /// the list would be full if it reached a tenth of a period further back.
        #[test]
        fn never_one_over_and_at_most_a_tenth_too_strict(
            limit in 1_u32..30,
            asks in prop::collection::vec((0_u64..300, 0_u32..5), 1..300),
        ) {
            let windows = SlidingWindows::new(rate(limit, 1_000), Size::of(100));
            let (mut now, mut passed) = (0, Vec::<(u64, u32)>::new());
            for (gap, cost) in asks {
                now += gap;
                let within = |passed: &[(u64, u32)], millis: u64| -> u32 {
                    passed.iter().filter(|(then, _)| now - then < millis).map(|(_, cost)| cost).sum()
                };
                let decision = windows.take(KEY, cost, at(now));
                if decision.allowed {
                    passed.push((now, cost));
                    prop_assert!(within(&passed, 1_000) <= limit);
                } else {
                    prop_assert!(within(&passed, 1_100) + cost > limit);
                }
                if let Some(wait) = decision.retry_after {
                    let fresh = SlidingWindows::new(rate(limit, 1_000), Size::of(100));
                    for (then, cost) in &passed {
                        let _taken_again = fresh.take(KEY, *cost, at(*then));
                    }
                    let due = now + wait.as_millis() as u64;
                    prop_assert!(fresh.take(KEY, cost, at(due)).allowed);
                }
            }
        }
    }
}
